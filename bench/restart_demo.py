"""The demo for five seeds: does the warmed process do better on its first 1,000 requests, each time?

    python bench/restart_demo.py [--requests N] [--seeds 1,2,3,4,5] [--budget-mb X] [--strategy NAME]

Exit code 1 if it does not, in hit rate or in the 95th percentile of latency, for any seed.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))

from rich.console import Console

from codesearch.demo import Options, run_demo

GROUPS = (
    f"{'':4}  {'hit rate':^17}  {'without a load':^17}  {'p95, ms':^15}  {'until 95 %':^13}  {'gain in points':^33}"
)
COLUMNS = (
    f"{'seed':>4}  {'cold':>8} {'warm':>8}  {'cold':>8} {'warm':>8}  {'cold':>7} {'warm':>7}  {'cold':>6} {'warm':>6}  "
    f"{'by hold-out':^24} {'observed':>8}  {'seconds':>7}  verdict"
)


def main() -> int:
    """Run it for each seed, print a line for each, and the verdict."""
    options = _arguments()
    seeds = [int(seed) for seed in options.seeds.split(",")]
    print(GROUPS, COLUMNS, sep="\n")
    failed = [seed for seed in seeds if not _run_seed(seed, options)]
    print(
        f"failed for seed {', '.join(map(str, failed))}"
        if failed
        else f"higher hit rate and lower p95 in each of {len(seeds)} seeds"
    )
    return 1 if failed else 0


def _run_seed(seed: int, options: argparse.Namespace) -> bool:
    with tempfile.TemporaryDirectory(prefix="restart-demo-") as folder:
        report = run_demo(
            Options(
                corpus=options.corpus,
                seed=seed,
                requests=options.requests,
                budget_mb=options.budget_mb,
                strategy=options.strategy,
                out=Path(folder),
            ),
            Console(file=io.StringIO()),
        )
    cold, warm = (report["runs"][name] for name in ("cold", "warm"))
    better = is_better(cold["first"], warm["first"])
    print(_line(seed, report, cold, warm, "better" if better else "NOT BETTER"), flush=True)
    return better


def is_better(cold: dict[str, Any], warm: dict[str, Any]) -> bool:
    """Whether the first requests of the warmed process hit more, by both counts, and have a lower p95."""
    return (
        warm["hit_ratio"]["overall"] > cold["hit_ratio"]["overall"]
        and warm["without_load_ratio"] > cold["without_load_ratio"]
        and warm["latency_ms"]["p95"] < cold["latency_ms"]["p95"]
    )


def _line(seed: int, report: dict[str, Any], cold: dict[str, Any], warm: dict[str, Any], verdict: str) -> str:
    first, uplift = (cold["first"], warm["first"]), report["uplift"]
    columns = [f"{seed:>4}"]
    columns.append(" ".join(f"{100 * r['hit_ratio']['overall']:>6.1f} %" for r in first))
    columns.append(" ".join(f"{100 * r['without_load_ratio']:>6.1f} %" for r in first))
    columns.append(" ".join(f"{r['latency_ms']['p95']:>7.1f}" for r in first))
    columns.append(" ".join(f"{r['requests_until_steady'] or 'never':>6}" for r in (cold, warm)))
    held = f"{uplift['points']:+.1f} ({uplift['low']:+.1f} to {uplift['high']:+.1f})" if uplift else "too few asked for"
    columns += [f"{held:^24} {report['observed_points']:>+8.1f}", f"{report['seconds']:>7.1f}", verdict]
    return "  ".join(columns)


def _arguments() -> argparse.Namespace:
    default = Options()
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, default=default.requests, help="in each run (%(default)s)")
    parser.add_argument("--seeds", default="1,2,3,4,5", help="separated by commas (%(default)s)")
    parser.add_argument("--budget-mb", type=float, default=default.budget_mb, help="of the warm-up (%(default)s)")
    parser.add_argument("--strategy", default=default.strategy, help="of the plan (%(default)s)")
    parser.add_argument("--corpus", help="folder to search (default: the standard library)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
