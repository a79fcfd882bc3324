"""``--prices``: one text that says where prices come from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tradingbot.paper.prices.live import LivePrices
from tradingbot.paper.prices.model import PricesError, PriceSource
from tradingbot.paper.prices.recorded import RecordedPrices
from tradingbot.paper.prices.synthetic import SyntheticPrices

DEFAULT_SEED = 1


def load_prices(
    spec: str,
    *,
    symbols: Sequence[str],
    start_ms: int | None = None,
    data_dir: Path | None = None,
    speed: float = 1.0,
) -> PriceSource:
    """The source that ``spec`` names: ``synthetic``, ``synthetic:SEED``, ``live``, a candle file or a folder of them.

    A relative path is looked for in the working directory, then in ``data_dir``. ``auto`` is decided by the caller
    with ``probe_live``. ``start_ms`` is when the run starts: a recording that does not hold it is refused.

    Raises:
        PricesError: saying what was wrong with the text, the files or the speed.
    """
    if spec == "live":
        if speed != 1.0:
            raise PricesError(f"live prices cannot run at speed {speed:g}; use --speed 1, synthetic or recorded prices")
        return LivePrices(symbols=symbols)
    if spec == "synthetic" or spec.startswith("synthetic:"):
        return SyntheticPrices(symbols=symbols, seed=_seed(spec))
    source = RecordedPrices.load(_place(spec, data_dir), symbols=symbols)
    if start_ms is not None and source.mid(source.symbols[0], start_ms) is None:
        raise PricesError(f"{spec}: candles from {source.start_ms} to {source.end_ms} ms, none at {start_ms}")
    return source


def _seed(spec: str) -> int:
    text = spec.removeprefix("synthetic").removeprefix(":")
    if not text and spec == "synthetic":
        return DEFAULT_SEED
    if not text.isascii() or not text.isdigit():
        raise PricesError(f"prices {spec!r}: the seed must be a whole number, like synthetic:7")
    return int(text)


def _place(spec: str, data_dir: Path | None) -> Path:
    candidates = [Path(spec)] if data_dir is None else [Path(spec), data_dir / spec]
    for place in candidates:
        if place.exists():
            return place
    raise PricesError(f"prices {spec!r}: wanted live, synthetic, synthetic:SEED, or a file or folder that exists")
