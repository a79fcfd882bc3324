"""The recorder: every entry once and in order, whatever kills it; the loop's streams wait for it, but not for ever."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from support.servers import Server
from tradingbot.bus.client import connect
from tradingbot.bus.names import STREAMS, Key, Stream, dead_letter_stream
from tradingbot.bus.trim import ARCHIVE_COUNTS_MS, UNTIL_FIELD, trim_streams
from tradingbot.replay.archive import archive as archives
from tradingbot.replay.archive.archive import Archive, ArchiveError, Note
from tradingbot.replay.archive.parts import Part, in_order, name_of
from tradingbot.replay.archive.recorder import RECORDED, Recorder
from tradingbot.replay.archive.tables import DamagedPart, RawEntry
from tradingbot.runtime.clock import SystemClock
from tradingbot.runtime.process import ExitCode

IDENTITY = json.dumps({"bot_id": "b", "network": "paper", "account": "0x0"})
DEADLINE_S = 60.0


@pytest.fixture
async def redis(valkey: Redis) -> Redis:
    await valkey.set(Key.IDENTITY, IDENTITY)
    return valkey


def payload(number: int, *, cycle: str = "20260218T1600Z") -> str:
    return json.dumps({"env": {"cycle_id": cycle, "event_id": str(number)}, "data": {"n": number}})


async def say(redis: Redis, stream: str, numbers: Sequence[int]) -> None:
    for number in numbers:
        await redis.xadd(stream, {"p": payload(number)})


async def once(redis: Redis, folder: Path) -> Recorder:
    archive = Archive(folder)
    with archive.writing():
        recorder = Recorder(redis, archive, clock=SystemClock())
        await recorder.once()
    return recorder


async def on_the_bus(redis: Redis, stream: str) -> list[tuple[str, dict[str, str]]]:
    rows: Any = await redis.xrange(stream)
    return [(row_id, dict(fields)) for row_id, fields in rows]


def on_disk(folder: Path, stream: str) -> list[tuple[str, dict[str, str]]]:
    return [(each.id, dict(each.fields)) for each in Archive(folder).read(stream)]


async def test_every_entry_of_every_stream_is_kept_as_it_was_in_its_order(redis: Redis, tmp_path: Path) -> None:
    for stream in RECORDED:
        await say(redis, stream, range(20))
    await redis.xadd(Stream.ORDERS, {"p": "not json", "q": "and another field"})
    await redis.xadd(Stream.ORDERS, {"other": "no message"})
    await once(redis, tmp_path / "a")
    await say(redis, Stream.AUDIT, range(3))
    recorder = await once(redis, tmp_path / "a")

    assert recorder.recorded == 3
    for stream in RECORDED:
        assert on_disk(tmp_path / "a", stream) == await on_the_bus(redis, stream), stream
    assert set(RECORDED) == set(Stream) | {dead_letter_stream(each) for each in Stream if STREAMS[each].dead_letter}


async def test_many_small_files_become_one_and_nothing_changes(
    redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MERGE_FROM", 4)
    for number in range(11):
        await say(redis, Stream.AUDIT, [number])
        await once(redis, tmp_path)
    assert len(list(tmp_path.rglob("*.parquet"))) < 4
    assert on_disk(tmp_path, Stream.AUDIT) == await on_the_bus(redis, Stream.AUDIT)


async def test_what_a_kill_left_half_done_is_neither_read_nor_kept(redis: Redis, tmp_path: Path) -> None:
    """Between the merged file and the deletion of its parts; and in the middle of a file."""
    await say(redis, Stream.AUDIT, range(3))
    await once(redis, tmp_path)
    rows = list(Archive(tmp_path).read(Stream.AUDIT))
    (whole,) = tmp_path.rglob("*.parquet")
    archives.tables.write(whole.parent / name_of(rows[0].id, rows[1].id), rows[:2])
    archives.tables.write(whole.parent / name_of(rows[2].id, rows[2].id), rows[2:])
    half = whole.with_name(name_of("9-0", "9-9") + ".writing")
    half.write_bytes(b"PAR1")

    assert [each.id for each in Archive(tmp_path).read(Stream.AUDIT)] == [each.id for each in rows]
    await once(redis, tmp_path)
    assert list(whole.parent.iterdir()) == [whole]


@settings(max_examples=60)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=12), st.data())
def test_parts_that_a_merged_one_covers_never_count(sizes: list[int], data: st.DataObject) -> None:
    bounds = [sum(sizes[:n]) for n in range(len(sizes) + 1)]
    parts = [Part(Path(), f"{low + 1}-0", f"{high}-0") for low, high in itertools.pairwise(bounds)]
    first = data.draw(st.integers(0, len(parts) - 1))
    last = data.draw(st.integers(first, len(parts) - 1))
    merged = Part(Path("merged"), parts[first].first, parts[last].last)
    gone = data.draw(st.integers(first, last + 1))
    kept, _ = in_order(data.draw(st.permutations([merged, *parts[:first], *parts[gone:]])))
    held = [number for part in kept for number in range(part.span[0][0], part.span[1][0] + 1)]
    assert held == list(range(1, bounds[-1] + 1))


def record_process(
    server: Server, folder: Path, *arguments: str, largest_file: int = resource.RLIM_INFINITY
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tradingbot", "record", "--to", str(folder), *arguments]
    environ = {**os.environ, "REDIS_URL": server.url.get_secret_value()}
    process = subprocess.Popen(command, cwd=folder.parent, env=environ, stderr=subprocess.PIPE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (largest_file, largest_file))
    return process


async def until_recorded(redis: Redis, folder: Path, stream: str, process: subprocess.Popen[bytes]) -> None:
    """Until the newest entry of now is on the disk."""
    (newest, _), *_ = await redis.xrevrange(stream, count=1)
    end_s = time.monotonic() + DEADLINE_S
    while Archive(folder).position(stream) < newest:
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < end_s, "it records nothing"
        await asyncio.sleep(0.02)


async def test_a_recorder_that_is_killed_again_and_again_loses_nothing_and_doubles_nothing(
    redis: Redis, valkey_server: Server, tmp_path: Path
) -> None:
    folder, number = tmp_path / "a", 0
    for _ in range(3):
        process = record_process(valkey_server, folder, "--every", "0.1")
        while number % 40 or not number:
            await say(redis, Stream.AUDIT, [number])
            number += 1
        await until_recorded(redis, folder, Stream.AUDIT, process)
        await say(redis, Stream.AUDIT, range(number, number + 20))
        number += 21
        process.send_signal(signal.SIGKILL)
        process.communicate()

    await redis.delete(Key.ARCHIVE_POSITION)
    last = record_process(valkey_server, folder, "--every", "3600")
    await say(redis, Stream.EVENTS, range(5))
    end_s = time.monotonic() + DEADLINE_S
    while not await redis.hexists(Key.ARCHIVE_POSITION, Stream.EVENTS) and time.monotonic() < end_s:
        await asyncio.sleep(0.02)
    last.send_signal(signal.SIGINT)
    _, said = last.communicate(timeout=DEADLINE_S)
    assert last.returncode == 0, said
    for stream in (Stream.AUDIT, Stream.EVENTS):
        assert on_disk(folder, stream) == await on_the_bus(redis, stream)


async def test_streams_wait_for_a_living_recorder_and_not_for_a_dead_one(redis: Redis, tmp_path: Path) -> None:
    seconds, _ = await redis.time()
    old_ms = (seconds - 2 * 86_400) * 1000
    await redis.xadd(Stream.EVENTS, {"p": payload(1)}, id=f"{old_ms}-1")
    await once(redis, tmp_path)
    await redis.xadd(Stream.EVENTS, {"p": payload(2)}, id=f"{old_ms}-2")

    await trim_streams(redis)
    assert [row_id for row_id, _ in await on_the_bus(redis, Stream.EVENTS)] == [f"{old_ms}-1", f"{old_ms}-2"]
    until_ms = int(await redis.hget(Key.ARCHIVE_POSITION, UNTIL_FIELD))  # type: ignore[misc]
    assert 0 <= until_ms - seconds * 1000 - ARCHIVE_COUNTS_MS <= 60_000
    await redis.hset(Key.ARCHIVE_POSITION, UNTIL_FIELD, str(seconds * 1000 - 1))  # type: ignore[misc]
    await trim_streams(redis)
    assert await on_the_bus(redis, Stream.EVENTS) == []


async def test_entries_that_went_before_they_were_recorded_are_told_as_a_gap(redis: Redis, tmp_path: Path) -> None:
    await say(redis, Stream.AUDIT, [1])
    await once(redis, tmp_path)
    ((written, _),) = await on_the_bus(redis, Stream.AUDIT)
    await say(redis, Stream.AUDIT, [2, 3])
    await redis.xtrim(Stream.AUDIT, maxlen=1, approximate=False)
    ((left, _),) = await on_the_bus(redis, Stream.AUDIT)
    await once(redis, tmp_path)
    assert gaps_of(tmp_path) == [(Stream.AUDIT, written, left)]


def gaps_of(folder: Path) -> list[tuple[str, str, str]]:
    note = Archive(folder).note()
    assert note is not None
    return [(each.stream, each.after, each.before) for each in note.gaps]


async def test_entries_that_go_while_a_recorder_is_held_up_are_told_too(redis: Redis, tmp_path: Path) -> None:
    stop, archive, told = asyncio.Event(), Archive(tmp_path), list[str]()
    with archive.writing():
        recorder = Recorder(redis, archive, clock=SystemClock(), flush_s=0.05, tell=told.append)
        task = asyncio.create_task(recorder.run(stop))
        await say(redis, Stream.AUDIT, [1])
        await until(lambda: recorder.recorded == 1)
        async with redis.pipeline(transaction=True) as pipe:  # between two reads, as a hard MAXLEN would
            for number in (2, 3):
                pipe.xadd(Stream.AUDIT, {"p": payload(number)})
            pipe.xtrim(Stream.AUDIT, maxlen=1, approximate=False)
            await pipe.execute()
        await say(redis, Stream.EVENTS, [1, 2])
        await until(lambda: recorder.recorded == 4)
        stop.set()
        await task
    first, left = (row_id for row_id, _ in on_disk(tmp_path, Stream.AUDIT))
    assert gaps_of(tmp_path) == [(Stream.AUDIT, first, left)]
    assert [each.partition(":")[0] for each in told] == [Stream.AUDIT]


async def test_a_spoilt_file_does_not_keep_a_recorder_from_recording_and_merging(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    an_archive(tmp_path, parts=4)
    spoilt = min(tmp_path.rglob("*.parquet"))
    spoilt.write_bytes(spoilt.read_bytes()[:-9])
    monkeypatch.setattr(archives, "MERGE_FROM", 4)
    archive = Archive(tmp_path)
    for number in range(90, 99):
        archive.append(Stream.TARGET, [RawEntry(f"{number}-0", {"p": payload(number)})])
    assert archive.position(Stream.TARGET) == "98-0"
    assert len(list(tmp_path.rglob("*.parquet"))) < 9
    with pytest.raises(DamagedPart, match=spoilt.name):
        list(archive.read(Stream.TARGET))
    spoilt.unlink()
    assert [each.id for each in archive.read(Stream.TARGET)][-9:] == [f"{number}-0" for number in range(90, 99)]


async def test_a_disk_that_is_full_is_a_failure_to_try_again_and_no_refusal(
    redis: Redis, valkey_server: Server, tmp_path: Path
) -> None:
    """`up` ends the bot when a child refuses; one that fails is started again, and then nothing is missing."""
    await say(redis, Stream.AUDIT, range(2000))
    full = record_process(valkey_server, tmp_path / "a", "--once", largest_file=4096)
    _, said = full.communicate(timeout=DEADLINE_S)
    assert full.returncode == ExitCode.FAILED, said
    assert b"kept on the streams" in said
    assert on_disk(tmp_path / "a", Stream.AUDIT) == []
    again = record_process(valkey_server, tmp_path / "a", "--once")
    _, said = again.communicate(timeout=DEADLINE_S)
    assert again.returncode == ExitCode.DONE, said
    assert on_disk(tmp_path / "a", Stream.AUDIT) == await on_the_bus(redis, Stream.AUDIT)
    assert not list(tmp_path.rglob("*.writing"))


async def test_an_archive_is_one_bots_and_one_recorders(redis: Redis, tmp_path: Path) -> None:
    await once(redis, tmp_path)
    archive = Archive(tmp_path)
    with archive.writing(), pytest.raises(ArchiveError, match="another `tradingbot record` writes here"):
        await once(redis, tmp_path)
    await redis.set(Key.IDENTITY, IDENTITY.replace('"b"', '"c"'))
    with pytest.raises(ArchiveError, match="the record of bot b on paper, not of c"):
        await once(redis, tmp_path)


async def test_reading_a_range_of_cycles_leaves_the_others_out(tmp_path: Path) -> None:
    entries = [RawEntry(f"{n}-0", {"p": payload(n, cycle=f"20260218T16{n:02}Z")}) for n in range(1, 30)]
    Archive(tmp_path).append(Stream.TARGET, entries)
    found = Archive(tmp_path).read(Stream.TARGET, cycles=("20260218T1605Z", "20260218T1607Z"))
    assert [each.id for each in found] == ["5-0", "6-0", "7-0"]
    assert [each.id for each in Archive(tmp_path).read(Stream.TARGET, ids={"9-0", "77-0"})] == ["9-0"]


def an_archive(folder: Path, *, parts: int = 3, each: int = 4) -> list[str]:
    """A record of a stream in small files; returns its ids."""
    archive = Archive(folder)
    folder.mkdir(exist_ok=True)
    archive.claim(Note(bot_id="b", network="paper", account="0x0"))
    rows = [RawEntry(f"{number}-0", {"p": payload(number)}) for number in range(1, parts * each + 1)]
    for first in range(0, len(rows), each):
        archive.append(Stream.TARGET, rows[first : first + each])
    return [row.id for row in rows]


def test_a_reader_misses_and_doubles_nothing_while_files_are_merged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recorder merges at each point at which the reader may be."""
    for seen in range(13):
        folder = tmp_path / str(seen)
        ids = an_archive(folder)
        reading = Archive(folder).read(Stream.TARGET)
        begun = [next(reading).id for _ in range(seen)]
        with monkeypatch.context() as patched:
            patched.setattr(archives, "MERGE_FROM", 2)
            Archive(folder).append(Stream.TARGET, [RawEntry("99-0", {"p": payload(99)})])
        assert len(list(folder.rglob("*.parquet"))) == 1
        assert [each for each in begun + [each.id for each in reading] if each != "99-0"] == ids


