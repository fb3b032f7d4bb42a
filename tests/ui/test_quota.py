"""What one client may take is limited, and what breaks off leaves nothing."""

import contextlib
import os
import socket
import time
from pathlib import Path

import httpx
import pytest

from causvid.ui.bodies import Refused
from causvid.ui.files import VARIABLE, Uploads
from causvid.ui.quota import Quota, client_of
from tests.appserver import running

MEGABYTE = bytes(10**6)


def scope(peer: str | None, *forwarded: str) -> dict:
    headers = [(b"x-forwarded-for", it.encode()) for it in forwarded]
    return {"type": "http", "client": peer and (peer, 1), "headers": headers}


@pytest.mark.parametrize(
    ("peer", "forwarded", "proxies", "client"),
    [
        ("8.8.8.8", [], 0, "8.8.8.8"),
        ("8.8.8.8", ["1.1.1.1"], 0, "8.8.8.8"),  # anybody can write that
        ("10.0.0.1", ["6.6.6.6, 1.1.1.1"], 1, "1.1.1.1"),
        ("10.0.0.1", ["6.6.6.6", "1.1.1.1"], 1, "1.1.1.1"),
        ("10.0.0.1", ["6.6.6.6, 1.1.1.1, 10.0.0.9"], 2, "1.1.1.1"),
        ("10.0.0.1", ["1.1.1.1"], 2, "1.1.1.1"),
        ("10.0.0.1", [], 1, "10.0.0.1"),
        ("2001:db8::1", [], 0, "2001:db8::/64"),
        ("2001:db8::ffff:2", [], 0, "2001:db8::/64"),
        ("::ffff:8.8.8.8", [], 0, "8.8.8.8"),
        ("10.0.0.1", ["unknown"], 1, "unknown"),
        (None, [], 0, ""),
    ],
)
def test_a_client_is_an_address_that_can_be_believed(peer, forwarded, proxies, client):
    assert client_of(scope(peer, *forwarded), proxies) == client


def test_what_one_client_and_all_may_upload_is_counted_until_it_is_deleted(monkeypatch):
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    quota = Quota(300, 200, keep=60)

    def upload(client: str, size: int, kept: bool = True) -> None:
        with quota.upload(client) as it:
            it.add(size)
            it.kept = kept

    upload("a", 150)
    upload("a", 50, kept=False)  # it broke off
    upload("a", 50)
    with pytest.raises(Refused, match="one client may have"):
        upload("a", 1)
    upload("b", 100)
    with pytest.raises(Refused, match="room for more uploads"):
        upload("c", 1)
    with pytest.raises(Refused, match="room"), quota.upload("c", declared=1):
        pass
    now = 61.0
    upload("a", 200)


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.delenv(VARIABLE, raising=False)
    limits = {"upload_mb": 5, "client_uploads_mb": 8, "uploads_mb": 12}
    runs = {"viewers": 2, "waiting": 4, "client_runs": 2, "endless_seconds": 1e5}
    with (
        Uploads(keep=60),
        running(tmp_path_factory.mktemp("s"), proxies=1, **limits, **runs) as app,
    ):
        yield app
    patch.undo()


def send(app, client: str, size: int = 1, count: int = 1) -> httpx.Response:
    files = [("files", (f"{n}.png", os.urandom(10**6) * size)) for n in range(count)]
    headers = {"x-forwarded-for": client}
    return httpx.post(f"{app.url}/gradio_api/upload", files=files, headers=headers, timeout=60)


def kept() -> int:
    return sum(path.stat().st_size for path in Path(os.environ[VARIABLE]).rglob("*.*"))


def parts() -> list[Path]:
    """What is not in a folder of its own, as finished uploads are."""
    return [path for path in Path(os.environ[VARIABLE]).iterdir() if path.is_file()]


def test_uploads_have_a_sum_by_client_and_over_all(app):
    assert send(app, "1.1.1.1", count=4).status_code == 200
    assert send(app, "1.1.1.1", count=3).status_code == 200
    refused = send(app, "1.1.1.1", count=2)
    assert refused.status_code == 429 and "one client may have 8" in refused.json()["detail"]
    assert send(app, "2.2.2.2", count=4).status_code == 200
    refused = send(app, "3.3.3.3", count=3)
    assert refused.status_code == 507 and "room for more uploads" in refused.json()["detail"]
    assert parts() == [] and kept() == 11 * 10**6


