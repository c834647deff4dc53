"""Recorded trees in, readings out; then the machine that this runs on."""

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from preheat import _memory
from preheat._blocks import IS_FREE_THREADED
from preheat._cgroup import discover_layout
from preheat._memory import SystemMemory, describe_memory, release_free_memory
from preheat._model import MIB, MemoryReading

GIB = 1024 * MIB
V1_UNLIMITED = "9223372036854771712\n"
V1_MOUNT = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
V2_MOUNT = "31 23 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
HYBRID_MOUNTS = (
    "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n"
    + V1_MOUNT
    + "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
)
MACHINE = {
    "proc/meminfo": "MemTotal:       16777216 kB\nMemFree:         8388608 kB\nMemAvailable:   12582912 kB\n",
    "proc/self/statm": "50000 25600 5000 5 0 12300 0\n",
}
PRESSURE = "some avg10={} avg60=0.00 avg300=0.00 total=0\nfull avg10=90.00 avg60=0.00 avg300=0.00 total=0\n"


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def v1(directory: str, limit: int | str, used: int, inactive: int = 0) -> dict[str, str]:
    return {
        f"{directory}/memory.limit_in_bytes": f"{limit}\n",
        f"{directory}/memory.usage_in_bytes": f"{used}\n",
        f"{directory}/memory.stat": f"cache 1\ninactive_file 7\ntotal_inactive_file {inactive}\n",
    }


def v2(directory: str, limit: int | str, used: int, inactive: int = 0, high: int | str = "max") -> dict[str, str]:
    return {
        f"{directory}/memory.max": f"{limit}\n",
        f"{directory}/memory.high": f"{high}\n",
        f"{directory}/memory.current": f"{used}\n",
        f"{directory}/memory.stat": f"anon 1\ninactive_anon 7\ninactive_file {inactive}\n",
    }


def on_v1(path: str = "/app") -> dict[str, str]:
    return MACHINE | {"proc/self/cgroup": f"4:memory:{path}\n3:cpu:/\n", "proc/self/mountinfo": V1_MOUNT}


def on_v2(path: str = "/app") -> dict[str, str]:
    return MACHINE | {"proc/self/cgroup": f"0::{path}\n", "proc/self/mountinfo": V2_MOUNT}


