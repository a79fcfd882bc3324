"""The whole bot, run as a person runs it: real processes, a real Valkey, the paper exchange."""

from __future__ import annotations

import csv
import json
import os
import signal
import sqlite3
from pathlib import Path

import httpx
import pytest

from support.bot import UpProcess, command, eventually, left_running, report_of
from tradingbot.domain.services import SERVICES
from tradingbot.paper.prices import SyntheticPrices
from tradingbot.replay.archive.archive import Archive
from tradingbot.replay.rerun.rerun import rerun
from tradingbot.replay.rerun.tape import load

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("whole_bot")]

COINS = ("BTC", "ETH", "SOL", "ADA", "DOGE")
FAST = ("--speed", "30", "--prices", "synthetic:5")
RESTING = {"PX_GUARD_BPS": "0"}
"""Orders at the mid rest until something fills or cancels them."""


def broken(report: dict) -> dict:
    return {name: each["against"] for name, each in report["verdicts"].items() if each["holds"] is False}


def run_cycles(data: Path, path: Path, *arguments: str, until: str) -> tuple[UpProcess, dict]:
    """Run cycles, each run well, until the report counts some of what is asked for.

    On a slow machine three cycles at 30 times the speed are over before the bot may trade: then twice as many follow.
    """
    for cycles in (3, 6, 12, 24):
        with UpProcess(data, *arguments, "--cycles", str(cycles), "--report", str(path)) as bot:
            assert bot.ended() == 0, bot.text
        report = report_of(path)
        assert broken(report) == {}
        if report[until]:
            return bot, report
    raise AssertionError(f"no {until} in 45 cycles: {bot.text}")


def test_a_run_of_cycles_ends_well_and_the_next_goes_on_where_it_stopped(tmp_path: Path) -> None:
    data, path = tmp_path / "bot", tmp_path / "report.json"
    first, report = run_cycles(data, path, *FAST, until="filled_orders")
    identity, stopped_ms = first.folder.identity(), first.folder.resume_ms()

    assert set(report["verdicts"]) == {f"I{number}" for number in range(1, 15)}
    assert report["cycles"] >= 3
    assert report["prices"] == "synthetic"
    assert left_running(data) == []
    assert identity is not None
    assert stopped_ms is not None

    archive = tmp_path / "archive"
    with UpProcess(data, *FAST, "--cycles", "2", "--report", str(path), "--record", str(archive)) as second:
        assert second.ended() == 0, second.text
    again = report_of(path)

    assert broken(again) == {}
    assert second.folder.identity() == identity
    assert again["cycles_on_record"] >= report["cycles_on_record"] + 2
    assert again["orders"] >= report["orders"]
    assert left_running(data) == []
    replayed = rerun(load(Archive(archive)))
    assert replayed.equal, list(replayed.lines())
    assert replayed.cycles >= again["cycles_on_record"], "what was on the streams before counts too"

    with UpProcess(data, "--speed", "30", "--prices", "synthetic:6") as other:
        assert other.ended() == 2
    assert "belongs to the price source synthetic:5, not synthetic:6" in other.text


def test_recorded_candles_are_traded_on_with_their_own_dates(tmp_path: Path) -> None:
    candles, path = tmp_path / "candles", tmp_path / "report.json"
    write_candles(candles, hours=2)
    bot, report = run_cycles(tmp_path / "bot", path, "--speed", "30", "--prices", str(candles), until="filled_orders")

    assert report["prices"] == "recorded"
    assert "20250525T09" in bot.text, "the recording begins at 08:00; the first hour is for looking back"


def rising(tmp_path: Path, *, speed: int) -> tuple[str, ...]:
    """A market that the baseline likes at every hour of the day; how much it likes a synthetic one depends on when."""
    candles = tmp_path / "rising"
    write_candles(candles, hours=6, drift=1.0004)
    return ("--speed", str(speed), "--prices", str(candles))


