"""The breaker: health clears by itself, a loss only by a person, a restriction when its reason ends."""

from __future__ import annotations

import pytest

from risk_engine.bench import Bench, snapshot
from tradingbot.domain.audit_words import audit_words
from tradingbot.domain.modes import Mode
from tradingbot.risk_engine.breaker import BreakerState
from tradingbot.risk_engine.outputs import change_of


def codes(judgement) -> list[str]:
    return [cause.code for cause in judgement.causes]


def test_a_good_first_look_is_normal_at_once(bench):
    assert bench.see().mode is Mode.NORMAL


def test_before_anything_was_seen_it_halts_without_tripping(bench):
    bench.features_ms = None

    assert bench.tick(1, features=False).mode is Mode.HALT
    assert bench.state.tripped == {}
    assert bench.see(features=False).mode is Mode.HALT
    assert bench.see().mode is Mode.NORMAL


@pytest.mark.parametrize(
    ("equity", "first", "second"),
    [
        (9_801, Mode.NORMAL, Mode.NORMAL),
        (9_800, Mode.REDUCE_ONLY, Mode.REDUCE_ONLY),
        (9_700, Mode.REDUCE_ONLY, Mode.HALT),
    ],
)
def test_a_drawdown_restricts_at_once_and_halts_when_two_readings_in_a_row_agree(bench, equity, first, second):
    bench.see(10_000)

    assert bench.see(equity).mode is first
    assert bench.see(equity).mode is second


def test_the_same_reading_twice_latches_no_drawdown_and_raises_no_peak(bench):
    bench.see(10_000)
    bench.see(12_000)
    bench.look_again()
    assert bench.state.peak_usd == 10_000

    bench.see(9_000)
    bench.look_again()
    bench.tick(1)
    assert bench.judgement.mode is Mode.REDUCE_ONLY


def test_a_failed_reading_in_between_is_neither_of_the_two(bench):
    bench.see(10_000)
    bench.see(9_600)
    assert bench.see(9_600, reconcile_ok=False).mode is Mode.REDUCE_ONLY
    assert bench.see(9_600).mode is Mode.HALT


def test_a_fall_that_the_next_reading_takes_back_is_forgotten(bench):
    bench.see(10_000)
    assert bench.see(9_500).mode is Mode.REDUCE_ONLY
    assert bench.see(9_900).mode is Mode.NORMAL
    assert bench.see(9_500).mode is Mode.REDUCE_ONLY


def test_a_withdrawal_that_equity_shows_before_the_ledger_only_restricts_for_a_moment(bench):
    bench.see(10_000)
    assert bench.see(5_000).mode is Mode.REDUCE_ONLY
    assert bench.see(5_000, deposits_net_usd=-5_000).mode is Mode.NORMAL
    assert bench.state.peak_usd == 10_000


def test_a_withdrawal_that_the_ledger_shows_before_equity_raises_no_peak(bench):
    bench.see(10_000)
    bench.see(10_000, deposits_net_usd=-5_000)
    assert bench.see(5_000, deposits_net_usd=-5_000).mode is Mode.NORMAL
    assert bench.state.peak_usd == 10_000


def test_a_deposit_that_equity_shows_before_the_ledger_raises_no_peak(bench):
    bench.see(10_000)
    bench.see(15_000)
    assert bench.see(15_000, deposits_net_usd=5_000).mode is Mode.NORMAL
    assert bench.state.peak_usd == 10_000


def test_the_peak_rises_to_what_two_readings_in_a_row_reached(bench):
    for equity in (10_000, 10_400, 10_300, 10_100):
        bench.see(equity)

    assert bench.state.peak_usd == 10_300


def test_a_small_drawdown_restricts_only_while_it_lasts(bench):
    bench.see(10_000)
    assert bench.see(9_790).mode is Mode.REDUCE_ONLY
    assert bench.see(9_850).mode is Mode.NORMAL


