"""Keys for the paper exchange, made in a process of their own: ``python -m tradingbot.local.account KEY_FILE``.

The process that makes a key writes it to a file that only its owner can read, prints the addresses, and ends: the
supervisor never holds a key, and execution alone is told where the file is.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from tradingbot.domain.errors import Permanent
from tradingbot.local.folder import FolderError, write_private
from tradingbot.replay.invariants.secrecy import FINGERPRINT, fingerprint


class KeyNotMade(Permanent):
    """The key could not be made."""


async def make_agent(key_file: Path, *, environ: Mapping[str, str]) -> tuple[str, str]:
    """Make an account and an API wallet for the paper exchange; returns (account, agent), both addresses.

    The account's own key is thrown away: on the paper exchange an agent is enough.

    Raises:
        KeyNotMade: with the reason.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tradingbot.local.account", str(key_file)),
        env=dict(environ),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    if process.returncode:
        raise KeyNotMade(f"no key could be made: {err.decode(errors='replace').strip()}")
    account, agent = json.loads(out)
    return account, agent


def main() -> None:
    """Make both, keep the agent's key, print the addresses."""
    from eth_account import Account  # noqa: PLC0415 - heavy, see the module

    account, agent = Account.create(), Account.create()
    key, path = agent.key.hex().removeprefix("0x"), Path(sys.argv[1])
    try:
        write_private(path, key)
        write_private(path.with_name(FINGERPRINT), fingerprint(key))
    except FolderError as error:
        sys.exit(str(error))
    sys.stdout.write(json.dumps([account.address.lower(), agent.address.lower()]))


if __name__ == "__main__":
    main()
