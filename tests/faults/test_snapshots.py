"""Snapshots under kill -9, failing disks, pokes and mutants.  `PREHEAT_FAULT_RUNS` asks for more than a few runs."""

from __future__ import annotations

import os
import pickle
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from killing import kill_while
from preheat._history.forgetting import Forgotten
from preheat._snapshot.layout import FOOTER, INDEX_BLOCK, LEAD, SUM, VALUE_BLOCK, Header, checksum
from preheat._snapshot.stack import CacheSnapshot
from preheat.codecs import DocumentCodec, TextCodec
from preheat.errors import StoreError
from snapshots import START, Clocks, files, found, held, open_snapshot, save

RUNS = int(os.environ.get("PREHEAT_FAULT_RUNS", "15"))
MUTANTS = 10 * RUNS if RUNS < 1000 else 10_000
ITEMS = 300
MOST_EXTRA_BYTES = 64 * 2**20
HERE = Path(__file__)


def numbered(n: int) -> list:
    """What a cache holds at its `n`-th save: every value says which save made it."""
    return [held(f"key {k}", f"{n}:{k}:" + "x" * 200, made_at=START + n) for k in range(ITEMS)]


def number_of(snapshot: CacheSnapshot) -> int:
    """The save that the snapshot is of; 0 for none.  Fails if it is a mixture or not whole."""
    values = [found(snapshot, f"key {k}") for k in range(ITEMS)]
    if values == [None] * ITEMS:
        return 0
    assert None not in values
    numbers = {int(value.partition(":")[0]) for value in values}
    assert len(numbers) == 1
    assert all(value.split(":")[1] == str(k) for k, value in enumerate(values))
    return numbers.pop()


def late() -> Clocks:
    return Clocks(START + 1e5)


# -------------------------------------------------------------------------------------------------------- kill -9


def test_a_kill_at_any_moment_leaves_the_last_acknowledged_snapshot_or_a_newer_one(tmp_path):
    draw, known = random.Random(1), 0
    for _ in range(RUNS):

        def save_for_ever(acknowledge: Callable[[int], None], n: int = known) -> None:
            snapshot = open_snapshot(tmp_path, clock=late(), max_age_seconds=1e9)
            while True:
                n += 1
                save(snapshot, numbered(n))
                acknowledge(n)

        acknowledged = kill_while(save_for_ever, draw.uniform(0.0, 0.03))
        snapshot = open_snapshot(tmp_path, clock=late(), max_age_seconds=1e9)
        assert acknowledged <= number_of(snapshot) <= acknowledged + 1
        assert snapshot.status()["refused"] == {}
        assert files(tmp_path, ".tmp") == []
        known = number_of(snapshot)


def test_a_kill_never_brings_back_what_was_erased(tmp_path):
    draw = random.Random(2)
    for _ in range(RUNS):
        shutil.rmtree(tmp_path / "s", ignore_errors=True)

        def erase_and_save(acknowledge: Callable[[int], None]) -> None:
            snapshot = open_snapshot(tmp_path / "s", clock=late(), max_age_seconds=1e9)
            resident = {value.key: value for value in numbered(0)}
            save(snapshot, list(resident.values()))
            for k in range(ITEMS):
                del resident[f"key {k}"]
                snapshot.erase([f"key {k}"])
                acknowledge(k + 1)
                if k % 7 == 0:
                    save(snapshot, [*resident.values(), held(f"new {k}", made_at=START)])
                if k % 31 == 0:
                    snapshot.forget(Forgotten("cache", frozenset()))
            signal.pause()

        erased = kill_while(erase_and_save, draw.uniform(0.0, 0.15))
        snapshot = open_snapshot(tmp_path / "s", clock=late(), max_age_seconds=1e9)
        there = [k for k in range(ITEMS) if found(snapshot, f"key {k}") is not None]
        assert [k for k in there if k < erased] == []
        assert [k for k in range(erased + 1, ITEMS) if k not in there] == []


