"""How a fleet's warm-up grows: formulas against a simulation, from one replica to ten thousand.

    python bench/fleet [--quick] [--real] [--report fleet.html]

Prints, for each fleet, what the formulas expect and what the simulation found; then what trouble does.  `--real`
starts real processes with a real origin and servers, as `bench/replicas.py` does, and compares.  One line per target
says whether it is met; the script fails if one isn't.  Takes simpy, and plotly for the report.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import replace
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "tests")]

try:
    from model import Expected, Fleet, expect
    from simulation import Outcome, play
    from world import Trouble
except ModuleNotFoundError as error:
    if error.name != "simpy":
        raise
    sys.exit("bench/fleet plays fleets by simpy, which is not installed here: pip install simpy")

MOST_ERROR, MOST_FETCHES, MOST_RATE = 0.15, 1.1, 1.05
TOGETHER = [Fleet(replicas, 100_000, rate=1000.0) for replicas in (1, 8, 100, 1000, 10_000)]
SHARDS = [
    Fleet(replicas, keys, rate=rate, shards=True)
    for replicas, keys, rate in (
        (1, 10**5, 2e3),
        (8, 10**6, 5e3),
        (100, 10**7, 2e4),
        (1000, 10**8, 2e4),
        (10_000, 10**8, 2e4),
        (10_000, 10**9, 2e4),
    )
]
TROUBLED = Fleet(100, 10_000, rate=500.0)
TROUBLES = {
    "nothing": Trouble(),
    "coordinator lost halfway": Trouble(coordinator_lost_at=0.5),
    "coordinator lost halfway, back after 3 s": Trouble(coordinator_lost_at=0.5, back_after_seconds=3.0),
    "all replicas killed halfway and restarted": Trouble(restarted_at=0.5),
    "origin four times slower": Trouble(slow_origin=4.0),
    "1 % of clocks 20 % fast": Trouble(bad_clocks=0.01),
    "1 % of clocks 20 % fast, coordinator lost": Trouble(coordinator_lost_at=0.5, bad_clocks=0.01),
}
CONTROL = Trouble(uncoordinated=True)
REAL = {  # (a fleet, the share of the keys after which its coordinator is killed)
    "bound by the origin's rate": (Fleet(8, 2400, 120.0, value_bytes=20, jitter_seconds=0.0), None),
    "bound by the loads in flight": (Fleet(8, 2560, 1e6, 0.5, value_bytes=20, jitter_seconds=0.0), None),
    "turns one after another": (Fleet(8, 960, 60.0, 1.0, value_bytes=20, jitter_seconds=0.0), None),
    "one replica": (Fleet(1, 2400, 200.0, value_bytes=20, jitter_seconds=0.0), None),
    "coordinator killed halfway": (Fleet(8, 2400, 120.0, value_bytes=20, jitter_seconds=0.0), 0.5),
}
SEEDS = range(1, 6)
Check = tuple[str, bool]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer and smaller fleets")
    parser.add_argument("--real", action="store_true", help="compare with real processes, too")
    parser.add_argument("--report", metavar="FILE", help="draw plots into this page")
    options = parser.parse_args()
    fleets = [*TOGETHER[:3], *SHARDS[:2]] if options.quick else TOGETHER + SHARDS
    found = [(fleet, expect(fleet), _played(fleet)) for fleet in fleets]
    _print_histories()
    checks = _checks(found)
    troubled = replace(TROUBLED, replicas=20, keys=4000) if options.quick else TROUBLED
    checks += _troubles(troubled, options.report, found)
    if options.real:
        checks += _against_reality()
    for text, is_met in checks:
        print(f"{'met    ' if is_met else 'NOT MET'} {text}")
    return 0 if all(is_met for _, is_met in checks) else 1


HEAD = (
    "replicas           keys  shards  seconds: expected  simulated  fetches/key  peak/rate  busy: coordinator  server  "
    "bound by"
)


def _played(fleet: Fleet) -> Outcome:
    expected, outcome = expect(fleet), play(fleet)
    if fleet == TOGETHER[0]:
        print(HEAD)
    print(
        f"{fleet.replicas:8,} {fleet.keys:14,} {'yes' if fleet.shards else 'no':>7} {expected.seconds:18,.1f} "
        f"{outcome.seconds:10,.1f} {outcome.fetches_per_key:12.3f} {outcome.most_ratio:10.2f} "
        f"{outcome.coordinator_load:18.2f} {outcome.server_load:7.2f}  {expected.bound_by}",
        flush=True,
    )
    return outcome


def _print_histories() -> None:
    """What replicas keep of keys, and hand round if they share their histories."""
    for keys in (10**5, 10**6, 10**9):
        print(f"history of {keys:,} keys: {expect(Fleet(1, keys)).history_bytes / 1e6:,.0f} MB in each replica")
    for replicas in (8, 100, 1000):
        megabytes = expect(Fleet(replicas, 10**5)).exchanged_bytes / 1e6
        print(f"histories shared by {replicas:,} replicas: {megabytes:,.1f} MB/s at their server")


def _checks(found: list[tuple[Fleet, Expected, Outcome]]) -> list[Check]:
    worst = max(abs(outcome.seconds / expected.seconds - 1) for _, expected, outcome in found)
    outcomes = [outcome for _, _, outcome in found]
    return [
        (f"time by the formulas within 15 % of the simulation: at most {worst:.1%} off", worst <= MOST_ERROR),
        *_kept("fleets", outcomes),
    ]


def _kept(what: str, outcomes: list[Outcome]) -> list[Check]:
    fetches = max(outcome.fetches_per_key for outcome in outcomes)
    rate = max(outcome.most_ratio for outcome in outcomes)
    return [
        (f"{what}: fetches per key at most {fetches:.3f}, target <= {MOST_FETCHES}", fetches <= MOST_FETCHES),
        (f"{what}: loads in a second at most {rate:.3f} of the rate, target <= {MOST_RATE}", rate <= MOST_RATE),
    ]


def _troubles(fleet: Fleet, report: str | None, found: list[tuple[Fleet, Expected, Outcome]]) -> list[Check]:
    print(f"\n{fleet.replicas} replicas, {fleet.keys:,} keys, {fleet.rate:,.0f} loads/s")
    outcomes = {name: play(fleet, trouble) for name, trouble in TROUBLES.items()}
    herd = play(fleet, CONTROL)
    for name, outcome in [*outcomes.items(), ("nothing shared (control)", herd)]:
        print(
            f"  {name}: {outcome.seconds:.1f} s, {outcome.fetches_per_key:.3f} fetches per key, "
            f"{outcome.most_ratio:.2f} of the rate"
        )
    if report is not None:
        from plots import write_plots

        write_plots(report, found, outcomes)
        print(f"plots: {report}")
    overruns = herd.fetches_per_key > MOST_FETCHES and herd.most_ratio > MOST_RATE
    return [*_kept("trouble", list(outcomes.values())), ("the control overruns both", overruns)]


def _against_reality() -> list[Check]:
    """Real processes, an origin, two servers: time and fetches as they are, and as they are simulated on average."""
    from model import Costs
    from reality import describe, measure_costs, warm

    print(f"\noperations of a server\n{describe(Costs(), measure_costs())}\n\nreal processes")
    checks = []
    for name, (fleet, lost_at) in REAL.items():
        real = warm(fleet, lost_at)
        played = [play(fleet, Trouble(coordinator_lost_at=lost_at), seed=seed) for seed in SEEDS]
        times = [outcome.seconds for outcome in played]
        seconds = statistics.mean(times) / real.seconds
        fetches = statistics.mean(outcome.fetches_per_key for outcome in played) / real.fetches_per_key
        print(
            f"  {name}: {real.seconds:.1f} s, {real.fetches_per_key:.3f} fetches per key; "
            f"simulated {min(times):.1f} to {max(times):.1f} s",
            flush=True,
        )
        checks += [
            (f"{name}: time, simulated to real {seconds:.2f}", abs(seconds - 1) <= MOST_ERROR),
            (f"{name}: fetches, simulated to real {fetches:.3f}", abs(fetches - 1) <= MOST_ERROR),
        ]
    return checks


if __name__ == "__main__":
    sys.exit(main())
