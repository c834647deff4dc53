"""A file that somebody else may be reading: it is there whole, as it was before, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def write_whole(path: str, parts: Iterable[bytes], *, mode: int = 0o666) -> None:
    """Write `parts` to `path`, made durable before it takes the place of what is there.

    `mode` is that of the new file, less the umask.

    Raises:
        OSError: It can't be written; what was there still is.
    """
    beside = f"{path}.{os.getpid()}.part"
    try:
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError:
        Path(beside).unlink(missing_ok=True)
        raise
