"""The settings, and the only parser of `CACHE_WARMUP_*` and `[tool.preheat]`.

A pure function of the mappings it is given: argument > environment > file > default, resolved once.  Settings stop
at the service; no stage sees them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from preheat._model import MIB
from preheat.errors import InvalidSetting, nearest

PREFIX = "CACHE_WARMUP_"
MOST_STRATEGIES = 100
MOST_TABLES_TEXT = 100_000
MOST_URL = 2_000
DEFAULT_JITTER_SECONDS = 3.0
MOST_VERSION_LENGTH = 256
MOST_PEERS = 64


@dataclass(frozen=True, slots=True)
class Settings:
    """What can be set; the name in the environment is the field's in capitals behind `CACHE_WARMUP_`.

    Attributes:
        enabled: Whether plans are made and runs started at all.
        strategy: Name of the strategy used where none is given.
        memory_budget_mb: Upper bound of every budget, in MiB; it only ever lowers one.
        batch_size: Items handed to a cache's loader at once.
        concurrency_limit: Batches loading at the same time, at most; an origin that bears less gets less.
        phase_delay_ms: Pause between two phases, in milliseconds.
        deadline_seconds: Time after which a run stops, giving up what is in flight.
        item_timeout_seconds: What one call of a loader may take, for an item or for a batch.
        state_dir: Folder of the history and the reports.
        holdout_ratio: Share of the deserving items kept back at random, to measure the gain against.
        max_history_items: Items remembered; beyond it the least valuable are forgotten.
        flush_seconds: Seconds between two saves of the history: what a crash can lose.
        seed: Seed of the hold-out; none draws a new one for each plan.
        snapshots: Whether the values of the caches are kept on disk, and restored after a restart.
        snapshot_max_age_seconds: Seconds for which a value without an expiry of its own is restored.
        snapshot_limit_mb: MiB that the snapshot of each cache may take on disk; the hottest values stay.
        application_version: Version of the application; snapshots and peers' values of another one are not taken.
        quotas_mb: By cache, the MiB that plans may fill of it at most; in the environment as JSON.
        rate_limits: By cache or origin, the loads that may start per second; in the environment as JSON.
        bandwidth_limits_mb: By cache or origin, the MiB that may be asked for per second; in the environment as JSON.
        strategies: Tables of rules by strategy name, which change strategies or add some; in the environment as JSON.
        coordinator_url: Redis or Valkey server over which replicas share out their loads; may hold a password, so it is
            in no `repr` and no message.
        replicas: Processes that warm the same caches from the same origins, at least.
        replicas_at_once: Replicas that may warm up at the same time, as far as the coordinator can be asked; the others
            wait for a place; none is no limit.
        share_history: Whether replicas hand round what they recorded over the coordinator's server, and plan by it.
        peers: URLs of replicas whose values are asked for before an origin; a name may stand for several.  Where there
            are any, this one gives its own, too.
        peers_token_file: File whose first line is the token that they ask for.
        start_jitter_seconds: Upper bound of the random wait before a run; none is 3 s where there are replicas, else 0.
        target: What the command line warms where it is not told, as `module:attribute`.
    """

    enabled: bool = True
    strategy: str = "balanced"
    memory_budget_mb: float | None = None
    batch_size: int = 32
    concurrency_limit: int = 16
    phase_delay_ms: int = 0
    deadline_seconds: float = 3600.0
    item_timeout_seconds: float = 30.0
    state_dir: str = ".preheat"
    holdout_ratio: float = 0.05
    max_history_items: int = 1_000_000
    flush_seconds: float = 5.0
    seed: int | None = None
    snapshots: bool = False
    snapshot_max_age_seconds: float = 86_400.0
    snapshot_limit_mb: float = 1024.0
    application_version: str = ""
    quotas_mb: Mapping[str, float] = field(default_factory=dict)
    rate_limits: Mapping[str, float] = field(default_factory=dict)
    bandwidth_limits_mb: Mapping[str, float] = field(default_factory=dict)
    strategies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    coordinator_url: str | None = field(default=None, repr=False)
    replicas: int = 1
    replicas_at_once: int | None = None
    share_history: bool = False
    peers: tuple[str, ...] = ()
    peers_token_file: str | None = None
    start_jitter_seconds: float | None = None
    target: str | None = None

    @property
    def has_replicas(self) -> bool:
        """Whether this process is told not to warm up alone."""
        return self.coordinator_url is not None or self.replicas > 1

    @property
    def jitter_seconds(self) -> float:
        """`start_jitter_seconds`, or what it is by default."""
        if self.start_jitter_seconds is not None:
            return self.start_jitter_seconds
        return DEFAULT_JITTER_SECONDS if self.has_replicas else 0.0

    @property
    def memory_budget_bytes(self) -> int | None:
        """`memory_budget_mb` in bytes."""
        return None if self.memory_budget_mb is None else int(self.memory_budget_mb * MIB)


def resolve_settings(environ: Mapping[str, str], file: Mapping[str, Any] | None = None, **arguments: Any) -> Settings:
    """The settings that `arguments`, `environ` and the table `file` amount to, in that order of precedence.

    An argument that is None counts as not given.

    Raises:
        InvalidSetting: A name is not known, or a value can't be used.
    """
    values: dict[str, Any] = {}
    for name, raw in (file or {}).items():
        known = _known(name, _NAMES, "")
        values[known] = _parse(known, name, raw)
    for variable, raw in environ.items():
        if variable.startswith(PREFIX):
            name = _known(variable, (PREFIX + n.upper() for n in _NAMES), PREFIX).lower()
            values[name] = _parse(name, variable, raw)
    for name, value in arguments.items():
        if value is not None:
            known = _known(name, _NAMES, "")
            values[known] = _parse(known, name, value)
    return Settings(**values)


def _known(name: str, names: Iterable[str], prefix: str) -> str:
    names = list(names)
    if name not in names:
        hint = nearest(name, names)
        raise InvalidSetting(f"{name} is not a setting; {hint}there are: {', '.join(names)}")
    return name.removeprefix(prefix)


def _parse(name: str, shown: str, raw: Any) -> Any:
    expected, parse = _PARSERS[name]
    try:
        value = parse(raw)
    except (ValueError, TypeError, OverflowError):
        value = None
    if value is None:
        raise InvalidSetting(f"{shown} is {_without_secrets(raw)!r}; it has to be {expected}")
    return value


def _without_secrets(raw: Any) -> Any:
    """`raw`, but of an address only what is no user, password or option."""
    if not isinstance(raw, str) or ("://" not in raw and "@" not in raw):
        return raw
    scheme, separator, rest = raw.partition("://") if "://" in raw else ("", "", raw)
    return scheme + separator + rest.rpartition("@")[2].partition("?")[0]


def _boolean(raw: Any) -> bool | None:
    if isinstance(raw, bool):
        return raw
    word = str(raw).strip().lower()
    return True if word in _TRUE else False if word in _FALSE else None


def _number(low: float, high: float) -> Callable[[Any], float | None]:
    def parse(raw: Any) -> float | None:
        value = float(raw)
        return value if low <= value <= high and not isinstance(raw, bool) else None

    return parse


def _whole(low: int, high: int) -> Callable[[Any], int | None]:
    def parse(raw: Any) -> int | None:
        value = int(raw)
        is_whole = isinstance(raw, str) or value == raw  # by way of float, a seed of 63 bits would not be its own
        return value if low <= value <= high and is_whole and not isinstance(raw, bool) else None

    return parse


def _text(raw: Any) -> str | None:
    return raw.strip() or None if isinstance(raw, str) else None


def _server_url(raw: Any) -> str | None:
    url = _text(raw)
    return url if url is not None and url.startswith(_SERVER_SCHEMES) and len(url) <= MOST_URL else None


def _urls(raw: Any) -> tuple[str, ...] | None:
    urls = tuple(raw.replace(",", " ").split() if isinstance(raw, str) else raw)
    return urls if len(urls) <= MOST_PEERS and all(map(_is_web_url, urls)) else None


def _is_web_url(url: Any) -> bool:
    from urllib.parse import urlsplit  # only where there are peers

    if not isinstance(url, str) or len(url) > MOST_URL or not url.isprintable():
        return False
    parts = urlsplit(url)
    has_rest = parts.username is not None or parts.query or parts.fragment or parts.port == 0
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not has_rest


def _short_text(raw: Any) -> str | None:
    text = _text(raw)
    return text if text is not None and len(text) <= MOST_VERSION_LENGTH else None


def _place(raw: Any) -> str | None:
    text = _short_text(raw)
    return text if text is not None and all(part.strip() for part in [*text.partition(":")]) else None


def _mapping(raw: Any) -> Mapping[str, Any] | None:
    import json  # only where tables are given as text

    found = json.loads(raw) if isinstance(raw, str) and len(raw) <= MOST_TABLES_TEXT else raw
    return found if isinstance(found, Mapping) else None


def _numbers(low: float, high: float) -> Callable[[Any], dict[str, float] | None]:
    number = _number(low, high)

    def parse(raw: Any) -> dict[str, float] | None:
        found = _mapping(raw)
        if found is None:
            return None
        numbers = {str(name): number(value) for name, value in found.items()}
        known = {name: value for name, value in numbers.items() if value is not None}
        return known if len(known) == len(numbers) else None

    return parse


def _tables(raw: Any) -> dict[str, dict[str, Any]] | None:
    found = _mapping(raw)
    if found is None or len(found) > MOST_STRATEGIES:
        return None
    tables = {str(name): dict(rules) for name, rules in found.items() if isinstance(rules, Mapping)}
    return tables if len(tables) == len(found) and all(name.strip() for name in tables) else None


_SERVER_SCHEMES = ("redis://", "rediss://", "unix://", "valkey://", "valkeys://")
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})
_PARSERS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "enabled": ("true or false", _boolean),
    "strategy": ("the name of a strategy", lambda raw: str(raw).strip().lower() or None),
    "memory_budget_mb": ("a number of MiB, 0 or more", _number(0, 2**40)),
    "batch_size": ("a whole number from 1 to 100000", _whole(1, 100_000)),
    "concurrency_limit": ("a whole number from 1 to 1024", _whole(1, 1024)),
    "phase_delay_ms": ("a whole number of milliseconds from 0 to 3600000", _whole(0, 3_600_000)),
    "deadline_seconds": ("a number of seconds from 0.1 to 604800", _number(0.1, 604_800)),
    "item_timeout_seconds": ("a number of seconds from 0.01 to 86400", _number(0.01, 86_400)),
    "state_dir": ("the path of a folder", _text),
    "holdout_ratio": ("a ratio from 0 to 0.5", _number(0, 0.5)),
    "max_history_items": ("a whole number from 1 to 100000000", _whole(1, 100_000_000)),
    "flush_seconds": ("a number of seconds from 0.05 to 3600", _number(0.05, 3600)),
    "seed": ("a whole number from 0 to 2**63 - 1", _whole(0, 2**63 - 1)),
    "coordinator_url": ("the URL of a Redis or Valkey server, such as redis://host:6379/0", _server_url),
    "replicas": ("a whole number from 1 to 10000", _whole(1, 10_000)),
    "replicas_at_once": ("a whole number from 1 to 10000", _whole(1, 10_000)),
    "share_history": ("true or false", _boolean),
    "peers": ("up to 64 URLs such as http://shop-peers:8077, without user or password", _urls),
    "peers_token_file": ("the path of a file", _text),
    "start_jitter_seconds": ("a number of seconds from 0 to 600", _number(0, 600)),
    "snapshots": ("true or false", _boolean),
    "snapshot_max_age_seconds": ("a number of seconds from 1 to 31536000", _number(1, 31_536_000)),
    "snapshot_limit_mb": ("a number of MiB from 1 to 1048576", _number(1, 2**20)),
    "application_version": ("text of 1 to 256 characters", _short_text),
    "quotas_mb": ("a table of MiB, 0 or more, by name of cache", _numbers(0, 2**40)),
    "rate_limits": ("a table of loads per second, from 0.001 to 1000000, by name of cache", _numbers(0.001, 1e6)),
    "bandwidth_limits_mb": ("a table of MiB per second, from 0.001 to 1000000, by name of cache", _numbers(0.001, 1e6)),
    "target": ("module:attribute, as in shop.caches:caches", _place),
    "strategies": ("at most 100 tables of rules, each under the name of its strategy", _tables),
}
_NAMES = tuple(each.name for each in fields(Settings))
