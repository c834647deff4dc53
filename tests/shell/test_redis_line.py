"""What goes over the line to a server, without one."""

import asyncio
import random

import pytest

pytest.importorskip("redis", reason="the client library redis is not installed")

from preheat._reach import Door
from preheat._redis import Line, connect, shown_url
from preheat.errors import InvalidSetting


class Swallowing:
    """A client that answers where it was to be cancelled, as redis-py does now and then with a new connection."""

    async def execute_command(self, *command):
        try:
            await asyncio.sleep(10.0)
        except asyncio.CancelledError:
            return b"an answer"


async def cancelled(work):
    task = asyncio.ensure_future(work)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    return task.cancelled()


def test_a_cancellation_passes_even_where_the_client_swallows_it():
    assert asyncio.run(cancelled(Line(Swallowing(), Door(random.Random(0))).ask_async([("GET", "k")])))


def test_such_a_client_alone_swallows_it():
    assert not asyncio.run(cancelled(Swallowing().execute_command("GET", "k")))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://me:secret@host:6379/0?password=secret", "redis://host:6379/0"),
        ("unix://me:secret@/run/s?password=secret", "unix:///run/s"),
        ("redis://[me:secret", "the URL"),
    ],
)
def test_of_a_url_only_what_is_no_secret_is_shown(url, shown):
    assert shown_url(url) == shown


def test_valkey_s_addresses_are_addresses_too():
    assert connect("valkey://host:1/2").connection_pool.connection_kwargs["db"] == 2
    with pytest.raises(InvalidSetting):
        connect("ftp://host")
