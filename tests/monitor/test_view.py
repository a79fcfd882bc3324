"""From stream entries to a page."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from monitor.builders import (
    ACCOUNT,
    BOT,
    MODEL_EVIDENCE,
    T0,
    a_decision,
    a_plan,
    a_report,
    a_snapshot,
    a_target,
    an_alert,
    an_approval,
    an_intent,
    an_open_order,
    some_features,
    wrapped,
)
from tradingbot.bus.names import Stream
from tradingbot.domain.messages import AuditLevel, AuditRecord, OrderAction, ReportStatus
from tradingbot.domain.modes import Mode
from tradingbot.monitor.cycles import MAX_ORDERS_A_CYCLE
from tradingbot.monitor.view import Board, Facts

MINUTE = 60_000


def a_board() -> Board:
    return Board(
        Facts(
            bot_id=BOT,
            network="paper",
            account=ACCOUNT,
            dry_run=False,
            prices="unknown",
            universe=("BTC", "ETH"),
            speed=1.0,
            may_command=True,
            needs_token=False,
        )
    )


def told(board: Board, *entries, at_ms: int = T0) -> Board:
    for stream, data in entries:
        board.absorb(stream, wrapped(stream, data, at_ms=at_ms))
    return board


def test_positions_stand_against_the_newest_targets_and_approvals():
    board = told(
        a_board(),
        (Stream.TARGET, a_target({"BTC": 0.2, "ETH": 0.0})),
        (Stream.APPROVED, an_approval({"BTC": 0.15, "ETH": 0.0})),
        (Stream.SNAPSHOT, a_snapshot(positions={"BTC": "0.02"})),
    )
    btc, eth = board.page(now_ms=T0 + 2000).positions

    assert (btc.weight, btc.target, btc.approved) == (0.1, 0.2, 0.15)
    assert (eth.qty, eth.weight, eth.target, eth.mark_px) == (0, 0.0, 0.0, 2500)


def test_a_held_coin_without_a_target_shows_none_and_not_zero():
    board = told(a_board(), (Stream.APPROVED, an_approval({"BTC": 0.1})), (Stream.SNAPSHOT, a_snapshot()))

    assert board.page(now_ms=T0).positions[1].approved is None


def test_a_position_outside_the_universe_is_shown():
    board = told(a_board(), (Stream.SNAPSHOT, a_snapshot(positions={"DOGE": "-0.1"})))

    assert [row.symbol for row in board.page(now_ms=T0).positions] == ["BTC", "ETH", "DOGE"]


def test_a_page_without_any_news_says_nothing_instead_of_zero():
    page = a_board().page(now_ms=T0)

    assert page.equity_usd is None
    assert page.gross is None
    assert page.snapshot_age_s is None
    assert page.mode is None
    assert page.cycles == ()


@pytest.mark.parametrize("label", ["synthetic", "recorded", "live"])
def test_the_price_label_is_what_the_prices_say_of_themselves(label):
    board = told(a_board(), (Stream.SNAPSHOT, a_snapshot(prices=label)))

    assert board.page(now_ms=T0).price_label == label.upper()


def test_a_cycle_joins_targets_clamps_plan_orders_and_fills():
    board = told(
        a_board(),
        (Stream.TARGET, a_target({"BTC": 0.2})),
        (Stream.APPROVED, an_approval({"BTC": 0.15}, clamps=[("BTC", "symbol_cap", 0.2, 0.15)])),
        (Stream.PLAN, a_plan(slices=2, skipped=[("ETH", "inside_band")])),
        (Stream.ORDERS, an_intent("a")),
        (Stream.ORDERS, an_intent("b")),
        (Stream.ORDERS, an_intent("b", action=OrderAction.CANCEL)),
        (Stream.REPORTS, a_report("a")),
        (Stream.REPORTS, a_report("b", ReportStatus.CANCELED)),
    )
    (cycle,) = board.page(now_ms=T0).cycles

    assert cycle.cycle_id == "20260218T1600Z"
    assert (cycle.planned, len(cycle.orders), cycle.cancels, cycle.filled_orders) == (2, 2, 1, 1)
    assert cycle.filled_usd == 500
    assert float(cycle.fees_usd) == pytest.approx(0.4)
    assert cycle.rejections[0].reason == "symbol_cap"
    assert cycle.skipped[0].reason == "inside_band"
    assert [order.status for order in cycle.orders] == ["FILLED", "CANCELED"]


def test_an_older_report_does_not_undo_a_final_one():
    board = told(
        a_board(),
        (Stream.ORDERS, an_intent("a")),
        (Stream.REPORTS, a_report("a")),
        (Stream.REPORTS, a_report("a", ReportStatus.ACK)),
    )

    assert board.page(now_ms=T0).cycles[0].orders[0].status == "FILLED"


LONG = AuditRecord(
    kind="reconcile_failed", level=AuditLevel.ERROR, details={str(name): "x" * 5000 for name in range(20)}
)


def test_the_page_stays_bounded_however_long_the_bot_runs():
    board = a_board()
    for minute in range(200):
        at_ms = T0 + minute * MINUTE
        told(board, (Stream.TARGET, a_target({"BTC": 0.1})), (Stream.AUDIT, LONG), at_ms=at_ms)
        told(board, (Stream.SNAPSHOT, a_snapshot(asof_ms=at_ms)), (Stream.SNAPSHOT, a_snapshot(asof_ms=at_ms + 1)))
    for order in range(MAX_ORDERS_A_CYCLE + 50):
        told(board, (Stream.ORDERS, an_intent(str(order))), at_ms=at_ms)
    page = board.page(now_ms=at_ms)

    assert [cycle.started_ms for cycle in page.cycles] == [at_ms - i * MINUTE for i in range(20)]
    assert len(page.cycles[0].orders) == MAX_ORDERS_A_CYCLE
    assert len(page.alerts) == 50
    assert len(page.alerts[0].text) == 300
    assert len(page.equity_curve) == 360


def test_an_entry_of_a_cycle_long_gone_is_passed_over():
    board = a_board()
    for minute in range(1, 22):
        told(board, (Stream.TARGET, a_target({})), at_ms=T0 + minute * MINUTE)
    told(board, (Stream.TARGET, a_target({})), (Stream.REPORTS, a_report("a")), at_ms=T0)

    assert len(board.page(now_ms=T0).cycles) == 20


def test_rates_count_the_last_virtual_minute():
    board = told(a_board(), (Stream.ORDERS, an_intent("a")), at_ms=T0)
    told(
        board,
        (Stream.ORDERS, an_intent("b")),
        (Stream.ORDERS, an_intent("b", action=OrderAction.CANCEL)),
        (Stream.REPORTS, a_report("b", ReportStatus.REJECTED)),
        (Stream.REPORTS, a_report("a")),
        at_ms=T0 + 50_000,
    )
    figures = board.figures(now_ms=T0 + 70_000)

    assert (figures.orders_per_min, figures.cancels_per_min, figures.rejects_per_min) == (1, 1, 1)
    assert figures.reject_ratio == 0.5
    assert figures.fill_latency_p50_ms == 900
    assert figures.slippage_mean_bps == 1.5


def test_the_equity_curve_has_good_reconciliations_only():
    board = told(a_board(), (Stream.SNAPSHOT, a_snapshot()), (Stream.SNAPSHOT, a_snapshot(asof_ms=T0 + 1, ok=False)))

    assert board.page(now_ms=T0).equity_curve == ((T0, 10000.0),)


def test_warnings_are_listed_newest_first_and_information_is_not():
    board = told(a_board(), (Stream.AUDIT, an_alert("first")))
    told(board, (Stream.AUDIT, an_alert("second")), at_ms=T0 + 1)

    assert [alert.text for alert in board.page(now_ms=T0).alerts] == ["error second", "error first"]


def test_the_newest_decision_is_the_newest_cycles_even_when_a_later_one_has_only_targets():
    board = told(a_board(), (Stream.APPROVED, an_approval({"BTC": 0.1}, mode=Mode.REDUCE_ONLY)))
    told(board, (Stream.TARGET, a_target({"BTC": 0.3})), at_ms=T0 + MINUTE)

    assert board.page(now_ms=T0 + MINUTE).positions[0].approved == 0.1


def test_a_fallback_is_told_with_its_reason_beside_the_cycle_and_among_the_alerts():
    details = {"strategy": "llm", "used": "baseline_fallback", "error": "no answer within 12.0 s", "steps": {"a": 1}}
    record = AuditRecord(kind="alpha.target", level=AuditLevel.WARNING, cause="1-0", details=details)
    board = told(a_board(), (Stream.TARGET, a_target({"BTC": 0.1})), (Stream.AUDIT, record))
    page = board.page(now_ms=T0)

    assert page.cycles[0].fallback == "no answer within 12.0 s"
    assert "no answer within 12.0 s" in page.alerts[0].text
    assert page.figures.fallback_ratio == 1


def test_the_part_of_decisions_that_fell_back_is_of_those_decided():
    board = a_board()
    assert board.figures(now_ms=T0).fallback_ratio is None

    for minute in range(4):
        told(board, (Stream.TARGET, a_target({"BTC": 0.1})), at_ms=T0 + minute * MINUTE)
    details = {"strategy": "llm", "used": "baseline_fallback", "error": "no answer"}
    record = AuditRecord(kind="alpha.target", level=AuditLevel.WARNING, cause="1-0", details=details)
    told(board, (Stream.AUDIT, record), at_ms=T0 + 3 * MINUTE)

    assert board.figures(now_ms=T0).fallback_ratio == 0.25


def test_a_coins_book_stands_beside_it_and_an_absent_one_is_none_and_not_zero():
    books = {"spread_bps": {"BTC": 0.4}, "book_imbalance": {"BTC": -0.2}, "liquidity_score": {"BTC": 0.9}}
    board = told(a_board(), (Stream.FEATURES, some_features(**books)))
    btc, eth = board.page(now_ms=T0).positions

    assert (btc.spread_bps, btc.book_imbalance, btc.liquidity_score) == (0.4, -0.2, 0.9)
    assert (eth.spread_bps, eth.book_imbalance, eth.liquidity_score) == (None, None, None)
    told(board, (Stream.FEATURES, some_features()))  # no book at all
    assert board.page(now_ms=T0).positions[0].spread_bps is None


def test_the_regime_is_the_one_that_the_shown_targets_rest_on():
    calm = {"regime": "trend", "risk_multiplier": 0.8}
    board = told(
        a_board(),
        (Stream.TARGET, a_target({"BTC": 0.1})),
        (Stream.AUDIT, a_decision(strategy="regime", evidence={**MODEL_EVIDENCE, **calm})),
        (Stream.APPROVED, an_approval({"BTC": 0.1})),
    )
    stress = {"regime": "stress", "risk_multiplier": 0.1}
    told(board, (Stream.AUDIT, a_decision(strategy="regime", evidence={**MODEL_EVIDENCE, **stress})), at_ms=T0 + MINUTE)
    page = board.page(now_ms=T0 + MINUTE)

    assert page.regime is not None
    assert (page.regime.name, page.regime.risk_multiplier) == ("trend", 0.8)
    assert [row.regime.name for row in page.cycles if row.regime] == ["stress", "trend"]


def test_a_cycle_without_a_regime_shows_none():
    failed = a_decision(strategy="regime", error="http: 500", evidence=MODEL_EVIDENCE)
    board = told(a_board(), (Stream.AUDIT, failed), (Stream.APPROVED, an_approval({"BTC": 0.1})))

    assert board.page(now_ms=T0).regime is None


def test_the_newest_decision_tells_of_the_model_and_one_that_asks_none_takes_it_away():
    board = told(a_board(), (Stream.AUDIT, a_decision(strategy="llm", evidence=MODEL_EVIDENCE)))
    llm = board.page(now_ms=T0).llm
    assert llm is not None
    assert (llm.name, llm.calls, llm.tokens_in, llm.tokens_out, llm.latency_s) == ("scripted", 2, 1800, 120, 1.25)
    assert llm.spend_usd is None

    skipped = AuditRecord(kind=Stream.TARGET, level=AuditLevel.WARNING, details={"used": "none", "skipped": "old"})
    assert told(board, (Stream.AUDIT, skipped)).page(now_ms=T0).llm == llm
    assert told(board, (Stream.AUDIT, a_decision(strategy="equal"))).page(now_ms=T0).llm is None


def test_a_model_that_is_left_alone_shows_its_circuit_and_no_call():
    evidence = {"model": "scripted", "cap_usd": "5.000000", "circuit": {"open": True, "failures": 5, "wait_s": 240.0}}
    board = told(a_board(), (Stream.AUDIT, a_decision(strategy="llm", error="circuit_open: x", evidence=evidence)))
    llm = board.page(now_ms=T0).llm

    assert llm is not None
    assert llm.circuit is not None
    assert (llm.circuit.open, llm.circuit.failures, llm.cap_usd) == (True, 5, 5)
    assert (llm.calls, llm.tokens_in, llm.latency_s) == (None, None, None)


def test_tokens_that_the_server_did_not_tell_are_none_and_not_a_part_of_them():
    usage = {"tokens_in": 900, "tokens_out": 60, "unmetered": 1}
    board = told(a_board(), (Stream.AUDIT, a_decision(strategy="llm", evidence={**MODEL_EVIDENCE, "usage": usage})))
    llm = board.page(now_ms=T0).llm

    assert llm is not None
    assert (llm.calls, llm.tokens_in, llm.tokens_out) == (2, None, None)


@pytest.mark.parametrize(
    "evidence", [None, [], "x", {}, {"model": 1}, {"model": "m", "usage": 7}, {"model": "m", "circuit": {"open": "?"}}]
)
def test_evidence_of_another_shape_is_not_shown_and_breaks_nothing(evidence):
    board = told(a_board(), (Stream.AUDIT, a_decision(strategy="regime", evidence=evidence)))

    assert board.page(now_ms=T0).llm is None


def test_an_open_order_is_shown():
    board = told(a_board(), (Stream.SNAPSHOT, a_snapshot(orders=(an_open_order(),))))

    assert board.page(now_ms=T0).open_orders[0].exchange_order_id == "7"


@pytest.mark.parametrize("raw", ["", "{", "[]", '{"env": {}, "data": {}}'])
def test_an_invalid_entry_is_refused_and_changes_nothing(raw):
    board = a_board()
    with pytest.raises(ValidationError):
        board.absorb(Stream.SNAPSHOT, raw)

    assert board.page(now_ms=T0).equity_usd is None
