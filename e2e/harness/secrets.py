"""Where a secret is to be found in a bot's pods."""

from __future__ import annotations

import json

from harness.bot import Bot
from harness.exchange import INSIDE


def places_of(bot: Bot, component: str, text: str) -> list[str]:
    """Files and environments in a pod that hold a text."""
    if component == "redis":
        return bot.exec(component, "bash", "-c", (INSIDE / "find_secret.sh").read_text(), stdin=text).split()
    return json.loads(bot.exec(component, "python", "-c", (INSIDE / "find_secret.py").read_text(), stdin=text))
