"""`preheat history merge` as a user drives it."""

import json
import os
import subprocess
import sys

import pytest

from builders import batch, history_of
from preheat._store import SqliteStore

NOON = 1_790_000_000.0


def keep(folder, history):
    store = SqliteStore(folder)
    store.save(history)
    store.close()


@pytest.fixture
def preheat(tmp_path):
    keep(tmp_path / "one", history_of(batch(["home", "cart", "home"], NOON, "pages")))
    keep(tmp_path / "two", history_of(batch(["home", "faq"], NOON - 60, "pages")))

    def call(*arguments):
        return subprocess.run(
            [sys.executable, "-W", "error", "-m", "preheat.cli", "history", *arguments],
            cwd=tmp_path,
            env=os.environ | {"CACHE_WARMUP_STATE_DIR": "mine"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return call


def test_folders_and_files_become_one_in_any_order_and_however_often(preheat, tmp_path):
    told = preheat("merge", "one", "two", "--output", "fleet.pool")
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout == "3 items of 2 replicas; no count is too low by more than 0 accesses\n"
    first = (tmp_path / "fleet.pool").read_bytes()
    assert preheat("merge", "two", "--output", "other.pool").returncode == 0
    assert preheat("merge", "other.pool", "one", "fleet.pool", "two", "--output", "other.pool").returncode == 0
    assert (tmp_path / "other.pool").read_bytes() == first
    assert (tmp_path / "fleet.pool").stat().st_mode & 0o777 == 0o600


def test_json_names_the_replicas(preheat):
    told = json.loads(preheat("merge", "one", "two", "--json").stdout)
    assert (told["schema"], told["items"], len(told["replicas"])) == ("preheat-merged/1", 3, 2)


def test_without_output_it_goes_beside_what_was_recorded_and_can_be_forgotten(preheat, tmp_path):
    assert preheat("merge", "one", "two").returncode == 0
    kept = tmp_path / "mine" / "peers.pool"
    assert b"home" in kept.read_bytes()
    assert preheat("forget", "pages", "home").returncode == 0
    assert b"home" not in kept.read_bytes()
    assert b"cart" in kept.read_bytes()


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda path: path.write_bytes(b"something else"), "is no file of pooled histories"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "was cut"),
        (lambda path: path.unlink(), "can't be read: No such file or directory"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "is no regular file"),
    ],
)
def test_a_file_that_is_none_is_named_in_one_sentence(preheat, tmp_path, spoil, told):
    assert preheat("merge", "one", "--output", "fleet.pool").returncode == 0
    spoil(tmp_path / "fleet.pool")
    shown = preheat("merge", "fleet.pool")
    assert shown.returncode == 2
    assert told in shown.stderr
    assert "Traceback" not in shown.stderr


def test_a_damaged_contribution_is_left_out_and_named(preheat, tmp_path):
    assert preheat("merge", "one", "two", "--output", "fleet.pool").returncode == 0
    path = tmp_path / "fleet.pool"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    shown = preheat("merge", "fleet.pool", "--output", "mended.pool")
    assert shown.returncode == 0
    assert "is damaged; it was left out" in shown.stderr
    assert "of 1 replicas" in shown.stdout
