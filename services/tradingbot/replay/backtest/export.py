"""Findings as JSON and as a page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tradingbot.domain.errors import Permanent
from tradingbot.replay.backtest.html import page
from tradingbot.replay.backtest.report import iso
from tradingbot.replay.backtest.study import Findings
from tradingbot.replay.backtest.thin import edges, extremes

CURVE_POINTS = 400


class NotWritten(Permanent):
    """The report's file cannot be written."""


def write(findings: Findings, page_path: Path) -> tuple[Path, Path]:
    """The page, and the figures beside it with the ending .json; the folder is made.

    Raises:
        NotWritten: a file cannot be written.
    """
    json_path = page_path.with_suffix(".json")
    try:
        page_path.parent.mkdir(parents=True, exist_ok=True)
        page_path.write_text(page(findings), encoding="utf-8")
        json_path.write_text(as_text(findings) + "\n", encoding="utf-8")
    except OSError as error:
        raise NotWritten(f"{error.filename}: {error.strerror}") from None
    return page_path, json_path


def as_text(findings: Findings) -> str:
    """All figures, the search, the look-ahead check and the drawn curves."""
    looked = findings.lookahead
    told: dict[str, Any] = findings.report.model_dump(mode="json")
    told["search"] = None if findings.search is None else findings.search.model_dump(mode="json")
    told["lookahead"] = looked and {
        "clean": looked.clean,
        "moments": looked.moments,
        "decisions": looked.decisions,
        "leaks": [str(leak) for leak in looked.leaks],
    }
    told["curves"] = curves_of(findings)
    return json.dumps(told, indent=2, allow_nan=False)


def curves_of(findings: Findings) -> dict[str, Any]:
    """Equity and mean weights, thinned out: of each stretch the first, lowest and highest value of equity."""
    result = findings.result
    kept = extremes(result.equity, CURVE_POINTS // 2)
    starts = edges(len(result.at_ms), CURVE_POINTS // 2)[:-1]
    mean = np.add.reduceat(result.weights, starts) / np.diff([*starts, len(result.at_ms)])[:, None]
    return {
        "equity": [[iso(result.at_ms[k]), round(float(result.equity[k]), 4)] for k in kept],
        "weights": {
            "from": [iso(result.at_ms[k]) for k in starts],
            **{symbol: np.round(mean[:, n], 6).tolist() for n, symbol in enumerate(result.symbols)},
        },
    }
