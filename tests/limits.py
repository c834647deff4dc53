"""A limit as tests give it: a number, known beforehand."""

from __future__ import annotations

from contextlib import AbstractContextManager

from preheat._limit import limited_by


def limited_to(limit_bytes: int | None) -> AbstractContextManager[None]:
    """While this lasts, loaders called here are told that their value may have `limit_bytes`."""
    return limited_by(lambda: limit_bytes)
