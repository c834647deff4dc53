"""Answers: JSON, pages with the headers that guard them, and refusals of one sentence."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.responses import Response

PAGE_POLICY = (
    "default-src 'none'; img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)


class Refused(Exception):
    """The request is not served: `status` says of what kind the fault is, the sentence how to mend it."""

    def __init__(self, status: int, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.headers = status, sentence, dict(headers or {})

    def answer(self) -> Response:
        """What the client gets."""
        return json_answer({"error": self.sentence}, self.status, self.headers)


def json_answer(tree: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """`tree` as JSON; numbers that JSON has no word for are null."""
    return Response(msgspec.json.encode(tree), status, headers, "application/json")


def script_answer(text: str, tag: str) -> Response:
    """The script `text`, which browsers keep as long as its `tag` is the same."""
    headers = {"cache-control": "private, max-age=86400", "etag": f'"{tag}"'}
    return Response(text, 200, headers, "text/javascript")


def page_answer(text: str, status: int = 200) -> Response:
    """The page `text`, of whose scripts and styles those alone may run that stand in it, known by their hashes."""
    scripts, styles = _allowed(text, "script"), _allowed(text, "style")
    policy = "; ".join([PAGE_POLICY, f"script-src 'self' {scripts}", f"style-src {styles} {EMPTY_STYLE}"])
    return Response(text, status, {"content-security-policy": policy}, "text/html")


def _allowed(text: str, tag: str) -> str:
    blocks = re.findall(rf"<{tag}(?:\s[^>]*)?>(.*?)</{tag}>", text, re.DOTALL)
    return " ".join(map(_hash, blocks))


def _hash(block: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(block.encode()).digest()).decode()}'"


EMPTY_STYLE = _hash("")
"""Of a style element without text, which plotly.js makes and fills rule by rule."""
