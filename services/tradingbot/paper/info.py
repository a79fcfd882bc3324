"""The answers of ``/info``: one method a type."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from tradingbot.paper.account_view import active_asset_data, clearinghouse_state
from tradingbot.paper.accounts import Account
from tradingbot.paper.actions import Address, Cloid, Count
from tradingbot.paper.admission import request_cap
from tradingbot.paper.assets import Asset
from tradingbot.paper.bars import INTERVALS_MS, candle_rows
from tradingbot.paper.book_view import l2_book
from tradingbot.paper.decimals import ZERO, text, usd
from tradingbot.paper.engine import Engine
from tradingbot.paper.fees import user_fees
from tradingbot.paper.funding import hourly_rate, impact_prices, premium
from tradingbot.paper.market import Book
from tradingbot.paper.orders import Order, basic_row, frontend_row
from tradingbot.paper.world import Fill, Funding, LedgerEntry, fill_row, transaction_hash

PAGE = 2_000
TIME_PAGE = 500
HISTORY = 2_000
RECENT_TRADES = 30
DAY_MS = 86_400_000
PREMIUM_STEP = Decimal("0.0000000001")
MODEL_USER = "0x" + "0" * 40
"""Who stands on the other side of a trade with the modelled book."""

_T = TypeVar("_T")


class _Read(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, alias_generator=to_camel)


class CandleRequest(_Read):
    """``req`` of ``candleSnapshot``."""

    coin: str
    interval: Annotated[str, Field(pattern="^(" + "|".join(INTERVALS_MS) + ")$")]
    start_time: Count
    end_time: Count | None = None


class Query(_Read):
    """Any request to ``/info``; unknown extra fields are ignored, as on the venue."""

    type: str
    user: Address | None = None
    coin: str | None = None
    oid: Count | Cloid | None = None
    start_time: Count | None = None
    end_time: Count | None = None
    req: CandleRequest | None = None
    aggregate_by_time: bool | None = None
    n_sig_figs: int | None = None
    mantissa: int | None = None
    id: Count | None = None


class Malformed(Exception):  # noqa: N818 - answered 422
    """An unknown type, or a field that its type needs is missing."""


class Info:
    """Reads of one engine at the time that it has advanced to."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._world = engine.world
        self._market = engine.market
        self._universe = engine.universe

    def answer(self, query: Query) -> Any:
        """The JSON of the answer.

        Raises:
            Malformed: the venue would answer 422.
            BadAggregation: the venue would answer 500.
        """
        found = _ANSWERS.get(query.type)
        if found is None:
            raise Malformed(f"unknown type {query.type}")
        needed, method = found
        if any(getattr(query, name) is None for name in needed):
            raise Malformed(f"{query.type} needs {', '.join(needed)}")
        return method(self, query)

    @property
    def now_ms(self) -> int:
        """The time that answers speak of."""
        return self._world.now_ms

    def book_of(self, coin: str) -> tuple[int, Book, list[Order]]:
        """Time, modelled book and our own resting orders of a coin."""
        resting = [order for order in self._world.open_orders(coin=coin) if order.rests]
        return self.now_ms, self._market.book(coin, self.now_ms), resting

    def ctx_of(self, coin: str) -> dict[str, Any]:
        """The asset context of a traded coin."""
        return self.asset_ctx(self._universe.by_name[coin])

    def trades(self, coin: str) -> bool:
        """True for a coin of this exchange that can be traded."""
        return self._asset(coin) is not None

    def _account(self, query: Query) -> Account | None:
        return self._world.accounts.get(query.user or "")

    def _asset(self, name: str | None) -> Asset | None:
        asset = self._universe.by_name.get(name or "")
        return None if asset is None or asset.delisted else asset

    def meta(self, _: Query) -> Any:
        return self._universe.meta()

    def meta_and_asset_ctxs(self, _: Query) -> Any:
        return [self._universe.meta(), [self.asset_ctx(asset) for asset in self._universe.assets]]

    def asset_ctx(self, asset: Asset) -> dict[str, Any]:
        """One entry of ``metaAndAssetCtxs``; also what ``activeAssetCtx`` sends."""
        now_ms, mark = self.now_ms, None
        if not asset.delisted:
            mark = self._market.mark(asset.name, now_ms)
        if mark is None:
            empty = dict.fromkeys(("premium", "midPx", "impactPxs"))
            zeros = dict.fromkeys(
                ("funding", "openInterest", "prevDayPx", "dayNtlVlm", "oraclePx", "markPx", "dayBaseVlm"), "0.0"
            )
            return zeros | empty
        impact = impact_prices(self._market.book(asset.name, now_ms), asset.name)
        oracle = self._market.oracle(asset.name, now_ms) or mark
        now_premium = premium(bid=impact[0], ask=impact[1], oracle=oracle) if impact else ZERO
        mid = self._market.mid(asset.name, now_ms)
        day = self._market.candles(asset.name, start_ms=now_ms - DAY_MS, end_ms=now_ms, now_ms=now_ms)
        open_interest = sum((abs(a.szi(asset.name)) for a in self._world.accounts.values()), ZERO)
        return {
            "funding": text(hourly_rate(now_premium)),
            "openInterest": text(open_interest),
            "prevDayPx": text(asset.nearest_price(day[0].open)) if day else text(mark),
            "dayNtlVlm": usd(asset.nearest_price(sum(c.volume * c.close for c in day) or 0.0001)) if day else "0.0",
            "premium": text(now_premium.quantize(PREMIUM_STEP)) if impact else None,
            "oraclePx": text(oracle),
            "markPx": text(mark),
            "midPx": text(mid) if mid is not None else None,
            "impactPxs": [text(asset.nearest_price(float(px))) for px in impact] if impact else None,
            "dayBaseVlm": text(asset.nearest_size(sum(c.volume for c in day))) if day else "0.0",
        }

    def all_mids(self, _: Query | None = None) -> dict[str, str]:
        mids = ((asset.name, self._market.mid(asset.name, self.now_ms)) for asset in self._universe.traded)
        return {name: text(mid) for name, mid in mids if mid is not None}

    def clearinghouse_state(self, query: Query) -> Any:
        marks = self._engine.trading.marks(self.now_ms)
        return clearinghouse_state(self._account(query), self._universe, marks, self.now_ms)

    def spot_clearinghouse_state(self, _: Query) -> Any:
        return {"balances": []}

    def open_orders(self, query: Query) -> Any:
        return [basic_row(order) for order in self._world.open_orders(user=query.user)]

    def frontend_open_orders(self, query: Query) -> Any:
        return [self._frontend(order) for order in self._world.open_orders(user=query.user)]

    def order_status(self, query: Query) -> Any:
        user, key = query.user or "", query.oid
        order = self._world.by_cloid(user, key) if isinstance(key, str) else self._world.orders.get(key or 0)
        if order is None or order.user != user or order.visible_ms > self.now_ms:
            return {"status": "unknownOid"}
        return {"status": "order", "order": self._history_row(order)}

    def historical_orders(self, query: Query) -> Any:
        orders = list(self._world.orders_of(query.user or ""))[:HISTORY]
        return [self._history_row(order) for order in orders]

    def _history_row(self, order: Order) -> dict[str, Any]:
        return {"order": self._frontend(order), "status": order.status.value, "statusTimestamp": order.status_ms}

    def _frontend(self, order: Order) -> dict[str, Any]:
        children = tuple(self._world.orders[oid] for oid in order.child_oids if oid in self._world.orders)
        return frontend_row(order, children)

    def user_fills(self, query: Query) -> Any:
        newest_first = list(reversed(self._world.fills[query.user or ""]))
        return fill_rows(newest_first, aggregate=query.aggregate_by_time is True)[:PAGE]

    def user_fills_by_time(self, query: Query) -> Any:
        fills = _in_time(self._world.fills[query.user or ""], query, lambda fill: fill.at_ms)
        return fill_rows(fills, aggregate=query.aggregate_by_time is True)[:PAGE]

    def funding_history(self, query: Query) -> Any:
        rates = _in_time(self._world.rates[query.coin or ""], query, lambda rate: rate.at_ms)
        return [
            {
                "coin": r.coin,
                "fundingRate": text(r.rate),
                "premium": text(r.premium.quantize(PREMIUM_STEP)),
                "time": r.at_ms,
            }
            for r in rates[:TIME_PAGE]
        ]

    def user_funding(self, query: Query) -> Any:
        paid = _in_time(self._world.fundings[query.user or ""], query, lambda each: each.at_ms)
        return [
            {"time": each.at_ms, "hash": transaction_hash(each.id), "delta": {"type": "funding", **funding_delta(each)}}
            for each in paid[:TIME_PAGE]
        ]

    def ledger_updates(self, query: Query) -> Any:
        entries = _in_time(self._world.ledger[query.user or ""], query, lambda each: each.at_ms)
        return [ledger_row(each) for each in entries[:TIME_PAGE]]

    def user_rate_limit(self, query: Query) -> Any:
        account = self._account(query) or Account(address="", raw_usd=ZERO)
        return {
            "cumVlm": usd(account.volume_usd),
            "nRequestsUsed": account.requests_used,
            "nRequestsCap": request_cap(account),
            "nRequestsSurplus": 0,
        }

    def user_role(self, query: Query) -> Any:
        agent = self._world.agents.get(query.user or "")
        if agent is not None and agent.may_sign(self.now_ms):
            return {"role": "agent", "data": {"user": agent.master}}
        return {"role": "user" if query.user in self._world.accounts else "missing"}

    def extra_agents(self, query: Query) -> Any:
        return [
            {"name": agent.name, "address": agent.address, "validUntil": agent.valid_until_ms}
            for agent in self._world.agents.values()
            if agent.master == query.user and agent.name and agent.may_sign(self.now_ms)
        ]

    def user_abstraction(self, _: Query) -> Any:
        return "disabled"

    def user_fees(self, _: Query) -> Any:
        return user_fees()

    def active_asset_data(self, query: Query) -> Any:
        asset, marks = self._asset(query.coin), self._engine.trading.marks(self.now_ms)
        if asset is None or asset.name not in marks:
            return None
        account = self._account(query) or Account(address=query.user or "", raw_usd=ZERO)
        orders = list(self._world.open_orders(user=query.user))
        return active_asset_data(account, asset, self._universe, marks, orders)

    def l2_book(self, query: Query) -> Any:
        asset = self._asset(query.coin)
        if asset is None:
            return None
        now_ms, book, resting = self.book_of(asset.name)
        levels = l2_book(book, resting, n_sig_figs=query.n_sig_figs, mantissa=query.mantissa)
        return {"coin": asset.name, "time": now_ms, **levels}

    def candle_snapshot(self, query: Query) -> Any:
        request = query.req
        asset = self._asset(request.coin) if request else None
        if request is None or asset is None:
            return None
        return candle_rows(
            self._market,
            asset,
            interval=request.interval,
            start_ms=request.start_time,
            end_ms=self.now_ms if request.end_time is None else request.end_time,
            now_ms=self.now_ms,
        )

    def recent_trades(self, query: Query) -> Any:
        if self._asset(query.coin) is None:
            return None
        fills = [f for of_user in self._world.fills.values() for f in of_user if f.coin == query.coin and f.crossed]
        newest = sorted(fills, key=lambda fill: -fill.id)[:RECENT_TRADES]
        return [trade_row(fill) for fill in newest]

    def exchange_status(self, _: Query) -> Any:
        return {"time": self.now_ms, "specialStatuses": None}

    def spot_meta(self, _: Query) -> Any:
        usdc = {
            "name": "USDC", "szDecimals": 8, "weiDecimals": 8, "index": 0, "tokenId": "0x" + "0" * 32,
            "isCanonical": True, "evmContract": None, "fullName": None,
        }  # fmt: skip
        return {"tokens": [usdc], "universe": []}

    def spot_meta_and_asset_ctxs(self, query: Query) -> Any:
        return [self.spot_meta(query), []]

    def perp_dexs(self, _: Query) -> Any:
        return [None]

    def empty_list(self, _: Query) -> Any:
        return []

    def margin_table(self, query: Query) -> Any:
        tables = dict(self._universe.meta()["marginTables"])
        return tables.get(query.id)


