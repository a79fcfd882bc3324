"""Who decides is a setting, and whoever it is can do no harm: a plugin that misbehaves costs one cycle's idea."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import threading
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from ai_decision.market import UNIVERSE, features, view
from ai_decision.test_service import Scene
from risk_engine.bench import T0
from support.stage import JumpClock
from tradingbot.ai_decision import baseline, equal, inverse_vol
from tradingbot.ai_decision.guard import budget_s
from tradingbot.ai_decision.plugin import EVIDENCE_MAX, checked
from tradingbot.ai_decision.service import run
from tradingbot.ai_decision.strategies import NotRebuildable, from_record, rebuild
from tradingbot.ai_decision.strategy import Proposal, StrategyFailed
from tradingbot.bus import lease as lease_module
from tradingbot.bus.params import write_params
from tradingbot.domain.messages import ModelName
from tradingbot.domain.params import Params
from tradingbot.runtime.settings import SettingsError

ROOT = Path(__file__).resolve().parents[2]
RISING = {"BTC": 0.001, "ETH": 0.002, "SOL": 0.03, "ADA": -0.01, "DOGE": 0.0}


@pytest_asyncio.fixture
async def scene(valkey, valkey_server):
    await write_params(valkey, Params(), generation=1)
    return Scene(redis=valkey, server=valkey_server, clock=JumpClock(T0), environ={"DECISION_WAIT_S": "0"})


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Puts a distribution where the interpreter finds it, as an installer would."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def put(name: str, code: str, *, project: str | None = None) -> None:
        made = tomllib.loads(project or _project(name))["project"]
        groups = "".join(
            f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in entries.items())
            for group, entries in made["entry-points"].items()
        )
        info = tmp_path / f"{made['name']}-{made['version']}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {made['name']}\nVersion: {made['version']}\n")
        (info / "entry_points.txt").write_text(groups)
        (tmp_path / f"{name}.py").write_text(code)
        monkeypatch.delitem(sys.modules, name, raising=False)

    return put


def _project(name: str) -> str:
    return (
        f'[project]\nname = "{name}"\nversion = "1"\n'
        f'[project.entry-points."tradingbot.strategies"]\n{name} = "{name}:Mine"\n'
    )


ODD = """
import asyncio, os, sys, threading
from tradingbot.ai_decision.strategy import Proposal
from tradingbot.domain.messages import ModelName

blocked, go_on = threading.Event(), threading.Event()

def good(view, **more):
    given = dict(weights=dict.fromkeys(view.universe, 0.01), confidence=1, rationale="", used="x",
                 model=ModelName(name="mine", version="1"))
    return Proposal(**given | more)

class Mine:
    calls = 0

    async def propose(self, view):
        Mine.calls += 1
        if Mine.calls > 1:
            return good(view)
        return await self.misbehave(view)

    async def misbehave(self, view):
        {body}
