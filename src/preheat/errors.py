"""Every exception that preheat raises on purpose.

    PreheatError
    ├── UsageError              something the caller wrote can't be used; the message says how to mend it
    │   ├── InvalidSetting      a value of a setting or argument
    │   ├── UnknownCache        a cache name that nothing was registered under
    │   ├── UnknownStrategy     a strategy name that is in no table
    │   ├── InvalidPlan         a saved plan that is none, or can't be loaded as it was edited
    │   ├── UnknownItem         an item that a plan never considered
    │   ├── BrokenPlugin        an entry point of another distribution that can't be loaded
    │   ├── InvalidTarget       a `module:attribute` that can't be imported or isn't warmable
    │   └── DependencyCycle     items that need each other; carries the cycle
    ├── ItemTooLarge            a value is beyond the limit that its loader was given; loaders raise it
    ├── WarmupInProgress        a run is active in this process already
    ├── WarmupBrokenOff         the run that was joined ended without a report
    ├── BoardUnavailable        the server of a bulk warm-up does not answer, or refuses
    ├── WorkersLost             what kept the workers of a bulk warm-up alive has gone; what they did stands
    └── StoreError              the state directory can't be used
        └── StoreCorrupt        what is in it is not what was written

A failed item is no exception: it is a row of the report.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def nearest(name: str, known: Iterable[str]) -> str:
    """The hint "did you mean 'x'? " for the known name nearest to `name`; empty if none is near."""
    from difflib import get_close_matches  # only a mistake has to pay for it

    near = get_close_matches(name, [str(candidate) for candidate in known], n=1)
    return f"did you mean {near[0]!r}? " if near else ""


class PreheatError(Exception):
    """The root of the tree above."""


class UsageError(PreheatError):
    """Something the caller wrote can't be used; the command line exits with 2."""


class InvalidSetting(UsageError, ValueError):
    """A setting or argument has a value that can't be used."""


class UnknownCache(UsageError, LookupError):
    """No cache is registered under this name."""


class UnknownStrategy(UsageError, ValueError):
    """No strategy has this name."""


class InvalidPlan(UsageError, ValueError):
    """A saved plan can't be read, or can't be loaded as it stands."""


class UnknownItem(UsageError, LookupError):
    """A plan has not considered this item."""


class BrokenPlugin(UsageError):
    """What another distribution adds by an entry point can't be loaded, or is not what was expected there."""


class InvalidTarget(UsageError):
    """A `module:attribute` can't be imported, or what it names can't be warmed."""


class DependencyCycle(UsageError):
    """Items need each other, so no order exists.  `cycle` lists them, the first one again at the end."""

    def __init__(self, cycle: Sequence[str]) -> None:
        self.cycle = tuple(cycle)
        super().__init__(
            f"these items need each other, so none can be loaded first: {' -> '.join(self.cycle)}; "
            "remove one of the dependencies"
        )


class ItemTooLarge(PreheatError):
    """A value is larger than a load may be now; see `preheat.load_limit_bytes`.  The item ends as TOO_LARGE."""


class WarmupInProgress(PreheatError):
    """A warm-up is running in this process; wait for it or cancel it first."""


class WarmupBrokenOff(PreheatError):
    """The warm-up that was joined ended without a report: its caller was cancelled, or it failed there."""


class BoardUnavailable(PreheatError):
    """The server that a bulk warm-up goes by does not answer, or refuses; the message says which."""


class WorkersLost(PreheatError):
    """What kept the workers of a bulk warm-up alive has gone; the message says how to go on."""


class StoreError(PreheatError):
    """The state directory can't be used; the message says why."""


class StoreCorrupt(StoreError):
    """What the state directory holds is not what was written."""
