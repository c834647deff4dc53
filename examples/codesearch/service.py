"""The service: four caches in front of a parser, a model, a full text index and the file system.

All of preheat that an application needs is here and in `app.py`: the caches are made with their loaders, and told
what a value needs (`needs`) so that a warm-up loads things in an order in which nothing misses.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from codesearch.corpus import Corpus, ProjectFacts
from codesearch.fulltext import FullText
from codesearch.loads import note_load
from codesearch.model import MODEL, Encoder
from codesearch.parsing import Chunk, ParsedFile, parse_file
from codesearch.settings import Settings
from preheat.abc import ItemRef
from preheat.caches import EmbeddingCache, FileCache, ProjectCache, SearchCache

FULL_TEXT_HITS = 20  # what the vectors then rank anew
RANK_CONSTANT = 60  # of reciprocal rank fusion: how little it matters to be first rather than second


class NotFound(Exception):
    """What was asked for is not in the corpus; the message is one sentence for the user."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A search result: a chunk, and how good it is."""

    path: str
    name: str
    line: int
    score: float
    preview: str


class CodeSearch:
    """Searches a corpus.  Safe to use from several threads."""

    def __init__(self, settings: Settings) -> None:
        self.corpus = Corpus.at(settings.corpus)
        self._index = FullText.open(self.corpus, settings.state)
        self._encoder = Encoder()
        self.projects = ProjectCache(
            self._analyse,
            root=self.corpus.root,
            capacity_bytes=settings.project_bytes,
            priority=8,  # critical: few, small, and asked for by many searches
            state_of=self.corpus.state,
            recheck_seconds=1.0,  # a page that is a second old does no harm here
        )
        self.files = FileCache(
            self._parse, root=self.corpus.root, capacity_bytes=settings.file_bytes, goes_by_path=False
        )
        self.embeddings = EmbeddingCache(
            self._encode,
            model=MODEL,
            capacity_bytes=settings.embedding_bytes,
            text_of=self._text_of,
            needs=lambda source: [self.files.ref(_path_of(source))],
        )
        self.searches = SearchCache(
            self._search,
            version=self.corpus.fingerprint,
            capacity_bytes=settings.search_bytes,
            priority=7,  # what people wait for
            needs=self._needs_of_search,
            parts=lambda query, **_: [self.embeddings.ref(query)],  # asked for by nothing but its search
        )
        self.caches = (self.projects, self.files, self.embeddings, self.searches)

    # ------------------------------------------------------------------------------------------ what people ask for

    def search(self, query: str, project: str = "", k: int = 10) -> tuple[Hit, ...]:
        """The best `k` chunks for `query`, best first; in all projects if `project` is empty.

        Raises:
            NotFound: There is no such project.
        """
        if project:
            self._check_project(project)
        return self.searches.get(query, project=project, k=k)

    def file(self, path: str) -> ParsedFile:
        """The parsed file at `path`.

        Raises:
            NotFound: It is not in the corpus.
        """
        if path not in self.corpus:  # also keeps the doors to the rest of the disk shut
            raise NotFound(f"There is no file {path!r} in this corpus.")
        try:
            return self.files.get(path)
        except FileNotFoundError:
            raise NotFound(f"The file {path!r} is not there any more.") from None

    def project(self, name: str) -> ProjectFacts:
        """What the project is.

        Raises:
            NotFound: There is no such project.
        """
        self._check_project(name)
        return self.projects.get(name)

    def _check_project(self, name: str) -> None:
        if name not in self.corpus.projects:
            raise NotFound(f"There is no project {name!r} in this corpus.")

    # ---------------------------------------------------------------------------------------------------- the loaders

    def _analyse(self, folder: Path) -> ProjectFacts:
        note_load("project")
        return self.corpus.facts(folder)

    def _parse(self, path: Path, content: bytes) -> ParsedFile:
        note_load("file")
        return parse_file(path, content)

    def _encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        note_load("embedding", len(texts))
        return self._encoder(texts)

    def _search(self, query: str, project: str, k: int) -> tuple[Hit, ...]:
        """Full text finds, vectors rank anew, and reciprocal rank fusion settles it."""
        note_load("search")
        found = self._open(self._index.find(query, project, FULL_TEXT_HITS))
        if project:  # its facts say which files are its own now
            own = {file.path for file in self.projects.get(project).files}
            found = [f for f in found if f.path in own]
        if not found:
            return ()
        vectors = self.embeddings.get_many([f.text for f in found], [f.source for f in found])
        closest = np.argsort(-(vectors @ self.embeddings.get(query)), kind="stable")
        score = 1 / (RANK_CONSTANT + np.arange(len(found)))
        score[closest] += 1 / (RANK_CONSTANT + np.arange(len(found)))
        return tuple(
            Hit(found[n].path, found[n].chunk.name, found[n].chunk.line, round(float(score[n]), 6), found[n].preview)
            for n in np.argsort(-score, kind="stable")[:k].tolist()
        )

    def _open(self, sources: Sequence[str]) -> list[_Found]:
        """The chunks that are still there, in order; each file is asked for once."""
        files: dict[str, ParsedFile | None] = {}
        for path in map(_path_of, sources):
            if path not in files:
                files[path] = self._file_or_none(path)
        found = []
        for source in sources:
            path, _, name = source.partition("#")
            file = files[path]
            chunk = file.chunk(name) if file else None
            if file and chunk:
                found.append(_Found(source, path, chunk, file.text(chunk)))
        return found

    def _file_or_none(self, path: str) -> ParsedFile | None:
        try:
            return self.files.get(path)
        except OSError:
            return None

    # ---------------------------------------------------------------------------------------------- what a value needs

    def _needs_of_search(self, query: str, project: str, k: int) -> Iterable[ItemRef]:
        yield self.embeddings.ref(query)
        if project:
            yield self.projects.ref(project)

    def _text_of(self, source: str) -> str | None:
        """The text of the chunk "path#chunk"; None if it is not there any more."""
        found = self._open([source])
        return found[0].text if found else None


class _Found(NamedTuple):
    """A chunk that full text found."""

    source: str
    path: str
    chunk: Chunk
    text: str

    @property
    def preview(self) -> str:
        """The first line that says something."""
        return next((line.strip()[:120] for line in self.text.splitlines() if line.strip()), "")


def _path_of(source: str) -> str:
    return source.partition("#")[0]
