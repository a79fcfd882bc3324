"""The control state: who restricts the bot, how a restriction is set, and how execution acknowledges it.

Each source's mode key and its command are written in one function call, so that the log and the keys never disagree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from redis.asyncio import Redis

from tradingbot.bus import library
from tradingbot.bus.commit import HashPut
from tradingbot.bus.errors import bus_errors
from tradingbot.bus.names import DAY_MS, Key, Stream, command_key, max_len_of
from tradingbot.domain.cycles import minute_id
from tradingbot.domain.envelope import message
from tradingbot.domain.errors import Permanent
from tradingbot.domain.messages import Command, ControlCommand
from tradingbot.domain.modes import EffectiveMode, Mode, ModeSource, effective_mode

_COMMAND_TTL_MS = 7 * DAY_MS

_MODE_OF = {Command.HALT: Mode.HALT, Command.REDUCE_ONLY: Mode.REDUCE_ONLY, Command.RESUME: Mode.NORMAL}
_KEY_OF = {ModeSource.SPEC: Key.MODE_SPEC, ModeSource.PERSON: Key.MODE_PERSON}


class StaleGeneration(Permanent):
    """A newer generation of the resource has spoken already."""


async def read_modes(redis: Redis, *, file_mode: Mode | None = None) -> EffectiveMode:
    """The effective mode of the three sources, as DESIGN section 4 combines them."""
    spec, breaker, person = [await _hash(redis, key) for key in (Key.MODE_SPEC, Key.MODE_BREAKER, Key.MODE_PERSON)]
    return effective_mode(spec=spec, breaker=breaker, person=person, file_mode=file_mode)


async def issue(redis: Redis, command: ControlCommand, *, now_ms: int, bot_id: str) -> str:
    """Write a command and, for a mode, the key of its source in one call; the same command id again changes nothing,
    unless the key of its source is gone.

    Returns the entry's id in ctl.commands.

    Raises:
        StaleGeneration: the spec speaks with a lower generation than it has already.
        ValueError: a mode command of another source than the spec or a person.
    """
    mode = _MODE_OF.get(command.command)
    keys = [Stream.COMMANDS.value, command_key(command.command_id)]
    state: dict[str, str] = {}
    if mode is not None:
        if command.source not in _KEY_OF:
            raise ValueError(f"{command.command} is for the spec or a person to say, not for {command.source}")
        keys.append(_KEY_OF[command.source])
        state = _mode_fields(command, mode=mode, now_ms=now_ms)
    generation = "" if command.generation is None else str(command.generation)
    head = (str(max_len_of(Stream.COMMANDS)), str(_COMMAND_TTL_MS), _payload(command, now_ms=now_ms, bot_id=bot_id))
    args = (*head, generation, command.uid or "", *(text for pair in state.items() for text in pair))
    verdict, answer = await library.call(redis, library.CONTROL, keys, args)
    if verdict == "STALE":
        raise StaleGeneration(f"generation {generation} of the spec is older than {answer}, which has spoken already")
    return str(answer)


def breaker_fields(
    *, mode: Mode, reason: str, at_ms: int, latch_id: str | None = None, command_id: str = "", **more: str
) -> HashPut:
    """The breaker's key, for a commit of risk_engine; put its command into the same commit with ``Add``."""
    fields_ = {"mode": mode.value, "reason": reason, "latch_id": latch_id or "", "at_ms": str(at_ms)}
    return HashPut(Key.MODE_BREAKER, {**fields_, "command_id": command_id, **more})


def _mode_fields(command: ControlCommand, *, mode: Mode, now_ms: int) -> dict[str, str]:
    optional = {
        "uid": command.uid,
        "generation": command.generation,
        "until_generation": command.until_generation,
        "issued_by": command.issued_by or None,
    }
    return {
        "mode": mode.value,
        "reason": command.reason,
        "command_id": command.command_id,
        "at_ms": str(now_ms),
        **{name: str(value) for name, value in optional.items() if value is not None},
    }


def _payload(command: ControlCommand, *, now_ms: int, bot_id: str) -> str:
    wrapped = message(
        command,
        bot_id=bot_id,
        stream=Stream.COMMANDS,
        source=command.source.value,
        cycle_id=minute_id(now_ms),
        key=command.command_id,
        now_ms=now_ms,
    )
    return wrapped.model_dump_json(exclude={"event"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What execution has applied: the hash ``ctl.applied``, which execution alone writes. Times are virtual ms."""

    mode: Mode = Mode.NORMAL
    source: ModeSource = ModeSource.SPEC
    reason: str = ""
    spec_generation: int | None = None
    """The generation of the spec's key that is applied; None without one."""
    spec_uid: str = ""
    """The uid beside that generation: another resource that goes on with this Redis counts its own anew."""
    command_id: str = ""
    received_at: int | None = None
    """From here on nothing is sent."""
    cancelled_at: int | None = None
    """From here on no own order is open."""
    acked_at: int | None = None
    """From here on nothing can come any more: every intent is terminal or provably absent."""
    open_orders: int = 0
    flatten: str = ""
    """Empty, pending, flat or failed."""

    def put(self) -> HashPut:
        """The part of a commit that writes it."""
        return HashPut(Key.APPLIED, {name: _text(value) for name, value in asdict(self).items()})

    @classmethod
    def of(cls, kept: Mapping[str, str]) -> Applied:
        """From the hash's fields; unknown ones are ignored."""
        names = {field.name for field in fields(cls)}
        return cls(**{name: _value(name, text) for name, text in kept.items() if name in names})


async def read_applied(redis: Redis) -> Applied | None:
    """What execution has applied; None when it has never said."""
    kept = await _hash(redis, Key.APPLIED)
    return Applied.of(kept) if kept else None


_NUMBERS = {"spec_generation", "received_at", "cancelled_at", "acked_at"}


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _value(name: str, text: str) -> Any:
    if name in _NUMBERS:
        return int(text) if text else None
    if name == "open_orders":
        return int(text or 0)
    return {"mode": Mode, "source": ModeSource}.get(name, str)(text)


async def _hash(redis: Redis, key: str) -> dict[str, str]:
    with bus_errors():
        kept: Any = await redis.hgetall(key)
    return dict(kept)
