"""Deposits and withdrawals: money that came or went is neither profit nor loss."""

from __future__ import annotations

from collections.abc import Iterable

from tradingbot.domain.messages import AuditRecord, StateEvent, StateEventKind
from tradingbot.portfolio_state.mirror import OVERLAP_MS, Mirror, Step
from tradingbot.venue.models import LedgerUpdate


def ledger_start_ms(mirror: Mirror, *, now_ms: int) -> int:
    """From when ledger updates must be read."""
    return max(0, (mirror.ledger_cursor_ms or now_ms) - OVERLAP_MS)


def absorb_ledger(mirror: Mirror, updates: Iterable[LedgerUpdate], *, until_ms: int) -> Step:
    """Take in what happened up to ``until_ms``, the venue's time of the account that goes with it.

    A later update is not in that account's equity yet: counted now, a deposit would look like a loss. It is read again.
    """
    seen = set(mirror.ledger_keys)
    floor_ms = max(mirror.began_ms, mirror.ledger_cursor_ms - OVERLAP_MS)
    fresh = {
        _key(update): update for update in updates if floor_ms < update.time_ms <= until_ms and _key(update) not in seen
    }
    cursor_ms = max(mirror.ledger_cursor_ms, until_ms)
    keys = tuple(key for key in (*mirror.ledger_keys, *fresh) if _time_of(key) >= cursor_ms - OVERLAP_MS)
    moved = [update for update in fresh.values() if update.usd]
    grown = mirror.model_copy(
        update={
            "ledger_cursor_ms": cursor_ms,
            "ledger_keys": keys,
            "deposits_net_usd": mirror.deposits_net_usd + sum(update.usd for update in moved),
        }
    )
    return Step(mirror=grown, events=tuple(map(_event, moved)), audits=tuple(map(_audit, moved)))


def _key(update: LedgerUpdate) -> str:
    return f"{update.time_ms}:{update.hash}:{update.kind}:{update.usd}"


def _time_of(key: str) -> int:
    return int(key.partition(":")[0])


def _event(update: LedgerUpdate) -> StateEvent:
    return StateEvent(kind=StateEventKind.LEDGER, status=update.kind, qty=update.usd, at_ms=update.time_ms)


def _audit(update: LedgerUpdate) -> AuditRecord:
    details = {"usd": str(update.usd), "type": update.kind, "hash": update.hash}
    return AuditRecord(kind="ledger", cause=update.hash, details=details)
