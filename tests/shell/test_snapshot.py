"""The snapshot of one cache: what is kept, what is written anew, what is erased, what expires."""

import errno
import os
import threading
import time

import numpy as np
import pytest

from preheat._history.forgetting import Forgotten
from preheat._snapshot import Rules, SnapshotFolder, forget_values, stack
from preheat._snapshot.folder import number_of, stem_of
from preheat._snapshot.instant import read_instant
from preheat._snapshot.layout import BLOCK_BYTES, MOST_KEY_BYTES, RECORDS_PER_BLOCK
from preheat.codecs import BytesCodec, DocumentCodec, TextCodec, VectorCodec
from preheat.errors import StoreError
from snapshots import START, Clocks, files, found, held, open_snapshot, save

HOUR, DAY = 3600.0, 86_400.0


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "snapshots"


def keys(first, last):
    return [held(f"key {n}") for n in range(first, last)]


# ------------------------------------------------------------------------------------------------------ kept


def test_what_was_saved_is_found_by_another_process(folder):
    values = [held(f"key {n}", size_bytes=n, made_at=START - n, expires_at=START + 10 + n) for n in range(3000)]
    assert save(open_snapshot(folder), values) == 3000
    snapshot = open_snapshot(folder)
    assert [snapshot.find(value.key, value.version) for value in values] == values
    assert snapshot.find("key 3000", "1") is None
    assert snapshot.status()["restored"] == 3000
    assert snapshot.status()["refused"] == {}


@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 5 * BLOCK_BYTES])
def test_values_of_any_size_are_kept(folder, size):
    values = [held(f"key {n}", bytes([n]) * size) for n in range(3)]
    save(open_snapshot(folder, codec=BytesCodec()), values)
    snapshot = open_snapshot(folder, codec=BytesCodec())
    assert [found(snapshot, value.key) for value in values] == [value.value for value in values]
    assert snapshot.verify() == 0


@pytest.mark.parametrize("count", [1, RECORDS_PER_BLOCK - 1, RECORDS_PER_BLOCK, RECORDS_PER_BLOCK + 1])
def test_an_index_of_any_length_finds_all(folder, count):
    save(open_snapshot(folder), keys(0, count))
    snapshot = open_snapshot(folder)
    assert all(found(snapshot, f"key {n}") == f"key {n}@1" for n in range(count))


def test_vectors_come_back_as_views_of_the_file(folder):
    vectors = np.random.default_rng(0).random((500, 384), np.float32)
    vectors.flags.writeable = False
    save(open_snapshot(folder, codec=VectorCodec()), [held(f"{n}", vectors[n]) for n in range(500)])
    snapshot = open_snapshot(folder, codec=VectorCodec())
    restored = [found(snapshot, f"{n}") for n in range(500)]
    assert all(np.array_equal(*pair) for pair in zip(restored, vectors, strict=True))
    assert not any(vector.flags.owndata or vector.flags.writeable for vector in restored)
    addresses = [vector.__array_interface__["data"][0] for vector in restored[:100]]
    assert addresses == list(range(addresses[0], addresses[0] + 100 * 1536, 1536))


def test_a_view_outlives_the_file_that_it_is_of(folder):
    vector = np.arange(384, dtype=np.float32)
    vector.flags.writeable = False
    save(open_snapshot(folder, codec=VectorCodec()), [held("a", vector)])
    snapshot = open_snapshot(folder, codec=VectorCodec())
    restored = found(snapshot, "a")
    snapshot.forget(Forgotten("cache", frozenset("a")))
    snapshot.close()
    assert files(folder) == []
    assert np.array_equal(restored, vector)


@pytest.mark.parametrize("name", ["key", "schlüssel", "\ud800", "../../etc/passwd", "\0", "", "k" * MOST_KEY_BYTES])
def test_keys_versions_and_cache_names_may_be_any_text(folder, name):
    cache = "cache" if name == "\ud800" or len(name) > 256 else name
    save(open_snapshot(folder, cache=cache), [held(name, version=name, value="v")])
    assert found(open_snapshot(folder, cache=cache), name, name) == "v"
    assert {path.parent for path in folder.rglob("*")} == {folder}


