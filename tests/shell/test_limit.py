"""The limit that a warm-up gives to loaders: seen only where a warm-up loads, and kept while reading."""

from __future__ import annotations

import asyncio
import io
import threading
from contextvars import Context

import pytest

from limits import limited_to
from preheat._limit import demand_within_limit, load_limit_bytes, read_within_limit
from preheat.errors import ItemTooLarge, PreheatError

MIB = 2**20


class Counting(io.BytesIO):
    """A stream that knows how much was taken from it."""

    taken = 0

    def read(self, size=-1, /):
        found = super().read(size)
        self.taken += len(found)
        return found


class Trickling(io.BytesIO):
    """A stream that gives less than it is asked for, as sockets and pipes do."""

    def read(self, size=-1, /):
        return super().read(min(size, 7))


def test_nobody_is_limited_unless_a_warm_up_says_so():
    assert load_limit_bytes() is None
    demand_within_limit(2**80, "a giant")


def test_the_limit_holds_inside_and_ends_with_it():
    with limited_to(100):
        assert load_limit_bytes() == 100
        with limited_to(10):
            assert load_limit_bytes() == 10
        with limited_to(None):
            assert load_limit_bytes() is None
        assert load_limit_bytes() == 100
    with pytest.raises(ValueError, match="over"), limited_to(1):
        raise ValueError("over")
    assert load_limit_bytes() is None


def test_a_thread_that_takes_on_no_context_has_no_limit():
    seen = []
    with limited_to(5):
        thread = threading.Thread(target=Context().run, args=(lambda: seen.append(load_limit_bytes()),))
        thread.start()
        thread.join()
    assert seen == [None]


def test_each_task_has_its_own_and_a_thread_of_its_own_the_same():
    async def load(limit_bytes):
        with limited_to(limit_bytes):
            await asyncio.sleep(0.001)
            return load_limit_bytes(), await asyncio.to_thread(load_limit_bytes)

    async def main():
        return await asyncio.gather(*(load(n) for n in (1, None, 3)))

    assert asyncio.run(main()) == [(1, 1), (None, None), (3, 3)]


def test_what_is_larger_is_refused_by_name_and_what_is_as_large_is_not():
    with limited_to(100):
        demand_within_limit(100, "a page")
        with pytest.raises(ItemTooLarge, match="a page has 101 bytes; a load may have 100 now") as refused:
            demand_within_limit(101, "a page")
    assert isinstance(refused.value, PreheatError)


@pytest.mark.parametrize("size", [0, 1, 99, 100, MIB, 3 * MIB + 1])
@pytest.mark.parametrize("stream", [io.BytesIO, Trickling])
def test_all_of_a_stream_is_read(size, stream):
    if stream is Trickling and size > 100:
        size = 1000
    content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    assert read_within_limit(stream(content), "it") == content
    with limited_to(size):
        assert read_within_limit(stream(content), "it") == content


@pytest.mark.parametrize("limit_bytes", [0, 1, 100, MIB - 1, MIB, 5 * MIB // 2])
def test_reading_stops_where_the_limit_is_passed(limit_bytes):
    stream = Counting(bytes(20 * MIB))
    with limited_to(limit_bytes), pytest.raises(ItemTooLarge, match="the download has "):
        read_within_limit(stream, "the download")
    assert stream.taken <= limit_bytes + min(MIB, limit_bytes + 1)
