"""The cache: the newest is kept, little of it, and nothing that is gone comes back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradingbot_operator.cache import Cache, ChildId, key_of
from tradingbot_operator.names import API_VERSION, KIND, LABEL_BOT


def body(
    kind: str = "ConfigMap", *, version: int = 1, uid: str = "u1", name: str = "majors-config", **rest: Any
) -> dict:
    metadata = {
        "namespace": "bots", "name": name, "uid": uid, "resourceVersion": str(version), "labels": {LABEL_BOT: "majors"}
    }  # fmt: skip
    return {
        "apiVersion": API_VERSION if kind == KIND else "v1",
        "kind": kind,
        "metadata": metadata | rest.pop("metadata", {}),
        **rest,
    }


ID = ChildId("v1", "ConfigMap", "majors-config")


@given(st.permutations([1, 2, 9, 10, 100]))
def test_whatever_the_order_the_newest_is_kept(versions: list[int]) -> None:
    cache = Cache()
    newest = 0
    for version in versions:
        assert cache.store(body(version=version)) == (version > newest)
        newest = max(newest, version)
    assert cache.children("bots/majors")[ID].live["metadata"]["resourceVersion"] == "100"


def test_the_late_answer_to_a_write_does_not_bring_back_what_has_gone() -> None:
    cache = Cache()
    cache.store(body(version=1))
    assert cache.remove(body(version=3))
    assert not cache.store(body(version=2))
    assert not cache.children("bots/majors")
    assert cache.store(body(version=4)), "a label that was taken away and given back"
    assert cache.store(body(version=5, uid="u2")), "another one of the name"


def test_the_end_of_an_earlier_object_is_not_the_end_of_the_one_that_took_its_name() -> None:
    cache = Cache()
    cache.store(body(version=5, uid="u2"))
    assert not cache.remove(body(version=4, uid="u1"))
    assert ID in cache.children("bots/majors")


@pytest.mark.parametrize(
    ("metadata", "key"),
    [
        ({}, "bots/majors"),
        ({"labels": {}}, "bots/"),
        ({"labels": {LABEL_BOT: "x"}, "ownerReferences": [{"kind": KIND, "name": "majors", "controller": True}]},
         "bots/majors"),
        ({"ownerReferences": [{"kind": "ReplicaSet", "name": "r", "controller": True}]}, "bots/majors"),
    ],
)  # fmt: skip
def test_a_child_belongs_to_its_owner_else_to_the_bot_of_its_label(metadata: dict[str, Any], key: str) -> None:
    assert key_of(body(metadata=metadata)) == key


def test_only_what_decisions_need_is_kept() -> None:
    cache = Cache()
    applied = "kubectl.kubernetes.io/last-applied-configuration"
    managed = [{"manager": "kubectl-edit", "operation": "Update", "fieldsV1": {"f:data": {"f:x": {}}}}]
    cache.store(body(metadata={"managedFields": managed, "annotations": {applied: "{}", "mine": "1"}}, data={"x": "1"}))
    child = cache.children("bots/majors")[ID]
    assert child.live["metadata"]["annotations"] == {"mine": "1"}
    assert "managedFields" not in child.live["metadata"]
    assert child.foreign == ("data.x",)
    cache.store(body("Pod", name="majors-x-1", spec={"containers": ["big"]}, status={"phase": "Running", "podIP": "1"}))
    (pod,) = cache.pods("bots/majors")
    assert "spec" not in pod
    assert pod["status"] == {"phase": "Running"}


def test_nothing_is_left_of_a_bot_that_has_gone() -> None:
    cache = Cache()
    cache.store(body(KIND, name="majors"))
    cache.store(body())
    cache.store(body("Pod", name="majors-x-1"))
    assert (len(cache), len(list(cache.objects("v1", "ConfigMap", "bots"))), len(cache.pods("bots/majors"))) == (
        1,
        1,
        1,
    )
    for each in (body(KIND, name="majors"), body(), body("Pod", name="majors-x-1")):
        assert cache.remove(each)
    assert (len(cache), cache.keys(), cache.children("bots/majors"), cache.pods("bots/majors")) == (0, (), {}, ())
    assert not cache._families
