"""Ownership: what others have set beside the operator's fields is found; what does no harm is not."""

from __future__ import annotations

from typing import Any

import pytest

from tradingbot_operator.ownership import foreign_fields, left_by_replace

CONTAINER = 'k:{"name":"x"}'
VARIABLE = 'k:{"name":"B"}'


def container(fields: dict[str, Any]) -> dict[str, Any]:
    return {"f:spec": {"f:template": {"f:spec": {"f:containers": {CONTAINER: fields}}}}}


OURS = {
    "manager": "tradingbot-operator",
    "operation": "Apply",
    "fieldsV1": {"f:spec": {"f:replicas": {}, **container({".": {}, "f:image": {}})["f:spec"]}},
}


def by(manager: str, fields: dict[str, Any], **rest: Any) -> dict[str, Any]:
    return {"manager": manager, "operation": "Update", "fieldsV1": fields, **rest}


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        (by("kubectl-edit", {"f:spec": {"f:paused": {}}}), ("spec.paused",)),
        (by("kubectl", {"f:spec": {"f:replicas": {}}}, subresource="scale"), ()),
        (by("kubectl", {"f:spec": {"f:minReadySeconds": {}}}, subresource="scale"), ("spec.minReadySeconds",)),
        (by("kubectl-patch", {"f:data": {"f:x": {}}}), ("data.x",)),
        (by("kubectl-patch", {"f:automountServiceAccountToken": {}}), ("automountServiceAccountToken",)),
        (by("kubectl", {"f:metadata": {"f:labels": {"f:team": {}}}}), ()),
        (
            by("kubectl-rollout", {"f:spec": {"f:template": {"f:metadata": {"f:annotations": {"f:restartedAt": {}}}}}}),
            (),
        ),
        (by("kube-controller-manager", {"f:spec": {"f:volumeName": {}}}), ()),
        (by("someone", {"f:status": {"f:replicas": {}}}, subresource="status"), ()),
        (by("tradingbot-operator", {"f:spec": {"f:paused": {}}}), ()),
    ],
)
def test_fields_of_the_content_that_others_alone_have_set_are_foreign(entry: dict[str, Any], found: tuple) -> None:
    assert foreign_fields([OURS, entry]) == found


def test_a_field_that_another_set_to_what_is_rendered_is_not_foreign() -> None:
    assert foreign_fields([OURS, by("kubectl", {"f:spec": {"f:replicas": {}}})]) == ()


def test_a_variable_beside_ours_is_foreign() -> None:
    added = container({"f:env": {".": {}, VARIABLE: {".": {}, "f:value": {}}}})
    (path,) = foreign_fields([OURS, by("kubectl-set", added)])
    assert path.endswith("value")


def test_only_entries_of_the_operators_own_replaces_are_left_overs() -> None:
    ours = by("tradingbot-operator", {"f:data": {}})
    status = by("tradingbot-operator", {"f:status": {}}, subresource="status")
    assert left_by_replace([OURS, ours, status, by("kubectl", {})]) == (ours,)
