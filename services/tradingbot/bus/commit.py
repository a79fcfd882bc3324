"""One step of a service is one commit: its state, its outputs and its acknowledgement happen together or not at all.

What is guaranteed: every check comes before the first write, acknowledgements come last, and the same commit by the
same holder of the lease, sent again after a lost reply, is answered with the first answer and written once. What is
not: effects outside Redis. An order is therefore committed as an intent first and sent afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from redis.asyncio import Redis

from tradingbot.bus import library
from tradingbot.bus.names import Key, action_key, bucket_key, commit_key, lease_key, max_len_of
from tradingbot.domain.modes import Mode

ACTION_TTL_MS = 3 * 24 * 3_600_000
"""Beyond the venue's window of two days in which a nonce counts."""


class Verdict(StrEnum):
    """What became of a commit."""

    DONE = "DONE"
    SUPERSEDED = "SUPERSEDED"
    """Another holder of the lease, another state version, or the entry is not ours any more: nothing was written."""
    MODE = "MODE"
    """The effective mode is stricter than the guard allows: nothing was written."""
    RATE_LIMITED = "RATE_LIMITED"
    """A bucket holds too little: nothing was written, nothing taken."""


@dataclass(frozen=True, slots=True)
class Add:
    """An entry for a stream; the payload is the message's JSON."""

    stream: str
    payload: str


@dataclass(frozen=True, slots=True)
class HashPut:
    """Fields to set in a hash; others stay."""

    key: str
    fields: Mapping[str, str]
    ttl_ms: int | None = None


@dataclass(frozen=True, slots=True)
class ValuePut:
    """A string to set."""

    key: str
    value: str
    ttl_ms: int | None = None


@dataclass(frozen=True, slots=True)
class SetAdd:
    """Members to add to a set."""

    key: str
    members: Sequence[str]


@dataclass(frozen=True, slots=True)
class SetRemove:
    """Members to take from a set."""

    key: str
    members: Sequence[str]


@dataclass(frozen=True, slots=True)
class KeyDelete:
    """A key to delete."""

    key: str


Write = HashPut | ValuePut | SetAdd | SetRemove | KeyDelete


@dataclass(frozen=True, slots=True)
class Ack:
    """An entry that this step finishes; it must be pending with this service."""

    stream: str
    group: str
    entry_id: str


@dataclass(frozen=True, slots=True)
class StateWrite:
    """The state after this step; it must still be at the version that the step began with."""

    key: str
    expected_version: int
    value: str


@dataclass(frozen=True, slots=True)
class ModeGuard:
    """Refuse the step when the effective mode is stricter than this."""

    at_most: Mode
    file_mode: Mode = Mode.NORMAL
    """What counts while the spec's key is absent."""


@dataclass(frozen=True, slots=True)
class TokenTake:
    """Tokens to take from a bucket, leaving at least the reserve in it."""

    bucket: str
    amount: float
    capacity: float
    refill_per_s: float
    reserve: float = 0.0


