"""Children of a supervisor are kept alive, whatever it takes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tradingbot.local.children import Children, ChildSpec
from tradingbot.local.folder import DataFolder, FolderError, Running
from tradingbot.runtime.clock import SystemClock


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_child_that_cannot_be_started_again_is_told_and_tried_again(tmp_path: Path) -> None:
    told: list[str] = []
    program = tmp_path / "child"

    async def reaped(_: str) -> None:
        program.unlink(missing_ok=True)

    def make(*, life_s: float) -> None:
        program.write_text(f"#!/bin/sh\nexec sleep {life_s}\n")
        program.chmod(0o755)

    children = Children(
        clock=SystemClock(), log_dir=tmp_path, reaped=reaped, tell=lambda name, what: told.append(f"{name} {what}")
    )
    make(life_s=0.1)
    await children.start(ChildSpec(name="child", argv=(str(program),), environ={"PATH": "/bin:/usr/bin"}))
    await until(lambda: any("could not be started" in each for each in told))
    failed = children.restarts()["child"]
    make(life_s=600)
    await until(lambda: children.restarts()["child"] > failed and bool(children.pids()))
    await children.stop_all()

    assert children.pids() == {}


async def test_a_child_that_refuses_its_settings_is_told_in_its_own_words_and_not_tried_again(tmp_path: Path) -> None:
    told: list[tuple[str, str]] = []

    async def reaped(_: str) -> None:
        raise AssertionError("it is not started again")

    children = Children(
        clock=SystemClock(), log_dir=tmp_path, reaped=reaped, tell=lambda name, what: told.append((name, what))
    )
    (tmp_path / "odd.log").write_text("odd: refused last week\n")
    script = "echo '{\"event\": \"started\"}'; echo 'odd: AI_STRATEGY: cannot be made' >&2; exit 2"
    await children.start(ChildSpec(name="odd", argv=("/bin/sh", "-c", script), environ={}))
    await until(children.refused.is_set)
    await children.stop_all()

    assert told == [("odd", "refused to start:\nodd: AI_STRATEGY: cannot be made")]
    assert children.restarts() == {}


SUPERVISOR = """
import asyncio, sys
from pathlib import Path
from tradingbot.local.children import Children, ChildSpec
from tradingbot.local.folder import DataFolder
from tradingbot.runtime.clock import SystemClock

async def main():
    folder = DataFolder.make(Path(sys.argv[1]))
    with folder.locked():
        async def reaped(_): ...
        children = Children(
            clock=SystemClock(), log_dir=folder.logs, reaped=reaped, tell=print, pass_fds=folder.lock_fds
        )
        slow = 'trap "" TERM; touch "$0/up"; while [ ! -e "$0/end" ]; do sleep 0.05; done'
        await children.start(ChildSpec(name="slow", argv=("/bin/sh", "-c", slow, sys.argv[1]), environ={}))
        await asyncio.sleep(60)

asyncio.run(main())
"""


def killed_supervisor(path: Path) -> subprocess.Popen[bytes]:
    """A supervisor that was killed with SIGKILL while its child was slow to end."""
    supervisor = subprocess.Popen([sys.executable, "-c", SUPERVISOR, str(path)])
    try:
        asyncio.run(until((path / "up").exists))
    finally:
        supervisor.send_signal(signal.SIGKILL)
        supervisor.wait()
    return supervisor


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="children die with their supervisor on Linux alone")
def test_a_killed_supervisors_folder_is_held_until_its_last_child_has_gone(tmp_path: Path) -> None:
    supervisor, folder = killed_supervisor(tmp_path), DataFolder.make(tmp_path)
    try:
        folder.note_running(
            Running(
                pid=supervisor.pid,
                redis_url="r",
                operator_url="o",
                monitor_url="m",
                paper_url=None,
                account="0xa",
                anchor="0:0:1.0",
            )
        )
        with pytest.raises(FolderError, match="already runs"), folder.locked():
            pass
        assert folder.abandoned()
    finally:
        (tmp_path / "end").touch()
    asyncio.run(until(lambda: not folder.abandoned()))
    with folder.locked():
        assert not os.get_inheritable(folder.lock_fds[0])
