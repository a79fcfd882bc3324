"""An OpenAI-compatible server in a process of its own, which answers as a test tells it to.

``model_server.script(reply("…"), http(429, retry_after=1), HANG)``: each request takes the next entry; the last one
stays. ``model_server.requests()`` is what was asked. How to use it: the fixture ``model_server``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.request import urlopen

import pytest

Entry = dict[str, Any]

HANG: Entry = {"kind": "hang"}
"""Accepts the request and never says anything."""
TRICKLE: Entry = {"kind": "trickle"}
"""A byte every 20 ms, for ever."""
CUT: Entry = {"kind": "cut"}
"""Promises a body and closes in the middle of it."""
CLOSE: Entry = {"kind": "close"}
"""Closes without a word."""
FLOOD: Entry = {"kind": "flood"}
"""A body without an end, as fast as it is read."""
USAGE = {"prompt_tokens": 1000, "completion_tokens": 100}


def reply(
    content: str | None, *, usage: Any = USAGE, finish: str = "stop", delay_s: float = 0, **message: Any
) -> Entry:
    """A chat completion."""
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": content, **message}}
    body = {"object": "chat.completion", "choices": [choice], **({} if usage is None else {"usage": usage})}
    return {"kind": "body", "status": 200, "body": json.dumps(body), "headers": {}, "delay_s": delay_s}


def http(status: int, body: str = "", **headers: str) -> Entry:
    """Any answer; header names with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return {"kind": "body", "status": status, "body": body, "headers": named, "delay_s": 0}


@dataclass
class ModelServer:
    """The process, seen from a test."""

    url: str

    @property
    def endpoint(self) -> str:
        """What AI_LLM_ENDPOINT takes."""
        return f"{self.url}/v1"

    def script(self, *entries: Entry) -> None:
        """What is answered from now on; forgets earlier requests."""
        self._say("/script", json.dumps(entries).encode())

    def requests(self) -> list[dict[str, Any]]:
        """What was asked: {path, headers, body}."""
        return self._say("/requests")

    def _say(self, path: str, body: bytes | None = None) -> Any:
        with urlopen(self.url + path, body, timeout=60) as answer:
            return json.load(answer)


@pytest.fixture(scope="session")
def _model_process() -> Iterator[ModelServer]:
    process = subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield ModelServer(url=f"http://127.0.0.1:{process.stdout.readline().strip()}")
    process.kill()
    process.stdout.close()
    process.wait()


@pytest.fixture
def model_server(_model_process: ModelServer) -> ModelServer:
    _model_process.script(http(500, "no script"))
    return _model_process


class _Server:
    """Speaks just enough HTTP to be able to break all of it."""

    def __init__(self) -> None:
        self._script: list[Entry] = []
        self._asked: list[dict[str, Any]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await self._one(reader, writer):
                pass
        writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        path = head[0].split(" ")[1]
        if path == "/script":
            self._script, self._asked = json.loads(body), []
            return await _write(writer, 200, "{}")
        if path == "/requests":
            return await _write(writer, 200, json.dumps(self._asked))
        self._asked.append({"path": path, "headers": headers, "body": json.loads(body)})
        return await self._play(self._script.pop(0) if len(self._script) > 1 else self._script[0], writer)

    async def _play(self, entry: Entry, writer: asyncio.StreamWriter) -> bool:
        match entry["kind"]:
            case "hang":
                await asyncio.Event().wait()
            case "trickle":
                await _start(writer)
                while True:
                    writer.write(b"1\r\n \r\n")
                    await writer.drain()
                    await asyncio.sleep(0.02)
            case "flood":
                await _start(writer)
                while True:
                    writer.write(b"1000\r\n" + b" " * 0x1000 + b"\r\n")
                    await writer.drain()
            case "cut":
                writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"choices"')
                await writer.drain()
            case "body":
                await asyncio.sleep(entry["delay_s"])
                return await _write(writer, entry["status"], entry["body"], **entry["headers"])
        return False


async def _start(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    await writer.drain()


async def _write(writer: asyncio.StreamWriter, status: int, body: str, **headers: str) -> bool:
    content = body.encode()
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(content)}", *(f"{k}: {v}" for k, v in headers.items())]
    writer.write("\r\n".join([*lines, "", ""]).encode() + content)
    await writer.drain()
    return True


async def _main() -> None:
    server = await asyncio.start_server(_Server().serve, "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main())
