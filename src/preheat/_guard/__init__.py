"""Admission by reservation: what a load may take is set aside before it starts.

Looking at free memory and then loading is not enough: loads that started together all saw the same free memory, and
an estimate can be wrong by any factor.  So three things hold at once.  *Reservation*: a load starts only if its
expected bytes, with a margin on top of the worst that was seen of its kind, fit what is left of the budget, and its
peak fits what is left of memory.  *Slow start*: until three real sizes of a cache are known, its loads go one by
one.  *A limit per load*: loaders are told how large a value may become, so that one giant can't kill the process.

All sizes are integers: whatever was reserved is given back to the byte.

    columns     sizes by the hundred
    experience  what loads of one kind really cost
    headroom    whether others take memory
    admission   who may start, by both of them
"""

from preheat._guard.admission import KNOWN_AFTER, Claims, Group, Guard
from preheat._guard.columns import total_of
from preheat._guard.experience import LEAST_MEASURED_BYTES, MARGIN, MOST_PEAK_RATIO, PEAK_RATIO, REMEMBERED
from preheat._guard.headroom import FALL_LEAST_BYTES, FALL_LIMIT_SHARE, FALL_SECONDS

__all__ = [
    "FALL_LEAST_BYTES",
    "FALL_LIMIT_SHARE",
    "FALL_SECONDS",
    "KNOWN_AFTER",
    "LEAST_MEASURED_BYTES",
    "MARGIN",
    "MOST_PEAK_RATIO",
    "PEAK_RATIO",
    "REMEMBERED",
    "Claims",
    "Group",
    "Guard",
    "total_of",
]
