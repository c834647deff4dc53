"""What the workers of a bulk warm-up warm in tests: a shared cache whose origin notes what it is asked, and when."""

import os
import time

CACHE, NOTES, PAUSE, VALUE_BYTES = "BULK_TEST_CACHE", "BULK_TEST_NOTES", "BULK_TEST_PAUSE", "BULK_TEST_VALUE_BYTES"


def on_redis():
    """The cache "pages", as every worker makes it."""
    from preheat.adapters.redis import RedisCache, connect

    return [RedisCache(connect(os.environ[CACHE]), load, name="pages", load_many=load_many)]


def on_cluster():
    """The same on a cluster, of which one server is known."""
    from redis.cluster import RedisCluster

    from preheat.adapters.redis import RedisCache

    client = RedisCluster.from_url(os.environ[CACHE], socket_timeout=2.0)
    return [RedisCache(client, load, name="pages", load_many=load_many)]


def on_memcached():
    """The same on servers of memcached."""
    from preheat.adapters.memcached import MemcachedCache, connect

    client = connect(*os.environ[CACHE].split())
    return [MemcachedCache(client, load, name="pages", load_many=load_many, load_deadline_seconds=8.0)]


def load(key):
    """The value of one key."""
    return load_many([key])[0]


def load_many(keys):
    """Values, after a moment; they are noted in a file."""
    time.sleep(float(os.environ.get(PAUSE, "0")))
    with open(os.environ[NOTES], "a") as notes:
        notes.write("".join(f"{key}\t{time.time()}\n" for key in keys))
    return [f"value of {key}".encode().ljust(int(os.environ.get(VALUE_BYTES, "0"))) for key in keys]
