"""The strictest source counts, and what is absent counts as the design says."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from tradingbot.domain.modes import Mode, ModeSource, effective_mode, strictest

NORMAL = {"mode": "NORMAL"}
modes = st.sampled_from(Mode)


def ask(**sources):
    return effective_mode(**{"spec": NORMAL, "breaker": NORMAL, "person": {}, **sources})


@given(modes, modes, modes)
def test_the_effective_mode_is_the_strictest_of_the_three(spec, breaker, person):
    found = ask(spec={"mode": spec}, breaker={"mode": breaker}, person={"mode": person})

    assert found.mode is strictest(spec, breaker, person)
    named = {ModeSource.SPEC: spec, ModeSource.BREAKER: breaker, ModeSource.PERSON: person}
    assert named[found.source] is found.mode


def test_an_absent_breaker_is_a_halt():
    found = ask(breaker={})

    assert (found.mode, found.source) == (Mode.HALT, ModeSource.BREAKER)
    assert found.reason


def test_an_absent_spec_is_what_the_mode_file_says_and_else_normal():
    assert ask(spec={}).mode is Mode.NORMAL
    assert ask(spec={}, file_mode=Mode.REDUCE_ONLY).mode is Mode.REDUCE_ONLY
    assert ask(spec=NORMAL, file_mode=Mode.HALT).mode is Mode.NORMAL


def test_an_absent_person_restricts_nothing():
    assert ask().mode is Mode.NORMAL


@pytest.mark.parametrize(("generation", "mode"), [("4", Mode.HALT), ("5", Mode.NORMAL), ("6", Mode.NORMAL)])
def test_a_persons_mode_may_end_with_a_generation_of_the_spec(generation, mode):
    person = {"mode": "HALT", "until_generation": "5"}

    assert ask(spec={"mode": "NORMAL", "generation": generation}, person=person).mode is mode


def test_a_persons_mode_without_an_end_counts_through_every_generation():
    for until in ("", "soon"):
        person = {"mode": "HALT", "until_generation": until}
        assert ask(spec={"mode": "NORMAL", "generation": "99"}, person=person).mode is Mode.HALT


def test_lifting_one_source_leaves_the_others():
    assert ask(breaker={"mode": "HALT"}, person={"mode": "NORMAL"}).source is ModeSource.BREAKER


def test_a_word_that_is_no_mode_is_a_halt():
    assert ask(person={"mode": "PAUSE"}).mode is Mode.HALT
    assert ask(breaker={"mode": ""}).mode is Mode.HALT
    assert ask(breaker={"reason": "half written"}).mode is Mode.HALT


def test_nothing_at_all_is_normal():
    assert strictest() is Mode.NORMAL
    assert Mode.NORMAL.rank < Mode.REDUCE_ONLY.rank < Mode.HALT.rank
