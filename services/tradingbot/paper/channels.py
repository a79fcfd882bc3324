"""What each channel sends: on subscribing, when something happened, and as time goes by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tradingbot.paper import subscriptions as to
from tradingbot.paper.book_view import bbo
from tradingbot.paper.info import Info, Query, fill_rows, funding_delta, ledger_row, trade_row
from tradingbot.paper.options import Quirks, SnapshotFlag
from tradingbot.paper.orders import Order, Status, basic_row
from tradingbot.paper.subscriptions import Message, Subscription
from tradingbot.paper.world import Event, Fill, Funding, LedgerEntry

FAST_LEVELS = 5
EVERY_MS = {"activeAssetCtx": 3_000, "clearinghouseState": 5_000, "openOrders": 5_000}
"""Virtual ms between messages of the slower channels; the others speak whenever they may."""
NOT_BY_USER = {Status.MARGIN_CANCELED, Status.LIQUIDATED_CANCELED, Status.DELISTED_CANCELED}


class Channels:
    """Messages of one venue's channels."""

    def __init__(self, info: Info, quirks: Quirks) -> None:
        self._info = info
        self._quirks = quirks

    def snapshot(self, wanted: Subscription) -> list[Message]:
        """What a subscriber gets first: fills and funding as marked snapshots, old trades unmarked, else nothing."""
        match wanted:
            case to.UserFills():
                rows = self._ask("userFills", user=wanted.user, aggregateByTime=wanted.aggregate_by_time)
                return [Message("userFills", {"isSnapshot": True, "user": wanted.user, "fills": rows})]
            case to.UserFundings():
                rows = self._ask("userFunding", user=wanted.user, startTime=0)
                fundings = [{"time": row["time"], **row["delta"]} for row in rows]
                for funding in fundings:
                    del funding["type"]
                return [Message("userFundings", {"isSnapshot": True, "user": wanted.user, "fundings": fundings})]
            case to.LedgerUpdates():
                rows = self._ask("userNonFundingLedgerUpdates", user=wanted.user, startTime=0)
                data = {"isSnapshot": True, "user": wanted.user, "nonFundingLedgerUpdates": rows}
                return [Message(wanted.type, data)]
            case to.Trades():
                old = self._ask("recentTrades", coin=wanted.coin)
                return [Message("trades", old)] if old else []
            case _:
                return []

    def on_events(self, wanted: Subscription, events: Sequence[Event]) -> list[Message]:
        """What a subscriber hears of events that were just committed."""
        match wanted:
            case to.Trades():
                taken = [e for e in events if isinstance(e, Fill) and e.crossed and e.coin == wanted.coin]
                return [Message("trades", [trade_row(fill) for fill in taken])] if taken else []
            case to.OrderUpdates():
                orders = [e for e in events if isinstance(e, Order) and e.user == wanted.user]
                return [Message("orderUpdates", [_order_update(order) for order in orders])] if orders else []
            case to.UserFills():
                fills = [e for e in events if isinstance(e, Fill) and e.user == wanted.user]
                rows = fill_rows(fills, aggregate=wanted.aggregate_by_time)
                return [Message("userFills", self._flagged({"user": wanted.user, "fills": rows}))] if rows else []
            case to.UserFundings():
                paid = [_funding(e) for e in events if isinstance(e, Funding) and e.user == wanted.user]
                data = self._flagged({"user": wanted.user, "fundings": paid})
                return [Message("userFundings", data)] if paid else []
            case to.LedgerUpdates():
                rows = [ledger_row(e) for e in events if isinstance(e, LedgerEntry) and e.user == wanted.user]
                data = self._flagged({"user": wanted.user, "nonFundingLedgerUpdates": rows})
                return [Message(wanted.type, data)] if rows else []
            case to.UserEvents():
                return _user_events(wanted.user, events)
            case _:
                return []

    def as_time_goes(self, wanted: Subscription) -> Message | None:
        """The present state of a channel that shows one; None for the others."""
        match wanted:
            case to.AllMids():
                return Message("allMids", {"mids": self._info.all_mids()})
            case to.L2Book():
                return Message("l2Book", self._book(wanted))
            case to.Bbo():
                time_ms, book, resting = self._info.book_of(wanted.coin)
                return Message("bbo", {"coin": wanted.coin, "time": time_ms, "bbo": bbo(book, resting)})
            case to.CandleBars():
                return self._candle(wanted)
            case to.ActiveAssetCtx():
                return Message("activeAssetCtx", {"coin": wanted.coin, "ctx": self._info.ctx_of(wanted.coin)})
            case to.ClearinghouseState():
                state = self._ask("clearinghouseState", user=wanted.user)
                return Message(wanted.type, {"dex": wanted.dex, "user": wanted.user, "clearinghouseState": state})
            case to.OpenOrders():
                orders = self._ask("openOrders", user=wanted.user)
                return Message(wanted.type, {"dex": wanted.dex, "user": wanted.user, "orders": orders})
            case to.ActiveAssetData():
                return Message(wanted.type, self._ask("activeAssetData", user=wanted.user, coin=wanted.coin))
            case _:
                return None

    def _ask(self, type_: str, **fields: Any) -> Any:
        return self._info.answer(Query.model_validate({"type": type_, **fields}))

    def _book(self, wanted: to.L2Book) -> dict[str, Any]:
        found: dict[str, Any] = self._ask(
            "l2Book", coin=wanted.coin, nSigFigs=wanted.n_sig_figs, mantissa=wanted.mantissa
        )
        if wanted.fast:
            found["levels"] = [side[:FAST_LEVELS] for side in found["levels"]]
            found["fast"] = True
        return found

    def _candle(self, wanted: to.CandleBars) -> Message | None:
        now_ms = self._info.now_ms
        request = {"coin": wanted.coin, "interval": wanted.interval, "startTime": now_ms}
        rows = self._ask("candleSnapshot", req=request)
        return Message("candle", rows[-1]) if rows else None

    def _flagged(self, data: dict[str, Any]) -> dict[str, Any]:
        return data | ({"isSnapshot": False} if self._quirks.snapshot_flag is SnapshotFlag.FALSE else {})


