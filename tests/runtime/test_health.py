"""Health over HTTP, in the loop that it reports on."""

from __future__ import annotations

import httpx
import pytest

from support.servers import free_port
from tradingbot.runtime import metrics
from tradingbot.runtime.clock import ManualClock
from tradingbot.runtime.health import Health, respond, serve


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def test_a_service_is_alive_while_its_loops_beat_in_time(clock: ManualClock) -> None:
    health = Health(clock)
    health.beat("poll", max_age_s=10)
    await clock.advance(9)

    assert respond(health, b"GET /healthz HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 200 ")

    await clock.advance(2)

    assert health.late() == {"poll": 11.0}
    assert respond(health, b"GET /healthz HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 503 ")


async def test_nobody_is_late_while_all_wait_for_what_they_need(clock: ManualClock) -> None:
    health = Health(clock)
    health.beat("poll", max_age_s=10)
    health.pause()
    await clock.advance(1_000)
    assert health.late() == {}

    health.resume()
    await clock.advance(9)
    assert health.late() == {}
    await clock.advance(2)
    assert health.late() == {"poll": 11.0}


async def test_a_loop_that_has_ended_owes_no_heartbeat(clock: ManualClock) -> None:
    health = Health(clock)
    health.beat("poll", max_age_s=10)
    health.forget("poll")
    await clock.advance(1_000)

    assert health.late() == {}


def test_a_service_is_not_ready_until_it_says_so(clock: ManualClock) -> None:
    health = Health(clock)

    assert respond(health, b"GET /readyz HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 503 ")

    health.ready(True)

    assert respond(health, b"GET /readyz HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("head", "status"), [(b"POST /healthz HTTP/1.1", b"405"), (b"GET /key HTTP/1.1", b"404"), (b"", b"405")]
)
def test_anything_else_is_refused(clock: ManualClock, head: bytes, status: bytes) -> None:
    assert respond(Health(clock), head).startswith(b"HTTP/1.1 " + status)


async def test_the_metrics_of_the_process_are_served(clock: ManualClock) -> None:
    metrics.dead_letters.labels(stream="alpha.target").inc()

    async with (
        serve(Health(clock), host="127.0.0.1", port=free_port()) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http,
    ):
        answer = await http.get("/metrics")

    assert answer.status_code == 200
    assert 'dead_letters_total{stream="alpha.target"}' in answer.text


async def test_port_0_serves_nothing(clock: ManualClock) -> None:
    async with serve(Health(clock), host="127.0.0.1", port=0) as port:
        assert port == 0
