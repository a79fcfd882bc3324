"""The figures of a run: cycles, orders, fills, fees, turnover, rejections, latencies, and each invariant's verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Self

from tradingbot.bus.names import Stream
from tradingbot.domain.messages import ExecutionReport, OrderAction, ReportStatus
from tradingbot.domain.model import Model
from tradingbot.domain.modes import Mode
from tradingbot.replay.evidence import Evidence, Record
from tradingbot.replay.verdict import Verdict
from tradingbot.replay.verify import all_hold


class Latency(Model):
    """Real milliseconds between two entries, by the bus's own clock (1 ms resolution)."""

    stage: str
    count: int
    p50_ms: float
    p99_ms: float
    max_ms: float


class Report(Model):
    """A run, in figures."""

    holds: bool
    """All wanted cycles happened and no invariant is broken."""
    prices: str
    network: str
    dry_run: bool
    wanted_cycles: int | None
    cycles: int
    """Cycles of this run that happened: features, target, approval and plan bear their id."""
    cycles_on_record: int
    halted_cycles: int
    orders: int
    cancels: int
    filled_orders: int
    refused_orders: int
    fees_usd: Decimal
    traded_usd: Decimal
    turnover: float
    """Σ of the approved turnover, in equity."""
    rejections: dict[str, int]
    """The gate's changes, by reason."""
    refusals: dict[str, int]
    """The venue's refusals, by error."""
    slippage_bps_mean: float | None
    equity_first_usd: Decimal | None
    equity_last_usd: Decimal | None
    dead_letters: int
    restarts: dict[str, int]
    real_s: float
    first_fill_s: float | None = None
    """Real seconds from the start of this run to its first fill."""
    latencies: tuple[Latency, ...]
    verdicts: tuple[Verdict, ...]

    @classmethod
    def of(
        cls,
        evidence: Evidence,
        *,
        verdicts: tuple[Verdict, ...],
        wanted_cycles: int | None,
        happened: int,
        restarts: dict[str, int],
        real_s: float,
        first_fill_s: float | None = None,
    ) -> Self:
        """The figures of everything on record; ``happened`` and ``real_s`` are of this run."""
        ends = list(last_reports(evidence))
        approvals = evidence.valid(Stream.APPROVED)
        snapshots = evidence.valid(Stream.SNAPSHOT)
        filled = [each for each in ends if each.filled_qty > 0 and each.avg_px is not None]
        slippages = [each.slippage_bps for each in filled if each.slippage_bps is not None]
        actions = Counter(each.data.action for each in evidence.valid(Stream.ORDERS))
        return cls(
            holds=all_hold(verdicts) and (wanted_cycles is None or happened >= wanted_cycles),
            prices=next((each.data.prices for each in reversed(evidence.valid(Stream.FEATURES))), "unknown"),
            network=evidence.static.hl_network.value,
            dry_run=evidence.static.dry_run,
            wanted_cycles=wanted_cycles,
            cycles=happened,
            cycles_on_record=len({each.cycle_id for each in approvals}),
            halted_cycles=sum(1 for each in approvals if each.data.mode is Mode.HALT),
            orders=sum(count for action, count in actions.items() if action is not OrderAction.CANCEL),
            cancels=actions[OrderAction.CANCEL],
            filled_orders=len(filled),
            refused_orders=sum(1 for each in ends if each.status is ReportStatus.REJECTED),
            fees_usd=sum((each.fee for each in ends), Decimal(0)),
            traded_usd=sum((each.filled_qty * (each.avg_px or Decimal(0)) for each in filled), Decimal(0)),
            turnover=sum(each.data.risk_summary.turnover for each in approvals),
            rejections=dict(Counter(each.reason for record in approvals for each in record.data.rejections)),
            refusals=dict(Counter(each.error or "" for each in ends if each.status is ReportStatus.REJECTED)),
            slippage_bps_mean=sum(slippages) / len(slippages) if slippages else None,
            equity_first_usd=snapshots[0].data.equity_usd if snapshots else None,
            equity_last_usd=snapshots[-1].data.equity_usd if snapshots else None,
            dead_letters=sum(len(found) for found in evidence.dead_letters.values()),
            restarts=restarts,
            real_s=round(real_s, 1),
            first_fill_s=first_fill_s,
            latencies=tuple(latencies(evidence)),
            verdicts=verdicts,
        )

    def lines(self) -> Iterator[str]:
        """The report for a person."""
        wanted = "" if self.wanted_cycles is None else f" of {self.wanted_cycles}"
        yield f"cycles {self.cycles}{wanted}  prices {self.prices.upper()}  network {self.network}  {self.real_s:g} s"
        yield (
            f"orders {self.orders}  filled {self.filled_orders}  refused {self.refused_orders}  "
            f"cancels {self.cancels}  traded {self.traded_usd:,.2f} USD  fees {self.fees_usd:,.4f} USD  "
            f"turnover {self.turnover:.3f}  dead letters {self.dead_letters}"
        )
        for each in self.latencies:
            yield (
                f"  {each.stage:<34} p50 {each.p50_ms:>7.1f} ms  p99 {each.p99_ms:>7.1f} ms  "
                f"max {each.max_ms:>7.1f} ms  n {each.count}"
            )
        yield from verdict_lines(self.verdicts)


