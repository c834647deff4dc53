"""The token that clients of the HTTP side show, from the file that it is kept in."""

from __future__ import annotations

from preheat.errors import UsageError

MOST_TOKEN_BYTES = 4096


def read_token(path: str) -> str:
    """The token in the file at `path`.

    Raises:
        UsageError: There is none.
    """
    try:
        with open(path, encoding="utf-8") as file:
            token = file.read(MOST_TOKEN_BYTES).partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"the token can't be read from {path}: {getattr(error, 'strerror', 'it is no text')}"
        ) from None
    if not token:
        raise UsageError(f"{path} is empty; put the token on its first line")
    return token
