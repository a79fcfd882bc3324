"""What other settings would have done over the recorded time, for a person and for a program."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from tradingbot.bus.names import Stream
from tradingbot.domain.messages import ExecutionReport
from tradingbot.domain.model import Model
from tradingbot.replay.rerun.account import Costs
from tradingbot.replay.rerun.change import Change
from tradingbot.replay.rerun.path import Outcome, play
from tradingbot.replay.rerun.per_cycle import Moved, moved_cycles
from tradingbot.replay.rerun.reading import Reader, Source
from tradingbot.replay.rerun.rerun import UnreadOfStream, unread_lines, unread_of
from tradingbot.replay.rerun.tape import Tape

ASSUMED_FEE_BPS = 4.5
"""The venue's taker fee without any discount."""
ASSUMED_SLIPPAGE_BPS = 1.0
SHOWN = 8


class BotItself(Model):
    """What the bot's own account did meanwhile: how near the played one comes to it says how much to believe of it."""

    equity_first_usd: float
    equity_last_usd: float
    traded_usd: float
    fees_usd: float


class WhatIf(Model):
    """A change's consequences."""

    changed: dict[str, str]
    costs: Costs
    cycles: tuple[Moved, ...]
    with_recorded: Outcome
    with_changed: Outcome
    bot_itself: BotItself | None
    """None when fewer than two of its snapshots are on the record."""
    left_out: int = 0
    """Decisions that cannot be made again: something that they were made from, or what became of them, is missing."""
    unread: tuple[UnreadOfStream, ...] = ()

    def lines(self) -> Iterator[str]:
        """The report for a person."""
        yield "with " + ", ".join(f"{name}={value}" for name, value in self.changed.items())
        yield from unread_lines(self.unread)
        yield from self._cycle_lines()
        yield from self._path_lines()

    def _cycle_lines(self) -> Iterator[str]:
        moved = [each for each in self.cycles if each.any]
        yield ""
        yield "each cycle by itself, the account as recorded"
        yield f"  {len(moved)} of {len(self.cycles)} cycles differ"
        if self.left_out:
            yield f"  {self.left_out} more cannot be told: a part of each is missing"
        if not moved:
            return
        yield f"  {'cycle':<16}{'Σ|Δ target|':>12}{'Σ|Δ approved|':>15}{'orders':>12}{'trades, USD':>24}"
        for each in sorted(moved, key=lambda each: -max(each.target, each.approved))[:SHOWN]:
            orders = f"{each.orders} → {each.orders_new}"
            traded = f"{each.traded_usd:,.2f} → {each.traded_usd_new:,.2f}"
            yield f"  {each.cycle_id:<16}{each.target:>12.4f}{each.approved:>15.4f}{orders:>12}{traded:>24}"
        if len(moved) > SHOWN:
            yield f"  and {len(moved) - SHOWN} more"

    def _path_lines(self) -> Iterator[str]:
        old, new = self.with_recorded, self.with_changed
        yield ""
        yield f"one after the other, {old.minutes} minutes, whole plans filled at the recorded mids"
        yield f"  costs: {_costs_text(self.costs)}"
        yield f"  {'':<20}{'as recorded':>16}{'changed':>16}"
        for name, field, digits in _ROWS:
            before, after = (float(getattr(each, field)) for each in (old, new))
            yield f"  {name:<20}{before:>16,.{digits}f}{after:>16,.{digits}f}"
        if old.skipped:
            yield f"  {old.skipped} decisions are left out: their inputs are not on the record"
        if (bot := self.bot_itself) is not None:
            yield (
                f"  the bot itself: equity {bot.equity_first_usd:,.2f} to {bot.equity_last_usd:,.2f} USD, traded "
                f"{bot.traded_usd:,.2f}, fees {bot.fees_usd:,.2f}"
            )


_ROWS = (
    ("decisions", "decisions", 0),
    ("orders", "orders", 0),
    ("traded, USD", "traded_usd", 2),
    ("turnover", "turnover", 4),
    ("fees, USD", "fees_usd", 2),
    ("slippage, USD", "slippage_usd", 2),
    ("profit, USD", "pnl_usd", 2),
    ("largest drawdown", "max_drawdown", 5),
    ("gross, mean", "gross_mean", 4),
    ("gross, largest", "gross_max", 4),
    ("net, mean", "net_mean", 4),
    ("under REDUCE_ONLY", "reduce_only", 0),
    ("halted by drawdown", "halted", 0),
)


def what_if(source: Source, tape: Tape, change: Change, *, costs: Costs | None = None) -> WhatIf:
    """Tell a change's consequences over a tape.

    Raises:
        CannotCheck: the record holds no decision that could be changed.
        SettingsError: the change makes no sense with the recorded parameters.
    """
    reader = Reader(source)
    reports = last_reports(reader, tape)
    moved = tuple(moved_cycles(tape, change))
    costs = costs or measured(reports)
    return WhatIf(
        changed={**{name: str(value) for name, value in change.values.items()}, **_strategy(change)},
        costs=costs,
        cycles=moved,
        with_recorded=play(tape, Change(), costs),
        with_changed=play(tape, change, costs),
        bot_itself=_itself(tape, reports),
        left_out=len(set(filter(tape.within, tape.targets))) - len(moved),
        unread=unread_of(tape, *reader.unread()),
    )


def last_reports(reader: Reader, tape: Tape) -> list[ExecutionReport]:
    """The last report of each order of the range's cycles."""
    found = reader.messages(Stream.REPORTS, ExecutionReport, cycles=(tape.first, tape.last))
    return list({(each.data.client_order_id, each.data.attempt): each.data for each in found}.values())


def measured(reports: list[ExecutionReport]) -> Costs:
    """What the recorded trades have cost, weighted by their value; assumed when there are none."""
    traded = [(each, float(each.filled_qty * (each.avg_px or Decimal(0)))) for each in reports if each.filled_qty]
    whole = sum(usd for _, usd in traded)
    if whole <= 0:
        return Costs(fee_bps=ASSUMED_FEE_BPS, slippage_bps=ASSUMED_SLIPPAGE_BPS, measured_usd=0.0)
    slipped = [(each.slippage_bps, usd) for each, usd in traded if each.slippage_bps is not None]
    slipped_usd = sum(usd for _, usd in slipped)
    return Costs(
        fee_bps=10_000 * float(sum((each.fee for each, _ in traded), Decimal(0))) / whole,
        slippage_bps=sum(bps * usd for bps, usd in slipped) / slipped_usd if slipped_usd else ASSUMED_SLIPPAGE_BPS,
        measured_usd=whole,
    )


def _itself(tape: Tape, reports: list[ExecutionReport]) -> BotItself | None:
    equity = [float(each.data.equity_usd) for _, each in sorted(tape.snapshots.items(), key=lambda item: item[1].order)]
    if len(equity) < 2:
        return None
    return BotItself(
        equity_first_usd=equity[0],
        equity_last_usd=equity[-1],
        traded_usd=sum(float(each.filled_qty * (each.avg_px or Decimal(0))) for each in reports),
        fees_usd=float(sum((each.fee for each in reports), Decimal(0))),
    )


def _strategy(change: Change) -> dict[str, str]:
    return {} if change.strategy is None else {"AI_STRATEGY": change.strategy}


def _costs_text(costs: Costs) -> str:
    figures = f"{costs.fee_bps:.2f} bps of fees and {costs.slippage_bps:.2f} bps of slippage"
    if costs.measured_usd == 0:
        return f"{figures}, assumed: no trade is on the record"
    return f"{figures}, as measured on {costs.measured_usd:,.2f} USD of recorded trades"
