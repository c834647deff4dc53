"""The one parser of the settings."""

import math
from dataclasses import fields

import pytest

from preheat._model import MIB
from preheat._settings import Settings, resolve_settings
from preheat.errors import InvalidSetting, UsageError

GOOD = {
    "ENABLED": [
        ("false", False),
        ("0", False),
        ("off", False),
        ("No", False),
        ("TRUE", True),
        ("1", True),
        ("on", True),
    ],
    "STRATEGY": [(" Aggressive ", "aggressive"), ("priority_based", "priority_based")],
    "MEMORY_BUDGET_MB": [("0", 0.0), ("512", 512.0), ("0.5", 0.5)],
    "BATCH_SIZE": [("1", 1), ("100000", 100_000)],
    "CONCURRENCY_LIMIT": [("1", 1), ("1024", 1024)],
    "PHASE_DELAY_MS": [("0", 0), ("250", 250)],
    "DEADLINE_SECONDS": [("0.1", 0.1), ("90", 90.0), ("604800", 604800.0)],
    "ITEM_TIMEOUT_SECONDS": [("0.01", 0.01), ("2.5", 2.5), ("86400", 86400.0)],
    "STATE_DIR": [("/var/lib/app", "/var/lib/app"), (" here ", "here")],
    "HOLDOUT_RATIO": [("0", 0.0), ("0.5", 0.5)],
    "MAX_HISTORY_ITEMS": [("1", 1), ("100000000", 100_000_000)],
    "FLUSH_SECONDS": [("0.05", 0.05), ("3600", 3600.0)],
    "SEED": [("0", 0), ("9223372036854775807", 2**63 - 1), ("9007199254740993", 2**53 + 1)],
    "SNAPSHOTS": [("on", True), ("false", False)],
    "SHARE_HISTORY": [("on", True), ("false", False)],
    "SNAPSHOT_MAX_AGE_SECONDS": [("1", 1.0), ("31536000", 31_536_000.0)],
    "SNAPSHOT_LIMIT_MB": [("1", 1.0), ("64.5", 64.5)],
    "APPLICATION_VERSION": [(" 2026.11 ", "2026.11"), ("x" * 256, "x" * 256)],
    "QUOTAS_MB": [("{}", {}), ('{"files": 64, "x": 0.5}', {"files": 64.0, "x": 0.5})],
    "RATE_LIMITS": [("{}", {}), ('{"shop": 20, "x": 0.001}', {"shop": 20.0, "x": 0.001})],
    "BANDWIDTH_LIMITS_MB": [("{}", {}), ('{"shop": 8}', {"shop": 8.0})],
    "COORDINATOR_URL": [(" redis://me:x@host:1/0 ", "redis://me:x@host:1/0"), ("unix:///run/s", "unix:///run/s")],
    "REPLICAS": [("1", 1), ("8", 8)],
    "REPLICAS_AT_ONCE": [("1", 1), ("10000", 10_000)],
    "START_JITTER_SECONDS": [("0", 0.0), ("2.5", 2.5)],
    "PEERS": [
        ("http://peer:8077", ("http://peer:8077",)),
        (" http://a, https://b:1/x ", ("http://a", "https://b:1/x")),
        ("", ()),
    ],
    "PEERS_TOKEN_FILE": [("/run/secrets/token", "/run/secrets/token")],
    "TARGET": [(" shop.caches:caches ", "shop.caches:caches"), ("shop:Shop.caches", "shop:Shop.caches")],
    "STRATEGIES": [("{}", {}), ('{"night": {"share": 0.9}}', {"night": {"share": 0.9}})],
}
BAD = {
    "ENABLED": ["", "maybe", "2"],
    "STRATEGY": ["", "  "],
    "MEMORY_BUDGET_MB": ["-1", "nan", "inf", "much", ""],
    "BATCH_SIZE": ["0", "-1", "1.5", "100001", "many", ""],
    "CONCURRENCY_LIMIT": ["0", "1025", "4.0"],
    "PHASE_DELAY_MS": ["-1", "3600001", "1e3"],
    "DEADLINE_SECONDS": ["0", "-1", "604801", "inf", "nan", "soon"],
    "ITEM_TIMEOUT_SECONDS": ["0", "-1", "86401", "inf", "nan", ""],
    "STATE_DIR": ["", "  "],
    "HOLDOUT_RATIO": ["-0.1", "0.51", "nan"],
    "MAX_HISTORY_ITEMS": ["0", "1e6"],
    "FLUSH_SECONDS": ["0.01", "3601", "inf"],
    "SEED": ["-1", "9223372036854775808", "x"],
    "SNAPSHOTS": ["", "sometimes"],
    "SHARE_HISTORY": ["", "sometimes"],
    "SNAPSHOT_MAX_AGE_SECONDS": ["0", "31536001", "nan", "a day"],
    "SNAPSHOT_LIMIT_MB": ["0", "inf", "1048577", ""],
    "APPLICATION_VERSION": ["", "  ", "x" * 257],
    "QUOTAS_MB": ["", "64", "[]", '{"files": -1}', '{"files": NaN}', '{"files": "x"}', "{"],
    "RATE_LIMITS": ["", "20", "[]", '{"shop": 0}', '{"shop": -1}', '{"shop": NaN}', '{"shop": 1e7}', '{"shop": true}'],
    "BANDWIDTH_LIMITS_MB": ["", "8", "[]", '{"shop": 0}', '{"shop": "x"}', "{"],
    "COORDINATOR_URL": ["", "localhost:6379", "http://host", "redis://" + "x" * 2000],
    "REPLICAS": ["0", "10001", "1.5", "many"],
    "PEERS": ["peer:8077", "ftp://peer", "http://", "http://peer:99999", "http://peer:0", "http://peer/#x"],
    "PEERS_TOKEN_FILE": ["", " "],
    "REPLICAS_AT_ONCE": ["0", "10001", "1.5", "all"],
    "START_JITTER_SECONDS": ["-1", "601", "nan"],
    "TARGET": ["", "shop", ":caches", "shop:", "shop: ", "m:" + "x" * 256],
    "STRATEGIES": ["", "night", "[]", '{"night": 0.9}', '{" ": {}}', str({"x": 1}), '{"a": {}}' + " " * 10**5],
}


