"""Charts as inline SVG, drawn by ourselves: no script, nothing fetched.

The drawing stretches to whatever width there is (``preserveAspectRatio="none"`` with strokes that do not scale); texts
are HTML beside it, so that they keep their size on a phone. Every chart has a title and a description for those who
hear it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

import numpy as np

from tradingbot.domain.cycles import from_ms
from tradingbot.replay.backtest.market import FloatArray, IntArray
from tradingbot.replay.backtest.thin import edges, extremes

STRETCHES = 360
"""Of a curve; each keeps its lowest and its highest value."""
_UNIT = 1000.0
"""Width and height of the drawing's own coordinates."""
_STEPS_MS = tuple(
    int(hours * 3_600_000) for hours in (1, 3, 6, 12, 24, 48, 120, 240, 360, 720, 1440, 2880, 4320, 8760, 17520)
)
_MOST_TICKS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A curve; ``kind`` is its class in the style sheet."""

    name: str
    at_ms: IntArray
    values: FloatArray
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A horizontal line at a limit."""

    name: str
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """What a chart says in words."""

    title: str
    note: str
    """Shown below the title."""
    told: str
    """For those who cannot see it."""
    unit: str = "%"
    """% shows fractions as percent; USD shows dollars; x shows plain numbers."""


def lines(
    text: Text, drawn: Sequence[Line], *, marks: Sequence[Mark] = (), fills: bool = False, tall: int = 260
) -> str:
    """Curves over time; ``fills`` paints between the first one and 0."""
    low, high = _reach([each.values for each in drawn], [mark.value for mark in marks])
    span = _span(drawn[0].at_ms)
    scale = _Scale(low, high)
    body = [_grid(scale), *(_mark(mark, scale) for mark in marks)]
    for index, each in reversed(list(enumerate(drawn))):
        kept = extremes(each.values, STRETCHES)
        points = [(_x(each.at_ms[k], span), scale.y(float(each.values[k]))) for k in kept]
        if fills and index == 0:
            base = scale.y(min(max(0.0, low), high))
            body.append(
                f'<path class="area {each.kind}" d="M{points[0][0]:.1f} {base:.1f}{_joined(points, first="L")}'
                f'L{points[-1][0]:.1f} {base:.1f}Z"/>'
            )
        body.append(f'<path class="line {each.kind}" d="{_joined(points)}"/>')
    legend = [(each.kind, each.name) for each in drawn] if len(drawn) > 1 else []
    return _figure(
        text, "".join(body), labels=_labels(scale, text.unit, marks), times=_time_labels(span), legend=legend, tall=tall
    )


def stack(text: Text, at_ms: IntArray, parts: Sequence[tuple[str, FloatArray]], *, tall: int = 220) -> str:
    """Areas on top of each other, positive ones above 0 and negative ones below; each point is a stretch's mean."""
    starts = edges(len(at_ms), STRETCHES)[:-1]
    lengths = np.diff([*starts, len(at_ms)])
    means = [np.add.reduceat(values, starts) / lengths for _, values in parts]
    over = np.cumsum([np.maximum(each, 0.0) for each in means], axis=0)
    under = np.cumsum([np.minimum(each, 0.0) for each in means], axis=0)
    low, high = min(float(under.min()), 0.0), max(float(over.max()), 1e-6)
    scale, span = _Scale(low, high * 1.02), _span(at_ms)
    xs = [_x(at_ms[k], span) for k in starts]
    body = [_grid(scale)]
    for k in range(len(parts)):
        for pile in (over, under):
            top = pile[k]
            bottom = pile[k - 1] if k else np.zeros(len(xs))
            if not np.any(top != bottom):
                continue
            there = [(x, scale.y(float(v))) for x, v in zip(xs, top, strict=True)]
            back = [(x, scale.y(float(v))) for x, v in zip(reversed(xs), reversed(bottom), strict=True)]
            body.append(f'<path class="pile c{k % 8}" d="{_joined(there)}{_joined(back, first="L")}Z"/>')
    legend = [(f"c{k % 8}", name) for k, (name, _) in enumerate(parts)]
    return _figure(
        text, "".join(body), labels=_labels(scale, text.unit, ()), times=_time_labels(span), legend=legend, tall=tall
    )


