"""One request to an OpenAI-compatible server: a bounded answer, or why there is none.

The server is not trusted: its body is read up to a limit and not unpacked, it is not followed elsewhere, and no text of
its own (it may echo the key) leaves this module with the key in it. Nothing here waits by itself for a slow server: the
caller's deadline cancels the request, which then gives its connection back in its own time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final

import httpx
from pydantic import SecretStr

from tradingbot.ai_decision.llm.dialect import Dialect
from tradingbot.ai_decision.llm.faults import Fault, NoCompletion
from tradingbot.runtime.hangup import Extensions, or_hang_up
from tradingbot.venue.network import is_loopback

PATH: Final = "/chat/completions"
REDACTED: Final = "[key]"
_CONNECT_S: Final = 3.0
_MAX_TEXT: Final = 200
_MAX_TOKENS_TOLD: Final = 100_000_000
_AGAIN: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS, 425})


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A server's answer."""

    text: str
    tokens_in: int | None
    """What is billed; None when the server does not say."""
    tokens_out: int | None
    finish_reason: str
    """length: it was cut off; else empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked."""

    model: str
    messages: Sequence[Mapping[str, str]]
    schema_name: str
    schema: Mapping[str, Any]
    temperature: float
    max_tokens: int

    def body(self, dialect: Dialect) -> bytes:
        """As the server takes it."""
        wire = {
            "model": self.model,
            "messages": self.messages,
            dialect.max_tokens_name: self.max_tokens,
            "stream": False,
            **({"temperature": self.temperature} if dialect.takes_temperature else {}),
            **dialect.response_format(name=self.schema_name, schema=self.schema),
        }
        return json.dumps(wire, separators=(",", ":"), ensure_ascii=False).encode()


class ChatServer:
    """The endpoint, with a pool of connections."""

    def __init__(self, http: httpx.AsyncClient, *, url: str, max_response_bytes: int) -> None:
        self._http = http
        self._url = url.rstrip("/") + PATH
        self._max_bytes = max_response_bytes

    async def complete(self, body: bytes, *, key: SecretStr | None) -> Completion:
        """Ask once; a caller that gives up leaves the connection to the next.

        Raises:
            NoCompletion: there is no answer.
        """
        return await or_hang_up(lambda seen: self._complete(body, key=key, seen=seen))

    async def _complete(self, body: bytes, *, key: SecretStr | None, seen: Extensions) -> Completion:
        headers, extensions = _headers(key), dict(seen)
        try:
            async with self._http.stream(
                "POST", self._url, content=body, headers=headers, extensions=extensions
            ) as response:
                raw = await self._read(response)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise NoCompletion(Fault.CONNECTION, f"cannot be reached: {type(error).__name__}") from None
        except httpx.HTTPError as error:
            # Its text may hold a header's value.
            why = f"the connection broke: {type(error).__name__}"
            raise NoCompletion(Fault.CONNECTION, why, billed=True) from None
        text = _without_key(raw.decode("utf-8", "replace"), key)
        if response.status_code != HTTPStatus.OK:
            raise _refusal(response, text)
        return _completion(text, key)

    async def _read(self, response: httpx.Response) -> bytes:
        packed = response.headers.get("content-encoding", "identity")
        if packed != "identity":
            raise NoCompletion(Fault.PROTOCOL, f"sent {packed[:20]!r} unasked", again=False, billed=True)
        chunks = bytearray()
        async for chunk in response.aiter_raw():
            chunks += chunk
            if len(chunks) > self._max_bytes:
                raise NoCompletion(Fault.TOO_LARGE, f"more than {self._max_bytes} bytes", again=False, billed=True)
        return bytes(chunks)


def open_http(url: str) -> httpx.AsyncClient:
    """A pooled client for one endpoint; the caller closes it. No proxy to this machine.

    Only connecting has a time of its own: the deadline bounds the rest.
    """
    return httpx.AsyncClient(
        verify=not url.startswith("http:"),  # no certificates to load
        timeout=httpx.Timeout(None, connect=_CONNECT_S),
        limits=httpx.Limits(max_connections=8, max_keepalive_connections=8, keepalive_expiry=90.0),
        follow_redirects=False,
        trust_env=not is_loopback(url),
    )


def _headers(key: SecretStr | None) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "Accept": "application/json", "Accept-Encoding": "identity"}
    if key is not None:
        secret = key.get_secret_value()
        if not (secret.isascii() and secret.isprintable() and " " not in secret):
            raise NoCompletion(Fault.API_KEY, "the key holds a character that no header takes", again=False)
        headers["Authorization"] = f"Bearer {secret}"
    return headers


def _without_key(text: str, key: SecretStr | None) -> str:
    """Text that can be written down: no key, and no half of a character, which no encoding takes."""
    whole = text.encode("utf-8", "replace").decode()
    if key is None:
        return whole
    secret = key.get_secret_value()
    return re.sub("".join(map(_in_json, secret)), REDACTED, whole.replace(secret, REDACTED))


def _in_json(character: str) -> str:
    """A pattern of the ways to write a character of the key inside a JSON string."""
    forms = [rf"\\u(?i:{ord(character):04x})"]
    if character in '"\\/':
        forms.append(re.escape("\\" + character))
    if character not in '"\\':
        forms.append(re.escape(character))
    return f"(?:{'|'.join(forms)})"


def _refusal(response: httpx.Response, text: str) -> NoCompletion:
    status = response.status_code
    unsure = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    told = " ".join(text.split())[:_MAX_TEXT]
    return NoCompletion(
        Fault.HTTP,
        f"{status} {told}".strip(),
        again=unsure or status in _AGAIN,
        billed=unsure,
        delay_s=_delay(response),
        status=status,
    )


def _delay(response: httpx.Response) -> float | None:
    """Retry-After in seconds; a date counts from the server's own Date, because our clock may be another time."""
    asked = response.headers.get("retry-after", "").strip()
    if asked.isascii() and asked.isdecimal():
        return float(asked[:9])
    try:
        until, now = parsedate_to_datetime(asked), parsedate_to_datetime(response.headers.get("date", ""))
        return max(0.0, (until - now).total_seconds())
    except (TypeError, ValueError):
        return None


def _completion(text: str, key: SecretStr | None) -> Completion:
    try:
        answer = json.loads(text)
        choice = answer["choices"][0]
        message = choice["message"]
        content, refused = message.get("content"), message.get("refusal")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        why = f"no chat completion: {' '.join(text.split())[:_MAX_TEXT]}"
        raise NoCompletion(Fault.PROTOCOL, why, billed=True) from None
    if isinstance(refused, str) and refused:
        raise NoCompletion(Fault.REFUSAL, _without_key(refused, key)[:_MAX_TEXT], again=False, billed=True)
    if not isinstance(content, str) or not content.strip():
        raise NoCompletion(Fault.PROTOCOL, "an empty message", billed=True)
    usage = answer.get("usage")
    return Completion(
        text=_without_key(content, key),
        tokens_in=_count(usage, "prompt_tokens"),
        tokens_out=_count(usage, "completion_tokens"),
        finish_reason="length" if choice.get("finish_reason") == "length" else "",
    )


def _count(usage: object, name: str) -> int | None:
    """A number of tokens, if it can be one."""
    told = usage.get(name) if isinstance(usage, dict) else None
    return told if type(told) is int and 0 <= told <= _MAX_TOKENS_TOLD else None