def funding_delta(funding: Funding) -> dict[str, Any]:
    """One payment as ``userFunding`` and the ``user`` channel show it."""
    return {
        "coin": funding.coin,
        "usdc": usd(funding.usdc),
        "szi": text(funding.szi),
        "fundingRate": text(funding.rate),
        "nSamples": None,
    }


def ledger_row(entry: LedgerEntry) -> dict[str, Any]:
    """One row of ``userNonFundingLedgerUpdates``."""
    return {"time": entry.at_ms, "hash": transaction_hash(entry.id), "delta": entry.delta}


def trade_row(fill: Fill) -> dict[str, Any]:
    """A trade as the public sees it, from its taker's fill."""
    users = [fill.user, MODEL_USER] if fill.is_buy else [MODEL_USER, fill.user]
    return {
        "coin": fill.coin,
        "side": "B" if fill.is_buy else "A",
        "px": text(fill.px),
        "sz": text(fill.sz),
        "time": fill.at_ms,
        "hash": transaction_hash(fill.tid),
        "tid": fill.tid,
        "users": users,
    }


def fill_rows(fills: Sequence[Fill], *, aggregate: bool) -> list[dict[str, Any]]:
    """Rows of fills; aggregated, the parts of one crossing order in one moment are one row."""
    rows: list[dict[str, Any]] = []
    for fill in fills:
        row = fill_row(fill)
        if aggregate and rows and fill.crossed and _same_crossing(rows[-1], row):
            rows[-1] = _merged(rows[-1], row)
        else:
            rows.append(row)
    return rows


