"""What all tests share: deterministic properties, and a look at the threads that a test leaves behind."""

import signal
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "preheat",
    derandomize=True,
    deadline=None,
    max_examples=60,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("preheat")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as shells have it for what they run in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # and what tests start would not hear of it either


@pytest.fixture
def no_leaked_threads() -> Iterator[None]:
    """Fails the test if a thread that it started is still there two seconds after it."""
    before = set(threading.enumerate())
    yield
    until = time.monotonic() + 2.0
    while (left := set(threading.enumerate()) - before) and time.monotonic() < until:
        time.sleep(0.005)
    assert set() == left
