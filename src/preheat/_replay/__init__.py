"""A recorded trace and a way of warming -> what a restart would have cost.

`past` is what a warmer may see, `practice` how caches are warmed today, `window` the replay after the restart with the
best that was possible, `cell` what one replay came to, `curve` how hits grow with the size of a cache.
"""

from preheat._replay.cell import Cell, Hits, Shares, play_restart
from preheat._replay.curve import MissRatioCurve, miss_ratio_curve
from preheat._replay.past import Past, Trace, Warmer, fill
from preheat._replay.practice import PRACTICE
from preheat._replay.window import Window, best_possible, fill_window, saved_misses

__all__ = [
    "PRACTICE",
    "Cell",
    "Hits",
    "MissRatioCurve",
    "Past",
    "Shares",
    "Trace",
    "Warmer",
    "Window",
    "best_possible",
    "fill",
    "fill_window",
    "miss_ratio_curve",
    "play_restart",
    "saved_misses",
]
