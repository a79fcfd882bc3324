"""The span of recorded prices, found in a process of its own: ``python -m tradingbot.local.span SPEC SYMBOLS``.

Reading Parquet loads a library of a hundred megabytes that the supervisor would keep for ever.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence

from tradingbot.domain.errors import Permanent, TradingBotError
from tradingbot.runtime.process import ExitCode


class SpanError(Permanent):
    """The recording cannot be used; the text names the file and what is wrong."""


async def recorded_span(spec: str, *, symbols: Sequence[str], environ: Mapping[str, str]) -> tuple[int, int]:
    """The first minute and the end (exclusive), Unix milliseconds, that all coins of a recording share.

    Raises:
        SpanError: the files cannot be used.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tradingbot.local.span", spec, ",".join(symbols)),
        env=dict(environ),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    if process.returncode:
        raise SpanError(err.decode(errors="replace").strip())
    start_ms, end_ms = json.loads(out)
    return start_ms, end_ms


def main() -> int:
    """Print the span as JSON."""
    from tradingbot.paper.prices import load_prices  # noqa: PLC0415 - heavy, see the module

    try:
        source = load_prices(sys.argv[1], symbols=sys.argv[2].split(","))
    except TradingBotError as error:
        sys.stderr.write(f"{error}\n")
        return ExitCode.REFUSED
    sys.stdout.write(json.dumps([source.start_ms, source.end_ms]))
    return ExitCode.DONE


if __name__ == "__main__":
    sys.exit(main())