def test_a_latched_drawdown_outlasts_recovery_and_restarts(bench):
    bench.see(10_000)
    bench.see(9_690)
    latch_id = bench.see(9_690).latch_ids[0]
    bench.restart()

    judgement = bench.see(10_500)

    assert judgement.mode is Mode.HALT
    assert judgement.latch_ids == (latch_id,)


def test_the_peak_survives_a_restart(bench):
    bench.see(10_000)
    bench.restart()

    assert bench.see(9_690).mode is Mode.REDUCE_ONLY


def test_a_restart_between_the_two_readings_changes_nothing(bench):
    bench.see(10_000)
    bench.see(9_690)
    bench.restart()

    assert bench.see(9_690).mode is Mode.HALT


def test_clearing_a_latch_needs_its_id_and_sets_the_peak_to_present_equity(bench):
    bench.see(10_000)
    bench.see(9_600)
    latch_id = bench.see(9_600).latch_ids[0]

    assert not bench.clear("drawdown-1")
    assert bench.clear(latch_id)

    assert bench.see(9_600).mode is Mode.NORMAL
    assert bench.see(9_400).mode is Mode.REDUCE_ONLY


def test_a_flat_account_in_a_small_drawdown_can_be_let_go_by_a_person(bench):
    bench.see(10_000)
    assert bench.see(9_790).latch_ids == ("drawdown",)
    assert bench.clear("drawdown")

    assert bench.see(9_790).mode is Mode.NORMAL


def test_a_drawdown_is_not_accepted_while_none_restricts(bench):
    assert not bench.clear("drawdown")
    bench.see(10_000)
    bench.see(9_801)

    assert not bench.clear("drawdown")
    assert bench.state.peak_usd == 10_000


@pytest.mark.parametrize("counter", ["liquidations", "fills_beyond_intent"])
def test_clearing_a_latch_that_is_no_drawdown_leaves_the_peak_alone(bench, counter):
    bench.see(10_000)
    latch_id = bench.see(9_850, **{counter: 1}).latch_ids[0]

    assert bench.clear(latch_id)
    assert bench.state.peak_usd == 10_000
    assert bench.see(9_790, **{counter: 1}).mode is Mode.REDUCE_ONLY


def test_a_latched_drawdown_is_not_cleared_under_the_common_name(bench):
    bench.see(10_000)
    bench.see(9_600)
    bench.see(9_600)

    assert not bench.clear("drawdown")


def test_deposits_and_withdrawals_neither_make_nor_hide_a_drawdown(bench):
    bench.see(10_000)
    assert bench.see(5_000, deposits_net_usd=-5_000).mode is Mode.NORMAL
    assert bench.see(15_000, deposits_net_usd=5_000).mode is Mode.NORMAL
    bench.see(14_000, deposits_net_usd=5_000)
    assert bench.see(14_000, deposits_net_usd=5_000).mode is Mode.HALT


@pytest.mark.parametrize("counter", ["liquidations", "fills_beyond_intent"])
def test_each_further_liquidation_or_unexplained_fill_latches(bench, counter):
    bench.see()
    first = bench.see(**{counter: 1}).latch_ids
    assert bench.clear(first[0])

    assert bench.see(**{counter: 1}).mode is Mode.NORMAL
    assert bench.see(**{counter: 2}).mode is Mode.HALT
    assert bench.judgement.latch_ids != first


@pytest.mark.parametrize(
    ("health", "code"),
    [
        ({"clock_skew_ms": 1_001}, "clock_skew"),
        ({"clock_skew_ms": -1_001}, "clock_skew"),
        ({"refusals_in_row": 5}, "refusals"),
        ({"post_only": True}, "post_only"),
    ],
)
def test_bad_health_halts_and_clears_after_three_good_reconciliations(bench, health, code):
    bench.see()
    assert codes(bench.see(**health)) == [code]
    assert bench.see().mode is Mode.HALT
    assert bench.see().mode is Mode.HALT
    assert bench.see().mode is Mode.NORMAL