V1, V2 = "sys/fs/cgroup/memory", "sys/fs/cgroup"
TREES: dict[str, tuple[dict[str, str], tuple[int, int, int, str]]] = {
    "v1": (
        on_v1() | v1(f"{V1}/app", GIB, 600 * MIB, 100 * MIB),
        (GIB, 600 * MIB, 100 * MIB, "cgroup v1 /app memory.limit_in_bytes"),
    ),
    "v1 without a limit": (
        on_v1() | v1(f"{V1}/app", V1_UNLIMITED.strip(), 600 * MIB) | v1(V1, V1_UNLIMITED.strip(), GIB),
        (16 * GIB, 8 * GIB, 4 * GIB, "/proc/meminfo"),
    ),
    "v1 without a limit on 64 KiB pages": (
        on_v1() | v1(f"{V1}/app", 9223372036854710272, 600 * MIB),
        (16 * GIB, 8 * GIB, 4 * GIB, "/proc/meminfo"),
    ),
    "v1 below a tighter ancestor": (
        on_v1("/a/b") | v1(f"{V1}/a/b", 4 * GIB, GIB) | v1(f"{V1}/a", 2 * GIB, 1900 * MIB),
        (2 * GIB, 1900 * MIB, 0, "cgroup v1 /a memory.limit_in_bytes"),
    ),
    "v1 with a tighter ancestor out of sight": (
        on_v1()
        | v1(f"{V1}/app", 4 * GIB, 300 * MIB)
        | {f"{V1}/app/memory.stat": f"hierarchical_memory_limit {512 * MIB}\ntotal_inactive_file {MIB}\n"},
        (512 * MIB, 300 * MIB, MIB, "cgroup v1 /app hierarchical_memory_limit"),
    ),
    "v1 with the mount of a container": (
        on_v1("/docker/c0ffee")
        | {"proc/self/mountinfo": V1_MOUNT.replace("0:32 / ", "0:32 /docker/c0ffee ")}
        | v1(V1, GIB, 600 * MIB),
        (GIB, 600 * MIB, 0, "cgroup v1 /docker/c0ffee memory.limit_in_bytes"),
    ),
    "v2": (
        on_v2() | v2(f"{V2}/app", GIB, 600 * MIB, 100 * MIB),
        (GIB, 600 * MIB, 100 * MIB, "cgroup v2 /app memory.max"),
    ),
    "v2 max": (
        on_v2() | v2(f"{V2}/app", "max", 600 * MIB),
        (16 * GIB, 8 * GIB, 4 * GIB, "/proc/meminfo"),
    ),
    "v2 high below max": (
        on_v2() | v2(f"{V2}/app", 2 * GIB, 600 * MIB, high=GIB),
        (GIB, 600 * MIB, 0, "cgroup v2 /app memory.high"),
    ),
    "v2 high alone": (
        on_v2() | v2(f"{V2}/app", "max", 600 * MIB, high=GIB),
        (GIB, 600 * MIB, 0, "cgroup v2 /app memory.high"),
    ),
    "v2 below a tighter ancestor": (
        on_v2("/pods/pod/app") | v2(f"{V2}/pods/pod/app", 4 * GIB, GIB) | v2(f"{V2}/pods", 3 * GIB, 2900 * MIB),
        (3 * GIB, 2900 * MIB, 0, "cgroup v2 /pods memory.max"),
    ),
    "v2 below an ancestor with a larger but fuller limit": (
        on_v2("/a/b") | v2(f"{V2}/a/b", 2 * GIB, 0) | v2(f"{V2}/a", 8 * GIB, 7 * GIB),
        (8 * GIB, 7 * GIB, 0, "cgroup v2 /a memory.max"),
    ),
    "v2 in a cgroup namespace": (
        on_v2("/kubepods/pod/app") | v2(V2, GIB, 600 * MIB),
        (GIB, 600 * MIB, 0, "cgroup v2 / memory.max"),
    ),
    "v2 in a namespace that it left": (
        on_v2("/../other") | v2(V2, GIB, 600 * MIB) | v2("sys/fs/other", MIB, MIB),
        (GIB, 600 * MIB, 0, "cgroup v2 / memory.max"),
    ),
    "v2 mounted elsewhere": (
        on_v2()
        | {"proc/self/mountinfo": V2_MOUNT.replace("/sys/fs/cgroup", "/mnt/control\\040groups")}
        | v2("mnt/control groups/app", GIB, 600 * MIB),
        (GIB, 600 * MIB, 0, "cgroup v2 /app memory.max"),
    ),
    "v2 without mountinfo": (
        {**on_v2(), "proc/self/mountinfo": ""} | v2(f"{V2}/app", GIB, 600 * MIB),
        (GIB, 600 * MIB, 0, "cgroup v2 /app memory.max"),
    ),
    "v1 without mountinfo": (
        {**on_v1(), "proc/self/mountinfo": "no such thing\n"} | v1(f"{V1}/app", GIB, 600 * MIB),
        (GIB, 600 * MIB, 0, "cgroup v1 /app memory.limit_in_bytes"),
    ),
    "v2 larger than the machine": (
        on_v2() | v2(f"{V2}/app", 64 * GIB, GIB),
        (16 * GIB, 8 * GIB, 4 * GIB, "/proc/meminfo"),
    ),
    "v2 full": (
        on_v2() | v2(f"{V2}/app", GIB, GIB + MIB),
        (GIB, GIB + MIB, 0, "cgroup v2 /app memory.max"),
    ),
    "hybrid with memory on v1": (
        MACHINE
        | {"proc/self/cgroup": "4:memory:/app\n0::/\n", "proc/self/mountinfo": HYBRID_MOUNTS}
        | v1(f"{V1}/app", GIB, 600 * MIB)
        | {"sys/fs/cgroup/unified/cgroup.procs": ""},
        (GIB, 600 * MIB, 0, "cgroup v1 /app memory.limit_in_bytes"),
    ),
    "v1 with controllers mounted together": (
        on_v1()
        | {"proc/self/cgroup": "4:cpu,memory:/app\n"}
        | {"proc/self/mountinfo": "35 31 0:32 / /cg rw - cgroup cgroup rw,cpu,memory\n"}
        | v1("cg/app", GIB, 600 * MIB),
        (GIB, 600 * MIB, 0, "cgroup v1 /app memory.limit_in_bytes"),
    ),
    "no cgroups": (MACHINE, (16 * GIB, 8 * GIB, 4 * GIB, "/proc/meminfo")),
    "no meminfo": (
        {k: v for k, v in on_v2().items() if k != "proc/meminfo"} | v2(f"{V2}/app", GIB, 600 * MIB),
        (GIB, 600 * MIB, 0, "cgroup v2 /app memory.max"),
    ),
    "garbage in the limit": (
        on_v2() | v2(f"{V2}/app", "plenty", 600 * MIB, high="-5") | v2(V2, 2 * GIB, 600 * MIB),
        (2 * GIB, 600 * MIB, 0, "cgroup v2 / memory.max"),
    ),
    "usage that is no number": (
        on_v2() | v2(f"{V2}/app", GIB, 0) | {f"{V2}/app/memory.current": "\n"},
        (16 * GIB, 8 * GIB, 4 * GIB, "/proc/meminfo"),
    ),
    "statistics missing": (
        on_v2() | v2(f"{V2}/app", GIB, 600 * MIB) | {f"{V2}/app/memory.stat": ""},
        (GIB, 600 * MIB, 0, "cgroup v2 /app memory.max"),
    ),
    "more available than there is": (
        on_v2() | v2(f"{V2}/app", GIB, 0) | {"proc/meminfo": "MemTotal: 100 kB\nMemFree: 1 kB\nMemAvailable: 200 kB\n"},
        (GIB, 0, 0, "cgroup v2 /app memory.max"),
    ),
    "more reclaimable than used": (
        on_v2() | v2(f"{V2}/app", GIB, 600 * MIB, 700 * MIB),
        (GIB, 600 * MIB, 700 * MIB, "cgroup v2 /app memory.max"),
    ),
    "usage above the limit, and a larger one of an ancestor": (
        on_v1("/a/b") | v1(f"{V1}/a/b", GIB, 2 * GIB) | v1(f"{V1}/a", 3 * GIB, 2 * GIB),
        (GIB, 2 * GIB, 0, "cgroup v1 /a/b memory.limit_in_bytes"),
    ),
    "both versions limit memory, and not alike": (
        MACHINE
        | {"proc/self/cgroup": "4:memory:/app\n0::/app\n", "proc/self/mountinfo": HYBRID_MOUNTS}
        | v1(f"{V1}/app", 2 * GIB, 600 * MIB)
        | v2("sys/fs/cgroup/unified/app", GIB, 600 * MIB),
        (GIB, 600 * MIB, 0, "cgroup v2 /app memory.max"),
    ),
    "the hierarchical limit looser than the own one": (
        on_v1()
        | v1(f"{V1}/app", GIB, 600 * MIB)
        | {f"{V1}/app/memory.stat": f"hierarchical_memory_limit {2 * GIB}\ntotal_inactive_file 0\n"},
        (GIB, 600 * MIB, 0, "cgroup v1 /app memory.limit_in_bytes"),
    ),
    "membership in a cgroup that is not there": (
        on_v2("/gone") | v2(f"{V2}/app", MIB, MIB) | v2(V2, 2 * GIB, GIB),
        (2 * GIB, GIB, 0, "cgroup v2 / memory.max"),
    ),
    "high above max": (
        on_v2() | v2(f"{V2}/app", GIB, 600 * MIB, high=2 * GIB),
        (GIB, 600 * MIB, 0, "cgroup v2 /app memory.max"),
    ),
    "more free than available": (
        MACHINE | {"proc/meminfo": "MemTotal: 100 kB\nMemFree: 60 kB\nMemAvailable: 50 kB\n"},
        (100 * 1024, 50 * 1024, 0, "/proc/meminfo"),
    ),
}


