"""Drift: what differs from the rendered manifest is found; what the API server adds is not taken for it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tradingbot_operator.drift import drifted, stamped
from tradingbot_operator.names import RENDERED

NAMES = st.sampled_from(["image", "name", "replicas", "ports", "paused", "mode"])
LEAVES = st.one_of(st.integers(0, 9), st.booleans(), st.text("ab1", min_size=1, max_size=3))
VALUES = st.recursive(
    LEAVES,
    lambda below: st.one_of(
        st.lists(below, min_size=1, max_size=2), st.dictionaries(NAMES, below, min_size=1, max_size=3)
    ),
    max_leaves=8,
)
MANIFESTS = st.builds(
    lambda spec: {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "majors-x"}, "spec": spec},
    st.dictionaries(NAMES, VALUES, min_size=1, max_size=3),
)


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """The paths of all leaves."""
    if isinstance(value, dict):
        return [each for name, below in value.items() for each in places(below, (*path, name))]
    if isinstance(value, list):
        return [each for index, below in enumerate(value) for each in places(below, (*path, index))]
    return [path]


def with_additions(value: Any) -> Any:
    """As the API server gives it back: defaults beside every field."""
    if isinstance(value, dict):
        return {**{name: with_additions(below) for name, below in value.items()}, "defaulted": "by the API server"}
    if isinstance(value, list):
        return [with_additions(each) for each in value]
    return value


@settings(max_examples=50)
@given(MANIFESTS)
def test_what_the_api_server_adds_is_no_drift(manifest: dict[str, Any]) -> None:
    assert drifted(manifest, with_additions(manifest)) == []


@settings(max_examples=50)
@given(MANIFESTS, st.data())
def test_every_changed_or_missing_field_is_drift(manifest: dict[str, Any], data: st.DataObject) -> None:
    live = with_additions(copy.deepcopy(manifest))
    *parents, last = data.draw(st.sampled_from(places(manifest["spec"])))
    holder = live["spec"]
    for step in parents:
        holder = holder[step]
    if data.draw(st.booleans()):
        new = data.draw(LEAVES)
        assume(new != holder[last])
        holder[last] = new
    else:
        del holder[last]
    assert drifted(manifest, live)


@settings(max_examples=50)
@given(MANIFESTS)
def test_an_entry_too_many_in_a_list_is_drift(manifest: dict[str, Any]) -> None:
    manifest["spec"]["env"] = [{"name": "A", "value": "1"}]
    live = copy.deepcopy(manifest)
    live["spec"]["env"].append({"name": "B", "value": "2"})
    assert drifted(manifest, live) == ["spec.env"]


def test_a_key_too_many_is_drift_in_a_config_map_alone() -> None:
    wanted = {"kind": "ConfigMap", "metadata": {"labels": {"a": "1"}}, "data": {"mode": "HALT"}}
    live = {"kind": "ConfigMap", "metadata": {"labels": {"a": "1", "b": "2"}}, "data": {"mode": "HALT", "x": "y"}}
    assert drifted(wanted, live) == ["data.x"]


@pytest.mark.parametrize(
    ("wanted", "found"), [("1000m", "1"), ("0.5", "500m"), ("1Gi", "1024Mi"), (1, "1"), ("128Mi", "134217728")]
)
def test_one_amount_in_two_spellings_is_no_drift(wanted: Any, found: Any) -> None:
    manifest = {"kind": "Deployment", "spec": {"resources": {"limits": {"cpu": wanted}}}}
    live = {"kind": "Deployment", "spec": {"resources": {"limits": {"cpu": found}}}}
    assert drifted(manifest, live) == []
    as_text = ({"kind": "ConfigMap", "data": {"x": wanted}}, {"kind": "ConfigMap", "data": {"x": found}})
    assert drifted(*as_text) == ["data.x"], "only amounts are amounts"


@pytest.mark.parametrize("nothing", [None, [], {}])
def test_what_is_rendered_empty_may_be_left_out_by_the_api_server(nothing: Any) -> None:
    assert drifted({"kind": "NetworkPolicy", "spec": {"ingress": nothing}}, {"kind": "NetworkPolicy", "spec": {}}) == []


def test_a_rule_where_none_is_rendered_is_drift() -> None:
    wanted = {"kind": "NetworkPolicy", "spec": {"egress": []}}
    assert drifted(wanted, {"kind": "NetworkPolicy", "spec": {"egress": [{}]}}) == ["spec.egress"]


@settings(max_examples=50)
@given(MANIFESTS, MANIFESTS)
def test_the_stamp_tells_manifests_apart_and_depends_on_nothing_else(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    def stamp(manifest: dict[str, Any]) -> str:
        return stamped(manifest)["metadata"]["annotations"][RENDERED]

    assert (stamp(first) == stamp(second)) == (repr(first) == repr(second) or first == second)
    assert stamp(first) == stamp(stamped(first)) == stamp(dict(reversed(first.items())))
    assert drifted(first, stamped(first)) == []