def test_a_key_that_is_too_long_is_refused_and_counted(folder):
    snapshot = open_snapshot(folder)
    assert save(snapshot, [held("k" * (MOST_KEY_BYTES + 1)), held("a")]) == 1
    assert snapshot.status()["refused"] == {"too large": 1}


def test_what_the_codec_would_change_is_refused_and_counted_once(folder):
    snapshot = open_snapshot(folder, codec=DocumentCodec())
    values = [held("list", [1]), held("tuple", (1,))]
    assert save(snapshot, values) == 1
    assert save(snapshot, values) == 0
    assert snapshot.status()["refused"] == {"can't be kept as it is": 1}
    assert found(snapshot, "list") == [1]
    assert found(snapshot, "tuple") is None


def test_a_codec_that_gives_no_bytes_costs_its_values_alone(folder):
    class Odd(TextCodec):
        def encode(self, value):
            return value

    snapshot = open_snapshot(folder, codec=Odd())
    assert save(snapshot, [held("a")]) == 0
    assert snapshot.status()["refused"] == {"can't be kept as it is": 1}


def test_two_caches_share_a_folder(folder):
    one, other = open_snapshot(folder, cache="one"), open_snapshot(folder, cache="other")
    save(one, [held("a", "of one")])
    save(other, [held("a", "of other")])
    one.erase(["a"])
    assert found(open_snapshot(folder, cache="one"), "a") is None
    assert found(open_snapshot(folder, cache="other"), "a") == "of other"


def test_names_of_files_say_nothing_about_what_is_in_them(folder):
    save(open_snapshot(folder, cache="secret cache"), [held("secret key", "secret value")])
    assert not any("secret" in path.name for path in folder.iterdir())
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in folder.iterdir())
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "name",
    [
        "",
        "x",
        "{stem}",
        "{stem}-1.values",
        "{stem}-{zeros}.values",
        "{stem}-{big}.values",
        "{stem}-00000000000000zz.values",
    ],
)
def test_a_name_that_we_would_not_give_is_no_generation(name):
    stem = stem_of("cache")
    assert number_of(stem, name.format(stem=stem, zeros="0" * 16, big="f" * 16)) is None


# ----------------------------------------------------------------------------------------- what is written anew


class Counting(TextCodec):
    def __init__(self):
        self.encoded = []

    def encode(self, value):
        self.encoded.append(value)
        return super().encode(value)


def test_what_has_not_changed_is_not_encoded_again(folder):
    codec = Counting()
    snapshot = open_snapshot(folder, codec=codec)
    save(snapshot, keys(0, 100))
    codec.encoded.clear()
    assert save(snapshot, keys(0, 100)) == 0
    assert codec.encoded == []
    changed = held("key 5", version="2", made_at=START - 1)
    save(snapshot, [changed, *keys(0, 5), *keys(6, 101)])
    assert codec.encoded == ["key 5@2", "key 100@1"]
    assert found(snapshot, "key 5", "2") == "key 5@2"
    assert found(snapshot, "key 5", "1") is None


def test_a_value_loaded_again_under_the_same_version_is_kept_anew(folder):
    snapshot = open_snapshot(folder)
    save(snapshot, [held("a", "old", made_at=START - 9)])
    save(snapshot, [held("a", "new", made_at=START - 1)])
    assert found(snapshot, "a") == "new"
    assert found(open_snapshot(folder), "a") == "new"


def test_a_cache_that_has_not_been_filled_again_loses_nothing(folder):
    save(open_snapshot(folder), keys(0, 100))
    restarted = open_snapshot(folder)
    save(restarted, keys(0, 3))
    assert all(found(open_snapshot(folder), f"key {n}") for n in range(100))


def test_small_generations_are_merged_and_large_ones_left_alone(folder):
    snapshot = open_snapshot(folder)
    save(snapshot, keys(0, 20_000))
    (large,) = files(folder)
    for n in range(40):
        save(snapshot, keys(0, 20_000 + 10 * (n + 1)))
        assert large.exists()
        assert len(files(folder)) < 8
    restarted = open_snapshot(folder)
    assert all(found(restarted, f"key {n}") for n in range(20_400))


