"""A source file as symbols and chunks: what can be opened, and what can be found.

Python goes through tree-sitter: a chunk for each function, method and class head, and one for what stands before
the first of them.  Other languages are cut into windows of lines.
"""

from __future__ import annotations

import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tree_sitter_python
from tree_sitter import Language, Node, Parser, Query, QueryCursor

from codesearch.corpus import language_of

VERSION = 1  # of what this module makes of a file; part of the name of the stored index
WINDOW_LINES = 60
WINDOW_BYTES = 4_000
MODULE = "<module>"

_PYTHON = Language(tree_sitter_python.language())
_QUOTES = re.compile(r"^[rRuU]*(\"\"\"|'''|\"|')|(\"\"\"|'''|\"|')$")
_DEFINITIONS = Query(_PYTHON, "[(function_definition) (class_definition)] @definition")


@dataclass(frozen=True, slots=True)
class Symbol:
    """A function, method or class; `doc` is the first line of its docstring."""

    name: str
    kind: str
    line: int
    last_line: int
    doc: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """A searchable piece of a file: bytes `start` to `end` of its source.  `name` is unique in the file."""

    name: str
    line: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class ParsedFile:
    """A file as the service keeps it: the source once, as UTF-8, and what lies where in it."""

    language: str
    lines: int
    source: bytes
    symbols: tuple[Symbol, ...]
    chunks: tuple[Chunk, ...]

    def chunk(self, name: str) -> Chunk | None:
        """The chunk of that name; None if there is none (any more)."""
        return next((chunk for chunk in self.chunks if chunk.name == name), None)

    def text(self, chunk: Chunk) -> str:
        """The source of `chunk`."""
        return self.source[chunk.start : chunk.end].decode("utf-8", "replace")


def parse_file(path: Path, content: bytes) -> ParsedFile:
    """Parse `content` as the language that the name of `path` tells.  Never fails: errors stay inside their lines."""
    source = _as_utf8(content)
    language = language_of(path.name)
    symbols: list[Symbol] = []
    spans: list[tuple[str, int, int]] = []
    if language == "Python":
        symbols, spans = _outline(Parser(_PYTHON).parse(source).root_node)
        first = min((start for _, start, _ in spans), default=0)
        if source[:first].strip():
            spans.insert(0, (MODULE, 0, min(first, _cut(source, 0, first))))
    if not spans:
        spans = [("", 0, len(source))]
    lines = source.count(b"\n") + (not source.endswith(b"\n") and bool(source))
    return ParsedFile(language, lines, source, tuple(symbols), tuple(_chunks(source, spans)))


def _definitions(root: Node) -> Iterator[tuple[str, Node]]:
    """(qualified name, node) of each function, method and class in order; those inside functions are left out."""
    enclosing: list[tuple[int, str]] = []  # end and prefix of the definitions that we are in; no prefix in a function
    nodes = QueryCursor(_DEFINITIONS).captures(root).get("definition", [])
    for node in sorted(nodes, key=lambda n: (n.start_byte, -n.end_byte)):
        while enclosing and enclosing[-1][0] <= node.start_byte:
            enclosing.pop()
        prefix = enclosing[-1][1] if enclosing else "."
        identifier = node.child_by_field_name("name")
        is_class = node.type == "class_definition"
        name = prefix + (identifier.text or b"").decode("utf-8", "replace") if identifier and prefix else ""
        enclosing.append((node.end_byte, name + "." if name and is_class else ""))
        if name:
            yield name.removeprefix("."), node


def _outline(root: Node) -> tuple[list[Symbol], list[tuple[str, int, int]]]:
    """The symbols of a module, and (name, start, end) of the chunks that they make."""
    symbols: list[Symbol] = []
    spans: list[tuple[str, int, int]] = []
    heads: dict[str, int] = {}
    for name, node in _definitions(root):
        outer = node.parent if node.parent and node.parent.type == "decorated_definition" else node
        owner = name.rpartition(".")[0]
        if owner in heads:  # the head of a class ends where its first member begins
            span = heads.pop(owner)
            spans[span] = (owner, spans[span][1], outer.start_byte)
        kind = "method" if owner else "function"
        if node.type == "class_definition":
            kind, heads[name] = "class", len(spans)
        symbols.append(Symbol(name, kind, outer.start_point[0] + 1, outer.end_point[0] + 1, _doc_line(node)))
        spans.append((name, outer.start_byte, outer.end_byte))
    return symbols, spans


def _doc_line(definition: Node) -> str:
    """First line of the docstring of a definition; empty if it has none."""
    string = _first_child(definition.child_by_field_name("body"))
    if string is not None and string.type == "expression_statement":
        string = _first_child(string)
    if string is None or string.type != "string" or string.text is None:
        return ""
    text = _QUOTES.sub("", string.text.decode("utf-8", "replace")).strip()
    return text.partition("\n")[0].strip()


def _first_child(node: Node | None) -> Node | None:
    return node.named_child(0) if node is not None and node.named_child_count else None


def _chunks(source: bytes, spans: list[tuple[str, int, int]]) -> Iterator[Chunk]:
    """`spans` as chunks: long ones cut into windows, equal names numbered, blank ones left out."""
    seen: Counter[str] = Counter()
    line, counted = 1, 0
    for name, start, end in sorted(spans, key=lambda span: span[1]):
        while start < end:
            stop = _cut(source, start, end)
            line, counted = line + source.count(b"\n", counted, start), start
            if source[start:stop].strip():
                label = name or f"L{line}"
                seen[label] += 1
                yield Chunk(label if seen[label] == 1 else f"{label}~{seen[label]}", line, start, stop)
            start = stop


def _cut(source: bytes, start: int, end: int) -> int:
    """Where the window that begins at `start` ends: after a line if possible, and never past `end`."""
    stop = start
    for _ in range(WINDOW_LINES):
        newline = source.find(b"\n", stop, end)
        following = newline + 1 if newline >= 0 else end
        if following - start > WINDOW_BYTES:
            break
        stop = following
        if stop >= end:
            return end
    return stop if stop > start else _character_boundary(source, min(start + WINDOW_BYTES, end))


def _character_boundary(source: bytes, at: int) -> int:
    """The nearest start of a UTF-8 character at or before `at`."""
    while at < len(source) and source[at] & 0xC0 == 0x80:
        at -= 1
    return at


def _as_utf8(content: bytes) -> bytes:
    """`content` as UTF-8 without a byte order mark, by the encoding it declares, or else Latin-1, which takes any."""
    try:
        content.decode("utf-8")
        return content.removeprefix(b"\xef\xbb\xbf")
    except UnicodeDecodeError:
        pass
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        return content.decode(encoding).encode("utf-8", "replace")
    except (SyntaxError, UnicodeDecodeError, LookupError):
        return content.decode("latin-1").encode()
