"""Everything the exchange knows, in memory, with a list of what changed since the last commit.

The engine changes it by ``put_…`` and ``add_…`` alone, so that whatever an acknowledged action did is in ``changes``
and reaches the disk before the acknowledgement leaves.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from tradingbot.paper.accounts import Account, Agent
from tradingbot.paper.decimals import text
from tradingbot.paper.market import Shock
from tradingbot.paper.nonces import Nonces
from tradingbot.paper.orders import Order

ORDER_WINDOW = 2_000
"""orderStatus and historicalOrders know an account's last orders, this many; open ones always."""
FILL_WINDOW = 10_000
FIRST_OID = 50_000_000_000
"""Beyond 2^32, as the venue's are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """One side of one trade."""

    id: int
    user: str
    coin: str
    px: Decimal
    sz: Decimal
    is_buy: bool
    at_ms: int
    start_szi: Decimal
    direction: str
    closed_pnl: Decimal
    oid: int
    crossed: bool
    fee: Decimal
    tid: int
    cloid: str | None
    liquidation: dict[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Funding:
    """One hourly payment; ``usdc`` negative: paid by the user."""

    id: int
    user: str
    coin: str
    usdc: Decimal
    szi: Decimal
    rate: Decimal
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FundingRate:
    """What every holder of a coin paid at one hour."""

    id: int
    coin: str
    rate: Decimal
    premium: Decimal
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """A deposit, withdrawal, transfer or liquidation."""

    id: int
    user: str
    at_ms: int
    delta: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One line of the control log."""

    id: int
    at_ms: int
    kind: str
    data: dict[str, Any]


Event = Order | Fill | Funding | LedgerEntry
"""What WebSocket subscribers of a user hear of."""


@dataclass(slots=True)
class Changes:
    """What the store has to write: each table's key and new value."""

    accounts: dict[str, Account] = field(default_factory=dict)
    agents: dict[str, Agent] = field(default_factory=dict)
    nonces: dict[str, Nonces] = field(default_factory=dict)
    orders: dict[int, Order] = field(default_factory=dict)
    dropped_orders: set[int] = field(default_factory=set)
    fills: list[Fill] = field(default_factory=list)
    fundings: list[Funding] = field(default_factory=list)
    rates: list[FundingRate] = field(default_factory=list)
    ledger: list[LedgerEntry] = field(default_factory=list)
    shocks: list[Shock] = field(default_factory=list)
    log: list[LogEntry] = field(default_factory=list)

    def __bool__(self) -> bool:
        return any(
            (
                self.accounts, self.agents, self.nonces, self.orders, self.fills, self.fundings, self.rates,
                self.ledger, self.shocks, self.log, self.dropped_orders,
            )
        )  # fmt: skip


