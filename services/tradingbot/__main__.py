"""``python -m tradingbot``: the command, and the way in which a supervisor starts a service.

``run SERVICE`` skips the command line's library: six processes have to stay small.
"""

import sys


def main() -> None:
    """Run a service directly, anything else through the command line."""
    if len(sys.argv) == 3 and sys.argv[1] == "run" and not sys.argv[2].startswith("-"):
        # structlog and httpx would load rich, which only a terminal needs; a service has none.
        sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
        from tradingbot.domain.services import SERVICES  # noqa: PLC0415 - only what this needs
        from tradingbot.runtime.process import run_service  # noqa: PLC0415

        if sys.argv[2] in SERVICES:
            sys.exit(run_service(sys.argv[2]))
    from tradingbot.cli import main as command  # noqa: PLC0415

    command()


if __name__ == "__main__":
    main()
