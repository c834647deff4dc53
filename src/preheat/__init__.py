"""Memory-aware cache warm-up: record, predict, plan, load and measure, inside the memory that is really free."""

from typing import TYPE_CHECKING, Any

from preheat._environment import validate_warmup_environment
from preheat._limit import load_limit_bytes
from preheat._model import (
    MemoryPressureLevel,
    WarmupItem,
    WarmupPhase,
    WarmupPlan,
    WarmupProgress,
    WarmupReport,
    WarmupStrategy,
)
from preheat._plan.budget import calculate_memory_budget
from preheat._plan.explanation import explain_item
from preheat._plan.items import create_warmup_item, group_items_by_dependencies, prioritize_warmup_items
from preheat._process import execute_memory_aware_warmup, get_cache_warmup_service
from preheat._service import CacheWarmupService
from preheat._size import estimate_item_memory_usage

if TYPE_CHECKING:
    from preheat import heat
    from preheat._choose import choose
    from preheat._plan.saved import plan_from_json, plan_to_json
    from preheat.caches import (
        get_embedding_cache_warmup_candidates,
        get_file_cache_warmup_candidates,
        get_project_cache_warmup_candidates,
        get_search_cache_warmup_candidates,
    )

__version__ = "0.1.0"

__all__ = [
    "CacheWarmupService",
    "MemoryPressureLevel",
    "WarmupItem",
    "WarmupPhase",
    "WarmupPlan",
    "WarmupProgress",
    "WarmupReport",
    "WarmupStrategy",
    "calculate_memory_budget",
    "choose",
    "create_warmup_item",
    "estimate_item_memory_usage",
    "execute_memory_aware_warmup",
    "explain_item",
    "get_cache_warmup_service",
    "get_embedding_cache_warmup_candidates",
    "get_file_cache_warmup_candidates",
    "get_project_cache_warmup_candidates",
    "get_search_cache_warmup_candidates",
    "group_items_by_dependencies",
    "heat",
    "load_limit_bytes",
    "plan_from_json",
    "plan_to_json",
    "prioritize_warmup_items",
    "validate_warmup_environment",
]


_COMES_FROM = {"choose": "_choose", "plan_from_json": "_plan.saved", "plan_to_json": "_plan.saved"}


def __getattr__(name: str) -> Any:
    if name in __all__:  # what is not imported above is imported when it is first asked for
        from importlib import import_module

        if name == "heat":
            return import_module("preheat.heat")
        return getattr(import_module(f"preheat.{_COMES_FROM.get(name, 'caches')}"), name)
    raise AttributeError(f"module 'preheat' has no attribute {name!r}")
