"""Parameters: the spec's, overridden by a person's while the spec stays as it is."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from tradingbot.bus.names import Key
from tradingbot.bus.params import ParamsConflict, StaleParams, read_params, write_params, write_person_params
from tradingbot.domain.params import Params, RiskParams

TIGHT = Params(risk=RiskParams(max_gross=0.2))


async def test_nobody_may_trade_before_there_are_parameters(any_redis: Redis) -> None:
    assert await read_params(any_redis) is None
    with pytest.raises(ParamsConflict):
        await write_person_params(any_redis, {"risk.max_gross": 0.3})
    assert await any_redis.exists(Key.PARAMS_PERSON) == 0


async def test_the_same_parameters_again_change_nothing(any_redis: Redis) -> None:
    assert await write_params(any_redis, Params(), generation=1) == 1
    assert await write_params(any_redis, Params(), generation=1) == 1
    assert await write_params(any_redis, TIGHT, generation=2) == 2
    found = await read_params(any_redis)
    assert found is not None
    assert (found.params, found.label) == (TIGHT, "2.2+0")


async def test_an_older_generation_is_refused_but_a_new_resource_begins_anew(any_redis: Redis) -> None:
    await write_params(any_redis, TIGHT, generation=5, uid="old")
    with pytest.raises(StaleParams, match="5"):
        await write_params(any_redis, Params(), generation=4, uid="old")
    assert await write_params(any_redis, Params(), generation=1, uid="new") == 2


async def test_a_persons_overrides_add_up_and_end_with_the_generation(any_redis: Redis) -> None:
    await write_params(any_redis, Params(), generation=1)
    assert (await write_person_params(any_redis, {"risk.max_gross": 0.3})).label == "1.1+1"
    both = await write_person_params(any_redis, {"execution.twap_slices": 2, "risk.caps.BTC": 0.05})
    assert (both.params.risk.max_gross, both.params.execution.twap_slices) == (0.3, 2)
    assert both.params.risk.caps == {"BTC": 0.05, "ETH": 0.15}
    back = await write_person_params(any_redis, {"risk.max_gross": None})
    assert (back.params.risk.max_gross, back.params.execution.twap_slices) == (0.4, 2)
    await write_params(any_redis, TIGHT, generation=2)
    found = await read_params(any_redis)
    assert found is not None
    assert (found.params, found.person_version) == (TIGHT, 0)
    fresh = await write_person_params(any_redis, {"risk.max_net": 0.1})
    assert (fresh.params.risk.max_net, fresh.params.execution.twap_slices) == (0.1, 3)


@pytest.mark.parametrize("values", [{"risk.nothing": 1}, {"risk.max_gross": -1}, {"execution.order_tif": "Soon"}])
async def test_what_breaks_the_schema_is_refused_and_not_written(any_redis: Redis, values: dict[str, object]) -> None:
    await write_params(any_redis, Params(), generation=1)
    with pytest.raises(ValueError):
        await write_person_params(any_redis, values)
    assert await any_redis.exists(Key.PARAMS_PERSON) == 0
