"""The venue's /info: reads with bounded, jittered, counted retries, each try paid from the weight budget.

Retries are counted by stamina (``stamina_retries_total``); the last failure is raised as its typed error.
Always ask for the account's address: an API wallet's own address answers as an empty account, never as an error.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeVar

import httpx
import stamina

from tradingbot.venue import parse
from tradingbot.venue.budget import Budget, info_weight, items_weight
from tradingbot.venue.errors import Refused, Retryable, UnknownCoin, VenueUnavailable
from tradingbot.venue.http import post_read
from tradingbot.venue.models import (
    Account,
    ActiveAsset,
    AssetContext,
    Book,
    Candle,
    ExchangeStatus,
    ExtraAgent,
    Fill,
    FillKey,
    FundingPayment,
    LedgerUpdate,
    OrderStatus,
    UserFees,
    UserRateLimit,
    UserRole,
    VenueOrder,
)
from tradingbot.venue.precision import AssetSpec

RETRY_ATTEMPTS = 4
RETRY_TIMEOUT_S = 20.0
PAGE_LIMITS = frozenset({500, 2000})
"""Both are documented for time-range answers; a page of exactly so many fills may be cut."""
SMALLEST_PAGE_LIMIT = min(PAGE_LIMITS)

AnswerT = TypeVar("AnswerT")


class FillsOutOfReach(Refused):
    """More fills lie in one millisecond than a page holds, so that paging by time cannot get past it."""


class InfoClient:
    """Typed reads of one venue.

    Args:
        http: see ``venue.http.open_http``.
        budget: every try takes its weight from it, and waits for it.
        attempts: tries per read, the first one included.
    """

    def __init__(self, http: httpx.AsyncClient, budget: Budget, *, attempts: int = RETRY_ATTEMPTS) -> None:
        self._http = http
        self._budget = budget
        self._retrying = stamina.AsyncRetryingCaller(
            attempts=attempts, timeout=RETRY_TIMEOUT_S, wait_initial=0.2, wait_max=4.0, wait_jitter=0.5
        ).on(Retryable)

    # ---------------------------------------------------------------- market

    async def meta(self) -> dict[str, AssetSpec]:
        """Every coin that the venue has or had."""
        return await self._ask({"type": "meta"}, parse.assets)

    async def asset_contexts(self) -> dict[str, AssetContext]:
        """Mark, oracle, funding and volume of every coin."""
        return await self._ask({"type": "metaAndAssetCtxs"}, parse.contexts)

    async def all_mids(self) -> dict[str, Decimal]:
        """Mid prices in USD of the perpetuals; the last trade's where the book is empty."""
        return await self._ask({"type": "allMids"}, parse.mids)

    async def l2_book(self, symbol: str) -> Book:
        """Up to 20 levels a side.

        Raises:
            UnknownCoin: the venue has no such coin.
        """
        return await self._ask({"type": "l2Book", "coin": symbol}, lambda raw: parse.book(_known(raw, symbol)))

    async def candles(self, symbol: str, interval: str, start_ms: int, end_ms: int) -> list[Candle]:
        """Candles oldest first, from the one that contains ``start_ms``; the last may still be forming.

        Only the newest 5000 of an interval exist.
        """
        span = {"coin": symbol, "interval": interval, "startTime": start_ms, "endTime": end_ms}
        return await self._ask(
            {"type": "candleSnapshot", "req": span}, lambda raw: [parse.candle(each) for each in _known(raw, symbol)]
        )

    async def exchange_status(self) -> ExchangeStatus:
        """The venue's clock and its special announcements."""
        return await self._ask(
            {"type": "exchangeStatus"},
            lambda raw: ExchangeStatus(time_ms=int(raw["time"]), special_statuses=raw.get("specialStatuses")),
        )

    async def server_time(self) -> int:
        """The venue's clock, Unix milliseconds."""
        return (await self.exchange_status()).time_ms

    # ---------------------------------------------------------------- account

    async def clearinghouse_state(self, user: str) -> Account:
        """Equity and positions."""
        return await self._ask({"type": "clearinghouseState", "user": user}, parse.account)

    async def open_orders(self, user: str) -> tuple[VenueOrder, ...]:
        """Open orders, trigger orders with their details."""
        return await self._ask({"type": "frontendOpenOrders", "user": user}, parse.orders)

    async def order_status(self, user: str, oid: int | str) -> OrderStatus | None:
        """An order by oid or cloid; None while the venue does not know it, which is no proof of absence.

        The record lags behind an acknowledgement by up to a second, reaches back about 2000 orders, and is never made
        for orders that were refused before admission.
        """
        return await self._ask({"type": "orderStatus", "user": user, "oid": oid}, parse.order_answer)

    async def historical_orders(self, user: str) -> list[OrderStatus]:
        """The newest 2000 orders' last states: one row an order, the newest state of each."""
        rows = await self._ask({"type": "historicalOrders", "user": user}, _perp_orders)
        newest: dict[int, OrderStatus] = {}
        for row in sorted(rows, key=lambda each: each.status_ms):
            newest[row.order.oid] = row
        return list(newest.values())

    async def fills_since(self, user: str, start_ms: int, end_ms: int | None = None) -> list[Fill]:
        """Fills of perpetuals from ``start_ms`` on, oldest first, each once; both bounds are inclusive.

        Pages by the last fill's time past the venue's limits. The venue reaches back about 10,000 fills.

        Raises:
            FillsOutOfReach: a millisecond holds more fills than a page.
        """
        found: dict[FillKey, Fill] = {}
        since_ms = start_ms
        while True:
            times, page = await self._fills_page(user, since_ms, end_ms)
            found.update({each.key: each for each in page})
            if len(times) < SMALLEST_PAGE_LIMIT:
                return sorted(found.values(), key=lambda each: (each.time_ms, each.tid))
            since_ms = _next_page_ms(times, since_ms)

    async def _fills_page(self, user: str, start_ms: int, end_ms: int | None) -> tuple[list[int], list[Fill]]:
        """The times of all fills of a page, of spot ones too as they count for the limit, and the perpetuals' fills."""
        request = {"type": "userFillsByTime", "user": user, "startTime": start_ms, "aggregateByTime": False}
        if end_ms is not None:
            request["endTime"] = end_ms
        return await self._ask(request, lambda raw: ([int(each["time"]) for each in raw], parse.fills(raw)))

    async def ledger_updates(self, user: str, start_ms: int) -> list[LedgerUpdate]:
        """Deposits, withdrawals and transfers since ``start_ms``, oldest first."""
        return await self._ask(
            {"type": "userNonFundingLedgerUpdates", "user": user, "startTime": start_ms},
            lambda raw: sorted((parse.ledger(each, user=user) for each in raw), key=lambda each: each.time_ms),
        )

    async def funding_payments(self, user: str, start_ms: int) -> list[FundingPayment]:
        """Funding paid and received since ``start_ms``, oldest first."""
        return await self._ask({"type": "userFunding", "user": user, "startTime": start_ms}, _fundings)

    async def user_role(self, address: str) -> UserRole:
        """What an address is to the venue."""
        return await self._ask({"type": "userRole", "user": address}, parse.role)

    async def extra_agents(self, user: str) -> tuple[ExtraAgent, ...]:
        """The account's named API wallets."""
        return await self._ask({"type": "extraAgents", "user": user}, _agents)

    async def user_abstraction(self, user: str) -> str:
        """The account's mode: default, disabled, unifiedAccount, portfolioMargin, dexAbstraction."""
        return await self._ask({"type": "userAbstraction", "user": user}, _word)

    async def user_rate_limit(self, user: str) -> UserRateLimit:
        """The account's action budget."""
        return await self._ask({"type": "userRateLimit", "user": user}, _rate_limit)

    async def user_fees(self, user: str) -> UserFees:
        """The account's fee rates."""
        return await self._ask(
            {"type": "userFees", "user": user},
            lambda raw: UserFees(taker=parse.decimal(raw["userCrossRate"]), maker=parse.decimal(raw["userAddRate"])),
        )

    async def active_asset_data(self, user: str, symbol: str) -> ActiveAsset:
        """The account's leverage and margin mode of a coin."""
        return await self._ask(
            {"type": "activeAssetData", "user": user, "coin": symbol},
            lambda raw: parse.active_asset(_known(raw, symbol), symbol=symbol),
        )

    # ---------------------------------------------------------------- one read

    async def _ask(self, request: dict[str, Any], read: Callable[[Any], AnswerT]) -> AnswerT:
        return await self._retrying(self._ask_once, request, read)

    async def _ask_once(self, request: dict[str, Any], read: Callable[[Any], AnswerT]) -> AnswerT:
        kind = str(request["type"])
        await self._budget.take(info_weight(kind))
        raw = await post_read(self._http, request)
        if isinstance(raw, list):
            await self._pay_for_items(kind, len(raw))
        try:
            return read(raw)
        except parse.MALFORMED as error:
            raise VenueUnavailable(f"{kind}: an answer of unknown form: {type(error).__name__} {error}") from error

    async def _pay_for_items(self, kind: str, items: int) -> None:
        """Book what the items cost, in parts that fit into any budget; the next request waits for it, if need be."""
        weight = items_weight(kind, items)
        while weight > 0:
            part = min(weight, 20)
            await self._budget.take(part)
            weight -= part


