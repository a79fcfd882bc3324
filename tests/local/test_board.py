"""The live table: a cycle has happened when features, target, approval and plan bear its id."""

from __future__ import annotations

import io
import json

from rich.console import Console

from support import case
from tradingbot.bus.names import Stream
from tradingbot.domain import messages as m
from tradingbot.domain.modes import Mode, ModeSource
from tradingbot.local.board import Board
from tradingbot.local.view import Facts, PlainView, line, make_view, render

CHAIN = (Stream.FEATURES, Stream.TARGET, Stream.APPROVED, Stream.PLAN)


def board_of(*streams: Stream) -> Board:
    board = Board(cycle_seconds=60)
    evidence = case.sound()
    for stream in streams:
        for record in evidence.streams[stream]:
            board.see(stream, record.raw)
    return board


def text_of(board: Board, facts: Facts, *, width: int = 160, height: int = 50) -> str:
    console = Console(file=io.StringIO(), width=width, height=height)
    console.print(render(board, facts))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_cycle_has_happened_once_all_four_bear_its_id() -> None:
    for count in range(4):
        assert board_of(*CHAIN[:count]).happened == 0
    assert board_of(*CHAIN).happened == 1
    assert board_of(*reversed(CHAIN)).happened == 1
    assert board_of(*CHAIN, *CHAIN).happened == 1


def test_in_halt_a_cycle_happens_without_a_plan() -> None:
    board = board_of(Stream.FEATURES, Stream.TARGET)
    halt = m.ApprovedTargetPortfolio(
        mode=Mode.HALT,
        approved_targets=(),
        rejections=(),
        risk_summary=m.RiskSummary(gross=0, net=0, turnover=0, flags=()),
        mode_source=ModeSource.PERSON,
    )
    board.see(Stream.APPROVED, case.record(Stream.APPROVED, halt, at=30).raw)

    assert board.happened == 1


def test_minutes_inside_a_longer_cycle_are_no_cycles() -> None:
    board = Board(cycle_seconds=7200)
    for record in case.sound().streams[Stream.FEATURES]:
        board.see(Stream.FEATURES, record.raw)
    assert len(board.rows) == 1

    odd = case.sound().streams[Stream.FEATURES][0].raw.replace("16:00:00", "16:01:00")
    board.see(Stream.FEATURES, odd)

    assert len(board.rows) == 1


def test_orders_fills_and_fees_are_counted_once_an_order() -> None:
    (row,) = board_of(*CHAIN, Stream.ORDERS, Stream.REPORTS).rows

    assert (len(row.orders), row.fills, row.rejected) == (1, 1, 0)
    assert str(row.fees_usd) == "0.2"


def test_the_table_says_where_prices_come_from_and_what_the_mode_is() -> None:
    board = board_of(*CHAIN, Stream.ORDERS, Stream.REPORTS, Stream.SNAPSHOT)
    shown = text_of(board, Facts(prices="synthetic", mode=Mode.HALT, mode_reason="drawdown", dry_run=True, speed=30))

    said = ("SYNTHETIC PRICES", "HALT", "drawdown", "DRY RUN", "30× speed", "BTC +5.0%", "10,000.00", "by baseline")
    for text in said:
        assert text in shown


def test_a_cycle_that_the_baseline_decided_for_another_strategy_says_so() -> None:
    (entry,) = case.sound().streams[Stream.TARGET]
    told = json.loads(entry.raw)
    told["data"]["used"] = "baseline_fallback"
    raw = json.dumps(told)
    board = board_of(*CHAIN)
    board.see(Stream.TARGET, raw)

    assert "by baseline_fallback" in text_of(board, Facts())
    assert "by baseline_fallback approved" in line(board.rows[0], Facts())


def test_a_narrow_terminal_shows_each_cycle_in_two_lines_at_most() -> None:
    shown = text_of(board_of(*CHAIN, Stream.ORDERS, Stream.REPORTS, Stream.SNAPSHOT), Facts(), width=80).splitlines()

    rows = [each for each in shown if "│" in each]
    assert max(map(len, shown)) <= 80
    assert len(rows) <= 2
    assert all(text in rows[0] for text in ("1600Z", "NORMAL", "BTC +5.0%", "1 of 1", "10,000.00"))


def test_a_low_terminal_shows_the_newest_cycles() -> None:
    board = board_of(*CHAIN)
    for minute in range(1, 30):
        later = case.sound().streams[Stream.TARGET][0].raw.replace("20260218T1600Z", f"20260218T16{minute:02}Z")
        board.see(Stream.TARGET, later)
    shown = text_of(board, Facts(), height=24)

    assert "1629Z" in shown
    assert "1600Z" not in shown
    assert len(shown.splitlines()) <= 24


def test_without_a_terminal_each_cycle_gets_one_line_when_the_next_has_begun() -> None:
    console = Console(file=io.StringIO(), width=80)
    view = make_view(console)
    board = board_of(*CHAIN, Stream.ORDERS, Stream.REPORTS, Stream.SNAPSHOT)
    facts = Facts(prices="recorded")

    view.show(board, facts)
    assert isinstance(view, PlainView)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == ""

    later = case.sound().streams[Stream.TARGET][0].raw.replace("20260218T1600Z", "20260218T1601Z")
    board.see(Stream.TARGET, later)
    for _ in range(2):
        view.show(board, facts)

    (printed,) = console.file.getvalue().splitlines()
    assert printed == line(board.rows[0], facts)
    assert "prices RECORDED" in printed


def test_every_cycle_that_counts_has_its_line_when_the_run_ends() -> None:
    console = Console(file=io.StringIO(), width=80)
    view, board, facts = make_view(console), board_of(*CHAIN), Facts()
    for ended in (False, True, True):
        view.show(board, facts, ended=ended)

    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().splitlines() == [line(board.rows[0], facts)]
    assert board.happened == 1