def bars(text: Text, at_ms: Sequence[int], values: Sequence[float], *, tall: int = 160) -> str:
    """One bar a period from 0 up or down; ``at_ms`` are the periods' starts."""
    step = at_ms[1] - at_ms[0] if len(at_ms) > 1 else 86_400_000
    span = (at_ms[0], at_ms[-1] + step)
    scale = _Scale(min(0.0, *values), max(1e-9, *values))
    body, zero = [_grid(scale)], scale.y(0.0)
    wide = _UNIT * step / (span[1] - span[0])
    for start, value in zip(at_ms, values, strict=True):
        y = scale.y(value)
        body.append(
            f'<rect class="bar {"down" if value < 0 else "up"}" x="{_x(start, span) + wide * 0.1:.1f}" '
            f'y="{min(y, zero):.1f}" width="{wide * 0.8:.1f}" height="{abs(y - zero):.1f}"/>'
        )
    return _figure(
        text, "".join(body), labels=_labels(scale, text.unit, ()), times=_time_labels(span), legend=[], tall=tall
    )


def strip(at_ms: IntArray, states: IntArray, names: Sequence[str]) -> str:
    """A band that shows which state held when, for a class ``s0``, ``s1``, … each."""
    span, changes = _span(at_ms), [0, *(np.flatnonzero(np.diff(states)) + 1).tolist(), len(states)]
    pieces = [
        f'<rect class="s{int(states[start])}" x="{_x(at_ms[start], span):.2f}" y="0" height="10" '
        f'width="{_x(at_ms[min(stop, len(at_ms) - 1)], span) - _x(at_ms[start], span):.2f}"/>'
        for start, stop in pairwise(changes)
    ]
    told = ", ".join(f"{name} {float((states == k).mean()):.0%}" for k, name in enumerate(names))
    return (
        f'<svg class="strip" viewBox="0 0 1000 10" preserveAspectRatio="none" role="img">'
        f"<title>Modes over time</title><desc>{escape(told)}</desc>{''.join(pieces)}</svg>"
    )


def shown(value: float, unit: str) -> str:
    """A value with its unit, and a real minus sign."""
    if unit == "%":
        text = f"{value * 100:.{_decimals(value * 100)}f} %"
    elif unit == "USD":
        text = f"{value:,.{_decimals(value)}f}"
    else:
        text = f"{value:.3g}"
    return text.replace("-", "−")


def _label(tick: float, unit: str, step: float) -> str:
    """A label that fits beside the drawing, with the decimals of the step; large amounts as thousands or millions."""
    factor, word = (100.0, " %") if unit == "%" else (1.0, "")
    if unit == "USD" and step >= 1_000:
        factor, word = (1e-6, "M") if step >= 1_000_000 else (1e-3, "k")
    decimals = max(0, -math.floor(math.log10(step * factor) + 1e-9))
    text = f"{tick * factor:,.{decimals}f}{word}" if abs(tick) > step / 2 else f"0{word}"
    return text.replace("-", "−")


class _Scale:
    """From values to the drawing's height, with round steps between."""

    def __init__(self, low: float, high: float) -> None:
        reach = high - low or abs(high) or 1.0
        self._low, self._high = low - reach * 0.04, high + reach * 0.04
        rough = reach / 4
        size = 10.0 ** math.floor(math.log10(rough))
        self.step = step = next(size * k for k in (1, 2, 5, 10) if size * k >= rough)
        first = math.ceil(self._low / step)
        self.ticks = [k * step for k in range(first, math.floor(self._high / step) + 1)]

    def y(self, value: float) -> float:
        """0 is the top."""
        return _UNIT * (self._high - value) / (self._high - self._low)


