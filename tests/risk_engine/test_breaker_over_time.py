"""Whatever happens in whatever order, a loss stays until a person clears it and health lifts only after good news."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from risk_engine.bench import Bench
from tradingbot.domain.modes import Mode
from tradingbot.risk_engine.breaker import GOOD_TO_CLEAR, drawdown


class BreakerOverTime(RuleBasedStateMachine):
    """A bot's life as the breaker sees it, beside a plain account of what must follow."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench()
        self.deposits = 0
        self.latched: set[str] = set()
        self.good_since_bad = 0
        self.liquidations = 0
        self.ever_bad = False
        self.equity: int | None = None
        """Of the last reading, less the deposits."""
        self.peak = 0

    @rule(equity=st.integers(8_000, 12_000), after_s=st.floats(0.01, 29), bad=st.booleans())
    def a_snapshot_comes(self, equity: int, after_s: float, bad: bool) -> None:
        self.bench.see(
            equity + self.deposits,
            after_s=after_s,
            post_only=bad,
            deposits_net_usd=self.deposits,
            liquidations=self.liquidations,
        )
        self.equity_is(equity)
        self.good_since_bad = 0 if bad else self.good_since_bad + 1
        self.ever_bad = self.ever_bad or bad
        self.latched |= {latch.id for latch in self.bench.state.latches}

    def equity_is(self, equity: int) -> None:
        """The peak rises, and a drawdown latches, when two readings in a row agree."""
        if self.equity is None:
            self.peak = equity
        else:
            self.peak = max(self.peak, min(self.equity, equity))
            lost, peak = self.peak - max(self.equity, equity), self.peak + self.deposits
            if lost > 0 and (peak <= lost or lost / peak >= self.bench.risk.drawdown_halt):
                assert any(latch.kind == "drawdown" for latch in self.bench.state.latches)
        self.equity = equity

    @rule()
    def a_long_silence(self) -> None:
        self.bench.tick(31)
        self.good_since_bad = 0
        self.ever_bad = True

    @rule(usd=st.integers(-3_000, 3_000))
    def money_moves(self, usd: int) -> None:
        self.deposits += usd

    @rule()
    def the_venue_liquidates(self) -> None:
        self.liquidations += 1

    @rule()
    def the_process_restarts(self) -> None:
        self.bench.restart()

    @precondition(lambda self: self.bench.state.latches)
    @rule(data=st.data())
    def a_person_clears_a_latch(self, data: st.DataObject) -> None:
        chosen = data.draw(st.sampled_from([latch.id for latch in self.bench.state.latches]))
        assert self.bench.clear(chosen)
        self.latched.discard(chosen)
        if chosen.startswith("drawdown") and self.equity is not None:
            self.peak = self.equity

    @invariant()
    def a_latch_stays_until_it_is_cleared(self) -> None:
        assert {latch.id for latch in self.bench.state.latches} == self.latched

    @invariant()
    def a_latch_means_halt(self) -> None:
        if self.latched and self.bench.judgement:
            assert self.bench.tick().mode is Mode.HALT

    @invariant()
    def bad_health_means_halt_until_three_good_reconciliations(self) -> None:
        if self.ever_bad and self.good_since_bad < GOOD_TO_CLEAR and self.bench.judgement:
            assert self.bench.tick().mode is Mode.HALT

    @invariant()
    def a_drawdown_stops_increases_at_its_first_reading(self) -> None:
        bench = self.bench
        if bench.last and drawdown(bench.state, bench.last) >= bench.risk.drawdown_reduce_only:
            assert bench.tick().mode is not Mode.NORMAL

    @invariant()
    def the_peak_is_what_two_readings_in_a_row_reached(self) -> None:
        assert self.equity is None or self.bench.state.peak_usd == self.peak


BreakerOverTime.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestBreakerOverTime = BreakerOverTime.TestCase
