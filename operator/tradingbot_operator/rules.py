"""Rules between fields: each as the API server checks it (CEL) and as the operator does (Python), with one message.

Transition rules ("cannot be changed") have no Python half: only the API server sees the old object.

A rule hangs as deep as it can: the API server passes over the rules of a part that a change leaves alone, so that a
rule that a new version adds cannot refuse the HALT of a bot that was there before. Rules at ``spec`` itself are
checked with every change of the mode: none may be tightened.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from tradingbot.domain.static import Network
from tradingbot_operator.names import MAX_NAME_LENGTH
from tradingbot_operator.spec import COIN, RedisSpec, TradingBotSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule. ``at`` is the schema it hangs on (``""`` the resource, ``spec``, ``spec.risk``, …)."""

    at: str
    cel: str
    message: str
    path: str
    """The field that a person has to change."""
    holds: Callable[[TradingBotSpec], bool] | None = None
    """The same for the operator; None where the API server alone can tell."""
    required: bool = False
    """Whether it says that a field is missing, rather than that it is forbidden."""

    @property
    def field(self) -> str:
        """The field below ``at``, as ``fieldPath`` names it; empty where it is ``at`` itself or the name."""
        inner = self.path.removeprefix(self.at) if self.at else ""
        return inner if inner.startswith(".") else ""


def _off_paper(spec: TradingBotSpec) -> bool:
    return spec.exchange.network is not Network.PAPER


def _cycle_has_room(spec: TradingBotSpec) -> bool:
    slices = spec.execution
    needed = spec.ai.decision_budget_seconds + (slices.slices - 1) * slices.slice_interval_seconds
    return needed < spec.cycle_seconds


def _keeps_the_model_key(spec: TradingBotSpec) -> bool:
    ai = spec.ai
    if not ai.may_ask or ai.api_key_secret_ref is None or ai.endpoint is None:
        return True
    return re.fullmatch(KEEPS_A_KEY, ai.endpoint) is not None


def _own_redis_fields_unused(redis: RedisSpec) -> bool:
    return redis.url_secret_ref is None or not redis.retain


def _unchanged(field: str, *, absent: str | None = None) -> str:
    """CEL: an optional field stays as it is, also when it is absent; ``absent`` is what its absence means."""
    if absent is not None:
        return f"(has(self.{field}) ? self.{field} : {absent}) == (has(oldSelf.{field}) ? oldSelf.{field} : {absent})"
    return f"has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})"


_NAME = "^[a-z]([-a-z0-9]*[a-z0-9])?$"
_BYTE = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_INSIDE = (
    r"[A-Za-z][A-Za-z0-9_-]*\.?",
    r"([A-Za-z0-9_-]+\.)+svc(\.cluster\.local)?\.?",
    rf"(10|127)(\.{_BYTE}){{3}}",
    rf"(192\.168|169\.254|172\.(1[6-9]|2[0-9]|3[01]))(\.{_BYTE}){{2}}",
    r"\[(::1|(f[cd][0-9a-f]|fe[89ab])[0-9a-f]:[0-9a-f:]*)\]",
)
"""Hosts of this machine, its cluster and private networks; ai_decision's own check says the same of any address."""
KEEPS_A_KEY = rf"^(https://.*|http://({'|'.join(_INSIDE)})(:[0-9]+)?([/?#].*)?)$"
"""URLs on whose way nobody else reads a key; for CEL and Python alike."""
_SECONDS = "self.ai.decisionBudgetSeconds + (self.execution.slices - 1) * self.execution.sliceIntervalSeconds"

_RESOURCE = (
    Rule(
        at="",
        cel=f"size(self.metadata.name) <= {MAX_NAME_LENGTH} && self.metadata.name.matches('{_NAME}')",
        message=f"metadata.name must have at most {MAX_NAME_LENGTH} characters, begin with a letter and hold only "
        "small letters, digits and dashes: the names of the bot's pods and Services begin with it",
        path="metadata.name",
    ),
)

