"""What was asked for so far: accesses folded into columns, what changed in them, and two histories made one."""

from preheat._history.builder import GAPS, HALF_LIVES, HistoryBuilder, empty_history
from preheat._history.changes import TRAIL_LIMIT, with_changes
from preheat._history.merging import merge_histories

__all__ = [
    "GAPS",
    "HALF_LIVES",
    "TRAIL_LIMIT",
    "HistoryBuilder",
    "empty_history",
    "merge_histories",
    "with_changes",
]
