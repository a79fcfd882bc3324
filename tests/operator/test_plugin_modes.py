"""`kubectl tradingbot halt`, `reduce-only`, `resume`: two ways, each tried whatever becomes of the other."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from support.operator_kubectl import FakeKubectl
from tradingbot_operator.plugin import speaking
from tradingbot_operator.plugin.app import app

WRITTEN = "mode HALT by person: odd\n"
ACKED = f"{WRITTEN}acknowledged after 0.10 s: no order is open, and none can come any more\n"
GONE = 'Error from server (NotFound): deployments.apps "majors-monitor" not found'
FORBIDDEN = 'Error from server (Forbidden): tradingbots "majors" is forbidden'


def resource(*, generation: int = 4, **mode: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "majors", "namespace": "desk", "generation": generation},
        "spec": {"mode": "HALT"},
        "status": {"mode": mode} if mode else {},
    }


def obeyed(mode: str = "HALT", *, generation: int = 4) -> dict[str, Any]:
    """The operator's account of a mode that execution has acknowledged."""
    return resource(generation=4, effective=mode, generation_=generation) | {
        "status": {"mode": {"effective": mode, "generation": generation, "ackedAt": "2026-11-22T20:00:00Z"}}
    }


def run(*words: str, timeout: str = "60") -> Result:
    return CliRunner().invoke(app, [words[0], "--timeout", timeout, *words[1:]], catch_exceptions=False)


def test_a_halt_is_patched_and_spoken_and_ends_with_its_acknowledgement(kubectl: FakeKubectl) -> None:
    kubectl.answers("patch", resource())
    kubectl.answers("exec", ACKED)
    kubectl.answers("get", resource())

    done = run("halt", "majors", "--reason", "odd fills", "-n", "desk", "--context", "kind-kind")

    assert done.exit_code == 0
    assert done.stdout.splitlines()[0] == "majors: spec.mode is HALT (generation 4)"
    assert "HALT acknowledged after" in done.stdout
    assert "says execution: no order is open, and none can come" in done.stdout
    patch, spoken = kubectl.call("patch"), kubectl.call("exec")
    assert patch[:5] == ["--context=kind-kind", "--namespace=desk", "patch", "tradingbots.tradingbot.dev", "majors"]
    assert '--patch={"spec": {"mode": "HALT"}}' in patch
    assert spoken[:4] == ["--context=kind-kind", "--namespace=desk", "exec", "deployment/majors-monitor"]
    assert spoken[spoken.index("ctl") :][:2] == ["ctl", "halt"]
    assert spoken[spoken.index("--until-generation") + 1] == "4"
    assert spoken[-2:] == ["--", "odd fills"]


def test_the_operators_word_is_enough_where_the_monitor_is_gone(kubectl: FakeKubectl) -> None:
    kubectl.answers("patch", resource())
    kubectl.answers("exec", err=GONE, code=1)
    kubectl.answers("get", obeyed(), delay_s=2)

    done = run("halt", "majors")

    assert done.exit_code == 0
    assert "says the operator" in done.stdout
    assert "could not be written to Redis" in done.stderr
    assert "not found" in done.stderr


def at_rest(*, generation: int) -> dict[str, Any]:
    """A suspended bot, of which nothing runs that could take a mode."""
    said = {"type": "ModeApplied", "status": "True", "reason": "NotRunning", "observedGeneration": generation}
    return resource() | {"status": {"mode": {"effective": "HALT", "generation": 3}, "conditions": [said]}}


def test_a_suspended_bot_is_halted_as_soon_as_the_operator_says_that_nothing_runs(kubectl: FakeKubectl) -> None:
    kubectl.answers("patch", resource())
    kubectl.answers("exec", err=GONE, code=1)
    kubectl.answers("get", at_rest(generation=4))
    assert run("halt", "majors").exit_code == 0


def test_that_nothing_ran_before_the_patch_is_no_acknowledgement(kubectl: FakeKubectl) -> None:
    kubectl.answers("patch", resource())
    kubectl.answers("exec", err=GONE, code=1)
    kubectl.answers("get", at_rest(generation=3))
    assert run("halt", "majors", timeout="2").exit_code == 3


