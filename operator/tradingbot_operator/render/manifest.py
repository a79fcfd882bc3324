"""The parts that every manifest shares: its names, its labels, and the bot that owns it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from tradingbot_operator.names import API_VERSION, KIND, labels
from tradingbot_operator.resource import Bot

Manifest = dict[str, Any]


def manifest(
    kind: str, bot: Bot, name: str, *, component: str = "", api_version: str = "v1", owned: bool = True, **rest: Any
) -> Manifest:
    """A child of the bot. ``owned``: it goes with the bot."""
    metadata: dict[str, Any] = {"name": name, "namespace": bot.namespace, "labels": labels(bot.name, component)}
    if owned:
        metadata["ownerReferences"] = [_owner(bot)]
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **rest}


def _owner(bot: Bot) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": bot.name,
        "uid": bot.uid,
        "controller": True,
        # The bot may go before its children: nobody waits for them.
        "blockOwnerDeletion": False,
    }


def digest(data: Mapping[str, str]) -> str:
    """A hash of a ConfigMap's data for a pod template's annotation."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]
