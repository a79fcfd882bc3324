"""Half an hour of a real bot, recorded once and replayed against the code of today, to the last bit.

When this fails and the change of the step was meant, record it again: tests/replay/record_again.py.
"""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tradingbot.ai_decision import baseline, budgets, decide
from tradingbot.bus.names import Stream
from tradingbot.cli import app
from tradingbot.domain.modes import Mode
from tradingbot.execution import sizing
from tradingbot.market_data import features
from tradingbot.replay.archive import tables
from tradingbot.replay.archive.archive import Archive, Gap
from tradingbot.replay.archive.tables import RawEntry
from tradingbot.replay.rerun.rerun import Report, rerun
from tradingbot.replay.rerun.tape import load
from tradingbot.replay.rerun.verdicts import Found, Step
from tradingbot.risk_engine import limits

RECORDED = Path(__file__).parent / "recorded"


class Without:
    """The record with something missing or changed."""

    def __init__(self, *streams: Stream, before: str = "", tampered: bool = False) -> None:
        self._streams, self._before, self._tampered = streams, before, tampered

    def read(
        self, stream: str, *, cycles: tuple[str, str] | None = None, ids: Collection[str] | None = None
    ) -> Iterator[RawEntry]:
        for each in Archive(RECORDED).read(stream, cycles=cycles, ids=ids):
            if stream not in self._streams or (each.cycle_id or "") >= self._before > "":
                yield each
            elif self._tampered:
                yield replace(each, fields={"p": (each.payload or "") + " "})


@pytest.fixture(scope="module")
def report() -> Report:
    return rerun(load(Archive(RECORDED)))


def test_the_recorded_half_hour_comes_out_the_same_to_the_last_bit(report: Report) -> None:
    assert report.of(Found.DIFFERS) == ()
    assert report.of(Found.UNCHECKED) == ()
    counts = Counter(each.step for each in report.of(Found.EQUAL))
    assert report.cycles >= 30
    assert min(counts[step] for step in (Step.FEATURES, Step.DECISION, Step.APPROVAL)) >= 30
    assert counts[Step.PLAN] >= 20


def test_what_the_bot_did_not_do_is_understood(report: Report) -> None:
    reasons = " ".join(each.why for each in report.of(Found.NOT_TAKEN))
    assert "HALT by person: for the record" in reasons
    modes = {each.data.mode for each in load(Archive(RECORDED)).approved.values()}
    assert modes == {Mode.NORMAL, Mode.REDUCE_ONLY, Mode.HALT}


def test_a_part_of_the_record_is_replayed_with_what_it_looks_back_on(report: Report) -> None:
    cycles = sorted({each.cycle_id for each in report.verdicts})
    part = rerun(load(Archive(RECORDED), first=cycles[10], last=cycles[12]))
    assert [part.first, part.last, part.cycles] == [cycles[10], cycles[12], 3]
    assert part.verdicts == tuple(each for each in report.verdicts if cycles[10] <= each.cycle_id <= cycles[12])


@pytest.mark.parametrize(
    ("module", "name", "change", "step", "path"),
    [
        (features, "MINUTES_PER_YEAR", lambda was: was + 1, Step.FEATURES, "vol_1h.BTC"),
        (baseline, "FAST", lambda was: was + 1e-9, Step.DECISION, "audit.signals.BTC"),
        (budgets, "DEPLOYABLE", lambda was: was / 2, Step.DECISION, "audit.steps.strategy.BTC"),
        (decide, "PREVIOUS_COUNTS_FOR_CYCLES", lambda _: 0, Step.DECISION, "audit.steps.ewma.BTC"),
        (limits, "gross", lambda was: lambda held: math.nextafter(was(held), 9), Step.APPROVAL, "risk_summary.gross"),
        (sizing, "MIN_SLICE_USD", lambda was: 8 * was, Step.PLAN, "slices"),
    ],
)
def test_a_step_that_was_changed_is_found_and_its_first_field_named(
    monkeypatch: pytest.MonkeyPatch, module: object, name: str, change: Callable[[Any], Any], step: Step, path: str
) -> None:
    monkeypatch.setattr(module, name, change(getattr(module, name)))
    found = rerun(load(Archive(RECORDED))).of(Found.DIFFERS)
    assert {each.step for each in found} == {step}, "where it arises, and nowhere else"
    assert found[0].path.startswith(path)
    assert found[0].recorded != found[0].recomputed


INPUTS = [
    (Stream.SNAPSHOT, {Step.DECISION, Step.APPROVAL}, "snapshot"),
    (Stream.FEATURES, {Step.DECISION}, "features"),
    (Stream.TARGET, {Step.APPROVAL}, "target"),
    (Stream.APPROVED, {Step.PLAN}, "approved"),
]


@pytest.mark.parametrize(
    ("stream", "steps", "why"), [*INPUTS, (Stream.AUDIT, {Step.DECISION, Step.APPROVAL, Step.PLAN}, "audit record")]
)
def test_a_step_whose_input_is_missing_is_never_called_equal(stream: Stream, steps: set[Step], why: str) -> None:
    again = rerun(load(Without(stream)))
    assert again.of(Found.DIFFERS) == ()
    assert not [each for each in again.of(Found.EQUAL) if each.step in steps]
    assert any(why in each.why for each in again.of(Found.UNCHECKED) if each.step in steps)


