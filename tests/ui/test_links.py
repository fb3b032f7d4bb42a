"""Files that come as addresses, and calls that fit no endpoint: answered in a sentence."""

import asyncio
import contextlib
import http.server
import logging
import re
import threading
from pathlib import Path

import httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image

from causvid.ui import files as links
from tests.appserver import running

LIMIT = 50_000


class Elsewhere(http.server.BaseHTTPRequestHandler):
    """A place with a picture, detours, and a file without an end."""

    picture: bytes

    def do_GET(self):
        self.server.asked.append(self.path)
        if self.path == "/detour/picture.png":
            self.send_response(302)
            self.send_header("Location", "/picture.png")
            self.end_headers()
        elif self.path == "/circle":
            self.send_response(302)
            self.send_header("Location", "/circle")
            self.end_headers()
        elif self.path == "/picture.png":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.picture)
        elif self.path == "/endless.mp4":
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                while True:
                    self.wfile.write(bytes(10_000))
        elif self.path == "/slow.mp4":
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                while not self.server.over.wait(0.05):
                    self.wfile.write(b"x")
        else:
            self.send_error(404)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    path = tmp_path_factory.mktemp("elsewhere") / "picture.png"
    Image.new("RGB", (96, 64), (200, 30, 30)).save(path)
    Elsewhere.picture = path.read_bytes()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    server.asked, server.over = [], threading.Event()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.over.set()
    server.shutdown()


@pytest.fixture
def address(elsewhere) -> str:
    elsewhere.asked.clear()
    return f"http://127.0.0.1:{elsewhere.server_port}"


@pytest.fixture
def public(monkeypatch):
    """This machine passes for a public one."""

    async def transport(_: str) -> None:
        return None

    monkeypatch.setattr(links, "_transport", transport)


def fetch(address: str, folder: Path) -> Path:
    return asyncio.run(links.fetch(address, folder, LIMIT))


