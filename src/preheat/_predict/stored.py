"""A model as bytes, so that the next process can predict without learning first.

Data only (MessagePack).  A model of other features, deadlines or shapes than this version's is refused, and learned
again.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import msgspec
import numpy as np

from preheat._predict.blend import EXPERTS, LEARNED, Model
from preheat._predict.boosted import is_available
from preheat._predict.examples import DEADLINES, NEVER
from preheat._predict.features import FEATURES
from preheat._predict.learned import Learned
from preheat._predict.network import HIDDEN, Network

VERSION = 1
MOST_NETWORKS = 16
LARGEST = 1e4  # of a network's numbers: no training makes one larger
LEAST_SPREAD = 1e-4  # nor narrower than this
_SHAPES: dict[str, tuple[int, ...]] = {
    "centre": (len(FEATURES),),
    "spread": (len(FEATURES),),
    "inner": (len(FEATURES), HIDDEN),
    "inner_bias": (HIDDEN,),
    "outer": (HIDDEN, NEVER),
    "direct": (len(FEATURES), NEVER),
    "bias": (NEVER,),
}


class _Stored(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    features: tuple[str, ...]
    deadlines: tuple[float, ...]
    capacity_bytes: int
    accesses: int
    pool: dict[str, float]
    captured: dict[str, float]
    importance: dict[str, float]
    networks: list[dict[str, bytes]]
    trees: tuple[str, ...]


def encode_model(model: Model) -> bytes:
    """`model` as bytes that `decode_model` understands."""
    learned = model.learned or Learned(())
    stored = _Stored(
        version=VERSION,
        features=FEATURES,
        deadlines=DEADLINES,
        capacity_bytes=model.capacity_bytes,
        accesses=model.accesses,
        pool=dict(model.pool),
        captured=dict(model.captured),
        importance=dict(model.importance),
        networks=[{name: getattr(network, name).tobytes() for name in _SHAPES} for network in learned.networks],
        trees=learned.trees,
    )
    return msgspec.msgpack.encode(stored)


def decode_model(body: bytes) -> Model:
    """The model that `encode_model` made `body` of.

    Raises:
        ValueError: It is none of this version, or needs an extra that is not installed.
    """
    stored = msgspec.msgpack.decode(body, type=_Stored)  # a ValidationError is a ValueError
    made_of = (stored.version, stored.features, stored.deadlines)
    if made_of != (VERSION, FEATURES, DEADLINES):
        raise ValueError("a model of another version")
    if stored.trees and not is_available():
        raise ValueError("a model with trees, and the extra 'ml' is not installed")
    if not stored.pool or not set(stored.pool) <= {*EXPERTS, LEARNED} or len(stored.networks) > MOST_NETWORKS:
        raise ValueError("a model of predictors that don't exist")
    if not all(0.0 < weight <= 1.0 for weight in stored.pool.values()):
        raise ValueError("a model of a pool with weights that are none")
    learned = Learned(tuple(map(_network, stored.networks)), stored.trees) if stored.networks else None
    if LEARNED in stored.pool and learned is None:
        raise ValueError("a model without what it learned")
    return Model(stored.capacity_bytes, stored.accesses, learned, stored.pool, stored.captured, stored.importance)


def _network(parts: dict[str, bytes]) -> Network:
    arrays: dict[str, Any] = {}
    for name, shape in _SHAPES.items():
        array = np.frombuffer(parts.get(name, b""), np.float32)
        least = LEAST_SPREAD if name == "spread" else -LARGEST
        if array.size != np.prod(shape) or not ((array >= least) & (array <= LARGEST)).all():
            raise ValueError(f"{name} does not fit a network of this version")
        arrays[name] = array.reshape(shape)
    return Network(**arrays)


def decode_models(bodies: Mapping[str, bytes]) -> dict[str, Model]:
    """The models in `bodies` that this version can use, by cache."""
    found: dict[str, Model] = {}
    for cache, body in bodies.items():
        with suppress(ValueError):
            found[cache] = decode_model(body)
    return found
