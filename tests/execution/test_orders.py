"""The life of an order under any interleaving of what the venue may say (I1, I11, I14)."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from support.execution_parts import an_order
from tradingbot.domain.messages import ExecutionReport, ReportStatus
from tradingbot.execution.ledger import Order, Stage
from tradingbot.execution.orders import (
    RAW_LIMIT,
    Absent,
    Accepted,
    Asked,
    Event,
    Filled,
    FillsComplete,
    Final,
    Lost,
    Refused,
    absence_proven,
    apply,
    fills_complete,
)

EXPIRES_MS, GRACE_MS = 6_000, 2_000


class OrderLife(RuleBasedStateMachine):
    """A venue that is right, a messenger that loses, repeats and reorders, and a process that restarts."""

    def __init__(self) -> None:
        super().__init__()
        self.order: Order = an_order(qty="10", intent_ms=1_000)
        self.reports: list[ExecutionReport] = []
        self.now_ms = 1_000
        # The venue's truth.
        self.admitted = False
        self.refused = False
        self.fills: list[Filled] = []
        self.outcome: ReportStatus | None = None
        self.final_at_ms = 0

    def hear(self, event: Event) -> None:
        before = self.order
        step = apply(before, event)
        self.order = Order.read(step.order.model_dump_json())  # as after a restart
        self.reports += step.reports
        if before.stage is Stage.ENDED:
            assert self.order.stage is Stage.ENDED
            assert self.order.outcome is before.outcome
        if before.stage is Stage.UNKNOWN and self.order.stage is not Stage.UNKNOWN:
            assert isinstance(event, Accepted | Refused | Final | Filled | Absent)

    @property
    def executed(self) -> Decimal:
        return sum((each.qty for each in self.fills), Decimal(0))

    # ---- the venue

    @rule(ms=st.integers(1, 3_000))
    def time_passes(self, ms: int) -> None:
        self.now_ms += ms

    @precondition(lambda self: not self.admitted and not self.refused and self.now_ms <= EXPIRES_MS)
    @rule()
    def the_venue_admits_it(self) -> None:
        self.admitted = True

    @precondition(lambda self: not self.admitted and not self.refused)
    @rule()
    def the_venue_refuses_it(self) -> None:
        self.refused = True

    @precondition(lambda self: self.admitted and self.outcome is None)
    @rule(qty=st.integers(1, 10))
    def it_fills(self, qty: int) -> None:
        size = min(Decimal(qty), self.order.qty - self.executed)
        tid = str(len(self.fills))
        self.fills.append(Filled(tid=tid, qty=size, px=Decimal(100), fee=Decimal("0.1"), at_ms=self.now_ms, oid="77"))
        if self.executed == self.order.qty:
            self.outcome, self.final_at_ms = ReportStatus.FILLED, self.now_ms

    @precondition(lambda self: self.admitted and self.outcome is None)
    @rule()
    def it_is_cancelled(self) -> None:
        self.outcome, self.final_at_ms = ReportStatus.CANCELED, self.now_ms

    # ---- the messenger

    @precondition(lambda self: self.admitted)
    @rule()
    def the_answer_comes(self) -> None:
        self.hear(Accepted(oid="77", at_ms=self.now_ms))

    @precondition(lambda self: self.refused)
    @rule()
    def the_refusal_comes(self) -> None:
        self.hear(Refused(error="BadTick", at_ms=self.now_ms))

    @rule()
    def the_answer_is_lost(self) -> None:
        self.hear(Lost(expires_after_ms=EXPIRES_MS, at_ms=self.now_ms))

    @precondition(lambda self: self.fills)
    @rule(data=st.data())
    def a_fill_comes_perhaps_again(self, data: st.DataObject) -> None:
        self.hear(data.draw(st.sampled_from(self.fills)))

    @precondition(lambda self: self.outcome is not None)
    @rule(knows_size=st.booleans())
    def the_final_status_comes(self, knows_size: bool) -> None:
        assert self.outcome is not None
        executed = self.executed if knows_size else None
        self.hear(Final(outcome=self.outcome, at_ms=self.final_at_ms, executed=executed, oid="77"))

    @rule()
    def a_cancel_is_asked(self) -> None:
        self.hear(Asked(at_ms=self.now_ms))

    @rule()
    def all_fills_are_read(self) -> None:
        for each in self.fills:
            self.hear(each)
        if fills_complete(self.order, asked_ms=self.now_ms, grace_ms=GRACE_MS):
            self.hear(FillsComplete(asked_ms=self.now_ms))

    @rule()
    def no_trace_is_found(self) -> None:
        if not self.admitted and absence_proven(self.order, asked_ms=self.now_ms, grace_ms=GRACE_MS):
            self.hear(Absent(at_ms=self.now_ms))

    # ---- what must hold

    @invariant()
    def never_more_is_counted_than_was_executed(self) -> None:
        assert self.order.filled_qty <= self.executed <= self.order.qty
        assert self.order.fee == Decimal("0.1") * len(self.order.tids)

    @invariant()
    def an_end_is_the_venues_end(self) -> None:
        if self.order.stage is not Stage.ENDED:
            return
        assert self.refused or self.outcome is not None or not self.admitted
        if self.outcome is not None:
            assert self.order.filled_qty == self.executed
            assert self.order.outcome is self.outcome

    @invariant()
    def one_end_is_reported_and_fills_rise(self) -> None:
        assert sum(each.status.terminal for each in self.reports) == (self.order.stage is Stage.ENDED)
        filled = [each.filled_qty for each in self.reports]
        assert filled == sorted(filled)
        assert sum(each.status is ReportStatus.ACK for each in self.reports) <= 1


TestOrderLife = OrderLife.TestCase
TestOrderLife.settings = settings(max_examples=300, stateful_step_count=40)


def test_a_shrunk_reduce_only_order_ends_once_its_fills_have_surely_shown() -> None:
    order = apply(an_order(qty="10", reduce_only=True), Accepted(oid="1", at_ms=1_000)).order
    order = apply(order, Filled(tid="a", qty=Decimal(4), px=Decimal(100), fee=Decimal(0), at_ms=1_100, oid="1")).order
    # The venue kept origSz 10 and cut sz to 0, so its status suggests 10 executed.
    order = apply(order, Final(outcome=ReportStatus.FILLED, executed=Decimal(10), at_ms=1_200)).order

    assert order.live
    assert not fills_complete(order, asked_ms=3_000, grace_ms=GRACE_MS)
    assert fills_complete(order, asked_ms=3_201, grace_ms=GRACE_MS)
    ended = apply(order, FillsComplete(asked_ms=3_201))
    assert ended.order.outcome is ReportStatus.CANCELED
    assert ended.reports[-1].filled_qty == 4


def test_an_order_stays_live_while_fills_are_missing_that_its_status_names() -> None:
    """Ended too early, what shows late would have been ordered a second time by its replacement."""
    order = apply(an_order(qty="10"), Accepted(oid="1", at_ms=1_000)).order
    order = apply(order, Final(outcome=ReportStatus.CANCELED, executed=Decimal(6), at_ms=1_200)).order
    order = apply(order, Filled(tid="a", qty=Decimal(4), px=Decimal(100), fee=Decimal(0), at_ms=1_100, oid="1")).order

    assert not fills_complete(order, asked_ms=60_000, grace_ms=GRACE_MS)
    late = Filled(tid="b", qty=Decimal(2), px=Decimal(100), fee=Decimal(0), at_ms=1_150, oid="1")
    ended = apply(order, late).order
    assert (ended.live, ended.rest) == (False, Decimal(4))


def test_absence_is_proven_only_after_expiry_and_lag() -> None:
    unknown = apply(an_order(), Lost(expires_after_ms=EXPIRES_MS, at_ms=1_000)).order

    assert not absence_proven(unknown, asked_ms=EXPIRES_MS + GRACE_MS, grace_ms=GRACE_MS)
    assert absence_proven(unknown, asked_ms=EXPIRES_MS + GRACE_MS + 1, grace_ms=GRACE_MS)
    assert not absence_proven(an_order(), asked_ms=EXPIRES_MS * 9, grace_ms=GRACE_MS)


@pytest.mark.parametrize(("side", "px", "worse_bps"), [("BUY", "101", 100.0), ("SELL", "101", -100.0)])
def test_slippage_is_positive_when_the_fill_was_worse(side: str, px: str, worse_bps: float) -> None:
    order = an_order(qty="10", side=side)
    fill = Filled(tid="a", qty=Decimal(10), px=Decimal(px), fee=Decimal("0.45"), at_ms=1_500, oid="1")

    (report,) = apply(order, fill).reports

    assert report.slippage_bps == pytest.approx(worse_bps)
    assert report.avg_px == Decimal(px)
    assert report.fee == Decimal("0.45")
    assert report.latency_ms == 500


def test_a_long_answer_is_cut_and_says_so() -> None:
    (report,) = apply(an_order(), Refused(error="BadTick", at_ms=1, raw="x" * 2 * RAW_LIMIT)).reports

    assert len(report.raw) == RAW_LIMIT
    assert report.truncated
