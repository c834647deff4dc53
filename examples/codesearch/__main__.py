"""`python -m codesearch demo`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from codesearch.corpus import CorpusError
from codesearch.demo import Options, run_demo
from codesearch.server import ServerError
from codesearch.traffic import QueriesError
from preheat import WarmupStrategy


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 well, 1 the service or an item of the warm-up failed, 2 what was asked for makes no sense."""
    options = _options(arguments)
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        report = run_demo(options, Console())
    except (CorpusError, QueriesError) as error:
        errors.print(str(error), markup=False)
        return 2
    except (ServerError, OSError) as error:
        errors.print(str(error), markup=False)
        return 1
    except KeyboardInterrupt:
        return 130
    return 1 if report["warmup"]["counts"]["failed"] else 0


def _options(arguments: Sequence[str] | None) -> Options:
    default = Options()
    parser = argparse.ArgumentParser(prog="codesearch", description="A code search that starts warm.")
    demo = parser.add_subparsers(required=True, metavar="demo").add_parser(
        "demo", help="serve, restart cold and warm, and compare"
    )
    demo.add_argument("--corpus", metavar="PATH", help="folder to search (default: the standard library)")
    demo.add_argument("--queries", type=Path, metavar="FILE", help="replay this log, one query per line")
    demo.add_argument("--seed", type=_natural, default=default.seed, metavar="N", help="of the traffic (%(default)s)")
    demo.add_argument(
        "--requests", type=_positive, default=default.requests, metavar="N", help="in each run (%(default)s)"
    )
    demo.add_argument(
        "--budget-mb", type=_megabytes, default=default.budget_mb, metavar="X", help="of the warm-up (%(default)s)"
    )
    demo.add_argument(
        "--strategy", type=_strategy, default=default.strategy, metavar="NAME",
        help=f"one of {', '.join(WarmupStrategy)} (%(default)s)",
    )  # fmt: skip
    demo.add_argument(
        "--out", type=Path, default=default.out, metavar="DIR", help="where the report goes (%(default)s)"
    )
    given = vars(parser.parse_args(arguments))
    return Options(**given | {"corpus": given["corpus"] or None})


def _natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def _megabytes(text: str) -> float:
    try:
        size = float(text)
    except ValueError:
        size = -1.0
    if not 0.0 < size < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of megabytes")
    return size


def _strategy(text: str) -> str:
    name = text.strip().lower().replace("-", "_")
    if name not in set(WarmupStrategy):
        raise argparse.ArgumentTypeError(f"there is no strategy {text!r}; there are {', '.join(WarmupStrategy)}")
    return name


if __name__ == "__main__":
    sys.exit(main())
