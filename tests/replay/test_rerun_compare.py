"""Equal means equal to the last bit, and a difference is named by the first field that differs."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tradingbot.replay.rerun.compare import ABSENT, first_difference, in_common

SCALARS = st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=3)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1, max_size=3), inner, max_size=3),
    max_leaves=12,
)


@given(TREES)
def test_a_tree_that_went_through_json_is_the_same(tree: Any) -> None:
    assert first_difference(tree, json.loads(json.dumps(tree))) is None


@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from((math.inf, -math.inf)))
def test_one_unit_in_the_last_place_is_a_difference(value: float, towards: float) -> None:
    other = math.nextafter(value, towards)
    found = first_difference({"w": [value]}, {"w": [other]})
    assert (found is None) == (other == value)
    assert found is None or (found.path, found.recorded, found.recomputed) == ("w.0", value, other)


def test_minus_zero_is_not_zero_nor_an_integer_a_float() -> None:
    assert first_difference(0.0, -0.0) is not None
    assert first_difference(1, 1.0) is not None
    assert first_difference(True, 1) is not None


@given(TREES, st.data())
def test_the_first_leaf_that_differs_is_the_one_that_is_named(tree: Any, data: st.DataObject) -> None:
    leaves = list(leaves_of(tree))
    if not leaves:
        return
    path = data.draw(st.sampled_from(leaves))
    other = put(copy.deepcopy(tree), path, "another")
    found = first_difference(tree, other)
    assert (found is None) == (other == tree)
    assert found is None or (found.path == ".".join(map(str, path)) and found.recomputed == "another")


def test_a_field_that_one_side_lacks_differs_and_is_named() -> None:
    found = first_difference({"a": 1, "b": 2}, {"a": 1})
    assert found is not None
    assert (found.path, found.recorded, found.recomputed) == ("b", 2, ABSENT)
    found = first_difference([{"symbol": "BTC", "qty": "1"}], [{"symbol": "BTC", "qty": "2"}])
    assert found is not None
    assert found.path == "0:BTC.qty"


def test_what_the_writer_of_a_record_did_not_know_yet_is_not_asked_for() -> None:
    assert in_common({"old": 1}, {"old": 1, "new": 2}, ("new", "old")) is None
    found = in_common({"old": 1, "gone": 2}, {"old": 1}, ("old", "gone"))
    assert found is not None
    assert (found.path, found.recomputed) == ("gone", ABSENT)


def leaves_of(tree: Any, path: tuple[Any, ...] = ()) -> Any:
    if isinstance(tree, dict | list):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from leaves_of(value, (*path, key))
    elif path:
        yield path


def put(tree: Any, path: tuple[Any, ...], value: Any) -> Any:
    inner = tree
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return tree
