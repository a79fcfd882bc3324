"""Children on a real API server: written when they must be, brought back when changed, left alone when right.

Runs where KIND_CLUSTER_NAME names a kind cluster; all is in a namespace of its own, and no pod is started.
"""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from support.operator_cluster import (
    Stand,
    kubectl,
    manifest,
    needs_cluster,
    own_namespace,
    small_family,
    stand_in,
    until,
)
from tradingbot.runtime.clock import Ids
from tradingbot_operator.cache import id_of
from tradingbot_operator.kube import Manifest
from tradingbot_operator.names import LABEL_MANAGED_BY
from tradingbot_operator.queue import Lane
from tradingbot_operator.resource import Bot

pytestmark = needs_cluster


@pytest.fixture(scope="module")
def namespace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with own_namespace(tmp_path_factory.mktemp("kube")) as name:
        yield name


@pytest.fixture
async def stand(namespace: str) -> AsyncIterator[Stand]:
    async with stand_in(namespace) as each:
        yield each


@pytest.fixture
async def bot(stand: Stand) -> AsyncIterator[Bot]:
    bot = await stand.make_bot(f"b{Ids().uuid()[:8]}")
    yield bot
    await stand.drop_bot(bot)


async def live(stand: Stand, wanted: Manifest) -> Manifest | None:
    return await stand.kube.get(*id_of(wanted)[:2], stand.namespace, wanted["metadata"]["name"])


def changed(family: tuple[Manifest, ...], kind: str, **content: Any) -> tuple[Manifest, ...]:
    return tuple({**copy.deepcopy(each), **(content if each["kind"] == kind else {})} for each in family)


async def test_all_are_applied_once_and_then_left_alone(stand: Stand, bot: Bot) -> None:
    family = small_family(bot)
    first = await stand.children.sync(bot, family)
    assert (len(first.applied), first.errors, first.drift) == (len(family), (), ())
    stand.kube.writes = 0
    again = await stand.children.sync(bot, family)
    assert again.settled
    assert (again.applied, stand.kube.writes) == ((), 0)


async def test_an_operator_that_starts_anew_writes_nothing_to_healthy_children(
    stand: Stand, bot: Bot, namespace: str
) -> None:
    family = small_family(bot)
    await stand.children.sync(bot, family)
    async with stand_in(namespace) as fresh:
        await fresh.relist.fill()
        report = await fresh.children.sync(bot, family)
        assert report.settled
        assert (report.applied, report.drift, fresh.kube.writes) == ((), (), 0)


async def test_what_render_no_longer_makes_is_deleted_but_for_volumes_and_what_others_own(
    stand: Stand, bot: Bot
) -> None:
    family = small_family(bot)
    await stand.children.sync(bot, family)
    stranger = manifest(bot, "v1", "ConfigMap", "stranger", data={})
    del stranger["metadata"]["ownerReferences"]
    await stand.kube.create(stranger)
    await stand.relist.fill()
    report = await stand.children.sync(bot, family[:1])
    assert len(report.pruned) == len(family) - 2
    assert await live(stand, family[1]) is not None, "the volume stays"
    assert await live(stand, stranger) is not None
    gone = [each for each in family[2:] if (await live(stand, each) or {"metadata": {"deletionTimestamp": 1}})]
    assert len(gone) == len(family) - 2


async def test_a_new_rendering_is_applied_and_drops_what_it_no_longer_says(stand: Stand, bot: Bot) -> None:
    family = small_family(bot)
    await stand.children.sync(bot, family)
    report = await stand.children.sync(bot, changed(family, "ConfigMap", data={"A": "2"}))
    assert report.applied == (f"ConfigMap/{bot.name}-config",)
    assert (await live(stand, family[0]) or {})["data"] == {"A": "2"}


