"""The kinds that a cache tells apart, as far as they can be learned."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

from preheat._log import log_failure
from preheat.abc import TellsKinds, WarmableCache

MOST_KINDS = 64
"""Kinds of one cache that are told apart; what comes after them is of the kind ""."""


def kinds_of(caches: Mapping[str, WarmableCache]) -> dict[str, Callable[[str], str]]:
    """By cache that tells kinds apart, what tells the kind of a key: "" where the cache fails to."""
    return {name: _kind_of(cache) for name, cache in caches.items() if isinstance(cache, TellsKinds)}


def _kind_of(cache: TellsKinds) -> Callable[[str], str]:
    has_failed = False
    known: set[str] = set()

    def kind_of(key: str) -> str:
        nonlocal has_failed
        try:
            kind = sys.intern(cache.kind_of(key))
            if len(known) < MOST_KINDS:
                known.add(kind)
            return kind if kind in known else ""
        except Exception:
            if not has_failed:
                log_failure("the kinds of %r could not be told apart", cache)
            has_failed = True
            return ""

    return kind_of
