"""The public surface is what was promised, no more and no less."""

import importlib
import subprocess
import sys

import preheat

PROMISED = {
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
}
SERVICE = {
    "cancel_warmup",
    "create_warmup_plan",
    "execute_warmup_plan",
    "fit_warmup_plan",
    "get_recommended_strategy",
    "get_warmup_status",
    "register",
    "register_candidate_source",
    "register_strategy",
    "unregister",
}


def test_all_is_exactly_the_promised_list_and_sorted():
    assert sorted(PROMISED) == preheat.__all__


def test_every_name_of_all_exists_and_is_documented():
    assert [name for name in preheat.__all__ if not getattr(preheat, name).__doc__] == []


def test_the_service_has_its_promised_methods():
    assert {name for name in SERVICE if callable(getattr(preheat.CacheWarmupService, name, None))} == SERVICE


def test_strategies_and_levels_have_their_promised_names():
    assert [s.name for s in preheat.WarmupStrategy] == [
        "AGGRESSIVE",
        "BALANCED",
        "CONSERVATIVE",
        "ADAPTIVE",
        "PRIORITY_BASED",
    ]
    assert [level.name for level in preheat.MemoryPressureLevel] == ["LOW", "MODERATE", "HIGH", "CRITICAL"]


def test_public_modules_list_what_they_export():
    for name in ("preheat.abc", "preheat.caches", "preheat.heat", "preheat.startup", "preheat.testing"):
        module = importlib.import_module(name)
        assert [entry for entry in module.__all__ if not hasattr(module, entry)] == []


def test_importing_preheat_brings_neither_asyncio_nor_any_client_library():
    heavy = ["numpy", "asyncio", "sqlite3", "psutil", "rich", "click", "msgspec", "tomllib"]
    code = f"import sys, preheat; print([name for name in {heavy!r} if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_what_is_asked_for_first_brings_no_client_library_either():
    heavy = ["asyncio", "sqlite3", "psutil", "rich", "click", "tomllib"]  # results are msgspec structs
    code = f"import sys; from preheat import CacheWarmupService; print([n for n in {heavy!r} if n in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
