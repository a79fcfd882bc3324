"""Execution places nothing before its preflight has passed, and the command asks the same without changing anything."""

from __future__ import annotations

import json

import pytest
import stamina

from support.execution_bench import KEY, Bench
from support.paper import ACCOUNT
from support.stage import BOT_ID
from tradingbot.bus.buckets import write_share
from tradingbot.bus.names import Key
from tradingbot.domain.messages import AuditRecord, ReportStatus
from tradingbot.execution import preflight_task
from tradingbot.execution.preflight_command import preflight
from tradingbot.execution.readiness import Verdict
from tradingbot.runtime.settings import SettingsError

STRANGER = "0x" + "77" * 32


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    monkeypatch.setattr(preflight_task, "RETRY_S", 0.05)
    with stamina.set_testing(True, attempts=2, cap=True):
        yield


async def told(bench: Bench) -> AuditRecord:
    async def look() -> AuditRecord | None:
        return next(iter(await bench.audits("preflight")), None)

    record: AuditRecord = await bench.until(look)
    return record


def failures(record: AuditRecord) -> list[str]:
    return [each["name"] for each in record.details["checks"] if each["verdict"] == "failed"]


async def test_leverage_is_set_and_the_checks_are_on_record_before_the_first_order(bench: Bench) -> None:
    await bench.ready()
    async with bench.trading():
        await bench.begun()
        record = await told(bench)
        await bench.next_cycle()
        await bench.approve(BTC=0.12)
        await bench.until_reports(lambda found: any(each.status is ReportStatus.FILLED for each in found))

    kinds = [each["type"] for each in bench.paper.log("action")]
    assert failures(record) == []
    assert {each["name"] for each in record.details["checks"]} >= {"identity", "key", "balance", "leverage:BTC"}
    assert "updateLeverage" in kinds[: kinds.index("order")]
    assert (await bench.paper.info("activeAssetData", user=ACCOUNT, coin="BTC"))["leverage"]["type"] == "cross"


async def test_a_key_that_may_not_sign_places_nothing_and_is_told(bench: Bench) -> None:
    await bench.ready()
    async with bench.trading(HL_PRIVATE_KEY=STRANGER):
        record = await told(bench)
        await bench.next_cycle()
        await bench.approve(BTC=0.12)
        await bench.tick(30)

    assert failures(record) == ["key"]
    assert bench.orders_sent() == []
    assert await bench.intents() == []


async def test_a_cure_needs_no_restart(bench: Bench) -> None:
    await bench.ready()
    bench.paper.faults({"kind": "server_error", "path": "/info", "type": "userAbstraction"})
    async with bench.trading():
        assert failures(await told(bench)) == ["account_mode"]
        bench.paper.clear_faults()
        await bench.begun()
        await bench.next_cycle()
        await bench.approve(BTC=0.12)
        await bench.until_reports(lambda found: any(each.status is ReportStatus.FILLED for each in found))


async def test_a_failed_check_does_not_keep_a_dry_run_from_planning(bench: Bench) -> None:
    await bench.ready()
    bench.paper.faults({"kind": "server_error", "path": "/info", "type": "userAbstraction"})
    async with bench.trading(DRY_RUN="true", HL_PRIVATE_KEY=""):
        assert failures(await told(bench)) == ["account_mode"]
        await bench.next_cycle()
        await bench.approve(BTC=0.12)
        plan = await bench.plan_of(bench.cycle_id)

    assert plan.slices
    assert bench.paper.log("action") == []


def environ_of(bench: Bench, **more: str) -> dict[str, str]:
    return {
        "HL_NETWORK": "paper",
        "HL_HTTP_URL": bench.paper.http_url,
        "HL_WS_URL": bench.paper.ws_url,
        "HL_ACCOUNT_ADDRESS": ACCOUNT,
        "HL_PRIVATE_KEY": KEY,
        "UNIVERSE": "BTC,ETH",
        **more,
    }


async def test_the_command_works_before_any_bot_runs_and_changes_nothing(bench: Bench) -> None:
    report = await preflight(environ_of(bench), clock=bench.clock)
    verdicts = {each.name: each.verdict for each in report.checks}

    assert report.may_trade, report.failures
    assert verdicts["redis"] is Verdict.WARNING
    assert verdicts["leverage:BTC"] is Verdict.WARNING
    assert verdicts["key"] is Verdict.OK
    assert bench.paper.log("action") == []


async def test_the_command_judges_the_redis_of_a_bot_that_runs(bench: Bench) -> None:
    await bench.ready()
    url = bench.server.url.get_secret_value()
    async with bench.trading():
        await bench.begun()
        ours = await preflight(environ_of(bench, REDIS_URL=url, BOT_ID=BOT_ID), clock=bench.clock)
        other = await preflight(environ_of(bench, REDIS_URL=url, BOT_ID="another"), clock=bench.clock)

    assert ours.may_trade, ours.failures
    assert [each.name for each in other.failures] == ["identity"]


async def test_a_redis_that_is_away_is_a_failed_check(bench: Bench) -> None:
    report = await preflight(environ_of(bench, REDIS_URL="redis://127.0.0.1:1/0", BOT_ID=BOT_ID), clock=bench.clock)

    assert [each.name for each in report.failures] == ["redis"]


async def test_the_command_refuses_bad_settings_and_bad_keys_without_showing_the_key(bench: Bench) -> None:
    with pytest.raises(SettingsError):
        await preflight(environ_of(bench, HL_NETWORK="moon"), clock=bench.clock)
    with pytest.raises(SettingsError, match="HL_PRIVATE_KEY: must be a private key") as refused:
        await preflight(environ_of(bench, HL_PRIVATE_KEY="0x1234"), clock=bench.clock)

    assert "0x1234" not in str(refused.value)


async def test_the_last_preflight_is_kept_where_it_is_found_at_once(bench: Bench) -> None:
    await bench.ready()
    await write_share(bench.redis, 300)
    async with bench.trading():
        await bench.tick(60)  # so small a share comes in slowly
        await bench.begun()
        record = await told(bench)

    kept = await bench.redis.hgetall(Key.LATEST_PREFLIGHT)
    assert (kept["verdict"], json.loads(kept["checks"])) == (record.details["verdict"], record.details["checks"])
    [budget] = [each for each in record.details["checks"] if each["name"] == "ip_budget"]
    assert (budget["verdict"], budget["text"].split()[0]) == ("warning", "300"), "the share counts, not the setting"