def test_every_setting_has_cases_here():
    names = {field.name.upper() for field in fields(Settings)}
    assert names == set(GOOD) == set(BAD)


@pytest.mark.parametrize(("name", "raw", "expected"), [(n, *case) for n, cases in GOOD.items() for case in cases])
def test_a_variable_is_parsed(name, raw, expected):
    settings = resolve_settings({f"CACHE_WARMUP_{name}": raw})
    assert expected == getattr(settings, name.lower())


@pytest.mark.parametrize(("name", "raw"), [(n, raw) for n, raws in BAD.items() for raw in raws])
def test_a_bad_value_is_refused_with_its_name_and_what_was_expected(name, raw):
    with pytest.raises(InvalidSetting) as refusal:
        resolve_settings({f"CACHE_WARMUP_{name}": raw})
    assert f"CACHE_WARMUP_{name} is {raw!r}; it has to be " in str(refusal.value)
    assert isinstance(refusal.value, UsageError)
    assert isinstance(refusal.value, ValueError)


@pytest.mark.parametrize(
    ("name", "value"), [("seed", True), ("batch_size", 1.5), ("memory_budget_mb", True), ("state_dir", 3), ("seed", [])]
)
def test_a_bad_argument_is_refused(name, value):
    with pytest.raises(InvalidSetting, match=f"{name} is "):
        resolve_settings({}, **{name: value})


@pytest.mark.parametrize("written", ["CACHE_WARMUP_STRATEGIE", "CACHE_WARMUP_STRATGY", "CACHE_WARMUP_strategy_"])
def test_an_unknown_variable_names_the_nearest_one(written):
    with pytest.raises(InvalidSetting) as refusal:
        resolve_settings({written: "balanced"})
    assert written in str(refusal.value)
    assert "CACHE_WARMUP_STRATEGY" in str(refusal.value)


