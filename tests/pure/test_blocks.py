"""What allocators take for blocks."""

from __future__ import annotations

import pytest

from preheat._blocks import (
    GC_HEADER_BYTES,
    IS_FREE_THREADED,
    block_bytes,
    malloc_bytes,
    mimalloc_bytes,
    pymalloc_bytes,
)


@pytest.mark.parametrize(("size_bytes", "taken"), [(1, 32), (24, 32), (25, 48), (1033, 1056), (2**20, 2**20 + 4096)])
def test_glibc_adds_a_header_and_goes_in_steps_of_16_or_in_pages(size_bytes, taken):
    assert malloc_bytes(size_bytes) == taken


@pytest.mark.parametrize(("size_bytes", "size_class"), [(0, 16), (24, 32), (32, 32), (33, 48), (512, 512)])
def test_pymalloc_shares_a_pool_among_blocks_of_a_class(size_bytes, size_class):
    assert size_class <= pymalloc_bytes(size_bytes) == 16384 / ((16384 - 48) // size_class) < 1.04 * size_class


@pytest.mark.parametrize(
    ("size_bytes", "size_class"),
    [(0, 16), (40, 48), (64, 64), (65, 80), (128, 128), (129, 160), (513, 640), (1033, 1280), (4096, 4096)],
)
def test_mimalloc_has_four_classes_to_each_doubling(size_bytes, size_class):
    assert size_class <= mimalloc_bytes(size_bytes) == 65536 / (65536 // size_class) < 1.06 * size_class


def test_of_a_large_block_of_mimalloc_only_what_is_touched_counts():
    assert mimalloc_bytes(2**20 + 1) == 2**20 + 4096


def test_no_allocator_takes_less_than_the_block_and_none_takes_less_for_more():
    for allocator in (malloc_bytes, mimalloc_bytes):
        taken = [allocator(size) for size in range(5000)]
        assert all(size <= of_size for size, of_size in enumerate(taken))
        assert sorted(taken) == taken


def test_the_interpreters_own_is_known_by_the_build():
    assert block_bytes(40) == (mimalloc_bytes(40) if IS_FREE_THREADED else pymalloc_bytes(40))
    assert block_bytes(1033) == (mimalloc_bytes(1033) if IS_FREE_THREADED else malloc_bytes(1033))
    assert (0 if IS_FREE_THREADED else 16) == GC_HEADER_BYTES
