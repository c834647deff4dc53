"""A process that is killed while it works."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable


def kill_while(work: Callable[[Callable[[int], None]], None], seconds: float) -> int:
    """Run `work(acknowledge)` in a child, kill it `seconds` after its first acknowledgement; the last one it gave."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(read)
            work(lambda n: os.write(write, n.to_bytes(8, "little")) and None)
        finally:
            os._exit(1)
    os.close(write)
    with os.fdopen(read, "rb") as acknowledgements:
        got = acknowledgements.read(8)
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        got += acknowledgements.read()
    return int.from_bytes(got[-8:], "little")
