"""Whoever vanishes, however rudely, gives the device back, and the next one is served."""

import asyncio
import socket
import subprocess
import sys
import time
from contextlib import closing

import httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from causvid.ui.presence import Presence, notice_lost_networks
from tests.appserver import running

PATIENCE = 1.0
FOR_EVER = {"prompt": "a red car", "seconds": 0}
FOLLOW = """
import sys
from gradio_client import Client

for _ in Client(sys.argv[1], verbose=False).submit("a red car", 0, api_name="/text_to_video"):
    print("chunk", flush=True)
"""


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    folder = tmp_path_factory.mktemp("standin")
    with running(
        folder, presence=Presence(PATIENCE), viewers=1, waiting=2, endless_seconds=1e5
    ) as app:
        yield app


@pytest.fixture(autouse=True)
def the_next_one_is_served(request):
    yield
    if "app" not in request.fixturenames:
        return
    app = request.getfixturevalue("app")
    assert app.reaches(0)
    stream = httpx.get(call(app, prompt="a ball", seconds=0.5), timeout=120).text
    assert "event: complete" in stream and '"done": true' in stream
    assert app.reaches(0)


def call(app, **parameters) -> str:
    """Start a run over plain HTTP; the address of its event stream."""
    address = f"{app.url}/gradio_api/call/v2/text_to_video"
    answer = httpx.post(address, json=parameters, timeout=60)
    return f"{address}/{answer.json()['event_id']}"


def test_a_client_that_is_killed_gives_the_device_back(app):
    command = [sys.executable, "-c", FOLLOW, app.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout.readline() == "chunk\n"
        assert app.service.device.load == (1, 0)
        client.kill()
    assert app.reaches(0)


def test_a_client_that_is_killed_in_the_queue_gives_its_place_back(app):
    with httpx.stream("GET", call(app, **FOR_EVER), timeout=60):
        assert app.reaches(1)
        with httpx.stream("GET", call(app, **FOR_EVER), timeout=60):
            assert app.reaches(1, 1)
        assert app.reaches(1, 0)


def test_a_stream_that_is_dropped_ends_its_run(app):
    with httpx.stream("GET", call(app, **FOR_EVER), timeout=60) as stream:
        assert next(stream.iter_lines()) == "event: generating"
    assert app.reaches(0)


def test_a_run_that_nobody_listens_to_is_ended_and_a_late_listener_is_told(app):
    address = call(app, **FOR_EVER)
    assert app.reaches(1)
    assert app.reaches(0)
    lines = httpx.get(address).text
    assert "event: error" in lines and "nobody listened for 1 s" in lines


def test_a_lost_network_is_noticed_though_nothing_is_closed(app):
    """A receiver that answers no more, as far as the other end can tell."""
    for server in app.page.server.servers:
        notice_lost_networks(server.sockets, seconds=1)
    address = httpx.URL(call(app, **FOR_EVER))
    with closing(socket.socket()) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the least that there is
        deaf.connect((address.host, address.port))
        deaf.sendall(f"GET {address.path} HTTP/1.1\r\nHost: {address.host}\r\n\r\n".encode())
        assert app.reaches(1)
        assert app.reaches(0)


def test_a_slow_start_and_a_pause_between_two_streams_are_forgiven(app):
    client = Client(app.url, verbose=False)
    for seed in range(2):
        job = client.submit("a red car", 0.5, seed, api_name="/text_to_video")
        assert job.result(timeout=120)[1]["request"]["seed"] == seed
    address = call(app, prompt="a red car", seconds=2)
    time.sleep(PATIENCE / 2)
    assert "event: complete" in httpx.get(address, timeout=120).text


def test_a_waiting_client_is_told_its_place(app):
    with httpx.stream("GET", call(app, **FOR_EVER), timeout=60):
        job = Client(app.url, verbose=False).submit("a ball", 0.5, api_name="/text_to_video")
        deadline = time.monotonic() + 60
        while job.status().log is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert job.status().log == ("1 run is before this one", "info")
        job.cancel()


def test_only_event_streams_are_counted():
    async def scenario():
        presence, served, gone = Presence(patience=0.1), asyncio.Event(), []

        async def app(scope, receive, send):
            await served.wait()

        def get(path: str, query: bytes = b"") -> asyncio.Task:
            scope = {"type": "http", "method": "GET", "path": path, "query_string": query}
            return asyncio.create_task(presence.middleware(app)(scope, None, None))

        others = [get("/config"), get("/gradio_api/file=/call/x"), get("/gradio_api/heartbeat/me")]
        streams = [get("/gradio_api/queue/data", b"session_hash=me"), get("/x/call/v2/name/mine")]
        await asyncio.sleep(0)
        with presence.expects({"me", "mine"}, lambda: gone.append("me")):
            with presence.expects({"you"}, lambda: gone.append("you")):
                await asyncio.sleep(0.3)
            streams.pop().cancel()
            await asyncio.sleep(0.3)
            assert gone == ["you"], "one stream is enough"
            streams.pop().cancel()
            await asyncio.sleep(0.01)
            assert gone == ["you", "me"], "a dropped stream is not waited for"
        for other in others:
            other.cancel()

    asyncio.run(scenario())


def test_a_mistake_reaches_a_plain_caller_as_a_sentence(app):
    with pytest.raises(AppError, match="the prompt is empty"):
        Client(app.url, verbose=False).predict("", api_name="/text_to_video")
    assert "the prompt is empty" in httpx.get(call(app, prompt="")).text