EDITS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "scaled": ("Deployment", "deployment", {"spec": {"replicas": 3}}),
    "paused": ("Deployment", "deployment", {"spec": {"paused": True}}),
    "another image": (
        "Deployment",
        "deployment",
        {"spec": {"template": {"spec": {"containers": [{"name": "x", "image": "evil:1"}]}}}},
    ),
    "a variable more": (
        "Deployment",
        "deployment",
        {
            "spec": {
                "template": {
                    "spec": {
                        "containers": [
                            {
                                "name": "x",
                                "image": "none:1",
                                "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                            }
                        ]
                    }
                }
            }
        },
    ),
    "on the host's network": ("Deployment", "deployment", {"spec": {"template": {"spec": {"hostNetwork": True}}}}),
    "a value changed": ("ConfigMap", "config", {"data": {"A": "9"}}),
    "a key more": ("ConfigMap", "config", {"data": {"C": "3"}}),
    "a key less": ("ConfigMap", "config", {"data": {"A": None}}),
    "opened": ("NetworkPolicy", "deny", {"spec": {"egress": [{}]}}),
    "another port": ("Service", "service", {"spec": {"ports": [{"port": 81, "targetPort": 80}]}}),
    "a token mounted": ("ServiceAccount", "account", {"automountServiceAccountToken": True}),
    "a token by default": ("ServiceAccount", "account", {"automountServiceAccountToken": None}),
    "our label gone": ("Service", "service", {"metadata": {"labels": {LABEL_MANAGED_BY: None}}}),
    "our stamp gone": ("Service", "service", {"metadata": {"annotations": {"tradingbot.dev/rendered": None}}}),
    "no owner": ("ConfigMap", "config", {"metadata": {"ownerReferences": None}}),
    "guard widened": ("PodDisruptionBudget", "budget", {"spec": {"maxUnavailable": 9}}),
    "redis scaled": ("StatefulSet", "set", {"spec": {"replicas": 2}}),
}


async def test_whatever_a_person_changes_deletes_or_adds_is_brought_back(stand: Stand, bot: Bot) -> None:
    family = small_family(bot)
    by_kind = {each["kind"]: each for each in family}

    async def children(key: str) -> None:
        if key == bot.key:
            await stand.children.sync(bot, family)

    def right() -> bool:
        kept = stand.cache.children(bot.key)
        return len(kept) == len(family) and all(
            not stand.children._wrong(bot, _stamped(each), kept[id_of(each)]) for each in family
        )

    slowest_s = 0.0
    async with stand.working({Lane.CHILDREN: children}):
        await until(right)
        for what, (kind, name, patch) in EDITS.items():
            before = (await live(stand, by_kind[kind]) or {})["metadata"]["resourceVersion"]
            api_version = by_kind[kind]["apiVersion"]
            await stand.edit(api_version, kind, f"{bot.name}-{name}", patch)

            def newer(kind: str = kind, before: str = before) -> bool:
                child = stand.cache.children(bot.key).get(id_of(by_kind[kind]))
                return child is not None and int(child.live["metadata"]["resourceVersion"]) > int(before) and right()

            try:
                slowest_s = max(slowest_s, await until(newer, within_s=10))
            except AssertionError:
                pytest.fail(f"{what}: not brought back")
        for each in family:
            if each["kind"] == "PersistentVolumeClaim":
                continue  # held by its protection finalizer; see below
            old = (await live(stand, each) or {})["metadata"]["uid"]
            await stand.kube.delete(*id_of(each)[:2], stand.namespace, each["metadata"]["name"])

            def renewed(each: Manifest = each, old: str = old) -> bool:
                child = stand.cache.children(bot.key).get(id_of(each))
                return child is not None and child.uid != old

            slowest_s = max(slowest_s, await until(renewed, within_s=10))
    assert slowest_s < 5, "a second, on a machine that has nothing else to do"


def _stamped(wanted: Manifest) -> Manifest:
    from tradingbot_operator.drift import stamped

    return stamped(wanted)


