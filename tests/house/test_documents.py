"""Code in the documents runs, and links between them lead somewhere."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from preheat._plan.strategy import configure_strategies
from preheat._settings import resolve_settings

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
BLOCKS = [
    (page, n, code)
    for page in PAGES
    for n, code in enumerate(re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL))
]


def blocks(of_examples):
    return [
        pytest.param(page, code, id=f"{page.relative_to(ROOT)}:{n}")
        for page, n, code in BLOCKS
        if (ROOT / "examples" in page.parents) == of_examples
    ]


@pytest.mark.parametrize(("page", "code"), blocks(of_examples=False))
def test_python_in_the_documents_runs(page, code, tmp_path):
    program = code if "await " not in code or "asyncio.run(" in code else as_coroutine(code)
    shown = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert shown.returncode == 0, shown.stderr


def as_coroutine(code):
    """A fragment that awaits at its top level, as an application would have it in a coroutine."""
    lines = code.splitlines()
    body = "\n".join(f"    {line}" for line in lines if not line.startswith(("import ", "from ")))
    imports = "\n".join(line for line in lines if line.startswith(("import ", "from ")))
    return f"import asyncio\nfrom preheat import *\n{imports}\nasync def main():\n{body}\nasyncio.run(main())"


@pytest.mark.parametrize(("page", "code"), blocks(of_examples=True))
def test_python_quoted_by_an_example_stands_in_its_source(page, code):
    source = {statement(line) for file in page.parent.rglob("*.py") for line in file.read_text().splitlines()}
    assert [line for line in code.splitlines() if statement(line) not in source] == []


def statement(line):
    return line.partition("  #")[0].strip()


TABLES = [
    pytest.param(tables, id=f"{page.relative_to(ROOT)}:{n}")
    for page in PAGES
    for n, text in enumerate(re.findall(r"^```toml\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL))
    if (tables := tomllib.loads(text).get("tool", {}).get("preheat"))
]


@pytest.mark.parametrize("tables", TABLES)
def test_settings_in_the_documents_are_settings(tables):
    settings = resolve_settings({}, tables)
    assert set(settings.strategies) <= set(configure_strategies(settings.strategies))


def test_there_are_settings_in_the_documents():
    assert len(TABLES) >= 2


def test_there_is_code_in_the_documents():
    assert len(blocks(of_examples=False)) >= 6


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []
