"""Memory-aware cache warm-up: record, predict, plan, load and measure, inside the memory that is really free."""

__version__ = "0.1.0"