@pytest.mark.parametrize(("stream", "steps", "why"), INPUTS)
def test_a_step_whose_input_is_another_than_it_names_differs(stream: Stream, steps: set[Step], why: str) -> None:
    again = rerun(load(Without(stream, tampered=True)))
    assert not again.equal
    assert not [each for each in again.of(Found.EQUAL) if each.step in steps]
    found = [each for each in again.of(Found.DIFFERS) if each.path == f"inputs.{why}_digest"]
    assert {each.step for each in found} == steps
    assert all(each.recorded != each.recomputed for each in found)


@pytest.mark.parametrize(
    ("stream", "path"),
    [
        (Stream.TARGET, ("targets", 0, "weight")),
        (Stream.TARGET, ("confidence",)),
        (Stream.APPROVED, ("approved_targets", 1, "weight")),
        (Stream.APPROVED, ("risk_summary", "turnover")),
        (Stream.FEATURES, ("vol_1h", "ETH")),
    ],
)
def test_one_bit_of_a_recorded_number_makes_the_command_fail_and_name_it(
    stream: Stream, path: tuple[str | int, ...], tmp_path: Path
) -> None:
    folder = shutil.copytree(RECORDED, tmp_path / "a")
    (part,) = (folder / stream).rglob("*.parquet")
    rows = list(Archive(folder).read(stream))
    message = json.loads(rows[12].payload or "")
    inner = message["data"]
    for each in path[:-1]:
        inner = inner[each]
    inner[path[-1]] = math.nextafter(inner[path[-1]], 9)
    rows[12] = replace(rows[12], fields={"p": json.dumps(message)})
    tables.write(part, rows)
    said = CliRunner().invoke(app, ["replay", "--archive", str(folder)])
    assert said.exit_code == 1
    named = ".".join(str(each) for each in path if isinstance(each, str))
    lines = [line for line in said.output.splitlines() if line.startswith("differs")]
    assert any(all(word in line for word in named.split(".")) for line in lines), lines


def test_a_record_that_begins_in_the_middle_says_what_it_cannot_check() -> None:
    cycles = load(Archive(RECORDED)).cycles
    again = rerun(load(Without(Stream.FEATURES, Stream.TARGET, before=cycles[5])))
    assert again.of(Found.DIFFERS) == ()
    assert any("hour of prices" in each.why for each in again.of(Found.UNCHECKED))
    assert any(f"the target of {cycles[4]}" in each.why for each in again.of(Found.UNCHECKED))


def test_the_command_tells_a_person_and_a_program() -> None:
    said = CliRunner().invoke(app, ["replay", "--archive", str(RECORDED)])
    assert said.exit_code == 0, said.output
    assert "cannot be checked" in said.output
    cycle = load(Archive(RECORDED)).cycles[3]
    told = CliRunner().invoke(app, ["replay", "--archive", str(RECORDED), "--cycle", cycle, "--json"])
    assert told.exit_code == 0
    assert [each["found"] for each in json.loads(told.output)["verdicts"]] == ["equal"] * 4


def test_the_command_fails_when_something_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "MINUTES_PER_YEAR", 525_601)
    said = CliRunner().invoke(app, ["replay", "--archive", str(RECORDED)])
    assert said.exit_code == 1
    assert "differs: features" in said.output
    assert "vol_1h.BTC" in said.output


def test_a_cycle_that_is_none_and_a_range_without_anything_are_no_success() -> None:
    cycles = load(Archive(RECORDED)).cycles
    there_is = f"not on the record, which holds cycles from {cycles[0]} to {cycles[-1]}"
    for arguments, why in (
        (["--cycle", "yesterday"], "no cycle's id"),
        (["--cycle", "19990101T0000Z"], f"19990101T0000Z: {there_is}"),
        (["--to", "19990101T0000Z"], f"the beginning to 19990101T0000Z: {there_is}"),
        (["--from", cycles[3], "--to", cycles[2]], "later than"),
        (["--cycle", cycles[3], "--to", cycles[4]], "give one of them"),
        (["--cost-bps", "3"], "only together with --with"),
    ):
        odd = CliRunner().invoke(app, ["replay", "--archive", str(RECORDED), *arguments])
        assert odd.exit_code != 0
        assert odd.output == "", "nothing that reads like a report"
        assert why in str(odd.exception)


def test_gaps_that_the_recorder_knows_of_are_told(tmp_path: Path) -> None:
    folder = shutil.copytree(RECORDED, tmp_path / "a")
    Archive(folder).add_gaps([Gap(stream=Stream.TARGET, after="5-0", before="9-0")])
    said = CliRunner().invoke(app, ["replay", "--archive", str(folder), "--json"])
    assert said.exit_code == 0
    assert "alpha.target: entries between 5-0 and 9-0 may be missing" in said.stderr
    assert json.loads(said.stdout)["cycles"] > 0