def test_an_unknown_name_far_from_all_still_lists_what_there_is():
    with pytest.raises(InvalidSetting, match="CACHE_WARMUP_SEED"):
        resolve_settings({"CACHE_WARMUP_Q": "1"})


@pytest.mark.parametrize("source", ["file", "argument"])
def test_an_unknown_name_elsewhere_is_refused_too(source):
    with pytest.raises(InvalidSetting, match=r"batchsize is not a setting.*batch_size"):
        resolve_settings({}, **({"file": {"batchsize": 3}} if source == "file" else {"batchsize": 3}))


def test_argument_beats_environment_beats_file_beats_default():
    file = {"batch_size": 1, "concurrency_limit": 2, "phase_delay_ms": 3}
    environ = {"CACHE_WARMUP_BATCH_SIZE": "10", "CACHE_WARMUP_CONCURRENCY_LIMIT": "20"}
    settings = resolve_settings(environ, file, batch_size=100)
    assert (
        settings.batch_size,
        settings.concurrency_limit,
        settings.phase_delay_ms,
        settings.holdout_ratio,
    ) == (100, 20, 3, 0.05)


def test_quotas_may_come_from_a_file():
    assert resolve_settings({}, {"quotas_mb": {"files": 1}}).quotas_mb == {"files": 1.0}


def test_tables_of_strategies_may_come_from_a_file_and_are_no_more_than_a_hundred():
    tables = {"night": {"share": 0.9}, "balanced": {"min_priority": 3}}
    assert tables == resolve_settings({}, {"strategies": tables}).strategies
    assert len(resolve_settings({}, {"strategies": {f"s{n}": {} for n in range(100)}}).strategies) == 100
    with pytest.raises(InvalidSetting, match="at most 100 tables"):
        resolve_settings({}, {"strategies": {f"s{n}": {} for n in range(101)}})


def test_an_argument_of_none_counts_as_not_given():
    assert resolve_settings({"CACHE_WARMUP_SEED": "7"}, seed=None).seed == 7


def test_other_variables_are_nobody_s_business():
    assert Settings() == resolve_settings({"PATH": "/bin", "CACHE_WARM": "x", "XCACHE_WARMUP_SEED": "1"})


def test_the_budget_in_bytes():
    assert resolve_settings({"CACHE_WARMUP_MEMORY_BUDGET_MB": "0.5"}).memory_budget_bytes == MIB // 2
    assert resolve_settings({}).memory_budget_bytes is None
    assert math.isclose(0.05, resolve_settings({}).holdout_ratio)


@pytest.mark.parametrize("url", ["http://me:secret@host/0?password=secret", "me:secret@host", "redis:/me:secret@host"])
def test_the_password_in_a_url_is_in_no_message_and_no_repr(url):
    with pytest.raises(InvalidSetting) as refusal:
        resolve_settings({"CACHE_WARMUP_COORDINATOR_URL": url})
    assert "secret" not in str(refusal.value)
    assert "secret" not in repr(Settings(coordinator_url="redis://me:secret@host"))


def test_a_start_is_spread_over_some_seconds_where_there_are_replicas_and_else_not():
    assert resolve_settings({}).jitter_seconds == 0.0
    assert resolve_settings({"CACHE_WARMUP_REPLICAS": "4"}).jitter_seconds == 3.0
    assert resolve_settings({"CACHE_WARMUP_COORDINATOR_URL": "redis://host"}).jitter_seconds == 3.0
    assert resolve_settings({}, coordinator_url="redis://host", start_jitter_seconds=0.0).jitter_seconds == 0.0


@pytest.mark.parametrize("url", ["http://me:secret@peer", "http://peer/?token=secret", "http://a http://me:secret@b"])
def test_peers_take_no_secrets_in_their_urls_and_show_none(url):
    with pytest.raises(InvalidSetting) as refusal:
        resolve_settings({"CACHE_WARMUP_PEERS": url})
    assert "secret" not in str(refusal.value)