@pytest.mark.parametrize("spoil", [lambda whole: whole[: len(whole) // 2], lambda _: b"", lambda _: b"PAR1" * 9])
def test_a_file_that_was_spoilt_is_named_and_never_read_as_if_it_were_whole(
    tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    an_archive(tmp_path)
    _, spoilt, _ = sorted(tmp_path.rglob("*.parquet"))
    spoilt.write_bytes(spoil(spoilt.read_bytes()))
    with pytest.raises(DamagedPart, match=re.escape(f"{spoilt}: damaged")):
        list(Archive(tmp_path).read(Stream.TARGET))


def test_a_flipped_bit_in_the_rows_of_a_file_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    an_archive(tmp_path, parts=1)
    (path,) = tmp_path.rglob("*.parquet")
    whole, rows = path.read_bytes(), list(Archive(tmp_path).read(Stream.TARGET))
    footer = int.from_bytes(whole[-8:-4], "little") + 8
    noticed = 0
    for place in range(0, len(whole) - footer, 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        try:
            assert list(Archive(tmp_path).read(Stream.TARGET)) == rows, place
        except DamagedPart:
            noticed += 1
    assert noticed


def test_a_folder_that_is_no_record_says_what_it_is(tmp_path: Path) -> None:
    an_archive(tmp_path / "a")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "folder.json").write_text("{}")
    (tmp_path / "tomorrow").mkdir()
    (tmp_path / "tomorrow" / archives.NOTE).write_text(
        Note(format=2, bot_id="b", network="n", account="").model_dump_json()
    )
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / archives.NOTE).write_text('{"format"')
    for name, why in (
        ("nowhere", "no such folder"),
        ("a/alpha.target", "a part of the record .*/a; name that"),
        ("data", "a bot's data folder"),
        ("tomorrow", "format 2; this version reads 1"),
        ("torn", "cannot be read"),
        (".", "no record here"),
    ):
        with pytest.raises(ArchiveError, match=why):
            Archive.existing(tmp_path / name)


async def test_an_outage_of_redis_only_makes_the_recorder_late(durable_server: Server, tmp_path: Path) -> None:
    stop, archive, told = asyncio.Event(), Archive(tmp_path), list[str]()
    async with connect(durable_server.url, client_name="test") as redis:
        await redis.set(Key.IDENTITY, IDENTITY)
        await say(redis, Stream.AUDIT, [0])
    async with connect(durable_server.url, client_name="recorder") as own:
        with archive.writing():
            recorder = Recorder(own, archive, clock=SystemClock(), flush_s=0.05, tell=told.append)
            task = asyncio.create_task(recorder.run(stop))
            await until(lambda: recorder.recorded == 1)
            durable_server.kill()
            await until(lambda: told)
            durable_server.start()
            async with connect(durable_server.url, client_name="test") as redis:
                await say(redis, Stream.AUDIT, [1])
                await until(lambda: recorder.recorded == 2)
                stop.set()
                await task
                assert on_disk(tmp_path, Stream.AUDIT) == await on_the_bus(redis, Stream.AUDIT)
    assert [each.partition(":")[0] for each in told] == ["waiting for Redis"]


async def until(look: Callable[[], object]) -> None:
    end_s = time.monotonic() + DEADLINE_S
    while not look():
        assert time.monotonic() < end_s
        await asyncio.sleep(0.02)
