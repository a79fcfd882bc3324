"""What is known of a bot, as text for a person or as one JSON document for a script. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from tradingbot_operator.names import CLEAR_BREAKER, LABEL_COMPONENT, PAUSE
from tradingbot_operator.plugin.bots import Resource, Seen, event_time

LAST_EVENTS = 8
_NORMAL = "NORMAL"
_NOTHING = "-"


def document(seen: Seen) -> dict[str, Any]:
    """For scripts: the resource's own words, and the few facts of pods and events that are shown."""
    bot = seen.bot
    return {
        "name": bot["metadata"]["name"],
        "namespace": bot["metadata"].get("namespace", ""),
        "generation": bot["metadata"].get("generation", 0),
        "spec": bot.get("spec") or {},
        "status": bot.get("status") or {},
        "pods": [pod_facts(each) for each in seen.pods],
        "events": [
            {"at": event_time(each), "type": each.get("type"), "reason": each.get("reason"), "note": _note(each)}
            for each in seen.events
        ],
        "notRead": list(seen.missing),
    }


def pod_facts(pod: Resource) -> dict[str, Any]:
    """A pod in five facts."""
    status = pod.get("status") or {}
    containers = status.get("containerStatuses") or []
    return {
        "name": pod["metadata"]["name"],
        "component": (pod["metadata"].get("labels") or {}).get(LABEL_COMPONENT, ""),
        "ready": bool(containers) and all(each.get("ready") for each in containers),
        "restarts": sum(int(each.get("restartCount", 0)) for each in containers),
        "state": _pod_state(pod, containers),
    }


def _pod_state(pod: Resource, containers: Sequence[Mapping[str, Any]]) -> str:
    """Why it does not run, in the kubelet's word; else its phase."""
    if pod["metadata"].get("deletionTimestamp"):
        return "Terminating"
    for each in containers:
        state = each.get("state") or {}
        for kind in ("waiting", "terminated"):
            if reason := (state.get(kind) or {}).get("reason"):
                return str(reason)
    return str((pod.get("status") or {}).get("phase", "Unknown"))


def table(bots: Iterable[Resource], *, now: datetime) -> list[str]:
    """A line for each of several bots."""
    rows = [("NAME", "MODE", "APPLIED", "READY", "EQUITY", "NETWORK", "PHASE", "AGE")]
    for bot in bots:
        spec, status = bot.get("spec") or {}, bot.get("status") or {}
        rows.append(
            (
                bot["metadata"]["name"],
                str(spec.get("mode", _NORMAL)),
                str((status.get("mode") or {}).get("effective") or _NOTHING),
                str(status.get("ready") or _NOTHING),
                str((status.get("portfolio") or {}).get("equityUsd") or _NOTHING),
                str((spec.get("exchange") or {}).get("network", "paper")),
                str(status.get("phase") or _NOTHING),
                _ago(bot["metadata"].get("creationTimestamp"), now),
            )
        )
    return list(_columns(rows))


def summary(seen: Seen, *, now: datetime) -> list[str]:
    """One bot, section by section; a section of nothing is left out."""
    sections = (
        _head(seen.bot, now),
        _mode(seen.bot, now),
        _titled("Conditions", _conditions(seen.bot, now)),
        _titled("Pods", _pods(seen.pods, now)),
        _titled("Last events", _events(seen.events[-LAST_EVENTS:], now)),
        [f"could not be read: {text}" for text in seen.missing],
    )
    lines: list[str] = []
    for section in sections:
        lines += ["", *section] if lines and section else section
    return lines


def _titled(title: str, lines: Iterable[str]) -> list[str]:
    found = [f"  {line}" for line in lines]
    return [title, *found] if found else []


def _head(bot: Resource, now: datetime) -> list[str]:
    metadata, spec, status = bot["metadata"], bot.get("spec") or {}, bot.get("status") or {}
    network = (spec.get("exchange") or {}).get("network", "paper")
    facts = [
        f"{metadata.get('namespace', 'default')}/{metadata['name']}",
        str(status.get("phase") or "not seen by the operator yet"),
        f"on {network}{' (dry run)' if _dry_run(spec, network) else ''}",
        f"{status.get('ready') or '0'} pods ready",
        f"age {_ago(metadata.get('creationTimestamp'), now)}",
    ]
    if metadata.get("deletionTimestamp"):
        facts.append(f"deletion asked for {_ago(metadata['deletionTimestamp'], now)} ago")
    lines = ["  ".join(facts), *_figures(status, now)]
    if (metadata.get("annotations") or {}).get(PAUSE, "").lower() == "true":
        lines.append(f"Paused: children are left alone until the annotation {PAUSE} is taken off; modes work")
    if said := status.get("deletion"):
        lines.append(f"Deletion: {said}")
    return lines


def _dry_run(spec: Mapping[str, Any], network: str) -> bool:
    said = spec.get("dryRun")
    return network != "paper" if said is None else bool(said)


