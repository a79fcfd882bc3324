"""Orders are followed until the venue says that they ended."""

from __future__ import annotations

from decimal import Decimal

import pytest

from portfolio_state.builders import (
    BOT,
    T0,
    a_fill,
    a_reading,
    a_report,
    a_status,
    an_account,
    an_intent,
    an_order,
    begun,
    knowing,
    own_cloid,
    reconciled,
)
from tradingbot.domain.messages import ReportStatus, StateEventKind
from tradingbot.portfolio_state.mirror import OVERLAP_MS
from tradingbot.portfolio_state.orders import (
    UNKNOWN_AFTER_MS,
    absorb_intents,
    apply_status,
    open_order_row,
    poll_order,
    see_open_orders,
    track_report,
)
from tradingbot.venue.statuses import KNOWN_STATUSES


def following(*, oid: str = "1"):
    return track_report(knowing(begun(), an_intent()), a_report(oid=oid), now_ms=T0)


def test_a_report_starts_the_following_of_its_order():
    order = following().active["1"]

    assert (order.client_order_id, order.cloid, order.symbol) == ("c1", own_cloid(), "BTC")


@pytest.mark.parametrize("status", [status for status in ReportStatus if status.terminal])
def test_a_terminal_report_alone_does_not_end_it(status):
    """Execution may be wrong; only the venue's own word takes an order from the set."""
    assert "1" in track_report(following(), a_report(status), now_ms=T0).active


def test_a_dry_run_is_not_followed():
    assert track_report(begun(), a_report(dry_run=True), now_ms=T0).active == {}
    assert knowing(begun(), an_intent(dry_run=True)).intents == {}


def test_a_refused_order_without_an_id_is_not_followed():
    assert track_report(begun(), a_report(ReportStatus.REJECTED, oid=None), now_ms=T0).active == {}


@pytest.mark.parametrize("word", [w for w, ours in KNOWN_STATUSES.items() if ours.terminal] + ["newReasonCanceled"])
def test_every_terminal_word_of_the_venue_ends_an_order(word):
    step = apply_status(following(), "1", a_status(an_order(size="0"), word), is_open=False, now_ms=T0)

    assert step.mirror.active == {}
    assert [(event.status, event.terminal) for event in step.events] == [(word, True)]


def test_a_partial_fill_is_told_once():
    answer = a_status(an_order(size="0.004", orig="0.01"), "open")
    first = apply_status(following(), "1", answer, is_open=True, now_ms=T0)
    second = apply_status(first.mirror, "1", answer, is_open=True, now_ms=T0 + 5000)

    assert [event.qty for event in first.events] == [Decimal("0.004")]
    assert second.events == ()
    assert "1" in second.mirror.active


def test_an_unknown_oid_is_no_proof_until_the_venue_had_time():
    mirror = following()
    soon = apply_status(mirror, "1", None, is_open=False, now_ms=T0 + 1000)
    listed = apply_status(mirror, "1", None, is_open=True, now_ms=T0 + UNKNOWN_AFTER_MS)
    late = apply_status(mirror, "1", None, is_open=False, now_ms=T0 + UNKNOWN_AFTER_MS)

    assert "1" in soon.mirror.active
    assert "1" in listed.mirror.active
    assert late.mirror.active == {}
    assert late.events[0].status == "unknownOid"


def test_a_late_report_does_not_revive_an_ended_order():
    ended = apply_status(following(), "1", a_status(an_order(), "filled"), is_open=False, now_ms=T0).mirror

    assert track_report(ended, a_report(ReportStatus.FILLED), now_ms=T0 + 1).active == {}


def test_an_own_order_that_the_log_does_not_know_is_followed_and_told():
    step = see_open_orders(begun(), [an_order(9, cloid=own_cloid("x"))], bot_id=BOT, now_ms=T0)

    assert "9" in step.mirror.active
    assert [event.kind for event in step.events] == [StateEventKind.ORDER_STATUS]


