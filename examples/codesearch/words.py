"""Identifiers as words: what people type is rarely what programmers wrote."""

from __future__ import annotations

import re

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_]+|\d+")


def split_words(identifier: str) -> list[str]:
    """The words of a name or sentence, in lower case: `HTTPServer.serve_forever` is http, server, serve, forever."""
    return [word.lower() for word in _WORD.findall(identifier)]
