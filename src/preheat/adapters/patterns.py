"""Patterns of keys, such as "product:{id:int}": which keys a loader makes, and with which arguments.

`{name}` stands for text without a colon and without the character that follows the field, `{name:int}` for a whole
number, `{name:any}` for any text.  So no key takes long to look at, whoever wrote it.
"""

from __future__ import annotations

import re
from typing import Any

from preheat.errors import InvalidSetting

LONGEST_KEY = 2_000  # characters; no pattern matches a longer one

_KINDS = ("", "int", "any")
_FIELD = re.compile(r"\{([^{}]*)\}")


class Pattern:
    """One pattern.

    Raises:
        InvalidSetting: It can't be used as a pattern of keys.
    """

    def __init__(self, text: str) -> None:
        if not isinstance(text, str) or not text:
            raise InvalidSetting(f"the pattern of keys {text!r} has to be text, as in 'product:{{id}}'")
        self.text = text
        self._ints: set[str] = set()
        self.names: list[str] = []
        self._expression = re.compile(self._translated(), re.DOTALL)

    def match(self, key: str) -> dict[str, Any] | None:
        """The arguments that `key` holds, by name; None if it is no such key."""
        found = self._expression.fullmatch(key) if len(key) <= LONGEST_KEY else None
        if found is None:
            return None
        return {name: int(text) if name in self._ints else text for name, text in found.groupdict().items()}

    def _translated(self) -> str:
        parts = _FIELD.split(self.text)  # literal, field, literal, ...
        literals, fields = parts[::2], parts[1::2]
        if any("{" in text or "}" in text for text in literals):
            raise InvalidSetting(f"the pattern {self.text!r} has a brace that is not closed, or not opened")
        if "" in literals[1:-1] or sum(field.endswith(":any") for field in fields) > 1:
            raise InvalidSetting(
                f"the pattern {self.text!r} can't tell its fields apart; put text between them, and give at most one "
                "of them as name:any"
            )
        after = zip(fields, literals[1:], strict=True)
        matched = [self._field(field, text[:1]) + re.escape(text) for field, text in after]
        return re.escape(literals[0]) + "".join(matched)

    def _field(self, field: str, follows: str) -> str:
        name, _, kind = field.partition(":")
        if not name.isidentifier() or name in self.names or kind not in _KINDS:
            raise InvalidSetting(
                f"the pattern {self.text!r} has the field {{{field}}}; a field is a name of its own, or name:int, "
                "or name:any"
            )
        self.names.append(name)
        if kind == "int":
            self._ints.add(name)
            return f"(?P<{name}>-?[0-9]{{1,18}})"
        return f"(?P<{name}>.+)" if kind == "any" else f"(?P<{name}>[^:{re.escape(follows)}]+)"
