"""I6: the limits hold at every intent, rebuilt from the record.

What is seen here lags what the commit saw: marks and equity are those of the newest snapshot before it. ``_SLACK``
allows for the prices' way in between; a limit that was ignored stands out by far more.
"""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal

from tradingbot.bus.names import Stream
from tradingbot.domain.limits import Exposure, ProposedOrder, intent_allowed
from tradingbot.domain.messages import ExecutionReport, OrderAction, OrderIntent, Side, StateSnapshot
from tradingbot.domain.params import RiskParams
from tradingbot.replay.evidence import Evidence
from tradingbot.replay.verdict import Verdict, verdict

_SLACK = 1.02
_REPORT, _SNAPSHOT, _INTENT = range(3)
"""Entries of one millisecond are taken in this order: what was known, then what was decided on it."""


def limits_hold_at_every_intent(evidence: Evidence) -> Verdict:
    """I6: position plus open and unknown orders on the worse side is within the limits, or the order reduces."""
    title = "limits hold at every intent"
    account = _Account(_slackened(evidence.params.risk))
    rank = {Stream.REPORTS: _REPORT, Stream.SNAPSHOT: _SNAPSHOT, Stream.ORDERS: _INTENT}
    timeline = [
        (record.at_ms, rank[stream], record.order, record) for stream in rank for record in evidence.valid(stream)
    ]
    against: list[str] = []
    checked = 0
    for _, kind, _, record in sorted(timeline, key=lambda each: each[:3]):
        if kind == _REPORT:
            account.report(record.data)
        elif kind == _SNAPSHOT:
            account.snapshot(record.data)
        elif record.data.action is not OrderAction.CANCEL and not record.data.dry_run:
            checked += 1
            if reason := account.intend(record.data):
                against.append(f"{record.data.client_order_id}: {reason}")
    note = "the parameters changed meanwhile; judged by the present ones" if _labels(evidence) > 1 else ""
    return verdict("I6", title, checked=checked, against=against, note=note)


def _labels(evidence: Evidence) -> int:
    return len({each.data.inputs.params for each in evidence.valid(Stream.PLAN)})


def _slackened(risk: RiskParams) -> RiskParams:
    return risk.model_copy(
        update={
            "caps": {symbol: cap * _SLACK for symbol, cap in risk.caps.items()},
            "default_cap": risk.default_cap * _SLACK,
            "max_gross": risk.max_gross * _SLACK,
            "max_net": risk.max_net * _SLACK,
        }
    )


class _Account:
    """The account as the record shows it at a moment."""

    def __init__(self, risk: RiskParams) -> None:
        self._risk = risk
        self._newest: StateSnapshot | None = None
        self._positions: dict[str, float] = {}
        self._open: dict[str, OrderIntent] = {}
        self._rest: dict[str, float] = {}
        self._filled: dict[str, Decimal] = defaultdict(Decimal)

    def snapshot(self, snapshot: StateSnapshot) -> None:
        if self._newest is None or not self._open:
            # While orders are open a snapshot may be older than a fill that a report has told already.
            self._positions = {symbol: float(each.qty) for symbol, each in snapshot.positions.items()}
        self._newest = snapshot

    def report(self, report: ExecutionReport) -> None:
        intent = self._open.get(report.cloid)
        if intent is None:
            return
        more = float(report.filled_qty - self._filled[report.cloid])
        self._filled[report.cloid] = report.filled_qty
        self._positions[intent.symbol] = self._positions.get(intent.symbol, 0.0) + intent.side.sign * more
        self._rest[report.cloid] = float(intent.qty - report.filled_qty)
        if report.status.terminal:
            del self._open[report.cloid], self._rest[report.cloid]

    def intend(self, intent: OrderIntent) -> str | None:
        """Why the intent should not have been made; None when it may."""
        reason = self._judge(intent)
        self._open[intent.cloid], self._rest[intent.cloid] = intent, float(intent.qty)
        return reason

    def _judge(self, intent: OrderIntent) -> str | None:
        if self._newest is None:
            return "no snapshot before it"
        order = ProposedOrder(
            symbol=intent.symbol, sign=intent.side.sign, qty=float(intent.qty), reduce_only=intent.reduce_only
        )
        equity_usd = float(self._newest.equity_usd)
        return intent_allowed(order, self._exposures(intent), equity_usd=equity_usd, risk=self._risk)

    def _exposures(self, intent: OrderIntent) -> dict[str, Exposure]:
        assert self._newest is not None
        marks = {symbol: float(px) for symbol, px in self._newest.mids.items()}
        if intent.reference_mid is not None:
            marks[intent.symbol] = float(intent.reference_mid)
        symbols = {intent.symbol, *self._positions, *(each.symbol for each in self._open.values())}
        exposures = {}
        for symbol in symbols:
            exposures[symbol] = Exposure(
                px=marks.get(symbol, 0.0),
                qty=self._positions.get(symbol, 0.0),
                buys=self._open_rest(symbol, Side.BUY, reduce_only=False),
                sells=self._open_rest(symbol, Side.SELL, reduce_only=False),
                reducing_buys=self._open_rest(symbol, Side.BUY, reduce_only=True),
                reducing_sells=self._open_rest(symbol, Side.SELL, reduce_only=True),
            )
        return exposures

    def _open_rest(self, symbol: str, side: Side, *, reduce_only: bool) -> float:
        wanted = (symbol, side, reduce_only)
        alike = (cloid for cloid, each in self._open.items() if (each.symbol, each.side, each.reduce_only) == wanted)
        return sum(self._rest[cloid] for cloid in alike)
