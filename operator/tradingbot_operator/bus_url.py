"""How the operator reaches a bot's Redis: by the password that it derives, or by the URL in a Secret of the bot's.

Of Secrets nothing else is ever read. A URL is kept until Redis refuses its password.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

from pydantic import SecretStr
from redis.asyncio.connection import parse_url

from tradingbot.bus.names import OPERATOR
from tradingbot.domain.errors import Permanent
from tradingbot_operator.names import REDIS, child
from tradingbot_operator.resource import Bot

PORT: Final = 6379
Address = Callable[[Bot], tuple[str, int]]
"""Host and port of a bot's own Redis."""


class UrlError(Permanent):
    """The Secret with the URL cannot be used; its content is never shown."""

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class Passwords(Protocol):
    """What derives the passwords (``keys.MasterKey``)."""

    def password(self, namespace: str, bot_id: str, user: str) -> str: ...


class Reads(Protocol):
    """What reads one object (``kube.Kube``)."""

    def get(self, api_version: str, kind: str, namespace: str, name: str) -> Awaitable[Mapping[str, Any] | None]: ...


def in_cluster(bot: Bot) -> tuple[str, int]:
    """Where a bot's own Redis is reached from inside the cluster."""
    return f"{child(bot.name, REDIS)}.{bot.namespace}.svc", PORT


class UrlSource:
    """The URL of each bot's Redis."""

    def __init__(self, *, passwords: Passwords, kube: Reads, address: Address = in_cluster) -> None:
        self._passwords = passwords
        self._kube = kube
        self._address = address
        self._kept: dict[str, SecretStr] = {}
        self._reading: dict[tuple[str, str], asyncio.Task[Mapping[str, Any] | None]] = {}
        """Reads under way: the bots that share a Secret ask for it at the same time when the operator starts."""

    async def url_of(self, bot: Bot) -> SecretStr:
        """The URL.

        Raises:
            UrlError: the Secret or its field is missing, is no URL, or may not be read.
        """
        if bot.spec.redis.url_secret_ref is None:
            host, port = self._address(bot)
            password = self._passwords.password(bot.namespace, bot.bot_id, OPERATOR)
            return SecretStr(f"redis://{OPERATOR}:{password}@{host}:{port}/0")
        if bot.uid not in self._kept:
            self._kept[bot.uid] = await self._read(bot)
        return self._kept[bot.uid]

    def forget(self, bot: Bot) -> bool:
        """Read the Secret again at the next use; False when there is none, so that nothing can have changed."""
        return self._kept.pop(bot.uid, None) is not None

    def look_at(self, bot: Bot) -> str:
        """The command that shows a person how the bot's Redis is."""
        if ref := bot.spec.redis.url_secret_ref:
            return f"kubectl -n {bot.namespace} get secret {ref.name}"
        return f"kubectl -n {bot.namespace} describe pod {child(bot.name, REDIS)}-0"

    async def _read(self, bot: Bot) -> SecretStr:
        ref = bot.spec.redis.url_secret_ref
        assert ref is not None
        where = f"Secret {ref.name} of spec.redis.urlSecretRef"
        try:
            secret = await self._secret(bot.namespace, ref.name)
        except Permanent as error:
            text = f"the operator may not read {where}: add it to the chart's value redis.urlSecretNames ({error})"
            raise UrlError(text, reason="SecretForbidden") from error
        if secret is None:
            raise UrlError(f"{where} is not there: create it", reason="SecretMissing")
        coded = (secret.get("data") or {}).get(ref.key)
        if coded is None:
            raise UrlError(f"{where} has no key {ref.key}", reason="SecretMissing")
        try:
            url = base64.b64decode(coded, validate=True).decode("ascii").strip()
            parse_url(url)
        except (binascii.Error, UnicodeDecodeError, ValueError):
            raise UrlError(
                f"{where}: its key {ref.key} is no redis:// or rediss:// URL", reason="SecretUnusable"
            ) from None
        return SecretStr(url)

    async def _secret(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        """The Secret, from the read that is under way if there is one; it is not kept."""
        reading = self._reading.get((namespace, name))
        if reading is None:
            reading = asyncio.create_task(self._fetch(namespace, name), name=f"read Secret {namespace}/{name}")
            self._reading[namespace, name] = reading
        return await asyncio.shield(reading)  # who is cancelled takes it from none of the others

    async def _fetch(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        try:
            return await self._kube.get("v1", "Secret", namespace, name)
        finally:
            del self._reading[namespace, name]
