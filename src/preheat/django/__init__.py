"""preheat as an application of Django's: `"preheat.django"` in INSTALLED_APPS, and what PREHEAT says.

Its caches are watched from the start, loaders are found in the module `warmers` of each application, and
`manage.py preheat_plan | preheat_run | preheat_status` do what `preheat plan | run | status` do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from preheat import heat

__all__ = ["warmable"]

F = TypeVar("F", bound=Callable[..., Any])


def warmable(pattern: str, *, cache: str = "") -> Callable[[F], F]:
    """Have a function make the keys that match `pattern`, such as "product:{id:int}", called with the fields by name.

    The same as `preheat.heat.loader`.  Versions, prefixes and timeouts are the cache's business.

    Args:
        pattern: The keys, as the application gives them.
        cache: The name of the cache in PREHEAT, its alias unless NAME says another; by default any.

    Raises:
        InvalidSetting: The pattern can't be used, or does not fit the function.
    """
    return heat.loader(pattern, cache=cache)
