"""Connections that say nothing, or say it too slowly, keep nobody out."""

import asyncio
import json
import logging
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

import httpx
import pytest
import uvicorn

from causvid.ui import bodies, transport
from causvid.ui.bodies import Body, Refused, read_json, write_json
from causvid.ui.transport import SeldomSaid, most_connections, serving, spare_proxies

MOST = 8


async def app(scope, receive, send):
    """Answers at once, or at /stream begins an answer and never ends it."""
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    endless = scope["path"] == "/stream"
    await send({"type": "http.response.body", "body": b"here", "more_body": endless})
    if endless:
        while (await receive())["type"] != "http.disconnect":
            pass


@pytest.fixture
def port(monkeypatch) -> Iterator[int]:
    monkeypatch.setattr(transport, "ASKING", 0.5)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    config = uvicorn.Config(app, port=number, log_level="warning", lifespan="off")
    server = serving(lambda it: it, MOST)(config)
    server.run_in_thread()
    yield number
    server.force_exit = True
    server.close()


def connect(port: int, said: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    connection.sendall(said)
    return connection


def is_cut(connection: socket.socket) -> bool:
    """Waits for an answer, or for the end."""
    try:
        return connection.recv(1000) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n", b"G"])
def test_a_connection_that_asks_for_nothing_is_cut(port, said):
    with closing(connect(port, said)) as connection:
        assert is_cut(connection)


def test_a_connection_that_trickles_is_cut(port):
    with closing(connect(port, b"GET / HTTP/1.1\r\n")) as connection, pytest.raises(OSError):
        for number in range(10**6):
            connection.sendall(f"x-{number}: 1\r\n".encode())
            connection.settimeout(0.05)
            try:
                if connection.recv(1) == b"":
                    raise ConnectionResetError
            except TimeoutError:
                connection.settimeout(30)


def test_a_connection_is_cut_when_it_idles_after_an_answer(port):
    with closing(connect(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")) as connection:
        received = b""
        while not received.endswith(b"0\r\n\r\n"):
            received += connection.recv(1000)
        connection.sendall(b"GET / HT")
        assert is_cut(connection)


def test_idle_connections_make_room(port, monkeypatch):
    monkeypatch.setattr(transport, "ASKING", 60)
    with ExitStack() as stack:
        idle = [stack.enter_context(closing(connect(port))) for _ in range(5 * MOST)]
        assert httpx.get(f"http://127.0.0.1:{port}", timeout=30).text == "here"
        assert is_cut(idle[0])


@contextmanager
def streams(port: int, number: int) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        asking = b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n"
        opened = [stack.enter_context(closing(connect(port, asking))) for _ in range(number)]
        for stream in opened:
            assert stream.recv(12) == b"HTTP/1.1 200"
        yield opened


def test_who_is_served_is_not_cut_and_the_next_one_is_told(port):
    with streams(port, MOST):
        answer = httpx.get(f"http://127.0.0.1:{port}", timeout=30)
        assert answer.status_code == 503 and "too many connections" in answer.text
        assert "retry-after" in answer.headers


def test_that_descriptors_are_short_is_said_once_and_in_a_line(caplog):
    logger = logging.getLogger("asyncio")
    seldom = SeldomSaid()
    logger.addFilter(seldom)
    try:
        for _ in range(100):
            try:
                raise OSError(24, "Too many open files")
            except OSError:
                logger.exception("socket.accept() out of system resource\nsocket: 20")
        logger.error("something else")
    finally:
        logger.removeFilter(seldom)
    assert caplog.messages == ["no descriptor is free: new connections wait", "something else"]
    assert "Traceback" not in caplog.text


def test_connections_leave_descriptors_for_the_rest(monkeypatch):
    for soft, most in ((65536, 2000), (1024, 512), (200, 100), (2, 1)):
        monkeypatch.setattr("resource.getrlimit", lambda _, soft=soft: (soft, soft))
        assert most_connections(2000) == most


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy"])
@pytest.mark.parametrize("spared", ["", "corp.example"])
def test_our_own_address_is_not_asked_through_a_proxy(monkeypatch, name, spared):
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(variable, spared)
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    spare_proxies("10.1.2.3")
    with httpx.Client() as client:
        for own in (
            "http://127.0.0.1:7860",
            "http://localhost:1",
            "http://[::1]:1",
            "http://10.1.2.3",
        ):
            assert client._transport_for_url(httpx.URL(own)) is client._transport, own
        assert client._transport_for_url(httpx.URL("http://a.org")) is not client._transport
        if spared:
            url = httpx.URL(f"http://{spared}")
            assert client._transport_for_url(url) is client._transport


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:9", "SOCKS proxy"),
        ("http_proxy", "htp://127.0.0.1:9", "htp"),
        ("https_proxy", "http://127.0.0.1:port", "port"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_told(monkeypatch, name, value, said):
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=rf"(?s)cannot be used: .*{said}.*; unset it"):
        spare_proxies(None)


def receiving(*parts: bytes, ends: bool = True):
    """ASGI's `receive` of a body in parts; without an end, nothing more ever comes."""
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    if ends:
        messages[-1]["more_body"] = False

    async def receive():
        return messages.pop(0) if messages else await asyncio.sleep(3600)

    return receive


def test_a_body_that_does_not_come_or_is_too_large_is_refused(monkeypatch):
    monkeypatch.setattr(bodies, "PAUSE", 0.1)

    def read(*parts: bytes, ends: bool = True) -> bytes:
        return asyncio.run(Body(receiving(*parts, ends=ends), 10, "too large").whole())

    assert read(b"12345", b"67890") == b"1234567890"
    for parts in ([b"12345678901"], [b"12345678", b"123"]):
        with pytest.raises(Refused, match="too large"):
            read(*parts)
    with pytest.raises(Refused, match="too slowly"):
        read(b"123", ends=False)
    with pytest.raises(Refused, match="too slowly"):
        read(ends=False)


def test_a_declared_body_is_refused_before_it_is_read():
    body = Body(receiving(b""), 10, "too large")
    body.expect(10)
    with pytest.raises(Refused, match="too large"):
        body.expect(11)


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ('"a red car \\ud83d"', "a red car \ufffd"),
        ('"\\ude00 \\ud83d\\ude00"', "\ufffd \U0001f600"),
        ('{"\\ud800": ["\\udfff"]}', {"\ufffd": ["\ufffd"]}),
        ('["ü", 10000000000000000000000, 0.5, null]', ["ü", 10**22, 0.5, None]),
    ],
)
def test_what_is_passed_on_is_unicode(sent, read):
    assert json.loads(write_json(read_json(sent.encode()))) == read
    assert read_json(write_json(read)) == read


def test_bytes_of_half_an_emoji_are_mended_too():
    assert json.loads(write_json(read_json(b'"a \xed\xa0\xbd car"'))) == "a \ufffd car"
