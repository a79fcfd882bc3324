"""Specs that the API server and the operator must refuse, each with the field and the words that say why."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
ACCOUNT = "0x" + "1a" * 20
OTHER = "0x" + "2b" * 20

Body = dict[str, Any]


def example(name: str = "tradingbot") -> Body:
    """A manifest of ``examples/``."""
    return yaml.safe_load((EXAMPLES / f"{name}.yaml").read_text(encoding="utf-8"))


def body(spec: Body | None = None, *, name: str = "majors", **metadata: Any) -> Body:
    """A resource with this spec, as a person writes it."""
    return {
        "apiVersion": "tradingbot.dev/v1alpha1",
        "kind": "TradingBot",
        "metadata": {"name": name, **metadata},
        "spec": copy.deepcopy(spec or {}),
    }


@dataclass(frozen=True)
class Refused:
    """One spec that is refused, by a rule between fields or by the schema."""

    name: str
    spec: Body
    path: str
    """The field that the refusal names."""
    says: str
    """Words of the API server's answer."""
    before: Body | None = None
    """The spec that is there already, where the refusal is one of a change."""
    bot: str = "majors"
    by_operator: bool = True
    """Whether the operator refuses it too (a rule about a change or a name is the API server's alone)."""

    def __str__(self) -> str:
        return self.name


def off_paper(network: str = "testnet", **more: Any) -> Body:
    """A spec's exchange on a real network."""
    return {"network": network, "accountAddress": ACCOUNT, "privateKeySecretRef": {"name": "agent"}, **more}


def keyed_model(endpoint: str, *, strategy: str = "llm") -> Body:
    """A spec's language model, with a key."""
    return {"strategy": strategy, "endpoint": endpoint, "model": "m", "apiKeySecretRef": {"name": "llm"}}


_ON_PAPER = "on network paper the operator makes the exchange"
_UID = "01234567-89ab-cdef-0123-456789abcdef"

RULES = (
    Refused("account-missing", {"exchange": {"network": "testnet", "privateKeySecretRef": {"name": "k"}}},
            "spec.exchange.accountAddress", "accountAddress is needed on testnet and mainnet"),
    Refused("key-missing", {"exchange": {"network": "mainnet", "accountAddress": ACCOUNT}},
            "spec.exchange.privateKeySecretRef", "privateKeySecretRef is needed on testnet and mainnet"),
    Refused("paper-settings-off-paper", {"exchange": off_paper(paper={"prices": "live"})},
            "spec.exchange.paper", "paper is for network paper alone"),
    Refused("account-on-paper", {"exchange": {"network": "paper", "accountAddress": ACCOUNT}},
            "spec.exchange", _ON_PAPER),
    Refused("key-on-paper", {"exchange": {"privateKeySecretRef": {"name": "k"}}}, "spec.exchange", _ON_PAPER),
    Refused("live-trading-on-paper", {"exchange": {"liveTrading": True}}, "spec.exchange", _ON_PAPER),
    Refused("half-of-the-urls", {"exchange": off_paper(httpUrl="http://x:1")},
            "spec.exchange.httpUrl", "httpUrl and wsUrl belong together"),
    Refused("mainnet-orders-without-live-trading", {"dryRun": False, "exchange": off_paper("mainnet")},
            "spec.exchange.liveTrading", "orders on mainnet need exchange.liveTrading: true"),
    Refused("cycle-too-short", {"execution": {"slices": 4}},
            "spec.execution.sliceIntervalSeconds", "the cycle is too short"),
    Refused("budget-too-long", {"ai": {"decisionBudgetSeconds": 20}},
            "spec.execution.sliceIntervalSeconds", "the cycle is too short"),
    Refused("cycle-does-not-divide-a-day", {"cycleSeconds": 420},
            "spec.cycleSeconds", "cycleSeconds must be a multiple of 60 that divides a day"),
    Refused("coin-twice", {"universe": ["BTC", "ETH", "BTC"]}, "spec.universe", "universe names a coin twice"),
    Refused("cap-above-gross", {"risk": {"caps": {"BTC": 0.5}}}, "spec.risk.caps", "no cap in caps may be above"),
    Refused("default-cap-above-gross", {"risk": {"defaultCap": 0.41}},
            "spec.risk.defaultCap", "defaultCap must not be above maxGross"),
    Refused("net-above-gross", {"risk": {"maxNet": 0.5}}, "spec.risk.maxNet", "maxNet must not be above maxGross"),
    Refused("halt-before-reduce-only", {"risk": {"drawdown": {"reduceOnly": 0.05}}},
            "spec.risk.drawdown.halt", "drawdown.halt must not be below drawdown.reduceOnly"),
    Refused("model-without-endpoint", {"ai": {"strategy": "llm", "model": "m"}},
            "spec.ai.endpoint", "endpoint is needed by the strategies llm and regime"),
    Refused("endpoint-without-model", {"ai": {"strategy": "regime", "endpoint": "http://m/v1"}},
            "spec.ai.model", "model is needed by the strategies llm and regime"),
    Refused("model-key-in-the-clear", {"ai": keyed_model("http://api.example.com/v1")},
            "spec.ai.endpoint", "endpoint is http:// at a public host"),
    Refused("plugin-key-in-the-clear", {"ai": keyed_model("http://8.8.8.8:8000/v1", strategy="plugin:mine")},
            "spec.ai.endpoint", "endpoint is http:// at a public host"),
    Refused("retain-of-another-redis", {"redis": {"retain": True, "urlSecretRef": {"name": "r"}}},
            "spec.redis.retain", "retain is for the bot's own Redis"),
    Refused("name-too-long", {}, "", "metadata.name must have at most 40 characters", bot="b" * 41, by_operator=False),
    Refused("name-begins-with-a-digit", {}, "", "begin with a letter", bot="1st", by_operator=False),
    Refused("name-with-a-dot", {}, "", "small letters, digits and dashes", bot="a.b", by_operator=False),
)  # fmt: skip
"""Refused when they are created."""

