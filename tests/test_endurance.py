"""Hundreds of starts and stops later, memory and disk are where they were.

The real app with the pocket model in a process of its own, and visitors that end their runs in
every way there is, speaking plain HTTP as browsers and scripts do.
"""

import io
import json
import os
import socket
import struct
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median

import httpx
import psutil
import pytest
from PIL import Image

from causvid.ui.server import SESSIONS

ROOT = Path(__file__).parents[1]
ENDLESS = 0
STRETCH = 21  # runs between two looks at the memory: three of each kind


class Visitor:
    """Somebody who starts runs and ends them."""

    def __init__(self, url: str):
        self.url = url
        self.web = httpx.Client(base_url=f"{url}/gradio_api", timeout=120)
        config = self.web.get(f"{url}/config").json()
        self.parts = {part["id"]: part["props"] for part in config["components"]}
        self.events = {
            event["targets"][0][0]: event for event in config["dependencies"] if event["targets"]
        }
        self.ways = (
            self.to_the_end,
            self.drop_the_stream,
            self.vanish,
            self.cancel,
            self.stop_on_the_page,
            self.close_the_page,
            self.upload_a_picture,
        )

    def to_the_end(self) -> None:
        """All of a run of one chunk."""
        with self.call("text_to_video", prompt="a red car drives right", seconds=0.05) as lines:
            assert '"done": true' in list(lines)[-2]

    def drop_the_stream(self) -> None:
        """Closed in order, as when a script breaks off its loop."""
        with self.call("text_to_video", prompt="a red car", seconds=ENDLESS) as lines:
            self.first_chunk(lines)

    def vanish(self) -> None:
        """The connection is reset, as when a process is killed."""
        event = self.post("call/v2/text_to_video", prompt="a red car", seconds=ENDLESS, steps=1)
        address = httpx.URL(self.url)
        with closing(socket.create_connection((address.host, address.port))) as connection:
            path = f"/gradio_api/call/v2/text_to_video/{event['event_id']}"
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {address.host}\r\n\r\n".encode())
            received = b""
            while b"generating" not in received:
                received += connection.recv(4096)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def cancel(self) -> None:
        """As `job.cancel()` of gradio_client."""
        session = uuid.uuid4().hex
        number = next(e["id"] for e in self.events.values() if e["api_name"] == "text_to_video")
        event = self.post(
            "queue/join",
            fn_index=number,
            session_hash=session,
            data=["a red car", ENDLESS, 0, None, 1, None, None, "full", None],
        )
        with self.listen(session) as lines:
            self.first_chunk(lines)
            self.post("cancel", session_hash=session, fn_index=number, **event)

    def stop_on_the_page(self) -> None:
        """Generate and Stop, and leaving with the result on the stage."""
        with self.generate() as (session, lines):
            self.first_chunk(lines)
            stops = (n for n, part in self.parts.items() if part.get("elem_id") == "stop-button")
            self.click(next(stops), session, [])
            assert any("Stopped after" in line for line in lines)

    def close_the_page(self) -> None:
        with self.generate() as (_, lines):
            self.first_chunk(lines)

    def upload_a_picture(self) -> None:
        """A picture of its own each time, begun and dropped."""
        file = io.BytesIO()
        Image.frombytes("RGB", (24, 24), os.urandom(24 * 24 * 3)).save(file, "PNG")
        (path,) = self.web.post("upload", files={"files": ("a.png", file.getvalue())}).json()
        picture = {"path": path, "meta": {"_type": "gradio.FileData"}}
        with self.call("image_to_video", image=picture, prompt="a car", seconds=ENDLESS) as lines:
            self.first_chunk(lines)

    def post(self, where: str, **what) -> dict:
        answer = self.web.post(where, json=what)
        answer.raise_for_status()
        return answer.json()

    @contextmanager
    def call(self, name: str, **parameters) -> Iterator[Iterator[str]]:
        event = self.post(f"call/v2/{name}", steps=1, **parameters)
        with self.web.stream("GET", f"call/v2/{name}/{event['event_id']}") as stream:
            yield stream.iter_lines()

    @contextmanager
    def listen(self, session: str) -> Iterator[Iterator[str]]:
        with self.web.stream("GET", "queue/data", params={"session_hash": session}) as stream:
            yield stream.iter_lines()

    @contextmanager
    def generate(self) -> Iterator[tuple[str, Iterator[str]]]:
        """Press the first tab's button on an open page."""
        session = uuid.uuid4().hex
        go = next(
            number
            for number, part in self.parts.items()
            if "cv-go" in (part.get("elem_classes") or [])
        )
        inputs = [self.parts[number].get("value") for number in self.events[go]["inputs"]]
        with self.web.stream("GET", f"heartbeat/{session}"):
            self.click(go, session, inputs)
            with self.listen(session) as lines:
                yield session, lines

    def click(self, button: int, session: str, data: list) -> None:
        event = self.events[button]
        door = "run/predict" if event["queue"] is False else "queue/join"  # as Gradio's page does
        self.post(door, fn_index=event["id"], session_hash=session, data=data)

    def first_chunk(self, lines: Iterator[str]) -> None:
        told = ""
        for line in lines:
            if '"first_frame"' in line:
                return
            told = line or told
        raise AssertionError(f"the run ended before its first chunk: {told:.500}")