@pytest.mark.parametrize("name", TREES)
def test_the_tightest_limit_of_a_recorded_tree_is_read(tmp_path, name):
    files, expected = TREES[name]
    reading = SystemMemory(tree(tmp_path, files), lambda: 7.0)()
    assert expected == (reading.limit_bytes, reading.used_bytes, reading.reclaimable_bytes, reading.source)
    assert reading.at == 7.0


def test_process_bytes_are_the_resident_pages(tmp_path):
    memory = SystemMemory(tree(tmp_path, MACHINE))
    assert 25600 * os.sysconf("SC_PAGE_SIZE") == memory().process_bytes


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_stall_comes_from_the_cgroup_first(tmp_path):
    files = on_v2() | v2(f"{V2}/app", GIB, 0) | {"proc/pressure/memory": PRESSURE.format("50.00")}
    files[f"{V2}/app/memory.pressure"] = PRESSURE.format("12.50")
    assert SystemMemory(tree(tmp_path, files))().stall == 0.125


def test_stall_comes_from_the_machine_where_the_cgroup_has_none(tmp_path):
    files = on_v2() | v2(f"{V2}/app", GIB, 0) | {"proc/pressure/memory": PRESSURE.format("50.00")}
    assert SystemMemory(tree(tmp_path, files))().stall == 0.5


