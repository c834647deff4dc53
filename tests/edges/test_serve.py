"""`preheat serve`, as a user runs it: a real process in a real folder."""

import json
import re
import signal
import socket
import subprocess
import sys

import pytest

APPLICATION = """
from preheat.adapters.mapping import MappingCache

def caches():
    return [MappingCache({}, lambda key: key * 10, name="pages")]
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "shop.py").write_text(APPLICATION)
    return tmp_path


def command(*arguments, prelude=""):
    run = (
        f"{prelude}\nimport sys\nfrom preheat.cli import main\nsys.argv = {['preheat', 'serve', *arguments]!r}\nmain()"
    )
    return [sys.executable, "-c", run]


def refused(folder, *arguments, prelude=""):
    """The sentence and the code with which it ends."""
    shown = subprocess.run(
        command(*arguments, prelude=prelude), cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert "Traceback" not in shown.stderr
    return shown.stderr.strip(), shown.returncode


def ask(port, path):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(f"GET {path} HTTP/1.0\r\nhost: localhost\r\n\r\n".encode())
        parts = []
        while part := client.recv(65536):
            parts.append(part)
    head, _, body = b"".join(parts).partition(b"\r\n\r\n")
    return int(head.split()[1]), body


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_it_is_told_to_end_and_keeps_what_it_knows(folder, number):
    process = subprocess.Popen(
        command("shop:caches", "--port", "0", "--warm"), cwd=folder, stdout=subprocess.PIPE, text=True
    )
    line = process.stdout.readline()
    port = int(re.fullmatch(r"preheat listens on http://127\.0\.0\.1:(\d+)/\n", line)[1])
    assert ask(port, "/health")[0] == 200
    assert json.loads(ask(port, "/status")[1])["store"]["owner"]
    assert ask(port, "/metrics")[0] == 200
    stream = socket.create_connection(("127.0.0.1", port), timeout=10)  # which would go on for ever
    stream.sendall(b"GET /events HTTP/1.1\r\nhost: localhost\r\n\r\n")
    assert stream.recv(12) == b"HTTP/1.1 200"
    process.send_signal(number)
    assert process.wait(20) == 0
    stream.close()
    process.stdout.close()
    assert (folder / ".preheat").is_dir()


def test_a_port_that_is_taken_is_one_sentence(folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        sentence, code = refused(folder, "shop:caches", "--port", str(taken.getsockname()[1]))
    assert (code, "can't be listened on" in sentence, sentence.count("\n")) == (2, True, 0)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--host", "0.0.0.0"], "--token-file"),
        (["--token-file", "nothing"], "No such file"),
        (["--token-file", "empty"], "is empty"),
        (["--token-file", "short"], "16 or more"),
        (["--host", "0.0.0.0", "--token-file", "good"], "--allow-host"),
        (["--allow-host", "*"], "token"),
        (["--host", "no.such.host.invalid", "--token-file", "good"], "can't be listened on"),
    ],
)
def test_what_would_let_others_in_is_one_sentence(folder, arguments, told):
    for name, text in (("empty", "\n"), ("short", "abc\n"), ("good", "a token of some length\n")):
        (folder / name).write_text(text)
    sentence, code = refused(folder, "shop:caches", "--port", "0", *arguments)
    assert (code, told in sentence, sentence.count("\n")) == (2, True, 0), sentence


@pytest.mark.parametrize("package", ["uvicorn", "starlette"])
def test_without_the_extra_a_sentence_names_it(folder, package):
    prelude = f"import sys; sys.modules[{package!r}] = None"
    sentence, code = refused(folder, "shop:caches", prelude=prelude)
    assert (code, sentence) == (2, "preheat: serving takes starlette and uvicorn: pip install 'preheat[http]'")


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [("preheat.metrics", "prometheus_client", "prometheus"), ("preheat.telemetry", "opentelemetry", "otel")],
)
def test_without_the_extra_the_others_name_it_too(module, package, extra):
    program = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from preheat.errors import UsageError\n"
        f"try:\n    import {module}\nexcept UsageError as error:\n    print(error)"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert f"pip install 'preheat[{extra}]'" in shown.stdout