def test_the_control_a_snapshot_written_in_place_does_not_survive(tmp_path):
    """If this stops failing to survive, the kills come at the wrong moments and the tests above prove nothing."""
    assert broken_by_kills(tmp_path / "naive", lambda path, data: path.write_bytes(data)) > 0


def test_the_control_a_snapshot_that_is_unlinked_first_goes_missing(tmp_path):
    def unlink_and_rename(path: Path, data: bytes) -> None:
        path.with_suffix(".new").write_bytes(data)
        path.unlink(missing_ok=True)
        path.with_suffix(".new").rename(path)

    assert broken_by_kills(tmp_path / "naive", unlink_and_rename) > 0


def broken_by_kills(path: Path, write: Callable[[Path, bytes], object]) -> int:
    """Of up to 200 kills, how many left no whole file; stops at the first."""
    draw = random.Random(3)
    for _ in range(200):

        def write_for_ever(acknowledge: Callable[[int], None]) -> None:
            n = 0
            while True:
                n += 1
                write(path, pickle.dumps([value.value for value in numbered(n)]))
                acknowledge(n)

        kill_while(write_for_ever, draw.uniform(0.0, 0.01))
        try:
            if len(pickle.loads(path.read_bytes())) != ITEMS:
                return 1
        except Exception:
            return 1
    return 0


# --------------------------------------------------------------------------------------------------- failing disks

CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import faults.test_snapshots as t
from snapshots import open_snapshot, save
from preheat.errors import StoreError
folder = Path({folder!r})
try:
    snapshot = open_snapshot(folder, clock=t.late(), max_age_seconds=1e9)
    save(snapshot, t.numbered(2))
    print("saved")
    snapshot.erase(["key 0"])
    snapshot.sync()
except StoreError as error:
    print("refused", error)
