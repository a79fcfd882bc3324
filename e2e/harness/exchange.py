"""The paper exchange of a bot, read where nobody can dress it up: in its own log, inside its own pod."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.kubectl import Kubectl, KubectlError
from harness.waiting import eventually

INSIDE = Path(__file__).parent / "inside"
OPEN = "open"
CYCLE_MS = 60_000
YOUNG_MS = 40_000
"""Orders end 3 s before their cycle: what is done to them must be done before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One order as the log has it."""

    oid: int
    user: str
    coin: str
    side: str
    """B or A, in the venue's words."""
    tif: str
    reduce_only: bool
    placed_ms: int
    status: str
    status_ms: int
    accepted: bool
    """Whether it ever stood in the book or traded."""

    @property
    def is_open(self) -> bool:
        return self.status == OPEN


class Exchange:
    """The log of one exchange, as far as it was read; times are the exchange's own Unix milliseconds."""

    def __init__(self, kubectl: Kubectl, *, pod: Callable[[], str], namespace: str) -> None:
        self._kubectl = kubectl
        self._pod = pod
        self._namespace = namespace
        self._lines: dict[int, dict[str, Any]] = {}
        self._clock_ms = 0
        self._lock = threading.Lock()

    # ---------------------------------------------------------------- reading

    def read(self) -> list[dict[str, Any]]:
        """The whole log, oldest first, with what is new since the last reading."""
        script = (INSIDE / "read_log.py").read_text()
        text = self._kubectl.exec(self._pod(), self._namespace, "python", "-c", script, str(self._last_id()))
        self._take(text.splitlines())
        return self.known()

    def known(self) -> list[dict[str, Any]]:
        """The log as far as it was read: all that is left when the exchange has gone."""
        with self._lock:
            return [self._lines[key] for key in sorted(self._lines)]

    @contextlib.contextmanager
    def followed(self) -> Iterator[None]:
        """Read along until the exchange ends: what it did last, before it is deleted, is known afterwards."""
        script = (INSIDE / "read_log.py").read_text()
        pod = self._pod()
        command = ["kubectl", "--context", self._kubectl.context, "exec", pod, "-n", self._namespace, "--"]
        command += ["python", "-u", "-c", script, str(self._last_id()), "follow"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert process.stdout is not None
        reader = threading.Thread(target=self._take, args=(process.stdout,), daemon=True)
        reader.start()
        try:
            yield
        finally:
            process.terminate()
            process.wait(timeout=10)
            reader.join(timeout=10)
            process.stdout.close()

    def _last_id(self) -> int:
        with self._lock:
            return max(self._lines, default=0)

    def _take(self, lines: Any) -> None:
        for text in lines:
            line = json.loads(text)
            with self._lock:
                if "now_ms" in line:
                    self._clock_ms = line["now_ms"]
                else:
                    self._lines[line["id"]] = line

    # ---------------------------------------------------------------- what it says

    def orders(self) -> list[Order]:
        """Every order, by the order of placing."""
        return orders_of(self.known())

    def open_orders(self) -> list[Order]:
        """The orders that are open now."""
        self.read()
        return [each for each in self.orders() if each.is_open]

    def placed_after(self, at_ms: int) -> list[Order]:
        """The orders that were admitted after a moment."""
        self.read()
        return [each for each in self.orders() if each.placed_ms > at_ms and each.accepted]

    def requests_after(self, at_ms: int, kind: str = "order") -> list[dict[str, Any]]:
        """Requests that came after a moment, admitted or not."""
        self.read()
        return [
            line for line in self.known() if line["kind"] == "action" and line["type"] == kind and line["at_ms"] > at_ms
        ]

    def fills(self) -> list[dict[str, Any]]:
        self.read()
        return [line for line in self.known() if line["kind"] == "fill"]

    def positions(self, user: str = "") -> dict[str, float]:
        """Signed sizes of an account's positions, added up from the fills; flat coins are absent."""
        found: dict[str, float] = {}
        for fill in (line for line in self.known() if line["kind"] == "fill" and user in {"", line["user"]}):
            found[fill["coin"]] = found.get(fill["coin"], 0.0) + float(fill["sz"]) * (1 if fill["side"] == "B" else -1)
        return {coin: size for coin, size in found.items() if abs(size) > 1e-9}

    # ---------------------------------------------------------------- waiting and meddling

    def wait_for_fills(self, *, within_s: float = 180.0) -> list[dict[str, Any]]:
        return eventually(self.fills, what="orders fill at the exchange", within_s=within_s, every_s=2)

    def wait_for_open_orders(self, at_least: int = 1, *, within_s: float = 200.0) -> list[Order]:
        """Orders that rest and will do so for a while: prices are moved away from them, and the cycle is young."""

        def look() -> list[Order] | None:
            found = self.open_orders()
            young = self._clock_ms % CYCLE_MS < YOUNG_MS
            return found if len(found) >= at_least and young and self.keep_from_filling(found) else None

        return eventually(look, what=f"{at_least} orders rest at the exchange", within_s=within_s, every_s=0.5)

    def keep_from_filling(self, orders: list[Order]) -> bool:
        """Move each coin's price away from its orders; whether any of them still stands after that."""
        for coin, side in sorted({(each.coin, each.side) for each in orders}):
            self.control("price", {"coin": coin, "factor": 1.002 if side == "B" else 0.998})
        return bool({each.oid for each in orders} & {each.oid for each in self.open_orders()})

    def control(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """What ``/control`` answers inside the pod."""
        script = (INSIDE / "control.py").read_text()
        words = [json.dumps(body)] if body is not None else []
        return json.loads(self._kubectl.exec(self._pod(), self._namespace, "python", "-c", script, path, *words))

    def wait_until_readable(self, *, within_s: float = 180.0) -> None:
        def look() -> bool:
            try:
                self.read()
            except KubectlError:
                return False
            return True

        eventually(look, what="the exchange answers in its pod", within_s=within_s, every_s=2)

    def now_ms(self) -> int:
        """The node's clock, read where the exchange reads it."""
        self.read()
        return self._clock_ms


def orders_of(lines: list[dict[str, Any]]) -> list[Order]:
    """The orders that a log tells of."""
    versions: dict[int, list[dict[str, Any]]] = {}
    for line in lines:
        if line["kind"] == "order":
            versions.setdefault(line["oid"], []).append(line)
    return [_order(each) for each in versions.values()]


def _order(versions: list[dict[str, Any]]) -> Order:
    first, last = versions[0], versions[-1]
    return Order(
        oid=first["oid"],
        user=first["user"],
        coin=first["coin"],
        side=first["side"],
        tif=first["tif"],
        reduce_only=first["reduceOnly"],
        placed_ms=first["at_ms"],
        status=last["status"],
        status_ms=last["at_ms"],
        accepted=not first["status"].lower().endswith("rejected"),
    )
