"""The code search: what it finds, that a warmed entry is what a miss loads, and what it says to nonsense."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sysconfig
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from rich.console import Console

pytest.importorskip("tantivy", reason="the example's requirements are not installed")

import preheat._process
from codesearch import parsing
from codesearch.__main__ import main
from codesearch.app import app, lifespan
from codesearch.corpus import Corpus, CorpusError, project_of
from codesearch.demo import Options, run_demo
from codesearch.fulltext import FullText
from codesearch.model import Encoder
from codesearch.service import CodeSearch, NotFound
from codesearch.settings import Settings, SettingsError
from codesearch.traffic import QueriesError, derive_queries, replayed_traffic, synthetic_traffic
from preheat import CacheWarmupService
from preheat.abc import ItemRef

STORE = '''"""A small store."""

import json


class KeyStore:
    """Keeps values by key."""

    def read_value(self, key):
        """Read the value of a key."""
        return json.loads(self.rows[key])

    @property
    def size(self):
        return len(self.rows)

    @size.setter
    def size(self, value):
        raise AttributeError("size is what it is")


def open_store(path):
    """Open the store at a path."""
    return KeyStore(path)
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A corpus of three projects, with manifests, a broken one, and what must not be searched."""
    files = {
        "store/keys.py": STORE,
        "store/pyproject.toml": '[project]\ndependencies = ["numpy>=1.26", "click"]\n',
        "web/server.js": "// serve the static pages\nfunction servePages() {\n  return 1\n}\n",
        "web/package.json": '{"dependencies": {"express": "4"}, "devDependencies": {"jest": "29"}}',
        "web/Cargo.toml": "not toml at all [",
        "loose_script.py": 'def print_report(rows):\n    """Print the report of all rows."""\n    print(rows)\n',
        ".hidden/secret.py": "def hidden(): pass\n",
        "node_modules/dep/index.js": "ignored()\n",
        "store/notes.txt": "no source code\n",
    }
    for path, content in files.items():
        target = tmp_path / "corpus" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content, "utf-8")
    return tmp_path / "corpus"


@pytest.fixture
def search(folder: Path, tmp_path: Path) -> CodeSearch:
    return CodeSearch(Settings(corpus=str(folder), state=tmp_path / "state"))


# --------------------------------------------------------------------------------------------------------- the corpus


def test_corpus_is_the_source_files_by_project(folder: Path) -> None:
    corpus = Corpus.scan(folder)
    assert corpus.files == ("loose_script.py", "store/keys.py", "web/server.js")
    assert corpus.projects == (".", "store", "web")


def test_corpus_fingerprint_changes_with_a_file(folder: Path) -> None:
    before = Corpus.scan(folder).fingerprint
    assert Corpus.scan(folder).fingerprint == before
    (folder / "store/keys.py").write_text(STORE + "\n# more\n")
    assert Corpus.scan(folder).fingerprint != before


def test_standard_library_leaves_its_tests_out() -> None:
    corpus = Corpus.standard_library()
    assert "asyncio/base_events.py" in corpus
    assert not [path for path in corpus.files if "/test/" in f"/{path}" or "site-packages" in path]


@pytest.mark.parametrize("content", [None, "notes.txt"])
def test_corpus_without_source_is_refused_in_one_sentence(tmp_path: Path, content: str | None) -> None:
    root = tmp_path / "nothing"
    if content:
        root.mkdir()
        (root / content).write_text("hello")
    with pytest.raises(CorpusError) as refused:
        Corpus.scan(root)
    assert str(refused.value).count(".") == 1
    assert str(root) in str(refused.value)


def test_facts_of_a_project(folder: Path) -> None:
    facts = Corpus.scan(folder).facts(folder / "web")
    assert [file.path for file in facts.files] == ["web/server.js"]
    assert facts.languages == (("JavaScript", 4),)
    assert facts.dependencies == ("express", "jest")
    assert facts.unreadable == ("web/Cargo.toml",)


