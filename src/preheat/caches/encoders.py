"""What makes vectors of texts, whatever it comes from, as the one callable that `EmbeddingCache` takes.

    EmbeddingCache(encoder := of_openai(OpenAI(), "text-embedding-3-small"), model=encoder.model, capacity_bytes=...)

Models of sentence-transformers, LangChain's `Embeddings` and clients that have OpenAI's interface; the last two also
where they are asynchronous.  None of these packages is imported here.  What they raise is raised: a warm-up tries again
after what their servers say.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from preheat.errors import InvalidSetting

if TYPE_CHECKING:
    import asyncio

    from numpy.typing import NDArray

__all__ = [
    "AsyncEncoder",
    "Encoder",
    "in_background",
    "of_async_langchain",
    "of_async_openai",
    "of_langchain",
    "of_openai",
    "of_sentence_transformer",
]

BATCH = 256
"""Texts that are sent at a time."""

BATCH_CHARACTERS = 400_000
"""Characters that are sent at a time, unless one text alone has more: servers bound a request by tokens too."""

FINGERPRINT_NUMBERS = 1024  # at either end of each of a model's tensors

_MODEL_NAMES = ("model", "model_name", "model_id", "deployment", "repo_id")


@dataclass(frozen=True, slots=True)
class Encoder:
    """Texts -> vectors: called with n texts, gives (n, d) float32.  Safe to be called from several threads.

    Attributes:
        model: Name and version of the model, and of what else its vectors depend on.
        encode: What it calls, with at most `batch_size` texts.
        batch_size: Texts that `encode` is given at a time.

    Raises, when called:
        ValueError: The model gave another number of vectors than texts, or vectors that are none.
    """

    model: str
    encode: Callable[[list[str]], Any] = field(repr=False)
    batch_size: int = BATCH

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return _joined([_matrix(self.encode(batch), batch) for batch in _batches(texts, self.batch_size)])


@dataclass(frozen=True, slots=True)
class AsyncEncoder:
    """As `Encoder`, but to be awaited.  `in_background` makes an `Encoder` of it."""

    model: str
    encode: Callable[[list[str]], Awaitable[Any]] = field(repr=False)
    batch_size: int = BATCH

    async def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return _joined([_matrix(await self.encode(batch), batch) for batch in _batches(texts, self.batch_size)])


# ---------------------------------------------------------------------------------------------- sentence-transformers


def of_sentence_transformer(
    model: Any, *, normalize: bool = True, batch_size: int = 32, name: str = "", **options: Any
) -> Encoder:
    """The vectors of a `SentenceTransformer`.

    It is called by one thread at a time: its tokenizer can't do more.  Texts of a batch are padded to the longest, so a
    vector may differ by some 1e-7 from what the same text has in another batch.

    Args:
        model: The model.
        normalize: Whether vectors have length 1.
        batch_size: Texts that the model computes at a time.
        name: What the model is called; by default what it says of itself, with a fingerprint of its weights.
        options: Handed to its `encode`, such as `prompt_name` or `truncate_dim`.
    """
    told = name or f"{_name_of_transformer(model)}@{_fingerprint(model)}"
    settings = {"normalize": normalize, **options}
    turn = threading.Lock()

    def encode(texts: list[str]) -> Any:
        with turn:
            return model.encode(
                texts, batch_size=batch_size, normalize_embeddings=normalize, show_progress_bar=False, **options
            )

    return Encoder(" ".join([told, *(f"{key}={settings[key]}" for key in sorted(settings))]), encode)


def _name_of_transformer(model: Any) -> str:
    card = getattr(model, "model_card_data", None)
    for owner, attribute in ((card, "base_model"), (card, "model_id"), (card, "model_name")):
        told = getattr(owner, attribute, None)
        if isinstance(told, str) and told:
            return told
    with suppress(AttributeError, IndexError, TypeError):  # not every first module is one of transformers'
        return Path(str(model[0].auto_model.config._name_or_path)).name
    return type(model).__name__


def _fingerprint(model: Any) -> str:
    """A digest over shape, type and both ends of all weights: that of a model trained further is another one."""
    digest = xxhash.xxh3_64()
    for name, tensor in sorted(model.state_dict().items()):
        flat = tensor.detach().flatten()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        for end in (flat[:FINGERPRINT_NUMBERS], flat[-FINGERPRINT_NUMBERS:]):
            digest.update(end.float().cpu().numpy().tobytes())
    return digest.hexdigest()


# ----------------------------------------------------------------------------------------------------------- LangChain


def of_langchain(embeddings: Any, *, model: str = "", batch_size: int = BATCH) -> Encoder:
    """The vectors of LangChain `Embeddings`, as documents have them.

    Args:
        embeddings: What has `embed_documents`.
        model: Name and version of the model; by default what `embeddings` says.
        batch_size: Texts that it is given at a time.

    Raises:
        InvalidSetting: `embeddings` does not say which model it is.
    """
    return Encoder(model or _model_of(embeddings), embeddings.embed_documents, _positive(batch_size))


def of_async_langchain(embeddings: Any, *, model: str = "", batch_size: int = BATCH) -> AsyncEncoder:
    """As `of_langchain`, by `aembed_documents`."""
    return AsyncEncoder(model or _model_of(embeddings), embeddings.aembed_documents, _positive(batch_size))


def _model_of(embeddings: Any) -> str:
    for attribute in _MODEL_NAMES:
        told = getattr(embeddings, attribute, None)
        if isinstance(told, str) and told:
            return told + _dimensions_of(getattr(embeddings, "dimensions", None))
    raise InvalidSetting(
        f"{type(embeddings).__name__} does not say which model it is; name it, with its version: model='...'"
    )


def _dimensions_of(dimensions: object) -> str:
    return f" dimensions={dimensions}" if isinstance(dimensions, int) else ""


# -------------------------------------------------------------------------------------------------------------- OpenAI


def of_openai(client: Any, model: str, *, dimensions: int | None = None, batch_size: int = BATCH) -> Encoder:
    """The vectors that a client with OpenAI's interface gets from its server.

    Args:
        client: What has `embeddings.create(model=, input=)`, such as `openai.OpenAI`.
        model: The model to ask for.
        dimensions: Of the vectors, where the model can be asked for some.
        batch_size: Texts in a request; fewer where they are long.
    """

    def encode(texts: list[str]) -> list[list[float]]:
        return _in_order(client.embeddings.create(**_request(model, texts, dimensions)), len(texts))

    return Encoder(model + _dimensions_of(dimensions), encode, _positive(batch_size))


def of_async_openai(client: Any, model: str, *, dimensions: int | None = None, batch_size: int = BATCH) -> AsyncEncoder:
    """As `of_openai`, of a client whose `embeddings.create` is to be awaited, such as `openai.AsyncOpenAI`."""

    async def encode(texts: list[str]) -> list[list[float]]:
        return _in_order(await client.embeddings.create(**_request(model, texts, dimensions)), len(texts))

    return AsyncEncoder(model + _dimensions_of(dimensions), encode, _positive(batch_size))


def _request(model: str, texts: list[str], dimensions: int | None) -> dict[str, Any]:
    asked = {"model": model, "input": texts}
    return asked if dimensions is None else {**asked, "dimensions": dimensions}


def _in_order(response: Any, count: int) -> list[list[float]]:
    """The vectors of a response, which may come in any order, by the index that each has."""
    found = {item.index: item.embedding for item in response.data}
    if len(response.data) != count or found.keys() != set(range(count)):
        raise ValueError(f"the server gave vectors of texts {sorted(found)} for {count} texts")
    return [found[n] for n in range(count)]


# ------------------------------------------------------------------------------------------------------ what they share


def _positive(batch_size: int) -> int:
    if batch_size < 1:
        raise InvalidSetting(f"batch_size is {batch_size}; it has to be positive")
    return batch_size


def _batches(texts: Sequence[str], batch_size: int) -> Iterator[list[str]]:
    """`texts` in order, in pieces of at most `batch_size` texts and `BATCH_CHARACTERS` characters."""
    batch: list[str] = []
    characters = 0
    for text in texts:
        if batch and (len(batch) == batch_size or characters + len(text) > BATCH_CHARACTERS):
            yield batch
            batch, characters = [], 0
        batch.append(text)
        characters += len(text)
    if batch:
        yield batch


def _matrix(vectors: Any, texts: list[str]) -> NDArray[np.float32]:
    matrix = np.asarray(vectors, np.float32)
    if matrix.ndim != 2 or len(matrix) != len(texts) or matrix.shape[1] == 0:
        raise ValueError(f"the model gave an array of shape {matrix.shape} for {len(texts)} texts")
    if not np.isfinite(matrix).all():
        raise ValueError("the model gave a vector with numbers that are not finite")
    return matrix


def _joined(parts: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    if len({part.shape[1] for part in parts}) > 1:
        raise ValueError(f"the model gave vectors of {sorted({part.shape[1] for part in parts})} dimensions")
    return np.concatenate(parts) if parts else np.empty((0, 0), np.float32)


# ------------------------------------------------------------------------------------- of what is to be awaited


def in_background(encoder: AsyncEncoder) -> Encoder:
    """`encoder` for whoever can't await: its calls run on a loop of their own, in a thread that the first one starts.

    All calls share that loop, so its client keeps its connections.  The thread ends with the process.
    """
    loop = _Loop()
    return Encoder(encoder.model, lambda texts: loop.run(encoder(texts)), encoder.batch_size)


class _Loop:
    """An event loop in a thread; after a fork the child starts one of its own."""

    def __init__(self) -> None:
        self._starting = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, coroutine: Any) -> Any:
        import asyncio

        return asyncio.run_coroutine_threadsafe(coroutine, self._running()).result()

    def _running(self) -> asyncio.AbstractEventLoop:
        import asyncio

        with self._starting:
            if self._loop is None or self._thread is None or not self._thread.is_alive():
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="preheat-encoder", daemon=True)
                self._thread.start()
            return self._loop
