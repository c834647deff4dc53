"""Models in, bytes out, and back; what does not fit is refused."""

import msgspec
import numpy as np
import pytest

from preheat._predict import stored
from preheat._predict.blend import FALLBACK, present, train_model
from preheat._predict.features import FEATURES
from preheat._predict.learned import Learned
from preheat._predict.stored import MOST_NETWORKS, decode_model, encode_model
from trails import popular_trail

CAPACITY = 20_000


@pytest.fixture(scope="module")
def model():
    return train_model(popular_trail(3000, 200), CAPACITY)


def changed(model, **changes):
    """The model's bytes, with other fields."""
    return msgspec.msgpack.encode(msgspec.msgpack.decode(encode_model(model)) | changes)


def test_a_model_comes_back_as_it_was(model):
    again = decode_model(encode_model(model))
    for name in ("capacity_bytes", "accesses", "pool", "captured", "importance"):
        assert getattr(again, name) == getattr(model, name)
    assert list(again.importance) == list(model.importance)  # in their order
    moment = present(popular_trail(2000, 150, 1), CAPACITY)
    assert np.array_equal(again.chance(moment), model.chance(moment))
    assert encode_model(again) == encode_model(model)


def test_a_model_that_learned_nothing_comes_back():
    model = train_model(popular_trail(50, 10), CAPACITY)
    again = decode_model(encode_model(model))
    assert (again.learned, dict(again.pool), again.accesses) == (None, dict(FALLBACK), 50)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"version": stored.VERSION + 1}, "another version"),
        ({"features": [*FEATURES[1:], FEATURES[0]]}, "another version"),
        ({"deadlines": [0.5, 1.0]}, "another version"),
        ({"pool": {}}, "predictors that don't exist"),
        ({"pool": {"oracle": 1.0}}, "predictors that don't exist"),
        ({"pool": {"recency": -1.0}}, "weights"),
        ({"networks": []}, "without what it learned"),
        ({"networks": [{}] * (MOST_NETWORKS + 1)}, "predictors that don't exist"),
        ({"networks": [{}]}, "centre does not fit"),
        ({"networks": [{"centre": b"abc"}]}, r".+"),
        ({"capacity_bytes": "much"}, "Expected `int`"),
        ({"surprise": 1}, "unknown field"),
    ],
)
def test_what_does_not_fit_is_refused(model, changes, told):
    with pytest.raises(ValueError, match=told):
        decode_model(changed(model, **changes))


@pytest.mark.parametrize("body", [b"", b"\x00", b"\xc1", b"{}", b"\x80"])
def test_what_is_no_model_is_refused(body):
    with pytest.raises(ValueError, match=r".+"):
        decode_model(body)


def test_trees_need_the_extra(model, monkeypatch):
    monkeypatch.setattr(stored, "is_available", lambda: False)
    with pytest.raises(ValueError, match="extra 'ml'"):
        decode_model(changed(model, trees=["tree"]))
    monkeypatch.setattr(stored, "is_available", lambda: True)
    assert decode_model(changed(model, trees=["tree"])).learned.trees == ("tree",)


def test_trees_are_stored_with_the_networks(model):
    pytest.importorskip("lightgbm", reason="the extra 'ml' is not installed")
    again = decode_model(encode_model(model))
    assert len(again.learned.trees) == 2
    assert isinstance(again.learned, Learned)
