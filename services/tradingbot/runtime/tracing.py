"""Traces that join a cycle across services, without a field on the bus.

Every service derives the same trace id, and the same root span id, from (bot, cycle); a span of any service hangs under
that root. Nothing of OpenTelemetry is imported unless an endpoint is set: six processes have to stay small.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from tradingbot.domain.ids import trace_id

_tracer: Any = None
_provider: Any = None
_ROOT_SPAN_MASK = (1 << 64) - 1


def configure_tracing(*, service: str, endpoint: str | None) -> None:
    """Export spans to an OTLP/HTTP endpoint; without one, spans cost nothing."""
    global _tracer, _provider  # noqa: PLW0603 - one tracer per process, as OpenTelemetry has it
    shutdown_tracing()
    if endpoint is None:
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - heavy
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    _provider = TracerProvider(resource=Resource.create({"service.name": f"tradingbot.{service}"}))
    _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces")))
    _tracer = _provider.get_tracer("tradingbot")


def shutdown_tracing() -> None:
    """Send what is left and stop."""
    global _tracer, _provider  # noqa: PLW0603
    if _provider is not None:
        _provider.shutdown()
    _tracer = _provider = None


@contextlib.contextmanager
def span(name: str, *, bot_id: str, cycle_id: str, **attributes: str | int | float | bool) -> Iterator[None]:
    """A span of this cycle's trace; a no-op unless an endpoint is set."""
    if _tracer is None:
        yield
        return
    from opentelemetry import trace  # noqa: PLC0415 - heavy

    joined = trace_id(bot_id=bot_id, cycle_id=cycle_id)
    root = trace.SpanContext(
        trace_id=joined,
        span_id=(joined & _ROOT_SPAN_MASK) or 1,
        is_remote=True,
        trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED),
    )
    parent = trace.set_span_in_context(trace.NonRecordingSpan(root))
    tags = {"bot_id": bot_id, "cycle_id": cycle_id, **attributes}
    with _tracer.start_as_current_span(name, context=parent, attributes=tags):
        yield
