"""The full text index: one document per chunk, on disk, built once for each state of the corpus."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import tantivy

from codesearch import parsing
from codesearch.corpus import Corpus, project_of
from codesearch.words import split_words

_NAME_BOOST = 3.0


class FullText:
    """Finds chunks by their words.  Safe to use from several threads."""

    def __init__(self, index: tantivy.Index) -> None:
        self._index = index

    @classmethod
    def open(cls, corpus: Corpus, state: Path) -> FullText:
        """The index of `corpus` in the folder `state`, built first if it is absent or of an older corpus."""
        folder = state / f"index-{corpus.fingerprint}-{parsing.VERSION}"
        if not (folder.is_dir() and tantivy.Index.exists(str(folder))):
            _build(corpus, folder)
        return cls(tantivy.Index.open(str(folder)))

    def __len__(self) -> int:
        return int(self._index.searcher().num_docs)

    def find(self, query: str, project: str, limit: int) -> list[str]:
        """The best `limit` chunks for the words of `query`, as "path#chunk", best first; all projects if empty."""
        words = " ".join(split_words(query))
        if not words:
            return []
        wanted = self._index.parse_query(words, ["name", "body"], field_boosts={"name": _NAME_BOOST})
        if project:
            only = tantivy.Query.term_query(self._index.schema, "project", project)
            must = tantivy.Occur.Must
            wanted = tantivy.Query.boolean_query([(must, wanted), (must, tantivy.Query.const_score_query(only, 0.0))])
        searcher = self._index.searcher()
        hits = searcher.search(wanted, limit, count=False).hits
        return [searcher.doc(address)["source"][0] for _, address in hits]


def _build(corpus: Corpus, folder: Path) -> None:
    """Write the index beside `folder` and put it there in one step; then drop those of older corpora."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = folder.with_name(f"draft-{os.getpid()}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    # One thread: equal scores are ranked by position, and positions must not depend on timing.
    writer = tantivy.Index(_schema(), path=str(draft)).writer(heap_size=64_000_000, num_threads=1)
    for path in corpus.files:
        for document in _documents(corpus.root / path, path):
            writer.add_document(document)
    writer.commit()
    writer.wait_merging_threads()
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)
    for old in folder.parent.glob("index-*"):
        if old != folder:
            shutil.rmtree(old, ignore_errors=True)


def _documents(file: Path, path: str) -> list[tantivy.Document]:
    try:
        parsed = parsing.parse_file(file, file.read_bytes())
    except OSError:  # went away, or may not be read
        return []
    return [
        tantivy.Document(
            source=f"{path}#{chunk.name}",
            project=project_of(path),
            name=" ".join(split_words(f"{path} {chunk.name}")),
            body=parsed.text(chunk),
        )
        for chunk in parsed.chunks
    ]


def _schema() -> tantivy.Schema:
    builder = tantivy.SchemaBuilder()
    builder.add_text_field("source", stored=True, tokenizer_name="raw", index_option="basic")
    builder.add_text_field("project", tokenizer_name="raw", index_option="basic")
    builder.add_text_field("name", tokenizer_name="en_stem", index_option="freq")
    builder.add_text_field("body", tokenizer_name="en_stem", index_option="freq")
    return builder.build()
