"""Pick a budget: what would the hit rate be with more or less memory, and where does more stop to pay?

    python examples/pick_a_budget.py STATE_DIR [--share 0.95] [--page budget.html]

Reads the history in the state folder through `preheat history curve --json`, prints for each cache the least memory
that reaches the wished share of the best hit rate, and draws the curves as one page that needs no network (plotly, the
extra `report`).  The cells marked # %% can be run one by one in a notebook.
"""

# %% What to look at
from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

MIB = 2**20


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("state_dir")
    parser.add_argument("--share", type=float, default=0.95, help="of the best hit rate that is enough (default 0.95)")
    parser.add_argument("--page", type=Path, help="where to draw the curves")
    return parser.parse_args()


# %% The curves: for each cache, sizes and the hit rate of an LRU cache of that size over its last requests
def read_curves(state_dir: str) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "preheat.cli", "history", "curve", "--json", "--state-dir", state_dir]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    if shown.returncode:
        sys.exit(shown.stderr.strip())
    return [cache for cache in json.loads(shown.stdout)["caches"] if cache["bytes"]]


# %% The pick: the least size from which on more memory wins little
def enough_bytes(cache: dict[str, Any], share: float) -> int:
    points = cache["bytes"]
    wished = share * max(point["hit_ratio"] for point in points)
    return next(point["capacity"] for point in points if point["hit_ratio"] >= wished)


# %% The plot
def draw(caches: list[dict[str, Any]], picks: dict[str, int], page: Path) -> None:
    import plotly.graph_objects as go

    figure = go.Figure()
    for cache in caches:
        sizes = [point["capacity"] / MIB for point in cache["bytes"]]
        figure.add_scatter(x=sizes, y=[1 - point["hit_ratio"] for point in cache["bytes"]], name=cache["name"])
        figure.add_vline(x=picks[cache["name"]] / MIB, line_dash="dot", annotation_text=f"enough for {cache['name']}")
    figure.update_layout(title="Miss ratio by size of the cache", xaxis_title="MiB", yaxis_title="miss ratio")
    figure.update_yaxes(range=[0, 1], tickformat=".0%")
    figure.write_html(page, include_plotlyjs=True)


# %% The answer
def main() -> None:
    told = arguments()
    caches = read_curves(told.state_dir)
    if not caches:
        sys.exit(f"nothing has been recorded in {told.state_dir} yet; let the application run for a while")
    picks = {cache["name"]: enough_bytes(cache, told.share) for cache in caches}
    for cache in caches:
        print(
            f"{cache['name']}: {picks[cache['name']] / MIB:.2f} of {cache['footprint_bytes'] / MIB:.2f} MiB reach "
            f"{told.share:.0%} of its best hit rate, {cache['best_hit_ratio']:.1%}"
        )
    print(f"CACHE_WARMUP_MEMORY_BUDGET_MB={max(1, round(sum(picks.values()) / MIB))}")
    print(f"CACHE_WARMUP_QUOTAS_MB={json.dumps({name: round(size / MIB, 2) for name, size in picks.items()})}")
    if told.page is not None:
        draw(caches, picks, told.page)
        print(f"wrote {told.page}")


# %%
if __name__ == "__main__":
    main()
