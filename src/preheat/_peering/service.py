"""What a service gives to its peers and takes from them: a layer for each cache, one giver, a taker for each run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from preheat._model import MemoryPressureLevel
from preheat._peering.giving import Giver
from preheat._peering.layer import Layer
from preheat._peering.taking import Taker
from preheat._token import read_token
from preheat.abc import GivesValues, WarmableCache
from preheat.errors import InvalidSetting


class Peering:
    """The values that are exchanged with peers, for all runs of a service.

    Args:
        settings: Those of the service (`preheat._settings.Settings`).
        caches: Those of the service, by name.
        pressure: How short memory is.

    Raises:
        InvalidSetting: No version of the application is set, by which values of another one would be known.
    """

    def __init__(
        self, settings: Any, caches: Mapping[str, WarmableCache], pressure: Callable[[], MemoryPressureLevel]
    ) -> None:
        if not settings.application_version:
            raise InvalidSetting(
                "peers may be of another version, whose values are not this one's: set application_version too"
            )
        self._settings = settings
        self._layers: dict[str, Layer] = {}
        self.giver = Giver(caches, settings.application_version, pressure)

    def attach(self, name: str, cache: object) -> Layer | None:
        """Have `cache` look in a layer of its own, which stands for it from now on; None if it gives no values."""
        if not isinstance(cache, GivesValues) or (codec := cache.snapshot_codec()) is None:
            return None
        layer = self._layers.get(name)
        if layer is None or layer.cache is not cache:  # or it is registered anew, and looks there still
            layer = self._layers[name] = Layer(cache, codec)
        return layer

    def taker(self) -> Taker:
        """What the next run takes from peers.

        Raises:
            UsageError: The token can't be read.
        """
        path = self._settings.peers_token_file
        return Taker(
            self._settings.peers,
            dict(self._layers),
            application_version=self._settings.application_version,
            token=read_token(path) if path is not None else None,
            own_name=self.giver.name,
        )

    def close(self) -> None:
        """The caches look in no layer any more."""
        for layer in self._layers.values():
            layer.close()
        self._layers = {}
