"""What this version cannot read of a record is counted and named, and is never taken for equal."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tradingbot.bus.names import Stream, dead_letter_stream
from tradingbot.cli import app
from tradingbot.domain.cycles import from_ms
from tradingbot.domain.envelope import message
from tradingbot.domain.messages import DeadLetter
from tradingbot.replay.archive import tables
from tradingbot.replay.archive.archive import Archive
from tradingbot.replay.archive.tables import RawEntry
from tradingbot.replay.rerun.change import Change
from tradingbot.replay.rerun.rerun import rerun
from tradingbot.replay.rerun.tape import load
from tradingbot.replay.rerun.verdicts import Found, Step
from tradingbot.replay.rerun.whatif import what_if

RECORDED = Path(__file__).parent / "recorded"
CYCLES = load(Archive(RECORDED)).cycles
MIDDLE = CYCLES[12]

Spoils = Callable[[dict[str, Any]], None]


def of_tomorrow(message: dict[str, Any]) -> None:
    message["env"]["schema_version"] = "2.0"


def without_cycle(message: dict[str, Any]) -> None:
    del message["env"]["cycle_id"]


class Spoilt:
    """The record with entries that this version cannot read: those of a cycle, or all."""

    def __init__(self, *streams: Stream, cycle: str = "", spoils: Spoils = of_tomorrow, letters: bool = False) -> None:
        self._streams, self._cycle, self._spoils, self._letters = streams, cycle, spoils, letters

    def read(
        self, stream: str, *, cycles: tuple[str, str] | None = None, ids: Collection[str] | None = None
    ) -> Iterator[RawEntry]:
        for each in Archive(RECORDED).read(stream, cycles=cycles, ids=ids):
            yield self._spoilt(each) if stream in self._streams and self._cycle in ("", each.cycle_id) else each
        for put_aside in self._streams if self._letters else ():
            if stream == dead_letter_stream(put_aside):
                yield from (letter(put_aside, each.id) for each in Archive(RECORDED).read(put_aside))

    def _spoilt(self, entry: RawEntry) -> RawEntry:
        told = json.loads(entry.payload or "")
        self._spoils(told)
        return replace(entry, fields={"p": json.dumps(told)})


def letter(stream: Stream, entry_id: str) -> RawEntry:
    told = DeadLetter(
        stream=stream,
        group="g",
        entry_id=entry_id,
        payload="",
        reason="?",
        error_type="InvalidMessage",
        retry_count=0,
        failed_at=from_ms(0),
    )
    made = message(told, bot_id="b", stream=stream, source="s", cycle_id=MIDDLE, key=entry_id, now_ms=0)
    return RawEntry(entry_id, {"p": made.model_dump_json()})


def spoilt_folder(folder: Path, stream: Stream, *, spoils: Spoils = of_tomorrow) -> str:
    """A copy of the record whose entry of the middle cycle cannot be read; its id."""
    shutil.copytree(RECORDED, folder)
    (part,) = (folder / stream).rglob("*.parquet")
    rows = list(Archive(folder).read(stream))
    place = next(n for n, each in enumerate(rows) if each.cycle_id == MIDDLE)
    told = json.loads(rows[place].payload or "")
    spoils(told)
    rows[place] = replace(rows[place], fields={"p": json.dumps(told)})
    tables.write(part, rows)
    return rows[place].id


@pytest.mark.parametrize(
    ("stream", "steps"),
    [
        (Stream.FEATURES, {Step.FEATURES, Step.DECISION}),
        (Stream.TARGET, {Step.DECISION, Step.APPROVAL}),
        (Stream.APPROVED, {Step.APPROVAL, Step.PLAN}),
        (Stream.PLAN, {Step.PLAN}),
        (Stream.SNAPSHOT, {Step.DECISION, Step.APPROVAL}),
        (Stream.AUDIT, {Step.DECISION}),
    ],
)
def test_a_step_that_needs_what_cannot_be_read_is_never_called_equal_or_not_taken(
    stream: Stream, steps: set[Step]
) -> None:
    again = rerun(load(Spoilt(stream, cycle=MIDDLE)))
    assert not again.equal
    assert {each.step for each in again.of(Found.UNREAD)} == steps
    assert again.of(Found.DIFFERS) == again.of(Found.UNCHECKED) == ()
    (told,) = again.unread
    assert (told.stream, told.why) == (stream, "env.schema_version: Input should be '1.0'")
    assert len([each for each in again.verdicts if each.cycle_id == MIDDLE]) == len(Step), "each step once"


def test_a_stream_that_cannot_be_read_at_all_is_counted_whole_and_its_cycles_are_not_lost() -> None:
    steps = (Stream.FEATURES, Stream.TARGET, Stream.APPROVED, Stream.PLAN)
    again = rerun(load(Spoilt(*steps)))
    assert again.cycles == len(CYCLES)
    assert {each.found for each in again.verdicts} == {Found.UNREAD, Found.NOT_TAKEN}, "the audit says why not"
    assert len(again.of(Found.NOT_TAKEN)) < 10
    counted = {each.stream: each.entries for each in again.unread}
    assert counted == {stream: len(list(Archive(RECORDED).read(stream))) for stream in steps}


@pytest.mark.parametrize("stream", [Stream.FEATURES, Stream.TARGET, Stream.APPROVED, Stream.PLAN])
def test_the_command_fails_and_names_stream_entry_and_reason(stream: Stream, tmp_path: Path) -> None:
    spoilt_id = spoilt_folder(tmp_path / "a", stream)
    said = CliRunner().invoke(app, ["replay", "--archive", str(tmp_path / "a")])
    assert said.exit_code == 1, said.output
    line = (
        f"cannot be read by this version: 1 of {stream}, first {spoilt_id}: env.schema_version: Input should be '1.0'"
    )
    assert line in said.output.splitlines()
    told = CliRunner().invoke(app, ["replay", "--archive", str(tmp_path / "a"), "--json"])
    assert [each["first_id"] for each in json.loads(told.output)["unread"]] == [spoilt_id]


def test_an_entry_that_does_not_even_name_its_cycle_is_counted(tmp_path: Path) -> None:
    spoilt_id = spoilt_folder(tmp_path / "a", Stream.TARGET, spoils=without_cycle)
    said = CliRunner().invoke(app, ["replay", "--archive", str(tmp_path / "a"), "--cycle", CYCLES[3]])
    assert said.exit_code == 1
    assert f"1 of alpha.target, first {spoilt_id}: env.cycle_id: Field required" in said.output


def test_parameters_that_cannot_be_read_are_told_and_no_crash() -> None:
    def other_values(message: dict[str, Any]) -> None:
        message["data"]["details"].get("values", {})["risk"] = {"max_gross": "much"}

    again = rerun(load(Spoilt(Stream.AUDIT, spoils=other_values)))
    assert {each.step for each in again.of(Found.UNREAD)} == {Step.DECISION, Step.APPROVAL, Step.PLAN}
    assert again.unread[0].why.startswith("values.risk.max_gross")


def test_what_lies_outside_the_cycles_that_were_asked_for_is_told_and_does_not_decide() -> None:
    again = rerun(load(Spoilt(Stream.AUDIT, cycle=CYCLES[1]), first=CYCLES[20], last=CYCLES[21]))
    assert again.equal
    assert [(each.stream, each.to_compare) for each in again.unread] == [(Stream.AUDIT, 0)]
    assert again.unread[0].entries > 0


def test_what_the_bot_could_not_read_either_was_a_dead_letter_and_is_not_held_against_this_version() -> None:
    again = rerun(load(Spoilt(Stream.APPROVED, cycle=MIDDLE, letters=True)))
    assert again.unread == ()
    assert not rerun(load(Spoilt(Stream.APPROVED, cycle=MIDDLE))).equal, "without the letter it is"


def test_a_what_if_says_what_it_had_to_leave_out() -> None:
    source = Spoilt(Stream.TARGET, Stream.REPORTS, cycle=MIDDLE)
    found = what_if(source, load(source), Change())
    assert {each.stream for each in found.unread} == {Stream.TARGET, Stream.REPORTS}
    assert found.left_out == 1, "the one that smooths from it"
    lines = list(found.lines())
    assert any("1 more cannot be told" in line for line in lines)
    assert any(line.startswith("cannot be read by this version: 1 of alpha.target") for line in lines)


def test_a_what_if_begins_with_the_first_decision_whose_inputs_are_there() -> None:
    source = Spoilt(Stream.FEATURES, cycle=next(iter(load(Archive(RECORDED)).plans)))
    assert what_if(source, load(source), Change()).with_recorded.decisions > 20
