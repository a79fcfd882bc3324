"""The chart as helm renders it, where helm is installed."""

from __future__ import annotations

import json
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "tradingbot-operator"

needs_helm = pytest.mark.skipif(shutil.which("helm") is None, reason="helm is not installed")


def run_helm(*arguments: str, values: dict[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
    """Run helm with values; never with a cluster."""
    command = ["helm", *arguments, "--values", "-"]
    return subprocess.run(command, input=json.dumps(values or {}), capture_output=True, text=True, timeout=50)


@cache
def _rendered(values: str) -> tuple[dict[str, Any], ...]:
    answer = run_helm(
        *("template", "tradingbot-operator", str(CHART), "--namespace", "ops", "--kube-version", "1.34.0"),
        values=json.loads(values),
    )
    assert answer.returncode == 0, answer.stderr
    return tuple(each for each in yaml.safe_load_all(answer.stdout) if each)


def rendered(**values: Any) -> tuple[dict[str, Any], ...]:
    """What the chart installs in the namespace `ops` with these values."""
    return _rendered(json.dumps(values))


def of_kind(manifests: tuple[dict[str, Any], ...], kind: str) -> list[dict[str, Any]]:
    """Those of one kind."""
    return [each for each in manifests if each["kind"] == kind]


def may(role: dict[str, Any], verb: str, group: str, resource: str, name: str | None = None) -> bool:
    """Whether a role lets its holder do this, to an object of this name or (None) to any."""
    return any(
        verb in rule["verbs"]
        and group in rule["apiGroups"]
        and resource in rule["resources"]
        and (not rule.get("resourceNames") or name in rule["resourceNames"])
        for rule in role["rules"]
    )
