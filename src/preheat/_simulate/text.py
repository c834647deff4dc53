"""Simulations in words and tables, for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from preheat._replay import Hits, Shares
from preheat._simulate.results import NEVER_RESTARTED, Row, Simulation, budget_knee, mean_captured

MIB = 2**20
BEST = "best possible"
NOTHING_TO_GAIN = (
    "nothing to gain: at no restart does even the best possible warm set save 100 misses and 2 points of hit rate"
)


class Table(NamedTuple):
    """A table to print: a title, the names of its columns, rows of text, and a sentence for below."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    note: str = ""


def tables(simulation: Simulation) -> Iterator[Table]:
    """One for each capacity."""
    for capacity in simulation.capacities():
        yield _capacity_table(simulation, capacity)


def means_table(simulations: Sequence[Simulation]) -> Table:
    """What was captured on average over the restarts of all traces."""
    rows = [row for simulation in simulations for row in simulation.rows]
    counting = sum(row.cell.counts for row in rows if row.budget_share == 1.0)
    title = f"all {len(simulations)} traces: mean over {counting} restarts"
    return Table(title, ("warmer", "captured", "first tenth", "budget C/4"), _captured_rows(rows))


def conclusion(simulation: Simulation) -> str:
    """What it means, in a few sentences; of the largest capacity with something to gain."""
    for capacity in reversed(simulation.capacities()):
        rows = _counting(simulation.at(capacity))
        if rows and rows[0].cell.warmers:
            return f"{simulation.name}: {_gain(simulation, capacity, rows)} {_knee(simulation, rows)}".rstrip()
    return f"{simulation.name}: {NOTHING_TO_GAIN}"


def notes(simulation: Simulation) -> Iterator[str]:
    """What should be known of the file."""
    if simulation.bad_lines:
        examples = "; ".join(simulation.bad_examples)
        more = "; ..." if simulation.bad_lines > len(simulation.bad_examples) else ""
        yield f"{simulation.name}: {simulation.bad_lines} lines can't be used and were left out ({examples}{more})"
    if simulation.not_reads:
        yield (
            f"{simulation.name}: {simulation.not_reads} rows are no reads by their `op`; "
            "they count as requests unless --reads-only is given"
        )
    if simulation.cut:
        yield f"{simulation.name}: read up to the limit of {simulation.requests:,} requests; --limit raises it"


def amount(simulation: Simulation, size_bytes: float) -> str:
    """A size, in items where each is of size 1."""
    return f"{size_bytes:,.0f} items" if simulation.counts_items else _bytes(size_bytes)


def percent(share: float | None) -> str:
    """A share, or a dash where there is none."""
    return "-" if share is None else f"{share:.1%}"


def _bytes(size_bytes: float) -> str:
    for unit, step in (("GiB", 2**30), ("MiB", MIB), ("KiB", 2**10)):
        if size_bytes >= step:
            return f"{size_bytes / step:.3g} {unit}" if size_bytes < 1000 * step else f"{size_bytes / step:,.0f} {unit}"
    return f"{size_bytes:.0f} B"


def _capacity_table(simulation: Simulation, capacity: int) -> Table:
    rows = simulation.at(capacity)
    both = [*rows, *simulation.at(capacity, 0.25)]
    share = capacity / simulation.footprint_bytes
    title = f"{simulation.name}: a cache of C = {amount(simulation, capacity)}, {share:.1%} of what all items take"
    if not _counting(rows):
        return Table(title, (), [], NOTHING_TO_GAIN)
    columns: tuple[str, ...] = ("warmer", "captured", "first tenth", "budget C/4", "hit rate")
    body = [(*texts, percent(_hit_ratio(_counting(rows), texts[0]))) for texts in _captured_rows(both)]
    if simulation.has_costs:
        columns = (*columns, "saved seconds")
        body = [(*texts, _seconds(_counting(rows), texts[0])) for texts in body]
    return Table(title, columns, body, f"mean of {len(_counting(rows))} restarts")


def _captured_rows(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    full, quarter = (mean_captured(row for row in rows if row.budget_share == share) for share in (1.0, 0.25))
    none = Shares(None, None, None)
    best = sorted(full, key=lambda name: -(full[name].whole or 0.0))
    shown = {
        BEST: Shares(1.0, 1.0, 1.0),
        **{name: full[name] for name in best},
        "cold": Shares(0.0, 0.0, 0.0),
    }
    return [
        (
            name,
            percent(shares.whole),
            percent(shares.tenth),
            percent(shares.whole if name in (BEST, "cold") else quarter.get(name, none).whole),
        )
        for name, shares in shown.items()
    ]


def _counting(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.cell.counts]


def _hits(row: Row, name: str) -> Hits:
    special = {"cold": row.cell.cold, NEVER_RESTARTED: row.cell.never_restarted, BEST: row.cell.oracle}
    return special[name] if name in special else row.cell.warmers[name]


def _hit_ratio(rows: Sequence[Row], name: str) -> float:
    return _mean(rows, lambda row: _hits(row, name).whole / row.cell.requests.whole)


def _seconds(rows: Sequence[Row], name: str) -> str:
    known = "oracle" if name == BEST else name
    if known not in rows[0].cell.saved_seconds:
        return "-"
    return f"{_mean(rows, lambda row: row.cell.saved_seconds[known]):,.1f}"


def _mean(rows: Sequence[Row], value: Callable[[Row], float]) -> float:
    return sum(map(value, rows)) / len(rows)


def _gain(simulation: Simulation, capacity: int, rows: Sequence[Row]) -> str:
    shares = mean_captured(rows)
    lead = next(iter(rows[0].cell.warmers))
    plan = "preheat's plan" if lead == "preheat" else f"the plan of {lead}"
    dump = f"; a dump of what was used last {_round(shares['mru'].whole)}" if "mru" in shares and lead != "mru" else ""
    ratios = [percent(_hit_ratio(rows, name)) for name in ("cold", lead, BEST)]
    return (
        f"after a restart with {amount(simulation, capacity)}, {plan} would have saved {_round(shares[lead].whole)} of "
        f"the misses that could be saved{dump}. Until the cache had refilled, the hit rate would have been {ratios[1]} "
        f"instead of {ratios[0]} ({ratios[2]} at best)."
    )


def _knee(simulation: Simulation, rows: Sequence[Row]) -> str:
    found = budget_knee(rows)
    if found is None:
        return ""
    return f"Loading {amount(simulation, found.budget_bytes)} of it brings {_round(found.gain)} of that gain."


def _round(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"
