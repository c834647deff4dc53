"""Which peer is asked next, and which one no more: decisions, pure."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Generic, TypeVar

from preheat._reach import Door

Address = TypeVar("Address")

MOST_FAULTS = 3
"""Faults of a peer, one after another, after which a run asks it no more."""

MOST_FAULTS_OF_ALL = 8
"""Faults of all peers of a run together after which it asks none any more: so much time they may take at the most."""


class Peers(Generic[Address]):
    """The peers of one run, by their addresses.

    Args:
        addresses: Where they are.
        rng: Draws one of them, so that those who warm up spread over those who are warm.
    """

    def __init__(self, addresses: Iterable[Address], rng: random.Random) -> None:
        self._rng = rng
        self._doors = {address: Door(rng) for address in addresses}
        self._faults = dict.fromkeys(self._doors, 0)
        self._faults_of_all = 0
        self._generous: set[Address] = set()

    def __len__(self) -> int:
        return len(self._doors)

    def choose(self, at: float, but: Iterable[Address] = ()) -> Address | None:
        """One that may be asked at the instant `at`, none of those in `but`; None if there is none.

        Those that gave something before come first: where all start together, most have nothing to give.
        """
        candidates = [address for address in self._doors if address not in set(but)]
        self._rng.shuffle(candidates)
        candidates.sort(key=lambda address: address not in self._generous)
        return next((address for address in candidates if self._doors[address].lets_in(at)), None)

    def answered(self, address: Address, *, gave: bool) -> None:
        """It gave some of what was asked for, or said that it has nothing of it."""
        if address in self._doors:
            self._doors[address].answered()
            self._faults[address] = 0
            self._generous |= {address} if gave else set()

    def is_busy(self, address: Address, at: float) -> None:
        """It gives nothing just now: it is left alone for a while."""
        if address in self._doors:
            self._doors[address].failed(at)

    def failed(self, address: Address, at: float) -> None:
        """It did not answer, or refused."""
        if address not in self._doors:
            return
        self._doors[address].failed(at)
        self._faults[address] += 1
        self._faults_of_all += 1
        if self._faults[address] >= MOST_FAULTS:
            self.drop(address)
        if self._faults_of_all >= MOST_FAULTS_OF_ALL:
            self._doors = {}

    def drop(self, address: Address) -> None:
        """It is never asked again in this run: what it says can't be believed, or it is this replica itself."""
        self._doors.pop(address, None)
