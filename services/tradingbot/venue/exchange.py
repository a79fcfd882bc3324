"""Sending signed actions: once, and never again by itself.

An action that left us and got no usable answer may have been admitted, so every such failure is ``OutcomeUnknown``.
Resending the very same bytes is safe (the venue admits a nonce once) and is the caller's explicit act: ``resend=True``.
On a resend a refusal of the whole says nothing of the first sending, so it stays unknown; only an answer that the
venue gives after admission tells that the first one had not been admitted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

import httpx

from tradingbot.domain.ids import Cloid
from tradingbot.venue.errors import NotAdmitted, OrderRefused, OutcomeUnknown, PostOnlyPeriod, VenueError, classify
from tradingbot.venue.http import post_write
from tradingbot.venue.wire import SignedRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Resting:
    """The order was accepted and rests; it may be partly filled already."""

    oid: int
    cloid: Cloid | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """The order matched at once; less than asked for when it was immediate-or-cancel. Fills are the authority."""

    oid: int
    total_size: Decimal
    avg_px: Decimal
    cloid: Cloid | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """This entry was refused; the others of the batch stand for themselves."""

    error: VenueError


@dataclass(frozen=True, slots=True)
class Success:
    """A cancel or a setting took effect."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A trigger order waits for its parent or its price."""

    what: str


Status = Resting | Filled | Failed | Success | Waiting


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionResult:
    """One status per entry of the action, in its order."""

    statuses: tuple[Status, ...]
    raw: str
    """The venue's answer, for the record."""

    @property
    def errors(self) -> tuple[VenueError, ...]:
        """The refusals among the statuses."""
        return tuple(status.error for status in self.statuses if isinstance(status, Failed))


class ExchangeClient:
    """The venue's /exchange; holds no key and no budget."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def send(
        self, request: SignedRequest, *, resend: bool = False, before_leaving: Callable[[], None] | None = None
    ) -> ActionResult:
        """Send the bytes once.

        Being cancelled while it waits leaves the outcome unknown too.

        Args:
            request: what to send.
            resend: these bytes were sent before and their outcome is unknown.
            before_leaving: asked right before the first byte; a VenueError that it raises holds the bytes back.

        Raises:
            ActionRefused: the whole action was refused (never on a resend).
            Retryable: nothing was admitted (never on a resend).
            OutcomeUnknown: it may have been admitted; ``AlreadyAdmitted`` when the first sending certainly was.
        """
        what = f"{request.kind} with nonce {request.nonce}"
        try:
            answer = await post_write(self._http, request.body, what, before_leaving=before_leaving)
            result = read_answer(answer, batch=request.batch, what=what)
        except OutcomeUnknown:
            raise
        except VenueError as error:
            if resend:
                raise OutcomeUnknown(f"{what} sent again: {error}: says nothing of the first sending") from error
            raise
        if resend and _all_unadmitted(result):
            raise OutcomeUnknown(f"{what} sent again: {result.raw}: says nothing of the first sending")
        return result


def read_answer(answer: Any, *, batch: int, what: str) -> ActionResult:
    """The statuses of an answer, padded to the batch when one refusal stands for all.

    Raises:
        VenueError: the whole action was refused, by its typed error.
        OutcomeUnknown: the answer has no form that is known.
    """
    raw = str(answer)
    match answer:
        case {"status": "err", "response": str(text)}:
            error = classify(text)
            # Some refusals of orders come in this envelope instead of as a status.
            if not isinstance(error, OrderRefused | PostOnlyPeriod):
                raise error
            return ActionResult(statuses=(Failed(error),) * batch, raw=raw)
        case {"status": "ok", "response": {"data": {"statuses": [*entries]}}}:
            statuses = tuple(_status(entry, what) for entry in entries)
            if len(statuses) == 1 and isinstance(statuses[0], Failed):
                statuses *= batch
            if len(statuses) != batch:
                raise OutcomeUnknown(f"{what}: {len(statuses)} statuses for {batch} entries: {raw}")
            return ActionResult(statuses=statuses, raw=raw)
        case {"status": "ok", "response": {"type": "default"}}:
            return ActionResult(statuses=(Success(),) * batch, raw=raw)
        case _:
            raise OutcomeUnknown(f"{what}: an answer of unknown form: {raw}")


def _status(entry: Any, what: str) -> Status:
    try:
        match entry:
            case "success":
                return Success()
            case "waitingForFill" | "waitingForTrigger":
                return Waiting(entry)
            case {"error": str(text)}:
                return Failed(classify(text))
            case {"resting": {"oid": int(oid)} as resting}:
                return Resting(oid=oid, cloid=resting.get("cloid"))
            case {"filled": {"oid": int(oid), "totalSz": size, "avgPx": px} as filled}:
                return Filled(oid=oid, total_size=Decimal(size), avg_px=Decimal(px), cloid=filled.get("cloid"))
    except (InvalidOperation, TypeError) as error:
        raise OutcomeUnknown(f"{what}: a status of unknown form: {entry}") from error
    raise OutcomeUnknown(f"{what}: a status of unknown form: {entry}")


def _all_unadmitted(result: ActionResult) -> bool:
    return all(isinstance(status, Failed) and isinstance(status.error, NotAdmitted) for status in result.statuses)
