"""Encoders: batches, order, what they refuse, and the loop of those that have to be awaited."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from preheat.caches import EmbeddingCache
from preheat.caches import encoders as module
from preheat.caches.encoders import (
    AsyncEncoder,
    Encoder,
    in_background,
    of_async_langchain,
    of_langchain,
    of_openai,
)
from preheat.errors import InvalidSetting


def lengths(texts: list[str]) -> list[list[float]]:
    return [[float(len(text)), 1.0] for text in texts]


def test_texts_go_in_batches_and_come_back_in_their_order():
    batches: list[int] = []
    encoder = Encoder("m", lambda texts: batches.append(len(texts)) or lengths(texts), batch_size=3)
    vectors = encoder(["x" * n for n in range(7)])
    assert (batches, vectors[:, 0].tolist(), vectors.dtype) == ([3, 3, 1], [float(n) for n in range(7)], np.float32)
    assert encoder([]).shape == (0, 0)


def test_long_texts_go_in_smaller_batches(monkeypatch):
    monkeypatch.setattr(module, "BATCH_CHARACTERS", 10)
    batches: list[list[int]] = []
    encoder = Encoder("m", lambda texts: batches.append([len(text) for text in texts]) or lengths(texts))
    encoder(["x" * n for n in (4, 6, 1, 50, 10, 1)])
    assert batches == [[4, 6], [1], [50], [10], [1]]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ([[1.0]], r"an array of shape \(1, 1\) for 2 texts"),
        ([1.0, 2.0], r"an array of shape \(2,\) for 2 texts"),
        ([[], []], r"an array of shape \(2, 0\) for 2 texts"),
        ([[1.0], [float("nan")]], "a vector with numbers that are not finite"),
        ([[1.0], [float("inf")]], "a vector with numbers that are not finite"),
        ([[1.0], [1.0, 2.0]], "inhomogeneous"),
    ],
)
def test_what_are_no_vectors_is_refused(answer, reason):
    with pytest.raises(ValueError, match=reason):
        Encoder("m", lambda texts: answer)(["a", "b"])


def test_batches_of_different_dimensions_are_refused():
    answers = iter([[[1.0]], [[1.0, 2.0]]])
    with pytest.raises(ValueError, match=r"vectors of \[1, 2\] dimensions"):
        Encoder("m", lambda texts: next(answers), batch_size=1)(["a", "b"])


def test_an_encoder_is_what_an_embedding_cache_takes():
    encoder = Encoder("m", lengths)
    cache = EmbeddingCache(encoder, model=encoder.model, capacity_bytes=10**6)
    assert cache.get_many(["a", "bb"])[:, 0].tolist() == [1.0, 2.0]


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_size_that_is_none_is_refused(batch_size):
    with pytest.raises(InvalidSetting, match=f"batch_size is {batch_size}; it has to be positive"):
        of_openai(None, "m", batch_size=batch_size)


@pytest.mark.parametrize(
    ("attributes", "model"),
    [
        ({"model": "small"}, "small"),
        ({"model_name": "other", "client": object()}, "other"),
        ({"model": object(), "model_id": "third"}, "third"),
        ({"model": "small", "dimensions": 256}, "small dimensions=256"),
    ],
)
def test_the_model_is_what_embeddings_say(attributes, model):
    assert of_langchain(SimpleNamespace(embed_documents=lengths, **attributes)).model == model


def test_embeddings_that_say_nothing_have_to_be_named():
    embeddings = SimpleNamespace(embed_documents=lengths, aembed_documents=None)
    with pytest.raises(InvalidSetting, match=r"SimpleNamespace does not say which model it is; name it"):
        of_langchain(embeddings)
    assert of_async_langchain(embeddings, model="m-2").model == "m-2"


@pytest.mark.parametrize("indices", [[0], [0, 0], [1, 2], [0, 1, 2], [0, 1, 1]])
def test_a_server_that_answers_other_texts_than_were_asked_is_refused(indices):
    data = [SimpleNamespace(index=index, embedding=[1.0]) for index in indices]
    client = SimpleNamespace(embeddings=SimpleNamespace(create=lambda **_: SimpleNamespace(data=data)))
    with pytest.raises(ValueError, match=r"the server gave vectors of texts \[.*\] for 2 texts"):
        of_openai(client, "m")(["a", "b"])


def test_what_has_to_be_awaited_serves_whoever_cannot_and_on_one_loop():
    loops: set[int] = set()

    async def encode(texts: list[str]) -> Any:
        loops.add(id(asyncio.get_running_loop()))
        await asyncio.sleep(0)
        return lengths(texts)

    encoder = in_background(AsyncEncoder("m", encode, batch_size=1))
    results: list[float] = []
    threads = [
        threading.Thread(target=lambda n=n: results.append(float(encoder(["x" * n, ""])[0, 0]))) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10.0)
    assert (sorted(results), len(loops)) == ([float(n) for n in range(8)], 1)


def test_an_error_on_the_loop_is_the_caller_s():
    async def fail(texts: list[str]) -> Any:
        raise RuntimeError("the server is down")

    encoder = in_background(AsyncEncoder("m", fail))
    with pytest.raises(RuntimeError, match="the server is down"):
        encoder(["a"])
    with pytest.raises(RuntimeError, match="the server is down"):
        encoder(["a"])


class Tensor:
    """As much of torch's interface as a fingerprint needs, over numpy; the real one is met in tests/integration."""

    def __init__(self, numbers: Any) -> None:
        self.numbers = np.asarray(numbers, np.float32)
        self.shape, self.dtype = self.numbers.shape, self.numbers.dtype

    def __getitem__(self, part: slice) -> Tensor:
        return Tensor(self.numbers[part])

    def detach(self) -> Tensor:
        return self

    def flatten(self) -> Tensor:
        return Tensor(self.numbers.ravel())

    float = cpu = detach

    def numpy(self) -> Any:
        return np.ascontiguousarray(self.numbers)


def fingerprint_of(weights: dict[str, Any]) -> str:
    return module._fingerprint(SimpleNamespace(state_dict=lambda: {k: Tensor(v) for k, v in weights.items()}))


def test_the_fingerprint_of_a_model_changes_with_its_weights_alone():
    weights = {"a": np.arange(5000), "b": np.ones((3, 4))}
    trained = {"a": np.arange(5000), "b": np.ones((3, 4)) * 1.001}
    assert fingerprint_of(weights) == fingerprint_of(dict(reversed(weights.items())))
    assert len({fingerprint_of(weights), fingerprint_of(trained), fingerprint_of({"a": np.arange(5000)})}) == 3