def test_facts_of_the_loose_files(folder: Path) -> None:
    facts = Corpus.scan(folder).facts(folder)
    assert (facts.name, [file.path for file in facts.files]) == (".", ["loose_script.py"])


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("requirements.txt", "# tools\nnumpy==2\n-r other.txt\nclick>=8 ; python_version>'3'\n", {"numpy", "click"}),
        ("go.mod", "module x\nrequire (\n\tgithub.com/a/b v1.2.3\n)\n", {"github.com/a/b"}),
        ("Cargo.toml", '[dependencies]\nserde = "1"\n[dev-dependencies]\nrand = "0.8"\n', {"serde", "rand"}),
        ("pyproject.toml", '[tool.poetry.dependencies]\npython = "^3.11"\nrich = "*"\n', {"rich"}),
        ("package.json", "[1, 2]", set()),
    ],
)
def test_manifests_name_their_dependencies(folder: Path, name: str, text: str, expected: set[str]) -> None:
    (folder / "store" / "pyproject.toml").unlink()
    (folder / "store" / name).write_text(text)
    facts = Corpus.scan(folder).facts(folder / "store")
    assert set(facts.dependencies) == expected
    assert facts.unreadable == (() if expected else ("store/package.json",))


# ------------------------------------------------------------------------------------------------------------ parsing


def parse(content: bytes | str, name: str = "a.py") -> parsing.ParsedFile:
    return parsing.parse_file(Path(name), content.encode() if isinstance(content, str) else content)


def test_parse_finds_symbols_and_chunks() -> None:
    parsed = parse(STORE)
    assert [(s.name, s.kind, s.doc) for s in parsed.symbols] == [
        ("KeyStore", "class", "Keeps values by key."),
        ("KeyStore.read_value", "method", "Read the value of a key."),
        ("KeyStore.size", "method", ""),
        ("KeyStore.size", "method", ""),
        ("open_store", "function", "Open the store at a path."),
    ]
    names = [chunk.name for chunk in parsed.chunks]
    assert names == ["<module>", "KeyStore", "KeyStore.read_value", "KeyStore.size", "KeyStore.size~2", "open_store"]
    method = parsed.chunk("KeyStore.read_value")
    assert method is not None
    assert parsed.text(method).startswith("def read_value(self, key):")
    assert STORE.splitlines()[method.line - 1].strip() == "def read_value(self, key):"


def test_parse_survives_syntax_errors() -> None:
    parsed = parse("def whole():\n    return 1\n\nclass Broken(:\n    def (\n\ndef after_it():\n    return 2\n")
    assert [symbol.name for symbol in parsed.symbols] == ["whole", "Broken", "after_it"]


@pytest.mark.parametrize("seed", range(5))
def test_parse_never_fails(seed: int) -> None:
    rng = np.random.default_rng(seed)
    content = (Path(sysconfig.get_path("stdlib")) / "contextlib.py").read_bytes()
    for _ in range(20):
        first, last = sorted(rng.integers(0, len(content), 2).tolist())
        parsed = parse(content[:first] + rng.bytes(3) + content[last:])
        assert all(chunk.start < chunk.end <= len(parsed.source) for chunk in parsed.chunks)


@pytest.mark.parametrize("content", [b"", b"\n\n  \n"])
def test_parse_of_nothing_has_no_chunks(content: bytes) -> None:
    parsed = parse(content)
    assert (parsed.symbols, parsed.chunks) == ((), ())


def test_parse_takes_other_encodings() -> None:
    declared = parse("# coding: cp1252\ndef grüßen(): pass\n".encode("cp1252"))
    undeclared = parse("def grüßen(): pass\n".encode("latin-1"))
    marked = parse(b"\xef\xbb\xbfdef plain(): pass\n")
    assert [p.symbols[0].name for p in (declared, undeclared, marked)] == ["grüßen", "grüßen", "plain"]
    assert parse(b"def a(): pass\n\x00\xff\xfe\n").lines == 2


def test_parse_takes_windows_line_ends() -> None:
    parsed = parse(STORE.replace("\n", "\r\n"))
    assert [s.name for s in parsed.symbols] == [s.name for s in parse(STORE).symbols]
    assert [c.line for c in parsed.chunks] == [c.line for c in parse(STORE).chunks]
    assert parsed.symbols[1].doc == "Read the value of a key."


def test_parse_cuts_other_languages_and_long_lines_into_windows() -> None:
    parsed = parse("".join(f"line {n};\n" for n in range(150)), "a.js")
    assert [(c.name, c.line) for c in parsed.chunks] == [("L1", 1), ("L61", 61), ("L121", 121)]
    minified = parse("ü" * 9_000, "a.js")
    assert "".join(minified.text(chunk) for chunk in minified.chunks) == "ü" * 9_000
    assert max(chunk.end - chunk.start for chunk in minified.chunks) <= parsing.WINDOW_BYTES


