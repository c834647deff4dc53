"""Histories that somebody or something has changed: never a crash, never believed, never much memory."""

from __future__ import annotations

import os
import random
import resource
import sqlite3

import pytest

from builders import batch, history_of
from preheat._history import HistoryBuilder, with_changes
from preheat._model import MIB
from preheat._store.encoding import decode_changes, decode_history, encode_changes, encode_history
from preheat._store.saves import SCHEMA, append_changes, find_newest, write_base
from preheat.errors import StoreCorrupt

RUNS = int(os.environ.get("PREHEAT_FAULT_RUNS", "25"))
MUTANTS = 10_000 if RUNS >= 1000 else 80 * RUNS
MOST_MEMORY = 64 * MIB


def recorded() -> HistoryBuilder:
    loads = {f"日{n}": (n, n / 10, f"v{n % 3}", f"recipe {n}") for n in range(100)}
    builder = HistoryBuilder(history_of(batch(list(loads), at=1000.0, loads=loads)))
    builder.fold(batch([f"日{n}" for n in range(50)] + ["new"], at=2000.0))
    return builder


def mutate(body: bytes, draw: random.Random) -> bytes:
    """One or two bytes flipped, the end cut off, a run of 0xff where lengths are, or a piece in another place."""
    mutant = bytearray(body)
    kind = draw.randrange(4)
    if kind == 0:
        for _ in range(draw.randint(1, 2)):
            mutant[draw.randrange(len(mutant))] ^= draw.randint(1, 255)
    elif kind == 1:
        del mutant[draw.randrange(len(mutant)) :]
    elif kind == 2:
        start, length = draw.randrange(len(mutant)), draw.choice([1, 2, 4, 8])
        mutant[start : start + length] = b"\xff" * length
    else:
        a, b, length = draw.randrange(len(mutant)), draw.randrange(len(mutant)), draw.randint(1, 16)
        mutant[a : a + length] = mutant[b : b + length]
    return bytes(mutant)


@pytest.fixture
def memory_is_bounded():
    """Fails if the test has made the process larger by more than 64 MiB."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before <= MOST_MEMORY


@pytest.mark.usefixtures("memory_is_bounded")
def test_mutants_with_checksums_of_their_own_are_refused_or_usable():
    draw = random.Random(1)
    builder = recorded()
    whole = {name: bytes(body) for name, body in encode_history(builder.history()).items()}
    outcomes = {"refused": 0, "usable": 0}
    names = [name for name, body in whole.items() if body]
    for _ in range(MUTANTS):
        name = draw.choice(["about", draw.choice(names)])
        try:
            history = decode_history(whole | {name: mutate(whole[name], draw)})
        except StoreCorrupt:
            outcomes["refused"] += 1
            continue
        outcomes["usable"] += 1
        assert len(list(history.keys)) == len(list(history.versions)) == len(list(history.recipes)) == len(history)
        HistoryBuilder(history).fold(batch(["日1", "more"], at=history.at + 1.0))
    assert min(outcomes.values()) > 0


@pytest.mark.usefixtures("memory_is_bounded")
def test_mutants_of_changes_with_checksums_of_their_own_are_refused_or_usable():
    draw = random.Random(2)
    builder = recorded()
    before = builder.history()
    changed = encode_changes(builder.changes())
    refused = 0
    for _ in range(MUTANTS):
        try:
            now = with_changes(before, decode_changes(mutate(changed, draw)))
            assert len(list(now.keys)) == len(now)
        except (StoreCorrupt, ValueError):
            refused += 1
    assert 0 < refused <= MUTANTS


@pytest.mark.usefixtures("memory_is_bounded")
def test_of_mutants_whose_checksum_is_wrong_none_is_accepted():
    draw = random.Random(3)
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(SCHEMA)
    builder = recorded()
    changes = builder.changes()
    saves = write_base(connection, encode_history(builder.history()))
    builder.fold(batch(["later"], at=3000.0))
    append_changes(connection, saves, [builder.changes()])
    assert changes is not None
    rows = connection.execute("SELECT rowid, body FROM base WHERE length(body) > 0").fetchall()
    [entry] = connection.execute("SELECT rowid, body FROM change").fetchall()
    for _ in range(MUTANTS):
        table, (row, body) = draw.choice([("base", draw.choice(rows)), ("change", entry)])
        mutant = mutate(body, draw)
        connection.execute(f"UPDATE {table} SET body = ? WHERE rowid = ?", (mutant, row))
        found = find_newest(connection)
        connection.execute(f"UPDATE {table} SET body = ? WHERE rowid = ?", (body, row))
        if mutant == body:
            assert found.damage is None
        elif table == "base":
            assert found.history is None
        else:
            assert len(found.history) == 101
            assert found.damage is not None
    assert len(find_newest(connection).history) == 102
    connection.close()


def test_the_control_a_pickle_does_what_its_writer_wants(tmp_path):
    """Why what is kept is columns and a checksum, and never a pickle."""
    import pickle

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    pickle.loads(pickle.dumps(Evil())).close()
    assert (tmp_path / "owned").exists()
