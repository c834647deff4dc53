"""A service over HTTP: `create_app` makes an ASGI application to serve (`preheat serve`) or to mount in one's own.

Needs the extra `http`.
"""

from __future__ import annotations

from preheat.errors import UsageError

try:
    import starlette  # noqa: F401 - the modules below need it
except ModuleNotFoundError:
    raise UsageError("serving takes starlette and uvicorn: pip install 'preheat[http]'") from None

from preheat.http.app import create_app

__all__ = ["create_app"]
