"""What can go wrong between us and Redis; each kind says what becomes of the entry in hand.

::

    Temporary
    └── BusError            never counted as a handler's failure, never a dead letter
        ├── BusUnavailable  no connection, loading, read-only: wait and come back
        ├── BusFull         out of memory or of disk: nothing was written
        └── LibraryMissing  the function library is not loaded (yet)
    Permanent
    ├── WrongKeyType        a key holds another type than ours: nothing was written
    ├── StepTooLarge        more fields or members than one call takes: nothing was written
    ├── IdentityMismatch    this Redis belongs to another bot, network or account
    ├── StateUnreadable     a service's kept state breaks its model
    └── BusStateLost        a consumer group is gone: the process must end and start anew
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from redis.exceptions import (
    AuthenticationError,
    MasterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tradingbot.domain.errors import Permanent, Temporary


class BusError(Temporary):
    """Redis could not do it now; the entry in hand is not to blame."""


class BusUnavailable(BusError):  # noqa: N818 - the state of the bus
    """No connection, or the server is loading, busy or read-only; a write may or may not have happened."""


class BusFull(BusError):  # noqa: N818
    """The server refuses writes for lack of memory or disk; nothing was written."""


class LibraryMissing(BusError):  # noqa: N818
    """The function library is not loaded; the supervisor or the operator loads it."""


class WrongKeyType(Permanent):
    """A key holds another type than the step needs; nothing was written."""


class StepTooLarge(Permanent):
    """A step sets more fields or members of one key than one call takes; nothing was written."""


class IdentityMismatch(Permanent):
    """This Redis belongs to another bot, network or account."""


class StateUnreadable(Permanent):
    """The kept state of a service breaks its model."""


class BusStateLost(Permanent):
    """A consumer group that existed is gone: Redis lost data, so the process must start anew and reconcile."""


_UNAVAILABLE = (RedisConnectionError, RedisTimeoutError, ReadOnlyError, MasterDownError, TryAgainError)
_UNAVAILABLE_CODES = ("BUSY ", "UNKILLABLE")
"""Codes that redis-py has no class for; it leaves them in the text."""


@contextmanager
def bus_errors() -> Iterator[None]:
    """Turn redis-py's errors into ours; those that only a person can mend (password, ACL) pass unchanged."""
    try:
        yield
    except AuthenticationError:
        raise
    except _UNAVAILABLE as error:
        raise BusUnavailable(f"Redis does not answer: {error}") from error
    except OutOfMemoryError as error:
        raise BusFull(f"Redis is out of memory: {error}") from error
    except ResponseError as error:
        ours = _of_response(str(error))
        if ours is None:
            raise
        raise ours from error


def _of_response(text: str) -> BusError | Permanent | None:
    if "Function not found" in text:
        return LibraryMissing("the function library is not loaded into Redis; `tradingbot up` or the operator loads it")
    if text.startswith("OOM") or "allow-oom" in text:
        return BusFull(f"Redis is out of memory: {text}")
    if text.startswith(("MISCONF", "NOREPLICAS")):
        return BusFull(f"Redis refuses writes: {text}")
    if text.startswith(_UNAVAILABLE_CODES):
        return BusUnavailable(f"Redis is not ready: {text}")
    if "too much for one step" in text:
        return StepTooLarge(text)
    if "WRONGTYPE" in text:
        return WrongKeyType(text)
    return None
