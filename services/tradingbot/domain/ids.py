"""Ids that are computed, never drawn: the same intent has the same name in every process and after every restart."""

from __future__ import annotations

import hashlib
import uuid
from typing import NewType

Symbol = NewType("Symbol", str)
BotId = NewType("BotId", str)
ClientOrderId = NewType("ClientOrderId", str)
Cloid = NewType("Cloid", str)
"""The venue's client order id: ``0x`` and 32 hex digits."""

_NAMESPACE = uuid.UUID("6f1f4a0e-6c0b-5b8e-9d57-3d1f0c6a7b21")


def event_id(*, bot_id: str, stream: str, cycle_id: str, key: str) -> uuid.UUID:
    """The UUIDv5 of a message; it joins and detects, it never drops."""
    return uuid.uuid5(_NAMESPACE, "\x1f".join((bot_id, stream, cycle_id, key)))


def trace_id(*, bot_id: str, cycle_id: str) -> int:
    """The 128-bit OpenTelemetry trace id that all services derive for one cycle."""
    return int.from_bytes(hashlib.sha256(f"trace\x1f{bot_id}\x1f{cycle_id}".encode()).digest()[:16], "big")


def client_order_id(*, cycle_id: str, symbol: str, slice_idx: int, side: str) -> ClientOrderId:
    """The idempotency key of an intent."""
    return ClientOrderId(f"{cycle_id}:{symbol}:{slice_idx}:{side}")


def cloid_tag(bot_id: str) -> str:
    """The first 8 hex digits of every cloid of this bot: by it own orders are known at the venue without Redis."""
    return hashlib.sha256(bot_id.encode()).hexdigest()[:8]


def cloid(*, bot_id: str, client_order_id: str, attempt: int) -> Cloid:
    """4 bytes of SHA-256(bot id) as tag, then 12 bytes of SHA-256(client_order_id, attempt)."""
    digest = hashlib.sha256(f"{client_order_id}\x1f{attempt}".encode()).hexdigest()[:24]
    return Cloid(f"0x{cloid_tag(bot_id)}{digest}")


def is_own(cloid_text: str | None, *, bot_id: str) -> bool:
    """True when a cloid bears this bot's tag."""
    return cloid_text is not None and cloid_text.lower().startswith(f"0x{cloid_tag(bot_id)}")


def digest(payload: str | bytes) -> str:
    """16 hex digits of SHA-256: names an input of a decision."""
    data = payload.encode() if isinstance(payload, str) else payload
    return hashlib.sha256(data).hexdigest()[:16]