def test_bad_health_in_between_starts_the_count_anew(bench):
    bench.see()
    bench.see(post_only=True)
    bench.see()
    bench.see()
    bench.see(post_only=True)
    bench.see()
    bench.see()

    assert bench.judgement.mode is Mode.HALT
    assert bench.see().mode is Mode.NORMAL


def test_the_same_snapshot_twice_is_one_good_reconciliation(bench):
    bench.see()
    bench.see(post_only=True)
    bench.see()
    for _ in range(5):
        bench.look_again()
        bench.tick(1)

    assert bench.judgement.mode is Mode.HALT


def test_thirty_seconds_without_a_good_reconciliation_halt(bench):
    bench.see()
    assert bench.tick(30).mode is Mode.NORMAL
    assert bench.see(after_s=0.001, reconcile_ok=False, last_reconcile_ts=None).mode is Mode.HALT
    assert codes(bench.judgement) == ["not_reconciled"]


def test_features_older_than_two_cycles_halt(bench):
    bench.see()
    for _ in range(11):
        assert bench.see(features=False).mode is Mode.NORMAL
    assert codes(bench.see(features=False)) == ["features_stale"]


def test_limits_against_real_slowness_grow_with_speed():
    fast = Bench(speed=30)
    fast.see()

    assert fast.tick(179).mode is Mode.NORMAL
    assert fast.tick(2).mode is Mode.HALT
    assert Bench(speed=30).see(clock_skew_ms=7_500).mode is Mode.NORMAL


def test_a_new_process_awaits_what_went_stale_while_nobody_looked(bench):
    bench.see()
    bench.now_ms += 3_600_000
    bench.restart()

    assert bench.tick(0, features=False).mode is Mode.HALT
    assert bench.state.tripped == {}
    assert bench.see(after_s=2).mode is Mode.NORMAL


def test_a_clock_that_steps_back_halts_until_news_of_its_time_comes(bench):
    bench.see()
    bench.now_ms -= 3_600_000

    assert bench.tick(0, features=False).mode is Mode.HALT
    bench.see(post_only=True)
    bench.see()
    bench.see()
    assert bench.see().mode is Mode.NORMAL


def test_a_foreign_order_restricts_while_it_is_there(bench):
    assert bench.see(foreign_orders=1).mode is Mode.REDUCE_ONLY
    assert bench.see().mode is Mode.NORMAL


def test_fees_beyond_the_days_limit_restrict_the_rest_of_the_utc_day(bench):
    assert bench.see(fees_today_usd=50).mode is Mode.NORMAL
    assert bench.see(fees_today_usd="50.1").mode is Mode.REDUCE_ONLY
    assert bench.see(20_000, fees_today_usd="50.1").mode is Mode.REDUCE_ONLY
    assert bench.see(20_000, after_s=86_400).mode is Mode.NORMAL


def test_a_failed_reconciliation_moves_neither_peak_nor_drawdown(bench):
    bench.see(10_000)

    assert bench.see(0, reconcile_ok=False).mode is Mode.NORMAL
    assert bench.state.equity_usd == 10_000


def test_a_halt_names_every_cause_and_figures_alone_change_no_signature(bench):
    bench.see(10_000)
    first = bench.see(9_790, foreign_orders=1)
    second = bench.see(9_785, foreign_orders=1)

    assert codes(first) == ["drawdown", "foreign_orders"]
    assert first.reason != second.reason
    assert first.signature == second.signature


def test_losing_everything_is_a_full_drawdown(bench):
    bench.see(10_000)
    bench.see(-5)

    assert bench.see(-5).mode is Mode.HALT


def test_the_record_of_a_judgement_before_any_peak_names_none():
    bench = Bench()
    bench.last = snapshot(at_ms=bench.now_ms)
    judgement = bench.tick(features=False)
    change = change_of(BreakerState(), judgement, bench.facts(), version=1)

    assert change is not None
    assert change.audit.details["peak_usd"] is None
    assert "peak" not in audit_words(change.audit)
