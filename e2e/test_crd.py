"""The API server itself refuses what makes no sense, with a sentence that a person can act upon."""

from __future__ import annotations

import json
from typing import Any

import pytest

from harness.bot import Bot
from harness.specs import EXAMPLE, merged
from tradingbot_operator.rules import RULES

ACCOUNT = "0x" + "1a" * 20
TESTNET = merged(
    EXAMPLE,
    {
        "dryRun": None,
        "exchange": {
            "network": "testnet",
            "paper": None,
            "accountAddress": ACCOUNT,
            "privateKeySecretRef": {"name": "mine"},
        },
    },
)
NAME_MESSAGE = "metadata.name must have at most 40 characters"
ADOPTED = "0" * 8 + "-0000-0000-0000-" + "0" * 12

AT_CREATION: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "a mode that is none": (EXAMPLE, {"mode": "STOP"}, "spec.mode: Unsupported value"),
    "a misspelt field": (EXAMPLE, {"risk": {"maxGros": 1}}, 'unknown field "spec.risk.maxGros"'),
    "no coin": (EXAMPLE, {"universe": []}, "spec.universe"),
    "a coin twice": (EXAMPLE, {"universe": ["BTC", "BTC"]}, "universe names a coin twice"),
    "a cycle of 90 seconds": (EXAMPLE, {"cycleSeconds": 90}, "multiple of 60"),
    "a cycle that does not divide a day": (EXAMPLE, {"cycleSeconds": 420}, "divides a day"),
    "slices longer than the cycle": (EXAMPLE, {"execution": {"sliceIntervalSeconds": 30}}, "the cycle is too short"),
    "a budget longer than the cycle": (EXAMPLE, {"ai": {"decisionBudgetSeconds": 20}}, "the cycle is too short"),
    "mainnet orders without a word": (
        TESTNET,
        {"exchange": {"network": "mainnet"}, "dryRun": False},
        "liveTrading: true",
    ),
    "testnet without an account": (TESTNET, {"exchange": {"accountAddress": None}}, "accountAddress is needed"),
    "testnet without a key": (TESTNET, {"exchange": {"privateKeySecretRef": None}}, "privateKeySecretRef is needed"),
    "a literal secret": (TESTNET, {"exchange": {"privateKey": "0x" + "1" * 64}}, "unknown field"),
    "paper settings off paper": (TESTNET, {"exchange": {"paper": {}}}, "paper is for network paper alone"),
    "an account on paper": (EXAMPLE, {"exchange": {"accountAddress": ACCOUNT}}, "the operator makes the exchange"),
    "an address that is none": (TESTNET, {"exchange": {"accountAddress": "0x12"}}, "spec.exchange.accountAddress"),
    "one URL of two": (TESTNET, {"exchange": {"httpUrl": "http://x.y.svc"}}, "httpUrl and wsUrl belong together"),
    "a strategy that is none": (EXAMPLE, {"ai": {"strategy": "magic"}}, "spec.ai.strategy"),
    "a model nowhere": (EXAMPLE, {"ai": {"strategy": "llm", "model": "m"}}, "endpoint is needed by the strategies"),
    "a model without a name": (
        EXAMPLE,
        {"ai": {"strategy": "regime", "endpoint": "https://api.example.com/v1"}},
        "model is needed by the strategies",
    ),
    "a model's key in the clear": (
        EXAMPLE,
        {
            "ai": {
                "strategy": "llm",
                "endpoint": "http://api.example.com/v1",
                "model": "m",
                "apiKeySecretRef": {"name": "llm"},
            }
        },
        "endpoint is http:// at a public host",
    ),
    "net above gross": (EXAMPLE, {"risk": {"maxNet": 0.5}}, "maxNet must not be above maxGross"),
    "a cap of no coin": (EXAMPLE, {"risk": {"caps": {"B TC": 0.1}}}, "caps has a name that no coin has"),
    "a cap above gross": (EXAMPLE, {"risk": {"caps": {"BTC": 0.5}}}, "no cap in caps may be above maxGross"),
    "a default cap above gross": (EXAMPLE, {"risk": {"defaultCap": 0.5}}, "defaultCap must not be above maxGross"),
    "a halt before the restriction": (
        EXAMPLE,
        {"risk": {"drawdown": {"reduceOnly": 0.05}}},
        "drawdown.halt must not be below drawdown.reduceOnly",
    ),
    "a retained Redis of one's own": (
        EXAMPLE,
        {"redis": {"retain": True, "urlSecretRef": {"name": "mine"}}},
        "retain is for the bot's own Redis",
    ),
    "a URL instead of a Secret's name": (EXAMPLE, {"redis": {"url": "redis://:pw@x"}}, "unknown field"),
}

CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "another network": (
        EXAMPLE,
        {
            "dryRun": True,
            "exchange": {
                "network": "testnet",
                "paper": None,
                "accountAddress": ACCOUNT,
                "privateKeySecretRef": {"name": "k"},
            },
        },
        "network cannot be changed",
    ),
    "another account": (
        TESTNET,
        {"exchange": {"accountAddress": "0x" + "2b" * 20}},
        "accountAddress cannot be changed",
    ),
    "another vault": (TESTNET, {"exchange": {"vaultAddress": ACCOUNT}}, "vaultAddress cannot be changed"),
    "other prices": (EXAMPLE, {"exchange": {"paper": {"prices": "synthetic:9"}}}, "paper.prices cannot be changed"),
    "other money": (EXAMPLE, {"exchange": {"paper": {"startEquityUsd": 5}}}, "paper.startEquityUsd cannot be changed"),
    "another adopted bot": (EXAMPLE, {"redis": {"adopt": ADOPTED}}, "adopt cannot be changed"),
    "a Redis of one's own, later": (
        EXAMPLE,
        {"redis": {"urlSecretRef": {"name": "x"}}},
        "urlSecretRef cannot be added",
    ),
    "another volume": (EXAMPLE, {"redis": {"storage": "2Gi"}}, "storage cannot be changed"),
}


def refusal(bot: Bot, spec: dict[str, Any]) -> str:
    manifest = json.dumps(bot.manifest(spec))
    return bot.kubectl.refusal("apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=manifest)


@pytest.mark.parametrize("case", AT_CREATION)
def test_a_bad_spec_is_refused_with_a_readable_message(kubectl, namespace, case):
    base, change, message = AT_CREATION[case]
    said = refusal(Bot(kubectl, "refused", namespace), merged(base, change))
    assert message in said


def test_a_name_too_long_for_its_children_is_refused(kubectl, namespace):
    said = refusal(Bot(kubectl, "x" * 41, namespace), EXAMPLE)
    assert NAME_MESSAGE in said


@pytest.fixture(scope="module")
def standing(kubectl, unwatched):
    """Bots that no operator looks at: only the API server's word counts here."""
    bots = {"paper": Bot(kubectl, "standing-paper", unwatched), "testnet": Bot(kubectl, "standing-testnet", unwatched)}
    bots["paper"].create(EXAMPLE)
    bots["testnet"].create(TESTNET)
    return bots


@pytest.mark.parametrize("case", CHANGES)
def test_what_cannot_be_changed_is_refused_with_a_readable_message(standing, case):
    base, change, message = CHANGES[case]
    bot = standing[base["exchange"]["network"]]
    assert message in refusal(bot, merged(base, change))


def test_an_empty_spec_is_a_whole_bot_on_the_paper_exchange(kubectl, namespace):
    manifest = Bot(kubectl, "empty", namespace).manifest({})
    text = kubectl("apply", "--dry-run=server", "-f", "-", "-o", "json", stdin=json.dumps(manifest))
    spec = json.loads(text)["spec"]
    assert spec["mode"] == "NORMAL"
    assert spec["exchange"]["network"] == "paper"
    assert spec["risk"]["maxGross"] == 0.4
    assert spec["execution"]["slices"] == 3


def test_every_rule_of_the_resource_is_tried_here():
    tried = [message for _, _, message in (*AT_CREATION.values(), *CHANGES.values())] + [NAME_MESSAGE]
    untried = [rule.message for rule in RULES if not any(each in rule.message for each in tried)]
    assert untried == []
