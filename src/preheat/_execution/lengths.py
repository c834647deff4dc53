"""How many items make a run of loads: so many that handing them out costs next to nothing, and no more.

Between two runs of one loader the machine is asked, memory is read and progress is told; so a run should last a
fixed short time, however long a single load takes.  As little is known of that at first, lengths begin at one load
and grow by a factor from run to run.

Where loads are short and on the loop, workers share their runs: each takes the next load of a run, and then of the
run after it.  Such runs can be as long as is worth a decision, however many workers there are, and none has to be cut
small so that all end together.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

GROWTH = 8
"""How many times as long as one that was seen a run may be: at first loads have the origin to themselves."""

SHORTEST_SHARE = 16
"""When little is left and is shared out, no run becomes shorter than this part of what it should be."""

MOST_ITEMS = 16_384
"""What has been loaded is told with the whole run, and until then takes memory for each."""

SHARED_SECONDS = 0.1
"""How long a run that is shared should last: as long as it takes until progress is shown again."""

LONGEST_SHARED_SECONDS = 0.05
"""Loads that take longer are not shared: what becomes of each is told at once."""


class RunLengths:
    """The length of the next run, by cache.

    Args:
        batch_size: Items handed to a loader at once.
        seconds: By cache, how long a run should last; the runs of others are one batch each.
        in_bulk: Caches that load a batch at once: their runs are whole batches.
        crewed: Caches of which several workers may share a run.
        shared: Caches that others fill too.
    """

    def __init__(
        self,
        batch_size: int,
        seconds: Mapping[str, float],
        in_bulk: Container[str] = (),
        *,
        crewed: Container[str] = (),
        shared: Container[str] = (),
    ) -> None:
        self._batch_size, self._seconds, self._in_bulk = batch_size, seconds, in_bulk
        self._crewed, self._shared = crewed, shared
        self._loads: dict[str, int] = {}
        self._each_seconds: dict[str, float] = {}
        self._found: dict[str, int] = {}  # of shared caches, items of the last run if all of them were there

    def most(self, cache: str, share: int) -> int:
        """Items of the next run of `cache`, at most, when its share of what is left would be `share`."""
        loads = self._loads.get(cache, 1)
        return min(max(share, loads // SHORTEST_SHARE, self.at_once(cache)), loads * self._unit(cache))

    def most_shared(self, cache: str, width: int) -> int:
        """Items of the next run of `cache` if so many workers share it, at most; 0 if it is not to be shared."""
        if cache not in self._crewed or cache not in self._each_seconds:
            return 0
        each_seconds = self._each_seconds[cache]
        if each_seconds > LONGEST_SHARED_SECONDS:
            return 0
        fitting = int(SHARED_SECONDS / each_seconds) if each_seconds > 0 else MOST_ITEMS
        return min(width * min(max(1, fitting), self._loads.get(cache, 1)), MOST_ITEMS)

    def most_unknown(self, cache: str, share: int) -> int:
        """As `most` while the sizes of `cache` are not known: one, or twice as many as others had all put there."""
        return min(max(1, 2 * self._found.get(cache, 0)), max(1, share), self._batch_size)

    def at_once(self, cache: str) -> int:
        """Items of one call of the loader of `cache`, at most."""
        return self._batch_size if cache in self._in_bulk else 1

    def most_awaited(self, cache: str, items: int) -> int:
        """How many of `items` of the next run, at most, if others wait for them and should not wait for long."""
        return max(1, items // SHORTEST_SHARE) if cache in self._seconds else items

    def learn(self, cache: str, items: int, seconds: float, *, width: int = 1, were_there: bool = False) -> None:
        """A run of `items` by so many workers took `seconds` of all of them together; or all `were_there` before."""
        if cache in self._shared:
            self._found[cache] = items if were_there else 0
        if cache not in self._seconds:
            return
        self._each_seconds[cache] = seconds / items
        items, seconds, unit = -(-items // width), seconds / width, self._unit(cache)
        loads, now = -(-items // unit), self._loads.get(cache, 1)
        fitting = int(self._seconds[cache] * loads / seconds) if seconds > 0 else MOST_ITEMS
        if fitting > now <= loads or 2 * fitting < now:
            self._loads[cache] = max(1, min(fitting, GROWTH * loads, MOST_ITEMS // unit))

    def _unit(self, cache: str) -> int:
        return self._batch_size if cache not in self._seconds or cache in self._in_bulk else 1
