"""Access rules: each role has a Redis user that may write its own streams and keys, and nothing else.

Rules are selectors, one for each right, because a plain key permission would let every command of the user at every
key of it. Two facts shape them: calling a function needs read and write on each key that is declared, and each call
inside is checked with the caller's own rights. Hence ``+fcall`` stands in a selector of its own, and the mode keys,
which execution must read but not write, are read undeclared.

Reading is open to all roles (no secret is ever on the bus); reading through a group is not, because it takes entries.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tradingbot.bus.buckets import IP_WEIGHT
from tradingbot.bus.names import (
    GROUP_OWNER,
    OPERATOR,
    PERSON,
    STREAMS,
    Key,
    Stream,
    bucket_key,
    dead_letter_stream,
    spend_key,
)
from tradingbot.domain.services import SERVICES

ROLES = (*SERVICES, PERSON, OPERATOR)

_CONNECTION = ("+ping", "+hello", "+quit", "+client|setname", "+client|getname", "+info", "+time")
_READ = (
    *("+get", "+exists", "+type", "+ttl", "+pttl", "+hget", "+hmget", "+hgetall", "+smembers", "+sismember", "+scard"),
    *("+xrange", "+xrevrange", "+xlen", "+xread", "+xpending", "+xinfo|stream", "+xinfo|groups", "+xinfo|consumers"),
)
_SPEND = ("+get", "+incrby", "+expire", "+pexpire", "+ttl")
_WRITE = ("+get", "+set", "+incr", "+del", "+pexpire", "+pttl", "+hget", "+hmget", "+hset", "+sadd", "+srem", "+type")

_OWN_KEYS: dict[str, tuple[str, ...]] = {
    "market_data": (Key.LATEST_MIDS, bucket_key(IP_WEIGHT)),
    "portfolio_state": (Key.LATEST_SNAPSHOT, Key.ACTIVE_OIDS, bucket_key(IP_WEIGHT)),
    "ai_decision": (),
    "risk_engine": (Key.MODE_BREAKER,),
    "execution": ("dedup:*", "action:*", Key.NONCE, Key.APPLIED, Key.LATEST_PREFLIGHT, bucket_key("*")),
    "monitor": (Key.MODE_PERSON, "ctl.command:*"),
    PERSON: (Key.MODE_PERSON, Key.PARAMS_PERSON, "ctl.command:*", Key.ARCHIVE_POSITION),
    OPERATOR: (Key.MODE_SPEC, Key.PARAMS, Key.LIMITS, "ctl.command:*", Key.IDENTITY, Key.SERVER, "lease:*"),
}


def acl_rules(role: str) -> list[str]:
    """What follows ``ACL SETUSER name``; add ``>password`` behind it. A user that exists is replaced whole.

    Raises:
        KeyError: not a role.
    """
    keys = [*_OWN_KEYS[role], *(_service_keys(role) if role in SERVICES else ())]
    consumed = [stream for stream, spec in STREAMS.items() if role in {GROUP_OWNER[each] for each in spec.groups}]
    written = [str(stream) for stream, spec in STREAMS.items() if role in spec.writers]
    letters = [dead_letter_stream(stream) for stream in consumed]
    rules = ["reset", "on", *_CONNECTION, _selector(_READ, "%R~*"), _selector(_WRITE, *_all(keys))]
    if role == OPERATOR:
        rules += ["+function|load", "+function|list", "+config|get", _selector(["+xdel"], "%W~dlq.*")]
        letters = ["dlq.*"]
        written += [str(stream) for stream, spec in STREAMS.items() if spec.dead_letter and str(stream) not in written]
    if role == "ai_decision":
        rules.append(_selector(_SPEND, f"%RW~{spend_key('*')}"))
    if role == "portfolio_state":
        rules.append(_selector(["+xtrim"], *(f"%W~{stream}" for stream in Stream)))
    if consumed:
        rules.append(_selector(["+xreadgroup"], *(f"%R~{stream}" for stream in consumed)))
        rules.append(_selector(["+xack", "+xgroup|create"], *(f"%W~{stream}" for stream in consumed)))
    added = [*written, *letters] if role != OPERATOR else written
    rules.append(_selector(["+xadd"], *(f"%W~{stream}" for stream in added)))
    rules.append(_selector(["+fcall"], *_all([*keys, *consumed, *written, *letters])))
    return rules


def _service_keys(service: str) -> tuple[str, ...]:
    own = (f"lease:{service}", f"lease.counter:{service}", f"state:{service}", f"state:{service}:*")
    failures = (f"failures:{group}:*" for group, owner in GROUP_OWNER.items() if owner == service)
    return (*own, f"commit:{service}:*", *failures, Key.IDENTITY)


def _all(keys: Iterable[str]) -> list[str]:
    return [f"%RW~{key}" for key in keys]


def _selector(commands: Sequence[str], *keys: str) -> str:
    return f"({' '.join((*commands, *keys))})"