@pytest.mark.parametrize("text", ["", "some avg10=", "some avg10=1.2.3 avg60=0", "\x00\xff"])
def test_pressure_that_makes_no_sense_is_no_stall(tmp_path, text):
    assert SystemMemory(tree(tmp_path, MACHINE | {"proc/pressure/memory": text}))().stall == 0.0


def test_stall_is_read_once_a_second_at_most(tmp_path):
    clock = Clock()
    memory = SystemMemory(tree(tmp_path, MACHINE | {"proc/pressure/memory": PRESSURE.format("10.00")}), clock)
    assert memory().stall == 0.1
    tree(tmp_path, {"proc/pressure/memory": PRESSURE.format("20.00")})
    clock.now += 0.5
    assert memory().stall == 0.1
    clock.now += 0.5
    assert memory().stall == 0.2
    tree(tmp_path, {"proc/pressure/memory": PRESSURE.format("30.00")})
    clock.now -= 3600  # the clock was set
    assert memory().stall == 0.3


def test_a_limit_that_changes_is_read_at_once(tmp_path):
    memory = SystemMemory(tree(tmp_path, on_v2() | v2(f"{V2}/app", "max", 600 * MIB)), Clock())
    assert memory().source == "/proc/meminfo"
    tree(tmp_path, v2(f"{V2}/app", GIB, 700 * MIB))
    assert (memory().limit_bytes, memory().used_bytes) == (GIB, 700 * MIB)


def test_a_limit_that_vanishes_is_left_out_and_taken_in_again(tmp_path):
    clock = Clock()
    limits = v2(f"{V2}/app", GIB, 600 * MIB)
    memory = SystemMemory(tree(tmp_path, on_v2() | limits), clock)
    assert memory().source == "cgroup v2 /app memory.max"
    # as if never read: an unlinked file, unlike a removed cgroup's, can still be read where it is open
    memory._layout = discover_layout(str(tmp_path))
    for name in limits:
        (tmp_path / name).unlink()
    assert memory().source == "/proc/meminfo"
    clock.now += 5
    assert memory().source == "/proc/meminfo"
    tree(tmp_path, limits)
    assert _after(memory, clock, 5).source == "cgroup v2 /app memory.max"


