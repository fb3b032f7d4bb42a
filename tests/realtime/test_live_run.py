"""A camera over the socket of the real app: live runs, and who reads slowly."""

import asyncio
import contextlib
import io
import json
import threading
import time

import pytest
from PIL import Image

from causvid.realtime import session as sessions
from causvid.realtime.messages import write_frame
from causvid.realtime.session import Gone, Session
from causvid.serving.device import MAX_UNREAD
from tests.appserver import running
from tests.realtime.client import Client
from tests.realtime.test_socket import CHUNK, FPS, check, frames_of, picture


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    folder = tmp_path_factory.mktemp("standin")
    with running(folder, viewers=2, waiting=2, max_seconds=20) as app:
        yield app


class Camera:
    """Sends pictures as long as it is on."""

    def __init__(self, client: Client):
        self.times: list[float] = []
        self._client, self._off = client, threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> "Camera":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._off.set()
        self._thread.join()

    def _work(self) -> None:
        sizes, kinds = [(96, 64), (64, 96), (200, 100)], ["JPEG", "WEBP", "PNG"]
        while not self._off.wait(1 / FPS):
            n = len(self.times)
            self.times.append(time.monotonic())  # its track turns, and changes its size
            data = picture(n % 256, sizes[n // 20 % 3], kinds[n % 3])
            with contextlib.suppress(Exception):  # the connection is closed in mid-run
                self._client.socket.send(write_frame(self.times[-1], data))


def test_a_camera_becomes_a_video_that_is_steered_stopped_and_goes_on(app):
    with Client(app.url) as client, Camera(client) as camera:
        client.start(mode="live", strength=0.6)
        infos = [client.chunk() for _ in range(3)]
        client.say({"type": "session.prompt_update", "prompt": "a blue boat"})
        client.until("prompt.received")
        assert client.until("prompt.in_force")["chunk"] > 2
        infos += [client.chunk() for _ in range(2)]
        client.say({"type": "session.prompt_update", "strength": 0.9})
        force = client.until("prompt.in_force")
        infos.append(client.chunk())
        assert infos[-1]["strength"] == 0.9 and infos[-1]["index"] == force["chunk"]
        client.say({"type": "session.stop"})
        done = client.until("session.done")
        assert client.all("session.started")[0]["mode"] == "live"
        newest = [info["source_time"] for info in infos]
        assert newest == sorted(set(newest)) and set(newest) <= set(camera.times)
        manifest = done["manifest"]
        assert manifest["request"]["mode"] == "video" and manifest["request"]["strength"] == 0.6
        assert manifest["call"] is None and "camera" in manifest["no_call"]
        client.say({"type": "session.extend", "seconds": 0.7})
        longer = client.until("session.done")["manifest"]
        assert longer["video"]["frames"] == manifest["video"]["frames"] + CHUNK
        assert longer["chunks"][-1]["source_time"] > newest[-1]
        assert len(frames_of(client.video)) == longer["video"]["frames"]
        check(client)
    assert app.reaches(0)


def test_a_camera_that_pauses_pauses_its_stream_and_holds_nobody_up(app):
    with Client(app.url) as client:
        client.start(mode="live")
        with Camera(client):
            client.chunk()
            client.chunk()
        with Client(app.url) as other:
            other.start(seconds=2)
            assert not other.until("session.done")["manifest"]["stopped"]
        with pytest.raises(TimeoutError):
            while True:  # what was on its way comes
                client.socket.recv(timeout=1)
        with Camera(client) as camera:
            assert client.chunk()["source_time"] in camera.times, "what was seen before is old"


def test_a_client_without_its_camera_ends_by_stop_and_by_going(app):
    with Client(app.url) as client:
        client.start(mode="live")
        client.until("video.start")
        client.say({"type": "session.stop"})
        assert client.until("session.done")["manifest"]["video"]["frames"] == 0
        client.start(mode="live")
        client.until("video.start")
    assert app.reaches(0)


def test_a_bad_picture_is_left_out_and_ends_nothing(app):
    huge = io.BytesIO()
    Image.new("L", (3000, 3000)).save(huge, "PNG")
    bad = [
        (b"", "expected a time stamp"),
        (b"1234567", "expected a time stamp"),
        (write_frame(float("nan"), picture(1)), "expected seconds"),
        (write_frame(1.0, b"no picture"), "is not a picture"),
        (write_frame(1.0, huge.getvalue()), "9,000,000 pixels; allowed are 2,088,960"),
        (write_frame(1.0, b"x" * 2_000_001), "allowed are 2,000,000"),
    ]
    with Client(app.url) as client:
        client.start(mode="live")
        client.until("video.start")
        client.hear()
        for message, said in bad:
            client.say(message)
            error = client.hear()
            assert error["code"] == "invalid_frame" and said in error["message"]
        with Camera(client):
            client.chunk()
            client.chunk()
    assert app.reaches(0)


def test_a_camera_has_the_limits_of_any_other_run(tmp_path):
    with running(tmp_path, max_seconds=1.0, endless_seconds=0) as app, Client(app.url) as client:
        client.start(mode="live", seconds=2)
        assert "allowed are 1" in client.hear()["message"]
        client.start(mode="live", size="1600x1600")
        assert "pixels; allowed are" in client.hear()["message"]
        client.start(mode="live", input_bytes=5)
        assert "takes no input_bytes" in client.hear()["message"]
        with Camera(client):
            client.start(mode="live")
            done = client.until("session.done")
        assert not done["manifest"]["stopped"]
        assert 1.0 <= done["manifest"]["video"]["seconds"] <= 1.5 + CHUNK / FPS


class Reader:
    """A channel whose client reads when it wants."""

    def __init__(self) -> None:
        self.heard: list[str | bytes] = []
        self.reads = asyncio.Event()
        self.reads.set()
        self._said: asyncio.Queue[str | None] = asyncio.Queue()

    def say(self, **message: object) -> None:
        self._said.put_nowait(json.dumps(message))

    def leave(self) -> None:
        self._said.put_nowait(None)

    async def receive(self) -> str:
        if (message := await self._said.get()) is None:
            raise Gone
        return message

    async def send(self, message: str | bytes) -> None:
        await self.reads.wait()
        self.heard.append(message)

    async def chunks(self, count: int) -> None:
        while sum(isinstance(it, bytes) for it in self.heard) < 1 + count:
            await asyncio.sleep(0.01)

    async def done(self) -> None:
        while not any('"session.done"' in it for it in self.heard if isinstance(it, str)):
            await asyncio.sleep(0.01)


@pytest.fixture
def serving(app):
    """Serve a channel inside, on this event loop."""

    @contextlib.asynccontextmanager
    async def serving():
        reader = Reader()
        session = Session(app.service, reader, lambda _: contextlib.nullcontext(), "client")
        task = asyncio.create_task(session.serve())
        try:
            yield reader, session, task
        finally:
            reader.reads.set()
            reader.leave()
            await task

    return serving


def test_who_reads_slowly_delays_only_the_own_run(app, serving):
    async def scenario():
        async with serving() as (slow, session, _), serving() as (quick, _, _):
            slow.say(type="session.start", prompt="a red car", seconds=20)
            await slow.chunks(2)
            slow.reads.clear()
            for _ in range(2):  # the device is free for others, again and again
                quick.heard.clear()
                quick.say(type="session.start", prompt="a blue boat", seconds=3)
                await quick.done()
            made, sent = session._run.ticket._made, sum(isinstance(it, bytes) for it in slow.heard)
            assert made <= (1 + (sent + MAX_UNREAD) * CHUNK) / FPS
            slow.say(type="session.prompt_update", prompt="the sea")
            slow.reads.set()
            await slow.chunks(6)
            slow.reads.clear()
            slow.say(type="session.stop")  # gets through while nobody reads
            while app.service.device.load != (0, 0):
                await asyncio.sleep(0.01)
            slow.reads.set()
            await slow.done()

    asyncio.run(asyncio.wait_for(scenario(), 300))


def test_who_goes_while_nothing_is_read_leaves_nothing(app, serving):
    async def scenario():
        async with serving() as (reader, _, task):
            reader.say(type="session.start", prompt="a red car", seconds=20)
            await reader.chunks(1)
            reader.reads.clear()
            reader.leave()
            reader.send = None  # nobody is told anything more
            await task
        assert not [run for run in app.service._runs.values() if not run.over]

    asyncio.run(asyncio.wait_for(scenario(), 300))
    assert app.reaches(0)


def test_an_idle_connection_is_closed_and_one_with_a_run_is_not(app, serving, monkeypatch):
    monkeypatch.setattr(sessions, "IDLE", 0.2)

    async def scenario():
        async with serving() as (reader, _, task):
            reader.say(type="session.start", prompt="a red car", seconds=20, ahead=0.1)
            await reader.chunks(1)
            await asyncio.sleep(1)
            assert not task.done()
            reader.say(type="session.stop")
            await reader.done()
            await task

    asyncio.run(asyncio.wait_for(scenario(), 300))


def test_what_breaks_here_is_said_by_the_runs_name_and_the_next_run_is_made(
    app, serving, monkeypatch, caplog
):
    from causvid.generation.stream import Stream

    step = Stream.step

    def broken(stream):
        if stream.position == 2:
            raise OSError("secret cause")
        return step(stream)

    async def scenario():
        async with serving() as (reader, _, _):
            with monkeypatch.context() as patch:
                patch.setattr(Stream, "step", broken)
                reader.say(type="session.start", prompt="a red car", seconds=20)
                await reader.done()
            texts = [json.loads(it) for it in reader.heard if isinstance(it, str)]
            error, done = texts[-2:]
            assert error["code"] == "failed" and done["run"] in error["message"]
            assert "secret" not in error["message"]
            assert done["manifest"]["stopped_by"] == "failure" and not done["extendable"]
            reader.heard.clear()
            reader.say(type="session.start", prompt="a red car", seconds=0.1)
            await reader.done()

    asyncio.run(asyncio.wait_for(scenario(), 300))
    assert "secret cause" in caplog.text
