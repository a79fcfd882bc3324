"""The market as the exchange sees it: the price source plus shocks, in legal ticks and lots, less what was taken.

Mark and oracle follow the mid in steps of ORACLE_MS, as the venue refreshes both about every three seconds. They are
functions of time alone, so a restart finds the same ones. Candles hold no oracle of their own: the premium that
funding sees is what the mid moves within a step, which is small.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from tradingbot.paper.assets import Asset, Universe
from tradingbot.paper.decimals import ZERO, to_step
from tradingbot.paper.prices import BookModel, Candle, Depth, PriceSource, candles_until

ORACLE_MS = 3_000
REFILL_MS = 5_000
"""What our orders took out of the modelled book comes back after this long."""


@dataclass(frozen=True, slots=True)
class Level:
    """A price and the size that stands there."""

    px: Decimal
    sz: Decimal


@dataclass(frozen=True, slots=True)
class Book:
    """Modelled levels, best first."""

    bids: tuple[Level, ...] = ()
    asks: tuple[Level, ...] = ()

    def side(self, *, asks: bool) -> tuple[Level, ...]:
        return self.asks if asks else self.bids


@dataclass(frozen=True, slots=True, kw_only=True)
class Shock:
    """From ``at_ms`` on a coin's prices are multiplied by ``factor``."""

    at_ms: int
    coin: str
    factor: float


