"""What the workers of a bulk warm-up warm in tests: a shared cache whose origin notes what it is asked, and when."""

import os
import time

from preheat.adapters.redis import RedisCache, connect

CACHE_URL, NOTES = "BULK_TEST_CACHE", "BULK_TEST_NOTES"


def shared():
    """The cache "pages", as every worker makes it; each load takes a moment and is noted in a file."""
    pause_seconds = float(os.environ.get("BULK_TEST_PAUSE", "0"))

    def load_many(keys):
        time.sleep(pause_seconds)
        with open(os.environ[NOTES], "a") as notes:
            notes.write("".join(f"{key}\t{time.time()}\n" for key in keys))
        return [f"value of {key}".encode() for key in keys]

    client = connect(os.environ[CACHE_URL])
    return [RedisCache(client, lambda key: load_many([key])[0], name="pages", load_many=load_many)]
