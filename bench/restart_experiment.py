"""The restart experiment over a folder of traces: what each warmer captured, on average and at worst.

`python bench/restart_experiment.py [DIR] [--traces NAME ...] [--warmer NAME ...] [--control NAME ...] [--seed N]`

Controls are traces with nothing to gain: they are shown, and left out of the means.  Without DIR, a made trace of a
million requests shows how long the judge takes.
"""

import argparse
import csv
import os
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from preheat._replay import Cell
from preheat._simulate import Experiment, Row, Simulation, mean_captured, simulate, warmers

TARGET_SECONDS = 60
FORMATS = (".parquet", ".csv", ".jsonl", ".csv.gz", ".jsonl.gz")


def made_trace(folder: Path, requests: int = 1_000_000) -> Path:
    """Popularity by rank that drifts, and a third of the requests in runs of neighbours; unequal sizes."""
    rng = np.random.default_rng(1)
    ranks = rng.zipf(1.15, requests) % 200_000
    drift = np.arange(requests) // 20_000 * 37
    runs = np.cumsum(rng.random(requests) < 0.02) * 977 + np.arange(requests) % 500
    keys = np.where(rng.random(requests) < 0.33, runs % 300_000, ranks + drift)
    path = folder / "made.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["key", "t", "size"])
        rows.writerows(zip(keys.tolist(), range(requests), (512 + keys * 7919 % 30_000).tolist(), strict=True))
    return path


def percent(value: float | None) -> str:
    return f"{'-':>8}" if value is None else f"{value:8.3f}"


def means(rows: Iterable[Row], names: Iterable[str]) -> dict[str, list[str]]:
    rows = list(rows)
    full, quarter = (mean_captured(row for row in rows if row.budget_share == share) for share in (1.0, 0.25))
    blank = (None, None, None)
    return {
        name: [
            percent(full.get(name, blank)[2]),
            percent(full.get(name, blank)[0]),
            percent(quarter.get(name, blank)[2]),
        ]
        for name in names
    }


def show(title: str, rows: Iterable[Row], names: list[str]) -> None:
    print(f"\n{title:24}{'B = C':>8}{'tenth':>8}{'C/4':>8}")
    for name, shares in means(rows, names).items():
        print(f"{name:24}{''.join(shares)}")


def show_harm(played: list[Simulation], lead: str) -> None:
    """The worst that the first warmer did, controls included: against cold by cell, against the dump by trace."""
    cells = [row.cell for simulation in played for row in simulation.rows]
    print(
        f"\n{lead}: worst cell against cold {min(points(cell, lead, 'cold') for cell in cells):+.2f} points of hit rate"
    )
    if "mru" not in cells[0].warmers:
        return
    for share in (1.0, 0.25):
        behind = [worst_against_dump(simulation, lead, share) for simulation in played]
        shown = ", ".join(text for _, text in sorted(behind)[:3])
        print(f"{lead}: least ahead of mru at budget {share:g} C: {shown}")


def points(cell: Cell, name: str, other: str) -> float:
    """How many points of hit rate warmer `name` is ahead of `other`."""
    hits = {"cold": cell.cold, **cell.warmers}
    return (hits[name].whole - hits[other].whole) / cell.requests.whole * 100


def worst_against_dump(simulation: Simulation, lead: str, share: float) -> tuple[float, str]:
    """By captured share where cells count, else by points of hit rate."""
    rows = [row for row in simulation.rows if row.budget_share == share]
    found = mean_captured(rows)
    if found:
        ahead = found[lead].whole - found["mru"].whole
        return ahead, f"{simulation.name} {ahead:+.3f}"
    ahead = sum(points(row.cell, lead, "mru") for row in rows) / len(rows)
    return ahead / 100, f"{simulation.name} {ahead:+.2f} points"


def play(paths: list[str], experiment: Experiment, limit_seconds: int | None) -> list[Simulation]:
    played = []
    started = time.perf_counter()
    for simulation in simulate(paths, experiment):
        seconds = time.perf_counter() - started
        print(f"{simulation.name:24}{simulation.requests:10,d} requests {seconds:7.1f} s", flush=True)
        if limit_seconds is not None:
            verdict = "met" if seconds < limit_seconds else "MISSED"
            print(f"target: every default warmer in less than {limit_seconds} s: {verdict}")
        played.append(simulation)
        started = time.perf_counter()
    return played


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--traces", nargs="*", default=[], help="only these, by file name without suffix")
    parser.add_argument("--warmer", nargs="*", default=[], choices=list(warmers(0)))
    parser.add_argument("--control", nargs="*", default=[], help="traces to leave out of the means")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    experiment = Experiment(warmers=tuple(options.warmer), seed=options.seed)
    names = [*experiment.chosen(), "never-restarted"]
    if options.folder is None:
        with tempfile.TemporaryDirectory() as folder:
            play([str(made_trace(Path(folder)))], experiment, TARGET_SECONDS)
        return
    files = [name for name in sorted(os.listdir(options.folder)) if name.endswith(FORMATS)]
    chosen = [name for name in files if not options.traces or name.split(".")[0] in options.traces]
    if not chosen:
        sys.exit(f"there is no trace in {options.folder}")
    played = play([os.path.join(options.folder, name) for name in chosen], experiment, None)
    for simulation in played:
        show(simulation.name, simulation.rows, names)
    judged = [row for simulation in played if simulation.name not in options.control for row in simulation.rows]
    for share in experiment.capacities:
        show(f"capacity {share:.0%}", [row for row in judged if row.capacity_share == share], names)
    counting = sum(row.cell.counts for row in judged if row.budget_share == 1.0)
    show(f"mean over {counting} cells", judged, names)
    show_harm(played, names[0])


if __name__ == "__main__":
    main()
