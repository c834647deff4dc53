"""An application's caches with a history, for what warms them when it starts."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

from preheat import CacheWarmupService
from preheat.adapters.mapping import MappingCache

PAGES, PEOPLE = 20, 10


class Shop:
    """Pages, which are critical, and people, which are not; `hold` makes loads of one of them wait for `release`."""

    def __init__(self, hold: str = "") -> None:
        self.release, self.held_up, self.loads = threading.Event(), threading.Event(), 0
        self._hold = hold
        self.pages = MappingCache({}, lambda key: self._load("pages", key), name="pages", priority=8)
        self.people = MappingCache({}, lambda key: self._load("people", key), name="people")

    @property
    def caches(self) -> list[MappingCache]:
        return [self.pages, self.people]

    def _load(self, name: str, key: str) -> str:
        self.loads += 1
        if name == self._hold:
            self.held_up.set()
            self.release.wait(30)
        return key * 20

    def ask(self, rounds: int = 3) -> None:
        for _ in range(rounds):
            for n in range(PAGES):
                self.pages.get(f"page {n}")
            for n in range(PEOPLE):
                self.people.get(f"person {n}")


def record(state_dir: Path | str) -> None:
    """Leave a history of a shop in `state_dir`."""

    async def main() -> None:
        async with CacheWarmupService(state_dir=str(state_dir)) as service:
            shop = Shop()
            for cache in shop.caches:
                service.register(cache)
            shop.ask()

    asyncio.run(main())
