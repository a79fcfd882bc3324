"""The face of the Kubernetes API against a real one: what it promises to the rest of the operator.

Runs where KIND_CLUSTER_NAME names a kind cluster; all is in a namespace of its own, and no pod is started.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest

from support.operator_cluster import Stand, manifest, needs_cluster, own_namespace, stand_in
from tradingbot.runtime.clock import Ids
from tradingbot_operator import kube as kube_module
from tradingbot_operator.keys import BadMasterKey
from tradingbot_operator.kube import KubeError, Rejected
from tradingbot_operator.master import master_key
from tradingbot_operator.names import API_VERSION, CHILDREN_SELECTOR, FINALIZER, KIND
from tradingbot_operator.resource import Bot

pytestmark = needs_cluster
OTHER_FINALIZER = "example.com/other"
NOBODY = "00000000-0000-4000-8000-000000000000"


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
    await stand.kube.patch_metadata(await stand.bot(bot.name), finalizers=())
    await stand.drop_bot(bot)


async def test_a_status_is_written_whole_and_does_not_move_the_generation(stand: Stand, bot: Bot) -> None:
    await stand.kube.patch_status(bot, {"phase": "Running", "ready": "8/8", "conditions": [
        {"type": "Ready", "status": "True", "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    ]})  # fmt: skip
    await stand.kube.patch_status(bot, {"phase": "Halted"})
    live = await stand.bot(bot.name)
    assert live.status == {"phase": "Halted", "conditions": []}, "the empty list is the schema's default"
    assert live.generation == bot.generation


async def test_a_status_meant_for_an_earlier_resource_of_the_name_is_refused(stand: Stand, bot: Bot) -> None:
    with pytest.raises((Rejected, KubeError)):
        await stand.kube.patch_status(replace(bot, uid=NOBODY), {"phase": "Running"})
    assert (await stand.bot(bot.name)).status == {}


async def test_nobody_elses_finalizer_is_lost(stand: Stand, bot: Bot) -> None:
    await stand.kube.patch_metadata(bot, finalizers=[FINALIZER])
    ours = await stand.bot(bot.name)
    await stand.kube.patch_metadata(ours, finalizers=[FINALIZER, OTHER_FINALIZER])
    with pytest.raises(KubeError) as refused:
        await stand.kube.patch_metadata(ours, finalizers=[])
    assert refused.value.status == 409
    assert (await stand.bot(bot.name)).finalizers == (FINALIZER, OTHER_FINALIZER)


async def test_a_finalizer_is_written_although_the_resource_has_changed_otherwise(stand: Stand, bot: Bot) -> None:
    await stand.kube.patch_status(bot, {"phase": "Running"})
    await stand.kube.patch_metadata(bot, annotations={"a": "1"})
    await stand.kube.patch_metadata(bot, finalizers=[FINALIZER])
    live = await stand.bot(bot.name)
    assert (live.finalizers, dict(live.annotations)) == ((FINALIZER,), {"a": "1"})
    await stand.kube.patch_metadata(live, annotations={"a": None})
    assert dict((await stand.bot(bot.name)).annotations) == {}


async def test_of_two_creates_one_makes_it(stand: Stand, bot: Bot) -> None:
    config = manifest(bot, "v1", "ConfigMap", "twice", data={})
    assert sorted(await asyncio.gather(stand.kube.create(config), stand.kube.create(config))) == [False, True]


async def test_what_is_deleted_is_the_very_object_that_was_meant(stand: Stand, bot: Bot) -> None:
    config = manifest(bot, "v1", "ConfigMap", "meant", data={})
    live = await stand.kube.apply(config)
    where = ("v1", "ConfigMap", bot.namespace, config["metadata"]["name"])
    assert not await stand.kube.delete(*where, uid=NOBODY)
    assert await stand.kube.get(*where) is not None
    assert await stand.kube.delete(*where, uid=live["metadata"]["uid"])
    assert not await stand.kube.delete(*where)
    assert await stand.kube.get(*where) is None


async def test_a_list_of_many_pages_is_whole(stand: Stand, bot: Bot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kube_module, "_PAGE", 3)
    made = [manifest(bot, "v1", "ConfigMap", f"page-{number}", data={"x": "1"}) for number in range(8)]
    for each in made:
        await stand.kube.create(each)
    selector = f"{CHILDREN_SELECTOR},tradingbot.dev/bot={bot.name}"
    listed = await stand.kube.list("v1", "ConfigMap", bot.namespace, selector)
    assert {each["metadata"]["name"] for each in listed} == {each["metadata"]["name"] for each in made}
    assert {(each["apiVersion"], each["kind"]) for each in listed} == {("v1", "ConfigMap")}
    lean = [
        each async for each in stand.kube.pages("v1", "ConfigMap", bot.namespace, selector, metadata_only=True)
    ]  # fmt: skip
    assert len(lean) == 8
    assert all("data" not in each and each["kind"] == "ConfigMap" for each in lean)
    everywhere = await stand.kube.list("v1", "ConfigMap", None, selector)
    assert len(everywhere) == 8


async def test_what_is_invalid_is_told_apart_from_what_may_work_later(stand: Stand, bot: Bot) -> None:
    bad = manifest(bot, "v1", "ConfigMap", "Not_A_Name", data={})
    with pytest.raises(Rejected, match="Invalid value"):
        await stand.kube.apply(bad)
    nowhere = manifest(bot, "v1", "ConfigMap", "x", data={})
    nowhere["metadata"]["namespace"] = "not-a-namespace"
    with pytest.raises(KubeError) as missing:
        await stand.kube.apply(nowhere)
    assert missing.value.status == 404


async def test_no_answer_is_an_error_to_try_again_after(stand: Stand, bot: Bot) -> None:
    stand.kube._client.configuration.host = "https://127.0.0.1:1"
    with pytest.raises(KubeError) as away:
        await stand.kube.get(API_VERSION, KIND, bot.namespace, bot.name)
    assert away.value.status == 0
    async with stand_in(bot.namespace) as other:
        stand.kube._client.configuration.host = other.kube._client.configuration.host


async def test_an_event_can_be_read_with_the_resource(stand: Stand, bot: Bot) -> None:
    await stand.kube.event(bot, type="Warning", reason="DriftCorrected", message="€" * 2000, action="Apply")
    events = await stand.kube.list("events.k8s.io/v1", "Event", bot.namespace)
    mine = [each for each in events if each["regarding"]["uid"] == bot.uid]
    assert [(each["reason"], each["type"], each["action"], len(each["note"].encode())) for each in mine] == [
        ("DriftCorrected", "Warning", "Apply", 1023)
    ]


async def test_two_operators_that_start_at_once_use_one_master_key(stand: Stand, namespace: str) -> None:
    first, second = await asyncio.gather(master_key(stand.kube, namespace), master_key(stand.kube, namespace))
    third = await master_key(stand.kube, namespace)
    assert (
        first.password("ns", "id", "execution")
        == second.password("ns", "id", "execution")
        == third.password("ns", "id", "execution")
    )
    secret = await stand.kube.get("v1", "Secret", namespace, "tradingbot-operator-master")
    assert secret is not None
    assert secret["immutable"] is True, "another key would lock every bot out of its Redis"


async def test_a_secret_that_holds_no_key_is_refused_without_showing_it(stand: Stand, namespace: str) -> None:
    await stand.kube.delete("v1", "Secret", namespace, "tradingbot-operator-master")
    wrong = {"apiVersion": "v1", "kind": "Secret", "stringData": {"master-key": "not-hex-but-secret"},
             "metadata": {"name": "tradingbot-operator-master", "namespace": namespace}}  # fmt: skip
    await stand.kube.create(wrong)
    with pytest.raises(BadMasterKey) as refused:
        await master_key(stand.kube, namespace)
    assert "not-hex-but-secret" not in str(refused.value)
