"""Texts by their digests, and many of them at once: what is resident of them, and what is to be asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import xxhash

from preheat.caches._misses import Request

if TYPE_CHECKING:
    from numpy.typing import NDArray

DIGEST_BYTES = 16


class Batch(NamedTuple):
    """What was found of many texts.

    Attributes:
        matrix: (p, d) the vectors that are resident.
        present: (p,) the positions of their texts.
        absent: The key of each other position.
        requests, texts: What is to be asked for, each once.
    """

    matrix: NDArray[np.float32]
    present: NDArray[np.int64]
    absent: dict[int, str]
    requests: list[Request]
    texts: list[str]

    def completed(self, found: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """(n, d) all of them, with those `found` for the requests in their places."""
        if not self.absent:
            return self.matrix
        by_key = {request.key: vector for request, vector in zip(self.requests, found, strict=True)}
        matrix = np.empty((len(self.present) + len(self.absent), len(found[0])), np.float32)
        if len(self.present):
            matrix[self.present] = self.matrix
        for n, key in self.absent.items():
            matrix[n] = by_key[key]
        return matrix


def digests_of(texts: Sequence[str]) -> bytes:
    """The digests of all of them, one behind the other."""
    try:
        return b"".join(map(xxhash.xxh3_128_digest, map(str.encode, texts)))
    except UnicodeEncodeError:  # a lone surrogate
        return b"".join(xxhash.xxh3_128_digest(text.encode("utf-8", "surrogatepass")) for text in texts)


def key_of(text: str) -> str:
    """The key of `text`: its digest in hex."""
    return xxhash.xxh3_128_hexdigest(text.encode("utf-8", "surrogatepass"))


def digest_of(text: str) -> bytes:
    """The digest of `text`: of its UTF-8, with lone surrogates."""
    return xxhash.xxh3_128_digest(text.encode("utf-8", "surrogatepass"))