class World:
    """All accounts, orders, fills and records."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.agents: dict[str, Agent] = {}
        self.nonces: dict[str, Nonces] = {}
        self.orders: dict[int, Order] = {}
        self.fills: dict[str, deque[Fill]] = defaultdict(lambda: deque(maxlen=FILL_WINDOW))
        self.fundings: dict[str, list[Funding]] = defaultdict(list)
        self.rates: dict[str, list[FundingRate]] = defaultdict(list)
        self.ledger: dict[str, list[LedgerEntry]] = defaultdict(list)
        self.delisted: dict[str, int] = {}
        """Coins that were taken out of trading by hand, each with the time."""
        self.changes = Changes()
        self.events: list[Event] = []
        self.next_id = 1
        self.next_oid = FIRST_OID
        self.now_ms = 0
        """How far the engine has advanced."""
        self._open: dict[str, dict[int, Order]] = defaultdict(dict)
        self._by_cloid: dict[tuple[str, str], int] = {}
        self._by_user: dict[str, deque[int]] = defaultdict(deque)

    def new_id(self) -> int:
        self.next_id += 1
        return self.next_id - 1

    def new_oid(self) -> int:
        self.next_oid += 1 + self.next_oid % 7
        return self.next_oid

    def touch(self, account: Account) -> None:
        """An account has changed."""
        self.accounts[account.address] = account
        self.changes.accounts[account.address] = account

    def put_agent(self, agent: Agent) -> None:
        self.agents[agent.address] = agent
        self.changes.agents[agent.address] = agent

    def use_nonce(self, signer: str, nonce: int) -> None:
        nonces = self.nonces.setdefault(signer, Nonces())
        nonces.use(nonce)
        self.changes.nonces[signer] = nonces

    def put_order(self, order: Order, *, note: str | None = None) -> Order:
        """Store a new version of an order, tell subscribers, and write the log."""
        self.index(order)
        self.changes.orders[order.oid] = order
        self.events.append(order)
        self.log("order", order.status_ms, order_entry(order, note))
        self._forget_old(order.user)
        return order

    def index(self, order: Order) -> None:
        """Make an order findable (also when it is loaded)."""
        if order.oid not in self.orders:
            self._by_user[order.user].append(order.oid)
            if order.cloid is not None:
                self._by_cloid[order.user, order.cloid] = order.oid
        self.orders[order.oid] = order
        if order.is_open:
            self._open[order.coin][order.oid] = order
        else:
            self._open[order.coin].pop(order.oid, None)

    def by_cloid(self, user: str, cloid: str) -> Order | None:
        """The newest order of a user under a client id."""
        oid = self._by_cloid.get((user, cloid.lower()))
        return None if oid is None else self.orders.get(oid)

    def open_orders(self, *, user: str | None = None, coin: str | None = None) -> Iterator[Order]:
        """Open orders, oldest first within a coin; of all users or one, all coins or one."""
        coins = (coin,) if coin is not None else tuple(self._open)
        for each in coins:
            for order in tuple(self._open[each].values()):
                if user is None or order.user == user:
                    yield order

    def orders_of(self, user: str) -> Iterator[Order]:
        """An account's remembered orders, newest first."""
        return (self.orders[oid] for oid in reversed(self._by_user[user]))

    def add_fill(self, fill: Fill) -> None:
        self.fills[fill.user].append(fill)
        self.changes.fills.append(fill)
        self.events.append(fill)
        self.log("fill", fill.at_ms, fill_entry(fill))

    def add_funding(self, funding: Funding) -> None:
        self.fundings[funding.user].append(funding)
        self.changes.fundings.append(funding)
        self.events.append(funding)

    def add_rate(self, rate: FundingRate) -> None:
        self.rates[rate.coin].append(rate)
        self.changes.rates.append(rate)

    def add_ledger(self, user: str, at_ms: int, delta: dict[str, Any]) -> None:
        entry = LedgerEntry(id=self.new_id(), user=user, at_ms=at_ms, delta=delta)
        self.ledger[user].append(entry)
        self.changes.ledger.append(entry)
        self.events.append(entry)
        self.log("ledger", at_ms, {"user": user, **delta})

    def log(self, kind: str, at_ms: int, data: dict[str, Any]) -> None:
        self.changes.log.append(LogEntry(id=self.new_id(), at_ms=at_ms, kind=kind, data=data))

    def drain(self) -> tuple[Changes, list[Event]]:
        """What changed and what happened since the last call."""
        changes, events = self.changes, self.events
        self.changes, self.events = Changes(), []
        return changes, events

    def _forget_old(self, user: str) -> None:
        known = self._by_user[user]
        for _ in range(len(known) - ORDER_WINDOW):
            oldest = self.orders[known.popleft()]
            if oldest.is_open:
                known.append(oldest.oid)
                continue
            del self.orders[oldest.oid]
            if oldest.cloid is not None and self._by_cloid.get((user, oldest.cloid)) == oldest.oid:
                del self._by_cloid[user, oldest.cloid]
            self.changes.dropped_orders.add(oldest.oid)


def order_entry(order: Order, note: str | None = None) -> dict[str, Any]:
    """An order event as the control log shows it."""
    return {
        "user": order.user,
        "oid": order.oid,
        "cloid": order.cloid,
        "coin": order.coin,
        "side": order.side,
        "limitPx": text(order.limit_px),
        "sz": text(order.sz),
        "origSz": text(order.orig_sz),
        "tif": order.tif,
        "reduceOnly": order.reduce_only,
        "status": order.status.value,
        "note": note,
    }


def fill_entry(fill: Fill) -> dict[str, Any]:
    """A fill as the control log shows it."""
    return {"user": fill.user, **fill_row(fill)}


def fill_row(fill: Fill) -> dict[str, Any]:
    """The row of ``userFills``."""
    row: dict[str, Any] = {
        "coin": fill.coin,
        "px": text(fill.px),
        "sz": text(fill.sz),
        "side": "B" if fill.is_buy else "A",
        "time": fill.at_ms,
        "startPosition": text(fill.start_szi),
        "dir": fill.direction,
        "closedPnl": text(fill.closed_pnl),
        "hash": transaction_hash(fill.tid),
        "oid": fill.oid,
        "crossed": fill.crossed,
        "fee": text(fill.fee),
        "tid": fill.tid,
        "feeToken": "USDC",
        "twapId": None,
    }
    if fill.cloid is not None:
        row["cloid"] = fill.cloid
    if fill.liquidation is not None:
        row["liquidation"] = fill.liquidation
    return row


def transaction_hash(number: int) -> str:
    """A stable 32-byte hash in the venue's form."""
    return "0x" + hashlib.sha256(str(number).encode()).hexdigest()


def trade_id(buyer_oid: int, seller_oid: int, number: int) -> int:
    """50 bits that both sides of a trade share."""
    digest = hashlib.sha256(f"{buyer_oid}:{seller_oid}:{number}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 14
