"""The work queue: nothing that was added is lost, nothing runs twice at a time, a new event ends a back-off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from tradingbot.domain.errors import Permanent, Temporary
from tradingbot.runtime.clock import Ids, ManualClock
from tradingbot_operator.queue import Lane, LaneLimits, WorkQueue

SMALL = LaneLimits(workers=2, first_backoff_s=1.0, longest_backoff_s=8.0)
LIMITS = dict.fromkeys(Lane, SMALL)


@dataclass
class Bench:
    """A queue whose jobs end when the test says so."""

    clock: ManualClock
    queue: WorkQueue
    begun: list[tuple[Lane, str]] = field(default_factory=list)
    running: list[tuple[Lane, str]] = field(default_factory=list)
    together: int = 0
    errors: dict[str, BaseException] = field(default_factory=dict)
    held: dict[str, asyncio.Event] = field(default_factory=dict)

    def handler(self, lane: Lane) -> Callable:
        async def handle(key: str) -> None:
            assert (lane, key) not in self.running, "the same key twice at a time"
            self.begun.append((lane, key))
            self.running.append((lane, key))
            self.together = max(self.together, sum(each is lane for each, _ in self.running))
            try:
                if gate := self.held.get(key):
                    await gate.wait()
                if error := self.errors.get(key):
                    raise error
            finally:
                self.running.remove((lane, key))

        return handle

    def hold(self, key: str) -> asyncio.Event:
        self.held[key] = asyncio.Event()
        return self.held[key]

    async def settle(self) -> None:
        await self.clock.advance(0)

    async def wait(self, seconds: float) -> None:
        await self.settle()  # first what begins now, so that its waits count from now
        await self.clock.advance(seconds)

    def times(self, key: str, lane: Lane = Lane.CHILDREN) -> int:
        return self.begun.count((lane, key))


@asynccontextmanager
async def running_bench() -> AsyncIterator[Bench]:
    clock = ManualClock()
    bench = Bench(clock, WorkQueue(clock, Ids(7), LIMITS))
    task = asyncio.create_task(bench.queue.run({lane: bench.handler(lane) for lane in Lane}))
    await bench.settle()
    try:
        yield bench
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with running_bench() as each:
        yield each


async def test_a_key_that_is_added_often_is_worked_on_once(bench: Bench) -> None:
    for _ in range(5):
        bench.queue.add("a/b", Lane.CHILDREN)
    await bench.settle()
    assert bench.times("a/b") == 1


async def test_what_is_added_while_the_key_is_worked_on_is_worked_on_once_more(bench: Bench) -> None:
    gate = bench.hold("a/b")
    bench.queue.add("a/b", Lane.CHILDREN)
    await bench.settle()
    bench.queue.add("a/b", Lane.CHILDREN)
    bench.queue.add("a/b", Lane.CHILDREN)
    await bench.settle()
    assert bench.times("a/b") == 1
    gate.set()
    await bench.settle()
    assert bench.times("a/b") == 2
    assert bench.queue.idle(Lane.CHILDREN)


async def test_a_mode_never_waits_for_the_children_of_its_bot(bench: Bench) -> None:
    bench.hold("a/b")
    bench.queue.add("a/b", Lane.CHILDREN)
    await bench.settle()
    bench.held.clear()
    bench.queue.add("a/b", Lane.MODE)
    await bench.settle()
    assert bench.times("a/b", Lane.MODE) == 1


async def test_no_more_keys_than_workers_are_worked_on_at_a_time(bench: Bench) -> None:
    gates = [bench.hold(f"a/{number}") for number in range(5)]
    for number in range(5):
        bench.queue.add(f"a/{number}", Lane.CHILDREN)
    await bench.settle()
    assert (bench.together, bench.queue.depth(Lane.CHILDREN)) == (2, 3)
    for gate in gates:
        gate.set()
    await bench.settle()
    assert sorted(key for _, key in bench.begun) == [f"a/{number}" for number in range(5)]


async def test_a_new_event_does_not_wait_for_the_end_of_a_back_off(bench: Bench) -> None:
    bench.errors["a/b"] = Temporary("no", delay_s=8.0)
    bench.queue.add("a/b", Lane.CHILDREN)
    await bench.settle()
    await bench.wait(0.1)
    assert bench.times("a/b") == 1
    bench.queue.add("a/b", Lane.CHILDREN)
    await bench.settle()
    assert bench.times("a/b") == 2


@pytest.mark.parametrize("error", [Temporary("no"), Permanent("never"), RuntimeError("a fault of ours")])
async def test_whatever_fails_is_tried_again_ever_more_rarely_but_within_a_bound(
    bench: Bench, error: Exception
) -> None:
    bench.errors["a/b"] = error
    bench.queue.add("a/b", Lane.CHILDREN)
    await bench.wait(4.0)
    early = bench.times("a/b")
    await bench.wait(800.0)
    late = bench.times("a/b") - early
    assert 3 <= early <= 5
    assert 95 <= late <= 205, "each wait is between a half and the whole of 8 s"


async def test_an_error_that_asks_for_time_is_given_it(bench: Bench) -> None:
    bench.errors["a/b"] = Temporary("busy", delay_s=5.0)
    bench.queue.add("a/b", Lane.CHILDREN)
    await bench.wait(4.9)
    assert bench.times("a/b") == 1
    await bench.wait(0.2)
    assert bench.times("a/b") == 2


async def test_success_ends_the_back_off(bench: Bench) -> None:
    bench.errors["a/b"] = Temporary("no")
    bench.queue.add("a/b", Lane.CHILDREN)
    await bench.wait(30.0)
    del bench.errors["a/b"]
    await bench.wait(8.0)
    before = bench.times("a/b")
    await bench.wait(100.0)
    assert bench.times("a/b") == before
    bench.errors["a/b"] = Temporary("no")
    bench.queue.add("a/b", Lane.CHILDREN)
    await bench.wait(1.01)
    assert bench.times("a/b") == before + 2, "the first wait is the short one again"


async def test_of_planned_looks_the_earliest_counts_and_an_event_takes_their_place(bench: Bench) -> None:
    bench.queue.retry("a/b", Lane.MODE, 10.0)
    bench.queue.retry("a/b", Lane.MODE, 2.0)
    bench.queue.retry("a/b", Lane.MODE, 5.0)
    await bench.wait(1.9)
    assert bench.times("a/b", Lane.MODE) == 0
    await bench.wait(0.2)
    assert bench.times("a/b", Lane.MODE) == 1
    await bench.wait(20.0)
    assert bench.times("a/b", Lane.MODE) == 1
    bench.queue.retry("a/b", Lane.MODE, 5.0)
    bench.queue.add("a/b", Lane.MODE)
    await bench.wait(20.0)
    assert bench.times("a/b", Lane.MODE) == 2


async def test_a_look_planned_while_the_key_is_worked_on_is_not_lost(bench: Bench) -> None:
    gate = bench.hold("a/b")
    bench.queue.add("a/b", Lane.MODE)
    await bench.settle()
    bench.queue.retry("a/b", Lane.MODE, 1.0)
    await bench.wait(3.0)
    gate.set()
    await bench.settle()
    assert bench.times("a/b", Lane.MODE) == 2


async def test_a_job_that_another_cancelled_is_tried_again(bench: Bench) -> None:
    bench.errors["a/b"] = asyncio.CancelledError()
    bench.queue.add("a/b", Lane.MODE)
    await bench.settle()
    assert bench.times("a/b", Lane.MODE) == 1
    del bench.errors["a/b"]
    await bench.wait(1.0)
    assert bench.times("a/b", Lane.MODE) == 2
    assert bench.queue.oldest_dirty_s(Lane.MODE) == 0.0


async def test_what_failed_last_time_goes_after_what_did_not(bench: Bench) -> None:
    broken = [f"a/{number}" for number in range(6)]
    bench.errors.update(dict.fromkeys(broken, Temporary("Redis is away")))
    for key in broken:
        bench.queue.add(key, Lane.MODE)
    await bench.settle()
    gates = [bench.hold(key) for key in broken]
    bench.begun.clear()
    for key in broken:
        bench.queue.add(key, Lane.MODE)
    bench.queue.add("a/healthy", Lane.MODE)
    await bench.settle()
    assert bench.queue.depth(Lane.MODE) == 5
    for gate in gates:
        gate.set()
    await bench.settle()
    assert [key for _, key in bench.begun] == [*broken[:2], "a/healthy", *broken[2:]]


async def test_the_age_of_what_is_not_done_counts_from_the_first_event(bench: Bench) -> None:
    bench.errors["a/b"] = Temporary("no")
    bench.queue.add("a/b", Lane.CHILDREN)
    await bench.wait(20.0)
    bench.queue.add("a/b", Lane.CHILDREN)
    await bench.wait(20.0)
    assert bench.queue.oldest_dirty_s(Lane.CHILDREN) == pytest.approx(40.0)
    del bench.errors["a/b"]
    await bench.wait(8.0)
    assert bench.queue.oldest_dirty_s(Lane.CHILDREN) == 0.0


async def test_the_end_of_the_queue_ends_its_jobs() -> None:
    async with running_bench() as bench:
        bench.hold("a/b")
        bench.queue.add("a/b", Lane.MODE)
        await bench.settle()
        assert bench.running
    assert not bench.running


KEYS = st.sampled_from(["a/1", "a/2", "a/3", "a/4"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), KEYS),
        st.tuples(st.just("fail"), KEYS),
        st.tuples(st.just("mend"), KEYS),
        st.tuples(st.just("hold"), KEYS),
        st.tuples(st.just("free"), KEYS),
        st.tuples(st.just("wait"), st.sampled_from(["0.1", "1", "7"])),
    ),
    max_size=30,
)


@given(STEPS)
async def test_after_every_event_a_job_begins_that_can_see_it(steps: list[tuple[str, str]]) -> None:
    async with running_bench() as bench:
        owed: dict[str, int] = {}
        for what, subject in steps:
            if what == "add":
                bench.queue.add(subject, Lane.CHILDREN)
                owed[subject] = bench.times(subject) + 1
            elif what == "fail":
                bench.errors[subject] = Temporary("no")
            elif what == "mend":
                bench.errors.pop(subject, None)
            elif what == "hold":
                bench.held.setdefault(subject, asyncio.Event())
            elif what == "free" and subject in bench.held:
                bench.held.pop(subject).set()
            elif what == "wait":
                await bench.wait(float(subject))
        for gate in bench.held.values():
            gate.set()
        bench.held.clear()
        bench.errors.clear()
        await bench.wait(10.0)
        assert bench.queue.idle(Lane.CHILDREN)
        assert bench.together <= SMALL.workers
        for key, count in owed.items():
            assert bench.times(key) >= count
        assert bench.queue.oldest_dirty_s(Lane.CHILDREN) == 0.0
