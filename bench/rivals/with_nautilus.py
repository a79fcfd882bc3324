"""nautilus_trader: ``BacktestEngine`` on bars, a strategy that sends market orders once all coins' bars are there.

As fast as it goes: logging bypassed, no analysis after the run, closed orders purged. Only ``engine.run()`` is timed.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import nautilus_trader
import numpy as np
from job import Job, Outcome, arguments, load, measure
from nautilus_trader.backtest.config import BacktestEngineConfig
from nautilus_trader.backtest.engine import BacktestEngine
from nautilus_trader.config import LoggingConfig, RiskEngineConfig
from nautilus_trader.model.currencies import BTC, USDT
from nautilus_trader.model.data import Bar, BarType
from nautilus_trader.model.enums import AccountType, OmsType, OrderSide
from nautilus_trader.model.identifiers import InstrumentId, Symbol, Venue
from nautilus_trader.model.instruments import CryptoPerpetual
from nautilus_trader.model.objects import Money, Price, Quantity
from nautilus_trader.trading.strategy import Strategy

VENUE = Venue("SIM")
DECIMALS = 6
STEP = 10.0**-DECIMALS
MINUTE_NS = 60_000_000_000
PURGE_EVERY = 100


def perpetual(symbol: str, fee: float) -> CryptoPerpetual:
    """A contract that is traded in millionths, for the job's fee."""
    return CryptoPerpetual(
        instrument_id=InstrumentId(Symbol(symbol), VENUE),
        raw_symbol=Symbol(symbol),
        base_currency=BTC,  # only the quote currency counts
        quote_currency=USDT,
        settlement_currency=USDT,
        is_inverse=False,
        price_precision=DECIMALS,
        price_increment=Price(STEP, DECIMALS),
        size_precision=DECIMALS,
        size_increment=Quantity(STEP, DECIMALS),
        margin_init=Decimal("0.01"),
        margin_maint=Decimal("0.005"),
        maker_fee=Decimal(str(fee)),
        taker_fee=Decimal(str(fee)),
        ts_event=0,
        ts_init=0,
    )


class Rebalance(Strategy):
    """Hold the target weights."""

    def __init__(self, instruments: list[CryptoPerpetual], bar_types: list[BarType], job: Job) -> None:
        super().__init__()
        self.instruments, self.bar_types = instruments, bar_types
        self.target, self.job = job.target.tolist(), job
        self.last = bar_types[-1]
        self.closes = dict.fromkeys(bar_types, 0.0)
        self.bars, self.orders = 0, 0

    def on_start(self) -> None:
        """Ask for every coin's bars."""
        for each in self.bar_types:
            self.subscribe_bars(each)

    def equity(self) -> float:
        """Balance and what is open, at the last closes."""
        total = self.portfolio.account(VENUE).balance_total(USDT).as_double()
        for instrument in self.instruments:
            if (open_usd := self.portfolio.unrealized_pnl(instrument.id)) is not None:
                total += open_usd.as_double()
        return total

    def on_bar(self, bar: Bar) -> None:
        """Rebalance at the last coin's bar of a minute."""
        self.closes[bar.bar_type] = bar.close.as_double()
        if bar.bar_type != self.last:
            return
        equity, targets = self.equity(), self.target[self.bars]
        self.bars += 1
        for instrument, bar_type, weight in zip(self.instruments, self.bar_types, targets, strict=True):
            held = float(self.portfolio.net_position(instrument.id))
            change = round(weight * equity / self.closes[bar_type] - held, DECIMALS)
            if abs(change) >= STEP:
                side = OrderSide.BUY if change > 0 else OrderSide.SELL
                self.submit_order(self.order_factory.market(instrument.id, side, Quantity(abs(change), DECIMALS)))
                self.orders += 1
        if self.bars % PURGE_EVERY == 0:
            self.cache.purge_closed_orders(ts_now=self.clock.timestamp_ns(), buffer_secs=0)


def bars_of(job: Job, coin: int, bar_type: BarType) -> list[Bar]:
    """A coin's bars, stamped with their close."""
    stamps = (job.open_ms.astype(np.uint64) * 1_000_000) + MINUTE_NS
    columns = [np.ascontiguousarray(each[:, coin]) for each in (job.open, job.high, job.low, job.close, job.volume)]
    return Bar.from_raw_arrays_to_list(bar_type, DECIMALS, DECIMALS, *columns, stamps, stamps)


def main() -> None:
    """Measure."""
    given = arguments()
    job = load(given)

    def prepare() -> Callable[[], tuple[BacktestEngine, Rebalance]]:
        config = BacktestEngineConfig(
            logging=LoggingConfig(bypass_logging=True), risk_engine=RiskEngineConfig(bypass=True), run_analysis=False
        )
        engine = BacktestEngine(config=config)
        engine.add_venue(
            venue=VENUE,
            oms_type=OmsType.NETTING,
            account_type=AccountType.MARGIN,
            starting_balances=[Money(job.equity_usd, USDT)],
            base_currency=USDT,
            default_leverage=Decimal(10),
        )
        instruments = [perpetual(symbol, job.fee) for symbol in job.symbols]
        bar_types = [BarType.from_str(f"{each.id}-1-MINUTE-LAST-EXTERNAL") for each in instruments]
        for coin, (instrument, bar_type) in enumerate(zip(instruments, bar_types, strict=True)):
            engine.add_instrument(instrument)
            engine.add_data(bars_of(job, coin, bar_type))
        strategy = Rebalance(instruments, bar_types, job)
        engine.add_strategy(strategy)

        def run() -> tuple[BacktestEngine, Rebalance]:
            engine.run()
            return engine, strategy

        return run

    def judge(result: tuple[BacktestEngine, Rebalance]) -> Outcome:
        return Outcome(equity_usd=result[1].equity(), orders=result[1].orders)

    versions = {"nautilus_trader": nautilus_trader.__version__, "numpy": np.__version__}
    measure(prepare, judge, repeats=given.repeats, versions=versions)


if __name__ == "__main__":
    main()