@dataclass(frozen=True, slots=True)
class ActionStamp:
    """The action of n intents: its nonce and its expiry are fixed inside the commit.

    nonce = max(last + 1, now, min_nonce); expires_after = now + ttl_ms, in virtual milliseconds. Add the venue's
    clock skew to ttl_ms to count by the venue's clock; None (a cancel) has no expiry.
    """

    action_id: str
    ttl_ms: int | None
    fields: Mapping[str, str] = field(default_factory=dict)
    min_nonce: int = 0
    """One more than the last nonce that was used without Redis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """A step, whole."""

    commit_id: str
    """Names the step, the same at every try of it: stream and entry id, or what a timer decided on."""
    service: str
    lease_token: int
    now_ms: int
    """Virtual time of the decision."""
    state: StateWrite | None = None
    acks: Sequence[Ack] = ()
    adds: Sequence[Add] = ()
    writes: Sequence[Write] = ()
    mode_guard: ModeGuard | None = None
    takes: Sequence[TokenTake] = ()
    action: ActionStamp | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitResult:
    """The answer to a commit."""

    verdict: Verdict
    entry_ids: tuple[str, ...] = ()
    """Of the adds, in their order."""
    version: int = 0
    """Of the state after it; 0 without state."""
    nonce: int | None = None
    expires_after_ms: int | None = None
    detail: str = ""
    """Why it was refused; "again" when it had been made before."""

    @property
    def done(self) -> bool:
        """True when it is written."""
        return self.verdict is Verdict.DONE


async def commit(redis: Redis, step: Commit) -> CommitResult:
    """Make a step, once.

    Raises:
        BusUnavailable: the answer was lost or never came; send the same commit again.
        BusFull, LibraryMissing, WrongKeyType, StepTooLarge: nothing was written.
    """
    call = _Call(step)
    return _result(await library.call(redis, library.COMMIT, call.keys, call.args))


def _result(answer: list[str]) -> CommitResult:
    verdict, detail, words = Verdict(answer[0]), answer[1], answer[2].split(" ")
    if verdict is not Verdict.DONE:
        return CommitResult(verdict=verdict, detail=detail)
    version, nonce, expires = (None if word == "-" else int(word) for word in words[:3])
    return CommitResult(
        verdict=verdict,
        entry_ids=tuple(words[3:]),
        version=version or 0,
        nonce=nonce,
        expires_after_ms=expires,
        detail=detail,
    )


class _Call:
    """Keys and arguments of the function call; the parts are checked in the order in which they are put here."""

    def __init__(self, step: Commit) -> None:
        record = step.state.key if step.state else commit_key(step.service, step.commit_id)
        self.keys = [lease_key(step.service), record]
        self.args: list[str] = [
            step.commit_id,
            step.service,
            str(step.lease_token),
            str(step.now_ms),
            "1" if step.state else "0",
        ]
        self._put_checks(step)
        self._put_outputs(step)

    def _put_checks(self, step: Commit) -> None:
        if step.state:
            self._put("state", step.state.key, str(step.state.expected_version), step.state.value)
        for ack in step.acks:
            self._put("ack", ack.stream, ack.group, ack.entry_id)
        if step.mode_guard:
            self._put("mode", None, step.mode_guard.at_most.value, step.mode_guard.file_mode.value)
        for take in step.takes:
            figures = (take.amount, take.capacity, take.refill_per_s, take.reserve)
            self._put("take", bucket_key(take.bucket), *map(repr, map(float, figures)))

    def _put_outputs(self, step: Commit) -> None:
        if step.action:
            self._put_action(step.action)
        for write in step.writes:
            self._put_write(write)
        for add in step.adds:
            self._put("add", add.stream, str(max_len_of(add.stream)), add.payload)

    def _put_action(self, action: ActionStamp) -> None:
        ttl = "" if action.ttl_ms is None else str(action.ttl_ms)
        nonce_index = str(self._index(Key.NONCE))
        head = (nonce_index, ttl, str(action.min_nonce), str(ACTION_TTL_MS))
        self._put("stamp", action_key(action.action_id), *head, *_flat(action.fields))

    def _put_write(self, write: Write) -> None:
        match write:
            case HashPut(key=key, fields=fields, ttl_ms=ttl_ms):
                self._put("hash", key, _ttl(ttl_ms), *_flat(fields))
            case ValuePut(key=key, value=value, ttl_ms=ttl_ms):
                self._put("value", key, _ttl(ttl_ms), value)
            case SetAdd(key=key, members=members) if members:
                self._put("sadd", key, *members)
            case SetRemove(key=key, members=members) if members:
                self._put("srem", key, *members)
            case KeyDelete(key=key):
                self._put("delete", key)
            case SetAdd() | SetRemove():
                pass  # no members, no change

    def _put(self, name: str, key: str | None, *args: str) -> None:
        index = 0 if key is None else self._index(key)
        self.args += (name, str(index), str(len(args)), *args)

    def _index(self, key: str) -> int:
        """Lua counts from 1."""
        if key not in self.keys:
            self.keys.append(key)
        return self.keys.index(key) + 1


def _ttl(ttl_ms: int | None) -> str:
    return "" if ttl_ms is None else str(ttl_ms)


def _flat(fields: Mapping[str, str]) -> list[str]:
    return [text for pair in fields.items() for text in pair]
