"""The operator's own figures, for Prometheus; seconds are real seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

_RECONCILE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_PATCH_BUCKETS = (0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.15, 0.25, 0.5, 1, 2, 5, 10, 30, 60)

reconciles = Counter("tradingbot_operator_reconciles_total", "Reconciles that ended well", ["lane"])
reconcile_errors = Counter("tradingbot_operator_reconcile_errors_total", "Reconciles that failed", ["lane", "kind"])
reconcile_seconds = Histogram(
    "tradingbot_operator_reconcile_duration_seconds", "Time of one reconcile", ["lane"], buckets=_RECONCILE_BUCKETS
)
queue_depth = Gauge("tradingbot_operator_queue_depth", "Keys that wait for a worker", ["lane"])
queue_running = Gauge("tradingbot_operator_queue_running", "Keys that are worked on", ["lane"])
oldest_dirty_seconds = Gauge(
    "tradingbot_operator_oldest_dirty_seconds", "Age of the oldest change that no reconcile has finished", ["lane"]
)
mode_patch_to_applied_seconds = Histogram(
    "tradingbot_operator_mode_patch_to_applied_seconds",
    "From the operator's sight of a mode in a spec to its command in the bot's Redis",
    buckets=_PATCH_BUCKETS,
)
child_writes = Counter("tradingbot_operator_child_writes_total", "Writes to children", ["kind", "verb"])
drift_corrections = Counter("tradingbot_operator_drift_corrections_total", "Children brought back", ["kind"])
watch_age_seconds = Gauge(
    "tradingbot_operator_watch_last_event_age_seconds", "Since the most silent watch was last heard of, bookmarks too"
)
watch_missed = Counter(
    "tradingbot_operator_watch_missed_total", "Objects of which a list knew more than the watch had told", ["kind"]
)
namespaces_left_out = Gauge(
    "tradingbot_operator_namespaces_left_out", "Watched namespaces that may not be read, whose bots nobody serves"
)
bots = Gauge("tradingbot_operator_bots", "TradingBots that are known")
bot_condition = Gauge(
    "tradingbot_condition", "A condition of a bot: 1 true, 0 false, -1 unknown", ["namespace", "bot", "condition"]
)

_ALERTED_ON = ("Ready", "ModeApplied", "Degraded")
"""The conditions that alerts read; the others stay in the resource, so that 1,000 bots stay 3,000 series."""
_TRUTH = {"True": 1, "False": 0}


def observe_conditions(namespace: str, bot: str, conditions: Iterable[Mapping[str, Any]]) -> None:
    """Show a bot's conditions as its status has them."""
    for each in conditions:
        if each["type"] in _ALERTED_ON:
            bot_condition.labels(namespace, bot, each["type"]).set(_TRUTH.get(each["status"], -1))


def forget_conditions(namespace: str, bot: str) -> None:
    """The bot is gone: so are its figures."""
    for condition in _ALERTED_ON:
        bot_condition.remove(namespace, bot, condition)


def observe_queue(
    lane: str, *, depth: Callable[[], float], running: Callable[[], float], oldest_s: Callable[[], float]
) -> None:
    """Read a lane's figures whenever they are asked for."""
    queue_depth.labels(lane=lane).set_function(depth)
    queue_running.labels(lane=lane).set_function(running)
    oldest_dirty_seconds.labels(lane=lane).set_function(oldest_s)
