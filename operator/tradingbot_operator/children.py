"""Brings a bot's children to what was rendered, and nothing more: what is right already is not written.

Server-side apply restores what the manifests name. What others have added beside it is taken away by a replace, which
owns nothing that apply does not own. A child that belongs to someone else is left alone and told. Volumes are never
pruned: they go with their owner, by the cluster's garbage collection.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from tradingbot.domain.errors import Permanent, TradingBotError
from tradingbot.runtime.clock import Clock
from tradingbot_operator import metrics
from tradingbot_operator.cache import Cache, Child, ChildId, id_of
from tradingbot_operator.drift import drifted, stamped
from tradingbot_operator.kube import WATCHED_CHILDREN, Kube, KubeError, Manifest, Rejected
from tradingbot_operator.names import KIND, LABEL_MANAGED_BY, MANAGED_BY, RENDERED
from tradingbot_operator.ownership import foreign_fields, left_by_replace
from tradingbot_operator.resource import Bot

log = structlog.stdlib.get_logger("tradingbot.operator.children")

_CLAIM: Final = "PersistentVolumeClaim"
_CONFLICT: Final = 409
_CONFLICTS: Final = 5
"""Tries to replace what others write at the same time."""
_REJECTED_S: Final = 60.0
"""Real seconds in which a manifest that the API server called invalid is not sent again."""
_FORBIDDEN_S: Final = 10.0
"""The same for one that the operator was not allowed to write: a person may be about to allow it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildrenReport:
    """What a sync did; texts are for persons."""

    applied: tuple[str, ...] = ()
    """Children that were written because they were new or rendered anew."""
    pruned: tuple[str, ...] = ()
    """Children that render no longer makes, and that were deleted."""
    drift: tuple[str, ...] = ()
    """Children that were brought back: ``Deployment/majors-monitor: spec.replicas``."""
    waiting: tuple[tuple[str, str], ...] = ()
    """(child, why): has to go before it can be made again; its end wakes the bot."""
    errors: tuple[tuple[str, str], ...] = ()
    """(child, what went wrong): they are not as rendered."""

    @property
    def settled(self) -> bool:
        """Whether every child is as rendered."""
        return not self.waiting and not self.errors


@dataclass(slots=True)
class _Tally:
    applied: list[str] = field(default_factory=list)
    pruned: list[str] = field(default_factory=list)
    drift: list[str] = field(default_factory=list)
    waiting: list[tuple[str, str]] = field(default_factory=list)
    errors: list[tuple[str, str]] = field(default_factory=list)

    def report(self) -> ChildrenReport:
        return ChildrenReport(
            applied=tuple(self.applied),
            pruned=tuple(self.pruned),
            drift=tuple(self.drift),
            waiting=tuple(self.waiting),
            errors=tuple(self.errors),
        )


@dataclass(frozen=True, slots=True)
class _Refusal:
    rendered: str | None
    text: str
    until_s: float


