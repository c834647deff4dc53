"""The real server, met by clients that mean no good: all are refused with the right code, and it goes on answering."""

import contextlib
import json
import socket
import statistics
import time

import pytest

from preheat.http import bodies, serving
from served import TOKEN, server

FORGED_HOSTS = [
    "evil.example",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "localhost:80.evil.example",
    "localhost@evil.example",
    "localhost.",
    "127.1",
    "2130706433",
    "0x7f000001",
    "[::ffff:127.0.0.1]",
    "10.0.0.1",
    "169.254.169.254",
    "xn--localhost-x",
]


def ask(port, text, *, body=b"", seconds=10.0):
    """The answer to a raw request, head and body."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as client:
        client.sendall(text.encode("latin-1") + b"\r\n" + body)
        return read(client)


def read(client):
    parts = []
    while part := client.recv(65536):
        parts.append(part)
    head, _, body = b"".join(parts).partition(b"\r\n\r\n")
    return int(head.split()[1]) if head else None, head.decode("latin-1").lower(), body


def request(method, path, port, **headers):
    given = {"host": f"127.0.0.1:{port}", "connection": "close"} | headers
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in given.items())
    return f"{method} {path} HTTP/1.1\r\n{lines}"


def health_seconds(port, times=15):
    """What asking for /health takes, in the median."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        assert ask(port, request("GET", "/health", port))[0] == 200
        took.append(time.perf_counter() - began)
    return statistics.median(took)


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    with server(tmp_path_factory.mktemp("state"), token=TOKEN) as number:
        yield number


def with_token(method, path, port, **headers):
    return request(method, path, port, authorization=f"Bearer {TOKEN}", **headers)


@pytest.mark.parametrize("host", FORGED_HOSTS)
@pytest.mark.parametrize(("method", "path"), [("GET", "/status"), ("GET", "/"), ("POST", "/runs")])
def test_forged_hosts_are_refused_with_the_token_too(port, host, method, path):
    status, _, body = ask(port, with_token(method, path, port, host=host))
    assert (status, set(json.loads(body))) == (421, {"error"})


def test_requests_without_a_host_or_with_two_are_refused(port):
    assert ask(port, "GET /status HTTP/1.0\r\n")[0] == 421
    assert ask(port, "GET /status HTTP/1.1\r\nhost: localhost\r\nhost: localhost\r\nconnection: close\r\n")[0] == 400


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"sec_fetch_site": "cross-site"},
        {"origin": "http://127.0.0.1"},
    ],
)
def test_posts_of_other_origins_are_refused_with_the_token_too(port, headers):
    for path in ("/runs", "/runs/current/cancel", "/session"):
        assert ask(port, with_token("POST", path, port, content_length="0", **headers))[0] == 403


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer x", f"Basic {TOKEN}", f"Bearer {TOKEN.upper()}"])
def test_without_the_token_nothing_is_told(port, authorization):
    for path in ("/", "/status", "/plan", "/strategies", "/runs", "/runs/last", "/history", "/events", "/metrics",
                 "/openapi.json", "/nothing"):  # fmt: skip
        status, head, _ = ask(port, request("GET", path, port, authorization=authorization))
        assert (status, "www-authenticate: bearer" in head) == (401, True)


def test_with_the_token_it_is(port):
    assert ask(port, with_token("GET", "/status", port))[0] == 200


def test_ten_megabytes_are_refused_before_they_are_sent(port):
    headers = {"content_type": "application/json", "content_length": str(10 * 2**20)}
    status, head, _ = ask(port, with_token("POST", "/runs", port, **headers))
    assert (status, "connection: close" in head) == (413, True)


def test_ten_megabytes_in_chunks_are_refused(port):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        text = with_token("POST", "/runs", port, content_type="application/json", transfer_encoding="chunked")
        client.sendall(text.encode() + b"\r\n")
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        with contextlib.suppress(OSError):  # it has been refused already
            for _ in range(160):
                client.sendall(chunk)
        assert client.recv(12) == b"HTTP/1.1 413"


