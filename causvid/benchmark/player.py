"""How soon and how smoothly the page plays chunks: `python -m causvid benchmark --player`.

First the page with a metronome in place of the model: chunks of a moving picture come at a set
multiple of playback speed. Then the whole app with the pocket model: from `python app.py` to its
page, and from a click to a picture. Needs Playwright and Chromium.
"""

import itertools
import logging
import os
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np

from causvid.benchmark import table
from causvid.generation.chunk import Looks
from causvid.generation.stream import FrameChunk, Timings
from causvid.presets.catalogue import POCKET
from causvid.serving.device import Ticket
from causvid.serving.job import Ended, Event, Job, Made
from causvid.serving.models import Models
from causvid.serving.record import ChunkInfo, ChunkRecord, Manifest, RunTimings, VideoRecord
from causvid.serving.service import Service
from causvid.serving.settings import PREFIX, Settings
from causvid.ui.server import launch

FRAMES = 12  # per chunk: 0.75 s at 16 frames a second
CHUNKS = 14
GAP = 2.4  # a gap is this many times the time between two pictures
_SAME = Looks(1.0, 1.0, 1.0)
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
REPORT = """() => {
  for (let e = document.querySelector('.cv-stage'); e; e = e.parentElement)
    if (e.report) return e.report;
}"""


_COLUMNS = {
    "speed": "{speed:.2f}x",
    "yield to picture": "{first_ms:.0f} ms",
    "click to picture": "{click_ms:.0f} ms",
    "yield to page": "{arrival_ms:.0f} ms",
    "shown": "{shown} of {expected}",
    "gaps": "{gaps}",
    "in all": "{gap_ms:.0f} ms",
    "stalls": "{stalls}",
}  # of the printed table, from the figures of a run


class Metronome:
    """A `Device` that makes chunks at a steady pace.

    Args:
        fps: of the video.
        size: height and width, pixels.
        speed: chunks come at this multiple of playback speed.
    """

    takes_live = False

    def __init__(self, fps: int, size: tuple[int, int], speed: float = 1.0):
        self._fps, self._size, self.speed = fps, size, speed

    def submit(self, job: Job, deliver: Callable[[Event], None]) -> "_Beats":
        return _Beats(self, job, deliver)

    def close(self) -> None:
        """Runs end by themselves."""

    def chunk(self, index: int, prompt: str) -> FrameChunk:
        """A bar that moves with every picture."""
        height, width = self._size
        frames = np.full((FRAMES, height, width, 3), 40, np.uint8)
        for offset, frame in enumerate(frames):
            left = 4 * (index * FRAMES + offset) % (width - 16)
            frame[:, left : left + 16] = (90, 140, 250)
        first = index * FRAMES
        return FrameChunk(
            index=index,
            frames=frames,
            first_frame=first,
            start=first / self._fps,
            end=(first + FRAMES) / self._fps,
            prompt=prompt,
            handover=None,
            looks=_SAME,
            drift=_SAME,
            timings=Timings(0, 0, FRAMES / self._fps / self.speed, 0),
        )


class _Beats(Ticket):
    def __init__(self, device: Metronome, job: Job, deliver: Callable[[Event], None]):
        super().__init__(job, deliver)
        self.began: float = time.perf_counter()
        self._device = device
        self._over = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def stop(self) -> None:
        self._over.set()

    def _run(self) -> None:
        request, fps, speed = self.job.request, self._device._fps, self._device.speed
        beat, began = FRAMES / fps / speed, time.perf_counter()
        chunks = []
        for index in range(CHUNKS):
            due = (index + 1) * beat
            if self._over.wait(max(0.0, began + due - time.perf_counter())):
                return
            chunk = self._device.chunk(index, request.prompts.cues[0].prompt)
            chunks.append(ChunkRecord.of(chunk))
            info = ChunkInfo(
                **dict(chunks[-1]),
                run=self.job.run,
                fps=fps,
                seed=request.seed,
                chunks=CHUNKS,
                seconds=chunk.end,
                first_frame_seconds=beat,
                elapsed_seconds=due,
                chunk_times_playback=speed,
                times_playback=speed,
            )
            self.report(Made(chunk, info))
        manifest = Manifest.model_construct(
            request=request,
            video=VideoRecord.model_construct(seconds=chunk.end, frames=CHUNKS * FRAMES),
            timings=RunTimings.model_construct(total_seconds=due, times_playback=speed),
            chunks=tuple(chunks),
            stopped_by=None,
        )
        self.report(Ended(manifest))


