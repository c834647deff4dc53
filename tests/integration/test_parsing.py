"""The file cache with a real parser, tree-sitter, whose trees no estimate can see into."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import pytest

from preheat import create_warmup_item
from preheat._model import ItemStatus
from preheat.caches import FileCache

tree_sitter = pytest.importorskip("tree_sitter", reason="the package tree-sitter is not installed")
tree_sitter_python = pytest.importorskip("tree_sitter_python", reason="the package tree-sitter-python is not installed")

PYTHON = tree_sitter.Language(tree_sitter_python.language())


class Outline(NamedTuple):
    """The functions of a module, by line."""

    functions: tuple[tuple[int, str], ...]


def outline(path: Path, content: bytes) -> Outline:
    found: list[tuple[int, str]] = []
    waiting = [tree_sitter.Parser(PYTHON).parse(content).root_node]
    while waiting:
        node = waiting.pop()
        name = node.child_by_field_name("name") if node.type == "function_definition" else None
        if name is not None:
            found.append((node.start_point[0] + 1, name.text.decode()))
        waiting += node.children
    return Outline(tuple(sorted(found)))


@pytest.fixture
def cache(tmp_path: Path) -> FileCache[Outline]:
    return FileCache(outline, root=tmp_path, capacity_bytes=10**7, goes_by_path=False)


def test_a_parsed_file_is_warmed_served_and_parsed_anew_when_it_changes(cache, tmp_path):
    (tmp_path / "a.py").write_text("def one():\n    def inner(): pass\n\nclass C:\n    def two(self): ...\n")
    result = cache.warmup_item(create_warmup_item("file", "a.py"))
    assert (result.status, cache.get_warmup_statistics().used_bytes) == (ItemStatus.LOADED, result.size_bytes)
    assert cache.get("a.py").functions == ((1, "one"), (2, "inner"), (5, "two"))
    (tmp_path / "a.py").write_text("async def three(): ...\n")
    assert cache.get("a.py").functions == ((1, "three"),)
    assert cache.get_warmup_statistics()[3:5] == (1, 1)


def test_a_broken_file_is_parsed_as_far_as_it_goes(cache, tmp_path):
    (tmp_path / "a.py").write_bytes(b"def one(:\n  \xff\xfe\ndef two(): pass\n")
    assert "two" in [name for _, name in cache.get("a.py").functions]


def test_all_modules_of_a_package_are_parsed_once_and_again_only_where_they_changed(cache, tmp_path):
    parsed: list[str] = []
    cache._parse = lambda path, content: parsed.append(path.name) or outline(path, content)
    for n in range(30):
        (tmp_path / f"m{n}.py").write_text(f"def f{n}(): pass\n" * (n + 1))
    for _ in range(2):
        for n in range(30):
            cache.get(f"m{n}.py")
    assert len(parsed) == 30
    for n in range(30):
        os.utime(tmp_path / f"m{n}.py")
    (tmp_path / "m7.py").write_text("def new(): pass\n")
    outlines = [cache.get(f"m{n}.py") for n in range(30)]
    assert parsed[30:] == ["m7.py"]
    assert outlines[7].functions == ((1, "new"),)