def test_moving_to_another_cgroup_is_noticed(tmp_path):
    clock = Clock()
    files = on_v2("/one") | v2(f"{V2}/one", GIB, 0) | v2(f"{V2}/two", 2 * GIB, 0)
    memory = SystemMemory(tree(tmp_path, files), clock)
    assert memory().limit_bytes == GIB
    tree(tmp_path, {"proc/self/cgroup": "0::/two\n"})
    assert _after(memory, clock, 5).limit_bytes == 2 * GIB


def test_a_forked_child_opens_its_own_files(tmp_path, monkeypatch):
    memory = SystemMemory(tree(tmp_path, on_v2() | v2(f"{V2}/app", GIB, 0)), Clock())
    memory()
    (tmp_path / "proc/self/statm").unlink()
    tree(tmp_path, {"proc/self/statm": "9 9 9 9 0 9 0\n"})
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert 9 * os.sysconf("SC_PAGE_SIZE") == memory().process_bytes


def test_where_nothing_can_be_read_psutil_answers(tmp_path):
    reading = SystemMemory(tmp_path)()
    assert reading.source == "psutil"
    assert reading.limit_bytes > reading.available_bytes > 0
    assert reading.process_bytes > 0


def test_without_the_module_of_limits_there_are_none(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows
    assert list(_memory._own_bounds(_memory._PageCounts(1, 1, 1))) == []


def test_nothing_is_released_where_the_c_library_cannot(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "ctypes", None)
    release_free_memory()


def test_a_garbled_count_of_pages_counts_as_none(tmp_path):
    assert SystemMemory(tree(tmp_path, MACHINE | {"proc/self/statm": "12 x"}))().process_bytes == 0


def test_where_not_even_psutil_knows_there_is_no_headroom(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert MemoryReading(7.0, 0, 0, 0, 0, 0.0, "unknown") == SystemMemory(tmp_path, lambda: 7.0)()


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (TREES["v1"][0], "v1"),
        (TREES["v2"][0], "v2"),
        (TREES["v2 max"][0], "v2"),
        (TREES["hybrid with memory on v1"][0], "hybrid, memory on v1"),
        (MACHINE, "none"),
    ],
)
def test_the_cgroup_version_is_the_one_that_limits_memory(tmp_path, files, expected):
    assert expected == SystemMemory(tree(tmp_path, files)).cgroup_version


def test_a_recorded_tree_is_described_without_writing_to_it(tmp_path):
    files = TREES["v1"][0] | {"proc/pressure/memory": PRESSURE.format("1.00")}
    described = describe_memory(SystemMemory(tree(tmp_path, files)))
    assert described == {
        "limit": "1,024.0 MiB",
        "source": "cgroup v1 /app memory.limit_in_bytes",
        "working set": "500.0 MiB (600.0 MiB used, less what can be reclaimed)",
        "headroom": "524.0 MiB (51% of the limit)",
        "process": "100.0 MiB",
        "stall": "1.0% of the last 10 s",
        "pressure figures": str(tmp_path / "proc/pressure/memory"),
        "cgroup version": "v1",
    }
    assert PRESSURE.format("1.00") == (tmp_path / "proc/pressure/memory").read_text()


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="counts descriptors in /proc/self/fd")
def test_descriptors_are_given_back(tmp_path):
    tree(tmp_path, TREES["v2"][0])
    gc.collect()  # what tests before have left behind is closed now, and not meanwhile
    before = len(os.listdir("/proc/self/fd"))
    memory = SystemMemory(tmp_path)
    memory()
    assert before < len(os.listdir("/proc/self/fd"))
    del memory
    gc.collect()
    assert before == len(os.listdir("/proc/self/fd"))


# ------------------------------------------------------------------------------------------------- this machine


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_this_machine_is_read():
    memory = SystemMemory()
    reading = memory()
    assert 0 < reading.available_bytes <= reading.limit_bytes
    assert 0.0 <= reading.stall <= 1.0
    assert MIB < reading.process_bytes < reading.limit_bytes
    assert set(describe_memory(memory)) >= {"limit", "source", "working set", "headroom", "cgroup version"}


