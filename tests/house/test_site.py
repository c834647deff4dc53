"""The site of the documents is built, has every page, and every link in it leads somewhere."""

import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

import preheat

pytest.importorskip("mkdocs", reason="mkdocs-material is not installed")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return folder


class Page(HTMLParser):
    """What a page links to, and what can be linked to in it."""

    def __init__(self, path):
        super().__init__()
        self.links, self.anchors = [], set()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attributes):
        known = dict(attributes)
        self.anchors |= {known["id"]} if known.get("id") else set()
        if known.get("href"):
            self.links.append(known["href"])


def test_every_link_leads_somewhere(site):
    pages = {path: Page(path) for path in site.rglob("*.html") if path.name != "404.html"}
    lost = []
    for path, page in pages.items():
        for link in page.links:
            place, anchor = urldefrag(link)
            if ":" in place or place.startswith("//"):
                continue
            there = (path.parent / unquote(place)).resolve() if place else path
            there = there / "index.html" if there.is_dir() else there
            if not there.exists() or (anchor and there in pages and unquote(anchor) not in pages[there].anchors):
                lost.append((str(path.relative_to(site)), link))
    assert lost == []


def test_every_document_is_a_page_that_can_be_found(site):
    index = (site / "search/search_index.json").read_text("utf-8")
    documents = [path.relative_to(ROOT / "docs").with_suffix("") for path in (ROOT / "docs").rglob("*.md")]
    assert [name for name in map(str, documents) if f'"{name}/' not in index] == []


def test_every_promised_name_stands_in_the_reference(site):
    page = Page(site / "reference/python/index.html")
    assert [name for name in preheat.__all__ if f"preheat.{name}" not in page.anchors] == []