async def test_the_apply_alone_owns_the_fields_after_a_repair(stand: Stand, bot: Bot) -> None:
    family = small_family(bot)
    await stand.children.sync(bot, family)
    await stand.edit("v1", "ConfigMap", f"{bot.name}-config", {"data": {"C": "3"}})
    await stand.relist.fill()
    await stand.relist.compare([("v1", "ConfigMap")])
    assert (await stand.children.sync(bot, family)).drift
    # Had the replace left an owner behind, a key dropped by render would stay.
    await stand.children.sync(bot, changed(family, "ConfigMap", data={"A": "1"}))
    managers = {
        (each["manager"], each["operation"])
        for each in (await live(stand, family[0]) or {})["metadata"]["managedFields"]
    }
    assert managers == {("tradingbot-operator", "Apply")}
    assert (await live(stand, family[0]) or {})["data"] == {"A": "1"}


async def test_a_repair_does_not_wait_because_a_controller_writes_at_the_same_time(
    stand: Stand, bot: Bot, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = small_family(bot)
    await stand.children.sync(bot, family)
    await stand.edit("v1", "ConfigMap", f"{bot.name}-config", {"data": {"C": "3"}})
    await stand.relist.compare([("v1", "ConfigMap")])
    tries, replace = 0, stand.kube.replace

    async def beaten_once(wanted: Manifest) -> Manifest:
        nonlocal tries
        tries += 1
        if tries == 1:
            await stand.edit("v1", "ConfigMap", f"{bot.name}-config", {"metadata": {"annotations": {"theirs": "1"}}})
        return await replace(wanted)

    monkeypatch.setattr(stand.kube, "replace", beaten_once)
    report = await stand.children.sync(bot, family)
    assert (report.errors, len(report.drift), tries) == ((), 1, 2)
    repaired = await live(stand, family[0]) or {}
    assert repaired["data"] == {"A": "1", "B": "2"}
    assert repaired["metadata"]["annotations"]["theirs"] == "1"


async def test_an_object_of_someone_else_is_left_alone_and_told(stand: Stand, bot: Bot) -> None:
    family = small_family(bot)
    theirs = copy.deepcopy(family[0]) | {"data": {"theirs": "yes"}}
    theirs["metadata"] = {"name": theirs["metadata"]["name"], "namespace": stand.namespace}
    await stand.kube.create(theirs)
    report = await stand.children.sync(bot, family)
    assert [name for name, _ in report.errors] == [f"ConfigMap/{bot.name}-config"]
    assert len(report.applied) == len(family) - 1, "the others are brought on all the same"
    assert (await live(stand, theirs) or {})["data"] == {"theirs": "yes"}
    await stand.kube.delete("v1", "ConfigMap", stand.namespace, theirs["metadata"]["name"])


async def test_a_child_of_an_earlier_bot_of_the_name_is_waited_for(stand: Stand, bot: Bot) -> None:
    family = small_family(bot)
    old = copy.deepcopy(family[0])
    old["metadata"]["ownerReferences"][0]["uid"] = "00000000-0000-4000-8000-000000000000"
    await stand.kube.create(old)
    report = await stand.children.sync(bot, family[:1])
    assert report.errors == ()
    assert [name for name, _ in report.waiting] in ([f"ConfigMap/{bot.name}-config"], [])


async def test_a_child_on_its_way_out_is_made_anew_as_soon_as_it_has_gone(stand: Stand, bot: Bot) -> None:
    family = small_family(bot)[:1]
    held = copy.deepcopy(family[0])
    held["metadata"]["finalizers"] = ["example.com/held"]

    async def children(key: str) -> None:
        if key == bot.key:
            await stand.children.sync(bot, family)

    async with stand.working({Lane.CHILDREN: children}):
        await until(lambda: stand.cache.children(bot.key))
        await stand.edit("v1", "ConfigMap", f"{bot.name}-config", {"metadata": {"finalizers": ["example.com/held"]}})
        old = (await live(stand, family[0]) or {})["metadata"]["uid"]
        await stand.kube.delete("v1", "ConfigMap", stand.namespace, f"{bot.name}-config")
        await until(lambda: any(each.deleting for each in stand.cache.children(bot.key).values()))
        report = await stand.children.sync(bot, family)
        assert [name for name, _ in report.waiting] == [f"ConfigMap/{bot.name}-config"]
        await stand.edit("v1", "ConfigMap", f"{bot.name}-config", {"metadata": {"finalizers": None}})
        await until(lambda: any(each.uid != old for each in stand.cache.children(bot.key).values()))


async def test_what_cannot_be_changed_in_place_is_told_and_not_tried_again_and_again(stand: Stand, bot: Bot) -> None:
    family = small_family(bot)
    await stand.children.sync(bot, family)
    other = copy.deepcopy(family)
    for each in other:
        if each["kind"] in {"Deployment", "StatefulSet"}:
            each["spec"]["selector"]["matchLabels"]["extra"] = "yes"
            each["spec"]["template"]["metadata"]["labels"]["extra"] = "yes"
        if each["kind"] == "PersistentVolumeClaim":
            each["spec"]["resources"]["requests"]["storage"] = "2Gi"
    report = await stand.children.sync(bot, other)
    texts = dict(report.errors)
    assert set(texts) == {
        f"Deployment/{bot.name}-deployment", f"StatefulSet/{bot.name}-set", f"PersistentVolumeClaim/{bot.name}-claim"
    }  # fmt: skip
    assert f"delete Deployment/{bot.name}-deployment" in texts[f"Deployment/{bot.name}-deployment"]
    stand.kube.writes = 0
    again = await stand.children.sync(bot, other)
    assert dict(again.errors) == texts
    assert stand.kube.writes == 0
    assert (await stand.children.sync(bot, family)).settled, "the old rendering is fine"


async def test_secrets_are_created_only_and_again_only_when_asked(stand: Stand, bot: Bot) -> None:
    secret = manifest(bot, "v1", "Secret", "bus", stringData={"execution": "redis://x"})
    name = secret["metadata"]["name"]
    assert await stand.children.sync_secrets(bot, [secret]) == (name,)
    assert await stand.children.sync_secrets(bot, [secret], force=True) == ()
    await stand.kube.delete("v1", "Secret", stand.namespace, name)
    stand.kube.writes = 0
    assert await stand.children.sync_secrets(bot, [secret]) == ()
    assert stand.kube.writes == 0
    assert await stand.children.sync_secrets(bot, [secret], force=True) == (name,)


async def test_two_operators_at_once_write_the_same_and_then_nothing(stand: Stand, bot: Bot, namespace: str) -> None:
    family = small_family(bot)
    async with stand_in(namespace) as other:

        def lane(parts: Stand) -> Any:
            async def children(key: str) -> None:
                if key == bot.key:
                    await parts.children.sync(bot, family)

            return children

        async with stand.working({Lane.CHILDREN: lane(stand)}), other.working({Lane.CHILDREN: lane(other)}):
            await until(lambda: len(stand.cache.children(bot.key)) == len(other.cache.children(bot.key)) == len(family))
            await until(lambda: stand.queue.idle(Lane.CHILDREN) and other.queue.idle(Lane.CHILDREN))
            kubectl("-n", namespace, "scale", "deployment", f"{bot.name}-deployment", "--replicas=2")
            scaled = int((await live(stand, family[4]) or {})["metadata"]["resourceVersion"])
            await until(lambda: all(_mended(each, bot, scaled) for each in (stand, other)))
            await until(lambda: stand.queue.idle(Lane.CHILDREN) and other.queue.idle(Lane.CHILDREN))
            stand.kube.writes = other.kube.writes = 0
            for parts in (stand, other):
                parts.queue.add(bot.key, Lane.CHILDREN)
            await until(lambda: stand.queue.idle(Lane.CHILDREN) and other.queue.idle(Lane.CHILDREN))
            assert (stand.kube.writes, other.kube.writes) == (0, 0)


def _mended(stand: Stand, bot: Bot, scaled: int) -> bool:
    name = f"{bot.name}-deployment"
    deployment = next(
        each.live for each in stand.cache.children(bot.key).values() if each.live["metadata"]["name"] == name
    )
    return int(deployment["metadata"]["resourceVersion"]) >= scaled and deployment["spec"]["replicas"] == 0