_SPEC = (
    Rule(
        at="spec.universe",
        cel="self.all(coin, self.exists_one(other, other == coin))",
        message="universe names a coin twice",
        path="spec.universe",
        holds=lambda spec: len(set(spec.universe)) == len(spec.universe),
    ),
    Rule(
        at="spec.cycleSeconds",
        cel="86400 % self == 0",
        message="cycleSeconds must be a multiple of 60 that divides a day (60, 120, 300, 600, 3600, ...), so that "
        "cycles start at the same minutes every day",
        path="spec.cycleSeconds",
        holds=lambda spec: 86_400 % spec.cycle_seconds == 0,
    ),
    Rule(
        at="spec",
        cel=f"{_SECONDS} < self.cycleSeconds",
        message="the cycle is too short: ai.decisionBudgetSeconds + (execution.slices - 1) * "
        "execution.sliceIntervalSeconds must be below cycleSeconds",
        path="spec.execution.sliceIntervalSeconds",
        holds=_cycle_has_room,
    ),
    Rule(
        at="spec",
        cel="self.exchange.network != 'mainnet' || !has(self.dryRun) || self.dryRun || self.exchange.liveTrading",
        message="orders on mainnet need exchange.liveTrading: true; without it only dryRun: true is allowed",
        path="spec.exchange.liveTrading",
        holds=lambda spec: (
            spec.exchange.network is not Network.MAINNET or spec.dry_run is not False or spec.exchange.live_trading
        ),
    ),
)

_EXCHANGE = (
    Rule(
        at="spec.exchange",
        cel="self.network == 'paper' || has(self.accountAddress)",
        message="accountAddress is needed on testnet and mainnet: the account that is traded",
        path="spec.exchange.accountAddress",
        required=True,
        holds=lambda spec: not _off_paper(spec) or spec.exchange.account_address is not None,
    ),
    Rule(
        at="spec.exchange",
        cel="self.network == 'paper' || has(self.privateKeySecretRef)",
        message="privateKeySecretRef is needed on testnet and mainnet: the Secret with an API wallet's private key",
        path="spec.exchange.privateKeySecretRef",
        required=True,
        holds=lambda spec: not _off_paper(spec) or spec.exchange.private_key_secret_ref is not None,
    ),
    Rule(
        at="spec.exchange",
        cel="self.network == 'paper' || !has(self.paper)",
        message="paper is for network paper alone",
        path="spec.exchange.paper",
        holds=lambda spec: not _off_paper(spec) or spec.exchange.paper is None,
    ),
    Rule(
        at="spec.exchange",
        cel="self.network != 'paper' || (!has(self.accountAddress) && !has(self.privateKeySecretRef) && "
        "!has(self.vaultAddress) && !self.liveTrading && !has(self.httpUrl) && !has(self.wsUrl))",
        message="on network paper the operator makes the exchange, the account and its key: leave out accountAddress, "
        "privateKeySecretRef, vaultAddress, liveTrading, httpUrl and wsUrl",
        path="spec.exchange",
        holds=lambda spec: (
            _off_paper(spec)
            or (
                spec.exchange.account_address is None
                and spec.exchange.private_key_secret_ref is None
                and spec.exchange.vault_address is None
                and not spec.exchange.live_trading
                and spec.exchange.http_url is None
                and spec.exchange.ws_url is None
            )
        ),
    ),
    Rule(
        at="spec.exchange",
        cel="self.network == oldSelf.network",
        message="network cannot be changed: delete this bot and create another",
        path="spec.exchange.network",
    ),
    Rule(
        at="spec.exchange",
        cel="(has(self.accountAddress) ? self.accountAddress.lowerAscii() : '') == "
        "(has(oldSelf.accountAddress) ? oldSelf.accountAddress.lowerAscii() : '')",
        message="accountAddress cannot be changed: delete this bot and create another",
        path="spec.exchange.accountAddress",
    ),
    Rule(
        at="spec.exchange",
        cel="(has(self.vaultAddress) ? self.vaultAddress.lowerAscii() : '') == "
        "(has(oldSelf.vaultAddress) ? oldSelf.vaultAddress.lowerAscii() : '')",
        message="vaultAddress cannot be changed: delete this bot and create another",
        path="spec.exchange.vaultAddress",
    ),
    Rule(
        at="spec.exchange",
        cel="has(self.httpUrl) == has(self.wsUrl)",
        message="httpUrl and wsUrl belong together: give both or neither",
        path="spec.exchange.httpUrl",
        holds=lambda spec: (spec.exchange.http_url is None) == (spec.exchange.ws_url is None),
    ),
    *(
        Rule(
            at="spec.exchange",
            cel=f"(has(self.paper) ? self.paper.{field} : {default}) == "
            f"(has(oldSelf.paper) ? oldSelf.paper.{field} : {default})",
            message=f"paper.{field} cannot be changed: the exchange keeps its state; delete this bot and create "
            "another",
            path=f"spec.exchange.paper.{field}",
        )
        for field, default in (("prices", "'synthetic'"), ("startEquityUsd", "10000.0"), ("storage", "'1Gi'"))
    ),
)

