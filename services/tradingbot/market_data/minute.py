"""Which minute is due, and what is said about it: each minute once, at the minute, even when nothing else works.

The state is the last minute that was told. It is committed together with the snapshot by compare-and-set, so that a
restart inside a minute, or a second copy of the service, tells it at most once. Minutes that passed while nobody ran
are not made up afterwards: only their number is recorded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from tradingbot.domain.cycles import MINUTE_MS, from_ms, minute_id
from tradingbot.domain.messages import AuditLevel, AuditRecord, BookFacts, FeatureSnapshot1m
from tradingbot.domain.model import Model
from tradingbot.market_data.features import HOUR, realised_vol, simple_return
from tradingbot.market_data.feed import Condition, Feed
from tradingbot.market_data.history import History
from tradingbot.market_data.liquidity import book_fields
from tradingbot.market_data.told import Told


class MinuteState(Model):
    """What survives a restart."""

    last_minute_ms: int = 0
    """The start of the last minute that was told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """A minute's snapshot, the record of it, and the state after it."""

    state: MinuteState
    snapshot: FeatureSnapshot1m
    record: AuditRecord


def due_minute(state: MinuteState, *, now_ms: int) -> int | None:
    """The minute to tell now; None when the present one was told (or the clock stepped back)."""
    minute_ms = now_ms - now_ms % MINUTE_MS
    return minute_ms if minute_ms > state.last_minute_ms else None


def tell(
    state: MinuteState,
    *,
    minute_ms: int,
    now_ms: int,
    universe: Sequence[str],
    feed: Feed,
    history: History,
    prices: str,
    told: Told,
    books: Mapping[str, BookFacts] = MappingProxyType({}),
    failures: Mapping[str, str] = MappingProxyType({}),
) -> Telling:
    """The snapshot of a minute from what is known, however little that is.

    ``told``: what the snapshots before have told; it is the caller's to say that this one was written.
    ``books``: of the coins whose book is fresh.
    ``failures``: what could not be asked of the venue lately, with the reason; goes into the record.
    """
    conditions = {symbol: feed.condition(symbol, now_ms=now_ms) for symbol in universe}
    fresh = [symbol for symbol, condition in conditions.items() if condition is Condition.FRESH]
    usable = [symbol for symbol in fresh if history.at(symbol, minute_ms) is not None]
    stale = tuple(each for each in universe if conditions[each] in {Condition.STALE, Condition.CROSSED})
    mids = {symbol: px for symbol in usable if (px := history.at(symbol, minute_ms)) is not None}
    known = {symbol: books[symbol] for symbol in usable if symbol in books}
    snapshot = FeatureSnapshot1m(
        asof_minute=from_ms(minute_ms),
        universe=tuple(universe),
        mid_px=mids,
        **moves({symbol: history.window(symbol, minute_ms) for symbol in usable}),
        **book_fields(known),
        books=known,
        missing=tuple(each for each in universe if each not in usable and each not in stale),
        stale=stale,
        prices=prices,
        history=told.news(history, mids, minute_ms=minute_ms),
    )
    return Telling(
        state=MinuteState(last_minute_ms=minute_ms),
        snapshot=snapshot,
        record=_record(state, snapshot, minute_ms=minute_ms, now_ms=now_ms, conditions=conditions, failures=failures),
    )


def _record(
    state: MinuteState,
    snapshot: FeatureSnapshot1m,
    *,
    minute_ms: int,
    now_ms: int,
    conditions: Mapping[str, Condition],
    failures: Mapping[str, str],
) -> AuditRecord:
    details: dict[str, Any] = {
        "produced_at": from_ms(now_ms).isoformat(),
        "produced_after_ms": now_ms - minute_ms,
        "coins": len(snapshot.mid_px),
        "missing": list(snapshot.missing),
        "stale": list(snapshot.stale),
        "crossed": [symbol for symbol, condition in conditions.items() if condition is Condition.CROSSED],
        "without": {
            name: absent
            for name, values in _features(snapshot).items()
            if (absent := [symbol for symbol in snapshot.mid_px if symbol not in values])
        },
        "no_book": [symbol for symbol in snapshot.mid_px if symbol not in snapshot.books],
        "prices": snapshot.prices,
    }
    if failures:
        details["failures"] = dict(failures)
    if state.last_minute_ms and (skipped := (minute_ms - state.last_minute_ms) // MINUTE_MS - 1):
        details["skipped_minutes"] = skipped
    return AuditRecord(kind="md.features.1m", level=_level(snapshot), cause=minute_id(minute_ms), details=details)


def _level(snapshot: FeatureSnapshot1m) -> AuditLevel:
    if not snapshot.mid_px:
        return AuditLevel.ERROR
    return AuditLevel.WARNING if snapshot.missing or snapshot.stale else AuditLevel.INFO


def _features(snapshot: FeatureSnapshot1m) -> dict[str, dict[str, float]]:
    return {name: getattr(snapshot, name) for name in ("ret_1m", "ret_5m", "ret_1h", "vol_1h")}


def moves(windows: Mapping[str, Sequence[float]]) -> dict[str, dict[str, float]]:
    """Returns and volatility of the minute at the end of each coin's window of prices; one that is NaN is left out."""
    return {
        "ret_1m": _known({symbol: simple_return(px, HOUR, 1) for symbol, px in windows.items()}),
        "ret_5m": _known({symbol: simple_return(px, HOUR, 5) for symbol, px in windows.items()}),
        "ret_1h": _known({symbol: simple_return(px, HOUR, HOUR) for symbol, px in windows.items()}),
        "vol_1h": _known({symbol: realised_vol(px, HOUR) for symbol, px in windows.items()}),
    }


def _known(values: dict[str, float]) -> dict[str, float]:
    return {symbol: value for symbol, value in values.items() if not math.isnan(value)}
