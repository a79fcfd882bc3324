"""What the invariants are judged on: the streams, the consumer groups, the kept keys, and the venue's own record."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
from pydantic import ValidationError
from redis.asyncio import Redis

from tradingbot.bus.dead_letters import DEAD_LETTER_STREAMS
from tradingbot.bus.errors import bus_errors
from tradingbot.bus.names import PAYLOAD_FIELD, Key, Stream, dead_letter_stream, dedup_key
from tradingbot.bus.params import read_params
from tradingbot.domain import messages
from tradingbot.domain.cycles import to_ms
from tradingbot.domain.envelope import Message
from tradingbot.domain.model import Model
from tradingbot.domain.params import Params
from tradingbot.domain.static import StaticSettings
from tradingbot.runtime.clock import Clock

MODELS: Mapping[Stream, type[Model]] = {
    Stream.FEATURES: messages.FeatureSnapshot1m,
    Stream.TARGET: messages.TargetPortfolio,
    Stream.APPROVED: messages.ApprovedTargetPortfolio,
    Stream.PLAN: messages.ExecutionPlan,
    Stream.ORDERS: messages.OrderIntent,
    Stream.REPORTS: messages.ExecutionReport,
    Stream.SNAPSHOT: messages.StateSnapshot,
    Stream.EVENTS: messages.StateEvent,
    Stream.COMMANDS: messages.ControlCommand,
    Stream.AUDIT: messages.AuditRecord,
}
_PAGE = 1000
_TIMEOUT_S = 10.0
PATIENCE_S = 10.0
"""How long a group may take to have nothing to do, real seconds."""
_POLL_S = 0.02


def entry_order(entry_id: str) -> tuple[int, int]:
    """An entry's place among entries of the same server."""
    first, _, second = entry_id.partition("-")
    return int(first), int(second)


@dataclass(frozen=True, slots=True)
class Record:
    """An entry of a stream; ``message`` is None when it does not validate."""

    id: str
    raw: str
    message: Message[Any] | None
    error: str = ""

    @property
    def at_ms(self) -> int:
        """The server's real time at which it was written."""
        return int(self.id.partition("-")[0])

    @property
    def order(self) -> tuple[int, int]:
        """Its place among entries of the same server."""
        return entry_order(self.id)

    @property
    def ts_ms(self) -> int:
        """The virtual time that its envelope bears; only of entries that validate."""
        assert self.message is not None
        return to_ms(self.message.env.ts)

    @property
    def event_id(self) -> str:
        """Its event_id; empty when it does not validate."""
        return str(self.message.env.event_id) if self.message else ""

    @property
    def source(self) -> str:
        """Who wrote it; empty when it does not validate."""
        return self.message.env.source if self.message else ""

    @property
    def data(self) -> Any:
        """The message's data; only of entries that validate."""
        assert self.message is not None
        return self.message.data

    @property
    def cycle_id(self) -> str:
        """The cycle it belongs to; empty when it does not validate."""
        return self.message.env.cycle_id if self.message else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupState:
    """How far a consumer group has come."""

    stream: Stream
    name: str
    pending: int
    lag: int | None

    @property
    def behind(self) -> bool:
        """Whether anything is left to do."""
        return bool(self.pending or self.lag)


@dataclass(frozen=True, slots=True, kw_only=True)
class Venue:
    """What the venue says, asked at rest."""

    positions: Mapping[str, Decimal]
    open_orders: tuple[Mapping[str, Any], ...]
    log: tuple[Mapping[str, Any], ...] | None
    """The paper exchange's control log: {id, at_ms, kind, …}, oldest first. None on a real venue."""

    def entries(self, kind: str) -> list[Mapping[str, Any]]:
        """The log's entries of a kind: action, order, fill, ledger."""
        return [each for each in self.log or () if each["kind"] == kind]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that was looked at."""

    bot_id: str
    account: str
    static: StaticSettings
    params: Params
    streams: Mapping[Stream, tuple[Record, ...]]
    dead_letters: Mapping[Stream, tuple[messages.DeadLetter, ...]]
    groups: tuple[GroupState, ...]
    dedup: Mapping[str, Mapping[str, str]]
    """client_order_id -> attempt -> record."""
    applied: Mapping[str, str]
    snapshot: messages.StateSnapshot | None
    """latest.state.snapshot, else the stream's newest."""
    venue: Venue | None
    """None when it did not answer."""
    folder: Path | None = None
    """A local bot's data folder."""
    pids: Mapping[str, int] = field(default_factory=dict)
    """A local bot's processes."""

    def valid(self, stream: Stream) -> list[Record]:
        """The entries of a stream that validate, oldest first."""
        return [each for each in self.streams[stream] if each.message is not None]


