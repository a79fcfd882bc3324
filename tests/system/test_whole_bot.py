"""The whole bot as a person runs it: real processes, a real server, the paper exchange; parts are killed, halted."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stack import SERVICES, Stack, stack
from tradingbot.paper.prices import SyntheticPrices

pytestmark = [pytest.mark.xdist_group("system"), pytest.mark.timeout(240)]

SYMBOLS = ("BTC", "ETH", "SOL", "ADA", "DOGE")
START_MS = 1_748_160_000_000
RESTING = {"ORDER_TIF": "Alo", "PX_GUARD_BPS": "0", "AI_SMOOTH_ALPHA": "1"}
"""Orders that rest at the venue for a while, so that there is something to cancel."""


def until(condition: Callable[[], Any], what: str, *, timeout_s: float = 60.0) -> Any:
    """The condition's first true answer."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if answer := condition():
            return answer
        time.sleep(0.02)
    raise AssertionError(f"{what}: not within {timeout_s:g} s")


@pytest.fixture
def candles(tmp_path: Path) -> Path:
    """A folder of recorded candles: three hours, one CSV a coin."""
    folder = tmp_path / "candles"
    folder.mkdir()
    source = SyntheticPrices(seed=11, symbols=SYMBOLS)
    for symbol in SYMBOLS:
        with (folder / f"{symbol}_1m.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["timestamp_ms", "open", "high", "low", "close", "volume"])
            for each in source.candles(symbol, START_MS, START_MS + 3 * 3_600_000):
                writer.writerow([each.t_ms, each.open, each.high, each.low, each.close, each.volume])
    return folder


def run_up(*arguments: str, folder: Path, report: Path) -> tuple[int, dict[str, Any], str]:
    argv = [sys.executable, "-m", "tradingbot", "up", *arguments, "--data-dir", str(folder), "--report", str(report)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=200, check=False, cwd=folder.parent)
    output = done.stdout + done.stderr
    return done.returncode, json.loads(report.read_text()) if report.exists() else {}, output


def running_below(folder: Path) -> list[str]:
    """Command lines of processes that still work on a data folder."""
    found = subprocess.run(["pgrep", "-f", "-a", str(folder)], capture_output=True, text=True, check=False).stdout
    return [line for line in found.splitlines() if "pgrep" not in line]


def test_recorded_candles_trade_and_a_second_run_goes_on_where_the_first_stopped(candles: Path, tmp_path: Path) -> None:
    """`up --cycles N` exits 0 when N cycles happened and every invariant holds; nothing is left running."""
    folder = tmp_path / "data"
    options = ("--cycles", "4", "--speed", "30", "--prices", str(candles))

    first_code, first, first_output = run_up(*options, folder=folder, report=tmp_path / "1.json")
    second_code, second, second_output = run_up(*options, folder=folder, report=tmp_path / "2.json")

    assert first_code == 0, first_output
    assert second_code == 0, second_output
    assert "RECORDED" in first_output
    assert second["cycles_on_record"] >= first["cycles_on_record"] + 4
    assert second["holds"], second["verdicts"]
    assert running_below(folder) == []


def test_a_data_folder_refuses_other_prices(candles: Path, tmp_path: Path) -> None:
    """A data folder belongs to one price source."""
    folder = tmp_path / "data"
    run_up("--cycles", "1", "--speed", "30", "--prices", "synthetic:3", folder=folder, report=tmp_path / "1.json")

    code, _, output = run_up(
        "--cycles", "1", "--speed", "30", "--prices", str(candles), folder=folder, report=tmp_path / "2.json"
    )

    assert code != 0
    assert "belongs to the price source synthetic:3" in output


def test_every_part_may_be_killed_and_the_record_still_holds(tmp_path: Path) -> None:
    """SIGKILL each service, the exchange and the bus in turn: each comes back, and verify holds at the end."""
    report = tmp_path / "report.json"
    options = ("--cycles", "14", "--report", str(report))
    with stack(speed=20, options=options) as bot:
        until(lambda: bot.bus.xlen("exec.reports"), "a first order")
        for part in (*SERVICES, "paper", "valkey"):
            before = bot.pids()[part]
            os.kill(before, signal.SIGKILL)
            until(lambda part=part, before=before: bot.pids().get(part, before) != before, f"{part} to come back")
            time.sleep(1.0)  # let it work before the next one is killed
        code = bot.process.wait(timeout=180)
        output = (bot.folder / "up.log").read_text()

    assert code == 0, output
    told = json.loads(report.read_text())
    assert set(told["restarts"]) == {*SERVICES, "paper", "valkey"}
    assert told["holds"], told["verdicts"]


@pytest.fixture
def resting() -> Iterator[Stack]:
    """A bot whose orders rest at the venue."""
    with stack(speed=10, prices="synthetic:5", **RESTING) as bot:
        yield bot


def places_after(bot: Stack, at_ms: int) -> list[dict[str, Any]]:
    return [each for each in bot.venue_log("action") if each["type"] == "order" and each["at_ms"] > at_ms]


def test_a_halt_cancels_all_and_nothing_follows_until_resume(resting: Stack) -> None:
    """HALT with slices open: all cancelled, acknowledged, no order after; RESUME goes on."""
    until(resting.open_orders, "an open order", timeout_s=90)

    halted = resting.tradingbot("ctl", "halt", "a test")

    assert halted.returncode == 0, halted.stdout + halted.stderr
    assert "acknowledged" in halted.stdout
    assert resting.open_orders() == []
    acked_at = int(resting.bus.hget("ctl.applied", "acked_at"))
    cycles = resting.bus.xlen("risk.approved")
    until(lambda: resting.bus.xlen("risk.approved") >= cycles + 2, "two more cycles")
    assert places_after(resting, acked_at) == []
    assert resting.bus.hget("ctl.applied", "mode") == "HALT"

    resumed = resting.tradingbot("ctl", "resume")

    assert resumed.returncode == 0, resumed.stderr
    until(lambda: places_after(resting, acked_at), "an order after resume", timeout_s=90)


def test_a_drawdown_beyond_three_percent_halts_by_itself() -> None:
    """A loss is latched under an id, and only that id clears it."""
    with stack(speed=20, AI_SMOOTH_ALPHA="1", TURNOVER_CAP="0.4") as bot:
        until(lambda: gross(bot) > 0.05, "a position of 5 % of equity", timeout_s=120)
        for symbol in SYMBOLS:
            bot.venue("/control/price", {"coin": symbol, "factor": 0.3})

        until(lambda: bot.bus.hget("ctl.mode.breaker", "mode") == "HALT", "the breaker's HALT")
        until(lambda: bot.bus.hget("ctl.mode.breaker", "latch_id"), "the latch")
        until(lambda: bot.bus.hget("ctl.applied", "acked_at"), "the acknowledgement")
        latch = bot.bus.hget("ctl.mode.breaker", "latch_id")
        refused = bot.tradingbot("ctl", "clear-breaker", "another-id")
        cleared = bot.tradingbot("ctl", "clear-breaker", latch)

        assert refused.returncode != 0
        assert cleared.returncode == 0, cleared.stderr
        until(lambda: bot.bus.hget("ctl.mode.breaker", "mode") != "HALT", "the breaker to clear")


def gross(bot: Stack) -> float:
    raw = bot.bus.get("latest.state.snapshot")
    if raw is None:
        return 0.0
    data = json.loads(raw)["data"]
    worth = sum(abs(float(each["qty"]) * float(each["mark_px"])) for each in data["positions"].values())
    return worth / float(data["equity_usd"])


def test_without_redis_execution_cancels_by_itself_and_the_loop_comes_back(resting: Stack) -> None:
    """Redis stops answering with orders open: execution cancels them without it; once back, trading goes on."""
    until(resting.open_orders, "an open order", timeout_s=90)

    os.kill(resting.pids()["valkey"], signal.SIGSTOP)
    until(lambda: not resting.open_orders(), "execution to cancel without Redis")
    placed = len([each for each in resting.venue_log("action") if each["type"] == "order"])
    os.kill(resting.pids()["valkey"], signal.SIGKILL)

    until(
        lambda: len([each for each in resting.venue_log("action") if each["type"] == "order"]) > placed,
        "an order after Redis came back",
        timeout_s=120,
    )
