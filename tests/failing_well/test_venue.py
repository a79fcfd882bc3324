"""The venue slow, 429, 5xx, an answer lost: reads are tried again a bounded number of times, writes never blindly.

Each final failure is in the audit log. What the client does with a single request is in tests/venue; here whole
services meet the trouble.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from failing_well.ensemble import Ensemble, ensemble, ticked
from support.execution_bench import Bench, check_invariants, execution_bench
from support.scripted import CLOSE, HANG, Answer, http, patience, scripted_venue
from support.servers import Server
from tradingbot.bus.names import Stream
from tradingbot.domain.messages import FeatureSnapshot1m, StateSnapshot
from tradingbot.execution.sending import TRIES
from tradingbot.portfolio_state import service as portfolio_state
from tradingbot.venue import exchange
from tradingbot.venue.http import open_http, post_write

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
async def bot(valkey: Redis, valkey_server: Server) -> AsyncIterator[Ensemble]:
    async with ensemble(valkey, valkey_server, speed=60) as bot:
        await bot.params()
        yield bot


@pytest.fixture
async def bench(valkey: Redis, valkey_server: Server) -> AsyncIterator[Bench]:
    async with execution_bench(valkey, valkey_server) as bench:
        yield bench


# -------------------------------------------------------------------- reads


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (http(429, "null"), "429"),
        (http(502, "<html>bad gateway</html>", content_type="text/html"), "502"),
        (http(200, "<html>maintenance</html>", content_type="text/html"), "not JSON"),
        (CLOSE, "RemoteProtocolError"),
        (HANG, "ReadTimeout"),
    ],
    ids=["429", "502", "html", "closed", "slow"],
)
async def test_a_read_that_keeps_failing_ends_in_the_audit_log(
    bot: Ensemble, monkeypatch: pytest.MonkeyPatch, answer: Answer, told: str
) -> None:
    monkeypatch.setattr(portfolio_state, "open_http", partial(open_http, timeout=patience(answer)))
    async with scripted_venue(answer) as venue:
        bot.environ["HL_HTTP_URL"] = venue.http_url
        async with bot.running("portfolio_state"):
            (record, *_) = await bot.until(lambda: bot.audits("reconcile_failed"), "the failure in the audit log")
            asked = len(venue.requests)
            rounds = len(await bot.audits("reconcile_failed"))

    assert told in record.details["error"]
    # One more may be on its way: the next round begins a few real milliseconds later.
    assert portfolio_state.READ_ATTEMPTS <= asked <= portfolio_state.READ_ATTEMPTS * (rounds + 1), "tries are bounded"
    assert await bot.redis.xlen(Stream.SNAPSHOT) == 0, "nothing is said of an account that was never seen"


@pytest.mark.parametrize(
    "fault",
    [{"kind": "rate_limit"}, {"kind": "server_error"}, {"kind": "drop_after"}, {"kind": "drop_before"}],
    ids=lambda fault: fault["kind"],
)
async def test_reads_come_back_by_themselves_when_the_venue_does(bot: Ensemble, fault: dict[str, Any]) -> None:
    async with bot.running("market_data", "portfolio_state"):
        await bot.until(bot.snapshot, "a first snapshot")
        bot.paper.faults({**fault, "path": "/info"})
        await bot.until(lambda: bot.audits("reconcile_failed"), "the failure in the audit log")
        marked = await bot.until(lambda: newest_snapshot(bot, ok=False), "a snapshot that says so")
        minute = await bot.until(lambda: minute_without(bot, "BTC"), "a minute that leaves the coins out")
        bot.paper.clear_faults()
        await bot.until(lambda: bot.audits("reconcile_recovered"), "the recovery in the audit log")
        await bot.until(lambda: newest_snapshot(bot, ok=True), "a good snapshot")
        await bot.until(lambda: minute_with(bot, "BTC"), "a minute with prices")
        told = [each for each in await bot.audits("md.features.1m") if "allMids" in str(each.details)]

    assert marked.health.last_reconcile_ts is not None, "the last good one stays the last good one"
    assert minute.mid_px == {}
    assert told, "the minute's record names what failed"


async def newest_snapshot(bot: Ensemble, *, ok: bool) -> StateSnapshot | None:
    found = await bot.newest(Stream.SNAPSHOT, StateSnapshot)
    return found if found and found.health.reconcile_ok is ok else None


async def minute_without(bot: Ensemble, symbol: str) -> FeatureSnapshot1m | None:
    found = await bot.newest(Stream.FEATURES, FeatureSnapshot1m)
    return found if found and symbol not in found.mid_px else None


async def minute_with(bot: Ensemble, symbol: str) -> bool:
    found = await bot.newest(Stream.FEATURES, FeatureSnapshot1m)
    return bool(found) and symbol in found.mid_px


async def test_what_execution_cannot_read_of_the_venue_is_in_the_audit_log(bench: Bench) -> None:
    await bench.ready()
    async with bench.trading():
        await bench.begun()
        bench.paper.faults({"kind": "server_error", "path": "/info"})
        await bench.tick(12)
        (record, *_) = await bench.until(lambda: bench.audits("venue_not_read"))
        bench.paper.clear_faults()

    assert "502" in record.details["error"]


# -------------------------------------------------------------------- writes


@pytest.mark.parametrize(
    ("fault", "ends"),
    [
        ({"kind": "drop_after"}, {"FILLED"}),
        ({"kind": "server_error_after"}, {"FILLED"}),
        ({"kind": "drop_before"}, {"absent"}),
        ({"kind": "server_error"}, {"absent"}),
        ({"kind": "rate_limit"}, {"CANCELED"}),
    ],
    ids=lambda each: each["kind"] if isinstance(each, dict) else "",
)
async def test_a_write_is_sent_again_only_as_the_same_bytes_and_its_end_is_in_the_audit_log(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, fault: dict[str, Any], ends: set[str]
) -> None:
    heard = heard_orders(monkeypatch)
    await bench.ready(twap_slices=1, replace_once=False)
    async with bench.trading():
        await bench.begun()
        await bench.next_cycle()
        bench.paper.faults({**fault, "path": "/exchange", "type": "order"})
        await bench.approve(BTC=0.12)
        (summary, *_) = await ticked(bench, lambda: bench.audits("exec.reports"))
        bench.paper.clear_faults()

    assert 1 <= len(heard) <= TRIES, "tries are bounded"
    assert len(set(heard)) == 1, "the same bytes: the same nonce, the same signature"
    found = {*summary.details["outcomes"], *summary.details["errors"]}
    assert ends <= found, summary.details
    await check_invariants(bench)


def heard_orders(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The bytes of every order request that leaves, whatever becomes of it."""
    heard: list[bytes] = []

    async def overheard(http: httpx.AsyncClient, body: bytes, what: str, **options: Any) -> Any:
        if json.loads(body)["action"]["type"] == "order":
            heard.append(body)
        return await post_write(http, body, what, **options)

    monkeypatch.setattr(exchange, "post_write", overheard)
    return heard
