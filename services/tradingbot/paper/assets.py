"""The perpetuals of the paper exchange: mainnet's ids, precision, leverage and margin tiers.

An asset's id is its position in the universe, so delisted fillers stand where mainnet has other coins. A client
that hard-codes ids instead of reading ``meta`` is right here for the same reason as on mainnet, and no other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from tradingbot.paper.decimals import text, to_step

PRICE_DECIMALS = 6
"""A perp's price has at most 6 − szDecimals decimals."""

PRICE_FIGURES = 5
"""And at most 5 significant figures, unless it is an integer."""


@dataclass(frozen=True, slots=True)
class Tier:
    """From this notional on, this is the greatest leverage."""

    lower_bound_usd: Decimal
    max_leverage: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """One entry of the universe."""

    index: int
    name: str
    sz_decimals: int
    max_leverage: int
    margin_table_id: int
    tiers: tuple[Tier, ...]
    delisted: bool = False

    @property
    def lot(self) -> Decimal:
        """The smallest size."""
        return Decimal(1).scaleb(-self.sz_decimals)

    @property
    def price_decimals(self) -> int:
        """The most decimals that a price may have."""
        return PRICE_DECIMALS - self.sz_decimals

    def tick(self, px: Decimal) -> Decimal:
        """The distance between legal prices near ``px``."""
        by_figures = px.adjusted() - PRICE_FIGURES + 1
        return Decimal(1).scaleb(min(0, max(by_figures, -self.price_decimals)))

    def is_legal_price(self, px: Decimal) -> bool:
        """True for a positive price that obeys figures and decimals; integers always do."""
        return px > 0 and px == to_step(px, self.tick(px), up=False)

    def is_legal_size(self, sz: Decimal) -> bool:
        """True when ``sz`` is a whole number of lots."""
        return sz == to_step(sz, self.lot, up=False)

    def round_price(self, px: Decimal, *, up: bool) -> Decimal:
        """The next legal price above (``up``) or below."""
        return to_step(px, self.tick(px), up=up)

    def nearest_price(self, px: float) -> Decimal:
        """The legal price next to a float."""
        exact = Decimal(repr(px))
        return exact.quantize(self.tick(exact))

    def nearest_size(self, sz: float) -> Decimal:
        """The whole number of lots next to a float."""
        return Decimal(repr(sz)).quantize(self.lot)


# name: (index, szDecimals, maxLeverage, marginTableId, notional from which a second tier holds, its leverage)
_LISTED = {
    "BTC": (0, 5, 40, 56, 150_000_000, 20),
    "ETH": (1, 4, 25, 55, 100_000_000, 15),
    "SOL": (5, 2, 20, 54, 70_000_000, 10),
    "DOGE": (12, 0, 10, 52, 20_000_000, 5),
    "ADA": (65, 0, 10, 52, 20_000_000, 5),
}
_FIRST_FREE_INDEX = 66
_UNLISTED_MAX_LEVERAGE = 3


class Universe:
    """All assets, by name and by id."""

    def __init__(self, assets: tuple[Asset, ...]) -> None:
        self.assets = assets
        self.by_name = {asset.name: asset for asset in assets}
        self.traded = tuple(asset for asset in assets if not asset.delisted)

    @classmethod
    def of(cls, symbols: Iterable[str]) -> Universe:
        """Mainnet's places for the coins that have one; other symbols follow. A coin without prices is delisted."""
        wanted = set(symbols)
        assets = {spec[0]: _listed(name, delisted=name not in wanted) for name, spec in _LISTED.items()}
        for index in range(_FIRST_FREE_INDEX):
            assets.setdefault(index, _filler(index))
        for offset, name in enumerate(sorted(wanted - set(_LISTED))):
            assets[_FIRST_FREE_INDEX + offset] = _unknown(_FIRST_FREE_INDEX + offset, name)
        return cls(tuple(assets[index] for index in sorted(assets)))

    def delist(self, name: str) -> None:
        """Take a coin out of trading; it keeps its id.

        Raises:
            KeyError: there is no such coin.
        """
        gone = replace(self.by_name[name], delisted=True)
        self.assets = tuple(gone if asset.name == name else asset for asset in self.assets)
        self.by_name[name] = gone
        self.traded = tuple(asset for asset in self.traded if asset.name != name)

    def get(self, index: int) -> Asset | None:
        """The asset with this id."""
        return self.assets[index] if 0 <= index < len(self.assets) else None

    def meta(self) -> dict[str, Any]:
        """The answer to ``meta``."""
        tables = {a.margin_table_id: a.tiers for a in self.assets if len(a.tiers) > 1}
        return {
            "universe": [_meta_entry(asset) for asset in self.assets],
            "marginTables": [[table_id, _margin_table(tiers)] for table_id, tiers in sorted(tables.items())],
            "collateralToken": 0,
        }


def _listed(name: str, *, delisted: bool) -> Asset:
    index, sz_decimals, max_leverage, table_id, bound, second = _LISTED[name]
    return Asset(
        index=index,
        name=name,
        sz_decimals=sz_decimals,
        max_leverage=max_leverage,
        margin_table_id=table_id,
        tiers=(Tier(Decimal(0), max_leverage), Tier(Decimal(bound), second)),
        delisted=delisted,
    )


def _unknown(index: int, name: str) -> Asset:
    leverage = _UNLISTED_MAX_LEVERAGE
    return Asset(
        index=index,
        name=name,
        sz_decimals=2,
        max_leverage=leverage,
        margin_table_id=leverage,
        tiers=(Tier(Decimal(0), leverage),),
    )


def _filler(index: int) -> Asset:
    leverage = _UNLISTED_MAX_LEVERAGE
    return Asset(
        index=index,
        name=f"DELISTED{index}",
        sz_decimals=1,
        max_leverage=leverage,
        margin_table_id=leverage,
        tiers=(Tier(Decimal(0), leverage),),
        delisted=True,
    )


def _meta_entry(asset: Asset) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": asset.name,
        "szDecimals": asset.sz_decimals,
        "maxLeverage": asset.max_leverage,
        "marginTableId": asset.margin_table_id,
    }
    return entry | {"isDelisted": True} if asset.delisted else entry


def _margin_table(tiers: tuple[Tier, ...]) -> dict[str, Any]:
    rows = [{"lowerBound": text(tier.lower_bound_usd), "maxLeverage": tier.max_leverage} for tier in tiers]
    return {"description": f"tiered {tiers[0].max_leverage}x", "marginTiers": rows}
