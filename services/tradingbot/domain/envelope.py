"""The envelope that every message on the bus bears: ``{"env": {…}, "data": {…}}`` in the single field ``p``."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import AwareDatetime, Field, StringConstraints

from tradingbot.domain.cycles import CycleId, from_ms
from tradingbot.domain.ids import event_id
from tradingbot.domain.model import Model

CycleIdField = Annotated[CycleId, StringConstraints(pattern=r"^\d{8}T\d{4}Z$")]


class Envelope(Model):
    """What every message says of itself."""

    event_id: uuid.UUID
    """UUIDv5 of (bot, stream, cycle, key): it joins and detects, it never drops."""
    ts: AwareDatetime
    """When it was written, UTC."""
    source: str
    """The service that wrote it."""
    cycle_id: CycleIdField
    """The cycle it belongs to, like ``20260218T1600Z``."""
    schema_version: Literal["1.0"] = "1.0"
    retry_count: Annotated[int, Field(ge=0)] = 0
    """How often a handler has failed on it so far."""


DataT = TypeVar("DataT", bound=Model)


class Message(Model, Generic[DataT]):
    """An envelope with its data; event messages may name the event."""

    env: Envelope
    data: DataT
    event: str | None = None


def message(
    data: DataT,
    *,
    bot_id: str,
    stream: str,
    source: str,
    cycle_id: str,
    key: str,
    now_ms: int,
    event: str | None = None,
) -> Message[DataT]:
    """Wrap data for a stream; ``key`` is the stream's key of event_id (DESIGN's stream table)."""
    ts: datetime = from_ms(now_ms)
    envelope = Envelope(
        event_id=event_id(bot_id=bot_id, stream=stream, cycle_id=cycle_id, key=key),
        ts=ts,
        source=source,
        cycle_id=CycleId(cycle_id),
    )
    return Message[DataT].model_construct(env=envelope, data=data, event=event)
