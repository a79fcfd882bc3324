"""Each error of the server says what becomes of the entry in hand: wait, put aside, or call a person."""

from __future__ import annotations

import pytest
from redis._parsers.base import BaseParser
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tradingbot.bus.errors import BusError, BusFull, BusUnavailable, LibraryMissing, WrongKeyType, bus_errors

TEXTS = [
    ("LOADING Redis is loading the dataset in memory", BusUnavailable),
    ("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.", BusUnavailable),
    ("READONLY You can't write against a read only replica.", BusUnavailable),
    ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", BusUnavailable),
    ("ERR max number of clients reached", BusUnavailable),
    ("OOM command not allowed when used memory > 'maxmemory'.", BusFull),
    ("MISCONF Errors writing to the AOF file: No space left on device", BusFull),
    ("ERR Function not found", LibraryMissing),
    ("WRONGTYPE Operation against a key holding the wrong kind of value", WrongKeyType),
    ("WRONGPASS invalid username-password pair or user is disabled.", AuthenticationError),
    ("NOPERM this user has no permissions to access one of the keys used as arguments", NoPermissionError),
    ("ERR syntax error", ResponseError),
]


@pytest.mark.parametrize(("text", "kind"), TEXTS)
def test_a_servers_words_become_a_kind(text: str, kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught, bus_errors():
        raise BaseParser.parse_error(text)
    assert type(caught.value) is kind
    assert isinstance(caught.value, BusError) == issubclass(kind, BusError)


@pytest.mark.parametrize("error", [RedisConnectionError("refused"), RedisTimeoutError("slow")])
def test_a_lost_connection_is_an_outage(error: Exception) -> None:
    with pytest.raises(BusUnavailable), bus_errors():
        raise error


def test_what_is_not_of_redis_passes() -> None:
    with pytest.raises(OSError, match="disk"), bus_errors():
        raise OSError("disk")
