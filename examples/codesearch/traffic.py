"""The traffic of the demo: who asks for what, in which order, now and after the restart.

Synthetic, unless the user brings a log of queries: popularity follows a seeded Zipf law over queries derived from
the corpus, and part of it drifts between the two runs.  A session is a search, after which some of the results'
files are opened and now and then the project of one is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from codesearch.corpus import Corpus, project_of
from codesearch.parsing import parse_file
from codesearch.words import split_words

POPULATION = 2_000  # distinct queries that people could ask
EXPONENT = 1.0  # of the popularity law: the query of rank r is asked for in proportion to r ** -EXPONENT
DRIFT_RATIO = 0.2  # share of the ranks that have another query after the restart
FILTERED_RATIO = 0.25  # share of the queries that are asked within a project
OPENED_RATIO = 0.5  # chance that a result is opened; half of that for a second one
PROJECT_RATIO = 0.1  # chance that the project of a result is looked at
SAMPLED_FILES = 1_500  # of a large corpus, for deriving queries


class QueriesError(Exception):
    """The log of queries can't be replayed; the message is one sentence for the user."""


@dataclass(frozen=True, slots=True)
class Query:
    """Words, and the project to look in (all of them if empty)."""

    text: str
    project: str = ""


@dataclass(frozen=True, slots=True)
class Session:
    """A search and what follows; each of the others is a place among the results, in [0, 1)."""

    query: Query
    opened: tuple[float, ...]
    project_at: float | None

    @property
    def requests(self) -> int:
        """Requests if the search finds anything."""
        return 1 + len(self.opened) + (self.project_at is not None)


@dataclass(frozen=True, slots=True)
class Traffic:
    """What is asked before the restart and after it, and where it comes from in a sentence."""

    before: tuple[Session, ...]
    after: tuple[Session, ...]
    origin: str
    synthetic: bool


def synthetic_traffic(corpus: Corpus, *, seed: int, requests: int) -> Traffic:
    """Traffic of about `requests` requests before and after the restart.

    Raises:
        QueriesError: Nothing in the corpus has a name to search for.
    """
    rng = np.random.default_rng(seed)
    queries = derive_queries(corpus, rng)
    if not queries:
        raise QueriesError(f"The corpus {str(corpus.root)!r} holds no name or text to derive queries from.")
    population = min(POPULATION, max(1, int(len(queries) / (1 + DRIFT_RATIO))))
    ranked = np.arange(population)
    drifted = ranked.copy()
    moved = rng.choice(population, int(population * DRIFT_RATIO), replace=False)
    drifted[moved] = population + np.arange(len(moved)) % max(1, len(queries) - population)
    drifted = np.minimum(drifted, len(queries) - 1)
    weights = (1.0 + ranked) ** -EXPONENT
    weights /= weights.sum()
    runs = [
        tuple(_sessions((queries[order[n]] for n in rng.choice(population, requests, p=weights)), rng, requests))
        for order in (ranked, drifted)
    ]
    return Traffic(
        before=runs[0],
        after=runs[1],
        origin=f"synthetic: seeded Zipf popularity (exponent {EXPONENT:g}) over {population:,} queries derived from "
        f"names and docstrings of the corpus; {100 * DRIFT_RATIO:.0f} % of the ranks change hands between the runs",
        synthetic=True,
    )


def replayed_traffic(path: Path, *, seed: int, requests: int) -> Traffic:
    """The user's own log, one query per line: its first half before the restart, its second half after it.

    Raises:
        QueriesError: The file can't be read, or has fewer than two queries.
    """
    try:
        lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
    except OSError as error:
        raise QueriesError(f"The queries in {str(path)!r} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise QueriesError(f"The queries in {str(path)!r} are not UTF-8 text.") from None
    asked = [Query(line) for line in lines if line]
    if len(asked) < 2:
        raise QueriesError(f"The file {str(path)!r} holds fewer than two queries; it needs one on each line.")
    rng = np.random.default_rng(seed)
    half = len(asked) // 2
    return Traffic(
        tuple(_sessions(asked[:half], rng, requests)),
        tuple(_sessions(asked[half:], rng, requests)),
        origin=f"replayed from {path.name}: {len(asked):,} queries, the first half before the restart; "
        "which results are opened is drawn at random",
        synthetic=False,
    )


def derive_queries(corpus: Corpus, rng: np.random.Generator) -> list[Query]:
    """What people might search for: names as words and first lines of docstrings, each once, in random order."""
    files = list(corpus.files)
    if len(files) > SAMPLED_FILES:
        files = [files[n] for n in sorted(rng.choice(len(files), SAMPLED_FILES, replace=False).tolist())]
    texts: dict[str, str] = {}
    for path in files:
        for text in _texts_in(corpus.root / path):
            texts.setdefault(text, project_of(path))
    filtered: NDArray[np.bool_] = rng.random(len(texts)) < FILTERED_RATIO
    queries = [
        Query(text, project if within else "")
        for (text, project), within in zip(texts.items(), filtered.tolist(), strict=True)
    ]
    return [queries[n] for n in rng.permutation(len(queries)).tolist()]


def _texts_in(path: Path) -> Iterator[str]:
    try:
        parsed = parse_file(path, path.read_bytes())
    except OSError:
        return
    for symbol in parsed.symbols:
        words = split_words(symbol.name)
        if len(words) >= 2 and "__" not in symbol.name:
            yield " ".join(words)
        if 3 <= len(symbol.doc.split()) <= 10:
            yield symbol.doc
    if not parsed.symbols:  # a language without an outline: the words of its first lines
        for chunk in parsed.chunks:
            words = split_words(parsed.text(chunk).strip().partition("\n")[0])[:6]
            if len(words) >= 2:
                yield " ".join(words)


def _sessions(queries: Sequence[Query] | Iterator[Query], rng: np.random.Generator, requests: int) -> Iterator[Session]:
    """Sessions over `queries` until there are `requests` requests."""
    total = 0
    for query in queries:
        if total >= requests:
            return
        opened: tuple[float, ...] = ()
        if rng.random() < OPENED_RATIO:
            # Results at the top are opened more often than those below: the square of a uniform draw.
            opened = tuple((rng.random(1 + (rng.random() < OPENED_RATIO / 2)) ** 2).tolist())
        session = Session(query, opened, float(rng.random()) if rng.random() < PROJECT_RATIO else None)
        total += session.requests
        yield session
