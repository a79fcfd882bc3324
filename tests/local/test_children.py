"""Children of a supervisor are kept alive, whatever it takes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from tradingbot.local.children import Children, ChildSpec
from tradingbot.runtime.clock import SystemClock


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_child_that_cannot_be_started_again_is_told_and_tried_again(tmp_path: Path) -> None:
    told: list[str] = []
    program = tmp_path / "child"

    async def reaped(_: str) -> None:
        program.unlink(missing_ok=True)

    def make() -> None:
        program.write_text("#!/bin/sh\nsleep 0.1\n")
        program.chmod(0o755)

    children = Children(
        clock=SystemClock(), log_dir=tmp_path, reaped=reaped, tell=lambda name, what: told.append(f"{name} {what}")
    )
    make()
    await children.start(ChildSpec(name="child", argv=(str(program),), environ={"PATH": "/bin:/usr/bin"}))
    await until(lambda: any("could not be started" in each for each in told))
    failed = children.restarts()["child"]
    make()
    await until(lambda: children.restarts()["child"] > failed and bool(children.pids()))
    await children.stop_all()

    assert children.pids() == {}