async def collect(
    redis: Redis,
    *,
    clock: Clock,
    venue_url: str,
    is_paper: bool,
    bot_id: str,
    account: str,
    static: StaticSettings,
    folder: Path | None = None,
    pids: Mapping[str, int] | None = None,
) -> Evidence:
    """Read everything once, the bus first; the groups when they have nothing to do.

    Raises:
        BusUnavailable: the bus does not answer.
    """
    streams = {stream: await _read_stream(redis, stream, MODELS[stream]) for stream in Stream}
    letters = {stream: await _read_letters(redis, stream) for stream in DEAD_LETTER_STREAMS}
    intents = {each.data.client_order_id for each in streams[Stream.ORDERS] if each.message is not None}
    versioned = await read_params(redis)
    dedup = {name: await _hash(redis, dedup_key(name)) for name in sorted(intents)}
    applied = await _hash(redis, Key.APPLIED)
    return Evidence(
        bot_id=bot_id,
        account=account,
        static=static,
        params=versioned.params if versioned else Params(),
        streams=streams,
        dead_letters=letters,
        groups=await groups_at_rest(redis, clock=clock),
        dedup=dedup,
        applied=applied,
        snapshot=await _newest_snapshot(redis, streams[Stream.SNAPSHOT]),
        venue=await _ask_venue(venue_url, account=account, is_paper=is_paper),
        folder=folder,
        pids=pids or {},
    )


async def groups_at_rest(redis: Redis, *, clock: Clock) -> tuple[GroupState, ...]:
    """Every consumer group at a moment when it had nothing to do; one that has no such moment as it was seen last.

    The mirror goes on while a bot is looked at: a snapshot of a millisecond ago is not a backlog.
    """
    until_s = clock.real_s() + PATIENCE_S
    seen: dict[tuple[Stream, str], GroupState] = {}
    while True:
        for group in await read_groups(redis):
            known = seen.get((group.stream, group.name))
            if known is None or known.behind:
                seen[group.stream, group.name] = group
        if not any(group.behind for group in seen.values()) or clock.real_s() > until_s:
            return tuple(seen.values())
        await clock.sleep_real(_POLL_S)


async def read_groups(redis: Redis) -> tuple[GroupState, ...]:
    """Every consumer group with what it still has to do."""
    found: list[GroupState] = []
    for stream in Stream:
        with bus_errors():
            if not await redis.exists(stream):
                continue
            rows: Any = await redis.xinfo_groups(stream)
        found += [
            GroupState(stream=stream, name=row["name"], pending=int(row["pending"]), lag=row.get("lag")) for row in rows
        ]
    return tuple(found)


async def _read_stream(redis: Redis, stream: str, model: type[Model]) -> tuple[Record, ...]:
    records: list[Record] = []
    start = "-"
    while True:
        with bus_errors():
            rows: Any = await redis.xrange(stream, min=start, count=_PAGE)
        records += [_record(row_id, fields, model) for row_id, fields in rows]
        if len(rows) < _PAGE:
            return tuple(records)
        start = f"({rows[-1][0]}"


def _record(row_id: str, fields: Mapping[str, str], model: type[Model]) -> Record:
    raw = fields.get(PAYLOAD_FIELD, "")
    try:
        return Record(row_id, raw, Message[model].read(raw))  # type: ignore[valid-type]
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        return Record(row_id, raw, None, f"{where}: {first['msg']}")


async def _read_letters(redis: Redis, stream: Stream) -> tuple[messages.DeadLetter, ...]:
    records = await _read_stream(redis, dead_letter_stream(stream), messages.DeadLetter)
    return tuple(each.data for each in records if each.message is not None)


async def _hash(redis: Redis, key: str) -> dict[str, str]:
    with bus_errors():
        kept: Any = await redis.hgetall(key)
    return dict(kept)


async def _newest_snapshot(redis: Redis, records: Iterable[Record]) -> messages.StateSnapshot | None:
    with bus_errors():
        raw = await redis.get(Key.LATEST_SNAPSHOT)
    if raw:
        return Message[messages.StateSnapshot].read(raw).data
    return next((each.data for each in reversed(tuple(records)) if each.message is not None), None)


async def _ask_venue(url: str, *, account: str, is_paper: bool) -> Venue | None:
    try:
        async with httpx.AsyncClient(base_url=url, timeout=_TIMEOUT_S) as http:
            state = await _post(http, {"type": "clearinghouseState", "user": account})
            open_orders = await _post(http, {"type": "frontendOpenOrders", "user": account})
            log = await _paper_log(http) if is_paper else None
    except (httpx.HTTPError, json.JSONDecodeError):
        return None
    positions = {each["position"]["coin"]: Decimal(each["position"]["szi"]) for each in state.get("assetPositions", ())}
    return Venue(positions=positions, open_orders=tuple(open_orders), log=log)


async def _post(http: httpx.AsyncClient, body: Mapping[str, str]) -> Any:
    answer = await http.post("/info", json=body)
    answer.raise_for_status()
    return answer.json()


async def _paper_log(http: httpx.AsyncClient) -> tuple[Mapping[str, Any], ...]:
    found: list[Mapping[str, Any]] = []
    while True:
        after = found[-1]["id"] if found else 0
        answer = await http.get("/control/log", params={"after": after})
        answer.raise_for_status()
        page = answer.json()
        if not page:
            return tuple(found)
        found += page