def test_the_last_good_one_stays_until_the_next_is_durable(folder, monkeypatch):
    snapshot = open_snapshot(folder)
    save(snapshot, keys(0, 100))
    monkeypatch.setattr(os, "fsync", failing(errno.EIO))
    with pytest.raises(StoreError, match="Input/output error"):
        save(snapshot, keys(0, 200))
    monkeypatch.undo()
    assert found(snapshot, "key 1")
    assert files(folder, ".tmp") == []
    assert found(open_snapshot(folder), "key 1")
    assert save(snapshot, keys(0, 200)) > 0
    assert found(open_snapshot(folder), "key 150")


def failing(number):
    def fail(*_args, **_kwargs):
        raise OSError(number, os.strerror(number))

    return fail


def test_a_snapshot_stays_inside_its_limit_and_keeps_the_hottest(folder):
    limit = 400_000
    snapshot = open_snapshot(folder, codec=BytesCodec(), limit_bytes=limit)
    values = [held(f"key {n}", bytes(1000), size_bytes=1000) for n in range(1000)]
    for shown in range(100, 1001, 100):
        save(snapshot, values[:shown])
        assert sum(path.stat().st_size for path in files(folder)) <= limit
    assert found(snapshot, "key 0")
    assert found(snapshot, "key 999") is None


def test_a_cache_beyond_the_limit_is_not_written_anew_each_time(folder):
    snapshot = open_snapshot(folder, codec=BytesCodec(), limit_bytes=400_000)
    values = [held(f"key {n}", bytes(1000), size_bytes=1100) for n in range(1000)]
    assert save(snapshot, values) > 200
    assert save(snapshot, values) == 0


def test_newer_values_push_out_those_that_were_kept_before(folder):
    snapshot = open_snapshot(folder, codec=BytesCodec(), limit_bytes=400_000)
    old = [held(f"old {n}", bytes(1000), size_bytes=1000) for n in range(250)]
    new = [held(f"new {n}", bytes(1000), size_bytes=1000) for n in range(250)]
    save(snapshot, old)
    save(snapshot, new)
    assert all(found(snapshot, value.key) for value in new)
    assert sum(path.stat().st_size for path in files(folder)) <= 400_000


def test_one_that_owns_nothing_writes_and_restores_nothing(folder):
    save(open_snapshot(folder), keys(0, 10))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    other = open_snapshot(folder, is_owner=lambda: False)
    assert found(other, "key 1") is None
    assert save(other, keys(0, 20)) == 0
    other.erase(["key 1"])
    other.erase_all()
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}


# ------------------------------------------------------------------------------------------------------ erased


def test_what_was_erased_is_not_restored_here_or_later(folder):
    snapshot = open_snapshot(folder)
    save(snapshot, keys(0, 10))
    snapshot.erase(["key 1", "key 99"])
    for each in (snapshot, open_snapshot(folder)):
        assert found(each, "key 1") is None
        assert each.status()["refused"] == {"erased": 1}
        assert found(each, "key 2")


def test_what_was_erased_and_loaded_again_is_kept_again(folder):
    snapshot = open_snapshot(folder)
    save(snapshot, keys(0, 10))
    snapshot.erase(["key 1"])
    save(snapshot, [held("key 1", "new", made_at=START)])
    assert found(open_snapshot(folder), "key 1") == "new"


def test_what_is_erased_while_it_is_being_saved_does_not_come_back(folder):
    snapshot = open_snapshot(folder)
    save(snapshot, keys(0, 5))

    def collect():
        values = keys(0, 10)
        snapshot.erase(["key 1", "key 7"])  # after the cache was asked for what it holds
        return values

    snapshot.save(collect)
    for each in (snapshot, open_snapshot(folder)):
        assert [found(each, f"key {n}") is None for n in range(10)] == [n in (1, 7) for n in range(10)]


def test_everything_that_is_erased_while_it_is_being_saved_does_not_come_back(folder):
    snapshot = open_snapshot(folder)

    def collect():
        values = keys(0, 10)
        snapshot.erase_all()
        return values

    snapshot.save(collect)
    save(snapshot, [held("fresh")])
    for each in (snapshot, open_snapshot(folder)):
        assert [found(each, f"key {n}") for n in range(10)] == [None] * 10
        assert found(each, "fresh")


