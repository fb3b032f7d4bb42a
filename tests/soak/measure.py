"""What holds after many runs, in long ones, and when a server or its clients end rudely.

Each measurement starts `python app.py` with the pocket model in a process of its own, and gives
rows of a table: what was done, what was reached, the goal, and whether it was met.
"""

import io
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import NamedTuple

import httpx
import numpy as np
import psutil
from PIL import Image

from tests.test_endurance import ENDLESS, Server, Visitor
from tests.videos import write_video

FAST = 5.0  # seconds that a server may take to end
DRIFT = 1.2  # of cost, share and memory that pass for flat


class Row(NamedTuple):
    test: str
    reached: str
    goal: str
    met: bool


@contextmanager
def server(folder: Path, **settings: str) -> Iterator[Server]:
    folder.mkdir(parents=True, exist_ok=True)
    server = Server(folder, **settings)
    try:
        server.wait_until({"status": "ready"})
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()


def tracebacks(server: Server) -> int:
    return server.log.read_text(encoding="utf-8", errors="replace").count("Traceback")


def cycles(folder: Path, count: int) -> Iterator[Row]:
    """Runs that are ended in every way, one after the other."""
    with server(folder) as app:
        visitor, kept = Visitor(app.url), app.files()

        def visit(number: int) -> tuple[float, int, int]:
            for it in range(number):
                visitor.ways[it % len(visitor.ways)]()
            app.wait_until({"running": 0, "waiting": 0})
            app.wait_for_files(kept)
            return app.holds()

        first, last = visit(count // 2), visit(count - count // 2)
        changes = zip(first, last, ("MB", "descriptors", "threads"), strict=True)
        told = ", ".join(f"{before:.0f} to {after:.0f} {it}" for before, after, it in changes)
        flat = all(after <= DRIFT * before + 10 for before, after in zip(first, last, strict=True))
        bad = tracebacks(app)
        yield Row(
            f"{count} starts and stops, second half against first",
            f"{told}, 0 files, {bad} tracebacks",
            "flat, no traceback",
            flat and not bad,
        )


def phases(folder: Path) -> Iterator[Row]:
    """Clients that vanish in each phase of a run; seconds until the device is free."""
    with server(folder, CAUSVID_VIEWERS="1") as app:
        visitor, kept = Visitor(app.url), app.files()
        took = {}

        def free(phase: str) -> None:
            began = time.monotonic()
            app.wait_until({"running": 0, "waiting": 0})
            took[phase] = time.monotonic() - began

        for phase, act in (
            ("first chunk", visitor.vanish),
            ("upload's run", visitor.upload_a_picture),
        ):
            act()
            free(phase)
        with visitor.call("text_to_video", prompt="a car", seconds=ENDLESS) as lines:
            visitor.first_chunk(lines)
            visitor.post("call/v2/text_to_video", prompt="a ball", seconds=ENDLESS)
            app.wait_until({"running": 1, "waiting": 1})
            began = time.monotonic()
            app.wait_until({"running": 1, "waiting": 0})
            took["queued, unheard"] = time.monotonic() - began
        free("middle")
        app.wait_for_files(kept)
        told = ", ".join(f"{phase} {seconds:.1f} s" for phase, seconds in took.items())
        bad = tracebacks(app)
        yield Row(
            "client lost in each phase",
            f"{told}; 0 files, {bad} tracebacks",
            "frees itself, nothing left",
            not bad and max(took.values()) < 30,
        )


def share(folder: Path, viewers: int = 4) -> Iterator[Row]:
    """Chunks that viewers of equal videos get while all are there."""
    with server(folder, CAUSVID_VIEWERS=str(viewers), CAUSVID_CLIENT_RUNS=str(viewers)) as app:
        visitor = Visitor(app.url)
        counts, stop = [0] * viewers, Event()

        def watch(number: int) -> None:
            with visitor.call("text_to_video", prompt="a car", seconds=ENDLESS) as lines:
                for line in lines:
                    counts[number] += '"first_frame"' in line
                    if stop.is_set():
                        return

        threads = [Thread(target=watch, args=(number,)) for number in range(viewers)]
        for thread in threads:
            thread.start()
        app.wait_until({"running": viewers})
        while min(counts) < 1:
            time.sleep(0.05)
        before = list(counts)
        while sum(counts) - sum(before) < 12 * viewers:
            time.sleep(0.05)
        got = [now - then for now, then in zip(counts, before, strict=True)]
        stop.set()
        for thread in threads:
            thread.join()
        yield Row(
            f"{viewers} viewers of equal videos",
            f"{min(got)} to {max(got)} chunks",
            f"share at most {DRIFT}, one chunk aside",
            max(got) <= DRIFT * min(got) + 1,
        )


def crowd(folder: Path, calls: int = 30) -> Iterator[Row]:
    """Calls that come at once, from one client and from as many."""
    for clients, places, most in ((1, 3, 18), (calls, 4, 24)):
        with server(folder / f"{clients}", CAUSVID_PROXIES="1") as app:
            told: list[str] = []

            def ask(number: int, clients: int = clients, url: str = app.url, told=told) -> None:
                web = httpx.Client(base_url=f"{url}/gradio_api/call/v2", timeout=300)
                web.headers["x-forwarded-for"] = f"192.0.2.{number % clients}"
                body = {"prompt": "a car", "seconds": ENDLESS}
                with suppress(httpx.HTTPError):  # in the end, the server is killed
                    event = web.post("/text_to_video", json=body).json()["event_id"]
                    with web.stream("GET", f"/text_to_video/{event}") as stream:
                        lines = stream.iter_lines()
                        if any(line == "event: error" for line in lines):
                            told.append(next(lines))

            for number in range(calls):
                Thread(target=ask, args=(number,), daemon=True).start()
            app.wait_until({"running": places, "waiting": most - places})
            while len(told) < calls - most:
                time.sleep(0.05)
            yield Row(
                f"{calls} calls at once of {clients} client{'s' * (clients > 1)}",
                f"{most} taken, {len(told)} told: {min(told)[:90]}…",
                f"{most} taken, the others are told why",
                len(told) == calls - most and all("videos are being made" in it for it in told),
            )


def reading(folder: Path) -> Iterator[Row]:
    """Another viewer's chunks while a 4K60 source is uploaded, read and worked on."""
    folder.mkdir(parents=True, exist_ok=True)
    shades = np.random.default_rng(0).integers(0, 256, (180, 9, 16, 3), dtype=np.uint8)
    clip = folder / "4k60.mp4"
    write_video(clip, (np.kron(it, np.ones((240, 240, 1), np.uint8)) for it in shades), 60)
    with server(folder / "server", CAUSVID_VIEWERS="2") as app:
        visitor, times, stop = Visitor(app.url), [], Event()

        def watch() -> None:
            with visitor.call("text_to_video", prompt="a car", seconds=ENDLESS) as lines:
                for line in lines:
                    if '"first_frame"' in line:
                        times.append(time.monotonic())
                    if stop.is_set():
                        return

        viewer = Thread(target=watch)
        viewer.start()
        while len(times) < 15:
            time.sleep(0.05)
        alone, chunks = np.diff(times[3:]), 0
        begun = len(times)
        inputs = _inputs(visitor, "video", clip)
        with Visitor(app.url).call("video_to_video", **inputs) as lines:
            for line in lines:
                chunks += '"first_frame"' in line
        beside = np.diff(times[begun - 1 :])
        stop.set()
        viewer.join()
        yield Row(
            f"a viewer's wait for a chunk, {chunks} chunks of a 4K60 source beside",
            f"median {np.median(alone):.2f} s, most {alone.max():.2f} s alone; "
            f"{np.median(beside):.2f} s and {beside.max():.2f} s beside",
            "at most one chunk more",
            chunks >= 3 and beside.max() <= 2 * alone.max(),
        )


def endless(folder: Path, seconds: float) -> Iterator[Row]:
    """Text, image and video, each for so long without a pause."""
    clip = folder / "clip.mp4"
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 256, (1, 128, 224, 3), dtype=np.uint8)
    write_video(clip, np.repeat(noise, 16 * 20, axis=0), 16)
    for mode in ("text", "image", "video"):
        with server(folder / mode, CAUSVID_KEEP_MINUTES="1") as app:
            visitor, kept = Visitor(app.url), app.files()
            costs, memory, chunks = [], [], 0
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                with visitor.call(f"{mode}_to_video", **_inputs(visitor, mode, clip)) as lines:
                    for line in lines:
                        if '"first_frame"' in line:
                            chunks += 1
                            costs.append(sum(app.process.cpu_times()[:2]))
                            memory.append(app.process.memory_info().rss / 1e6)
                        if time.monotonic() > until:
                            break
            tenth = max(2, chunks // 10)
            spent = np.diff(costs)
            cost = float(np.median(spent[-tenth:]) / max(1e-3, np.median(spent[:tenth])))
            app.wait_until({"running": 0, "waiting": 0})
            app.wait_for_files(kept, seconds=180)
            bad = tracebacks(app)
            yield Row(
                f"{seconds:.0f} s of {mode}-to-video",
                f"{chunks} chunks, CPU of a chunk last/first {cost:.2f}, "
                f"{memory[len(memory) // 4]:.0f} to {memory[-1]:.0f} MB, 0 files, {bad} tracebacks",
                "flat",
                not bad and cost < 1.5 and memory[-1] < DRIFT * memory[len(memory) // 4] + 20,
            )


def _inputs(visitor: Visitor, mode: str, clip: Path) -> dict:
    if mode == "text":
        return {"prompt": "a red car", "seconds": ENDLESS}
    data = clip.read_bytes() if mode == "video" else _picture()
    name = "a.mp4" if mode == "video" else "a.png"
    (path,) = visitor.web.post("upload", files={"files": (name, data)}).json()
    file = {mode: {"path": path, "meta": {"_type": "gradio.FileData"}}, "prompt": "a red car"}
    return file if mode == "video" else {**file, "seconds": ENDLESS}


def _picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (224, 128), (90, 120, 200)).save(buffer, "PNG")
    return buffer.getvalue()


def signals(folder: Path, kept: int) -> Iterator[Row]:
    """The server is told to end, twice each, with three runs in the making and `kept` finished."""
    ways = [(signal.SIGTERM, 0), (signal.SIGINT, 0), (signal.SIGHUP, 0), (signal.SIGTERM, kept)]
    for number, finished in ways:
        with server(folder / f"{number.name}{finished}", CAUSVID_KEEP_MINUTES="60") as app:
            visitor = Visitor(app.url)
            for _ in range(finished):
                visitor.to_the_end()
            _start(visitor, 3)
            began = time.monotonic()
            for _ in range(2):
                app.process.send_signal(number)
            app.process.wait(60)
            took, left = time.monotonic() - began, len(list(app.folder.iterdir()))
            bad = tracebacks(app)
            yield Row(
                f"{number.name} twice, 3 runs, {finished} kept",
                f"{took:.1f} s, {left} left, {bad} tracebacks",
                f"{FAST:g} s, nothing left",
                took < FAST and not left and not bad,
            )


def killed(folder: Path) -> Iterator[Row]:
    """A server is killed; the next one in the same place sweeps, and leaves a living one alone."""
    with server(folder) as living:
        with server(folder) as app:
            _start(Visitor(app.url), 2)
            app.process.kill()
            app.process.wait()
        before = len(list(living.folder.iterdir()))
        with server(folder) as following:
            during = len(list(living.folder.iterdir()))
            following.process.terminate()
            following.process.wait(60)
        after = len(list(living.folder.iterdir()))
        alive = httpx.get(f"{living.url}/healthz").status_code == 200
    yield Row(
        "SIGKILL with 2 runs beside a living server, then a start",
        f"{before} folders before, {during} with the next server, {after} after it",
        "2, 2, 1: only the dead one's goes",
        (before, during, after) == (2, 2, 1) and alive,
    )


def _start(visitor: Visitor, count: int) -> None:
    """So many endless runs that somebody listens to."""
    begun = [Event() for _ in range(count)]

    def watch(event: Event) -> None:
        try:
            with visitor.call("text_to_video", prompt="a car", seconds=ENDLESS) as lines:
                for line in lines:
                    if '"first_frame"' in line:
                        event.set()
        except httpx.HTTPError:  # the server has ended
            pass

    for event in begun:
        Thread(target=watch, args=(event,), daemon=True).start()
    for event in begun:
        assert event.wait(180), "a run did not begin"


Measurement = Callable[[Path], Iterator[Row]]


def measurements(count: int, seconds: float, kept: int) -> dict[str, Measurement]:
    """By name; each takes an empty folder."""
    return {
        "cycles": lambda folder: cycles(folder, count),
        "phases": phases,
        "share": lambda folder: (row for n in (4, 20) for row in share(folder / f"{n}", n)),
        "crowd": crowd,
        "reading": reading,
        "endless": lambda folder: endless(folder, seconds),
        "signals": lambda folder: signals(folder, kept),
        "killed": killed,
    }


def machine() -> str:
    return f"{psutil.cpu_count()} cores, load {psutil.getloadavg()[0]:.1f}"