def _same_crossing(left: dict[str, Any], right: dict[str, Any]) -> bool:
    return all(left[key] == right[key] for key in ("oid", "time", "crossed"))


def _merged(left: dict[str, Any], right: dict[str, Any]) -> dict[str, Any]:
    first, second = Decimal(left["sz"]), Decimal(right["sz"])
    px = (Decimal(left["px"]) * first + Decimal(right["px"]) * second) / (first + second)
    sums = {key: text(Decimal(left[key]) + Decimal(right[key])) for key in ("closedPnl", "fee")}
    return left | sums | {"px": usd(px), "sz": text(first + second)}


def _in_time(items: Iterable[_T], query: Query, time_of: Callable[[_T], int]) -> list[_T]:
    start, end = query.start_time or 0, query.end_time
    return [item for item in items if time_of(item) >= start and (end is None or time_of(item) <= end)]


_ANSWERS: dict[str, tuple[tuple[str, ...], Callable[[Info, Query], Any]]] = {
    "meta": ((), Info.meta),
    "metaAndAssetCtxs": ((), Info.meta_and_asset_ctxs),
    "allMids": ((), Info.all_mids),
    "clearinghouseState": (("user",), Info.clearinghouse_state),
    "spotClearinghouseState": (("user",), Info.spot_clearinghouse_state),
    "openOrders": (("user",), Info.open_orders),
    "frontendOpenOrders": (("user",), Info.frontend_open_orders),
    "orderStatus": (("user", "oid"), Info.order_status),
    "historicalOrders": (("user",), Info.historical_orders),
    "userFills": (("user",), Info.user_fills),
    "userFillsByTime": (("user", "start_time"), Info.user_fills_by_time),
    "fundingHistory": (("coin", "start_time"), Info.funding_history),
    "userFunding": (("user", "start_time"), Info.user_funding),
    "userNonFundingLedgerUpdates": (("user", "start_time"), Info.ledger_updates),
    "userRateLimit": (("user",), Info.user_rate_limit),
    "userRole": (("user",), Info.user_role),
    "extraAgents": (("user",), Info.extra_agents),
    "userAbstraction": (("user",), Info.user_abstraction),
    "userFees": (("user",), Info.user_fees),
    "activeAssetData": (("user", "coin"), Info.active_asset_data),
    "l2Book": (("coin",), Info.l2_book),
    "candleSnapshot": (("req",), Info.candle_snapshot),
    "recentTrades": (("coin",), Info.recent_trades),
    "exchangeStatus": ((), Info.exchange_status),
    "spotMeta": ((), Info.spot_meta),
    "spotMetaAndAssetCtxs": ((), Info.spot_meta_and_asset_ctxs),
    "perpDexs": ((), Info.perp_dexs),
    "perpsAtOpenInterestCap": ((), Info.empty_list),
    "subAccounts": (("user",), Info.empty_list),
    "marginTable": (("id",), Info.margin_table),
}
