"""The figures that every process counts, for Prometheus.

Objects are made once per process at import; a service only ever observes them. Latencies are real seconds, whatever
the speed of the virtual clock; ages of the market's events (fills, cycles) are virtual seconds.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, generate_latest

_STEP_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.015, 0.025, 0.04, 0.075, 0.15, 0.3, 0.6, 1.2, 2.5, 5, 10)
_FILL_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60)
_SLIPPAGE_BUCKETS = (-20, -10, -5, -2, -1, 0, 1, 2, 5, 10, 20, 50, 100)

bus_messages_in = Counter("bus_messages_in_total", "Entries read from a stream", ["stream"])
bus_messages_out = Counter("bus_messages_out_total", "Entries written to a stream", ["stream"])
bus_pending = Gauge("bus_pending", "Entries delivered to a group and not yet acknowledged", ["stream", "group"])
redis_memory_ratio = Gauge("redis_memory_ratio", "Used part of Redis' maxmemory; 0 without a bound")
dead_letters = Counter("dead_letters_total", "Entries that became dead letters", ["stream"])

service_errors = Counter("service_errors_total", "Errors by kind: the class of the exception", ["kind"])
service_latency = Histogram(
    "service_latency_seconds", "Real time that a step of the service took", ["step"], buckets=_STEP_BUCKETS
)

orders = Counter("orders_total", "Order actions sent to the venue", ["action"])
order_rejects = Counter("order_rejects_total", "Orders that the venue refused")
fill_latency = Histogram("fill_latency_seconds", "Virtual time from an intent to its fill", buckets=_FILL_BUCKETS)
slippage = Histogram(
    "slippage_bps", "Fill price against the mid at the intent; positive is worse", buckets=_SLIPPAGE_BUCKETS
)
cycle_lag = Gauge("cycle_lag_seconds", "Virtual time from a cycle's start to this service's output for it")


def render() -> bytes:
    """All figures of this process in Prometheus' text form."""
    return generate_latest(REGISTRY)


def count_error(error: BaseException) -> None:
    """Count an error under its class."""
    service_errors.labels(kind=type(error).__name__).inc()


def measured(step: str) -> AbstractContextManager[object]:
    """Observe how long a step took, in real seconds."""
    return service_latency.labels(step=step).time()
