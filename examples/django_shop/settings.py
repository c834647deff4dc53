"""A project without a database: pages of products, cached in memory, or on Redis where REDIS_URL names a server."""

import os
from pathlib import Path

BASE_DIR = Path(__file__).parent
SECRET_KEY = "an example has no secrets"
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = ["preheat.django", "shop"]
ROOT_URLCONF = "shop.urls"
USE_TZ = True

REDIS_URL = os.environ.get("REDIS_URL")
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_URL, "TIMEOUT": 600}
    if REDIS_URL
    else {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "TIMEOUT": 600},
}
PREHEAT = {
    "CACHES": {"default": {"PRIORITY": 8}},
    "STATE_DIR": os.environ.get("STATE_DIR", BASE_DIR / ".preheat"),
    "STRATEGY": "aggressive",
}
