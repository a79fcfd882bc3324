"""Logs are JSON, and a secret never leaves in one."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from pydantic import SecretStr

from tradingbot.runtime.clock import ManualClock
from tradingbot.runtime.logging import REDACTED, configure_logging, redact

KEY = "4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_json_with_the_service_and_both_times(stream: io.StringIO) -> None:
    log = configure_logging(service="execution", level="INFO", clock=ManualClock(0), stream=stream)
    structlog.contextvars.bind_contextvars(cycle_id="20260218T1600Z")

    log.info("planned", slices=3)

    (line,) = lines(stream)
    assert line["event"] == "planned"
    assert line["service"] == "execution"
    assert line["cycle_id"] == "20260218T1600Z"
    assert line["virtual"] == "1970-01-01T00:00:00.000+00:00"
    assert str(line["ts"]).endswith("Z")


@pytest.mark.parametrize("text", [KEY, f"0x{KEY}", f"key={KEY};", f"['{KEY.upper()}']"])
def test_what_looks_like_a_key_is_cut_out_wherever_it_stands(stream: io.StringIO, text: str) -> None:
    log = configure_logging(service="execution", level="INFO", clock=ManualClock(), stream=stream)

    log.info(text, deep={"list": [text]}, secret=SecretStr(KEY))
    log.error("failed", exc_info=ValueError(text))
    logging.getLogger("library").warning("%s", text)

    assert KEY.lower() not in stream.getvalue().lower()
    assert stream.getvalue().count(REDACTED) >= 4


def test_passwords_in_addresses_are_cut_out() -> None:
    assert redact("redis://user:hunter2@host:1/0") == f"redis://{REDACTED}@host:1/0"


def test_order_ids_stay_readable() -> None:
    cloid = "0x" + "ab" * 16

    assert redact({"cloid": cloid, "n": 3, "none": None}) == {"cloid": cloid, "n": 3, "none": None}


def test_libraries_are_quiet_below_warning(stream: io.StringIO) -> None:
    configure_logging(service="execution", level="DEBUG", clock=ManualClock(), stream=stream)

    logging.getLogger("httpx").info("request")

    assert stream.getvalue() == ""