def test_heads_without_end_are_refused(port):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        with contextlib.suppress(ConnectionError):
            client.sendall(with_token("GET", "/status", port, x_long="x" * 2**21).encode())
        assert left(client) in {400, None}


def test_slow_clients_are_left_and_others_are_served(tmp_path, monkeypatch):
    monkeypatch.setattr(serving, "HEAD_SECONDS", 1.0)
    monkeypatch.setattr(serving, "MOST_CONNECTIONS", 100)
    monkeypatch.setattr(bodies, "BODY_SECONDS", 1.0)
    with server(tmp_path) as port:
        alone = health_seconds(port)
        slow = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(200)]
        try:
            for n, client in enumerate(slow):
                with contextlib.suppress(OSError):  # there are too many, and it has been closed
                    client.sendall(HALVES[n % len(HALVES)].replace("PORT", str(port)).encode())
            beside = health_seconds(port)
            codes = [left(client) for client in slow]
        finally:
            for client in slow:
                client.close()
        print(f"/health beside 200 slow clients: {beside / alone:.1f} times what it takes alone")
        assert set(codes) <= {None, 408}
        assert codes.count(408) > 0
        assert beside <= 20 * alone
        assert ask(port, request("GET", "/health", port))[0] == 200


HALVES = [
    "GET /status HT",
    "GET /status HTTP/1.1\r\nhost: 127.0.0.1:PORT\r\nx-slow: ",
    "POST /runs HTTP/1.1\r\nhost: 127.0.0.1:PORT\r\ncontent-type: application/json\r\ncontent-length: 100\r\n"
    "connection: close\r\n\r\n{",
    "",
]


def left(client):
    """The code of the refusal; None where the connection was closed without a word."""
    try:
        return read(client)[0]
    except ConnectionError:
        return None


def test_a_slow_client_would_be_kept_for_ever_without_bounds(tmp_path, monkeypatch):
    """The control: the server as it comes waits for the head of a request, however long that takes."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    monkeypatch.setattr(serving, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(serving, "BoundedProtocol", H11Protocol)
    with server(tmp_path) as port, socket.create_connection(("127.0.0.1", port), timeout=1.5) as client:
        client.sendall(b"GET /status HT")
        with pytest.raises(TimeoutError):
            client.recv(1)


def test_events_tell_of_a_run_as_it_goes_on(tmp_path):
    with server(tmp_path) as port, socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall((request("GET", "/events", port) + "\r\n").encode())
        body = b'{"strategy": "aggressive"}'
        begin = request("POST", "/runs", port, content_type="application/json", content_length=str(len(body)))
        assert ask(port, begin, body=body)[0] == 202
        seen = list(told_until_idle(client))
    percents = [event["progress"]["progress_percent"] for event in seen if event["progress"]]
    assert percents == sorted(percents)
    assert len(set(percents)) >= 3
    assert all(event["memory"]["limit_bytes"] > 0 for event in seen)


def told_until_idle(client):
    """The events until a run has been active and is not any more."""
    text, has_run = "", False
    while True:
        text += client.recv(65536).decode()
        *lines, text = text.split("\n")
        for line in lines:
            if line.startswith("data: "):
                event = json.loads(line.removeprefix("data: "))
                has_run |= event["active"]
                yield event
                if has_run and not event["active"]:
                    return


def test_so_many_listen_and_no_more(tmp_path):
    from preheat.http.events import MOST_STREAMS

    with server(tmp_path) as port:
        streams = []
        try:
            for _ in range(MOST_STREAMS):
                client = socket.create_connection(("127.0.0.1", port), timeout=10)
                streams.append(client)
                client.sendall((request("GET", "/events", port) + "\r\n").encode())
                assert client.recv(12) == b"HTTP/1.1 200"
            assert ask(port, request("GET", "/events", port))[0] == 503
        finally:
            for client in streams:
                client.close()
        until = time.monotonic() + 10
        while (status := first_line(port)) != b"HTTP/1.1 200" and time.monotonic() < until:
            time.sleep(0.1)
        assert status == b"HTTP/1.1 200"  # those that have gone have made room


def first_line(port):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall((request("GET", "/events", port) + "\r\n").encode())
        return client.recv(12)