def test_chunks_are_disjoint_and_uniquely_named_over_the_standard_library() -> None:
    corpus = Corpus.standard_library()
    for path in corpus.files[::5]:
        parsed = parsing.parse_file(corpus.root / path, (corpus.root / path).read_bytes())
        names = [chunk.name for chunk in parsed.chunks]
        assert len(set(names)) == len(names), path
        edges = [edge for chunk in parsed.chunks for edge in (chunk.start, chunk.end)]
        assert edges == sorted(edges), path


# ----------------------------------------------------------------------------------------------------- model and index


def test_encoding_a_batch_equals_encoding_each_bit_for_bit() -> None:
    root = Path(sysconfig.get_path("stdlib"))
    files = [root / "asyncio" / "base_events.py", root / "typing.py", root / "inspect.py"]
    texts = [p.text(c) for p in (parse(f.read_bytes()) for f in files) for c in p.chunks] + ["", "x", "run forever"]
    encode = Encoder()
    together = encode(texts)
    assert len(texts) > 500
    assert all(encode([text])[0].tobytes() == row.tobytes() for text, row in zip(texts, together, strict=True))
    assert encode(texts[::-1])[::-1].tobytes() == together.tobytes()


def test_loading_the_model_leaves_logging_alone() -> None:
    root = logging.getLogger()
    before = list(root.handlers), root.level
    Encoder()
    assert (list(root.handlers), root.level) == before


