"""The bots of a namespace as kubectl shows them, and what belongs to one of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tradingbot.domain.errors import Permanent
from tradingbot_operator.names import GROUP, KIND, LABEL_BOT, PLURAL, child
from tradingbot_operator.plugin.kubectl import Kubectl, KubectlFailed

Resource = Mapping[str, Any]

RESOURCE = f"{PLURAL}.{GROUP}"
"""Said in full: a short name may be another's."""


class WhichBot(Permanent):
    """No bot was named and there is not exactly one."""


async def find(kubectl: Kubectl, name: str | None) -> Resource:
    """The bot of that name, else the only one of the namespace.

    Raises:
        WhichBot: none was named and there is not exactly one.
        KubectlFailed: there is no such bot, or kubectl may not say.
    """
    if name is not None:
        found: Resource = await kubectl.read("get", RESOURCE, name)
        return found
    return only(await everyone(kubectl))


async def everyone(kubectl: Kubectl) -> list[Resource]:
    """All bots of the namespace."""
    return list((await kubectl.read("get", RESOURCE))["items"])


def only(bots: list[Resource]) -> Resource:
    """The one bot.

    Raises:
        WhichBot: there is none, or more than one.
    """
    if len(bots) == 1:
        return bots[0]
    if not bots:
        raise WhichBot("no bot in this namespace: name another with -n, or `kubectl apply` one")
    raise WhichBot(f"which bot? This namespace has {', '.join(sorted(each['metadata']['name'] for each in bots))}")


async def name_of(kubectl: Kubectl, name: str | None) -> str:
    """The name itself when it was given: a halt asks nobody who it need not."""
    return name if name is not None else str((await find(kubectl, None))["metadata"]["name"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A bot, its pods and what was said of it lately. What may not be read is empty, with the reason."""

    bot: Resource
    pods: tuple[Resource, ...]
    events: tuple[Resource, ...]
    missing: tuple[str, ...]


async def look(kubectl: Kubectl, bot: Resource) -> Seen:
    """Pods and events of a bot, oldest event first."""
    name = bot["metadata"]["name"]
    of_bot = f"involvedObject.kind={KIND},involvedObject.name={name}"
    (pods, no_pods), (events, no_events) = await asyncio.gather(
        _items(kubectl, "pods", f"--selector={LABEL_BOT}={name}"),
        _items(kubectl, "events", f"--field-selector={of_bot}"),
    )
    return Seen(
        bot=bot,
        pods=tuple(sorted(pods, key=lambda each: str(each["metadata"]["name"]))),
        events=tuple(sorted(events, key=event_time)),
        missing=tuple(text for text in (no_pods, no_events) if text),
    )


async def _items(kubectl: Kubectl, what: str, selector: str) -> tuple[list[Resource], str]:
    """What was found, or why nothing could be."""
    try:
        return list((await kubectl.read("get", what, selector))["items"]), ""
    except KubectlFailed as error:
        return [], f"{what}: {error}"


def event_time(event: Resource) -> str:
    """When an event was last seen; comparable as text."""
    series = event.get("series") or {}
    stamps = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return next((str(each) for each in stamps if each), str(event["metadata"].get("creationTimestamp", "")))


def in_monitor(bot: str, *words: str) -> tuple[str, ...]:
    """The words that run a `tradingbot` command beside the bot's monitor, whose Redis user may speak for a person."""
    return ("exec", f"deployment/{child(bot, 'monitor')}", "--pod-running-timeout=3s", "--", "tradingbot", *words)