def _figures(status: Mapping[str, Any], now: datetime) -> Iterator[str]:
    if account := status.get("account"):
        yield f"Account    {account}"
    portfolio = status.get("portfolio") or {}
    if portfolio.get("equityUsd") is not None:
        weights = "  ".join(
            f"{name} {portfolio[name]:.4f}" for name in ("gross", "net", "drawdown") if name in portfolio
        )
        yield f"Equity     {portfolio['equityUsd']} USD  {weights}".rstrip()
    if cycle := portfolio.get("lastCycle"):
        began = portfolio.get("lastCycleAt")
        yield f"Last cycle {cycle}{f', {_ago(began, now)} ago' if began else ''}"


def _mode(bot: Resource, now: datetime) -> list[str]:
    spec, status = bot.get("spec") or {}, bot.get("status") or {}
    mode = status.get("mode") or {}
    effective, source = mode.get("effective") or "UNKNOWN", mode.get("source")
    why = f": {mode['reason']}" if mode.get("reason") else ""
    rows = [
        ("Mode", f"{effective}{f' by {source}' if source else ''}{why}"),
        ("  desired", f"{mode.get('desired') or spec.get('mode', _NORMAL)}{_behind(bot, mode)}"),
        ("  stamps", _stamps(mode, now)),
        ("  open orders", "" if mode.get("openOrders") is None else str(mode["openOrders"])),
        ("  flatten", mode.get("flatten") or ""),
        ("Breaker", _breaker(status.get("breaker") or {}, bot["metadata"]["name"])),
        ("Person", _person(status.get("person") or {})),
        ("Overrides", "  ".join(f"{name}={value}" for name, value in (status.get("overrides") or {}).items())),
    ]
    return [f"{name:<14}{text}" for name, text in rows if text]


def _behind(bot: Resource, mode: Mapping[str, Any]) -> str:
    """How far the operator is, where it is not with the resource."""
    wanted, there = bot["metadata"].get("generation", 0), mode.get("generation")
    if there is None or there >= wanted:
        return ""
    return f" (Redis holds generation {there}; the resource is at {wanted}: all here is older; does the operator run?)"


def _stamps(mode: Mapping[str, Any], now: datetime) -> str:
    """The acknowledgement, with how long each step took."""
    if not (asked := _moment(mode.get("requestedAt"))):
        return ""
    steps = []
    for field, word in (("receivedAt", "received"), ("cancelledAt", "cancelled"), ("ackedAt", "acknowledged")):
        if stamp := _moment(mode.get(field)):
            after = (stamp - asked).total_seconds()
            steps.append(f"{word} +{after:.1f} s" if after >= 0 else f"{word} before")
        elif field != "cancelledAt":
            steps.append(f"not {word}")
    return f"requested {_span(now - asked)} ago, {', '.join(steps)}"


def _breaker(said: Mapping[str, Any], bot: str) -> str:
    if said.get("mode", _NORMAL) == _NORMAL:
        return ""
    latch = said.get("latchId")
    clear = f"; clear it: kubectl annotate tb {bot} {CLEAR_BREAKER}={latch}" if latch else "; it clears by itself"
    return f"{said['mode']}: {said.get('reason') or 'no reason given'}{clear}"


def _person(said: Mapping[str, Any]) -> str:
    if said.get("mode", _NORMAL) == _NORMAL:
        return ""
    by = f" by {said['by']}" if said.get("by") else ""
    why = f": {said['reason']}" if said.get("reason") else ""
    until = f", until generation {said['untilGeneration']}" if said.get("untilGeneration") else ""
    return f"{said['mode']}{by}{why}{until}"


def _conditions(bot: Resource, now: datetime) -> Iterator[str]:
    found = (bot.get("status") or {}).get("conditions") or []
    rows = [
        (
            each["type"],
            each["status"],
            _ago(each.get("lastTransitionTime"), now),
            f"{each.get('reason', '')}{': ' if each.get('message') else ''}{each.get('message', '')}",
        )
        for each in found
    ]
    return _columns(rows)


def _pods(pods: Iterable[Resource], now: datetime) -> Iterator[str]:
    rows = []
    for pod in pods:
        facts = pod_facts(pod)
        restarts = f"{facts['restarts']} restarts" if facts["restarts"] else ""
        age = _ago(pod["metadata"].get("creationTimestamp"), now)
        rows.append((facts["name"], "ready" if facts["ready"] else "NOT READY", facts["state"], age, restarts))
    return _columns(rows)


def _events(events: Iterable[Resource], now: datetime) -> Iterator[str]:
    rows = [(_ago(event_time(each), now), each.get("type", ""), each.get("reason", ""), _note(each)) for each in events]
    return _columns(rows)


def _note(event: Resource) -> str:
    return " ".join(str(event.get("message") or event.get("note") or "").split())


def _columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max((len(row[index]) for row in rows), default=0) for index in range(len(rows[0]))] if rows else []
    for row in rows:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _ago(text: str | None, now: datetime) -> str:
    moment = _moment(text)
    return _NOTHING if moment is None else _span(now - moment)


def _span(span: timedelta) -> str:
    """As kubectl says ages: the largest unit, and the next one while that still tells something."""
    seconds = max(0, int(span.total_seconds()))
    for size, unit, below, smaller in ((86_400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if seconds >= size:
            whole, rest = divmod(seconds, size)
            return f"{whole}{unit}{rest // below}{smaller}" if whole < 10 and rest // below else f"{whole}{unit}"
    return f"{seconds}s"
