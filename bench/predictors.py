"""Each predictor and each pool of them by itself, in the restart experiment over a folder of traces.

`python bench/predictors.py DIR [--traces NAME ...] [--control NAME ...] [--trees] [--seed N]`

Prints the mean share of the clairvoyant uplift that each captured, by trace, and what it would cost to choose the pool
that serves all caches on all traces but one.  `--trees` lets gradient boosting take part where the extra `ml` is
installed.
"""

import argparse
import os
import sys
from collections.abc import Sequence

import numpy as np

from preheat._predict import boosted
from preheat._predict.blend import EXPERTS, FALLBACK, LEARNED, POOLS, ask, pool_name, pooled, present, train_model
from preheat._predict.trail import Trail
from preheat._replay import Past, fill, play_restart
from preheat._simulate.experiment import CAPACITIES, RESTARTS
from preheat._trace import read_trace

BLEND = "the blend"
SHARES = (1.0, 0.25)


class Judged:
    """The pools as warmers that share one training for each restart."""

    def __init__(self, seed: int) -> None:
        self._seed, self._past = seed, None

    def warmers(self):
        return {pool_name(pool): self._by(pool) for pool in POOLS} | {BLEND: self._by(None)}

    def _by(self, pool):
        def plan(past: Past, budgets: Sequence[int]):
            self._learn(past)
            weights = pool or self._model.pool
            if LEARNED in weights and self._model.learned is None:
                weights = FALLBACK
            density = pooled(weights, self._chances) / past.size_bytes
            order = np.lexsort((-past.last, -density))
            return [fill(order, past.size_bytes, budget) for budget in budgets]

        return plan

    def _learn(self, past: Past) -> None:
        if self._past is past:
            return
        trail = Trail(past.items.astype(np.int32), past.times, past.size_bytes)
        self._model = train_model(trail, past.capacity_bytes, seed=self._seed)
        moment = present(trail, past.capacity_bytes)
        names = [*EXPERTS, *([LEARNED] if self._model.learned is not None else [])]
        self._chances = {name: ask(name, self._model.learned, moment) for name in names}
        self._past = past


def play(path: str, seed: int):
    trace = read_trace(path).trace
    judged, cells = Judged(seed), []
    for share in CAPACITIES:
        capacity = max(int(trace.footprint_bytes * share), 1)
        for restart in RESTARTS:
            budgets = [int(capacity * part) for part in SHARES]
            cells.append(play_restart(trace, int(len(trace) * restart), capacity, budgets, judged.warmers()))
    return cells


def means(cells, name: str) -> tuple[float, float, float]:
    found = [
        [cell.captured(cell.warmers[name]) for cell in column if cell.counts] for column in zip(*cells, strict=True)
    ]
    whole, quarter = ([share.whole for share in shares] for shares in found)
    tenth = [share.tenth for share in found[0] if share.tenth is not None]
    return tuple(float(np.mean(shares)) if shares else float("nan") for shares in (whole, quarter, tenth))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--traces", nargs="*", default=[])
    parser.add_argument("--control", nargs="*", default=[])
    parser.add_argument("--trees", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not options.trees:
        boosted.is_available = lambda: False
    elif not boosted.is_available():
        sys.exit("gradient boosting takes part only where it is installed: pip install 'preheat[ml]'")
    played = {}
    for file in sorted(os.listdir(options.folder)):
        name = file.split(".")[0]
        if file.endswith(".parquet") and (not options.traces or name in options.traces):
            played[name] = play(os.path.join(options.folder, file), options.seed)
            print(f"{name:20}" + "".join(f"{x:8.3f}" for x in means(played[name], BLEND)), flush=True)
    judged = {name: cells for name, cells in played.items() if name not in options.control}
    everything = [row for cells in judged.values() for row in cells]
    print(f"\n{'pool':40}{'B = C':>8}{'C/4':>8}{'tenth':>8}")
    pools = [pool_name(pool) for pool in POOLS]
    for name in [*pools, BLEND]:
        print(f"{name:40}" + "".join(f"{x:8.3f}" for x in means(everything, name)))
    if len(judged) > 1:
        show_left_out(judged, pools)


def show_left_out(judged, pools: list[str]) -> None:
    """What the pool that is best on all traces captures, and what the one best on all others captures on each."""
    by_trace = {name: {pool: means(cells, pool)[0] for pool in pools} for name, cells in judged.items()}
    together = max(pools, key=lambda pool: np.mean([shares[pool] for shares in by_trace.values()]))
    apart = []
    for name, shares in by_trace.items():
        others = [row for other, row in by_trace.items() if other != name]
        apart.append(shares[max(pools, key=lambda pool: np.mean([row[pool] for row in others]))])
    best = np.mean([shares[together] for shares in by_trace.values()])
    print(f"\nby trace: best pool on all {best:.3f}; chosen on all but the one judged {np.mean(apart):.3f}")


if __name__ == "__main__":
    main()
