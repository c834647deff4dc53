"""What is searched: a folder of source code, the projects in it, and the facts of a project.

A project is a folder directly below the root that holds source code; loose files at the root are project ".".
"""

from __future__ import annotations

import hashlib
import os
import sysconfig
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from codesearch.manifests import MANIFESTS, dependencies_in

LANGUAGES = {
    ".c": "C", ".h": "C", ".cc": "C++", ".cpp": "C++", ".hpp": "C++", ".cs": "C#", ".clj": "Clojure",
    ".css": "CSS", ".dart": "Dart", ".ex": "Elixir", ".exs": "Elixir", ".erl": "Erlang", ".go": "Go",
    ".hs": "Haskell", ".html": "HTML", ".java": "Java", ".js": "JavaScript", ".jsx": "JavaScript",
    ".mjs": "JavaScript", ".jl": "Julia", ".kt": "Kotlin", ".lua": "Lua", ".m": "Objective-C", ".ml": "OCaml",
    ".php": "PHP", ".pl": "Perl", ".py": "Python", ".pyi": "Python", ".pyw": "Python", ".r": "R", ".rb": "Ruby",
    ".rs": "Rust", ".scala": "Scala", ".sh": "Shell", ".sql": "SQL", ".swift": "Swift", ".ts": "TypeScript",
    ".tsx": "TypeScript", ".vue": "Vue", ".zig": "Zig",
}  # fmt: skip
LARGEST_FILE_BYTES = 1_000_000  # beyond it lies generated and minified code
SKIPPED_FOLDERS = frozenset({"__pycache__", "node_modules", "site-packages", "dist-packages", "venv"})
TEST_FOLDERS = frozenset({"test", "tests", "idle_test"})