class Children:
    """The children of all bots."""

    def __init__(self, kube: Kube, cache: Cache, clock: Clock) -> None:
        self._kube, self._cache, self._clock = kube, cache, clock
        self._seen: dict[str, set[ChildId]] = {}
        self._secrets: dict[str, set[str]] = {}
        self._refused: dict[tuple[str, ChildId], _Refusal] = {}
        self._accepted: dict[tuple[str, ChildId], tuple[str, ...]] = {}

    async def sync(self, bot: Bot, manifests: Iterable[Manifest]) -> ChildrenReport:
        """Bring the bot's children to these manifests.

        Errors of single children are in the report; the others are brought on all the same.
        """
        tally = _Tally()
        wanted: set[ChildId] = set()
        for manifest in manifests:
            desired = stamped(manifest)
            wanted.add(id_of(desired))
            await _guarded(tally, id_of(desired), self._bring(bot, desired, tally))
        for identity, child in tuple(self._cache.children(bot.key).items()):
            if identity not in wanted and _prunable(bot, identity, child):
                await _guarded(tally, identity, self._prune(bot, identity, child, tally))
        self._seen[bot.uid] = self._seen.get(bot.uid, set()) & wanted
        return tally.report()

    async def keep(self, bot: Bot, manifest: Manifest) -> ChildrenReport:
        """Bring one child to its manifest if it is the bot's and there; what is not there is not made.

        Raises:
            TradingBotError: it could not be written.
        """
        tally, desired = _Tally(), stamped(manifest)
        child = self._cache.children(bot.key).get(id_of(desired))
        if child is not None and child.owner_uid == bot.uid and not child.deleting:
            await self._bring(bot, desired, tally)
        return tally.report()

    async def sync_secrets(self, bot: Bot, secrets: Iterable[Manifest], *, force: bool = False) -> tuple[str, ...]:
        """Create those Secrets that are not there; returns the names of the new ones. They are never read.

        Args:
            bot: whose they are.
            secrets: with everything in them.
            force: try also what this process has created before, because one may be missing.
        """
        made = self._secrets.setdefault(bot.uid, set())
        created = []
        for secret in secrets:
            name = str(secret["metadata"]["name"])
            if name in made and not force:
                continue
            if await self._kube.create(secret):
                created.append(name)
                metrics.child_writes.labels(kind="Secret", verb="create").inc()
            made.add(name)
        return tuple(created)

    def forget(self, uid: str) -> None:
        """Drop what is remembered of a bot that is no more."""
        self._seen.pop(uid, None)
        self._secrets.pop(uid, None)
        self._refused = {each: refusal for each, refusal in self._refused.items() if each[0] != uid}
        self._accepted = {each: paths for each, paths in self._accepted.items() if each[0] != uid}

    async def _bring(self, bot: Bot, desired: Manifest, tally: _Tally) -> None:
        identity = id_of(desired)
        child = self._cache.children(bot.key).get(identity) or await self._look(bot, identity)
        if child is not None and (hindrance := _hindrance(bot, child)):
            (tally.waiting if hindrance.passes else tally.errors).append((str(identity), hindrance.text))
            return
        wrong = self._wrong(bot, desired, child)
        seen = self._seen.setdefault(bot.uid, set())
        if wrong:
            self._check_refused(bot, desired)
            await self._write(bot, desired, child)
        if wrong and identity in seen and (child is None or _rendered(child.live) == _rendered(desired)):
            tally.drift.append(f"{identity}: {', '.join(wrong)}")
            metrics.drift_corrections.labels(kind=identity.kind).inc()
            log.info("drift_corrected", bot=bot.key, child=str(identity), paths=wrong)
        elif wrong:
            tally.applied.append(str(identity))
        seen.add(identity)

    async def _look(self, bot: Bot, identity: ChildId) -> Child | None:
        """What the watch has not told of: without our labels it may be there all the same, and someone else's."""
        live = await self._kube.get(*identity[:2], bot.namespace, identity.name)
        return None if live is None else _child(live)

    def _wrong(self, bot: Bot, desired: Manifest, child: Child | None) -> tuple[str, ...]:
        """What of the child is not as rendered."""
        if child is None:
            return ("deleted",)
        wrong = _off(desired, child)
        return () if wrong == self._accepted.get((bot.uid, id_of(desired))) else wrong

    async def _write(self, bot: Bot, desired: Manifest, before: Child | None) -> None:
        identity = id_of(desired)
        token = (bot.uid, identity)
        try:
            child = await self._put_right(desired, before)
        except Permanent as error:
            until_s = self._clock.real_s() + (_REJECTED_S if isinstance(error, Rejected) else _FORBIDDEN_S)
            self._refused[token] = _Refusal(_rendered(desired), _advice(identity, error), until_s)
            raise Permanent(_advice(identity, error)) from error
        self._refused.pop(token, None)
        self._accepted.pop(token, None)
        if left := _off(desired, child):
            # Something between us and the store rewrites it, an admission webhook for one: to insist would be a loop.
            self._accepted[token] = left
            log.warning("child_differs_after_write", bot=bot.key, child=str(identity), paths=left)

    async def _put_right(self, desired: Manifest, child: Child | None) -> Child:
        """Apply, and take away what others have added beside it."""
        replaceable = desired["kind"] != _CLAIM
        try:
            live = await self._apply(desired)
        except Rejected:
            # What others have added may not go with what is rendered: a second port, where ports then need names.
            if child is None or not replaceable:
                raise
            await self._replace(desired, None)
            live = await self._apply(desired)
        if replaceable and (_off(desired, _child(live)) or left_by_replace(_managed(live))):
            live = await self._replace(desired, live)
        if (desired["apiVersion"], desired["kind"]) in WATCHED_CHILDREN:
            self._cache.store(live)
        return _child(live)

    async def _apply(self, desired: Manifest) -> Manifest:
        live = await self._kube.apply(desired)
        metrics.child_writes.labels(kind=desired["kind"], verb="apply").inc()
        return live

    async def _replace(self, desired: Manifest, live: Manifest | None) -> Manifest:
        """Put the manifest in the place of the newest; a controller may write the status at the same time."""
        identity = id_of(desired)
        for _ in range(_CONFLICTS):
            found = live or await self._kube.get(*identity[:2], desired["metadata"]["namespace"], identity.name)
            if found is None:
                break
            try:
                replaced = await self._kube.replace(_replacement(desired, found))
            except KubeError as error:
                if error.status != _CONFLICT:
                    raise
                live = None
                continue
            metrics.child_writes.labels(kind=identity.kind, verb="replace").inc()
            return replaced
        raise KubeError(f"{identity} changes faster than it can be replaced", status=_CONFLICT)

    def _check_refused(self, bot: Bot, desired: Manifest) -> None:
        refusal = self._refused.get((bot.uid, id_of(desired)))
        if refusal and refusal.rendered == _rendered(desired) and self._clock.real_s() < refusal.until_s:
            raise Permanent(refusal.text)

    async def _prune(self, bot: Bot, identity: ChildId, child: Child, tally: _Tally) -> None:
        if await self._kube.delete(*identity[:2], bot.namespace, identity.name, uid=child.uid):
            tally.pruned.append(str(identity))
            metrics.child_writes.labels(kind=identity.kind, verb="delete").inc()


