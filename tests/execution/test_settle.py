"""A symbol is planned from a position that the venue's own fills explain."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from support.execution_parts import START_MS, an_order
from tradingbot.domain.ids import Symbol
from tradingbot.domain.messages import ReportStatus, Side
from tradingbot.execution.ledger import Ledger, Stage
from tradingbot.execution.settle import ADOPT_AFTER_MS, Settlement, Sighting, absorb, settle, unplannable
from tradingbot.venue.models import Fill

UNIVERSE = ("BTC", "ETH")


def seen(asked_ms: int, **positions: str) -> Sighting:
    return Sighting(
        positions={symbol: Decimal(qty) for symbol, qty in positions.items()},
        equity_usd=Decimal(10_000),
        asked_ms=asked_ms,
    )


def a_fill(tid: int, qty: str = "1", *, time_ms: int = START_MS, symbol: str = "BTC", **fields: object) -> Fill:
    size = Decimal(qty)
    return Fill(
        **{
            "symbol": Symbol(symbol),
            "side": Side.BUY if size > 0 else Side.SELL,
            "px": Decimal(100),
            "size": abs(size),
            "time_ms": time_ms,
            "oid": 1,
            "tid": tid,
            "fee": Decimal("0.01"),
            "start_position": Decimal(0),
            "closed_pnl": Decimal(0),
            "direction": "Open Long",
            "crossed": True,
            **fields,
        }
    )


def settled(asked_ms: int = START_MS, **positions: str) -> Ledger:
    return settle(Ledger(), seen(asked_ms, **positions), universe=UNIVERSE).ledger


def again(ledger: Ledger, asked_ms: int, **positions: str) -> Settlement:
    return settle(ledger, seen(asked_ms, **positions), universe=UNIVERSE)


def test_the_first_sighting_is_taken_as_it_is() -> None:
    ledger = settled(BTC="2")

    assert ledger.position("BTC") == 2
    assert ledger.position("ETH") == 0
    assert unplannable(ledger, "BTC", now_ms=START_MS, oldest_ms=15_000) is None


def test_a_position_that_fills_explain_is_settled() -> None:
    ledger, _ = absorb(settled(BTC="2"), [a_fill(1, "1", time_ms=START_MS + 5)])
    assert unplannable(ledger, "BTC", now_ms=START_MS + 6, oldest_ms=15_000) == "unsettled"

    found = again(ledger, START_MS + 10, BTC="3")

    assert found.unsettled == {}
    assert found.ledger.position("BTC") == 3
    assert unplannable(found.ledger, "BTC", now_ms=START_MS + 11, oldest_ms=15_000) is None


def test_a_position_that_nothing_explains_is_doubted_until_fills_come() -> None:
    found = again(settled(BTC="2"), START_MS + 10, BTC="3")
    assert found.unsettled == {"BTC": "doubted"}
    assert found.doubted

    ledger, _ = absorb(found.ledger, [a_fill(1, "1", time_ms=START_MS + 5)])

    assert again(ledger, START_MS + 20, BTC="3").unsettled == {}


def test_a_position_that_keeps_differing_in_the_same_way_is_adopted_loudly() -> None:
    ledger = again(settled(BTC="2"), START_MS + 10, BTC="3").ledger
    late_ms = START_MS + 10 + ADOPT_AFTER_MS

    assert again(ledger, late_ms - 1, BTC="3").adopted == ()
    assert again(ledger, late_ms, BTC="4").adopted == (), "a new difference is doubted anew"
    adopted = again(ledger, late_ms, BTC="3")
    assert (adopted.adopted, adopted.unsettled) == (("BTC",), {})
    assert adopted.ledger.position("BTC") == 3


def test_a_symbol_with_a_live_order_is_not_settled() -> None:
    ledger = settled(BTC="2").with_orders([an_order()])

    found = again(ledger, START_MS + 10, BTC="2")

    assert found.unsettled == {"BTC": "open_orders"}
    assert unplannable(found.ledger, "BTC", now_ms=START_MS + 10, oldest_ms=15_000) == "unsettled"


def test_a_question_that_left_before_the_last_order_ended_proves_nothing() -> None:
    ended = an_order(stage=Stage.ENDED, outcome=ReportStatus.CANCELED, ended_ms=START_MS + 10)

    assert again(settled().with_orders([ended]), START_MS + 9).unsettled == {"BTC": "asked_too_early"}
    assert again(settled().with_orders([ended]), START_MS + 10).unsettled == {}


def test_an_old_settlement_is_made_anew() -> None:
    assert unplannable(settled(), "BTC", now_ms=START_MS + 15_001, oldest_ms=15_000) == "unsettled"


def test_a_fill_is_counted_for_its_order_with_its_fee() -> None:
    order = an_order(qty="1", symbol="BTC")
    ledger, reports = absorb(settled().with_orders([order]), [a_fill(1, "1", cloid=order.cloid, oid=9)])

    assert [(each.status, each.fee, each.exchange_order_id) for each in reports] == [
        (ReportStatus.FILLED, Decimal("0.01"), "9")
    ]
    assert not ledger.orders[order.cloid].live


def test_fills_older_than_the_settlement_are_in_its_position() -> None:
    ledger, _ = absorb(settled(asked_ms=START_MS + 60_000, BTC="2"), [a_fill(1, time_ms=START_MS)])

    assert ledger.position("BTC") == 2


@given(
    sizes=st.lists(st.integers(-3, 3).filter(bool), max_size=12),
    repeats=st.lists(st.integers(0, 11), max_size=20),
    cuts=st.lists(st.integers(0, 12), max_size=4),
)
def test_however_fills_come_the_position_is_their_sum(sizes: list[int], repeats: list[int], cuts: list[int]) -> None:
    fills = [a_fill(tid, str(size), time_ms=START_MS + tid) for tid, size in enumerate(sizes)]
    ledger, heard = settled(), 0
    for cut in sorted(cuts):
        again_heard = [fills[index] for index in repeats if index < heard]
        ledger, _ = absorb(ledger, [*fills[heard:cut], *again_heard])
        heard = max(heard, min(cut, len(fills)))
        total = sum(sizes[:heard])
        ledger = again(ledger, START_MS + 100 + heard, BTC=str(total)).ledger
        assert ledger.position("BTC") == total
        assert unplannable(ledger, "BTC", now_ms=START_MS + 200, oldest_ms=15_000) is None
    ledger, _ = absorb(ledger, fills)

    assert ledger.position("BTC") == sum(sizes)


def test_ended_orders_are_dropped_once_a_settlement_has_counted_them() -> None:
    ended = an_order(stage=Stage.ENDED, outcome=ReportStatus.CANCELED, ended_ms=START_MS + 10)
    live = an_order(symbol="ETH")

    ledger = again(settled().with_orders([ended, live]), START_MS + 20).ledger

    assert set(ledger.orders) == {live.cloid}
