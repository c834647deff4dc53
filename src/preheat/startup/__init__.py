"""Warm-ups at the start of an application.

`lifespan` is for ASGI frameworks, `warm` for everything that can stand around a block; `preheat.startup.gunicorn`,
`preheat.startup.celery` and `preheat.startup.prefork` are for servers that fork.

A warm-up makes an application fast, not correct, so none of these ever keeps one from starting or ending: what goes
wrong is logged, and the caches fill by themselves.
"""

from preheat.startup.asgi import Lifespan, lifespan
from preheat.startup.blocks import warm
from preheat.startup.warming import Warming

__all__ = ["Lifespan", "Warming", "lifespan", "warm"]
