"""Plots as inline SVG, drawn by hand: no script, no font, no network.

Colours come from the page's style sheet by class, so that a plot follows its light and its dark scheme.  Each plot
is drawn for one width; the page holds a wide and a narrow one, as text that is scaled down can't be read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape
from itertools import count
from typing import NamedTuple

WIDE, NARROW = 760, 360
_numbers = count(1)

Points = Sequence[tuple[float, float]]


class Axis(NamedTuple):
    """One direction of a plot: its range, its ticks with their texts, and what it measures, with the unit."""

    label: str
    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Where `value` lies: 0 at the low end, 1 at the high one; what lies beyond is put at the end."""
        if self.logarithmic:
            low, high = math.log10(self.low), math.log10(self.high)
            at = (math.log10(max(value, self.low)) - low) / (high - low)
        else:
            at = (value - self.low) / ((self.high - self.low) or 1.0)
        return min(1.0, max(0.0, at))


def linear_axis(label: str, high: float, text: Callable[[float], str], *, most_ticks: int = 6) -> Axis:
    """From 0 to `high`, with ticks at round values."""
    high = high if high > 0 else 1.0
    step = _round_step(high / most_ticks)
    return Axis(label, 0.0, high, [(n * step, text(n * step)) for n in range(int(high / step + 1e-9) + 1)])


def log_axis(label: str, low: float, high: float, text: Callable[[float], str]) -> Axis:
    """From `low` to `high`, both positive, widened to ticks at 1, 2 and 5 times the powers of ten."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ladder = [factor * 10.0**n for n in powers for factor in (1, 2, 5)]
    first = max(n for n, step in enumerate(ladder) if step <= low * (1 + 1e-9))
    last = max(first + 1, min(n for n, step in enumerate(ladder) if step >= high * (1 - 1e-9)))
    steps = ladder[first : last + 1]
    return Axis(label, steps[0], steps[-1], [(step, text(step)) for step in steps], True)


def _round_step(step: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is not below `step`."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * (1 - 1e-9))


class Plot:
    """An SVG with two axes; what is drawn later lies above."""

    def __init__(self, title: str, description: str, x: Axis, y: Axis, *, width: int, height: int = 300) -> None:
        self._x, self._y = x, y
        self._height = height
        self._left, self._right, self._top, self._bottom = 52, width - 14, 26, height - 42
        self._parts = [_opening(title, description, width, height)]
        self._draw_axes()

    def _at(self, x: float, y: float) -> tuple[float, float]:
        return (
            self._left + self._x.place(x) * (self._right - self._left),
            self._bottom - self._y.place(y) * (self._bottom - self._top),
        )

    def _draw_axes(self) -> None:
        for value, text in self._y.ticks:
            _, y = self._at(self._x.low, value)
            self._parts.append(f'<path class="grid" d="M{self._left} {y:.1f}H{self._right}"/>')
            self._text(self._left - 8, y + 4, text, "tick end")
        for value, text in self._x.ticks:
            x, _ = self._at(value, self._y.low)
            self._text(x, self._bottom + 18, text, "tick middle")
        self._text(0, 12, self._y.label, "axis")
        self._text(self._right, self._height - 6, self._x.label, "axis end")

    def line(self, points: Points, style: str) -> None:
        """Join `points` by a line."""
        places = [self._at(x, y) for x, y in points]
        if places:
            self._parts.append(f'<path class="line {style}" d="M{"L".join(f"{x:.1f} {y:.1f}" for x, y in places)}"/>')

    def area(self, points: Points, style: str) -> None:
        """Fill what is below `points`."""
        if not points:
            return
        along = "L".join(f"{x:.1f} {y:.1f}" for x, y in (self._at(*p) for p in points))
        (first, ground), (last, _) = self._at(points[0][0], self._y.low), self._at(points[-1][0], self._y.low)
        path = f"M{first:.1f} {ground:.1f}L{along}L{last:.1f} {ground:.1f}Z"
        self._parts.append(f'<path class="area {style}" d="{path}"/>')

    def dots(self, points: Points, style: str) -> None:
        """A dot at each of `points`."""
        places = (self._at(x, y) for x, y in points)
        self._parts.append(f'<path class="dots {style}" d="{"".join(f"M{x:.1f} {y:.1f}h0" for x, y in places)}"/>')

    def level(self, value: float, text: str, style: str, *, below: bool = False) -> None:
        """A line across at `value`, with its meaning written at its right end."""
        _, y = self._at(self._x.low, value)
        self._parts.append(f'<path class="level {style}" d="M{self._left} {y:.1f}H{self._right}"/>')
        self._text(self._right, y + 16 if below else y - 6, text, "note end")

    def mark(self, value: float, text: str, style: str, *, line: int = 0) -> None:
        """A line upwards at `value` of x, with its meaning beside it, `line` lines below the top."""
        x, _ = self._at(value, self._y.low)
        self._parts.append(f'<path class="level {style}" d="M{x:.1f} {self._top}V{self._bottom}"/>')
        near_end = x > (self._left + self._right) / 2
        self._text(x - 6 if near_end else x + 6, self._top + 10 + 15 * line, text, "note end" if near_end else "note")

    def _text(self, x: float, y: float, text: str, style: str) -> None:
        self._parts.append(f'<text class="{style}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>')

    def svg(self) -> str:
        """The drawing."""
        return "".join([*self._parts, "</svg>"])


class Segment(NamedTuple):
    """A part of a bar."""

    style: str
    value: float
    text: str


def stacked_bars(
    title: str, description: str, bars: Sequence[tuple[str, str, Sequence[Segment]]], *, width: int
) -> str:
    """A bar for each (label, total in words, segments), all to one scale."""
    row, top = 62, 6
    height = top + row * len(bars)
    scale = width / max(1e-9, *(sum(s.value for s in segments) for _, _, segments in bars))
    parts = [_opening(title, description, width, height)]
    for n, (label, total, segments) in enumerate(bars):
        y, x = top + n * row, 0.0
        parts.append(f'<text class="bar-label" x="0" y="{y + 13}">{escape(label)}</text>')
        parts.append(f'<text class="tick end" x="{width}" y="{y + 13}">{escape(total)}</text>')
        for segment in segments:
            wide = segment.value * scale
            parts.append(
                f'<rect class="bar {segment.style}" x="{x:.1f}" y="{y + 22}" width="{max(0.0, wide - 1):.1f}" '
                f'height="22" rx="2"><title>{escape(segment.text)}</title></rect>'
            )
            x += wide
    return "".join([*parts, "</svg>"])


def _opening(title: str, description: str, width: int, height: int) -> str:
    number = next(_numbers)
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-labelledby="t{number} d{number}">'
        f'<title id="t{number}">{escape(title)}</title><desc id="d{number}">{escape(description)}</desc>'
    )


def legend(entries: Iterable[tuple[str, str]]) -> str:
    """(style, text) as a line of swatches."""
    items = "".join(f'<li><span class="swatch {style}"></span>{escape(text)}</li>' for style, text in entries)
    return f'<ul class="legend">{items}</ul>'
