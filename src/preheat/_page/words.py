"""Numbers as people read them."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

UNKNOWN = "\N{EN DASH}"


def size(nbytes: Any) -> str:
    """`nbytes` in binary units, three digits of it."""
    if not _is_number(nbytes):
        return UNKNOWN
    value = float(nbytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 999.5:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.3g} {unit}"
        value /= 1024
    return f"{value:,.3g} TiB" if value < 999.5 else f"{value:,.0f} TiB"


def duration(seconds: Any) -> str:
    """`seconds` in the units that suit them."""
    if not _is_number(seconds):
        return UNKNOWN
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 120:
        return f"{seconds:.3g} s"
    minutes = seconds / 60
    return f"{minutes:.3g} min" if minutes < 120 else f"{minutes / 60:,.3g} h"


def percent(ratio: Any) -> str:
    """`ratio`, of 1, in percent."""
    return f"{ratio * 100:.1f} %" if _is_number(ratio) else UNKNOWN


def number(value: Any) -> str:
    """A count with its thousands apart; four digits of what is no whole number."""
    if not _is_number(value):
        return UNKNOWN
    return f"{value:,}" if isinstance(value, int) or float(value).is_integer() else f"{value:,.4g}"


def instant(at: Any) -> str:
    """Unix seconds `at`, in UTC."""
    if not _is_number(at) or not 0 < at < 4e10:
        return UNKNOWN
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def points(uplift: Any) -> str:
    """The points of the hit rate that a run won, with their interval."""
    if not isinstance(uplift, dict) or not _is_number(uplift.get("points")):
        return "not known yet"
    told = f"{uplift['points']:+.1f}"
    low, high = uplift.get("low"), uplift.get("high")
    return f"{told} ({low:+.1f} to {high:+.1f})" if _is_number(low) and _is_number(high) else told


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
