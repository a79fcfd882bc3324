"""The numeric kernel, compiled: the very functions that decide live, rebuilt for numba with all that they call.

numba compiles a function together with what its globals name. A kernel's callees are Python functions there, so each
one is rebuilt from its own code with its callees replaced by compiled ones, from the leaves up. Nothing is written
twice, and nothing may differ: no fast math and no fused multiply-add, Python's own errors (a division by zero raises).

The machine code is kept on disk, in a folder named by a digest of every function and constant that the kernel reaches:
numba itself looks at the outermost file alone and would go on using a callee that has changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import types
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., Any])

_OWN = "tradingbot."
# Without numba's run-time no vector can be made, and none is counted when it is passed on.
_OPTIONS: dict[str, Any] = {"error_model": "python", "nogil": True, "_nrt": False}
_CALLEE: dict[str, Any] = {**_OPTIONS, "forceinline": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}

_REBUILT: dict[frozenset[tuple[str, Any]], dict[types.FunctionType, Any]] = {}
"""Callees that are compiled already, by the bindings in force: several outermost functions share them."""


def compiled(function: F, *, folder: Path | None = None, **bindings: Callable[..., Any]) -> F:
    """A kernel function compiled for whatever it is called with.

    Args:
        function: the outermost one; its machine code is kept on disk.
        folder: where to keep it; None: the user's cache folder.
        bindings: what to put in place of a callee's name, such as a strategy's ``weigh``.
    """
    reached = dict(_reached(function, bindings))
    rebuilt = _REBUILT.setdefault(frozenset(bindings.items()), {})
    for each, names in reached.items():
        if each not in rebuilt:
            rebuilt[each] = numba.njit(**_CALLEE)(_rebuild(each, names, rebuilt))
    place = (folder or cache_folder()) / digest(function, **bindings)
    outermost = _rebuild(_plain(function), reached[_plain(function)], rebuilt)
    with _keeping_at(place) as keeps:
        result: F = numba.njit(**_OPTIONS, cache=keeps)(outermost)
    return result


def bound(function: F, **bindings: Callable[..., Any]) -> F:
    """The same function with other callees in place of some names, interpreted."""
    plain = _plain(function)
    result: Any = types.FunctionType(plain.__code__, {**plain.__globals__, **bindings}, plain.__name__)
    return result  # type: ignore[no-any-return]


def digest(function: Callable[..., Any], **bindings: Callable[..., Any]) -> str:
    """Names the code of a function, of all that it calls, and the constants they use."""
    whole = hashlib.sha256(f"{sys.version} numba {numba.__version__}".encode())
    for each, names in _reached(function, bindings):
        whole.update(_code_text(each.__code__).encode())
        for name, value in sorted(names.items()):
            whole.update(f"{name}={_text(value)}".encode())
    return whole.hexdigest()[:20]


def cache_folder() -> Path:
    """Where machine code is kept: NUMBA_CACHE_DIR, else the user's cache folder."""
    own = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(own) / "tradingbot" / "kernel"


def _reached(
    function: Callable[..., Any], bindings: dict[str, Callable[..., Any]]
) -> Iterator[tuple[types.FunctionType, dict[str, Any]]]:
    """Every own function that is called, callees first, each with the globals that it names."""
    done: set[types.FunctionType] = set()

    def visit(each: types.FunctionType) -> Iterator[tuple[types.FunctionType, dict[str, Any]]]:
        if each in done:
            return
        done.add(each)
        names = {name: each.__globals__[name] for name in each.__code__.co_names if name in each.__globals__}
        names |= {name: bindings[name] for name in each.__code__.co_names if name in bindings}
        for value in names.values():
            if _is_own(value):
                yield from visit(_plain(value))
        yield each, names

    yield from visit(_plain(function))


@lru_cache
def _plain(function: Any) -> types.FunctionType:
    if not isinstance(function, types.FunctionType):
        raise TypeError(f"{function!r} is no plain Python function: the kernel calls nothing else")
    return function


def _is_own(value: Any) -> bool:
    return isinstance(value, types.FunctionType) and value.__module__.startswith(_OWN)


def _rebuild(
    function: types.FunctionType, names: dict[str, Any], rebuilt: dict[types.FunctionType, Any]
) -> types.FunctionType:
    """The same code with compiled callees; numba knows no keyword-only parameters, so they may come by position."""
    code = function.__code__
    code = code.replace(co_argcount=code.co_argcount + code.co_kwonlyargcount, co_kwonlyargcount=0)
    callees = {name: rebuilt[value] for name, value in names.items() if _is_own(value)}
    if function.__defaults__ or function.__kwdefaults__:
        raise TypeError(f"{function.__qualname__}: a kernel function has no defaults")
    return types.FunctionType(code, {**function.__globals__, **names, **callees}, function.__name__)


def _code_text(code: types.CodeType) -> str:
    return f"{code.co_qualname} {code.co_code.hex()} {code.co_consts} {code.co_names} {code.co_varnames}"


def _text(value: Any) -> str:
    if isinstance(value, types.ModuleType | types.FunctionType):
        return value.__name__
    if isinstance(value, type):
        return f"{value.__qualname__}{getattr(value, '_fields', ())}"
    return repr(value)


@contextlib.contextmanager
def _keeping_at(place: Path) -> Iterator[bool]:
    """numba keeps its files below ``place`` for functions made meanwhile; False where nobody can write there."""
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError:
        yield False
        return
    config: Any = numba.config
    before, config.CACHE_DIR = config.CACHE_DIR, str(place)
    try:
        yield os.access(place, os.W_OK)
    finally:
        config.CACHE_DIR = before