def _next_page_ms(times: list[int], since_ms: int) -> int:
    last_ms = max(times)
    if last_ms > since_ms:
        return last_ms
    if len(times) in PAGE_LIMITS:
        raise FillsOutOfReach(
            f"{len(times)} fills in the millisecond {since_ms}: paging by time cannot pass it; "
            "read the account's fills from the venue's export"
        )
    return since_ms + 1


def _known(raw: Any, symbol: str) -> Any:
    if raw is None:
        raise UnknownCoin(f"the venue has no coin {symbol}")
    return raw


def _perp_orders(raw: Any) -> list[OrderStatus]:
    return [parse.order_status(each) for each in raw if parse.is_perp(each["order"]["coin"])]


def _fundings(raw: Any) -> list[FundingPayment]:
    found = [parse.funding(each["delta"], time_ms=int(each["time"])) for each in raw]
    return sorted((each for each in found if parse.is_perp(each.symbol)), key=lambda each: each.time_ms)


def _agents(raw: Any) -> tuple[ExtraAgent, ...]:
    return tuple(
        ExtraAgent(
            name=str(each["name"]),
            address=str(each["address"]).lower(),
            valid_until_ms=None if each.get("validUntil") is None else int(each["validUntil"]),
        )
        for each in raw
    )


def _rate_limit(raw: Any) -> UserRateLimit:
    return UserRateLimit(
        volume_usd=parse.decimal(raw["cumVlm"]),
        used=int(raw["nRequestsUsed"]),
        cap=int(raw["nRequestsCap"]),
        surplus=int(raw.get("nRequestsSurplus", 0)),
    )


def _word(raw: Any) -> str:
    if not isinstance(raw, str):
        raise TypeError(f"not a word: {raw}")
    return raw
