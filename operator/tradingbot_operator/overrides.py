"""A person's own parameters: which of them still count, and how they are shown."""

from __future__ import annotations

import json
from collections.abc import Mapping


def overrides_in_force(params: Mapping[str, str], person: Mapping[str, str]) -> dict[str, object]:
    """The dotted names and values of ``ctl.params.person`` while its generation is that of ``ctl.params``; else none.

    Args:
        params: the hash ``ctl.params``.
        person: the hash ``ctl.params.person``.
    """
    if not person.get("values") or person.get("generation") != params.get("generation"):
        return {}
    try:
        values = json.loads(person["values"])
    except ValueError:
        return {}
    return dict(values) if isinstance(values, dict) else {}


def shown(overrides: Mapping[str, object]) -> dict[str, str]:
    """As ``status.overrides`` shows them: values as words."""
    return {
        name: value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        for name, value in sorted(overrides.items())
    }
