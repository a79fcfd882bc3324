"""`tradingbot paper`: the exchange alone, as a process."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import httpx

from support.bot import eventually
from support.servers import free_port

ACCOUNT = "0x" + "a" * 40


def paper(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tradingbot", "paper", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd)


def test_it_serves_its_account_with_the_faults_that_were_asked_for_and_ends_on_sigterm(tmp_path: Path) -> None:
    port = free_port()
    child = paper(
        *("--port", str(port), "--prices", "synthetic:3", "--account", ACCOUNT, "--start-equity-usd", "2500"),
        *("--fault", "rate_limit,path=/info,type=allMids,count=1"),
        cwd=tmp_path,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as http:
            eventually(lambda: answers(http), what="the exchange answers")
            assert http.post("/info", json={"type": "allMids"}).status_code == 429
            assert "BTC" in http.post("/info", json={"type": "allMids"}).json()
            state = http.post("/info", json={"type": "clearinghouseState", "user": ACCOUNT}).json()
            assert float(state["marginSummary"]["accountValue"]) == 2500
        child.send_signal(signal.SIGTERM)
        assert child.wait(timeout=60) == 0
    finally:
        child.kill()
        child.communicate()


def answers(http: httpx.Client) -> bool:
    try:
        return http.get("/control/status").status_code == 200
    except httpx.TransportError:
        return False


def test_what_it_cannot_do_is_refused_in_one_line(tmp_path: Path) -> None:
    for arguments, text in (
        (("--fault", "earthquake"), "--fault: "),
        (("--prices", "nothing-here"), "nothing-here"),
        (("--prices", "live", "--speed", "30"), "speed"),
    ):
        child = paper("--port", "0", *arguments, cwd=tmp_path)
        _, err = child.communicate(timeout=90)

        assert child.returncode == 2
        assert text in err
        assert "Traceback" not in err
