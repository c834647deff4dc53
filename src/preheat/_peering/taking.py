"""The peers of one run: they are asked for a batch of values at a time, before the origin is.

For each batch two of those that have any of it, and not for long: a peer that is slow, away, damaged or of another
version costs a bounded time, is counted, and its values are loaded.  One that has nothing of what is wanted is soon
asked no more.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import replace

from preheat._model import ItemResult, ItemStatus, PeerRecord
from preheat._peering.asking import BUSY, NO_ANSWER, REFUSED, TOO_LARGE, UNKNOWN, Address, Ask, Unanswered, resolve
from preheat._peering.choice import Peers
from preheat._peering.layer import Layer
from preheat._peering.wire import (
    DAMAGED,
    OTHER_VERSION,
    Arrived,
    Asked,
    Doubtful,
    in_parts,
    read_answer,
    write_question,
)
from preheat._threads import LoaderThreads

ASK_SECONDS = 2.0
"""What a peer may take for an answer."""

RESOLVE_SECONDS = 2.0
TRIES = 2
"""Peers that give something, or fail to, for each batch."""

MOST_ASKED = 8
"""Peers for each batch, those included that have nothing of it."""

MOST_MISSED = 64
"""Keys of a cache, one after another, of which a peer has none: then it is as cold as this replica."""

MOST_AT_ONCE = 2


class Taker:
    """What one run takes from peers.  Its coroutines run on the loop of that run.

    Args:
        urls: Where peers are; a name may stand for several.
        layers: By cache, where it finds what was given.
        application_version: Of this replica.
        token: What to show them; None for nothing.
        own_name: What this replica calls itself when it gives.
    """

    def __init__(
        self,
        urls: Sequence[str],
        layers: Mapping[str, Layer],
        *,
        application_version: str,
        token: str | None = None,
        own_name: str = "",
    ) -> None:
        self._urls, self._layers = urls, layers
        self._application_version, self._token, self._own_name = application_version, token, own_name
        self._rng = random.Random()
        self._peers: Peers[Address] = Peers((), self._rng)
        self._useless: set[tuple[Address, str]] = set()
        self._missed: Counter[tuple[Address, str]] = Counter()
        self._threads = LoaderThreads(MOST_AT_ONCE, "preheat-peer")
        self._turns = asyncio.Semaphore(MOST_AT_ONCE)
        self._asked = self._items = self._size_bytes = 0
        self._faults: Counter[str] = Counter()

    # ------------------------------------------------------------------------------------------ life of a run

    async def begin(self) -> None:
        """Find out where the peers are."""
        try:
            async with asyncio.timeout(RESOLVE_SECONDS):
                self._peers = Peers(await self._threads.run(lambda: resolve(self._urls)), self._rng)
        except TimeoutError:
            self._threads.give_one_up()
            self._faults[NO_ANSWER] += 1

    def end(self) -> None:
        """Ask nobody any more."""
        self._peers = Peers((), self._rng)
        self._threads.close()

    def record(self) -> PeerRecord:
        """What has come of it so far."""
        return PeerRecord(self._asked, self._items, self._size_bytes, dict(self._faults))

    def gives(self, cache: str) -> bool:
        """Whether values of `cache` can be asked for."""
        return cache in self._layers

    # ---------------------------------------------------------------------------------------------- a batch

    async def fetch(self, cache: str, keys: Sequence[str]) -> set[str]:
        """Ask for values of `cache`; the keys of those that it finds until they are withdrawn."""
        layer, found = self._layers[cache], set[str]()
        wanted = layer.may_ask_for(keys)
        asked = Asked(cache, layer.codec.name, layer.codec.version, self._application_version, wanted)
        for part in in_parts(asked):
            found |= layer.put(await self._ask_around(part))
        return found

    def is_taken(self, cache: str, key: str) -> bool:
        """Whether `cache` has taken the value of `key` that it found."""
        return self._layers[cache].is_taken(key)

    def withdraw(self, cache: str, keys: Iterable[str]) -> set[str]:
        """Let `cache` find these no more; those of `keys` that it has taken."""
        return self._layers[cache].withdraw(keys)

    def note(self, results: Iterable[ItemResult]) -> None:
        """Count what was loaded of what peers gave."""
        loaded = [each for each in results if each.from_peer and each.status is ItemStatus.LOADED]
        self._items += len(loaded)
        self._size_bytes += sum(each.size_bytes for each in loaded)

    async def _ask_around(self, asked: Asked) -> list[Arrived]:
        """What is given of what is `asked` for, by the first that has any of it and one more for the rest."""
        arrived: dict[str, Arrived] = {}
        met: set[Address] = {address for address, cache in self._useless if cache == asked.cache}
        tries = 0
        for _ in range(MOST_ASKED):
            keys = [key for key in asked.keys if key not in arrived]
            if not keys or tries >= TRIES:
                break
            async with self._turns:
                peer = self._peers.choose(time.monotonic(), met)
                given = await self._ask(peer, replace(asked, keys=keys)) if peer is not None else None
            if peer is None:
                break
            met.add(peer)
            tries += given is None or len(given) > 0
            arrived |= {each.key: each for each in given or ()}
        return list(arrived.values())

    async def _ask(self, peer: Address, asked: Asked) -> list[Arrived] | None:
        """What `peer` gives; None if it does not answer."""
        self._asked += 1
        ask, asked_at = Ask(peer, self._token), time.time()
        try:
            async with asyncio.timeout(ASK_SECONDS):
                raw = await self._threads.run(lambda: ask(write_question(asked)))
            name, arrived = read_answer(raw, asked, asked_at)
        except TimeoutError:
            self._note(peer, asked.cache, NO_ANSWER)
        except (Unanswered, Doubtful) as fault:
            self._note(peer, asked.cache, str(fault))
        else:
            if name == self._own_name:
                self._peers.drop(peer)
            self._note_answer(peer, asked, arrived)
            return arrived
        finally:
            ask.give_up()
        return None

    def _note_answer(self, peer: Address, asked: Asked, arrived: Sequence[Arrived]) -> None:
        self._peers.answered(peer, gave=len(arrived) > 0)
        place = peer, asked.cache
        self._missed[place] = 0 if arrived else self._missed[place] + len(asked.keys)
        if self._missed[place] >= MOST_MISSED:
            self._useless.add(place)

    def _note(self, peer: Address, cache: str, fault: str) -> None:
        """`peer` gave nothing."""
        self._faults[fault] += 1
        if fault == BUSY:
            self._peers.is_busy(peer, time.monotonic())
        elif fault in (UNKNOWN, OTHER_VERSION):
            self._peers.answered(peer, gave=False)
            self._useless.add((peer, cache))
        elif fault in _NEVER_AGAIN:
            self._peers.drop(peer)
        else:
            self._peers.failed(peer, time.monotonic())


_NEVER_AGAIN = frozenset({DAMAGED, REFUSED, TOO_LARGE})
