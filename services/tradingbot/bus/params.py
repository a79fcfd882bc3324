"""The parameters in force: those of the spec, overridden by a person's while the spec has not changed since."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from redis.asyncio import Redis

from tradingbot.bus import library
from tradingbot.bus.errors import bus_errors
from tradingbot.bus.names import Key
from tradingbot.domain.errors import Permanent, Temporary
from tradingbot.domain.params import Params, VersionedParams, merge_override

_FIELDS = ("version", "generation", "values")


class StaleParams(Permanent):
    """A newer generation of the parameters is there already."""


class ParamsConflict(Temporary):
    """Somebody else changed the parameters in between; read them and try again."""


async def read_params(redis: Redis) -> VersionedParams | None:
    """The parameters in force; None while nobody has written any, and then nobody may trade.

    Raises:
        ValueError: what is kept breaks the schema of the parameters.
    """
    version, generation, values = await _read(redis, Key.PARAMS)
    if version is None or generation is None or values is None:
        return None
    spec = VersionedParams(
        version=int(version), generation=int(generation), params=Params.model_validate_json(values, extra="ignore")
    )
    person_version, person_generation, overrides = await _read(redis, Key.PARAMS_PERSON)
    if person_version is None or person_generation != generation or overrides is None:
        return spec
    return spec.model_copy(
        update={
            "person_version": int(person_version),
            "params": merge_override(spec.params, json.loads(overrides)),
        }
    )


async def write_params(redis: Redis, params: Params, *, generation: int, uid: str = "") -> int:
    """Write the spec's parameters (the operator; locally ``up``); the same again changes nothing. Returns the version.

    ``uid`` is the resource's: a new resource that adopts this Redis begins its generations anew.

    Raises:
        StaleParams: a higher generation is there.
    """
    args = (str(generation), uid, params.model_dump_json(), "")
    verdict, answer = await library.call(redis, library.PARAMS, [Key.PARAMS], args)
    if verdict == "STALE":
        raise StaleParams(f"generation {generation} of the parameters is older than {answer}, which is there already")
    return int(answer)


async def write_person_params(redis: Redis, overrides: Mapping[str, object]) -> VersionedParams:
    """Set a person's overrides by dotted name, beside those that still count; None takes one back.

    They count until the spec's generation changes. Returns the parameters in force afterwards.

    Raises:
        ValueError: an unknown name or a value out of range; nothing was written.
        ParamsConflict: there are no parameters yet, or they changed in between.
    """
    present = await read_params(redis)
    if present is None:
        raise ParamsConflict("there are no parameters to override yet: start the bot first")
    version, generation, kept = await _read(redis, Key.PARAMS_PERSON)
    counting: dict[str, object] = json.loads(kept) if kept and generation == str(present.generation) else {}
    values = {name: value for name, value in {**counting, **overrides}.items() if value is not None}
    spec, _, spec_values = await _read(redis, Key.PARAMS)
    merge_override(Params.model_validate_json(spec_values or "{}", extra="ignore"), values)
    args = (str(present.generation), "", json.dumps(values, sort_keys=True), version or "0")
    verdict, answer = await library.call(redis, library.PARAMS, [Key.PARAMS_PERSON], args)
    after = await read_params(redis)
    if verdict != "DONE" or after is None or str(after.version) != spec:
        raise ParamsConflict(f"the parameters changed in between ({verdict} {answer}); try again")
    return after


async def _read(redis: Redis, key: str) -> list[str | None]:
    with bus_errors():
        kept: Any = await redis.hmget(key, list(_FIELDS))
    return list(kept)
