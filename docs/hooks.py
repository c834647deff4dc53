"""The site's front page is the README; pages of the repository that others link to are pages of the site too."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}


def on_files(files: Files, config: object) -> Files:
    """Add the pages that stand beside `docs`, and those of the examples."""
    examples = {str(page.relative_to(ROOT)): str(page.relative_to(ROOT)) for page in (ROOT / "examples").rglob("*.md")}
    for source, place in (PAGES | examples).items():
        files.append(File.generated(config, place, content=_moved((ROOT / source).read_text("utf-8"), source, place)))
    return files


def on_page_markdown(markdown: str, page: object, **_: object) -> str:
    """Links to what stands beside `docs` lead to where it is in the site."""
    place = page.file.src_uri
    is_moved = place in PAGES.values() or place.startswith("examples/")
    return markdown if is_moved else _moved(markdown, f"docs/{place}", place)


def _moved(text: str, source: str, place: str) -> str:
    """`text` of the file `source`, with its links as they are from `place` in the site; none to what is no page."""

    def link(found: re.Match[str]) -> str:
        there = (ROOT / source).parent.joinpath(found[2]).resolve()
        target = _place_of(there)
        if not target.endswith(".md"):
            return found[1]
        return f"[{found[1]}]({_from(place, target)}{found[3] or ''})"

    return re.sub(r"\[([^\[\]]*)\]\((?![a-z]+:)([^)#\s]+)(#[^)\s]*)?\)", link, text)


def _place_of(there: Path) -> str:
    """Where the file or folder `there` is in the site, if it is a page of it."""
    known = str(there.relative_to(ROOT)) if there.is_relative_to(ROOT) else ""
    if (there / "README.md").is_file():
        known = f"{known}/README.md"
    return PAGES.get(known, known.removeprefix("docs/"))


def _from(place: str, target: str) -> str:
    return "../" * place.count("/") + target
