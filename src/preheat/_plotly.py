"""The script that draws plots: plotly.js, from the package `plotly` (extra `report`)."""

from __future__ import annotations

from importlib.util import find_spec

from preheat.errors import UsageError


def has_plotly() -> bool:
    """Whether it is installed; does not import it."""
    return find_spec("plotly") is not None


def plotly_js() -> str:
    """The script, which has to stand in a page before what it draws.

    Raises:
        UsageError: It is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise UsageError("drawing plots takes plotly: pip install 'preheat[report]'") from None
    return str(get_plotlyjs())