def write_candles(folder: Path, *, hours: int, drift: float = 1.0) -> None:
    """Recorded candles: a CSV a coin, from 2025-05-25 08:00 UTC on, that rise by a factor each minute."""
    folder.mkdir()
    start_ms = 1_748_160_000_000
    source = SyntheticPrices(seed=11, symbols=COINS)
    for coin in COINS:
        with (folder / f"{coin}_1m.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["timestamp_ms", "open", "high", "low", "close", "volume"])
            for minute, each in enumerate(source.candles(coin, start_ms, start_ms + hours * 3_600_000)):
                now, then = drift**minute, drift ** (minute + 1)
                prices = (each.open * now, each.high * then, each.low * now, each.close * then)
                writer.writerow([each.t_ms, *prices, each.volume])


def test_ctrl_c_cancels_what_is_open_and_leaves_nothing_running(tmp_path: Path) -> None:
    data, market = tmp_path / "bot", rising(tmp_path, speed=30)
    with UpProcess(data, *market, environ=RESTING) as bot:
        bot.wait_for_orders(open_now=True)
        refused = UpProcess(data, *market)
        assert refused.ended() == 2
        assert "a bot already runs on this data folder" in refused.text

        bot.interrupt()
        assert bot.ended() == 0, bot.text

    assert left_running(data) == []
    assert open_orders_kept(data) == []
    assert bot.folder.running() is None


def open_orders_kept(data: Path) -> list[str]:
    """What the paper exchange still holds open, read from its own store."""
    (store,) = (data / "paper").glob("*.sqlite")
    with sqlite3.connect(store) as connection:
        rows = [json.loads(body) for (body,) in connection.execute("SELECT body FROM orders")]
    return [row["oid"] for row in rows if row["status"] == "open"]


def test_every_part_that_is_killed_comes_back_and_the_invariants_hold(tmp_path: Path) -> None:
    data, path = tmp_path / "bot", tmp_path / "report.json"
    with UpProcess(data, *rising(tmp_path, speed=15), "--cycles", "12", "--report", str(path)) as bot:
        bot.wait_for_orders()
        for name in (*SERVICES, "paper"):
            pid = bot.running.pids[name]
            os.kill(pid, signal.SIGKILL)
            bot.wait_for_restart(name, pid)
        code = bot.ended()
    report = report_of(path)

    assert broken(report) == {}
    assert code == 0, bot.text
    assert set(report["restarts"]) == {*SERVICES, "paper"}
    assert left_running(data) == []


def test_halt_cancels_what_is_open_and_nothing_follows_until_resume(tmp_path: Path) -> None:
    data = tmp_path / "bot"
    with UpProcess(data, *rising(tmp_path, speed=30), environ=RESTING) as bot:
        bot.wait_for_orders(open_now=True)

        halted = command("ctl", "halt", "--timeout", "60", "a test", data_dir=data)
        assert halted.returncode == 0, halted.stderr
        assert "acknowledged after" in halted.stdout
        assert bot.open_orders() == []
        sent = len(placed(bot))
        status = json.loads(command("ctl", "status", "--json", data_dir=data).stdout)
        assert (status["mode"], status["source"], status["reason"]) == ("HALT", "person", "a test")
        assert status["applied"]["acked_at"] is not None

        wait_cycles(bot, 2)
        assert len(placed(bot)) == sent

        assert command("ctl", "resume", data_dir=data).returncode == 0
        eventually(lambda: len(placed(bot)) > sent, what="orders after RESUME")
        verdicts = json.loads(command("verify", "--json", data_dir=data).stdout)
        (nothing_after_halt,) = [each for each in verdicts if each["name"] == "I2"]
        assert nothing_after_halt["holds"] is True
        assert nothing_after_halt["checked"] >= 1


def placed(bot: UpProcess) -> list[dict]:
    return [each for each in bot.log("action") if each["type"] == "order"]


def wait_cycles(bot: UpProcess, count: int) -> None:
    """Until so many further cycles were approved."""
    lines = bot.text.count("prices RECORDED")
    eventually(lambda: bot.text.count("prices RECORDED") >= lines + count, what=f"{count} cycles go by")


def test_without_the_bus_open_orders_are_cancelled_and_the_loop_comes_back(tmp_path: Path) -> None:
    data, market = tmp_path / "bot", rising(tmp_path, speed=10)
    with UpProcess(data, *market, environ=RESTING) as bot:
        pid = bot.running.pids["valkey"]
        resting = eventually(lambda: freeze_with_buys_open(bot, pid), what="orders rest while the bus is frozen")
        eventually(lambda: not bot.open_orders(), what="no order is open while the bus is frozen")
        newest = {each["oid"]: each["status"] for each in bot.log("order")}
        assert {newest[oid] for oid in resting} == {"canceled"}
        sent = len(placed(bot))
        os.kill(pid, signal.SIGKILL)
        bot.wait_for_restart("valkey", pid)
        eventually(lambda: len(placed(bot)) > sent, what="orders after the return of the bus")
        bot.interrupt()
        assert bot.ended() == 0, bot.text

    run_cycles(data, tmp_path / "report.json", *market, until="orders")  # the whole record is judged


def freeze_with_buys_open(bot: UpProcess, pid: int) -> list[int]:
    """Freeze the bus while orders to buy are open, and move the market away, so that none of them fills meanwhile."""
    bot.wait_for_orders(open_now=True)
    os.kill(pid, signal.SIGSTOP)
    for coin in COINS:
        httpx.post(f"{bot.running.paper_url}/control/price", json={"coin": coin, "factor": 1.2}, timeout=60)
    buys = [each["oid"] for each in bot.open_orders() if each["side"] == "B"]
    if not buys:  # they filled in the last moment
        os.kill(pid, signal.SIGCONT)
    return buys


def test_a_drawdown_beyond_three_percent_halts_by_itself_until_a_person_clears_it(tmp_path: Path) -> None:
    data = tmp_path / "bot"
    with UpProcess(data, *rising(tmp_path, speed=10), environ={"AI_SMOOTH_ALPHA": "1"}) as bot:
        eventually(lambda: exposure(bot) > 0.08, what="a tenth of the equity is in the market")
        for coin in COINS:
            httpx.post(f"{bot.running.paper_url}/control/price", json={"coin": coin, "factor": 0.5}, timeout=60)

        latch = eventually(lambda: latched(data), what="the breaker is latched")
        assert (status(data)["mode"], status(data)["source"]) == ("HALT", "breaker")
        assert command("ctl", "resume", data_dir=data).returncode == 0
        assert status(data)["mode"] == "HALT"

        assert command("ctl", "clear-breaker", latch, data_dir=data).returncode == 0
        eventually(lambda: status(data)["latch"] == "", what="the latch is cleared")


def latched(data: Path) -> str:
    """The id of the latched drawdown; the first reading that shows it only restricts."""
    latch = status(data)["latch"]
    return latch if latch.startswith("drawdown-") else ""


def exposure(bot: UpProcess) -> float:
    """Position value over equity."""
    summary = bot.ask(type="clearinghouseState")["marginSummary"]
    return float(summary["totalNtlPos"]) / float(summary["accountValue"])


def status(data: Path) -> dict:
    done = command("ctl", "status", "--json", data_dir=data)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_dry_run_plans_and_sends_nothing(tmp_path: Path) -> None:
    market = rising(tmp_path, speed=30)
    _, report = run_cycles(tmp_path / "bot", tmp_path / "report.json", *market, "--dry-run", until="orders")

    assert report["dry_run"] is True
    assert report["traded_usd"] == "0"


def test_settings_that_cannot_be_used_start_nothing(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MAX_GROSS=much\nTWAP_SLICES=0\n")
    with UpProcess(tmp_path / "bot", *FAST) as bot:
        assert bot.ended() == 2

    assert bot.text.splitlines() == [
        "MAX_GROSS: input should be a valid number, unable to parse string as a number; was 'much'",
        "TWAP_SLICES: input should be greater than or equal to 1; was '0'",
    ]
    assert not (tmp_path / "bot").exists()


def test_a_strategy_that_is_not_installed_starts_nothing_and_says_so(tmp_path: Path) -> None:
    with UpProcess(tmp_path / "bot", *FAST, environ={"AI_STRATEGY": "plugin:mine"}) as bot:
        assert bot.ended() == 2

    assert bot.text.startswith("AI_STRATEGY: no strategy mine is installed under the entry point tradingbot.strategies")
    assert not (tmp_path / "bot").exists()
