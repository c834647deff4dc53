"""The collector runs less often while a warm-up loads, and as before whatever ends it."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from preheat import _collector
from preheat._blocks import IS_FREE_THREADED
from preheat._collector import THRESHOLD, calm_collector

pytestmark = pytest.mark.usefixtures("no_leaked_threads", "usual_collector")

USUAL = (700, 10, 10)

goes_by_the_threshold = pytest.mark.skipif(
    IS_FREE_THREADED, reason="a free-threaded collector waits until a quarter of all objects are new"
)


@pytest.fixture
def usual_collector() -> Iterator[None]:
    """The thresholds that Python 3.11 starts with, and an empty youngest generation."""
    before, was_enabled = gc.get_threshold(), gc.isenabled()
    gc.collect()
    gc.enable()
    gc.set_threshold(*USUAL)
    usual = gc.get_threshold()  # newer versions ignore the third
    yield
    try:
        assert _collector._calm._inside == 0
        assert usual[1:] == gc.get_threshold()[1:]
    finally:
        gc.set_threshold(*before)
        gc.enable() if was_enabled else gc.disable()


def youngest() -> int:
    return gc.get_threshold()[0]


class Cycle:
    alive = highest = 0

    def __init__(self) -> None:
        self.itself = self
        Cycle.alive += 1
        Cycle.highest = max(Cycle.highest, Cycle.alive)

    def __del__(self) -> None:
        Cycle.alive -= 1


def count_collections(work) -> int:
    seen = []

    def watch(phase, about):
        if phase == "start":
            seen.append(about["generation"])

    gc.callbacks.append(watch)
    try:
        work()
    finally:
        gc.callbacks.remove(watch)
    return len(seen)


# -------------------------------------------------------------------------------------------- neither one nor the other


@goes_by_the_threshold
def test_objects_that_stay_are_not_looked_at_by_the_thousand():
    def load():
        return [{"number": n, "tags": [n]} for n in range(50_000)]

    def load_calmly():
        with calm_collector():
            return load()

    assert count_collections(load) > 100
    assert count_collections(load_calmly) <= 1 + 100_000 // THRESHOLD


@goes_by_the_threshold
def test_cycles_that_loaders_leave_are_collected_meanwhile():
    Cycle.alive = Cycle.highest = 0
    with calm_collector():
        for _ in range(5 * THRESHOLD):
            Cycle()
        assert Cycle.highest <= 1.02 * THRESHOLD
    gc.collect()
    assert Cycle.alive == 0


def test_nothing_grows_after_it():
    def warm_and_drop():
        with calm_collector():
            kept = [{"number": n, "tags": [n]} for n in range(30_000)]
            for _ in range(3_000):
                Cycle()
        kept.clear()

    warm_and_drop()
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(3):
        warm_and_drop()
    gc.collect()
    assert len(gc.get_objects()) <= before + 20


@goes_by_the_threshold
def test_right_after_it_the_collector_catches_up():
    def work():
        with calm_collector():
            kept = [[n] for n in range(THRESHOLD // 2)]
        kept.extend([n] for n in range(200))

    assert count_collections(work) >= 1


# ------------------------------------------------------------------------------------------------------- every way out


def test_the_threshold_is_as_before():
    with calm_collector():
        assert youngest() == THRESHOLD
    assert youngest() == USUAL[0]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, MemoryError, asyncio.CancelledError])
def test_the_threshold_is_as_before_whatever_is_raised(error):
    with pytest.raises(error), calm_collector():
        raise error
    assert youngest() == USUAL[0]


def test_the_threshold_is_as_before_when_a_task_is_cancelled():
    async def load():
        with calm_collector():
            await asyncio.sleep(60)

    async def main():
        task = asyncio.create_task(load())
        await asyncio.sleep(0)
        assert youngest() == THRESHOLD
        task.cancel()
        await asyncio.wait([task])
        assert youngest() == USUAL[0]

    asyncio.run(main())


def test_of_several_the_first_in_and_the_last_out_count():
    first, second = calm_collector(), calm_collector()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert youngest() == THRESHOLD
    second.__exit__(None, None, None)
    assert youngest() == USUAL[0]


def test_threads_come_and_go():
    def work():
        for _ in range(500):
            with calm_collector():
                assert youngest() == THRESHOLD

    failed = []
    threads = [threading.Thread(target=work) for _ in range(4)]
    hook, threading.excepthook = threading.excepthook, failed.append
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        threading.excepthook = hook
    assert (failed, youngest()) == ([], USUAL[0])


# --------------------------------------------------------------------------------------------- the application decides


def test_a_threshold_that_the_application_sets_meanwhile_stands():
    with calm_collector():
        gc.set_threshold(1234)
        with calm_collector():
            assert youngest() == 1234
    assert youngest() == 1234


@pytest.mark.parametrize("threshold", [0, THRESHOLD, 5 * THRESHOLD])
def test_a_threshold_of_none_or_of_more_is_left_alone(threshold):
    gc.set_threshold(threshold)
    with calm_collector():
        assert youngest() == threshold
    assert youngest() == threshold


def test_a_collector_that_is_off_is_left_alone():
    gc.disable()
    with calm_collector():
        assert (youngest(), gc.isenabled()) == (USUAL[0], False)
    assert (youngest(), gc.isenabled()) == (USUAL[0], False)


def test_a_collector_that_is_turned_off_meanwhile_stays_off():
    with calm_collector():
        gc.disable()
    assert (youngest(), gc.isenabled()) == (USUAL[0], False)


def test_a_collector_that_is_turned_on_meanwhile_is_calmed_by_the_next():
    gc.disable()
    with calm_collector():
        gc.enable()
        with calm_collector():
            assert youngest() == THRESHOLD
    assert youngest() == USUAL[0]


# ------------------------------------------------------------------------------------------------------------- a fork

FORK = """
import gc, os, sys, threading
from preheat import _collector
from preheat._collector import THRESHOLD, calm_collector

gc.set_threshold(700)
with calm_collector():
    held = {held!r}
    if held:  # another thread is about to leave when this one forks
        _collector._calm._lock.acquire()
    child = os.fork()
    if child and held:
        _collector._calm._lock.release()
    if child == 0:
        inside = gc.get_threshold()[0]
        with calm_collector():
            again = gc.get_threshold()[0]
        between = gc.get_threshold()[0]
    else:
        assert gc.get_threshold()[0] == THRESHOLD
if child == 0:
    os._exit((inside, again, between, gc.get_threshold()[0]) != (700, THRESHOLD, 700, 700))
assert os.waitpid(child, 0)[1] == 0
assert gc.get_threshold()[0] == 700
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("held", [False, True], ids=["free", "held by another thread"])
def test_a_forked_child_has_the_old_threshold_at_once_and_can_calm_it_itself(held):
    program = FORK.format(held=held)
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (shown.returncode, shown.stderr) == (0, "")
