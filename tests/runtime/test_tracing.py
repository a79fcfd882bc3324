"""Spans of one cycle join across services, and cost nothing when nobody listens."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tradingbot.domain.ids import trace_id
from tradingbot.runtime import tracing


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch):
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_tracer", provider.get_tracer("test"))
    return exporter


def test_two_services_spans_of_a_cycle_are_one_trace(exported) -> None:
    with tracing.span("decide", bot_id="bot", cycle_id="20260218T1600Z"):
        pass
    with tracing.span("approve", bot_id="bot", cycle_id="20260218T1600Z", coins=5):
        pass
    with tracing.span("decide", bot_id="bot", cycle_id="20260218T1601Z"):
        pass

    first, second, other = exported.get_finished_spans()
    assert first.context.trace_id == second.context.trace_id == trace_id(bot_id="bot", cycle_id="20260218T1600Z")
    assert first.parent.span_id == second.parent.span_id
    assert other.context.trace_id != first.context.trace_id


def test_without_an_endpoint_nothing_of_opentelemetry_is_loaded() -> None:
    code = (
        "import sys; from tradingbot.runtime import tracing; tracing.configure_tracing(service='x', endpoint=None)\n"
        "with tracing.span('s', bot_id='b', cycle_id='c'): pass\n"
        "assert not [each for each in sys.modules if each.startswith('opentelemetry')]"
    )

    subprocess.run([sys.executable, "-c", code], check=True, timeout=90)
