"""The history that a command is about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from preheat.cli.configuring import open_store
from preheat.errors import UnknownCache, nearest

if TYPE_CHECKING:
    from preheat._model import History


def known_history(state_dir: str | None) -> History:
    """The history last saved in the state folder; an empty one if nothing has been recorded.

    Raises:
        UsageError, StoreError: There is no folder, or it can't be read.
    """
    from preheat._history import empty_history

    with open_store(state_dir) as store:
        return store.load() or empty_history()


def named_caches(history: History, names: Sequence[str]) -> tuple[str, ...]:
    """`names` if there are any, else all caches of `history`.

    Raises:
        UnknownCache: Nothing is known of one of them.
    """
    for name in names:
        if name not in history.caches:
            known = ", ".join(history.caches) or "none"
            raise UnknownCache(
                f"nothing has been recorded of a cache {name!r}; {nearest(name, history.caches)}there are: {known}"
            )
    return tuple(names) or history.caches
