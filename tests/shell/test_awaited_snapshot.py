"""A snapshot that another process still owns: nothing is found, and nothing that is touched comes back."""

import pytest

from preheat._model import HeldValue
from preheat._snapshot import awaited
from preheat._snapshot.awaited import AwaitedSnapshot


class Kept:
    """What a snapshot does, in a dict."""

    def __init__(self, **values):
        self.values, self.erasures = values, 0

    def find(self, key, version):
        return HeldValue(key, version, self.values[key], 1, 0.0) if key in self.values else None

    def erase(self, keys):
        self.erasures += 1
        for key in keys:
            self.values.pop(key, None)

    def erase_all(self):
        self.erase(list(self.values))


@pytest.fixture
def kept():
    return Kept(a=1, b=2, c=3)


def test_nothing_is_found_before_and_what_was_looked_for_or_erased_not_after(kept):
    snapshot = AwaitedSnapshot()
    assert snapshot.find("a", "") is None
    snapshot.erase(["b"])
    snapshot.become(kept)
    assert [snapshot.find(key, "") for key in "ab"] == [None, None]
    assert snapshot.find("c", "").value == 3
    assert kept.values == {"c": 3}


def test_once_everything_was_erased_nothing_is_found(kept):
    snapshot = AwaitedSnapshot()
    snapshot.erase_all()
    snapshot.become(kept)
    assert kept.values == {}


def test_of_more_keys_than_are_remembered_none_is_restored(kept, monkeypatch):
    monkeypatch.setattr(awaited, "MOST_TOUCHED", 2)
    snapshot = AwaitedSnapshot()
    for key in ("x", "y", "z"):
        snapshot.find(key, "")
    snapshot.become(kept)
    assert kept.values == {}


def test_what_is_erased_afterwards_is_erased_in_the_other(kept):
    snapshot = AwaitedSnapshot()
    snapshot.become(kept)
    snapshot.erase(["a"])
    assert snapshot.find("a", "") is None
    snapshot.erase_all()
    assert kept.values == {}


def test_each_erasure_shows_and_becoming_another_one_does_too(kept):
    snapshot, seen = AwaitedSnapshot(), []
    seen.append(snapshot.erasures)
    snapshot.erase(["a"])
    seen.append(snapshot.erasures)
    snapshot.become(kept)
    seen.append(snapshot.erasures)
    snapshot.erase(["b"])
    seen.append(snapshot.erasures)
    assert sorted(set(seen)) == seen