CHANGES = (
    Refused("network-changed", {"exchange": off_paper()}, "spec.exchange.network", "network cannot be changed",
            before={}, by_operator=False),
    Refused("account-changed", {"exchange": off_paper(accountAddress=OTHER)},
            "spec.exchange.accountAddress", "accountAddress cannot be changed",
            before={"exchange": off_paper()}, by_operator=False),
    Refused("vault-added", {"exchange": off_paper(vaultAddress=OTHER)},
            "spec.exchange.vaultAddress", "vaultAddress cannot be changed",
            before={"exchange": off_paper()}, by_operator=False),
    Refused("prices-changed", {"exchange": {"paper": {"prices": "synthetic:7"}}},
            "spec.exchange.paper.prices", "paper.prices cannot be changed", before={}, by_operator=False),
    Refused("start-equity-changed", {"exchange": {"paper": {"startEquityUsd": 5}}},
            "spec.exchange.paper.startEquityUsd", "paper.startEquityUsd cannot be changed",
            before={"exchange": {"paper": {}}}, by_operator=False),
    Refused("paper-storage-changed", {"exchange": {"paper": {"storage": "2Gi"}}},
            "spec.exchange.paper.storage", "paper.storage cannot be changed", before={}, by_operator=False),
    Refused("storage-changed", {"redis": {"storage": "2Gi"}}, "spec.redis.storage", "storage cannot be changed",
            before={}, by_operator=False),
    Refused("adopt-added", {"redis": {"adopt": _UID}}, "spec.redis.adopt", "adopt cannot be changed",
            before={}, by_operator=False),
    Refused("another-redis-added", {"redis": {"urlSecretRef": {"name": "r"}}},
            "spec.redis.urlSecretRef", "urlSecretRef cannot be added or removed", before={}, by_operator=False),
    Refused("another-redis-removed", {}, "spec.redis.urlSecretRef", "urlSecretRef cannot be added or removed",
            before={"redis": {"urlSecretRef": {"name": "r"}}}, by_operator=False),
)  # fmt: skip
"""Refused as changes of what is there."""

