"""A TradingBot as the operator holds it: metadata that decides something, the validated spec, the status last seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from tradingbot.domain.errors import Permanent
from tradingbot.domain.static import Network
from tradingbot_operator.names import PAUSE
from tradingbot_operator.rules import broken_rules
from tradingbot_operator.spec import TradingBotSpec


class InvalidSpec(Permanent):
    """A spec that the operator cannot use; it names the fields, never their values.

    Args:
        body: the resource as it was read, so that its mode and deletion can still be obeyed.
        problems: (field path, what is wrong) pairs.
    """

    def __init__(self, body: Mapping[str, Any], problems: Sequence[tuple[str, str]]) -> None:
        self.body = body
        self.problems = tuple(problems)
        self.paths = tuple(dict.fromkeys(path for path, _ in problems))
        super().__init__("; ".join(f"{path}: {text}" for path, text in problems))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bot:
    """One TradingBot at one resource version."""

    namespace: str
    name: str
    uid: str
    generation: int
    annotations: Mapping[str, str]
    finalizers: tuple[str, ...]
    deletion_requested_at: datetime | None
    created_at: datetime
    resource_version: str
    spec: TradingBotSpec
    status: Mapping[str, Any]
    """As last seen; may be older than what was written since."""

    @property
    def key(self) -> str:
        """``namespace/name``: its name in the queue and the caches."""
        return f"{self.namespace}/{self.name}"

    @property
    def bot_id(self) -> str:
        """What names the bot in Redis and in order ids: its uid, or that of the bot whose state it goes on with."""
        return self.spec.redis.adopt or self.uid

    @property
    def refused_before(self) -> str:
        """Why it may not have its account, as its status says; empty when that says nothing of the kind."""
        return refusal_in(self.status)

    @property
    def network(self) -> Network:
        """The venue."""
        return self.spec.exchange.network

    @property
    def deleting(self) -> bool:
        """Whether its deletion was asked for."""
        return self.deletion_requested_at is not None

    @property
    def paused(self) -> bool:
        """Whether its children are to be left alone; modes are obeyed all the same."""
        return self.annotations.get(PAUSE, "").lower() == "true"

    @property
    def runs(self) -> bool:
        """Whether it is meant to have pods: neither suspended nor on its way out."""
        return not self.spec.suspend and not self.deleting


def parse(body: Mapping[str, Any], *, strict: bool = False) -> Bot:
    """A resource as the API server gives it. Fields that this version does not know are ignored, unless ``strict``.

    Raises:
        InvalidSpec: the spec breaks the model or a rule; possible where another version's CRD is installed.
    """
    metadata = body.get("metadata", {})
    try:
        spec = TradingBotSpec.model_validate(body.get("spec") or {}, extra="forbid" if strict else "ignore")
    except ValidationError as error:
        raise InvalidSpec(body, [(_path(each["loc"]), each["msg"]) for each in error.errors()]) from None
    if broken := broken_rules(spec):
        raise InvalidSpec(body, [(rule.path, rule.message) for rule in broken])
    return Bot(
        namespace=metadata.get("namespace", "default"),
        name=metadata.get("name", ""),
        uid=metadata.get("uid", ""),
        generation=int(metadata.get("generation", 0)),
        annotations=dict(metadata.get("annotations") or {}),
        finalizers=tuple(metadata.get("finalizers") or ()),
        deletion_requested_at=_moment(metadata.get("deletionTimestamp")),
        created_at=_moment(metadata.get("creationTimestamp")) or _NEVER,
        resource_version=metadata.get("resourceVersion", ""),
        spec=spec,
        status=dict(body.get("status") or {}),
    )


def refusal_in(status: Mapping[str, Any]) -> str:
    """What a status says of an account that another bot holds; empty when it does not."""
    found = [each for each in status.get("conditions") or () if each.get("type") == "AccountInUse"]
    return str(found[0].get("message") or "refused") if found and found[0].get("status") == "True" else ""


_NEVER = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _path(location: tuple[int | str, ...]) -> str:
    """``spec.risk.caps[BTC]`` of a pydantic location."""
    return ".".join(("spec", *(str(part) for part in location)))
