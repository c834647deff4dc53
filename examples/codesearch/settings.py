"""What the service is told by its environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

MIB = 2**20


class SettingsError(Exception):
    """A variable has a value that makes no sense; the message is one sentence for the user."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of the service; those of the warm-up itself are the CACHE_WARMUP_* variables, read by preheat."""

    corpus: str | None = None
    state: Path = Path(".codesearch")
    warmup: bool = True
    file_bytes: int = 16 * MIB
    embedding_bytes: int = 12 * MIB
    search_bytes: int = 3 * MIB
    project_bytes: int = 1 * MIB

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """The settings that the CODESEARCH_* variables give.

        Raises:
            SettingsError: A variable has a value that makes no sense.
        """
        default = cls()
        return cls(
            corpus=environment.get("CODESEARCH_CORPUS") or default.corpus,
            state=Path(environment.get("CODESEARCH_STATE") or default.state),
            warmup=_switch(environment, "CODESEARCH_WARMUP", default.warmup),
            file_bytes=_size(environment, "CODESEARCH_FILE_MB", default.file_bytes),
            embedding_bytes=_size(environment, "CODESEARCH_EMBEDDING_MB", default.embedding_bytes),
            search_bytes=_size(environment, "CODESEARCH_SEARCH_MB", default.search_bytes),
            project_bytes=_size(environment, "CODESEARCH_PROJECT_MB", default.project_bytes),
        )


def _switch(environment: Mapping[str, str], name: str, default: bool) -> bool:
    value = environment.get(name, "1" if default else "0")
    if value not in ("0", "1"):
        raise SettingsError(f"{name} must be 0 or 1, not {value!r}.")
    return value == "1"


def _size(environment: Mapping[str, str], name: str, default: int) -> int:
    try:
        size_bytes = int(float(environment.get(name, default / MIB)) * MIB)
    except (ValueError, OverflowError):
        size_bytes = 0
    if size_bytes <= 0:
        raise SettingsError(f"{name} must be a positive number of megabytes, not {environment[name]!r}.")
    return size_bytes