def test_a_monitor_that_hangs_holds_nothing_back(kubectl: FakeKubectl) -> None:
    kubectl.answers("patch", resource())
    kubectl.answers("exec", ACKED, delay_s=90)
    kubectl.answers("get", obeyed())

    began = time.monotonic()
    done = run("halt", "majors", timeout="90")

    assert done.exit_code == 0
    assert time.monotonic() - began < 60


def test_who_may_not_patch_halts_all_the_same(kubectl: FakeKubectl) -> None:
    kubectl.answers("patch", err=FORBIDDEN, code=1)
    kubectl.answers("exec", ACKED)

    done = run("halt", "majors")

    assert done.exit_code == 0
    assert "spec.mode could not be set" in done.stderr
    assert "it lasts until `kubectl tradingbot resume majors`" in done.stdout
    assert "--until-generation" not in kubectl.call("exec")


def test_an_api_server_that_does_not_answer_the_patch_does_not_stop_the_second_way(
    kubectl: FakeKubectl,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(speaking, "PATCH_TIMEOUT_S", 0.1)
    monkeypatch.setattr("tradingbot_operator.plugin.kubectl._GRACE_S", 0.1)
    kubectl.answers("patch", resource(), delay_s=30)
    kubectl.answers("exec", ACKED)

    done = run("halt", "majors")

    assert done.exit_code == 0
    assert "spec.mode may be set yet: no answer within 0.1 s" in done.stderr


def test_what_ran_out_of_time_is_not_called_unwritten(
    kubectl: FakeKubectl,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The command in the pod goes on when kubectl is ended: it may be written yet."""
    monkeypatch.setattr(speaking, "IN_POD_START_S", 0.1)
    monkeypatch.setattr("tradingbot_operator.plugin.kubectl._GRACE_S", 0.1)
    kubectl.answers("patch", err=FORBIDDEN, code=1)
    kubectl.answers("exec", WRITTEN, delay_s=30)

    done = run("halt", "majors", timeout="1")

    assert done.exit_code == 3
    assert "a person's HALT may be written to Redis yet" in done.stderr
    assert "NOTHING" not in done.stderr


def test_when_neither_way_works_it_says_that_nothing_was_written(kubectl: FakeKubectl) -> None:
    kubectl.answers("patch", err=FORBIDDEN, code=1)
    kubectl.answers("exec", err=GONE, code=1)

    done = run("halt", "majors")

    assert done.exit_code == 1
    assert "NOTHING was written" in done.stderr


def test_written_and_not_acknowledged_is_an_exit_code_of_its_own(kubectl: FakeKubectl) -> None:
    kubectl.answers("patch", resource())
    kubectl.answers("exec", WRITTEN, err="HALT is written, but execution has not acknowledged it", code=2)
    kubectl.answers("get", resource())

    done = run("halt", "majors", timeout="1")

    assert done.exit_code == 3
    assert "kubectl tradingbot status majors" in done.stderr


@pytest.mark.parametrize(
    "seen",
    [
        obeyed(generation=3),
        obeyed("REDUCE_ONLY"),
        resource(generation=4, effective="HALT"),
        {"metadata": {"name": "majors"}, "status": {"mode": {"effective": "HALT", "generation": 4}}},
    ],
    ids=["an-earlier-generation", "a-weaker-mode", "no-generation", "not-acknowledged"],
)
def test_another_modes_acknowledgement_is_not_taken_for_this_one(
    kubectl: FakeKubectl,
    seen: dict[str, Any],
) -> None:
    kubectl.answers("patch", resource())
    kubectl.answers("exec", err=GONE, code=1)
    kubectl.answers("get", seen)

    assert run("halt", "majors", timeout="1").exit_code == 3


def test_a_stricter_mode_in_force_holds_reduce_only_too(kubectl: FakeKubectl) -> None:
    kubectl.answers("patch", resource())
    kubectl.answers("exec", err=GONE, code=1)
    kubectl.answers("get", obeyed("HALT"))

    done = run("reduce-only", "majors")

    assert done.exit_code == 0
    assert "no order that could grow a position" in done.stdout
    assert (spoken := kubectl.call("exec"))[spoken.index("ctl") :][:3] == ["ctl", "reduce-only", "--wait"]


def test_a_reason_that_looks_like_an_option_stays_a_reason(kubectl: FakeKubectl) -> None:
    kubectl.answers("patch", resource())
    kubectl.answers("exec", ACKED)
    kubectl.answers("get", resource())

    run("halt", "majors", "--reason=--timeout $(reboot)")

    assert kubectl.call("exec")[-2:] == ["--", "--timeout $(reboot)"]


def test_without_a_name_the_only_bot_is_meant(kubectl: FakeKubectl) -> None:
    listed = kubectl.answers("get tradingbots.tradingbot.dev --output", {"items": [resource()]})
    kubectl.answers("patch", resource())
    kubectl.answers("exec", ACKED)
    kubectl.answers("get", resource())

    assert run("halt").exit_code == 0
    assert "majors" in kubectl.call("patch")

    other = resource()
    other["metadata"]["name"] = "alts"
    kubectl.says(listed, {"items": [resource(), other]})
    with pytest.raises(Exception, match=r"which bot.*alts, majors"):
        run("halt")


def test_all_bots_of_a_namespace_are_halted_at_once(kubectl: FakeKubectl) -> None:
    """One that cannot be reached holds back none of the others, and decides the exit code."""
    other = resource()
    other["metadata"]["name"] = "alts"
    kubectl.answers("get tradingbots.tradingbot.dev --output", {"items": [resource(), other]})
    kubectl.answers("patch tradingbots.tradingbot.dev majors", resource())
    kubectl.answers("exec deployment/majors-monitor", ACKED)
    kubectl.answers("get", resource())

    done = run("halt", "--all")

    assert done.exit_code == 1
    assert "majors: HALT acknowledged" in done.stdout
    assert "alts: NOTHING was written" in done.stderr
    assert run("halt", "majors", "--all").exit_code == 2


def test_resume_sets_the_spec_and_lifts_the_persons_mode(kubectl: FakeKubectl) -> None:
    kubectl.answers("patch", resource())
    kubectl.answers("exec", "mode HALT by spec\n")
    kubectl.answers("get", obeyed("NORMAL"))

    done = run("resume", "majors")

    assert done.exit_code == 0
    assert "NORMAL is in force" in done.stdout
    assert '--patch={"spec": {"mode": "NORMAL"}}' in kubectl.call("patch")
    assert (spoken := kubectl.call("exec"))[spoken.index("ctl") :][:2] == ["ctl", "resume"]


def test_resume_needs_no_operator_where_only_a_person_restricted(kubectl: FakeKubectl) -> None:
    kubectl.answers("patch", resource())
    kubectl.answers("exec", "mode NORMAL by spec\n")
    kubectl.answers("get", resource())

    assert run("resume", "majors").exit_code == 0


def test_resume_says_so_when_a_breaker_still_restricts(kubectl: FakeKubectl) -> None:
    kubectl.answers("patch", resource())
    kubectl.answers("exec", "mode HALT by breaker: drawdown\n")
    kubectl.answers("get", obeyed("HALT"))

    done = run("resume", "majors", timeout="1")

    assert done.exit_code == 3
    assert "tradingbot.dev/clear-breaker" in done.stderr


def test_resume_that_reaches_nobody_has_done_nothing(kubectl: FakeKubectl) -> None:
    kubectl.answers("patch", err=FORBIDDEN, code=1)
    kubectl.answers("exec", err=GONE, code=1)

    assert run("resume", "majors", timeout="1").exit_code == 1


def test_a_halt_loads_nothing_that_only_rendering_needs() -> None:
    """A person who halts waits for Python's start and no more."""
    heavy = ("kopf", "kubernetes", "coincurve", "redis", "pydantic", "yaml", "rich", "structlog")
    code = f"import sys, tradingbot_operator.plugin.app; print([each for each in {heavy} if each in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=True)

    assert done.stdout == "[]\n"
