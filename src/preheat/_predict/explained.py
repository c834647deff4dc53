"""A model as people read it: who predicts, how well it did, what matters to it."""

from __future__ import annotations

from itertools import islice
from typing import Any

from preheat._predict.blend import Model, pool_name


def model_summary(model: Model, features: int) -> dict[str, Any]:
    """`model` as plain data.

    `predictor` is the pool that serves, `captured` its share of the misses that could be saved in the windows that
    were validated (None if none were), `validated` those of all pools, best first; `importance` names the `features`
    that matter most, with the nats that are lost per item when they are shuffled.
    """
    predictor = pool_name(model.pool)
    best_first = dict(sorted(model.captured.items(), key=lambda pair: -pair[1]))
    return {
        "predictor": predictor,
        "capacity_bytes": model.capacity_bytes,
        "accesses": model.accesses,
        "captured": model.captured.get(predictor),
        "validated": best_first,
        "importance": dict(islice(model.importance.items(), features)),
    }
