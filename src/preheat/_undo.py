"""Undoing what a warm-up loaded, newest first, and giving the memory back."""

from __future__ import annotations

import gc
from array import array
from collections.abc import Callable, Iterable, Sequence

from preheat._log import log_failure
from preheat._plan.sizes import is_size
from preheat.abc import UndoesWarmup, WarmableCache

Undo = Callable[[str], int]


def undo_of(cache: WarmableCache) -> Undo:
    """What undoes the load of a key of `cache`, and returns the accounted bytes released: 0 if it can't."""
    undo: Undo | None = cache.undo_warmup if isinstance(cache, UndoesWarmup) else None

    def undo_one(key: str) -> int:
        try:
            released = int(undo(key)) if undo is not None else 0
            return released if is_size(released) else 0
        except Exception:
            log_failure("an item of cache %r could not be undone", cache.name)
            return 0

    return undo_one


def undo_batch(
    loads: Iterable[tuple[Undo, str]], release_memory: Callable[[], None], process_bytes: Callable[[], int]
) -> Sequence[int]:
    """Undo `loads`, then give what is free back; the accounted bytes released for each.

    Makes next to no objects that stay: memory is short when this is called.  If the process shrinks by less than
    nine tenths of what was undone, the collector looks for what holds it: cycles, and the interpreter's lists of free
    objects, which pin the memory around them.

    Args:
        loads: What undoes each, and its key, in this order.
        release_memory: Gives free memory back to the system.
        process_bytes: What the process occupies.
    """
    before = process_bytes()
    released = array("q", (undo(key) for undo, key in loads))
    release_memory()
    if before - process_bytes() < sum(released) * 9 // 10:
        gc.collect()
        release_memory()
    return released