def without_time(message: Message) -> Any:
    """What has to differ for a channel to speak again."""
    data = message.data
    return {key: data[key] for key in data if key != "time"} if isinstance(data, dict) else data


def _order_update(order: Order) -> dict[str, Any]:
    return {"order": basic_row(order), "status": order.status.value, "statusTimestamp": order.status_ms}


def _funding(funding: Funding) -> dict[str, Any]:
    return {"time": funding.at_ms, **funding_delta(funding)}


def _user_events(user: str, events: Sequence[Event]) -> list[Message]:
    mine = [event for event in events if event.user == user]
    found: list[dict[str, Any]] = []
    if fills := [event for event in mine if isinstance(event, Fill)]:
        found.append({"fills": fill_rows(fills, aggregate=False)})
    found.extend({"funding": _funding(event)} for event in mine if isinstance(event, Funding))
    found.extend(
        {"liquidation": _liquidation(event)}
        for event in mine
        if isinstance(event, LedgerEntry) and event.delta["type"] == "liquidation"
    )
    ended = [event for event in mine if isinstance(event, Order) and event.status in NOT_BY_USER]
    if ended:
        found.append({"nonUserCancel": [{"coin": order.coin, "oid": order.oid} for order in ended]})
    return [Message("user", data) for data in found]


def _liquidation(entry: LedgerEntry) -> dict[str, Any]:
    return {
        "lid": entry.id,
        "liquidator": "0x" + "0" * 40,
        "liquidated_user": entry.user,
        "liquidated_ntl_pos": entry.delta["liquidatedNtlPos"],
        "liquidated_account_value": entry.delta["accountValue"],
    }
