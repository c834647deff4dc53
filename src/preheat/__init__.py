"""Memory-aware cache warm-up: record, predict, plan, load and measure, inside the memory that is really free.

What is named here is imported when it is first asked for: `import preheat` alone brings not even numpy.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from preheat import heat
    from preheat._choose import choose
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
    from preheat._plan.saved import plan_from_json, plan_to_json
    from preheat._process import execute_memory_aware_warmup, get_cache_warmup_service
    from preheat._service import CacheWarmupService
    from preheat._size import estimate_item_memory_usage
    from preheat.caches import (
        get_embedding_cache_warmup_candidates,
        get_file_cache_warmup_candidates,
        get_project_cache_warmup_candidates,
        get_search_cache_warmup_candidates,
    )
    from preheat.startup import lifespan, warm

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
    "lifespan",
    "load_limit_bytes",
    "plan_from_json",
    "plan_to_json",
    "prioritize_warmup_items",
    "validate_warmup_environment",
    "warm",
]

_PLACES = {
    "_choose": ("choose",),
    "_environment": ("validate_warmup_environment",),
    "_limit": ("load_limit_bytes",),
    "_model": (
        "MemoryPressureLevel",
        "WarmupItem",
        "WarmupPhase",
        "WarmupPlan",
        "WarmupProgress",
        "WarmupReport",
        "WarmupStrategy",
    ),
    "_plan.budget": ("calculate_memory_budget",),
    "_plan.explanation": ("explain_item",),
    "_plan.items": ("create_warmup_item", "group_items_by_dependencies", "prioritize_warmup_items"),
    "_plan.saved": ("plan_from_json", "plan_to_json"),
    "_process": ("execute_memory_aware_warmup", "get_cache_warmup_service"),
    "_service": ("CacheWarmupService",),
    "_size": ("estimate_item_memory_usage",),
    "caches": (
        "get_embedding_cache_warmup_candidates",
        "get_file_cache_warmup_candidates",
        "get_project_cache_warmup_candidates",
        "get_search_cache_warmup_candidates",
    ),
    "startup": ("lifespan", "warm"),
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name == "heat":
        return import_module("preheat.heat")
    for place, names in _PLACES.items():
        if name in names:
            found = globals()[name] = getattr(import_module(f"preheat.{place}"), name)
            return found
    raise AttributeError(f"module 'preheat' has no attribute {name!r}")
