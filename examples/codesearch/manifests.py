"""Names of the packages that a project's manifests ask for.  Versions and markers are left out."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

_NAME = re.compile(r"[A-Za-z0-9][\w.\-]*")
_GO_LINE = re.compile(r"^\s*(?:require\s+)?([\w.\-]+(?:/[\w.\-~]+)+)\s+v\S+", re.MULTILINE)


def dependencies_in(path: Path) -> set[str]:
    """What the manifest at `path` asks for.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not what its name says.
    """
    try:
        return {name for name in MANIFESTS[path.name](path.read_text("utf-8")) if name}
    except (AttributeError, TypeError) as error:  # valid JSON or TOML, of an unexpected shape
        raise ValueError(f"{path.name} has an unexpected shape") from error


def _pyproject(text: str) -> Iterable[str]:
    data = tomllib.loads(text)
    project = data.get("project", {})
    wanted = list(project.get("dependencies", []))
    for extra in project.get("optional-dependencies", {}).values():
        wanted += extra
    poetry = data.get("tool", {}).get("poetry", {}).get("dependencies", {})
    return [_name(w) for w in wanted] + [name for name in poetry if name != "python"]


def _requirements(text: str) -> Iterable[str]:
    return [_name(line) for line in text.splitlines() if not line.lstrip().startswith(("#", "-"))]


def _package_json(text: str) -> Iterable[str]:
    data = json.loads(text)
    return [name for kind in ("dependencies", "devDependencies") for name in data.get(kind, {})]


def _go_mod(text: str) -> Iterable[str]:
    return _GO_LINE.findall(text)


def _cargo(text: str) -> Iterable[str]:
    data: dict[str, Any] = tomllib.loads(text)
    return [name for kind in ("dependencies", "dev-dependencies") for name in data.get(kind, {})]


def _name(requirement: str) -> str:
    found = _NAME.match(requirement.strip())
    return found.group() if found else ""


MANIFESTS: dict[str, Callable[[str], Iterable[str]]] = {
    "Cargo.toml": _cargo,
    "go.mod": _go_mod,
    "package.json": _package_json,
    "pyproject.toml": _pyproject,
    "requirements.txt": _requirements,
}
