"""The ``tradingbot`` command: it parses, and hands over.

Services and the paper exchange are loaded by name when they are asked for, so that no import path leads from here to
the key and ``--help`` answers at once.
"""

from __future__ import annotations

import sys

import typer

from tradingbot.commands import backtest, bus, config, download, local, paper, processes, record, replay
from tradingbot.domain.errors import TradingBotError
from tradingbot.runtime.process import ExitCode

app = typer.Typer(
    name="tradingbot",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Automated portfolio trading for Hyperliquid perpetuals.

    Every minute six processes turn market features into target weights, cut them to the risk limits, and work them
    into orders. Try it on the built-in paper exchange; it needs no account, no key and no network:

        tradingbot up                                  # trade; Ctrl-C stops everything cleanly

        tradingbot up --cycles 5 --speed 30            # five minutes of trading in ten seconds, then check it

        tradingbot ctl halt "something looks odd"      # in another terminal: cancel all orders, place none

        tradingbot ctl resume

        tradingbot verify                              # does the record hold together?

    Before real money: docs/going-live.md.
    """,
)
app.command("up")(local.up)
app.command("verify")(local.verify)
app.command("record")(record.record)
app.command("replay")(replay.replay)
app.command("backtest")(backtest.backtest)
app.command("download")(download.download)
app.command("preflight")(processes.preflight)
app.command("run")(processes.run)
app.command("paper")(paper.paper)
app.add_typer(bus.ctl, name="ctl")
app.add_typer(bus.dlq, name="dlq")
app.command("audit")(bus.audit)
app.add_typer(config.app, name="config")


def main() -> None:
    """Run the command; an error of ours is one plain text on stderr, without a traceback."""
    try:
        app(standalone_mode=True)
    except TradingBotError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(ExitCode.REFUSED)


if __name__ == "__main__":
    main()
