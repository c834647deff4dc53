"""The restart experiment over traces: what would warming have won.

Each trace restarts at several points with caches of several capacities and budgets.  Captured is the share of the
misses that a warmer saved, of those that the best possible warm set saves; see docs/reference/traces.md.
"""

from preheat._simulate.experiment import CAPACITIES, RESTARTS, Experiment, warmers
from preheat._simulate.results import Row, Simulation, budget_curve, budget_knee, mean_captured
from preheat._simulate.run import BUDGETS, simulate
from preheat._simulate.summary import simulation_summary

__all__ = [
    "BUDGETS",
    "CAPACITIES",
    "RESTARTS",
    "Experiment",
    "Row",
    "Simulation",
    "budget_curve",
    "budget_knee",
    "mean_captured",
    "simulate",
    "simulation_summary",
    "warmers",
]