@pytest.mark.parametrize("tag", [None, "0x" + "12" * 16])
def test_an_order_with_a_foreign_tag_is_told_once_and_counted_while_it_is_open(tag):
    orders = [an_order(4, cloid=tag)]
    first = reconciled(begun(), a_reading(an_account(), orders=orders))
    second = reconciled(first.step.mirror, a_reading(an_account(), orders=orders))
    gone = reconciled(second.step.mirror, a_reading(an_account()))

    assert [event.kind for event in first.step.events] == [StateEventKind.FOREIGN_ORDER]
    assert first.snapshot.open_orders[0].foreign
    assert first.snapshot.health.foreign_orders == 1
    assert second.step.events == ()
    assert gone.snapshot.health.foreign_orders == 0
    assert first.step.mirror.active == {}


def test_a_snapshot_names_an_order_as_the_log_does():
    mirror = knowing(begun(), an_intent())
    row = open_order_row(mirror, an_order(size="0.004", orig="0.01", cloid=own_cloid()), bot_id=BOT)

    assert (row.client_order_id, row.status, row.qty, row.foreign) == ("c1", "PARTIAL", Decimal("0.004"), False)


def test_orders_that_left_the_book_are_asked_for_first():
    mirror = following(oid="1")
    for at, oid in ((1, "2"), (2, "3")):
        mirror = track_report(mirror, a_report(oid=oid, client_order_id=f"c{oid}"), now_ms=T0 + at)

    assert poll_order(mirror, open_oids=["1", "2"]) == ["3", "1", "2"]


def filled(mirror, size: str):
    reading = a_reading(an_account(), fills=[a_fill(size=size, cloid=own_cloid())])
    return reconciled(mirror, reading)


def test_an_order_that_the_fills_complete_has_ended_without_asking():
    result = filled(following(), "0.01")

    assert result.step.mirror.active == {}
    assert [(e.status, e.terminal) for e in result.step.events if e.kind is StateEventKind.ORDER_STATUS] == [
        ("filled", True)
    ]
    assert "1" in filled(following(), "0.004").step.mirror.active


def test_a_settled_intent_is_forgotten_and_one_whose_fills_are_missing_is_not():
    """Ended with 0.004 executed: until those fills are here, they must still find their intent."""
    ended = apply_status(
        following(), "1", a_status(an_order(size="0.006", orig="0.01"), "canceled"), is_open=False, now_ms=T0
    ).mirror

    assert own_cloid() in reconciled(ended, a_reading(an_account())).step.mirror.intents
    after = filled(ended, "0.004").step.mirror
    assert after.intents == {}
    assert after.fills_beyond_intent == 0


def test_a_fill_after_the_intent_was_settled_is_beyond_it():
    settled = filled(following(), "0.01").step.mirror
    again = a_reading(an_account(), fills=[a_fill(2, size="0.01", cloid=own_cloid())])

    assert reconciled(settled, again).snapshot.health.fills_beyond_intent == 1


def test_an_order_that_the_fills_complete_is_not_asked_for():
    mirror = following()
    intent = mirror.intents[own_cloid()].model_copy(update={"filled": Decimal("0.01")})

    assert poll_order(mirror, open_oids=[]) == ["1"]
    assert poll_order(mirror.model_copy(update={"intents": {own_cloid(): intent}}), open_oids=[]) == []


def test_ended_intents_are_forgotten_after_the_overlap_and_open_ones_are_kept():
    mirror = knowing(begun(), an_intent("ended"), an_intent("open"))
    mirror = track_report(mirror, a_report(ReportStatus.CANCELED, client_order_id="ended", oid=None), now_ms=T0)
    late = T0 + 10 * 3_600_000
    order = an_order(3, cloid=own_cloid("open"))
    soon = reconciled(mirror, a_reading(an_account(), orders=[order]), now_ms=T0 + OVERLAP_MS).step.mirror
    after = reconciled(mirror, a_reading(an_account(), orders=[order]), now_ms=late).step.mirror

    assert {i.client_order_id for i in soon.intents.values()} == {"ended", "open"}
    assert {i.client_order_id for i in after.intents.values()} == {"open"}


def test_reading_the_log_again_does_not_forget_what_was_filled():
    mirror = knowing(begun(), an_intent())
    filled = mirror.intents[own_cloid()].model_copy(update={"filled": Decimal("0.01")})
    mirror = mirror.model_copy(update={"intents": {own_cloid(): filled}})

    assert absorb_intents(mirror, [an_intent()], cursor="2-0", now_ms=T0).intents[own_cloid()] == filled