def test_what_was_erased_stays_so_when_generations_are_merged(folder):
    snapshot = open_snapshot(folder)
    for n in range(10):
        save(snapshot, keys(0, 10 * (n + 1)))
        snapshot.erase([f"key {10 * n}"])
        save(snapshot, keys(0, 10 * n)[1:])
    restarted = open_snapshot(folder)
    assert [n for n in range(100) if found(restarted, f"key {n}") is None][-1:] == [90]


def test_forgetting_takes_the_bytes_off_the_disk(folder):
    snapshot = open_snapshot(folder)
    save(snapshot, [held("a", "canary one"), held("b", "canary two")])
    save(snapshot, [held("a", "canary one"), held("b", "canary two"), *keys(0, 1000)])
    snapshot.forget(Forgotten("cache", frozenset("a")))
    content = b"".join(path.read_bytes() for path in folder.iterdir())
    assert b"canary one" not in content
    assert b"canary two" in content
    assert found(snapshot, "a") is None
    assert found(open_snapshot(folder), "b") == "canary two"
    assert [path.stat().st_size for path in files(folder, ".erased")] == [32]


def test_keys_are_forgotten_without_the_service_that_kept_them(tmp_path):
    def opened():
        return open_snapshot(
            tmp_path / "snapshots", codec=VectorCodec(np.int8), application_version="7", clock=read_instant
        )

    save(opened(), [held(key, vector(number), made_at=time.time()) for key, number in (("a", 1), ("b", 2))])
    assert forget_values(tmp_path, Forgotten("cache", frozenset("a")), is_owner=lambda: True)
    assert found(opened(), "a") is None
    assert found(opened(), "b") == vector(2)
    assert not forget_values(tmp_path, Forgotten("another", frozenset("a")), is_owner=lambda: True)
    assert not forget_values(tmp_path / "nowhere", Forgotten("cache", frozenset("a")), is_owner=lambda: True)
    with pytest.raises(StoreError, match="another process owns"):
        forget_values(tmp_path, Forgotten("cache", frozenset("b")), is_owner=lambda: False)


def vector(*numbers):
    made = np.array(numbers, np.int8)
    made.flags.writeable = False
    return made