class CorpusError(Exception):
    """There is nothing to search; the message is one sentence for the user."""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A source file of a project."""

    path: str
    language: str
    lines: int


@dataclass(frozen=True, slots=True)
class ProjectFacts:
    """What a project is.

    Attributes:
        name: Its folder, "." for the loose files at the root.
        files: Its source files by path.
        languages: (language, lines), most lines first.
        manifests: Paths of the dependency manifests found in it.
        dependencies: What the manifests ask for, sorted, each once.
        unreadable: Manifests that could not be understood.
    """

    name: str
    files: tuple[FileFacts, ...]
    languages: tuple[tuple[str, int], ...]
    manifests: tuple[str, ...]
    dependencies: tuple[str, ...]
    unreadable: tuple[str, ...]

    @property
    def lines(self) -> int:
        """Lines of all its source files."""
        return sum(lines for _, lines in self.languages)


@dataclass(frozen=True, slots=True)
class Corpus:
    """The source files below `root` as they were at the scan.

    Attributes:
        root: Absolute path of the folder.
        files: Paths of the source files, "/"-separated and relative to `root`, sorted.
        projects: Names of the projects, sorted.
        fingerprint: Changes when a file comes, goes or is written.
    """

    root: Path
    files: tuple[str, ...]
    projects: tuple[str, ...]
    fingerprint: str
    skipped: frozenset[str]
    _members: frozenset[str] = field(repr=False)

    @classmethod
    def scan(cls, root: Path, *, skipped: frozenset[str] = SKIPPED_FOLDERS) -> Corpus:
        """The source files below `root`, without hidden folders and those named in `skipped`.

        Raises:
            CorpusError: `root` is not a folder, or holds no source file.
        """
        root = root.expanduser().absolute()
        if not root.is_dir():
            raise CorpusError(f"The corpus {str(root)!r} is not a folder.")
        stamps = sorted(_source_files(root, skipped))
        if not stamps:
            raise CorpusError(f"The corpus {str(root)!r} holds no source file of a language known here.")
        files = tuple(path for path, _, _ in stamps)
        digest = hashlib.blake2b(repr((str(root), stamps)).encode(errors="surrogateescape"), digest_size=8)
        projects = tuple(sorted({project_of(path) for path in files}))
        return cls(root, files, projects, digest.hexdigest(), skipped, frozenset(files))

    @classmethod
    def standard_library(cls) -> Corpus:
        """The standard library of the running Python without its test packages."""
        return cls.scan(Path(sysconfig.get_path("stdlib")), skipped=SKIPPED_FOLDERS | TEST_FOLDERS)

    @classmethod
    def at(cls, path: str | None) -> Corpus:
        """The folder at `path`; the standard library for None or an empty path."""
        return cls.scan(Path(path), skipped=SKIPPED_FOLDERS) if path else cls.standard_library()

    def __contains__(self, path: object) -> bool:
        return path in self._members

    def state(self, folder: Path) -> str:
        """A digest of the files that the facts of the project in `folder` are made of.

        Raises:
            FileNotFoundError: There is no such folder.
        """
        folder.stat()
        deep = folder != self.root
        manifests = ((path, path.stat()) for path in _manifests(folder, self.skipped, deep=deep))
        stamps = [
            *sorted(_source_files(folder, self.skipped, below=self.root, deep=deep)),
            *sorted((path.as_posix(), stat.st_size, stat.st_mtime_ns) for path, stat in manifests),
        ]
        return hashlib.blake2b(repr(stamps).encode(errors="surrogateescape"), digest_size=8).hexdigest()

    def facts(self, folder: Path) -> ProjectFacts:
        """What the project in `folder` is; the root itself stands for its loose files."""
        name = "." if folder == self.root else folder.relative_to(self.root).as_posix()
        files = tuple(
            FileFacts(path, language_of(path), _count_lines(self.root / path))
            for path, _, _ in sorted(_source_files(folder, self.skipped, below=self.root, deep=name != "."))
        )
        languages: Counter[str] = Counter()
        for file in files:
            languages[file.language] += file.lines
        manifests, dependencies, unreadable = [], set[str](), []
        for path in sorted(_manifests(folder, self.skipped, deep=name != ".")):
            relative = path.relative_to(self.root).as_posix()
            manifests.append(relative)
            try:
                dependencies |= dependencies_in(path)
            except (OSError, ValueError):
                unreadable.append(relative)
        return ProjectFacts(
            name, files, tuple(languages.most_common()), tuple(manifests), tuple(sorted(dependencies)),
            tuple(unreadable),
        )  # fmt: skip


def project_of(path: str) -> str:
    """The project that the file at `path` belongs to."""
    folder, slash, _ = path.partition("/")
    return folder if slash else "."


def language_of(path: str) -> str:
    """The language of a file by its name; empty if it is not source code."""
    return LANGUAGES.get(os.path.splitext(path)[1].lower(), "")


def _source_files(
    folder: Path, skipped: frozenset[str], *, below: Path | None = None, deep: bool = True
) -> Iterator[tuple[str, int, int]]:
    """(path relative to `below`, size, time of the last change) of each source file in `folder`."""
    below = below or folder
    for path in _walk(folder, skipped, deep=deep):
        if not language_of(path.name):
            continue
        try:
            stat = path.stat()
        except OSError:  # went away since it was listed, or a link to nowhere
            continue
        if stat.st_size <= LARGEST_FILE_BYTES:
            yield path.relative_to(below).as_posix(), stat.st_size, stat.st_mtime_ns


def _manifests(folder: Path, skipped: frozenset[str], *, deep: bool) -> Iterator[Path]:
    return (path for path in _walk(folder, skipped, deep=deep) if path.name in MANIFESTS)


def _walk(folder: Path, skipped: frozenset[str], *, deep: bool) -> Iterator[Path]:
    """Every file in `folder`; below it too if `deep`."""
    for here, folders, files in os.walk(folder):
        folders[:] = [f for f in folders if deep and f not in skipped and not f.startswith(".")]
        yield from (Path(here, name) for name in files)


def _count_lines(path: Path) -> int:
    try:
        content = path.read_bytes()
    except OSError:
        return 0
    return content.count(b"\n") + (not content.endswith(b"\n") and bool(content))