def verdict_lines(verdicts: Iterable[Verdict]) -> Iterator[str]:
    """A line for each invariant, and what speaks against it."""
    for each in verdicts:
        note = f"  ({each.note})" if each.note else ""
        yield f"{each.name:<4}{each.word:<11}{each.title}  [{each.checked} checked]{note}"
        yield from (f"      {text}" for text in each.against)
        if each.breaches > len(each.against):
            yield f"      and {each.breaches - len(each.against)} more"


def last_reports(evidence: Evidence) -> Iterator[ExecutionReport]:
    """The newest report of each order."""
    newest = {(each.data.client_order_id, each.data.attempt): each.data for each in evidence.valid(Stream.REPORTS)}
    yield from newest.values()


def latencies(evidence: Evidence) -> Iterator[Latency]:
    """How long each stage took, from entry to entry of a cycle."""
    stages = (Stream.FEATURES, Stream.TARGET, Stream.APPROVED, Stream.PLAN, Stream.ORDERS)
    first = {stream: _first(evidence.valid(stream)) for stream in (*stages, Stream.REPORTS)}
    pairs = [*pairwise(stages), (Stream.FEATURES, Stream.REPORTS)]
    for before, after in pairs:
        spans = [
            float(first[after][cycle].at_ms - record.at_ms)
            for cycle, record in first[before].items()
            if cycle in first[after]
        ]
        if spans:
            yield latency_of(f"{before} → {after}", spans)
    answers = _answer_times(evidence)
    if answers:
        yield latency_of("intent → first report", answers)


def _first(records: Iterable[Record]) -> dict[str, Record]:
    found: dict[str, Record] = {}
    for record in records:
        found.setdefault(record.cycle_id, record)
    return found


def _answer_times(evidence: Evidence) -> list[float]:
    asked = {
        (each.data.client_order_id, each.data.attempt): each.at_ms
        for each in evidence.valid(Stream.ORDERS)
        if each.data.action is not OrderAction.CANCEL
    }
    answered: dict[tuple[str, int], int] = {}
    for each in evidence.valid(Stream.REPORTS):
        answered.setdefault((each.data.client_order_id, each.data.attempt), each.at_ms)
    return [float(at_ms - asked[key]) for key, at_ms in answered.items() if key in asked]


def latency_of(stage: str, spans_ms: list[float]) -> Latency:
    """Nearest-rank percentiles."""
    ordered = sorted(spans_ms)
    return Latency(
        stage=stage,
        count=len(ordered),
        p50_ms=percentile(ordered, 0.50),
        p99_ms=percentile(ordered, 0.99),
        max_ms=ordered[-1],
    )


def percentile(ordered: list[float], fraction: float) -> float:
    """The nearest-rank percentile of sorted values: the smallest that at least this fraction does not exceed."""
    rank = -(-len(ordered) * fraction // 1)
    return ordered[max(0, int(rank) - 1)]


def write_report(report: Report, path: Path) -> None:
    """As JSON; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(report.model_dump_json(indent=2) + "\n")
