"""How ``up`` shows a running bot: a live table on a terminal, a line a cycle elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Protocol

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tradingbot.domain.cycles import from_ms
from tradingbot.domain.modes import Mode
from tradingbot.local.board import Board, CycleRow

_SHOWN = 14
_NOTES = 4
_WIDE = 120
"""Columns from which on the table shows what was asked for beside what was allowed."""
_OTHER_LINES = 12
_LINES_A_CYCLE = 2
_MODE_STYLES = {Mode.NORMAL: "green", Mode.REDUCE_ONLY: "yellow", Mode.HALT: "bold red"}


@dataclass(slots=True)
class Facts:
    """What stands above the table."""

    monitor_url: str = ""
    data_dir: str = ""
    network: str = "paper"
    prices: str = "unknown"
    speed: float = 1.0
    dry_run: bool = False
    wanted_cycles: int | None = None
    now_ms: int = 0
    mode: Mode | None = None
    mode_reason: str = ""
    notes: list[str] = field(default_factory=list)


class View(Protocol):
    """Shows a board."""

    def __enter__(self) -> View: ...

    def __exit__(self, *exc: object) -> None: ...

    def show(self, board: Board, facts: Facts, *, ended: bool = False) -> None:
        """Show the present state; ended: no other cycle follows."""
        ...

    def say(self, text: str) -> None:
        """Tell one thing that happened."""
        ...


class LiveView:
    """A table that is redrawn in place."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=8, transient=False)

    def __enter__(self) -> LiveView:
        self._live.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.__exit__(None, None, None)

    def show(self, board: Board, facts: Facts, *, ended: bool = False) -> None:  # noqa: ARG002 - the table is whole
        """Redraw."""
        self._live.update(render(board, facts))

    def say(self, text: str) -> None:
        """Print above the table."""
        self._console.print(text, highlight=False)


class PlainView:
    """One line a cycle, once it is over; for pipes, logs and CI."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._told: set[str] = set()

    def __enter__(self) -> PlainView:
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def show(self, board: Board, facts: Facts, *, ended: bool = False) -> None:
        """Print the cycles that ended since the last call; the newest one only where no other follows."""
        for row in board.rows if ended else board.rows[:-1]:
            if row.cycle_id not in self._told and row.happened:
                self._told.add(row.cycle_id)
                self.say(line(row, facts))

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, soft_wrap=True, highlight=False, markup=False)


def make_view(console: Console) -> View:
    """The table on a terminal, lines elsewhere."""
    return LiveView(console) if console.is_terminal else PlainView(console)


def line(row: CycleRow, facts: Facts) -> str:
    """A cycle in one line."""
    equity = "—" if row.equity_usd is None else f"{row.equity_usd:,.2f} USD"
    why = f" ({facts.mode_reason})" if facts.mode_reason and facts.mode is row.mode else ""
    return (
        f"{row.cycle_id} {row.mode or '—'}{why} by {row.used or '—'} approved [{_weights(row.approved)}] "
        f"clamped {len(row.clamps)} orders {len(row.orders)} filled {row.fills} refused {row.rejected} "
        f"fees {_usd(row.fees_usd)} equity {equity} prices {facts.prices.upper()}"
    )


def render(board: Board, facts: Facts) -> RenderableType:
    """The whole screen."""
    parts: list[RenderableType] = [_head(board, facts), _Cycles(board.rows)]
    parts += [Text(f"  {note}", style="yellow") for note in facts.notes[-_NOTES:]]
    return Group(*parts)


def _head(board: Board, facts: Facts) -> Text:
    head = Text()
    mode = facts.mode or Mode.HALT
    head.append(f" {mode.value} ", style=f"reverse {_MODE_STYLES[mode]}")
    if facts.mode_reason:
        head.append(f" {facts.mode_reason}", style=_MODE_STYLES[mode])
    snapshot = board.snapshot
    if snapshot is not None:
        head.append(f"  equity {snapshot.equity_usd:,.2f} USD", style="bold")
        held = {symbol: each.qty for symbol, each in snapshot.positions.items() if each.qty}
        head.append("  holds " + (", ".join(f"{symbol} {qty:+}" for symbol, qty in held.items()) or "nothing"))
    head.append(f"\n {from_ms(facts.now_ms):%Y-%m-%d %H:%M:%S} UTC")
    head.append(f"  {facts.network}", style="bold")
    label = facts.prices.upper()
    head.append(f"  {label} PRICES", style="bold magenta" if label != "LIVE" else "bold")
    if facts.speed != 1:
        head.append(f"  {facts.speed:g}× speed")
    if facts.dry_run:
        head.append("  DRY RUN: nothing is sent", style="bold yellow")
    wanted = "" if facts.wanted_cycles is None else f" of {facts.wanted_cycles}"
    head.append(f"  cycles {board.happened}{wanted}")
    if board.decided_by:
        head.append(f"  by {board.decided_by}", style="yellow" if board.decided_by.endswith("fallback") else "")
    head.append(f"\n monitor {facts.monitor_url}  data {facts.data_dir}  Ctrl-C stops cleanly\n", style="dim")
    return head


@dataclass(frozen=True, slots=True)
class _Cycles:
    """The newest cycles: as many as the screen has lines for, with as many columns as it is wide."""

    rows: Sequence[CycleRow]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        fit = max(1, (options.size.height - _OTHER_LINES) // _LINES_A_CYCLE)
        rows = self.rows[-min(_SHOWN, fit) :]
        yield _wide_table(rows) if options.max_width >= _WIDE else _narrow_table(rows)


def _wide_table(rows: Sequence[CycleRow]) -> Table:
    table = Table(expand=True, pad_edge=False)
    for name in ("cycle", "mode", "target", "approved", "clamped"):
        table.add_column(name, overflow="fold")
    for name in ("orders", "filled", "refused", "fees", "equity"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            _minute(row),
            _mode(row),
            _weights(row.targets),
            "= target" if row.approved is not None and row.approved == row.targets else _weights(row.approved),
            ", ".join(row.clamps) or "",
            str(len(row.orders) or ""),
            str(row.fills or ""),
            str(row.rejected or ""),
            _usd(row.fees_usd) if row.fees_usd else "",
            _equity(row),
        )
    return table


def _narrow_table(rows: Sequence[CycleRow]) -> Table:
    table = Table(expand=True, pad_edge=False)
    table.add_column("cycle", no_wrap=True)
    table.add_column("mode", no_wrap=True)
    table.add_column("approved", overflow="fold", ratio=1)
    table.add_column("filled", justify="right", no_wrap=True)
    table.add_column("equity", justify="right", no_wrap=True)
    for row in rows:
        filled = f"{row.fills} of {len(row.orders)}" if row.orders else ""
        table.add_row(_minute(row), _mode(row), _weights(row.approved), filled, _equity(row))
    return table


def _minute(row: CycleRow) -> str:
    return row.cycle_id[9:13] + "Z"


def _mode(row: CycleRow) -> Text:
    return Text(str(row.mode or ""), style=_MODE_STYLES.get(row.mode, "") if row.mode else "")


def _equity(row: CycleRow) -> str:
    return "" if row.equity_usd is None else f"{row.equity_usd:,.2f}"


def _weights(weights: dict[str, float] | None) -> str:
    if weights is None:
        return "…"
    return " ".join(f"{symbol} {weight * 100:+.1f}%" for symbol, weight in weights.items() if weight) or "flat"


def _usd(amount: Decimal) -> str:
    return f"{amount:.4f}"