print("went on")
"""

FAULTS = [
    (call, fault)
    for call in ("write", "fsync", "rename,renameat,renameat2", "openat", "unlink,unlinkat", "mmap")
    for fault in ("error=EIO", "error=ENOSPC", "signal=SIGKILL", *(["retval=1"] if call == "write" else []))
]
MOST_CALLS = 100 if RUNS >= 1000 else 2


def can_inject() -> bool:
    if shutil.which("strace") is None:
        return False
    probe = ["strace", "-o", "/dev/null", "-e", "inject=fsync:error=EIO", "true"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize(("call", "fault"), FAULTS, ids=lambda part: part.split(",")[0])
def test_a_call_to_the_disk_that_fails_leaves_the_old_snapshot_or_the_new(tmp_path, call, fault):
    if not can_inject():
        pytest.skip("strace can't inject faults here")
    prepared = tmp_path / "prepared"
    save(open_snapshot(prepared, clock=late(), max_age_seconds=1e9), numbered(1))
    for nth in range(1, MOST_CALLS + 1):
        folder = tmp_path / f"{nth}"
        shutil.copytree(prepared, folder)
        said, is_injected = run_with_fault(folder, call, fault, nth)
        if not is_injected:
            break
        assert said.returncode in (0, -signal.SIGKILL, 128 + signal.SIGKILL), said.stderr
        assert said.returncode or "went on" in said.stdout
        snapshot = open_snapshot(folder, clock=late(), max_age_seconds=1e9)
        values = {k: found(snapshot, f"key {k}") for k in range(1, ITEMS)}
        numbers = {None if value is None else value.partition(":")[0] for value in values.values()}
        # what could be neither written down as erased nor doubted any less is gone; nothing is a mixture
        assert numbers in ({"1"}, {"2"}, {None}), (nth, said.stdout)
        if numbers == {None}:
            assert call != "rename,renameat,renameat2" or "saved" not in said.stdout
        save(snapshot, numbered(3))
        assert files(folder, ".tmp") == []
        assert number_of(open_snapshot(folder, clock=late(), max_age_seconds=1e9)) == 3
    assert nth > 1


def run_with_fault(folder: Path, call: str, fault: str, nth: int) -> tuple[subprocess.CompletedProcess[str], bool]:
    """What a process says that saves over `folder` while the `nth` such call fails; and whether there was one."""
    program = CHILD.format(tests=str(HERE.parents[1]), folder=str(folder))
    there = [*folder.iterdir(), *next_names(folder)]
    watched = [argument for path in (folder, *there) for argument in ("-P", str(path))]
    inject = ["-e", f"trace={call}", "-e", f"inject={call}:{fault}:when={nth}"]
    trace = folder.with_suffix(".trace")
    command = ["strace", "-f", "-o", str(trace), *watched, *inject, sys.executable, "-c", program]
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=environ)
    traced = trace.read_text(errors="replace")
    return said, "(INJECTED)" in traced or "killed by SIGKILL" in traced


def next_names(folder: Path) -> list[Path]:
    """The files that the next save of `folder` will write."""
    (last,) = files(folder)
    name = last.name.replace("0000000000000001", "0000000000000002")
    return [folder / name, folder / f"{name}.tmp"]


def test_a_full_disk_costs_the_snapshot_and_nothing_else(tmp_path):
    snapshot = open_snapshot(tmp_path, clock=late(), max_age_seconds=1e9)
    save(snapshot, numbered(1))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(StoreError, match="can't be kept"):
            save(snapshot, numbered(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert number_of(snapshot) == number_of(open_snapshot(tmp_path, clock=late(), max_age_seconds=1e9)) == 1
    assert files(tmp_path, ".tmp") == []
    save(snapshot, numbered(2))
    assert number_of(snapshot) == 2


# ------------------------------------------------------------------------------------------------------ trust gates


def rewrite_header(file: Path, **fields: object) -> None:
    """Give `file` another header of the same length, with a checksum that is right."""
    content = bytearray(file.read_bytes())
    (size,) = struct.unpack_from("<I", content, 12)
    body = content[LEAD.size : LEAD.size + size]
    header = msgspec.msgpack.decode(body, type=Header)
    changed = msgspec.msgpack.encode(msgspec.structs.replace(header, **fields))
    assert len(changed) == size
    content[LEAD.size : LEAD.size + size] = changed
    content[LEAD.size + size : LEAD.size + size + 8] = SUM.pack(checksum(bytes(content[: LEAD.size + size])))
    file.write_bytes(content)


def poke(file: Path, at: int, data: bytes) -> None:
    content = bytearray(file.read_bytes())
    content[at : at + len(data)] = data
    file.write_bytes(content)


def replace_by_link(file: Path) -> None:
    target = file.parent.parent / "target"
    file.rename(target)
    file.symlink_to(target)


def replace_by_fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file, 0o600)


def move_to_another_number(file: Path) -> None:
    file.rename(file.with_name(file.name.replace("0001.values", "0009.values")))


GATES = {
    "no snapshot": lambda file: poke(file, 0, b"X"),
    "other format": lambda file: poke(file, 8, b"\x63"),
    "other codec": lambda file: rewrite_header(file, codec="taxt"),
    "other codec version": lambda file: rewrite_header(file, codec_version="2"),
    "other application version": lambda file: rewrite_header(file, application_version="8"),
    "other cache": lambda file: rewrite_header(file, cache="catch"),
    "from the future": lambda file: rewrite_header(file, created_at=START + 1e6),
    "too old": lambda file: rewrite_header(file, created_at=START - 1e9),
    "damaged: no instant": lambda file: rewrite_header(file, created_at=float("nan")),
    "damaged: moved to another number": move_to_another_number,
    "damaged: header": lambda file: poke(file, LEAD.size + 5, b"\xff"),
    "damaged: cut short": lambda file: os.truncate(file, file.stat().st_size - 1),
    "damaged: longer": lambda file: poke(file, file.stat().st_size, b"\0"),
    "damaged: empty": lambda file: os.truncate(file, 0),
    "damaged: not sealed": lambda file: poke(file, file.stat().st_size - FOOTER.size, b"unsealed"),
    "others may write to it": lambda file: file.chmod(0o620),
    "belongs to somebody else": lambda file: os.chown(file, 12345, -1),
    "not a plain file": replace_by_link,
    "not a plain file: a pipe": replace_by_fifo,
    "its log of erasures is missing or damaged": lambda file: log_of(file).unlink(),
    "its log of erasures is missing or damaged: poked": lambda file: poke(log_of(file), 0, b"X"),
    "its log of erasures is missing or damaged: torn": lambda file: poke(log_of(file), 32, b"torn"),
    "its log of erasures is missing or damaged: cut": lambda file: os.truncate(log_of(file), 5),
    "its log of erasures is missing or damaged: foreign": lambda file: log_of(file).chmod(0o606),
}


def log_of(file: Path) -> Path:
    return file.with_name(file.name.partition("-")[0] + ".erased")


@pytest.mark.parametrize("gate", GATES)
def test_what_can_t_be_trusted_is_dropped_and_one_start_heals_it(tmp_path, gate):
    def start() -> CacheSnapshot:
        return open_snapshot(tmp_path / "s", clock=late(), application_version="7", max_age_seconds=1e8)

    if "else" in gate and os.geteuid():
        pytest.skip("only root can give a file away")
    save(start(), numbered(1))
    GATES[gate](files(tmp_path / "s")[0])
    dropped = start()
    assert number_of(dropped) == 0
    reason = gate.partition(":")[0].removesuffix(" version") if "codec" in gate else gate.partition(":")[0]
    refused = dropped.status()["refused"]
    assert refused == ({reason: 1} if "foreign" not in gate else {"others may write to it": 1})
    assert files(tmp_path / "s") == []
    save(dropped, numbered(2))
    healed = start()
    assert number_of(healed) == 2
    assert healed.status()["refused"] == {}


def test_a_folder_that_others_may_write_to_is_emptied_closed_to_them_and_used_again(tmp_path):
    save(open_snapshot(tmp_path / "s", clock=late()), numbered(1))
    (tmp_path / "s").chmod(0o770)
    (tmp_path / "s" / "notes.txt").write_text("not ours")
    opened = open_snapshot(tmp_path / "s", clock=late(), max_age_seconds=1e9)
    assert number_of(opened) == 0
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o700
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["notes.txt"]
    save(opened, numbered(2))
    assert number_of(open_snapshot(tmp_path / "s", clock=late(), max_age_seconds=1e9)) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_somebody_else_is_not_used(tmp_path):
    save(open_snapshot(tmp_path / "s", clock=late()), numbered(1))
    os.chown(tmp_path / "s", 12345, -1)
    with pytest.raises(StoreError, match=r"somebody else \(uid 12345\); remove it"):
        open_snapshot(tmp_path / "s", clock=late())


# ---------------------------------------------------------------------------------------------------------- mutants


def sealed_anew(content: bytearray) -> bytes:
    """`content` with every checksum made right again that can be found."""
    with suppress(struct.error, ValueError, OverflowError):
        (size,) = struct.unpack_from("<I", content, 12)
        end = LEAD.size + size
        struct.pack_into("<Q", content, end, checksum(bytes(content[:end])))
        foot = len(content) - FOOTER.size
        _, at, n_values, n_index, _, _, _ = FOOTER.unpack_from(content, foot)
        for n in range(min(n_values, 1000)):
            seal_block(content, at + n * VALUE_BLOCK.itemsize, VALUE_BLOCK.itemsize)
        for n in range(min(n_index, 1000)):
            seal_block(content, at + n_values * VALUE_BLOCK.itemsize + n * INDEX_BLOCK.itemsize, INDEX_BLOCK.itemsize)
        struct.pack_into("<Q", content, foot + FOOTER.size - 16, checksum(bytes(content[at:foot])))
        struct.pack_into("<Q", content, len(content) - 8, checksum(bytes(content[foot:-8])))
    return bytes(content)


def seal_block(content: bytearray, row: int, size: int) -> None:
    at, length = struct.unpack_from("<QI", content, row)
    struct.pack_into("<Q", content, row + size - 8, checksum(bytes(content[at : at + length])))


def mutated(content: bytes, draw: random.Random) -> bytearray:
    """`content` with a byte or two flipped, a number made hostile, or cut short; half of it where it is laid out."""
    changed = bytearray(content)
    kind = draw.randrange(4)
    if kind == 0:
        del changed[draw.randrange(len(changed)) :]
        return changed
    laid_out = draw.choice([range(64), range(len(content) - 2000, len(content)), range(len(content))])
    for _ in range(draw.randint(1, 2)):
        at = draw.choice(laid_out)
        if kind == 1 and at + 8 <= len(changed):
            changed[at : at + 4] = draw.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"\0\0\0\x80"])
        else:
            changed[at] ^= 1 << draw.randrange(8)
    return changed


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("is_sealed_anew", [False, True], ids=["wrong checksums", "right checksums"])
@pytest.mark.parametrize("codec", [TextCodec(), DocumentCodec()], ids=lambda codec: codec.name)
def test_a_mutant_neither_crashes_nor_is_believed(tmp_path, is_sealed_anew, codec):
    draw, clock = random.Random(4), late()
    originals = {value.key: value.value for value in numbered(1)}
    if codec.name == "documents":
        originals = {key: {"text": text, "parts": text.split(":"), "n": 1.5} for key, text in originals.items()}

    def start() -> CacheSnapshot:
        return open_snapshot(tmp_path, clock=clock, max_age_seconds=1e9, codec=codec)

    save(start(), [held(key, value, made_at=START) for key, value in originals.items()])
    (file,) = files(tmp_path)
    (log,) = files(tmp_path, ".erased")
    good, good_log = file.read_bytes(), log.read_bytes()
    peak = peak_bytes()
    believed = 0
    for _ in range(MUTANTS // 4):
        mutant = mutated(good, draw)
        file.write_bytes(sealed_anew(mutant) if is_sealed_anew else mutant)
        log.write_bytes(good_log)
        snapshot = start()
        for key in originals:
            value = found(snapshot, key)
            believed += value is not None and value != originals[key]
        snapshot.verify()
        save(snapshot, [held("new", originals["key 0"], made_at=START, size_bytes=10**6)])
        assert found(start(), "new") == originals["key 0"]
        for other in files(tmp_path):
            if other != file:
                other.unlink()
    assert is_sealed_anew or believed == 0
    assert peak_bytes() - peak <= MOST_EXTRA_BYTES


def test_a_mutant_log_of_erasures_restores_nothing_that_was_erased(tmp_path):
    draw, clock = random.Random(5), late()
    snapshot = open_snapshot(tmp_path, clock=clock, max_age_seconds=1e9)
    save(snapshot, numbered(1))
    snapshot.erase([f"key {k}" for k in range(50)])
    (file,), (log,) = files(tmp_path), files(tmp_path, ".erased")
    good, good_log = file.read_bytes(), log.read_bytes()
    for _ in range(RUNS * 4):
        changed = bytearray(good_log)
        for _ in range(draw.randint(1, 2)):
            changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
        file.write_bytes(good)
        log.write_bytes(changed)
        if changed != good_log:
            restarted = open_snapshot(tmp_path, clock=clock, max_age_seconds=1e9)
            assert number_of(restarted) == 0
            assert restarted.status()["refused"] == {"its log of erasures is missing or damaged": 1}


def test_the_control_a_pickle_runs_what_it_is_told(tmp_path):
    ran = tmp_path / "ran"
    payload = pickle.dumps(Command(str(ran)))
    pickle.loads(payload)
    assert ran.exists()
    ran.unlink()
    save(open_snapshot(tmp_path / "s", clock=late(), max_age_seconds=1e9), [held("a", "x" * len(payload))])
    (file,) = files(tmp_path / "s")
    file.write_bytes(sealed_anew(bytearray(file.read_bytes().replace(b"x" * len(payload), payload))))
    for codec in (TextCodec(), DocumentCodec()):
        found(open_snapshot(tmp_path / "s", clock=late(), codec=codec, max_age_seconds=1e9), "a")
    assert not ran.exists()


class Command:
    """A pickle of this makes a file when it is read."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, int]]:
        return os.mknod, (self.path, 0o600)
