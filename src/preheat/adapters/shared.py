"""Caches on servers that processes share: what drives the protocols of `preheat._sharing`, whatever the server."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np

from preheat._model import History, ItemRef, ItemResult, WarmupItem
from preheat._record import quietly
from preheat._sharing.rules import Codec
from preheat._sharing.steps import Ask, Command, Make, Reply, Steps
from preheat._turns import apart
from preheat.adapters.counted import Counted
from preheat.errors import InvalidSetting

if TYPE_CHECKING:
    from numpy.typing import NDArray

V = TypeVar("V")
T = TypeVar("T")


class SharingProtocol(Protocol):
    """How values on a server are read, written and warmed, step by step."""

    codec: Codec

    def read(self, key: str) -> Steps[tuple[Any, bool]]: ...
    def write(self, key: str, value: Any) -> Steps[bool]: ...
    def delete(self, keys: Sequence[str]) -> Steps[bool]: ...
    def find(self, keys: Sequence[str]) -> Steps[list[bool] | None]: ...
    def warm(self, keys: Sequence[str], expected_bytes: Sequence[int]) -> Steps[list[ItemResult]]: ...


class Asks(Protocol):
    """What carries commands to a server, without an error, and answers None where nobody does."""

    def ask(self, commands: Sequence[Command]) -> list[Reply] | None: ...


class SharedCache(Counted, Generic[V]):
    """What all caches on servers have in common: counters, candidates, and a driver for steps."""

    def __init__(
        self,
        sharing: SharingProtocol,
        line: Asks,
        load: Callable[[str], Any],
        load_many: Callable[[Sequence[str]], Any] | None,
        *,
        name: str,
        priority: int,
        needs: Callable[[str], Iterable[ItemRef]] | None,
    ) -> None:
        super().__init__(name, priority, needs)
        self._sharing, self._blocking = sharing, line
        self._load, self._load_many = load, load_many

    def get_warmup_candidates(self, history: History, rates: NDArray[np.float64]) -> Sequence[WarmupItem]:
        """Keys that history knows and the server lacks; none while it is away.  Asks the server, and waits for it."""
        return self._candidates(history, rates, lambda keys: self._drive(self._sharing.find(keys)))

    def _warming(self, items: Sequence[WarmupItem]) -> Generator[Any, Any, list[ItemResult]]:
        results = yield from self._sharing.warm([item.ref.key for item in items], [item.size_bytes for item in items])
        self._count_warmed(items, results)
        return results

    def _reading(self, key: str) -> Generator[Any, Any, V]:
        begun = time.perf_counter()
        try:
            value, is_hit = yield from self._sharing.read(key)
        except BaseException:
            self._count(key, is_hit=False)
            self._tell_miss(key, -1, -1.0)
            raise
        self._count(key, is_hit=is_hit)
        if not is_hit and self._log is not None:
            self._tell_miss(key, len(self._sharing.codec.encode(value)), time.perf_counter() - begun)
        made: V = value
        return made

    def _drive(self, steps: Generator[Any, Any, T]) -> T:
        answer: Any = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as end:
                done: T = end.value
                return done
            if isinstance(step, Ask):
                answer = self._blocking.ask(step.commands)
            elif isinstance(step, Make):
                answer = self._make(step)
            else:
                answer = None
                with apart():
                    time.sleep(step.seconds)

    def _make(self, step: Make) -> list[Any]:
        if not step.is_warm_up:
            return [_tried(self._load, key) for key in step.keys]
        with quietly():
            if self._load_many is not None and len(step.keys) > 1:
                return of_many(step.keys, _tried(self._load_many, step.keys))
            return [_tried(self._load, key) for key in step.keys]


class BlockingCache(SharedCache[V]):
    """The operations of a cache over a blocking client."""

    def get(self, key: str) -> V:
        """The value of `key`, loaded if the server has none, or is away."""
        return self._drive(self._reading(key))

    def put(self, key: str, value: V) -> bool:
        """Keep a newer `value`; False if the server did not take it: then `key` is deleted, as soon as it can be."""
        return self._drive(self._sharing.write(key, value))

    def delete(self, *keys: str) -> bool:
        """Delete `keys`, also for loads under way in any process; False while the server has yet to be told."""
        return self._drive(self._sharing.delete(keys))

    def warmup_item(self, item: WarmupItem) -> ItemResult:
        """Load `item` as a miss would; see `preheat.abc.WarmableCache`."""
        return self._drive(self._warming([item]))[0]

    def warmup_items(self, items: Sequence[WarmupItem]) -> Sequence[ItemResult]:
        """As `warmup_item` for each of `items`, in few round trips."""
        return self._drive(self._warming(items))

    def find_resident(self, keys: Sequence[str]) -> list[bool] | None:
        """Whether each of `keys` is there; None while the server is away."""
        return self._drive(self._sharing.find(keys))


def codec_of(encode: Callable[[Any], bytes] | None, decode: Callable[[bytes], Any] | None) -> Codec:
    """The pair; without one, values have to be bytes or text, and come back as bytes.

    Raises:
        InvalidSetting: There is one of the two.
    """
    if (encode is None) != (decode is None):
        raise InvalidSetting("encode and decode belong together; give both or none")
    return Codec(_bytes, bytes) if encode is None or decode is None else Codec(encode, decode)


def _tried(load: Callable[[Any], Any], what: Any) -> Any:
    """What `load` makes of it, or the exception that it raised."""
    try:
        return load(what)
    except Exception as error:
        return error


def failed_load(error: Exception) -> ItemResult:
    """What becomes of an item whose load raised `error`."""
    from preheat._attempt import failure_of  # what runs a warm-up has it already

    return failure_of(error)


def of_many(keys: Sequence[str], made: Any) -> list[Any]:
    """One value or exception for each of `keys`."""
    if isinstance(made, Exception):
        return [made] * len(keys)
    values = list(made)
    if len(values) != len(keys):
        return [ValueError(f"load_many gave {len(values)} values for {len(keys)} keys")] * len(keys)
    return values


def _bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if not isinstance(value, bytes):
        raise TypeError(f"a {type(value).__name__} is neither bytes nor text; give the cache encode and decode")
    return value