def test_releasing_free_memory_never_fails():
    release_free_memory()


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    ).stdout.strip()


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS is read on Linux")
def test_the_address_space_limit_binds():
    code = (
        "import resource; from preheat._memory import SystemMemory; memory = SystemMemory();"
        "resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31)); r = memory(); print(r.limit_bytes, r.source)"
    )
    assert f"{2**31} RLIMIT_AS" == run(code)


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA is read on Linux")
def test_the_limit_of_private_memory_binds():
    code = (
        "import resource; from preheat._memory import SystemMemory; memory = SystemMemory(); memory();"
        "resource.setrlimit(resource.RLIMIT_DATA, (2**31, 2**31)); before = memory(); kept = b'x' * 100_000_000;"
        "after = memory(); print(after.limit_bytes, after.source, after.used_bytes - before.used_bytes, sep='|')"
    )
    limit_bytes, source, grown = run(code).split("|")
    assert (f"{2**31}", "RLIMIT_DATA") == (limit_bytes, source)
    if not IS_FREE_THREADED:  # there the allocator reserves a GiB at a time, and the kernel counts that
        assert int(grown) == pytest.approx(100_000_000, rel=0.05)


def _memory_cgroups() -> Iterator[tuple[Path, str]]:
    """Directories in which a memory cgroup might be made, this process's own ones first, and the name of a limit."""
    for version, limit in ((1, "memory.limit_in_bytes"), (2, "memory.max")):
        place = discover_layout("/").own.get(version)
        top = {1: "/sys/fs/cgroup/memory", 2: "/sys/fs/cgroup"}[version]
        yield from ((Path(directory), limit) for directory in (place and place.directory, top) if directory)


@pytest.fixture
def limited_cgroup() -> Iterator[tuple[Path, str]]:
    """A real memory cgroup limited to 256 MiB, and the name of its limit; skips if none can be made."""
    for parent, limit in _memory_cgroups() if sys.platform == "linux" else ():
        group = parent / f"preheat-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            if (group / limit).exists():
                (group / limit).write_text(str(256 * MIB))
                yield group, limit
                return
        finally:
            group.rmdir()
    pytest.skip("no real memory cgroup can be made here: neither of v1 nor v2; only the rlimit runs are live")


def test_the_limit_of_a_real_cgroup_is_read(limited_cgroup):
    group, limit = limited_cgroup
    code = (
        "import os; from preheat._memory import SystemMemory; memory = SystemMemory(); memory();"
        f"open({str(group / 'cgroup.procs')!r}, 'w').write(str(os.getpid()));"
        "reading = SystemMemory()(); kept = b'x' * 100_000_000; later = SystemMemory()();"
        "print(reading.limit_bytes, reading.source, later.used_bytes - reading.used_bytes, sep='|')"
    )
    limit_bytes, source, grown = run(code).split("|")
    assert str(256 * MIB) == limit_bytes
    assert f"/{group.name} {limit}" in source
    assert int(grown) == pytest.approx(100_000_000, rel=0.05)


def test_page_cache_in_a_real_cgroup_is_no_working_set(limited_cgroup, tmp_path):
    group, _ = limited_cgroup
    code = (
        "import os; from preheat._memory import SystemMemory;"
        f"open({str(group / 'cgroup.procs')!r}, 'w').write(str(os.getpid()));"
        f"before = SystemMemory()(); file = open({str(tmp_path / 'file')!r}, 'wb+');"
        "[file.write(bytes(10**6)) for _ in range(100)];"
        "file.flush(); os.fsync(file.fileno()); after = SystemMemory()();"
        "print(after.used_bytes - before.used_bytes, before.available_bytes - after.available_bytes, sep='|')"
    )
    used, taken = map(int, run(code).split("|"))
    assert used > 90_000_000
    assert taken < 20_000_000


def _after(memory: SystemMemory, clock: Clock, seconds: float) -> MemoryReading:
    clock.now += seconds
    return memory()
