"""The engine with its clock, its file and its troubles: what the HTTP and WebSocket edges talk to.

Every call first moves the market to now and ends with a commit, so that what a client is told is on disk and what
subscribers hear is what was committed.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from tradingbot.domain.errors import Permanent
from tradingbot.paper.accounts import Account
from tradingbot.paper.actions import Request
from tradingbot.paper.assets import Universe
from tradingbot.paper.budgets import IpBudget
from tradingbot.paper.engine import Engine
from tradingbot.paper.faults import Fault, Faults, Kind
from tradingbot.paper.info import Info, Query
from tradingbot.paper.market import Market, Shock
from tradingbot.paper.options import PaperOptions
from tradingbot.paper.prices import PriceSource
from tradingbot.paper.signatures import recover_signer
from tradingbot.paper.store import Store
from tradingbot.paper.world import Event
from tradingbot.runtime.clock import Clock

LEAST_TURN_REAL_S = 0.05
"""A fast clock's ticks are taken in bunches; every request moves the market to now anyway."""

Listener = Callable[[Sequence[Event]], None]


class OtherPrices(Permanent):
    """The data folder belongs to another price source."""


class StoreBroken(Permanent):
    """Memory is ahead of the disk: the exchange must stop, and starts again from what was written."""


class Venue:
    """One running paper exchange."""

    def __init__(self, *, options: PaperOptions, clock: Clock, prices: PriceSource) -> None:
        self.options = options
        self.clock = clock
        self.prices = prices
        self.store = Store(options.data_dir)
        self._claim_folder()
        world, shocks = self.store.load()
        universe = Universe.of(prices.symbols)
        for coin in world.delisted:
            universe.delist(coin)
        self.market = Market(prices, universe, shocks, delisted=world.delisted)
        self.engine = Engine(world=world, market=self.market, universe=universe, options=options)
        self.info = Info(self.engine)
        self.faults = Faults(options.faults, seed=options.seed)
        self.ip_budget = IpBudget(options.ip_weight_per_min, now_ms=clock.now_ms())
        self.listeners: list[Listener] = []
        self._unwritten: sqlite3.Error | None = None
        self.engine.open_accounts(clock.now_ms())
        self.turn()

    @property
    def now_ms(self) -> int:
        """How far the market has moved."""
        return self.engine.world.now_ms

    def turn(self) -> int:
        """Move the market to now, commit, and return the time."""
        self.engine.advance(self.clock.now_ms())
        self.commit()
        return self.now_ms

    def commit(self) -> None:
        """Write what changed, then tell the listeners."""
        if self._unwritten is not None:
            raise StoreBroken(f"the exchange's file could not be written: {self._unwritten}")
        changes, events = self.engine.world.drain()
        if changes:
            try:
                self.store.commit(changes, self.engine.world)
            except sqlite3.Error as error:
                self._unwritten = error
                raise
        if events:
            for listener in self.listeners:
                listener(events)

    def exchange(self, request: Request) -> dict[str, Any]:
        """Carry out a request to ``/exchange``; when this returns it is on disk."""
        now_ms = self.turn()
        answer = self.engine.submit(request, signer=recover_signer(request), now_ms=now_ms)
        self.commit()
        return answer

    def ask(self, query: Query) -> Any:
        """Answer a request to ``/info``."""
        self.turn()
        return self.info.answer(query)

    async def run(self, stop: asyncio.Event) -> None:
        """Keep the market moving until ``stop``."""
        while not stop.is_set():
            self.turn()
            await self.clock.sleep(max(self.options.tick_ms / 1000, LEAST_TURN_REAL_S * self.clock.speed))

    def close(self) -> None:
        """Write what is left and close the file."""
        try:
            if self._unwritten is None:
                self.commit()
        finally:
            self.store.close()

    def add_fault(self, fault: Fault) -> None:
        """Put a rule into force; a post-only period starts at once."""
        if fault.kind is Kind.POST_ONLY:
            self.engine.desk.post_only_until_ms = self.clock.now_ms() + fault.delay_ms
        else:
            self.faults.add(fault)

    def clear_faults(self) -> None:
        self.faults.clear()
        self.engine.desk.post_only_until_ms = 0

    def deposit(self, user: str, amount_usd: Decimal) -> None:
        """Add to an account's cash (negative: take), with a ledger entry."""
        self.engine.deposit(user.lower(), amount_usd, self.turn())
        self.commit()

    def open_by_hand(self, user: str, coin: str, signed_sz: Decimal) -> None:
        """Give an account a position at the mark, as if a person had traded elsewhere.

        Raises:
            KeyError: an account or coin that does not exist, or a coin without a price.
        """
        now_ms = self.turn()
        account = self.engine.world.accounts[user.lower()]
        self.engine.open_by_hand(account, self.engine.universe.by_name[coin], signed_sz, now_ms)
        self.commit()

    def shock(self, coin: str, factor: float) -> None:
        """Multiply a coin's price from now on.

        Raises:
            KeyError: a coin that is not traded.
        """
        now_ms = self.turn()
        shock = Shock(at_ms=now_ms, coin=self.engine.universe.by_name[coin].name, factor=factor)
        self.market.shock(shock)
        self.engine.world.changes.shocks.append(shock)
        self.engine.world.log("shock", now_ms, {"coin": coin, "factor": factor})
        self.engine.settle(now_ms)
        self.commit()

    def delist(self, coin: str) -> None:
        """Take a coin out of trading: its open orders are cancelled, positions stay at its last mark.

        Raises:
            KeyError: a coin that is not traded.
        """
        now_ms = self.turn()
        self.engine.delist(coin, now_ms)
        self.commit()

    def status(self) -> dict[str, Any]:
        """What kind of exchange this is, and where it stands."""
        self.turn()
        world = self.engine.world
        return {
            "prices": self.prices.label,
            "synthetic": self.prices.label == "synthetic",
            "time": world.now_ms,
            "speed": self.clock.speed,
            "symbols": [asset.name for asset in self.engine.universe.traded],
            "accounts": [_account_line(account) for account in world.accounts.values()],
            "agents": [{"address": agent.address, "master": agent.master} for agent in world.agents.values()],
            "openOrders": sum(1 for _ in world.open_orders()),
            "ipWeightLeft": self.ip_budget.left(world.now_ms),
            "faults": [json.loads(fault.model_dump_json()) for fault in self.faults.rules],
            "postOnlyUntil": self.engine.desk.post_only_until_ms,
        }

    def _claim_folder(self) -> None:
        spec = self.options.prices
        place = Path(spec).resolve() if self.prices.label == "recorded" and Path(spec).exists() else spec
        name = f"{self.prices.label} {place}"
        known = self.store.fact("prices")
        if known is not None and known != name:
            self.store.close()
            raise OtherPrices(f"{self.options.data_dir} holds an exchange on prices {known!r}, not {name!r}")
        self.store.put_fact("prices", name)


def _account_line(account: Account) -> dict[str, Any]:
    return {"address": account.address, "rawUsd": str(account.raw_usd), "positions": sorted(account.positions)}