def _reach(values: Sequence[FloatArray], marks: Sequence[float]) -> tuple[float, float]:
    low, high = min(float(each.min()) for each in values), max(float(each.max()) for each in values)
    return min(low, *marks, 0.0), max(high, *marks, 0.0)


def _span(at_ms: IntArray) -> tuple[int, int]:
    return int(at_ms[0]), max(int(at_ms[-1]), int(at_ms[0]) + 1)


def _x(at_ms: int | np.int64, span: tuple[int, int]) -> float:
    return _UNIT * (int(at_ms) - span[0]) / (span[1] - span[0])


def _joined(points: Sequence[tuple[float, float]], *, first: str = "M") -> str:
    return first + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _grid(scale: _Scale) -> str:
    return "".join(
        f'<path class="grid{" zero" if abs(tick) < 1e-12 else ""}" d="M0 {scale.y(tick):.1f}H1000"/>'
        for tick in scale.ticks
    )


def _mark(mark: Mark, scale: _Scale) -> str:
    return f'<path class="mark" d="M0 {scale.y(mark.value):.1f}H1000"/>'


def _labels(scale: _Scale, unit: str, marks: Sequence[Mark]) -> str:
    ticks = "".join(
        f'<span class="y" style="top:{scale.y(tick) / 10:.2f}%">{_label(tick, unit, scale.step)}</span>'
        for tick in scale.ticks
    )
    return ticks + "".join(
        f'<span class="y right{" under" if k else ""}" style="top:{scale.y(mark.value) / 10:.2f}%">'
        f"{escape(mark.name)}</span>"
        for k, mark in enumerate(marks)  # the first above its line, the next below: they may lie close together
    )


def _time_labels(span: tuple[int, int]) -> str:
    return "".join(
        f'<span class="x{" spare" if k % 2 else ""}" style="left:{_x(at, span) / 10:.2f}%">{_when(at, span)}</span>'
        for k, at in enumerate(_time_ticks(span))
    )


def _time_ticks(span: tuple[int, int]) -> Iterator[int]:
    length = span[1] - span[0]
    step = next((each for each in _STEPS_MS if length / each <= _MOST_TICKS), _STEPS_MS[-1])
    for k in range(-(-span[0] // step), span[1] // step + 1):
        if 0.03 < (k * step - span[0]) / length < 0.97:
            yield k * step


def _when(at_ms: int, span: tuple[int, int]) -> str:
    at = from_ms(at_ms)
    if span[1] - span[0] <= 2 * 86_400_000:
        return f"{at:%H:%M}"
    return f"{at.day} {at:%b}" if span[1] - span[0] < 300 * 86_400_000 else f"{at:%b %Y}"


def _decimals(value: float) -> int:
    size = abs(value)
    return 0 if size >= 100 or size == 0 else 1 if size >= 10 else 2


def _figure(text: Text, body: str, *, labels: str, times: str, legend: Sequence[tuple[str, str]], tall: int) -> str:
    name = "chart-" + "".join(letter for letter in text.title.lower() if letter.isalnum())
    keys = "".join(f'<li class="{kind}">{escape(label)}</li>' for kind, label in legend)
    return (
        f"<figure><figcaption><h3>{escape(text.title)}</h3><p>{escape(text.note)}</p></figcaption>"
        f'<div class="plot" style="height:{tall}px"><svg viewBox="0 0 1000 1000" preserveAspectRatio="none" role="img" '
        f'aria-labelledby="{name}t {name}d"><title id="{name}t">{escape(text.title)}</title>'
        f'<desc id="{name}d">{escape(text.told)}</desc>{body}</svg>{labels}</div>'
        f'<div class="times">{times}</div>' + (f'<ul class="legend">{keys}</ul>' if keys else "") + "</figure>"
    )
