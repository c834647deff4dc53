"""What the allocators behind Python take for a block of memory, its share of what blocks have in common included.

Objects come from the interpreter's own allocator.  In most builds that is pymalloc up to 512 bytes and the system's
`malloc` beyond.  Free-threaded builds have mimalloc for all of them, of which only so much is resident as is touched.
The system's is taken for glibc's.
"""

from __future__ import annotations

import sys

IS_FREE_THREADED = "t" in getattr(sys, "abiflags", "")

GC_HEADER_BYTES = 0 if IS_FREE_THREADED else 16
"""What stands before an object that the garbage collector knows; in free-threaded builds it is in the object."""

LIST_HEADER_BYTES = 8 if IS_FREE_THREADED else 0
"""What stands before the items of a list, in their block."""

PAGE_BYTES = 4096
_MAPPED_FROM_BYTES = 128 * 1024
_SPAN_BYTES = 64 * 1024  # of mimalloc, shared by blocks of a size


def malloc_bytes(size_bytes: int) -> int:
    """What glibc takes for a block: a header, 16-byte steps, whole pages where it maps the block by itself."""
    if size_bytes >= _MAPPED_FROM_BYTES:
        return (size_bytes + 16 + PAGE_BYTES - 1) // PAGE_BYTES * PAGE_BYTES
    return max(32, (size_bytes + 8 + 15) & ~15)


def pymalloc_bytes(size_bytes: int) -> float:
    """What a block of up to 512 bytes takes of a 16 KiB pool, whose header and rest it shares with its like."""
    size_class = max(16, (size_bytes + 15) & ~15)
    return 16384 / ((16384 - 48) // size_class)


def mimalloc_bytes(size_bytes: int) -> float:
    """What mimalloc takes: 16-byte steps, from 64 bytes on four to each doubling; of a large block, what is touched."""
    size_class = _size_class(size_bytes)
    if size_class <= PAGE_BYTES:
        return _SPAN_BYTES / (_SPAN_BYTES // size_class)
    return min(size_class, (size_bytes + PAGE_BYTES - 1) // PAGE_BYTES * PAGE_BYTES)


def _size_class(size_bytes: int) -> int:
    if size_bytes <= 64:
        return max(16, (size_bytes + 15) & ~15)
    step = 1 << ((size_bytes - 1).bit_length() - 3)
    return (size_bytes + step - 1) // step * step


_SMALL_BYTES = tuple(map(mimalloc_bytes if IS_FREE_THREADED else pymalloc_bytes, range(513)))


def block_bytes(size_bytes: int) -> float:
    """What the interpreter's allocator takes for a block."""
    if size_bytes <= 512:
        return _SMALL_BYTES[size_bytes]
    return mimalloc_bytes(size_bytes) if IS_FREE_THREADED else malloc_bytes(size_bytes)
