"""The bus and the trading in gauges, computed from the board when Prometheus asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tradingbot.monitor.models import Page

_PREFIX = "tradingbot_"


class BoardCollector(Collector):
    """Makes gauges of a page."""

    def __init__(self, page: Callable[[], Page]) -> None:
        self._page = page

    def collect(self) -> Iterable[Metric]:
        """The gauges at this moment."""
        page = self._page()
        yield from _trading(page)
        yield from _account(page)
        yield from _llm(page)
        yield from _bus(page)

    def describe(self) -> Iterable[Metric]:
        """Nothing ahead of time: what is unknown is left out, never shown as 0."""
        return ()


def _gauge(name: str, text: str, value: float | None) -> Iterable[Metric]:
    if value is not None:
        yield GaugeMetricFamily(f"{_PREFIX}{name}", text, value=value)


def _seconds(value_ms: float | None) -> float | None:
    return None if value_ms is None else value_ms / 1000


def _trading(page: Page) -> Iterable[Metric]:
    figures = page.figures
    yield from _gauge("orders_per_minute", "Orders in the last virtual minute", figures.orders_per_min)
    yield from _gauge("cancels_per_minute", "Cancels in the last virtual minute", figures.cancels_per_min)
    yield from _gauge("rejects_per_minute", "Refusals in the last virtual minute", figures.rejects_per_min)
    yield from _gauge("order_reject_ratio", "Refused / final answers, last 500", figures.reject_ratio)
    yield from _gauge("fill_latency_p50_seconds", "Intent to fill", _seconds(figures.fill_latency_p50_ms))
    yield from _gauge("fill_latency_p99_seconds", "Intent to fill", _seconds(figures.fill_latency_p99_ms))
    yield from _gauge("slippage_mean_bps", "Against the mid at the intent", figures.slippage_mean_bps)
    yield from _gauge("fallback_ratio", "Cycles that the baseline decided / decided, last 20", figures.fallback_ratio)
    yield from _gauge("approval_lag_seconds", "Cycle start to its approval, virtual", figures.cycle_lag_s)


def _account(page: Page) -> Iterable[Metric]:
    equity = None if page.equity_usd is None else float(page.equity_usd)
    yield from _gauge("equity_usd", "Account value", equity)
    yield from _gauge("gross_weight", "Sum of |weights| held", page.gross)
    yield from _gauge("net_weight", "Sum of weights held", page.net)
    yield from _gauge("snapshot_age_seconds", "Virtual age of the newest snapshot", page.snapshot_age_s)
    yield from _gauge("mode", "0 NORMAL, 1 REDUCE_ONLY, 2 HALT", page.mode.mode.rank if page.mode else None)


def _llm(page: Page) -> Iterable[Metric]:
    llm = page.llm
    if llm is None:
        return
    spend, cap = (None if usd is None else float(usd) for usd in (llm.spend_usd, llm.cap_usd))
    circuit = None if llm.circuit is None else float(llm.circuit.open)
    yield from _gauge("llm_spend_usd", "The language model's cost today, reservations included", spend)
    yield from _gauge("llm_cap_usd", "What the language model may cost in a day", cap)
    yield from _gauge("llm_circuit_open", "1 while a failing language model is left alone", circuit)
    yield from _gauge("llm_calls", "Requests of the newest decision", llm.calls)
    yield from _gauge("llm_tokens_in", "Prompt tokens of the newest decision", llm.tokens_in)
    yield from _gauge("llm_tokens_out", "Answer tokens of the newest decision", llm.tokens_out)
    yield from _gauge("llm_latency_seconds", "Real time that the newest decision's calls took", llm.latency_s)


def _bus(page: Page) -> Iterable[Metric]:
    yield from _gauge("bus_connected", "1 while the monitor reads the bus", float(page.bus.connected))
    lag = GaugeMetricFamily(f"{_PREFIX}bus_lag", "Entries not yet delivered to a group", labels=["stream", "group"])
    oldest = GaugeMetricFamily(
        f"{_PREFIX}bus_oldest_pending_seconds",
        "Since the oldest pending entry was delivered; 0: none is pending",
        labels=["stream", "group"],
    )
    for row in page.bus.groups:
        if row.lag is not None:
            lag.add_metric([row.stream, row.group], row.lag)
        oldest.add_metric([row.stream, row.group], row.oldest_pending_s or 0.0)
    letters = GaugeMetricFamily(f"{_PREFIX}dead_letters_held", "Entries in dead-letter streams", labels=["stream"])
    for stream, count in page.bus.dead_letters.items():
        letters.add_metric([stream], count)
    yield from (lag, oldest, letters)
