"""The venue's transport: one pooled client per process, explicit time-outs, and what each answer means.

Reads and writes differ in one point only, and it is the one that matters: a read without a usable answer may be asked
again, a write without one has an unknown outcome.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import httpx

from tradingbot.runtime.hangup import or_hang_up
from tradingbot.venue.errors import (
    BadRequest,
    OutcomeUnknown,
    RateLimited,
    VenueError,
    VenueUnavailable,
    VenueUnreachable,
    classify,
    retryable,
)
from tradingbot.venue.network import is_loopback

TIMEOUT = httpx.Timeout(connect=3.0, read=5.0, write=3.0, pool=3.0)
"""Real seconds. The venue answers in 0.2 to 1 s; a slow answer to a write is an unknown outcome after these."""

LIMITS = httpx.Limits(max_connections=20, max_keepalive_connections=10, keepalive_expiry=30.0)
"""The venue drops idle connections after minutes; ours are dropped long before that."""

_HEADERS = {"Content-Type": "application/json"}
_MAX_TEXT = 300


def open_http(http_url: str, *, timeout: httpx.Timeout = TIMEOUT) -> httpx.AsyncClient:
    """A pooled client for one venue; the caller closes it (``async with``). No proxy to this machine."""
    return httpx.AsyncClient(
        base_url=http_url,
        timeout=timeout,
        limits=LIMITS,
        headers=_HEADERS,
        follow_redirects=False,
        trust_env=not is_loopback(http_url),
    )


async def post_read(http: httpx.AsyncClient, request: dict[str, Any]) -> Any:
    """One try of an /info request.

    Raises:
        Retryable: no usable answer; ask again later.
        Refused: the venue does not read such a request.
    """
    try:
        response = await _post(http, "/info", _encode(request))
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        raise VenueUnreachable(_told(request["type"], error)) from error
    except httpx.HTTPError as error:
        raise VenueUnavailable(_told(request["type"], error)) from error
    if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise VenueUnavailable(f"{request['type']}: HTTP {response.status_code} {_text(response)}")
    _refuse_other_than_ok(response, str(request["type"]))
    try:
        return response.json()
    except ValueError as error:
        raise VenueUnavailable(f"{request['type']}: not JSON: {_text(response)}") from error


async def post_write(
    http: httpx.AsyncClient, body: bytes, what: str, *, before_leaving: Callable[[], None] | None = None
) -> Any:
    """Send an /exchange request once; ``before_leaving`` may still raise right before the first byte.

    Raises:
        Retryable: nothing was admitted.
        Refused: the venue does not read such a request; nothing was admitted.
        OutcomeUnknown: it left us and there is no usable answer.
    """
    try:
        response = await _post(http, "/exchange", body, before_leaving=before_leaving)
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        raise VenueUnreachable(_told(what, error)) from error
    except httpx.HTTPError as error:
        raise OutcomeUnknown(f"{_told(what, error)}: it may have been admitted") from error
    if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR or response.status_code == HTTPStatus.REQUEST_TIMEOUT:
        raise OutcomeUnknown(f"{what}: HTTP {response.status_code} {_text(response)}: it may have been admitted")
    _refuse_other_than_ok(response, what)
    try:
        return response.json()
    except ValueError as error:
        raise OutcomeUnknown(f"{what}: the answer is not JSON: {_text(response)}: it may have been admitted") from error


async def _post(
    http: httpx.AsyncClient, path: str, body: bytes, *, before_leaving: Callable[[], None] | None = None
) -> httpx.Response:
    return await or_hang_up(
        lambda seen: http.post(path, content=body, headers=_HEADERS, extensions=dict(seen)),
        before_leaving=before_leaving,
    )


def _refuse_other_than_ok(response: httpx.Response, what: str) -> None:
    if response.status_code == HTTPStatus.OK:
        return
    if response.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        raise retryable(RateLimited, f"{what}: HTTP 429: the address's request weight is used up")
    text = f"{what}: HTTP {response.status_code} {_text(response)}"
    known: VenueError = classify(text)
    raise known if isinstance(known, BadRequest) else BadRequest(text)


def _encode(request: dict[str, Any]) -> bytes:
    return json.dumps(request, separators=(",", ":")).encode()


def _told(what: object, error: httpx.HTTPError) -> str:
    return f"{what}: {type(error).__name__} {error}".rstrip()


def _text(response: httpx.Response) -> str:
    return response.text[:_MAX_TEXT]