def test_index_is_kept_until_the_corpus_changes(folder: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    FullText.open(Corpus.scan(folder), state)
    built = {path.name: path.stat().st_mtime_ns for path in state.iterdir()}
    FullText.open(Corpus.scan(folder), state)
    assert {path.name: path.stat().st_mtime_ns for path in state.iterdir()} == built
    (folder / "store/more.py").write_text("def delete_everything():\n    pass\n")
    index = FullText.open(Corpus.scan(folder), state)
    assert index.find("delete everything", "", 5)[0] == "store/more.py#delete_everything"
    assert len(list(state.iterdir())) == 1


@pytest.mark.parametrize("query", ["AND OR NOT (", 'name:"', "-x +y ^2 ~", "???", "*", "[a TO b]"])
def test_index_takes_any_query(search: CodeSearch, query: str) -> None:
    assert isinstance(search.search(query), tuple)


# -------------------------------------------------------------------------------------------------------- the service


def test_search_finds_by_name_and_by_meaning(search: CodeSearch) -> None:
    best = search.search("read the value of a key")[0]
    assert (best.path, best.name, best.line) == ("store/keys.py", "KeyStore.read_value", 9)
    assert best.preview == "def read_value(self, key):"
    assert search.search("serve pages")[0].path == "web/server.js"
    assert search.search("print report", project="store") == ()


def test_search_in_a_project_stays_in_it(search: CodeSearch) -> None:
    assert {project_of(hit.path) for hit in search.search("value of the rows", project="store")} == {"store"}


def test_what_is_not_there_is_said(search: CodeSearch, folder: Path) -> None:
    for ask in (
        lambda: search.file("../secret"),
        lambda: search.file("store/notes.txt"),
        lambda: search.project("nowhere"),
        lambda: search.search("x", project="nowhere"),
    ):
        with pytest.raises(NotFound):
            ask()
    (folder / "web/server.js").unlink()
    with pytest.raises(NotFound):
        search.file("web/server.js")
    assert search.search("serve pages") == ()


# ---------------------------------------------------------------------------------------------------------- warming

QUERIES = ("read the value of a key", "serve pages", "open store", "print report")


@dataclass
class Warmed:
    """A service warmed from the history of another one over the same corpus, and what was planned."""

    cold: CodeSearch
    warm: CodeSearch
    needs: dict[ItemRef, tuple[ItemRef, ...]]
    order: list[ItemRef]
    last: dict[str, Any]


def use(search: CodeSearch) -> None:
    """Some traffic over every cache."""
    for query in QUERIES:
        search.search(query)
    search.search("value of the rows", project="store")
    search.project("web")
    search.file("store/keys.py")


@pytest.fixture
def warmed(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Warmed:
    monkeypatch.setenv("CACHE_WARMUP_STATE_DIR", str(tmp_path / "history"))
    monkeypatch.setenv("CACHE_WARMUP_HOLDOUT_RATIO", "0")
    return asyncio.run(learn_and_warm(Settings(corpus=str(folder), state=tmp_path / "state")))


async def learn_and_warm(settings: Settings) -> Warmed:
    cold, warm = CodeSearch(settings), CodeSearch(settings)
    async with CacheWarmupService() as service:
        for cache in cold.caches:
            service.register(cache)
        use(cold)
    async with CacheWarmupService() as service:
        for cache in warm.caches:
            service.register(cache)
        plan = await service.create_warmup_plan("aggressive", memory_budget_mb=64.0)
        await service.execute_warmup_plan(plan)
        last = (await service.get_warmup_status())["last"]
    needs = {item.ref: item.dependencies for item in plan.candidates}
    return Warmed(cold, warm, needs, [plan.candidates.ref(row) for row in plan.order.tolist()], last)


def test_warm_up_loads_all_that_was_asked_for(warmed: Warmed) -> None:
    counts = warmed.last["counts"]
    assert counts["loaded"] == warmed.last["planned_items"] == sum(counts.values()) > 10
    for cold, warm in zip(warmed.cold.caches, warmed.warm.caches, strict=True):
        held, filled = cold.get_warmup_statistics(), warm.get_warmup_statistics()
        covered = warmed.cold.searches.get_warmup_statistics().items if warm is warmed.warm.embeddings else 0
        assert (filled.items, filled.warmed_items) == (held.items - covered, held.items - covered)
        assert (filled.hits, filled.misses) == (0, 0)


def test_warmed_search_equals_what_a_miss_loads(warmed: Warmed, folder: Path, tmp_path: Path) -> None:
    missing = CodeSearch(Settings(corpus=str(folder), state=tmp_path / "state"))
    for query, project in [*((query, "") for query in QUERIES), ("value of the rows", "store")]:
        assert warmed.warm.search(query, project) == missing.search(query, project)
    assert warmed.warm.searches.get_warmup_statistics().misses == 0
    assert missing.searches.get_warmup_statistics().hits == 0


def test_warmed_file_equals_what_a_miss_loads(warmed: Warmed, folder: Path) -> None:
    for path in ("store/keys.py", "web/server.js", "loose_script.py"):
        assert warmed.warm.file(path) == parsing.parse_file(folder / path, (folder / path).read_bytes())
    assert warmed.warm.files.get_warmup_statistics().misses == 0


def test_warmed_project_equals_what_a_miss_loads(warmed: Warmed, folder: Path) -> None:
    for name in ("store", "web"):
        assert warmed.warm.project(name) == Corpus.scan(folder).facts(folder / name)
    assert warmed.warm.projects.get_warmup_statistics().misses == 0


def test_warmed_vectors_equal_what_a_miss_loads_bit_for_bit(warmed: Warmed) -> None:
    file = warmed.warm.file("store/keys.py")
    texts = [file.text(chunk) for chunk in file.chunks]  # the vectors of queries are made for their results alone
    vectors = warmed.warm.embeddings.get_many(texts)
    encode = Encoder()
    assert warmed.warm.embeddings.get_warmup_statistics().misses == 0
    assert all(encode([text])[0].tobytes() == row.tobytes() for text, row in zip(texts, vectors, strict=True))
    assert vectors.dtype == np.float32


def test_dependencies_are_real_and_come_first(warmed: Warmed) -> None:
    search, file = warmed.warm, warmed.warm.file("store/keys.py")
    of_search = search.searches.ref("value of the rows", project="store", k=10)
    assert warmed.needs[of_search] == (search.projects.ref("store"),)
    chunk = file.chunk("KeyStore.read_value")
    assert chunk is not None
    assert warmed.needs[search.embeddings.ref(file.text(chunk))] == (search.files.ref("store/keys.py"),)
    place = {ref: n for n, ref in enumerate(warmed.order)}
    assert all(place[need] < place[ref] for ref in warmed.order for need in warmed.needs[ref])


def test_a_chunk_that_is_gone_is_unavailable(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHE_WARMUP_STATE_DIR", str(tmp_path / "history"))
    monkeypatch.setenv("CACHE_WARMUP_HOLDOUT_RATIO", "0")

    async def learn_change_and_warm() -> dict[str, Any]:
        settings = Settings(corpus=str(folder), state=tmp_path / "state")
        async with CacheWarmupService() as service:
            cold = CodeSearch(settings)
            for cache in cold.caches:
                service.register(cache)
            use(cold)
        (folder / "store/keys.py").write_text("def something_else():\n    return 1\n")
        async with CacheWarmupService() as service:
            warm = CodeSearch(settings)
            for cache in warm.caches:
                service.register(cache)
            await service.execute_warmup_plan(await service.create_warmup_plan("aggressive"))
            assert warm.search("something else")[0].name == "something_else"
            return (await service.get_warmup_status())["last"]["counts"]

    counts = asyncio.run(learn_change_and_warm())
    assert counts["unavailable"] > 0
    assert counts["failed"] == 0


# ------------------------------------------------------------------------------------------------------------ the app


@pytest.fixture
def serving(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment in which the app serves the small corpus."""
    monkeypatch.setenv("CODESEARCH_CORPUS", str(folder))
    monkeypatch.setenv("CODESEARCH_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("CACHE_WARMUP_STATE_DIR", str(tmp_path / "history"))
    monkeypatch.setenv("CACHE_WARMUP_HOLDOUT_RATIO", "0")  # or what is asked for may be what is held out


def ask_app(*requests: tuple[str, dict[str, str]], until_ready: bool = True) -> list[httpx.Response]:
    """Start the app with a warm-up service of its own, wait until it is ready, send `requests`, and end it."""
    preheat._process._shared = None

    async def ask() -> list[httpx.Response]:
        async with (
            lifespan(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://codesearch") as client,
        ):
            while until_ready and (await client.get("/ready")).status_code != 200:
                await asyncio.sleep(0.01)
            return [await client.get(route, params=parameters) for route, parameters in requests]

    return asyncio.run(ask())


@pytest.mark.usefixtures("serving")
def test_app_answers() -> None:
    search, again, file, project, status = ask_app(
        ("/search", {"q": "read the value of a key", "k": "3"}),
        ("/search", {"q": "read the value of a key", "k": "3"}),
        ("/file", {"path": "store/keys.py"}),
        ("/project", {"name": "store"}),
        ("/status", {}),
    )
    assert search.json()["results"][0]["name"] == "KeyStore.read_value"
    assert (search.headers["x-loads"] != "0", again.headers["x-loads"]) == (True, "0")
    assert again.json() == search.json()
    assert file.json()["source"] == STORE
    assert project.json()["dependencies"] == ["click", "numpy"]
    assert status.json()["caches"]["search"]["hits"] == 1
    assert status.json()["process_bytes"] > 0


@pytest.mark.usefixtures("serving")
@pytest.mark.parametrize(
    ("route", "parameters", "status"),
    [
        ("/search", {}, 400),
        ("/search", {"q": " "}, 400),
        ("/search", {"q": "x", "k": "0"}, 400),
        ("/search", {"q": "x", "k": "many"}, 400),
        ("/search", {"q": "x", "project": "nowhere"}, 404),
        ("/file", {"path": "../../etc/passwd"}, 404),
        ("/file", {}, 404),
        ("/project", {"name": "nowhere"}, 404),
    ],
)
def test_app_refuses_nonsense_in_a_sentence(route: str, parameters: dict[str, str], status: int) -> None:
    (answer,) = ask_app((route, parameters))
    assert answer.status_code == status
    assert answer.json()["error"].endswith((".", "?"))


@pytest.mark.usefixtures("serving")
def test_app_is_warm_after_a_restart() -> None:
    ask_app(("/search", {"q": "serve pages"}))
    restarted, status = ask_app(("/search", {"q": "serve pages"}), ("/status", {}))
    assert status.json()["warmup"]["last"]["counts"]["loaded"] > 0
    assert restarted.headers["x-loads"] == "0"


@pytest.mark.usefixtures("serving")
def test_app_serves_though_the_warm_up_fails(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    async def fail(self: CacheWarmupService, *_: object) -> None:
        raise RuntimeError("no plan today")

    monkeypatch.setattr(CacheWarmupService, "create_warmup_plan", fail)
    (answer,) = ask_app(("/search", {"q": "serve pages"}))
    assert answer.status_code == 200
    assert "no plan today" in caplog.text


def test_settings_say_what_is_wrong() -> None:
    assert Settings.from_environment({"CODESEARCH_FILE_MB": "1.5"}).file_bytes == 3 * 2**19
    for name, value in [("CODESEARCH_WARMUP", "yes"), ("CODESEARCH_FILE_MB", "0"), ("CODESEARCH_SEARCH_MB", "much")]:
        with pytest.raises(SettingsError, match=name):
            Settings.from_environment({name: value})


# -------------------------------------------------------------------------------------------- the traffic and the demo


def test_traffic_is_a_function_of_the_seed(folder: Path) -> None:
    corpus = Corpus.scan(folder)
    assert synthetic_traffic(corpus, seed=3, requests=40) == synthetic_traffic(corpus, seed=3, requests=40)
    assert synthetic_traffic(corpus, seed=3, requests=40) != synthetic_traffic(corpus, seed=4, requests=40)


def test_traffic_drifts_between_the_runs() -> None:
    traffic = synthetic_traffic(Corpus.standard_library(), seed=1, requests=2_000)
    before, after = ([session.query for session in run] for run in (traffic.before, traffic.after))
    known = sum(query in set(before) for query in after) / len(after)
    assert 0.4 < known < 0.9
    assert abs(sum(session.requests for session in traffic.after) - 2_000) < 4


def test_queries_come_from_names_and_docstrings(folder: Path) -> None:
    texts = {query.text for query in derive_queries(Corpus.scan(folder), np.random.default_rng(1))}
    assert {"key store read value", "Read the value of a key.", "open store", "serve the static pages"} <= texts


def test_a_log_is_replayed_in_halves(tmp_path: Path) -> None:
    log = tmp_path / "queries.txt"
    log.write_text("first\n\nsecond one\nthird\nfourth\n")
    traffic = replayed_traffic(log, seed=1, requests=100)
    assert [[s.query.text for s in run] for run in (traffic.before, traffic.after)] == [
        ["first", "second one"],
        ["third", "fourth"],
    ]
    assert not traffic.synthetic


@pytest.mark.parametrize("content", [None, b"", b"only one\n", b"\xff\xfe\n\xff\n"])
def test_a_log_that_cannot_be_replayed_is_refused(tmp_path: Path, content: bytes | None) -> None:
    log = tmp_path / "queries.txt"
    if content is not None:
        log.write_bytes(content)
    with pytest.raises(QueriesError, match=r"queries\.txt"):
        replayed_traffic(log, seed=1, requests=100)


class _Page(HTMLParser):
    """Notes which elements a page has, and that each is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: object) -> None:
        self.seen.append(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_demo_runs_end_to_end(folder: Path, tmp_path: Path) -> None:
    log = tmp_path / "queries.txt"
    log.write_text("\n".join(QUERIES * 10))
    said = io.StringIO()
    options = Options(corpus=str(folder), queries=log, requests=60, out=tmp_path / "out")
    run_demo(options, Console(file=said, width=160))

    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["schema"] == "codesearch-demo/1"
    assert report["answers"] == {"compared": report["runs"]["cold"]["requests"], "different": 0}
    warmup = report["warmup"]
    assert sum(warmup["counts"].values()) == warmup["planned_items"] > 0
    assert warmup["planned_bytes"] <= warmup["budget_bytes"]
    assert sum(phase["items"] for phase in warmup["phases"]) == warmup["planned_items"]
    cold, warm = (report["runs"][name]["first"] for name in ("cold", "warm"))
    assert warm["without_load_ratio"] > cold["without_load_ratio"]
    assert [row["label"] for row in report["table"] if row["label"] not in said.getvalue()] == []

    html = (tmp_path / "out/report.html").read_text()
    page = _Page(html)
    assert page.open == []
    assert page.seen.count("svg") >= 6
    assert "script" not in page.seen
    assert "http" not in html.replace("http-equiv", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--corpus", "/nowhere/at/all"], "is not a folder"),
        (["--queries", "/nowhere/at/all"], "cannot be read"),
        (["--strategy", "balancd"], "there is no strategy"),
        (["--budget-mb", "-1"], "not a positive number"),
        (["--requests", "0"], "not a whole number"),
    ],
)
def test_demo_refuses_nonsense_in_a_sentence(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(["demo", *arguments])
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(("failed", "code"), [(0, 0), (2, 1)])
def test_demo_says_by_its_exit_code_that_items_failed(failed: int, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codesearch.__main__.run_demo", lambda *_: {"warmup": {"counts": {"failed": failed}}})
    assert main(["demo"]) == code
