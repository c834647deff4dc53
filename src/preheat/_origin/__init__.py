"""What protects an origin, the source that a cache is loaded from, against its warm-up.

Values and decisions only; every call carries its instant.  One file per subject:

    bucket      so many per second
    limit       how many at a time, going by how long they take
    retry       how many retries, and when
    refusal     what an exception says about its origin
    breaker     when to leave it alone
    origin      all of them behind the questions that a run asks
    sharing     which caches have the same one
"""

from preheat._origin.origin import Limits, Origin
from preheat._origin.refusal import RETRY_AFTER_CAP_SECONDS, Refusal, parse_retry_after, read_refusal
from preheat._origin.sharing import origin_of, origins_of

__all__ = [
    "RETRY_AFTER_CAP_SECONDS",
    "Limits",
    "Origin",
    "Refusal",
    "origin_of",
    "origins_of",
    "parse_retry_after",
    "read_refusal",
]
