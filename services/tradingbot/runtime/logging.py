"""JSON logs on stderr, one object a line, that never hold a secret.

A secret is a ``SecretStr`` and does not print. As a second line of defence every text that leaves is searched for what
looks like a private key (64 hex digits) and for passwords in URLs.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any, TextIO, cast

import structlog
from pydantic import SecretBytes, SecretStr
from structlog.typing import EventDict, Processor, WrappedLogger

from tradingbot.domain.cycles import from_ms
from tradingbot.runtime.clock import Clock

_KEY = re.compile(r"(?<![0-9a-fA-F])(?:0x)?[0-9a-fA-F]{64}(?![0-9a-fA-F])")
_URL_PASSWORD = re.compile(r"(://)[^/@\s]*@")
REDACTED = "[redacted]"
_QUIET = ("httpx", "httpcore", "websockets", "uvicorn", "asyncio", "hpack")


def redact(value: Any) -> Any:
    """The value without anything that looks like a key or a password, at any depth."""
    if isinstance(value, SecretStr | SecretBytes):
        return REDACTED
    if isinstance(value, str):
        return _URL_PASSWORD.sub(rf"\1{REDACTED}@", _KEY.sub(REDACTED, value))
    if isinstance(value, bytes):
        return redact(value.decode("utf-8", "replace"))
    if isinstance(value, Mapping):
        return {redact(key): redact(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(each) for each in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return redact(str(value))


def _redact_event(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    return cast("EventDict", redact(dict(event)))


def _virtual_time(clock: Clock) -> Processor:
    def add(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event["virtual"] = from_ms(clock.now_ms()).isoformat(timespec="milliseconds")
        return event

    return add


def configure_logging(
    *, service: str, level: str, clock: Clock, stream: TextIO | None = None
) -> structlog.stdlib.BoundLogger:
    """Send this process's logs, and those of its libraries, to ``stream`` (stderr) as JSON.

    ``ts`` is real time; ``virtual`` is the bot's own time.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        _virtual_time(clock),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _redact_event,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(service=service)
    return cast("structlog.stdlib.BoundLogger", structlog.get_logger(f"tradingbot.{service}"))
