"""A tiny distribution that adds to preheat by entry points, installed as any other into a folder of its own."""

import subprocess
import sys
from pathlib import Path

PROJECT = """
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "preheat-tiny"
version = "0.3"

[tool.setuptools]
py-modules = ["tiny"]

[project.entry-points."preheat.adapters"]
"tiny.Shelf" = "tiny:watch_shelf"
"tiny.Broken" = "tiny_is_not_there:watch"

[project.entry-points."preheat.strategies"]
nightly = "tiny:NIGHTLY"
crooked = "tiny:CROOKED"

[project.entry-points."preheat.predictors"]
newest = "tiny:expect_newest"
absent = "tiny:nothing_here"

[project.entry-points."preheat.candidates"]
menu = "tiny:menu"
raising = "tiny:raising"
"""

MODULE = '''
"""A cache of an application, and what belongs to it."""

import numpy as np

from preheat import create_warmup_item
from preheat.adapters.mapping import MappingCache

NIGHTLY = {"share": 0.9, "why": "at night nobody else needs the memory"}
CROOKED = {"share": 7}


class Shelf:
    def __init__(self):
        self.books = {}

    def read(self, key):
        return self.cache.get(key) if hasattr(self, "cache") else self.books[key]


class Broken:
    pass


def watch_shelf(shelf, *, name, log, load=None, priority=5, lock=None):
    shelf.cache = MappingCache(shelf.books, load, name=name, priority=priority)
    shelf.cache.record_to(log)
    return shelf, shelf.cache


def expect_newest(history, horizon_seconds):
    return (history.last_at == history.at).astype(np.float64)


def menu(history):
    return [create_warmup_item("shelf", "soup", usage_frequency=1.0, warmup_cost=1.0)]


def raising(history):
    raise OSError("the kitchen is closed")
'''


def install(folder: Path) -> Path:
    """Where it is installed."""
    project, target = folder / "project", folder / "target"
    project.mkdir()
    (project / "pyproject.toml").write_text(PROJECT)
    (project / "tiny.py").write_text(MODULE)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-build-isolation", "--no-index", "--target", str(target), str(project)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return target
