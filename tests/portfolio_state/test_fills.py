"""Fills are counted once, and charged to the intent that asked for them."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from portfolio_state.builders import ACCOUNT, BOT, T0, a_fill, an_intent, an_order, begun, knowing, own_cloid
from tradingbot.domain.messages import Side, StateEventKind
from tradingbot.portfolio_state.fills import DAY_MS, absorb_fills, fees_today_usd, fills_start_ms, fresh_fills
from tradingbot.portfolio_state.mirror import OVERLAP_MS, Mirror
from tradingbot.venue.models import Fill


def take(mirror: Mirror, fills):
    return absorb_fills(mirror, fresh_fills(mirror, fills), bot_id=BOT, account=ACCOUNT)


def kinds(step) -> list[StateEventKind]:
    return [event.kind for event in step.events]


@st.composite
def fills_and_reads(draw) -> tuple[list[Fill], list[tuple[int, int]]]:
    """Up to 1200 fills, several in a millisecond, and the moments at which they are read."""
    steps = draw(st.lists(st.integers(0, 9000), min_size=1, max_size=300))
    copies = draw(st.integers(1, 4))
    fills, time_ms, tid = [], T0 + 1, 0
    for step in steps:
        time_ms += step
        for _ in range(copies):
            tid += 1
            fills.append(a_fill(tid, time_ms=time_ms, size="0.001", fee="0.01"))
    reads = sorted(draw(st.lists(st.integers(1, len(fills)), min_size=1, max_size=8)))
    lateness = draw(st.integers(0, 40))
    return fills, [(max(0, upto - lateness), upto) for upto in reads] + [(0, len(fills))]


@given(fills_and_reads())
def test_every_fill_counts_once_however_the_readings_overlap(case):
    """What is read is everything since the overlap, up to some moment, in any order, with pages repeated."""
    fills, reads = case
    mirror, seen = begun(), []
    for _, upto in reads:
        start_ms = fills_start_ms(mirror, now_ms=T0)
        page = [fill for fill in fills[:upto] if fill.time_ms >= start_ms]
        step = take(mirror, [*page[::-1], *page])
        seen += [event.tid for event in step.events]
        # A restart reads back what was committed, from text.
        mirror = Mirror.read(step.mirror.model_dump_json())

    assert sorted(seen, key=int) == [str(fill.tid) for fill in fills]
    assert mirror.fees_usd == Decimal("0.01") * len([f for f in fills if f.time_ms // DAY_MS == mirror.fee_day])


@given(st.lists(st.integers(0, OVERLAP_MS), min_size=1, max_size=40), st.data())
def test_a_fill_shown_late_within_the_overlap_is_not_lost(offsets, data):
    fills = [a_fill(tid, time_ms=T0 + 1 + offset) for tid, offset in enumerate(offsets, start=1)]
    late = data.draw(st.sets(st.sampled_from(fills))) if len(fills) > 1 else set()
    first = take(begun(), [fill for fill in fills if fill not in late])
    second = take(first.mirror, fills)

    assert len(first.events) + len(second.events) == len(fills)


def test_the_mirror_keeps_the_keys_of_the_overlap_only():
    fills = [a_fill(tid, time_ms=T0 + tid * 10_000) for tid in range(1, 600)]

    assert len(take(begun(), fills).mirror.fill_keys) == OVERLAP_MS // 10_000 + 1


def test_fills_of_different_coins_that_share_time_and_tid_are_different_fills():
    step = take(begun(), [a_fill(7, symbol="BTC"), a_fill(7, symbol="ETH")])

    assert [event.symbol for event in step.events] == ["BTC", "ETH"]


def test_partial_fills_up_to_the_intent_are_covered():
    mirror = knowing(begun(), an_intent(qty="0.03"))
    step = take(mirror, [a_fill(tid, size="0.01", cloid=own_cloid()) for tid in (1, 2, 3)])

    assert step.mirror.fills_beyond_intent == 0
    assert kinds(step) == [StateEventKind.FILL] * 3
    assert {event.client_order_id for event in step.events} == {"c1"}


def test_the_fill_that_exceeds_an_intent_is_counted_and_told():
    mirror = knowing(begun(), an_intent(qty="0.015"))
    step = take(mirror, [a_fill(tid, size="0.01", cloid=own_cloid()) for tid in (1, 2)])

    assert step.mirror.fills_beyond_intent == 1
    assert kinds(step) == [StateEventKind.FILL, StateEventKind.FILL, StateEventKind.FILL_BEYOND_INTENT]
    assert [audit.level for audit in step.audits] == ["error"]


def test_each_attempt_of_an_order_has_its_own_size():
    mirror = knowing(begun(), an_intent(qty="0.02"), an_intent(qty="0.01", attempt=1))
    first = [a_fill(1, size="0.01", cloid=own_cloid()), a_fill(2, size="0.01", cloid=own_cloid(attempt=1), oid=2)]
    step = take(mirror, first)
    assert step.mirror.fills_beyond_intent == 0

    again = take(step.mirror, [a_fill(3, size="0.001", cloid=own_cloid(attempt=1), oid=2, time_ms=T0 + 2)])

    assert again.mirror.fills_beyond_intent == 1


def test_an_own_fill_without_any_intent_is_beyond_one():
    assert take(begun(), [a_fill(cloid=own_cloid("never-written"))]).mirror.fills_beyond_intent == 1


def test_a_fill_of_a_persons_order_is_told_but_is_no_fault():
    step = take(begun(), [a_fill(cloid=None), a_fill(2, cloid="0x" + "00" * 16)])

    assert step.mirror.fills_beyond_intent == 0
    assert kinds(step) == [StateEventKind.FILL] * 2


def test_fills_of_orders_from_before_the_first_reading_are_covered_by_themselves():
    """Redis lost its data while orders were open: their later fills are not a fault."""
    mirror = begun(orders=[an_order(5, size="0.02", orig="0.05", cloid=own_cloid("lost"))])

    assert take(mirror, [a_fill(cloid=own_cloid("lost"), size="0.02", oid=5)]).mirror.fills_beyond_intent == 0


def test_fills_from_before_the_first_reading_count_for_the_days_fees_only():
    step = take(begun(), [a_fill(time_ms=T0 - 1000, cloid=own_cloid("gone"), fee="0.7")])

    assert step.events == ()
    assert step.mirror.fills_beyond_intent == 0
    assert fees_today_usd(step.mirror, now_ms=T0) == Decimal("0.7")


def test_the_first_reading_asks_for_the_whole_utc_day():
    assert fills_start_ms(Mirror(), now_ms=T0) == T0 - T0 % DAY_MS


def test_fees_start_anew_at_midnight():
    midnight = T0 - T0 % DAY_MS + DAY_MS
    before, after = a_fill(1, time_ms=midnight - 1, fee="1"), a_fill(2, time_ms=midnight, fee="0.25")
    step = take(begun(), [before, after])

    assert fees_today_usd(step.mirror, now_ms=midnight) == Decimal("0.25")
    assert fees_today_usd(take(begun(), [before]).mirror, now_ms=midnight) == 0


def test_a_rebate_lowers_the_fees():
    step = take(begun(), [a_fill(1, fee="0.5"), a_fill(2, fee="-0.1")])

    assert fees_today_usd(step.mirror, now_ms=T0) == Decimal("0.4")


def test_own_liquidation_is_counted_and_the_other_side_of_someone_elses_is_not():
    own = take(begun(), [a_fill(1, side=Side.SELL, liquidated=ACCOUNT.upper().replace("0X", "0x"))])
    other = take(begun(), [a_fill(1, liquidated="0x" + "cd" * 20)])

    assert (own.mirror.liquidations, other.mirror.liquidations) == (1, 0)
    assert StateEventKind.LIQUIDATION in kinds(own)
