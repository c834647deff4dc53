"""Histories that hypothesis draws, and what there is to compare in them."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from builders import batch

KEYS = st.sampled_from(["a", "b", "c", "日本", "", "k\0"])
INSTANTS = st.sampled_from([1.0, 60.0, 3600.0, 7201.5, 86_400.0, 1e6])  # in seconds; often the same


@st.composite
def batches(draw: st.DrawFn):
    accesses = draw(st.lists(st.tuples(KEYS, st.booleans()), min_size=1, max_size=12))
    text = st.text(st.sampled_from("abé"), max_size=3)
    load = st.tuples(st.integers(0, 2**40), st.floats(0.0, 1e3), text, text)
    loads = {key: draw(load) for key, hit in accesses if not hit and draw(st.booleans())}
    keys, hits = [key for key, _ in accesses], [hit for _, hit in accesses]
    return batch(keys, draw(INSTANTS), draw(st.sampled_from(["x", "y"])), hits=hits, loads=loads)


ordered = st.lists(batches(), max_size=8).map(lambda many: sorted(many, key=lambda each: each.at))


def by_item(history):
    """Everything known of each item, whatever its row."""
    columns = zip(
        history.cache.tolist(),
        history.keys,
        history.last_at.tolist(),
        history.counts.tolist(),
        history.gaps.tolist(),
        history.size_bytes.tolist(),
        history.load_seconds.tolist(),
        history.versions,
        history.recipes,
        strict=True,
    )
    return {(history.caches[code], key): tuple(rest) for code, key, *rest in columns}


def traffic(history):
    return {name: (int(h), int(m)) for name, h, m in zip(history.caches, history.hits, history.misses, strict=True)}


def close(a, b):
    return np.allclose(np.array(a), np.array(b), rtol=1e-5, equal_nan=True)
