"""The CRD is made from the models, says what they say, and holds nothing that an API server refuses."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from support.operator_specs import LITERALS, ROOT, body
from tradingbot_operator.crd import CRD_FILES, crd, crd_text, generated_files, schema, write
from tradingbot_operator.names import COMPONENTS, MAX_NAME_LENGTH, child, redis_claim
from tradingbot_operator.resource import InvalidSpec, parse
from tradingbot_operator.rules import RULES
from tradingbot_operator.spec import SpecModel, TradingBotSpec
from tradingbot_operator.status_model import TradingBotStatus
from tradingbot_operator.structural import NotStructuralError, structural_schema


@pytest.mark.parametrize("name", generated_files())
def test_a_generated_file_says_what_the_models_say(name: str) -> None:
    """`python -m tradingbot_operator.crd` was run after the models changed."""
    assert (ROOT / name).read_text(encoding="utf-8") == generated_files()[name]


def test_writing_again_changes_nothing(tmp_path: Any) -> None:
    """Only files that differ are written."""
    assert len(write(tmp_path)) == len(generated_files())
    assert write(tmp_path) == []


def test_the_chart_installs_the_very_same_crd() -> None:
    """One text, two places."""
    assert len({(ROOT / name).read_bytes() for name in CRD_FILES}) == 1


def test_the_file_holds_no_yaml_references() -> None:
    """Anchors are legal YAML and unreadable."""
    assert yaml.safe_load(crd_text()) == crd()
    assert "&id" not in crd_text()


def _nodes(node: dict[str, Any], path: str = "") -> Any:
    yield path, node
    for name, part in node.get("properties", {}).items():
        yield from _nodes(part, f"{path}.{name}")
    for name in ("items", "additionalProperties"):
        if isinstance(node.get(name), dict):
            yield from _nodes(node[name], f"{path}[]")


def test_every_node_of_the_schema_is_structural() -> None:
    """Each node has one type and none of the words that a structural schema may not have."""
    forbidden = {"$ref", "$defs", "anyOf", "allOf", "oneOf", "not", "title", "patternProperties", "propertyNames"}
    for path, node in _nodes(schema()):
        assert not forbidden & set(node), path
        assert "type" in node or node.get("x-kubernetes-int-or-string"), path
        assert node.get("additionalProperties") is not False, path


def test_every_text_list_and_map_has_a_largest_size() -> None:
    """Without it the cost of a rule cannot be bounded, and a resource may grow without end."""
    largest = {"string": "maxLength", "array": "maxItems"}
    for path, node in _nodes(schema()["properties"]["spec"]):
        wanted = largest.get(node.get("type", ""))
        if wanted and "enum" not in node:
            assert wanted in node, path
        if "additionalProperties" in node:
            assert "maxProperties" in node, path


def test_every_field_of_spec_and_status_is_described() -> None:
    """kubectl explain has something to say about each."""
    top = schema()["properties"]
    for part in ("spec", "status"):
        for path, node in _nodes(top[part], part):
            described = node.get("description") or path.endswith("[]") or ".resources." in path
            assert described, path


def test_defaults_are_whole_so_that_rules_can_read_them() -> None:
    """The API server checks rules against a default before it fills in the defaults within."""
    spec = schema()["properties"]["spec"]["properties"]
    for name in ("exchange", "ai", "risk", "execution", "redis"):
        own = {field: part["default"] for field, part in spec[name]["properties"].items() if "default" in part}
        assert spec[name]["default"] == own


def test_an_empty_spec_is_filled_in_as_the_models_do() -> None:
    """What the API server stores for `spec: {}` is what the models make of it."""
    filled = {
        name: part["default"]
        for name, part in schema()["properties"]["spec"]["properties"].items()
        if "default" in part
    }
    assert TradingBotSpec.model_validate(filled) == TradingBotSpec()


def test_the_status_has_a_subresource_and_conditions_merge_by_type() -> None:
    """Status writes do not raise the generation, and two writers of conditions do not undo one another."""
    version = crd()["spec"]["versions"][0]
    conditions = version["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]["conditions"]
    assert version["subresources"] == {"status": {}}
    assert conditions["x-kubernetes-list-type"] == "map"
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]


def test_the_columns_are_those_that_a_person_looks_for() -> None:
    """kubectl get tb, and its order."""
    columns = crd()["spec"]["versions"][0]["additionalPrinterColumns"]
    shown = [each["name"].upper() for each in columns if not each.get("priority")]
    assert shown == ["MODE", "APPLIED", "READY", "EQUITY", "NETWORK", "AGE"]


def test_every_column_reads_a_field_that_exists() -> None:
    """A column of a misspelt field is empty for ever."""
    for column in crd()["spec"]["versions"][0]["additionalPrinterColumns"]:
        path = column["jsonPath"].removeprefix(".").split(".")
        if path[0] == "metadata":
            continue
        node = schema()
        for name in path:
            node = node["properties"][name]
        assert node["type"] == "string", column["name"]


def test_every_rule_names_a_field_that_exists() -> None:
    """The API server refuses a CRD whose rule points nowhere."""
    for rule in RULES:
        node = schema()
        for name in filter(None, rule.path.split(".") if rule.at else ()):
            node = node["properties"][name]


@pytest.mark.parametrize("spec", LITERALS, ids=str)
def test_a_secret_as_a_literal_has_no_field_to_stand_in(spec: dict[str, Any]) -> None:
    """The schema knows references only, so a strict reader refuses a literal and a lenient one never sees it."""
    with pytest.raises(InvalidSpec):
        parse(body(spec), strict=True)
    kept = str(parse(body(spec)).spec)
    assert not any(secret in kept for secret in ("3333", "sk-1", "password"))


def test_the_longest_bot_name_leaves_room_for_its_pods() -> None:
    """A pod's name is its Deployment's, a dash, ten characters, a dash and five more; a label's value has 63."""
    for component in COMPONENTS:
        assert len(child("b" * MAX_NAME_LENGTH, component)) <= 63
        assert len(child("b" * MAX_NAME_LENGTH, component)) + 17 <= 253
    assert redis_claim("uid") != redis_claim("other")


def test_a_model_that_no_crd_can_say_is_refused_not_simplified() -> None:
    """Two types in one field have no structural form."""

    class Odd(SpecModel):
        value: int | str = 1

    with pytest.raises(NotStructuralError, match=r"Odd\.value"):
        structural_schema(Odd)


def test_the_status_model_reads_what_the_api_server_stores() -> None:
    """A status in its camelCase form is the model's."""
    kept = {"mode": {"desired": "HALT", "openOrders": 0}, "ready": "8/8", "portfolio": {"equityUsd": "10000.00"}}
    assert TradingBotStatus.model_validate(kept).mode is not None
