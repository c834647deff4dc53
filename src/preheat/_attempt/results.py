"""What becomes of one item: of what its cache gave, or of what its loader raised."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from msgspec.structs import replace

from preheat._model import ItemResult, ItemStatus
from preheat._origin import read_refusal
from preheat._plan.sizes import is_size
from preheat.errors import ItemTooLarge

# A loader that awaited something which others cancelled raises CancelledError too; nobody cancelled the run by that.
ITEM_ERRORS = (Exception, asyncio.CancelledError)

LATE = ItemResult(
    ItemStatus.FAILED, reason="its loader took longer than an item may (item_timeout_seconds)", wait_seconds=0.0
)
ABANDONED = ItemResult(ItemStatus.SKIPPED, reason="given up while it was being loaded: the run was stopped")


def usable(result: Any) -> ItemResult:
    """`result`, which `warmup_item` gave, or else the failure to give one."""
    if not isinstance(result, ItemResult) or result.status not in _STATUSES:
        return ItemResult(ItemStatus.FAILED, reason=f"warmup_item gave a {type(result).__name__}, not an ItemResult")
    if not is_size(result.size_bytes):
        return ItemResult(ItemStatus.FAILED, reason=f"warmup_item gave {result.size_bytes!r} as its size in bytes")
    status, size_bytes, reason = ItemStatus(result.status), int(result.size_bytes), _printable(result.reason)
    return replace(result, status=status, size_bytes=size_bytes, reason=reason)


def failure_of(error: BaseException) -> ItemResult:
    """What became of an item whose load raised `error`."""
    if isinstance(error, ItemTooLarge | MemoryError):
        return ItemResult(ItemStatus.TOO_LARGE, reason=_printable(str(error) or type(error).__name__))
    refusal = read_refusal(error, time.time())
    wait_seconds = (refusal.wait_seconds or 0.0) if refusal.is_overloaded else None
    return ItemResult(
        ItemStatus.FAILED, reason=_printable(f"{type(error).__name__}: {error}"), wait_seconds=wait_seconds
    )


def _printable(reason: object) -> str:
    """`reason` without lone surrogates, say of a file name, which no report could be written with."""
    return str(reason).encode("utf-8", "backslashreplace").decode()


_STATUSES = tuple(ItemStatus)
