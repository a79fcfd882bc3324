"""The URL of a bot's Redis in a Secret that many bots share."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr

from tradingbot_operator.bus_url import UrlSource
from tradingbot_operator.keys import MasterKey
from tradingbot_operator.resource import Bot, parse


class Server:
    """Answers for one Secret after a while, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.go = asyncio.Event()
        self.urls = {f"url-{n}": f"redis://redis:6379/{n}" for n in range(3)}

    async def get(self, api_version: str, kind: str, namespace: str, name: str) -> Mapping[str, Any] | None:
        self.asked += 1
        await self.go.wait()
        return {"data": {key: base64.b64encode(url.encode()).decode() for key, url in self.urls.items()}}


def bot(index: int) -> Bot:
    ref = {"name": "urls", "key": f"url-{index}"}
    metadata = {"namespace": "bots", "name": f"b{index}", "uid": f"uid-{index}", "generation": 1}
    return parse({"metadata": metadata, "spec": {"suspend": True, "redis": {"urlSecretRef": ref}}})


async def test_bots_that_ask_for_one_secret_at_once_share_a_read_and_get_their_own_url() -> None:
    server = Server()
    source = UrlSource(passwords=MasterKey(bytes(32)), kube=server)
    asking = [asyncio.create_task(source.url_of(bot(n))) for n in range(3)]
    await asyncio.sleep(0)
    asking[0].cancel()
    await asyncio.sleep(0)
    server.go.set()
    found = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    urls = [each.get_secret_value() for each in found if isinstance(each, SecretStr)]
    assert urls == ["redis://redis:6379/1", "redis://redis:6379/2"]
    assert server.asked == 1


async def test_a_secret_is_read_again_when_its_password_was_refused() -> None:
    server = Server()
    server.go.set()
    source = UrlSource(passwords=MasterKey(bytes(32)), kube=server)
    await source.url_of(bot(1))
    server.urls["url-1"] = "redis://other:6379/1"
    assert source.forget(bot(1))
    assert (await source.url_of(bot(1))).get_secret_value() == "redis://other:6379/1"
    assert server.asked == 2
