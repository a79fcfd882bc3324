"""A record of the audit log for a person: what happened in words, with the figures that matter.

A record holds far more (inputs, each step's change, the model's whole answer); ``tradingbot audit --json`` prints all
of it. A kind that has no words of its own here, or was written by another version, is told as its names and values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from tradingbot.domain.envelope import Message
from tradingbot.domain.messages import AuditRecord

VALUE_MAX: Final = 160
"""Characters of a single value that are shown."""

Details = Mapping[str, Any]


def audit_line(message: Message[AuditRecord]) -> str:
    """One line, whatever the record holds; nothing in it can move a terminal's cursor."""
    env, record = message.env, message.data
    head = f"{env.ts:%H:%M:%S} {env.cycle_id} {env.source:<15} {record.level:<7} {record.kind:<18} "
    return (head + audit_words(record)).rstrip()


def audit_words(record: AuditRecord) -> str:
    """What a record says, without when and by whom."""
    try:
        words = _TELL.get(record.kind, _plain)(record.details)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        words = _plain(record.details)
    return _one_line(words)


def _features(details: Details) -> str:
    coins = f"{details['coins']} coins, {details['produced_after_ms']:,} ms after the minute"
    lacks = [_named(name.replace("_", " "), details.get(name)) for name in ("missing", "stale", "crossed", "no_book")]
    without = [_named(f"without {name}", coins) for name, coins in details.get("without", {}).items()]
    return _joined(coins, *lacks, *without, _named("failures", details.get("failures")))


def _target(details: Details) -> str:
    if "skipped" in details:
        return f"no target: {details['skipped']}"
    used, strategy = details["used"], details.get("strategy", details["used"])
    who = used if used == strategy else f"{used} in place of {strategy}"
    error = details.get("error")
    return _joined(
        f"{_weights(details['steps']['turnover'])} by {who}, confidence {details['confidence']:.2f}",
        f"because {_value(error)}" if error else "",
        _named("held", details.get("held")),
    )


def _approval(details: Details) -> str:
    if "skipped" in details:
        return f"nothing approved: {details['skipped']}"
    why = f" by {details['mode_source']}: {details['mode_reason']}" if details.get("mode_reason") else ""
    return _joined(
        f"{details['mode']}{why}",
        _weights(details["approved"]),
        f"gross {_percent(details['gross'])} net {_percent(details['net'])} turnover {_percent(details['turnover'])}",
        _named("clamped", [f"{each['symbol']} {each['reason']}" for each in details["clamps"]]),
        _named("flags", details.get("flags")),
    )


def _plan(details: Details) -> str:
    if why := details.get("why"):
        return f"nothing planned: {why}"
    return _joined(
        f"{_count(details['orders'], 'order')} in {_count(details['slices'], 'slice')}",
        _named("left out", details.get("skipped")),
    )


def _reports(details: Details) -> str:
    return _joined(
        f"{_count(details['orders'], 'order')}, {_count(details['fills'], 'fill')}",
        f"filled {float(details['filled_usd']):,.2f} USD, fees {float(details['fees_usd']):.4f} USD",
        *(_named(name, details.get(name)) for name in ("outcomes", "skipped", "errors")),
    )


def _mode(details: Details) -> str:
    return _joined(f"{details['before']} -> {details['after']} by {details['source']}", _value(details["reason"]))


def _breaker(details: Details) -> str:
    drop = details.get("drawdown")
    return _joined(
        f"{details.get('was') or 'start'} -> {details['mode']}",
        _named("because", details["causes"]),
        _named("latched", details["latches"]),
        "" if drop is None else f"drawdown {_percent(drop)}",
        _money("equity", details.get("equity_usd")),
        _money("peak", details.get("peak_usd")),
    )


def _circuit(details: Details) -> str:
    if details["state"] == "closed":
        return "the language model is no longer left alone"
    return _joined(
        f"the language model is left alone for {details['wait_s']:.0f} s after "
        f"{_count(details['failures'], 'failed decision')} in a row",
        _named("last", details.get("error")),
    )


def _plain(details: Details) -> str:
    return _joined(*(_named(name.replace("_", " "), value) for name, value in details.items()))


_TELL: Final[Mapping[str, Callable[[Details], str]]] = {
    "md.features.1m": _features,
    "alpha.target": _target,
    "risk.approved": _approval,
    "exec.plan": _plan,
    "exec.reports": _reports,
    "mode": _mode,
    "breaker": _breaker,
    "llm.circuit": _circuit,
}


def _named(name: str, value: Any) -> str:
    """A name and its value; nothing where there is none."""
    return "" if value is None or value in ([], (), {}, "") else f"{name} {_value(value)}"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        text = ", ".join(f"{name} {_value(each)}" for name, each in value.items())
    elif isinstance(value, list | tuple):
        text = ", ".join(map(_value, value))
    else:
        text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= VALUE_MAX else f"{text[: VALUE_MAX - 1]}…"


def _weights(weights: Mapping[str, float]) -> str:
    return " ".join(f"{symbol} {weight * 100:+.1f}%" for symbol, weight in weights.items() if weight) or "flat"


def _count(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _percent(part: float) -> str:
    return f"{part * 100:.1f}%"


def _money(name: str, usd: str | None) -> str:
    return "" if usd is None else f"{name} {float(usd):,.2f} USD"


def _joined(*parts: str) -> str:
    return "; ".join(filter(None, parts))


def _one_line(text: str) -> str:
    return " ".join(_printable(text).split())


def _printable(text: Iterable[str]) -> str:
    return "".join(each if each.isprintable() else " " for each in text)
