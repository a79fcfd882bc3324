"""The venue's replay guard: of each signer the 100 highest nonces, inside a window around now."""

from __future__ import annotations

from bisect import bisect_left, insort

KEPT = 100
DAY_MS = 86_400_000
MARGIN_MS = 120_000
"""The venue's measured bounds lie about two minutes inside the documented (T − 2 d, T + 1 d)."""


class Nonces:
    """One signer's used nonces, ascending."""

    def __init__(self, used: tuple[int, ...] = ()) -> None:
        self._used = sorted(used)[-KEPT:]

    @property
    def used(self) -> tuple[int, ...]:
        return tuple(self._used)

    def refusal(self, nonce: int, *, now_ms: int) -> str | None:
        """The venue's text when this nonce may not be used now; None when it may."""
        at = bisect_left(self._used, nonce)
        if at < len(self._used) and self._used[at] == nonce:
            return f"Invalid nonce: duplicate nonce {nonce}"
        floor = max(now_ms - 2 * DAY_MS + MARGIN_MS, self._used[0] if len(self._used) == KEPT else 0)
        if nonce <= floor:
            return f"Invalid nonce: nonce too low {nonce} < {floor}"
        ceiling = now_ms + DAY_MS - MARGIN_MS
        if nonce >= ceiling:
            return f"Invalid nonce: nonce too high {nonce} > {ceiling}"
        return None

    def use(self, nonce: int) -> None:
        """Remember a nonce that ``refusal`` let pass."""
        insort(self._used, nonce)
        del self._used[:-KEPT]