async def _guarded(tally: _Tally, identity: ChildId, work: Coroutine[None, None, None]) -> None:
    try:
        await work
    except TradingBotError as error:
        tally.errors.append((str(identity), str(error)))


@dataclass(frozen=True, slots=True)
class _Hindrance:
    text: str
    passes: bool
    """Whether it ends by itself; the watch tells."""


def _hindrance(bot: Bot, child: Child) -> _Hindrance | None:
    """Why the child must not be written now, or at all."""
    if child.deleting:
        return _Hindrance("is being deleted", passes=True)
    owner = child.owner
    if owner is not None and owner["uid"] != bot.uid:
        if owner["kind"] == KIND and owner["name"] == bot.name:
            return _Hindrance(f"belongs to the earlier {bot.name} and goes with it", passes=True)
        return _Hindrance(f"belongs to {owner['kind']} {owner['name']}", passes=False)
    metadata = child.live["metadata"]
    managed = (metadata.get("labels") or {}).get(LABEL_MANAGED_BY) == MANAGED_BY
    if owner is None and not managed and RENDERED not in (metadata.get("annotations") or {}):
        return _Hindrance("exists and is not the operator's: rename or delete it", passes=False)
    return None


def _prunable(bot: Bot, identity: ChildId, child: Child) -> bool:
    return child.owner_uid == bot.uid and identity.kind != _CLAIM and not child.deleting


def _child(live: Manifest) -> Child:
    return Child(live=live, foreign=foreign_fields(_managed(live)))


def _managed(live: Manifest) -> Sequence[Manifest]:
    return live["metadata"].get("managedFields") or ()


def _off(desired: Manifest, child: Child) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*drifted(desired, child.live), *child.foreign)))


def _rendered(manifest: Manifest) -> str | None:
    return (manifest["metadata"].get("annotations") or {}).get(RENDERED)


def _replacement(desired: Manifest, live: Manifest) -> Manifest:
    """The manifest in the place of the live object, whose own metadata it keeps."""
    metadata = {name: value for name, value in live["metadata"].items() if name != "ownerReferences"}
    if owners := desired["metadata"].get("ownerReferences"):
        metadata["ownerReferences"] = owners
    if managed := _managed(live):
        # Apply is to own alone: a field with a second owner would stay when render drops it.
        left = left_by_replace(managed)
        metadata["managedFields"] = [each for each in managed if each not in left]
    return {**desired, "metadata": metadata}


def _advice(identity: ChildId, error: Permanent) -> str:
    if isinstance(error, Rejected) and ("immutable" in str(error) or "updates to" in str(error)):
        return f"{error} - cannot be changed in place: delete {identity} and the operator makes it anew"
    return str(error)