class Server:
    """`python app.py` and what it holds."""

    def __init__(self, folder: Path, **settings: str):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.folder = folder / "temporary"
        self.folder.mkdir(exist_ok=True)
        self.log = folder / "log"  # a pipe that nobody empties would stop the server one day
        environment = {
            "TMPDIR": str(self.folder),
            "GRADIO_SERVER_PORT": str(port),
            "CAUSVID_MODEL": "pocket",
            "CAUSVID_DEVICE": "cpu",
            "CAUSVID_KEEP_MINUTES": "0.05",
            "CAUSVID_LOST_SECONDS": "0.5",  # a page that is closed so rudely does not come back
            **settings,
        }
        with self.log.open("wb") as log:
            self.process = psutil.Popen(
                [sys.executable, "app.py"],
                cwd=ROOT,
                env={**os.environ, **environment},
                stdout=log,
            )

    def wait_until(self, state: dict, seconds: float = 300) -> None:
        deadline = time.monotonic() + seconds
        answer = None
        while time.monotonic() < deadline:
            try:
                answer = httpx.get(f"{self.url}/healthz", timeout=10).json()
            except httpx.TransportError:
                assert self.process.poll() is None, "app.py has ended"
            if answer is not None and {**answer, **state} == answer:
                return
            time.sleep(0.1)
        raise AssertionError(f"waited in vain for {state}; it is {answer}")

    def files(self) -> set[Path]:
        walk = os.walk(self.folder)  # which is not put out by folders that go meanwhile
        return {Path(folder, name) for folder, _, names in walk for name in names}

    def wait_for_files(self, kept: set[Path], seconds: float = 120) -> None:
        """Until nothing but `kept` is left."""
        deadline = time.monotonic() + seconds
        while (left := self.files() - kept) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert not left

    def holds(self) -> tuple[float, int, int]:
        """Megabytes, open files and threads."""
        memory = self.process.memory_info().rss / 1e6
        return memory, self.process.num_fds(), self.process.num_threads()


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path)
    yield server
    if server.process.poll() is None:
        server.process.kill()
        server.process.wait()


@pytest.mark.slow
def test_hundreds_of_starts_and_stops_leave_nothing_behind(server):
    server.wait_until({"status": "ready"})
    kept = server.files()
    visitor = Visitor(server.url)

    def visit() -> tuple[float, int, int]:
        for number in range(STRETCH):
            visitor.ways[number % len(visitor.ways)]()
        server.wait_until({"running": 0, "waiting": 0})
        server.wait_for_files(kept)
        holds = server.holds()
        print(f"after {STRETCH} more runs, MB, files, threads: {holds}")
        return holds

    # Until caches and pools are full, and Gradio's memory of sessions, which not every end empties.
    filling = 1 + SESSIONS // 15  # of seven ways to end a run, five leave one
    stretches = [visit() for _ in range(filling + 4)][filling:]
    memory, files, threads = zip(*stretches, strict=True)
    assert files[-1] <= files[0] + 4 and threads[-1] <= threads[0] + 4
    assert memory[-1] < memory[0] + 30
    # What is not let go of, every stretch adds again; a pool that grows, grows once.
    assert median(later - earlier for earlier, later in pairwise(memory)) < 3

    server.process.terminate()
    server.process.wait(timeout=60)
    assert server.files() == set(), "and nothing when it has ended"
    log = server.log.read_text(encoding="utf-8").splitlines()
    runs = [json.loads(line) for line in log if line.startswith("{")]
    assert len(runs) == (filling + 4) * STRETCH
    assert {run["outcome"] for run in runs} == {"finished", "stopped", "cancelled"}
    assert all(run["chunks"] and run["first_frame_seconds"] > 0 for run in runs)