class Market:
    """Prices of all coins at any moment up to now."""

    def __init__(
        self,
        prices: PriceSource,
        universe: Universe,
        shocks: Sequence[Shock] = (),
        *,
        delisted: Mapping[str, int] | None = None,
    ) -> None:
        self.prices = prices
        self.universe = universe
        self.shocks = list(shocks)
        self.delisted = delisted if delisted is not None else {}
        """Coins that were taken out of trading, each with the time: no price comes after it."""
        self._model = BookModel(prices)
        self._books: dict[str, tuple[int, Book]] = {}
        self._marks: dict[str, tuple[int, Decimal]] = {}
        self._taken: dict[tuple[str, bool], list[tuple[int, Decimal]]] = {}

    def factor(self, coin: str, at_ms: int) -> float:
        """The product of the shocks so far."""
        product = 1.0
        for shock in self.shocks:
            if shock.coin == coin and shock.at_ms <= at_ms:
                product *= shock.factor
        return product

    def shock(self, shock: Shock) -> None:
        """Move a coin's price from now on."""
        self.shocks.append(shock)
        self._books.pop(shock.coin, None)
        self._marks.pop(shock.coin, None)

    def raw_mid(self, coin: str, at_ms: int) -> float | None:
        """The source's mid with shocks, unrounded; None once the coin is delisted."""
        if self._is_gone(coin, at_ms):
            return None
        mid = self.prices.mid(coin, at_ms)
        return None if mid is None else mid * self.factor(coin, at_ms)

    def mid(self, coin: str, at_ms: int) -> Decimal | None:
        """The mid, to half a tick as a mid between two legal prices is; None where the source has none."""
        raw = self.raw_mid(coin, at_ms)
        if raw is None:
            return None
        px = Decimal(repr(raw))
        half_tick = self.universe.by_name[coin].tick(px) / 2
        return (px / half_tick).to_integral_value() * half_tick

    def oracle(self, coin: str, at_ms: int) -> Decimal | None:
        """The mid at the start of the step (from a shock on, at once); None where none is known."""
        slot_ms = at_ms - at_ms % ORACLE_MS
        shocked_ms = max((shock.at_ms for shock in self.shocks if shock.coin == coin), default=0)
        mid = self.mid(coin, shocked_ms if slot_ms < shocked_ms <= at_ms else slot_ms)
        return mid if mid is not None else self.mid(coin, at_ms)

    def mark(self, coin: str, at_ms: int) -> Decimal | None:
        """The mark price now: the oracle's, else the last one known; of a delisted coin its last."""
        if self._is_gone(coin, at_ms):
            at_ms = self.delisted[coin]
        slot_ms = at_ms - at_ms % ORACLE_MS
        known = self._marks.get(coin)
        if known is not None and known[0] == slot_ms:
            return known[1]
        oracle = self.oracle(coin, at_ms)
        if oracle is None:
            return known[1] if known else None
        self._marks[coin] = (slot_ms, oracle)
        return oracle

    def book(self, coin: str, at_ms: int) -> Book:
        """The modelled book less what was taken lately; empty where there is no price."""
        whole = self.whole_book(coin, at_ms)
        return Book(
            bids=_without(whole.bids, self._taken_lately(coin, asks=False, at_ms=at_ms)),
            asks=_without(whole.asks, self._taken_lately(coin, asks=True, at_ms=at_ms)),
        )

    def take(self, coin: str, *, asks: bool, sz: Decimal, at_ms: int) -> None:
        """Remember that ``sz`` was taken from one side."""
        self._taken.setdefault((coin, asks), []).append((at_ms, sz))

    def candles(self, coin: str, *, start_ms: int, end_ms: int, now_ms: int) -> list[Candle]:
        """Minutes known now; the last one is still forming."""
        found = candles_until(self.prices, coin, start_ms=start_ms, end_ms=end_ms, now_ms=now_ms)
        return [self._shocked(coin, candle) for candle in found] if self.shocks else found

    def _shocked(self, coin: str, candle: Candle) -> Candle:
        factor = self.factor(coin, candle.t_ms + 59_999)
        return replace(
            candle,
            open=candle.open * self.factor(coin, candle.t_ms),
            high=candle.high * max(factor, self.factor(coin, candle.t_ms)),
            low=candle.low * min(factor, self.factor(coin, candle.t_ms)),
            close=candle.close * factor,
        )

    def whole_book(self, coin: str, at_ms: int) -> Book:
        """The modelled book before anything was taken."""
        if self._is_gone(coin, at_ms):
            return Book()
        known = self._books.get(coin)
        if known is not None and known[0] == at_ms:
            return known[1]
        asset = self.universe.by_name[coin]
        depth = self._model.book(coin, at_ms, sz_decimals=asset.sz_decimals)
        book = Book() if depth is None else _legal(asset, depth, Decimal(repr(self.factor(coin, at_ms))))
        self._books[coin] = (at_ms, book)
        return book

    def _is_gone(self, coin: str, at_ms: int) -> bool:
        return coin in self.delisted and at_ms > self.delisted[coin]

    def _taken_lately(self, coin: str, *, asks: bool, at_ms: int) -> Decimal:
        takes = self._taken.get((coin, asks))
        if not takes:
            return ZERO
        takes[:] = [(then_ms, sz) for then_ms, sz in takes if then_ms > at_ms - REFILL_MS]
        return sum((sz for _, sz in takes), ZERO)


def _legal(asset: Asset, depth: Depth, factor: Decimal) -> Book:
    return Book(bids=_side(asset, depth.bids, factor, asks=False), asks=_side(asset, depth.asks, factor, asks=True))


def _side(asset: Asset, levels: Sequence[tuple[float, float]], factor: Decimal, *, asks: bool) -> tuple[Level, ...]:
    sizes: dict[Decimal, Decimal] = {}
    for px, sz in levels:
        legal_px = asset.round_price(Decimal(repr(px)) * factor, up=asks)
        legal_sz = to_step(Decimal(repr(sz)), asset.lot, up=False)
        if legal_px > 0 and legal_sz > 0:
            sizes[legal_px] = sizes.get(legal_px, ZERO) + legal_sz
    return tuple(Level(px, sz) for px, sz in sizes.items())


def _without(levels: tuple[Level, ...], taken: Decimal) -> tuple[Level, ...]:
    if not taken:
        return levels
    left = []
    for level in levels:
        eaten = min(taken, level.sz)
        taken -= eaten
        if level.sz > eaten:
            left.append(Level(level.px, level.sz - eaten))
    return tuple(left)
