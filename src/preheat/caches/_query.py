"""A query and its parameters as one text: equal for what is the same question, different for what is not."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any
from unicodedata import is_normalized, normalize

from preheat.errors import InvalidSetting

MOST_DEPTH = 16  # parameters inside parameters
MOST_CHARACTERS = 16_384
"""Longer questions are answered and not kept."""


def question_key(query: str, parameters: Mapping[str, Any]) -> str:
    """`query` and `parameters` as canonical JSON.

    White space in the query is folded, text is brought to Unicode's form NFC, names are sorted, at any depth; tuples
    are lists.  1, 1.0 and True are three different things.

    Raises:
        InvalidSetting: A parameter is not text, a finite number, a truth value, None, or a list or a mapping with
            names of such; or they are nested too deeply.
    """
    if not isinstance(query, str):
        raise InvalidSetting(f"the query is {query!r}; it has to be text")
    asked = [_text(" ".join(query.split())), _mapping("", parameters, 0)]
    return json.dumps(asked, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def read_question(key: str) -> tuple[str, dict[str, Any]]:
    """The query and the parameters of `key`.

    Raises:
        ValueError, TypeError: It is no such key.
    """
    query, parameters = json.loads(key)
    if not isinstance(query, str) or not isinstance(parameters, dict):
        raise TypeError(f"{key!r} is no question")
    return query, parameters


def _canonical(name: str, value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return _text(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if depth < MOST_DEPTH and isinstance(value, list | tuple):
        return _sequence(name, value, depth + 1)
    if depth < MOST_DEPTH and isinstance(value, Mapping):
        return _mapping(name, value, depth + 1)
    raise InvalidSetting(
        f"search parameter {name} is {_shown(value)}; it has to be text, a finite number, a bool, None, or lists and "
        f"dicts of such, at most {MOST_DEPTH} inside each other"
    )


def _sequence(name: str, values: Sequence[Any], depth: int) -> list[Any]:
    return [_canonical(f"{name}[{n}]", value, depth) for n, value in enumerate(values)]


def _mapping(name: str, values: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    for key in values:
        if not isinstance(key, str):
            raise InvalidSetting(f"search parameter {name} has the name {_shown(key)} in it; names have to be text")
    named = {_text(key): _canonical(f"{name}.{key}" if name else key, value, depth) for key, value in values.items()}
    if len(named) < len(values):
        raise InvalidSetting(f"search parameter {name or 'names'} has a name twice, spelled in two ways")
    return dict(sorted(named.items()))


def _text(text: str) -> str:
    return str(text) if is_normalized("NFC", text) else normalize("NFC", text)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else text[:100] + "..."