@contextmanager
def chromium(*options: str) -> Iterator[Any]:
    """Playwright's browser, started with more of Chromium's `options`.

    Raises:
        ValueError: if there is none.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise ValueError("this needs Playwright: pip install playwright") from None
    if CHROMIUM is None:
        raise ValueError("this needs Chromium on the path")
    arguments = ["--headless", "--no-sandbox", "--disable-gpu", *options]
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@contextmanager
def ticking(metronome: Metronome) -> Iterator[str]:
    """The address of the page with a metronome in place of the model, until the `with` ends."""
    settings = Settings(model=POCKET.name, device="cpu")
    service = Service(settings, Models(settings), metronome)
    page = launch(service)  # on the first free port
    try:
        yield page.local_url.rstrip("/")
    finally:
        page.close(verbose=False)
        service.close()


def measure(speeds: tuple[float, ...]) -> list[dict[str, float]]:
    """The figures of one run at every speed, a multiple of playback speed at which chunks come.

    Raises:
        ValueError: if there is no browser.
    """
    generation = POCKET.generation
    metronome = Metronome(generation.fps, (generation.height, generation.width))
    with ticking(metronome) as url, chromium() as browser:
        played = []
        for speed in speeds:
            metronome.speed = speed
            rest = CHUNKS * FRAMES / generation.fps + 1  # seconds, for what is still to be shown
            played.append(_read(_report(browser, url, rest), speed, generation.fps))
        return played


def measure_app(clicks: int = 4) -> dict[str, Any]:
    """Start the app as its users do, in a process of its own, and click.

    Returns:
        `served_ms`, from the start to its page, and `click_ms`, from each click to the first
        picture on the screen; the first run is a cold one.

    Raises:
        ValueError: if there is no browser, or the app does not start.
    """
    with chromium() as browser:
        began = time.perf_counter()
        with serving() as url:
            served = 1000 * (time.perf_counter() - began)
            return {
                "served_ms": served,
                "click_ms": [_report(browser, url)["first"] for _ in range(clicks)],
            }


@contextmanager
def serving(**settings: str) -> Iterator[str]:
    """The address of the app with the pocket model, in a process of its own, once it answers.

    Args:
        settings: of the server, by the names of their variables without the prefix.

    Raises:
        ValueError: if it does not start.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(PREFIX)},
        "GRADIO_SERVER_PORT": str(port),
        f"{PREFIX}MODEL": POCKET.name,
        f"{PREFIX}DEVICE": "cpu",
        **{f"{PREFIX}{name}": value for name, value in settings.items()},
    }
    app = subprocess.Popen(
        [sys.executable, "-m", "causvid", "serve"], env=environment, stdout=subprocess.DEVNULL
    )
    try:
        while not _answers(url):
            if app.poll() is not None:
                raise ValueError(f"the app ended with {app.returncode} before it served a page")
            time.sleep(0.05)
        yield url
    finally:
        app.terminate()
        app.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def _report(browser: Any, url: str, rest: float = 0) -> dict[str, Any]:
    """What `static/stage.js` measured of one run, `rest` seconds after its end."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(url)
    page.wait_for_function(REPORT)
    page.locator(".cv-go:visible").click()
    page.wait_for_selector(".cv-stage[data-state=ended]", timeout=120_000)
    page.wait_for_timeout(1000 * rest)
    report = page.evaluate(REPORT)
    page.close()
    return report


def _read(report: dict[str, Any], speed: float, fps: int) -> dict[str, float]:
    """The figures of one run, played in the page.

    Returns:
        `first_ms` from the yield of the first chunk to its first picture on the screen, `click_ms`
        from the click to that picture, `arrival_ms` from a chunk's yield to its arrival in the
        page, median; `shown` of `expected` pictures; `gaps`, pauses between pictures longer than
        `GAP` times the usual, and `gap_ms`, their sum; `stalls`, times that the browser ran out of
        pictures.
    """
    first = report["chunks"][0]
    shown = report["frames"]
    again = next((i for i in range(1, len(shown)) if shown[i][0] < shown[i - 1][0]), len(shown))
    shown = shown[:again]  # the first time through
    usual = 1000 / fps / min(1.0, speed)
    pauses = [later[1] - earlier[1] for earlier, later in itertools.pairwise(shown)]
    gaps = [pause for pause in pauses if pause > GAP * usual]
    return {
        "speed": speed,
        "first_ms": first["arrived"] - first["sent"] + first["shown"] - first["at"],
        "click_ms": report["first"],
        "arrival_ms": statistics.median(it["arrived"] - it["sent"] for it in report["chunks"]),
        "shown": len(shown),
        "expected": CHUNKS * FRAMES,
        "gaps": len(gaps),
        "gap_ms": sum(gaps),
        "stalls": report["stalls"],
    }


def main(speeds: tuple[float, ...] = (0.5, 0.7, 1.25, 3.0), *, show: bool = True) -> dict[str, Any]:
    """Measure, print a table if `show`, and return the figures.

    Raises:
        ValueError: if there is no browser, or the app does not start.
    """
    logging.getLogger("causvid.runs").setLevel(logging.WARNING)
    played, opening = measure(speeds), measure_app()
    if show:
        rows = [tuple(form.format(**it) for form in _COLUMNS.values()) for it in played]
        cold, *warm = opening["click_ms"]
        note = (
            f"app.py served its page after {opening['served_ms'] / 1000:.1f} s; click to picture "
            f"with the pocket model {cold:.0f} ms at first, then {statistics.median(warm):.0f} ms"
        )
        print(f"{table(list(_COLUMNS), rows)}\n{note}")
    return {"player": played, "app": opening}
