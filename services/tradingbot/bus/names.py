"""Every stream, group and key on the bus, who writes it and how long it is kept.

The stream table is the one place to change when a stream is added: groups, trimming, dead letters and the access
rules are all derived from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from tradingbot.domain.services import SERVICES

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS

OPERATOR = "operator"
PERSON = "person"

PAYLOAD_FIELD = "p"
"""The single field of every entry; it holds the message as JSON."""


class Stream(StrEnum):
    """The streams."""

    FEATURES = "md.features.1m"
    TARGET = "alpha.target"
    APPROVED = "risk.approved"
    PLAN = "exec.plan"
    ORDERS = "exec.orders"
    REPORTS = "exec.reports"
    SNAPSHOT = "state.snapshot"
    EVENTS = "state.events"
    COMMANDS = "ctl.commands"
    AUDIT = "audit.logs"


class Group(StrEnum):
    """The consumer groups; each has one consumer, named like the service that owns it."""

    AI = "ai_grp"
    RISK = "risk_grp"
    EXEC = "exec_grp"
    EXEC_ORDERS = "exec_orders_grp"
    STATE_REPORTS = "state_reports_grp"
    RISK_STATE = "risk_state_grp"
    EXEC_CTL = "exec_ctl_grp"
    RISK_CTL = "risk_ctl_grp"


GROUP_OWNER: Mapping[Group, str] = {
    Group.AI: "ai_decision",
    Group.RISK: "risk_engine",
    Group.EXEC: "execution",
    Group.EXEC_ORDERS: "execution",
    Group.STATE_REPORTS: "portfolio_state",
    Group.RISK_STATE: "risk_engine",
    Group.EXEC_CTL: "execution",
    Group.RISK_CTL: "risk_engine",
}


class Counts(StrEnum):
    """For how long an entry means anything; decides what `dlq retry` may re-inject."""

    CYCLE = "cycle"
    """For its own cycle only."""
    ALWAYS = "always"
    """However old."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSpec:
    """A row of the stream table."""

    writers: tuple[str, ...]
    groups: tuple[Group, ...] = ()
    keep_ms: int = DAY_MS
    """How long portfolio_state's trimming keeps entries, by their ids: the server's own real time."""
    max_len: int
    """The hard bound behind every XADD, far above what `keep_ms` holds."""
    dead_letter: bool = False
    counts: Counts = Counts.ALWAYS


STREAMS: Mapping[Stream, StreamSpec] = {
    Stream.FEATURES: StreamSpec(
        writers=("market_data",), groups=(Group.AI,), max_len=20_000, dead_letter=True, counts=Counts.CYCLE
    ),
    Stream.TARGET: StreamSpec(
        writers=("ai_decision",), groups=(Group.RISK,), max_len=20_000, dead_letter=True, counts=Counts.CYCLE
    ),
    Stream.APPROVED: StreamSpec(
        writers=("risk_engine",), groups=(Group.EXEC,), max_len=20_000, dead_letter=True, counts=Counts.CYCLE
    ),
    Stream.PLAN: StreamSpec(writers=("execution",), max_len=20_000),
    Stream.ORDERS: StreamSpec(
        writers=("execution",), groups=(Group.EXEC_ORDERS,), max_len=200_000, dead_letter=True, counts=Counts.CYCLE
    ),
    Stream.REPORTS: StreamSpec(
        writers=("execution",), groups=(Group.STATE_REPORTS,), max_len=200_000, dead_letter=True
    ),
    Stream.SNAPSHOT: StreamSpec(
        writers=("portfolio_state",), groups=(Group.RISK_STATE,), max_len=50_000, dead_letter=True, counts=Counts.CYCLE
    ),
    Stream.EVENTS: StreamSpec(writers=("portfolio_state",), max_len=200_000),
    Stream.COMMANDS: StreamSpec(
        writers=(OPERATOR, PERSON, "monitor", "risk_engine"),
        groups=(Group.EXEC_CTL, Group.RISK_CTL),
        keep_ms=7 * DAY_MS,
        max_len=50_000,
        dead_letter=True,
    ),
    Stream.AUDIT: StreamSpec(writers=(*SERVICES, OPERATOR, PERSON), keep_ms=7 * DAY_MS, max_len=500_000),
}

DEAD_LETTER_MAX_LEN = 10_000


class Key:
    """Keys that more than one service reads."""

    MODE_SPEC = "ctl.mode.spec"
    MODE_BREAKER = "ctl.mode.breaker"
    MODE_PERSON = "ctl.mode.person"
    APPLIED = "ctl.applied"
    LIMITS = "ctl.limits"
    """What the operator gives this bot of what several bots share: a hash {bucket's name: amount per minute}."""
    PARAMS = "ctl.params"
    PARAMS_PERSON = "ctl.params.person"
    LATEST_MIDS = "latest.mids"
    LATEST_SNAPSHOT = "latest.state.snapshot"
    LATEST_PREFLIGHT = "latest.preflight"
    """Execution's last preflight: a hash {verdict, at_ms, checks (JSON)}, whose log is in audit.logs."""
    ACTIVE_OIDS = "active.exchange.oids"
    IDENTITY = "bot.identity"
    SERVER = "bot.server"
    """What only the operator's user may read of the server's configuration: a hash {appendfsync}."""
    ARCHIVE_POSITION = "archive.position"
    NONCE = "exec.nonce"
    """The last nonce that a commit gave to an action."""


def state_key(service: str, name: str | None = None) -> str:
    """Where a service keeps its state: a hash {version, commit_id, token, answer, value}."""
    return f"state:{service}:{name}" if name else f"state:{service}"


def commit_key(service: str, commit_id: str) -> str:
    """Where the answer of a step without state is kept until no retry of it can come any more."""
    return f"commit:{service}:{commit_id}"


def command_key(command_id: str) -> str:
    """Marks a control command as written, so that the same id twice is one command."""
    return f"ctl.command:{command_id}"


def failures_key(group: str, entry_id: str) -> str:
    """How often a group's handler has failed on an entry that is still pending; 1 day."""
    return f"failures:{group}:{entry_id}"


def lease_key(service: str) -> str:
    """Holds the token of the process that is the service now."""
    return f"lease:{service}"


def lease_counter_key(service: str) -> str:
    """The source of lease tokens; it only rises."""
    return f"lease.counter:{service}"


def dedup_key(client_order_id: str) -> str:
    """One record an attempt of an intent; 3 days."""
    return f"dedup:{client_order_id}"


def action_key(action_id: str) -> str:
    """The record of an action: nonce, expires_after, lease_token and the caller's fields; 3 days."""
    return f"action:{action_id}"


MICRO = 1_000_000
"""Micro-USD in a USD: what ``spend_key`` counts in."""


def spend_key(day: str) -> str:
    """What a day's (``2026-02-18``) language model has cost, in whole micro-USD."""
    return f"llm.spend:{day}"


def bucket_key(name: str) -> str:
    """A token bucket."""
    return f"bucket:{name}"


def dead_letter_stream(stream: str) -> str:
    """Where a stream's entries go that could not be handled."""
    return f"dlq.{stream}"


def max_len_of(stream: str) -> int:
    """The hard bound behind every XADD to a stream or to a dead-letter stream."""
    return STREAMS[Stream(stream)].max_len if stream in set(Stream) else DEAD_LETTER_MAX_LEN


def groups_of(service: str) -> tuple[tuple[Stream, Group], ...]:
    """The streams that a service consumes, each with its group."""
    return tuple(
        (stream, group) for stream, spec in STREAMS.items() for group in spec.groups if GROUP_OWNER[group] == service
    )