@pytest.mark.parametrize("way", ["/picture.png", "/detour/picture.png"])
def test_a_file_is_fetched_under_its_name(public, address, tmp_path, way):
    path = fetch(address + way, tmp_path)
    assert path.read_bytes() == Elsewhere.picture
    assert path.name == "picture.png"


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ("/nothing.mp4", "the answer was 404"),
        ("/circle", "redirected more than"),
        ("/endless.mp4", r"larger than the 0\.05 MB allowed"),
        ("/slow.mp4", r"it took more than 0\.5 s"),
    ],
)
def test_what_cannot_be_fetched_leaves_nothing_behind(
    public, address, tmp_path, monkeypatch, way, said
):
    if way == "/slow.mp4":
        monkeypatch.setattr(links, "PATIENCE", 0.5)
    with pytest.raises(ValueError, match=rf"cannot fetch {address}{way}: .*{said}"):
        fetch(address + way, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("way", ["http://127.0.0.1", "http://localhost", "http://[::1]"])
def test_places_inside_are_not_even_asked(elsewhere, tmp_path, way, monkeypatch):
    async def nothing(_: str) -> list[str]:
        return []

    monkeypatch.setattr("safehttpx.async_resolve_hostname_google", nothing)
    elsewhere.asked.clear()
    with pytest.raises(ValueError, match="its host is unknown or not public"):
        fetch(f"{way}:{elsewhere.server_port}/picture.png", tmp_path)
    assert elsewhere.asked == []


def test_a_detour_to_a_place_inside_is_not_taken(elsewhere, tmp_path, monkeypatch):
    """The first host is public, and sends on to one that is not."""
    real = links._transport
    first = f"http://127.0.0.1:{elsewhere.server_port}/detour/picture.png"

    async def transport(address: str):
        return None if address == first else await real(address)

    async def nothing(_: str) -> list[str]:
        return []

    monkeypatch.setattr("safehttpx.async_resolve_hostname_google", nothing)
    monkeypatch.setattr(links, "_transport", transport)
    elsewhere.asked.clear()
    with pytest.raises(ValueError, match="not public"):
        fetch(first, tmp_path)
    assert elsewhere.asked == ["/detour/picture.png"]


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    with running(tmp_path_factory.mktemp("standin"), upload_mb=1) as app:
        yield app


@pytest.fixture
def quiet(caplog, capfd):
    """Nothing that a user can send leaves a traceback in the log."""
    yield
    out, err = capfd.readouterr()
    assert "Traceback" not in out + err
    assert not [it for it in caplog.records if it.exc_info and it.levelno >= logging.ERROR]


def file(path: str, **more: str) -> dict:
    return {"path": path, "meta": {"_type": "gradio.FileData"}, **more}


def call(app, name: str, parameters: dict, version: str = "v2/") -> str:
    """What a plain call over HTTP is answered."""
    url = f"{app.url}/gradio_api/call/{version}{name}"
    answer = httpx.post(url, json=parameters, timeout=60)
    if answer.status_code != 200:
        return f"{answer.status_code} {answer.json()['detail']}"
    return httpx.get(f"{url}/{answer.json()['event_id']}", timeout=60).text


def test_a_video_can_begin_with_a_picture_from_elsewhere(app, public, address):
    picture = file(f"{address}/picture.png", url=f"{address}/picture.png")
    parameters = {"image": picture, "prompt": "a ball", "seconds": 1}
    client = Client(app.url, verbose=False)
    _, manifest, _ = client.predict(**parameters, api_name="/image_to_video")
    assert manifest["request"]["mode"] == "image"


def test_a_file_from_elsewhere_is_limited_as_an_uploaded_one(app, public, address, quiet):
    client = Client(app.url, verbose=False)
    endless = file(f"{address}/endless.mp4")
    with pytest.raises(AppError, match="larger than the 1 MB allowed"):
        client.predict(endless, "a ball", api_name="/video_to_video")


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ("/etc/passwd", "was not uploaded"),
        ("", "was not uploaded"),
        ("x" * 5000, "was not uploaded"),
        ("a\0b", "was not uploaded"),
        ("http://127.0.0.1:1/a.mp4", "cannot fetch http://127.0.0.1:1/a.mp4: its host is"),
        ("https://", "cannot fetch https://"),
        ("https://[::bad/a.mp4", "it is no address"),
    ],
)
@pytest.mark.parametrize("place", ["file", "text", "schedule"])
def test_files_of_the_server_are_not_to_be_had(app, quiet, monkeypatch, sent, said, place):
    async def nothing(_: str) -> list[str]:
        return []

    monkeypatch.setattr("safehttpx.async_resolve_hostname_google", nothing)
    name, parameters = {
        "file": ("video_to_video", {"video": file(sent), "prompt": "a ball"}),
        "text": ("text_to_video", {"prompt": file(sent)}),
        "schedule": ("scheduled_video", {"schedule": {"cues": [file(sent)]}}),
    }[place]
    assert said in call(app, name, parameters)


@pytest.mark.parametrize(
    ("name", "parameters", "said"),
    [
        ("steer", {}, "422 No value provided for required argument: run; /steer takes run, prompt"),
        ("text_to_video", {"prompt": "a", "pixels": 1}, "`pixels`.*seconds \\(optional\\)"),
        ("sing", {}, "404 there is no endpoint /sing; there are /text_to_video"),
    ],
)
def test_a_call_that_fits_no_endpoint_is_told_what_would(app, quiet, name, parameters, said):
    assert re.search(said, call(app, name, parameters))


def test_a_call_by_position_is_told_what_is_missing(app, quiet):
    assert "404 there is no endpoint /sing" in call(app, "sing", {"data": []}, version="")
    assert "enough input" in call(app, "steer", {"data": ["run"]}, version="")


def test_a_page_from_before_a_restart_is_told_to_reload(app, quiet):
    event = {"fn_index": 9999, "session_hash": "old", "data": []}
    answer = httpx.post(f"{app.url}/gradio_api/queue/join", json=event)
    assert answer.status_code == 404 and "reload the page" in answer.json()["detail"]