"""


def odd(body: str) -> str:
    return ODD.replace("{body}", body)


async def decide_twice(scene: Scene) -> None:
    """Two cycles, each until it is dealt with."""
    async with scene.running("ai_decision", run):
        for _ in range(2):
            await scene.account()
            await scene.market(slow=RISING)
            scene.clock.jump(60)


@pytest.mark.parametrize(("name", "propose"), [("equal", equal.propose), ("inverse_vol", inverse_vol.propose)])
async def test_a_strategy_that_needs_nobody_decides_by_its_name_alone(scene, name, propose):
    scene.environ["AI_STRATEGY"] = name
    async with scene.running("ai_decision", run):
        await scene.account()
        await scene.market(slow=RISING)

    (target,), (record,) = await scene.targets(), await scene.audits()
    assert target.used == record.details["used"] == record.details["strategy"] == name
    assert record.details["steps"]["strategy"] == propose(view(features(slow=RISING))).weights
    assert "error" not in record.details


async def test_the_record_says_what_each_step_changed(scene):
    await decide_twice(scene)

    first, second = await scene.audits()
    for record in (first, second):
        steps, changes = record.details["steps"], record.details["changes"]
        before = steps["strategy"]
        for name in ("cap_and_scale", "low_confidence", "ewma", "turnover"):
            for symbol in UNIVERSE:
                assert changes[name].get(symbol, 0.0) == steps[name][symbol] - before[symbol]
            before = steps[name]
    assert changes["ewma"].keys() == set(UNIVERSE)


async def test_a_strategy_is_told_of_its_last_five_decisions_and_of_the_target_before(scene, install):
    install("seeing", odd("return good(view)").replace("Mine.calls > 1", "seen.append(view)") + "\nseen = []\n")
    scene.environ["AI_STRATEGY"] = "plugin:seeing"
    async with scene.running("ai_decision", run):
        for _ in range(7):
            await scene.account()
            await scene.market()
            scene.clock.jump(60)

    seen, targets = sys.modules["seeing"].seen, await scene.targets()
    assert [len(each.recent) for each in seen] == [0, 1, 2, 3, 4, 5, 5]
    assert [past.cycle_id for past in seen[-1].recent] == [each.cycle_id for each in seen[1:6]]
    assert seen[1].previous == {each.symbol: each.weight for each in targets[0].targets}
    assert seen[1].recent[0].weights == seen[1].previous
    assert seen[1].recent[0].equity_usd == float(seen[0].snapshot.equity_usd)
    assert seen[1].ai == Params().ai


# ------------------------------------------------------------------ plugins


async def test_the_example_of_the_docs_installs_and_decides(scene, install):
    text = (ROOT / "docs/strategies.md").read_text(encoding="utf-8")
    project, code = (re.search(rf"```{kind}\n# {file}\n(.*?)```", text, re.DOTALL).group(1)
                     for kind, file in (("toml", r"pyproject\.toml"), ("python", r"strongest\.py")))  # fmt: skip
    install("strongest", code, project=project)
    scene.environ["AI_STRATEGY"] = "plugin:strongest"
    async with scene.running("ai_decision", run):
        await scene.account()
        await scene.market(slow=RISING)

    (target,), (record,) = await scene.targets(), await scene.audits()
    assert target.used == record.details["strategy"] == "plugin:strongest"
    assert {each.symbol for each in target.targets if each.weight > 0} == {"SOL"}
    assert target.rationale == "SOL rose most, by 3.00%"
    again = rebuild("plugin:strongest", view(features(slow=RISING)), evidence=record.details.get("evidence", {}))
    assert again == from_record(record.details, target)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("raise KeyError('BTC')", "KeyError: 'BTC'"),
        ("raise SystemExit(3)", "wanted to end the process"),
        ("raise TimeoutError('elsewhere')", "TimeoutError: elsewhere"),
        ("raise asyncio.CancelledError", "cancelled its own work"),
        ("return {'BTC': 0.1}", "answered with dict"),
        ("return good(view, weights={'BTC': float('nan')})", "no fraction of equity: BTC"),
        ("return good(view, weights={'XRP': 0.1})", "outside the universe: XRP"),
        ("return good(view, weights={'BTC': 'much'})", "cannot be written down"),
        ("return good(view, confidence=None)", "cannot be written down"),
        ("return good(view, evidence={'a': object()})", "cannot be written down"),
        ("await asyncio.sleep(3600)", "no answer within"),
    ],
)
async def test_a_plugin_that_misbehaves_is_replaced_by_the_baseline_for_that_cycle_alone(scene, install, body, says):
    install("odd", odd(body))
    scene.environ |= {"AI_STRATEGY": "plugin:odd", "DECISION_BUDGET_S": "3" if "sleep" in body else "30"}
    await decide_twice(scene)

    first, second = await scene.targets()
    record, _ = await scene.audits()
    assert first.used == record.details["used"] == "baseline_fallback"
    assert record.details["strategy"] == "plugin:odd"
    assert says in record.details["error"]
    assert second.used == "plugin:odd"


async def test_a_plugin_that_blocks_its_thread_holds_back_nothing_but_itself(scene, install, monkeypatch):
    monkeypatch.setattr(lease_module, "LEASE_MS", 60_000)

    async def left_ms() -> int:
        return await scene.redis.pttl("lease:ai_decision")

    install("blocking", odd("blocked.set(); go_on.wait(); return good(view)"))
    scene.environ |= {"AI_STRATEGY": "plugin:blocking", "DECISION_BUDGET_S": "1"}
    async with scene.running("ai_decision", run):
        await scene.account()
        await scene.market()
        scene.clock.jump(60)
        await scene.account()
        await scene.market()
        seen_ms = await left_ms()

        async def renewed() -> bool:
            return await left_ms() > seen_ms

        await scene.until(renewed)
        sys.modules["blocking"].go_on.set()

    first, second = await scene.audits()
    assert first.details["error"].startswith("no answer within")
    assert second.details["error"] == "plugin:blocking still works on an earlier cycle"
    assert [each.used for each in await scene.targets()] == ["baseline_fallback"] * 2


async def test_views_never_queue_up_before_a_plugin_that_does_not_come_back_and_it_is_used_again_when_it_does(
    scene, install
):
    """Its answer is given; what it left in its loop blocks it afterwards, so that no question reaches it."""
    later = "\n    def block(self):\n        blocked.set()\n        go_on.wait()\n"
    install("away", odd("asyncio.get_running_loop().call_later(0.05, self.block); return good(view)") + later)
    scene.environ |= {"AI_STRATEGY": "plugin:away", "DECISION_BUDGET_S": "4"}
    async with scene.running("ai_decision", run):
        await scene.account()
        await scene.market()
        away = sys.modules["away"]
        await asyncio.to_thread(away.blocked.wait, 60)
        for _ in range(3):
            scene.clock.jump(60)
            await scene.account()
            await scene.market()
        assert away.Mine.calls == 1, "nothing reached it while it was away"
        away.go_on.set()

        async def back() -> bool:
            return away.Mine.calls > 1

        await scene.until(back)
        scene.clock.jump(60)
        await scene.account()
        await scene.market()

    errors = [record.details.get("error") for record in await scene.audits()]
    busy = "plugin:away still works on an earlier cycle"
    assert errors == [None, "no answer within 4.0 s", busy, busy, None]
    assert [each.used for each in await scene.targets()] == ["plugin:away", *["baseline_fallback"] * 3, "plugin:away"]
    assert away.Mine.calls == 3, "of the questions that came meanwhile one was waiting, and no more"


@pytest.mark.parametrize("speed", [0.5, 1.0, 1.5, 30.0, 1000.0])
@pytest.mark.parametrize("cycle_seconds", [60, 3600])
def test_a_decision_ends_within_its_cycle_however_fast_the_clock_runs(speed, cycle_seconds):
    budget = budget_s(given_s=12, cycle_seconds=cycle_seconds, speed=speed)

    assert budget == 12 or speed > 1
    assert budget <= 12
    assert budget * speed <= max(12.0, cycle_seconds / 3)


async def test_on_a_faster_clock_a_plugin_that_hangs_is_waited_for_a_part_of_the_cycle_alone(scene, install):
    install("odd", odd("await asyncio.sleep(3600)"))
    scene.environ |= {"AI_STRATEGY": "plugin:odd"}
    scene.clock.speed = 8.0
    await decide_twice(scene)

    first, second = await scene.audits()
    assert first.details["error"].startswith("no answer within 2.5"), "a cycle is 7.5 s long"
    assert second.details["used"] == "plugin:odd"


async def test_a_process_that_is_told_to_stop_leaves_the_cycle_to_the_next_one(scene, install):
    install("slow", odd("blocked.set(); await asyncio.sleep(3600)"))
    scene.environ |= {"AI_STRATEGY": "plugin:slow", "DECISION_BUDGET_S": "50"}
    async with scene.running("ai_decision", run):
        await scene.account()
        await scene.say("md.features.1m", features(at_ms=scene.clock.now_ms()))

        async def asked() -> bool:
            return "slow" in sys.modules and sys.modules["slow"].blocked.is_set()

        await scene.until(asked)

    assert await scene.targets() == [], "a stop is no reason for the baseline to trade"
    scene.environ |= {"AI_STRATEGY": "equal"}
    async with scene.running("ai_decision", run):

        async def decided() -> bool:
            return bool(await scene.targets())

        await scene.until(decided)
    (target,) = await scene.targets()
    assert target.used == "equal"


async def test_what_a_plugin_left_running_is_cancelled_when_the_process_ends(scene, install):
    body = "asyncio.create_task(self.beside()); await asyncio.sleep(0); return good(view)"
    beside = (
        "\n    async def beside(self):\n        try:\n            await asyncio.sleep(3600)\n"
        "        finally:\n            go_on.set()\n"
    )
    install("leaving", odd(body) + beside)
    scene.environ["AI_STRATEGY"] = "plugin:leaving"
    async with scene.running("ai_decision", run):
        await scene.account()
        await scene.market()

    assert sys.modules["leaving"].go_on.is_set()


async def test_a_plugin_cannot_change_what_the_others_see(scene, install):
    install("changing", odd("view.features.vol_1h.clear(); view.features.mid_px.clear(); return good(view)"))
    scene.environ["AI_STRATEGY"] = "plugin:changing"
    async with scene.running("ai_decision", run):
        await scene.account()
        await scene.market()

    (target,) = await scene.targets()
    assert {each.symbol for each in target.targets} == set(UNIVERSE), "no coin lost its features"


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (None, r"no strategy gone is installed .* there is none"),
        ("import nothing_of_that_name", "plugin:gone cannot be made: ModuleNotFoundError"),
        ("class Mine:\n    def __init__(self):\n        raise OSError('no file')", "cannot be made: OSError: no file"),
        ("raise SystemExit", "plugin:gone cannot be made: SystemExit"),
        ("class Mine: ...", "plugin:gone is no strategy"),
    ],
)
async def test_a_plugin_that_is_not_there_or_cannot_be_made_is_refused_at_the_start(scene, install, code, says):
    if code is not None:
        install("gone", code)
    scene.environ["AI_STRATEGY"] = "plugin:gone"

    with pytest.raises(SettingsError, match=f"AI_STRATEGY: .*{says}"):
        async with scene.running("ai_decision", run):
            await scene.until(lambda: scene.redis.exists("lease.counter:ai_decision"))


def test_what_a_plugin_answers_is_written_down_as_plain_numbers_under_the_plugins_own_name():
    answer = Proposal(
        weights={"BTC": True, "ETH": 0}, confidence=1, rationale="r" * 2000, used="baseline", error="none",
        model=ModelName(name="m", version="1"), signals={"BTC": float("inf")}, evidence={"a": (1, 2)},
    )  # fmt: skip

    plain = checked(answer, "plugin:mine")

    assert plain.weights == {"BTC": 1.0, "ETH": 0.0}
    assert all(type(weight) is float for weight in plain.weights.values())
    assert (plain.used, plain.error, len(plain.rationale)) == ("plugin:mine", None, 800)
    assert plain.evidence == {"a": [1, 2]}
    assert plain.signals == {}
    with pytest.raises(StrategyFailed, match="more than"):
        checked(Proposal(weights={}, confidence=1, rationale="", used="", model=answer.model,
                         evidence={"a": "x" * EVIDENCE_MAX}), "plugin:mine")  # fmt: skip


# ------------------------------------------------------------------ replay


@pytest.mark.parametrize(("name", "module"), [("baseline", baseline), ("equal", equal), ("inverse_vol", inverse_vol)])
def test_a_strategy_that_needs_nobody_answers_again_from_what_it_saw(name, module):
    seen = view(features(slow=RISING))

    assert rebuild(name, seen, evidence={}) == module.propose(seen)


def test_a_fallback_is_rebuilt_as_the_baseline_that_stood_in():
    seen = view(features(slow=RISING))

    again = rebuild("llm", seen, evidence={"answers": []}, error="late")

    assert again == replace(baseline.propose(seen, error="late"), evidence={"answers": []})


def test_a_plugin_without_a_way_to_rebuild_says_so(install):
    install("plain", odd("return good(view)"))

    with pytest.raises(NotRebuildable, match="rebuild"):
        rebuild("plugin:plain", view(), evidence={})


# ------------------------------------------------------------------ memory


def test_a_process_that_decides_by_the_baseline_loads_neither_model_nor_optimizer_nor_plugins():
    code = (
        "import asyncio, sys, tradingbot.ai_decision.service, tradingbot.runtime.process\n"
        "from tradingbot.ai_decision.settings import AiDecisionSettings\n"
        "from tradingbot.ai_decision.strategies import open_strategy\n"
        "async def main():\n"
        "    settings = AiDecisionSettings.load({'REDIS_URL': 'redis://x', 'BOT_ID': 'b'})\n"
        "    async with open_strategy(settings, redis=None, clock=None): pass\n"
        "asyncio.run(main())\n"
        "print(*sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    loaded = set(answer.stdout.split())
    heavy = {"httpx", "numpy", "scipy", "clarabel", "numba", "pyarrow", "pandas", "optuna"}
    assert not heavy & loaded
    own = {name for name in loaded if name.startswith("tradingbot.ai_decision.")}
    assert not [name for name in own if re.search(r"llm|regime|optimizer|program|plugin", name)]


def test_no_thread_is_left_behind():
    assert [each.name for each in threading.enumerate() if each.name.startswith("plugin:")] == []
