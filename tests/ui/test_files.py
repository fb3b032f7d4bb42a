"""Files that callers name by URL or upload, and calls that fit no endpoint."""

import asyncio
import contextlib
import http.server
import logging
import os
import re
import socket
import threading
from pathlib import Path

import httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image

from causvid.ui import files
from causvid.ui.files import VARIABLE, Uploads
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
    monkeypatch.setattr(files, "is_public", lambda _: True)


def fetch(url: str, folder: Path) -> Path:
    return asyncio.run(files.fetch(url, folder, LIMIT))


@pytest.mark.parametrize("way", ["/picture.png", "/detour/picture.png"])
def test_a_file_is_fetched_under_its_name(public, address, tmp_path, way):
    path = fetch(address + way, tmp_path)
    assert path.read_bytes() == Elsewhere.picture
    assert path.name == "picture.png"


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ("/nothing.mp4", "the answer was 404"),
        ("/circle", "maximum allowed redirects"),
        ("/endless.mp4", r"larger than the 0\.05 MB allowed"),
        ("/slow.mp4", r"it took more than 0\.5 s"),
    ],
)
def test_what_cannot_be_fetched_leaves_nothing_behind(
    public, address, tmp_path, monkeypatch, way, said
):
    if way == "/slow.mp4":
        monkeypatch.setattr(files, "PATIENCE", 0.5)
    with pytest.raises(ValueError, match=rf"cannot fetch {address}{way}: .*{said}"):
        fetch(address + way, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost", "[::1]", "2130706433", "[::ffff:127.0.0.1]", "127.1", "0"),
        *("0x7f.0.0.1", "0177.0.0.1", "0x7f000001", "127.0.0.1.", "localhost.", "[::ffff:7f00:1]"),
        *("me@127.0.0.1", "huggingface.co@127.0.0.1", "[::]", "[64:ff9b::127.0.0.1]"),
        *("①②⑦.0.0.1", "１２７.0.0.1", "LOCALHOST", "[::127.0.0.1]"),
    ],
)
def test_places_inside_are_not_even_asked(elsewhere, tmp_path, host):
    elsewhere.asked.clear()
    with pytest.raises(ValueError, match=r"its host is unknown or not public|Invalid"):
        fetch(f"http://{host}:{elsewhere.server_port}/picture.png", tmp_path)
    assert elsewhere.asked == []


def test_a_detour_to_a_place_inside_is_not_taken(elsewhere, tmp_path, monkeypatch):
    """The first host is public, and sends on to one that is not."""
    answers = iter([True, False])
    monkeypatch.setattr(files, "is_public", lambda _: next(answers))
    elsewhere.asked.clear()
    with pytest.raises(ValueError, match="not public"):
        fetch(f"http://127.0.0.1:{elsewhere.server_port}/detour/picture.png", tmp_path)
    assert elsewhere.asked == ["/detour/picture.png"]


def test_a_name_that_leads_inside_when_asked_again_is_not_asked_again(monkeypatch):
    """DNS re-binding: the address that was found public is the one that is connected to."""
    asked, answers = [], iter(["93.184.216.34", "127.0.0.1"])

    def resolve(host, port, *_, **__):
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), 0))]

    async def connect(transport, request):
        return httpx.Response(200, headers={"to": request.url.host, "as": request.headers["host"]})

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", connect)

    async def ask() -> httpx.Response:
        request = httpx.Request("GET", "http://rebinds.example/picture.png")
        return await files._PublicTransport().handle_async_request(request)

    answer = asyncio.run(ask())
    assert (answer.headers["to"], answer.headers["as"]) == ("93.184.216.34", "rebinds.example")
    assert asked == ["rebinds.example"]
    with pytest.raises(ValueError, match="not public"):
        asyncio.run(ask())


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1",
        "100.100.100.200",  # carrier-grade NAT; a cloud's metadata
        "169.254.169.254",
        "172.16.0.1",
        "192.0.0.192",
        "192.168.1.1",
        "224.0.0.1",
        "255.255.255.255",
        "0.0.0.0",
        "::",
        "fe80::1%eth0",
        "fec0::1",
        "fd00::1",
        "ff02::1",
        "2001:db8::1",
        "::ffff:8.8.8.8",  # these four embed an IPv4 address
        "64:ff9b::8.8.8.8",
        "2002:808:808::1",
        "2001:0:808:808::1",
        "2606:4700::5efe:10.0.0.1",
        "2606:4700::200:5efe:8.8.8.8",
        "192.88.99.1",
        "3fff::1",
        "198.18.0.1",
        "240.0.0.1",
        "2001:2::1",
    ],
)
def test_addresses_of_private_networks_are_not_public(address):
    assert not files.is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "151.101.1.6", "2606:4700:4700::1111"])
def test_addresses_of_the_internet_are_public(address):
    assert files.is_public(address)


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
        ("https://[::bad/a.mp4", "cannot fetch https://[::bad/a.mp4"),
    ],
)
@pytest.mark.parametrize("place", ["file", "text", "schedule"])
def test_files_of_the_server_are_not_to_be_had(app, quiet, sent, said, place):
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


def age(path: Path, seconds: float) -> None:
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def test_old_files_go_with_their_folders_and_new_ones_stay(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    with Uploads(keep=60) as uploads:
        folder = Path(os.environ[VARIABLE])
        for name in ("old", "new", "both"):
            (folder / name).mkdir()
        for name in ("old/a.png", "both/a.png", "broken-off"):
            (folder / name).touch()
            age(folder / name, 100)
        for name in ("new/b.png", "both/b.png"):
            (folder / name).touch()
        age(folder / "old", 100)
        uploads.sweep()
        left = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        assert left == {"new/b.png", "both/b.png"}
        for name in ("old", "new", "both"):
            if (folder / name).exists():
                age(folder / name, 100)
        uploads.sweep()
        assert {path.name for path in folder.iterdir()} == {"new", "both"}
    assert not folder.exists()
    assert VARIABLE not in os.environ


def test_a_folder_of_the_operators_choice_is_left_alone(monkeypatch, tmp_path):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    (tmp_path / "mine").touch()
    age(tmp_path / "mine", 100)
    with Uploads(keep=60) as uploads:
        uploads.sweep()
    assert (tmp_path / "mine").exists()
    assert os.environ[VARIABLE] == str(tmp_path)