SCHEMA = (
    Refused("unknown-mode", {"mode": "STOP"}, "spec.mode", 'supported values: "NORMAL", "REDUCE_ONLY", "HALT"'),
    Refused("no-coins", {"universe": []}, "spec.universe", "should have at least 1 items"),
    Refused("odd-coin", {"universe": ["B T C"]}, "spec.universe", "should match"),
    Refused("odd-coin-in-caps", {"risk": {"caps": {"B T C": 0.1}}}, "spec.risk.caps", "caps has a name that no coin"),
    Refused("bad-address", {"exchange": off_paper(accountAddress="0x12")},
            "spec.exchange.accountAddress", "should match"),
    Refused("negative-cap", {"risk": {"defaultCap": -0.1}}, "spec.risk.defaultCap", "greater than or equal to 0"),
    Refused("no-gross", {"risk": {"maxGross": 0}}, "spec.risk.maxGross", "should be greater than 0"),
    Refused("too-many-slices", {"execution": {"slices": 21}}, "spec.execution.slices", "less than or equal to 20"),
    Refused("no-multiple-of-a-minute", {"cycleSeconds": 90}, "spec.cycleSeconds", "multiple of 60"),
    Refused("prices-from-a-file", {"exchange": {"paper": {"prices": "/etc/passwd"}}},
            "spec.exchange.paper.prices", "should match"),
    Refused("unknown-strategy", {"ai": {"strategy": "magic"}}, "spec.ai.strategy", "should match"),
    Refused("plugin-without-a-name", {"ai": {"strategy": "plugin:"}}, "spec.ai.strategy", "should match"),
    Refused("too-many-samples", {"ai": {"samples": 8}}, "spec.ai.samples", "less than or equal to 7"),
    Refused("password-in-a-url", {"ai": {"endpoint": "https://user:secret@model"}}, "spec.ai.endpoint", "should match"),
    Refused("unknown-policy", {"deletionPolicy": "Keep"}, "spec.deletionPolicy", 'supported values: "CancelOrders"'),
    Refused("adopt-is-no-uid", {"redis": {"adopt": "majors"}}, "spec.redis.adopt", "should match"),
    Refused("secret-without-a-name", {"redis": {"urlSecretRef": {"key": "url"}}},
            "spec.redis.urlSecretRef.name", "Required value"),
)  # fmt: skip
"""Refused by the schema alone."""

LITERALS = (
    {"exchange": {**off_paper(), "privateKey": "0x" + "33" * 32}},
    {"exchange": off_paper(privateKeySecretRef={"name": "k", "value": "0x" + "33" * 32})},
    {"ai": {"apiKey": "sk-1"}},
    {"redis": {"url": "redis://:password@host"}},
    {"redis": {"password": "secret"}},
)
"""Secrets as literals: there is no field to put them in."""


@dataclass(frozen=True)
class Accepted:
    """A change that must be allowed."""

    name: str
    before: Body
    after: Body = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


ALLOWED = (
    Accepted("paper-settings-said-aloud", {}, {"exchange": {"network": "paper", "paper": {"prices": "synthetic"}}}),
    Accepted("address-in-other-letters", {"exchange": off_paper()},
             {"exchange": off_paper(accountAddress="0x" + "1A" * 20)}),
    Accepted("key-rotated", {"exchange": off_paper()}, {"exchange": off_paper(privateKeySecretRef={"name": "new"})}),
    Accepted("halted", {}, {"mode": "HALT"}),
    Accepted("suspended", {}, {"suspend": True}),
    Accepted("limits-lowered", {}, {"risk": {"maxGross": 0.2, "maxNet": 0.1}}),
    Accepted("live-on-mainnet", {"exchange": off_paper("mainnet")},
             {"dryRun": False, "exchange": off_paper("mainnet", liveTrading=True)}),
    Accepted("redis-secret-rotated", {"redis": {"urlSecretRef": {"name": "a"}}},
             {"redis": {"urlSecretRef": {"name": "b", "key": "dsn"}}}),
    Accepted("strategy-changed", {}, {"ai": {"strategy": "inverse_vol"}}),
    Accepted("plugin", {}, {"ai": {"strategy": "plugin:my-own.v2"}}),
    Accepted("model", {}, {"ai": {"strategy": "llm", "endpoint": "https://api.example.com/v1", "model": "m",
                                  "apiKeySecretRef": {"name": "llm"}, "samples": 3, "temperature": 0.7}}),
    Accepted("model-key-in-the-cluster", {}, {"ai": keyed_model("http://model.ai.svc:8000/v1")}),
    Accepted("model-key-to-a-private-address", {}, {"ai": keyed_model("http://172.31.0.4:8000/v1", strategy="regime")}),
    Accepted("model-key-on-this-machine", {}, {"ai": keyed_model("http://[::1]:8000/v1")}),
    Accepted("model-that-nobody-asks", {}, {"ai": keyed_model("http://api.example.com/v1", strategy="baseline")}),
    Accepted("resources-said", {}, {"resources": {"execution": {"requests": {"cpu": 1, "memory": "64Mi"}}}}),
)  # fmt: skip