@pytest.mark.slow
@pytest.mark.parametrize("way", ["broken off", "chunked"])
def test_an_upload_that_does_not_end_leaves_nothing(app, way, capfd):
    before = kept()
    address = httpx.URL(app.url)
    head = "POST /gradio_api/upload HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 9.9.9.9\r\n"
    head += "Content-Type: multipart/form-data; boundary=x\r\n"
    head += (
        "Transfer-Encoding: chunked\r\n\r\n"
        if way == "chunked"
        else "Content-Length: 900000\r\n\r\n"
    )
    part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    with socket.create_connection((address.host, address.port)) as sender:
        sender.sendall(head.encode())
        data = part + bytes(300_000)
        sender.sendall(b"%x\r\n%s\r\n" % (len(data), data) if way == "chunked" else data)
        deadline = time.monotonic() + 30
        while not parts() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert parts(), "it is being written"
        if way == "chunked":
            deadline = time.monotonic() + 30
            try:
                while time.monotonic() < deadline:  # without an end
                    sender.sendall(b"%x\r\n%s\r\n" % (len(MEGABYTE), MEGABYTE))
            except OSError:
                pass
    deadline = time.monotonic() + 30
    while parts() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert parts() == [] and kept() == before
    assert "Traceback" not in "".join(capfd.readouterr())


def call(app, client: str, name: str = "text_to_video", **values) -> str:
    """A run that goes on for ever; its event stream's address."""
    values = values or {"prompt": "a red car", "seconds": 0}
    url = f"{app.url}/gradio_api/call/v2/{name}"
    answer = httpx.post(url, json=values, headers={"x-forwarded-for": client}, timeout=60)
    return f"{url}/{answer.json()['event_id']}"


def test_one_client_leaves_room_for_others(app):
    with (
        httpx.stream("GET", call(app, "1.1.1.1"), timeout=60),
        httpx.stream("GET", call(app, "1.1.1.1"), timeout=60),
    ):
        assert app.reaches(2)
        refused = httpx.get(call(app, "1.1.1.1"), timeout=60).text
        assert "2 of your videos are being made or waiting, and one client may have 2" in refused
        with httpx.stream("GET", call(app, "2.2.2.2"), timeout=60):
            assert app.reaches(2, 1)
    assert app.reaches(0)
    stream = httpx.get(call(app, "1.1.1.1", prompt="a ball", seconds=0.5), timeout=60).text
    assert "event: complete" in stream, "and they come back"


def test_by_default_one_client_leaves_a_quarter_of_the_places(app):
    settings = app.service.settings.model_copy(update={"client_runs": 0})
    assert settings.runs_of_one == 4 < settings.viewers + settings.waiting == 6


@pytest.mark.parametrize(
    ("viewers", "client_runs", "places"),
    [(4, 0, 3), (8, 0, 6), (20, 0, 15), (1, 0, 1), (2, 0, 2), (4, 1, 1), (4, 2, 2), (4, 24, 4)],
)
def test_one_client_shares_the_device_with_so_many_runs(app, viewers, client_runs, places):
    changes = {"viewers": viewers, "client_runs": client_runs}
    assert app.service.settings.model_copy(update=changes).places_of_one == places


def test_of_the_default_places_one_client_gets_three_and_a_newcomer_is_served(tmp_path):
    runs = {"viewers": 4, "waiting": 4, "endless_seconds": 1e5, "proxies": 1}
    with running(tmp_path, **runs) as app, contextlib.ExitStack() as streams:
        for _ in range(4):
            streams.enter_context(httpx.stream("GET", call(app, "1.1.1.1"), timeout=60))
        assert app.reaches(3, 1)
        newcomer = call(app, "2.2.2.2", prompt="a ball", seconds=0.5)
        assert "event: complete" in httpx.get(newcomer, timeout=120).text
        assert app.service.device.load == (3, 1)
