"""I12's checker sees what it is for, whatever it is called, and nothing else."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tradingbot.replay.invariants.seam import breaches, package_folder, uses


@pytest.mark.parametrize(
    "source",
    [
        "import time\ntime.time()",
        "import time as t\nt.monotonic()",
        "from time import perf_counter\nperf_counter()",
        "from datetime import datetime\ndatetime.now()",
        "import datetime\ndatetime.datetime.utcnow()",
        "from uuid import uuid4 as fresh\nfresh()",
        "import random\nrandom.choice([1])",
        "from random import uniform\nuniform(0, 1)",
        "import asyncio\nawait_ = asyncio.sleep(1)",
        "from asyncio import sleep\nsleep(1)",
        "import os\nos.urandom(8)",
        "import secrets\nsecrets.token_hex()",
        "import numpy.random\nnumpy.random.rand()",
    ],
)
def test_a_use_outside_the_seam_is_seen(source: str, tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(source)

    assert len(list(breaches(tmp_path))) >= 1


@pytest.mark.parametrize(
    "source",
    [
        "async def wait(clock):\n    await clock.sleep(1)",
        "import time\ntime.strftime('%Y')",
        "from datetime import UTC, datetime\ndatetime.fromtimestamp(0, tz=UTC)",
        "def now(clock):\n    return clock.now_ms()",
        "import asyncio\nasyncio.timeout(1)",
    ],
)
def test_what_only_looks_alike_is_left_alone(source: str) -> None:
    assert list(uses(ast.parse(source))) == []


def test_the_package_keeps_to_the_seam() -> None:
    assert list(breaches(package_folder())) == []


def test_the_script_fails_where_there_is_a_breach(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("import time\nprint(time.time())\n")
    done = subprocess.run(
        [sys.executable, "-m", "tradingbot.replay.invariants.seam", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=90,
    )

    assert done.returncode == 1
    assert done.stdout == "module.py:2: time.time belongs to the seam, runtime/clock.py\n"