_AI = (
    Rule(
        at="spec.ai",
        cel="!(self.strategy in ['llm', 'regime']) || has(self.endpoint)",
        message="endpoint is needed by the strategies llm and regime: the language model's API",
        path="spec.ai.endpoint",
        required=True,
        holds=lambda spec: not spec.ai.asks_a_model or spec.ai.endpoint is not None,
    ),
    Rule(
        at="spec.ai",
        cel="!(self.strategy in ['llm', 'regime']) || has(self.model)",
        message="model is needed by the strategies llm and regime: the language model's name",
        path="spec.ai.model",
        required=True,
        holds=lambda spec: not spec.ai.asks_a_model or spec.ai.model is not None,
    ),
    Rule(
        at="spec.ai",
        cel="self.strategy in ['baseline', 'equal', 'inverse_vol'] || !has(self.apiKeySecretRef) || "
        f"!has(self.endpoint) || self.endpoint.matches(r'{KEEPS_A_KEY}')",
        message="endpoint is http:// at a public host, which shows the key of apiKeySecretRef on the way: use https://",
        path="spec.ai.endpoint",
        holds=_keeps_the_model_key,
    ),
)

_RISK = (
    Rule(
        at="spec.risk",
        cel="self.maxNet <= self.maxGross",
        message="maxNet must not be above maxGross",
        path="spec.risk.maxNet",
        holds=lambda spec: spec.risk.max_net <= spec.risk.max_gross,
    ),
    Rule(
        at="spec.risk",
        cel="self.defaultCap <= self.maxGross",
        message="defaultCap must not be above maxGross",
        path="spec.risk.defaultCap",
        holds=lambda spec: spec.risk.default_cap <= spec.risk.max_gross,
    ),
    Rule(
        at="spec.risk",
        cel="self.caps.all(coin, self.caps[coin] <= self.maxGross)",
        message="no cap in caps may be above maxGross (without caps: BTC and ETH have 0.15)",
        path="spec.risk.caps",
        holds=lambda spec: all(cap <= spec.risk.max_gross for cap in spec.risk.caps.values()),
    ),
    Rule(
        at="spec.risk",
        cel=f"self.caps.all(coin, coin.matches('{COIN}'))",
        message="caps has a name that no coin has",
        path="spec.risk.caps",
    ),
    Rule(
        at="spec.risk.drawdown",
        cel="self.halt >= self.reduceOnly",
        message="drawdown.halt must not be below drawdown.reduceOnly",
        path="spec.risk.drawdown.halt",
        holds=lambda spec: spec.risk.drawdown.halt >= spec.risk.drawdown.reduce_only,
    ),
)

_REDIS = (
    Rule(
        at="spec.redis",
        cel="!has(self.urlSecretRef) || !self.retain",
        message="retain is for the bot's own Redis; one given by urlSecretRef is yours to keep",
        path="spec.redis.retain",
        holds=lambda spec: _own_redis_fields_unused(spec.redis),
    ),
    Rule(
        at="spec.redis",
        cel=_unchanged("adopt"),
        message="adopt cannot be changed: it names the bot in Redis and in its orders",
        path="spec.redis.adopt",
    ),
    Rule(
        at="spec.redis",
        cel="has(self.urlSecretRef) == has(oldSelf.urlSecretRef)",
        message="urlSecretRef cannot be added or removed: the bot's state would be lost",
        path="spec.redis.urlSecretRef",
    ),
    Rule(
        at="spec.redis",
        cel="self.storage == oldSelf.storage",
        message="storage cannot be changed: resize the volume itself, or delete this bot and create another",
        path="spec.redis.storage",
    ),
)

RULES = (*_RESOURCE, *_SPEC, *_EXCHANGE, *_AI, *_RISK, *_REDIS)


def broken_rules(spec: TradingBotSpec) -> tuple[Rule, ...]:
    """The rules that a spec breaks, in their order."""
    return tuple(rule for rule in RULES if rule.holds is not None and not rule.holds(spec))