@pytest.mark.parametrize("call", ["write", "open", "fsync"])
def test_where_an_erasure_can_t_be_written_down_nothing_is_restored_any_more(folder, monkeypatch, call):
    snapshot = open_snapshot(folder)
    save(snapshot, keys(0, 10))
    real = getattr(os, call)

    def failing_on_the_log(target, *args, **kwargs):
        if call != "open" or str(target).endswith(".erased"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(target, *args, **kwargs)

    monkeypatch.setattr(os, call, failing_on_the_log)
    snapshot.erase(["key 1"])
    snapshot.sync()
    monkeypatch.undo()
    for each in (snapshot, open_snapshot(folder)):
        assert [found(each, f"key {n}") for n in range(10)] == [None] * 10
    assert snapshot.status()["refused"] == {"what was erased of it can't be written down": 10}
    save(snapshot, keys(2, 10))
    assert found(open_snapshot(folder), "key 2")
    assert found(open_snapshot(folder), "key 1") is None


def test_erasing_what_is_not_there_writes_nothing(folder):
    snapshot = open_snapshot(folder)
    save(snapshot, keys(0, 10))
    (log,) = files(folder, ".erased")
    size = log.stat().st_size
    snapshot.erase([f"other {n}" for n in range(100)])
    snapshot.erase(["key 1"])
    snapshot.erase(["key 1"])
    assert log.stat().st_size == size + 32


def test_a_long_log_is_cut_short_by_the_next_save(folder, monkeypatch):
    monkeypatch.setattr("preheat._snapshot.erasures.MOST_LOG_BYTES", 3200)
    snapshot = open_snapshot(folder)
    save(snapshot, keys(0, 200))
    snapshot.erase([f"key {n}" for n in range(60)])
    save(snapshot, keys(60, 200))
    (log,) = files(folder, ".erased")
    assert log.stat().st_size == 32
    restarted = open_snapshot(folder)
    assert [n for n in range(200) if found(restarted, f"key {n}") is None] == list(range(60))


def test_readers_and_erasers_at_once_never_see_what_was_erased(folder):
    snapshot = open_snapshot(folder)
    values = keys(0, 400)
    save(snapshot, values)
    erased, wrong, ended = set(), [], threading.Event()

    def read():
        while not ended.is_set():
            for n in range(400):
                was_erased = n in erased
                if found(snapshot, f"key {n}") is not None and was_erased:
                    wrong.append(n)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for n in range(0, 400, 4):
        snapshot.erase([f"key {n}"])
        erased.add(n)
        if n % 40 == 0:
            snapshot.forget(Forgotten("cache", frozenset()))
    ended.set()
    for reader in readers:
        reader.join()
    assert wrong == []


# ---------------------------------------------------------------------------------------------------- versions, time


def test_another_version_of_an_item_is_refused(folder):
    save(open_snapshot(folder), [held("a", version="1")])
    snapshot = open_snapshot(folder)
    assert found(snapshot, "a", "2") is None
    assert snapshot.status()["refused"] == {"other version of the item": 1}


@pytest.mark.parametrize("downtime", [0.0, HOUR, DAY])
@pytest.mark.parametrize("shift", [-DAY, -HOUR, 0.0, HOUR, DAY])
@pytest.mark.parametrize("is_rebooted", [False, True])
def test_nothing_is_served_past_its_expiry_whatever_the_clock_says(folder, downtime, shift, is_rebooted):
    clock = Clocks()
    lives = [60.0, HOUR - 1, HOUR + 1, 2 * HOUR, DAY - 1, DAY + 1, 3 * DAY]
    save(
        open_snapshot(folder, clock=clock, max_age_seconds=2 * DAY),
        [held(f"{life}", expires_at=START + life) for life in lives],
    )
    clock.pass_by(downtime)
    if is_rebooted:
        clock.reboot()
    clock.at += shift
    snapshot = open_snapshot(folder, clock=clock, max_age_seconds=2 * DAY)
    served = [life for life in lives if found(snapshot, f"{life}") is not None]
    past = [life for life in served if life <= downtime]
    if is_rebooted and shift < 0 and -shift <= downtime:
        assert max(past, default=0.0) <= downtime  # a clock put back while the machine was off: nobody can tell
    else:
        assert past == []
    if shift < 0 and -shift > downtime:
        assert served == []
    if shift == 0.0:
        assert served == [life for life in lives if life > downtime]


def naive(expires_at, clock):
    return clock.at < expires_at


def test_the_control_a_comparison_with_the_wall_clock_alone_serves_what_has_expired():
    clock = Clocks()
    clock.pass_by(2 * HOUR)
    clock.set_back(HOUR)
    assert naive(START + HOUR + 1, clock)


def test_a_clock_put_back_while_the_process_runs_extends_nothing(folder):
    clock = Clocks()
    snapshot = open_snapshot(folder, clock=clock)
    save(snapshot, [held("a", expires_at=START + 100)])
    clock.pass_by(99)
    assert found(snapshot, "a")
    clock.pass_by(2)
    clock.set_back(50)
    assert found(snapshot, "a") is None
    assert snapshot.status()["refused"] == {"expired": 1}


def test_the_age_counts_from_when_a_value_was_loaded_however_often_it_is_saved(folder):
    clock = Clocks()
    value = held("a", made_at=START)
    for n in range(4):
        snapshot = open_snapshot(folder, clock=clock, max_age_seconds=100)
        kept = snapshot.find("a", "1") or value
        save(snapshot, [kept, held(f"other {n}", made_at=clock.at)])
        assert kept == value
        clock.pass_by(30)
    assert found(open_snapshot(folder, clock=clock, max_age_seconds=100), "a") is None


def test_a_value_that_has_expired_is_not_written_again(folder):
    clock = Clocks()
    snapshot = open_snapshot(folder, clock=clock, max_age_seconds=100)
    save(snapshot, [held("old"), held("short", expires_at=START + 10)])
    clock.pass_by(50)
    save(snapshot, [held("new", made_at=clock.at, size_bytes=10_000)])
    assert snapshot.status()["items"] == 2
    clock.pass_by(60)
    save(snapshot, [held("newer", made_at=clock.at, size_bytes=10_000)])
    assert found(snapshot, "new")
    assert b"old@1" not in b"".join(path.read_bytes() for path in files(folder))


def test_an_older_value_does_not_come_to_light_when_the_newer_one_has_expired_and_gone(folder):
    clock = Clocks()
    snapshot = open_snapshot(folder, clock=clock)
    save(snapshot, [held("a", "older"), *keys(0, 2000)])
    save(snapshot, [held("a", "newer", made_at=START - 1, expires_at=START + 10)])
    clock.pass_by(20)
    for each in (snapshot, open_snapshot(folder, clock=clock)):
        assert found(each, "a") is None
        save(each, [held(f"other {id(each)}", made_at=clock.at, size_bytes=10_000)])
        assert found(each, "a") is None
    assert found(open_snapshot(folder, clock=clock), "a") is None
    assert found(open_snapshot(folder, clock=clock), "key 1")


def test_an_older_value_is_not_restored_where_the_newer_one_could_not_be_kept(folder):
    snapshot = open_snapshot(folder)
    save(snapshot, [held("a", "older"), held("b")])
    save(snapshot, [held("a", b"newer, and no text", made_at=START - 1)])
    for each in (snapshot, open_snapshot(folder)):
        assert found(each, "a") is None
        assert found(each, "b")


def test_generations_that_are_too_old_are_removed(folder):
    clock = Clocks()
    snapshot = open_snapshot(folder, clock=clock, max_age_seconds=100)
    save(snapshot, keys(0, 10))
    clock.pass_by(101)
    save(snapshot, [])
    assert files(folder) == []


# --------------------------------------------------------------------------------------------------------- faults


def test_a_damaged_block_costs_its_items_alone(folder):
    values = [held(f"key {n}", bytes([n % 256]) * 1000) for n in range(1000)]
    save(open_snapshot(folder, codec=BytesCodec()), values)
    (file,) = files(folder)
    content = bytearray(file.read_bytes())
    content[BLOCK_BYTES + 500] ^= 1
    file.write_bytes(content)
    snapshot = open_snapshot(folder, codec=BytesCodec())
    restored = [found(snapshot, value.key) for value in values]
    lost = [n for n, value in enumerate(restored) if value is None]
    assert 200 < len(lost) < 300
    assert snapshot.status()["refused"] == {"damaged": len(lost)}
    assert all(value in (None, values[n].value) for n, value in enumerate(restored))
    assert snapshot.verify() == 1
    save(snapshot, values)
    restarted = open_snapshot(folder, codec=BytesCodec())
    assert [found(restarted, value.key) for value in values] == [value.value for value in values]


def test_a_value_that_can_t_be_decoded_is_refused(folder):
    class Failing(TextCodec):
        def decode(self, data):
            raise MemoryError

    save(open_snapshot(folder), [held("a")])
    snapshot = open_snapshot(folder, codec=Failing())
    assert found(snapshot, "a") is None
    assert snapshot.status()["refused"] == {"can't be decoded": 1}


def test_a_folder_that_can_t_be_made_is_a_store_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="can't be used"):
        SnapshotFolder(tmp_path / "file" / "snapshots")
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(StoreError, match="can't be used"):
        SnapshotFolder(tmp_path / "link")


def test_what_can_t_be_read_or_removed_is_a_store_error(folder, monkeypatch):
    save(open_snapshot(folder, application_version="1"), keys(0, 10))
    monkeypatch.setattr(os, "unlink", failing(errno.EROFS))
    with pytest.raises(StoreError, match="Read-only"):
        open_snapshot(folder, application_version="2")


def test_after_closing_nothing_is_restored_or_written(folder):
    snapshot = open_snapshot(folder)
    save(snapshot, keys(0, 10))
    snapshot.close()
    assert found(snapshot, "key 1") is None
    assert save(snapshot, keys(0, 20)) == 0
    snapshot.erase(["key 1"])
    assert found(open_snapshot(folder), "key 1")


def test_the_rules_have_the_defaults_of_the_settings():
    from preheat._settings import Settings

    rules, settings = Rules(), Settings()
    assert rules.max_age_seconds == settings.snapshot_max_age_seconds
    assert rules.limit_bytes == settings.snapshot_limit_mb * 2**20
    assert rules.application_version == settings.application_version
    assert stack.SPARE < 1
