"""How well the player plays: `python -m causvid benchmark --player`.

The real page in a real browser, with a metronome in place of the model: chunks of a moving picture
arrive at a set multiple of playback speed. Printed are the time from a chunk's yield to its first
picture on the screen, and the gaps and stalls on the way. Then the whole app with the pocket model:
how long `python app.py` takes to serve its page, and a click to show a picture. Needs Playwright
and Chromium.
"""

import dataclasses
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
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from causvid.generation.drift import Looks
from causvid.generation.stream import FrameChunk, Timings
from causvid.presets.catalogue import POCKET, ROOT
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
_REPORT = """() => {
  for (let e = document.querySelector('.cv-stage'); e; e = e.parentElement)
    if (e.report) return e.report;
}"""


@dataclass(frozen=True)
class Playback:
    """What one run of the player showed.

    Attributes:
        speed: multiple of playback speed at which chunks came.
        first_ms: from the yield of the first chunk to its first picture on the screen.
        click_ms: from the click to that picture.
        arrival_ms: from a chunk's yield to its arrival in the page, median.
        shown: pictures shown, of `expected`.
        gaps: pauses between pictures longer than `GAP` times the usual, and their sum.
        stalls: times that the browser ran out of pictures.
    """

    speed: float
    first_ms: float
    click_ms: float
    arrival_ms: float
    shown: int
    expected: int
    gaps: int
    gap_ms: float
    stalls: int


class Metronome:
    """A `Device` that makes a chunk whenever its time has come.

    Args:
        fps: of the video.
        size: height and width, pixels.
        speed: chunks come at this multiple of playback speed.
    """

    def __init__(self, fps: int, size: tuple[int, int], speed: float = 1.0):
        self._fps, self._size, self.speed = fps, size, speed

    def submit(self, job: Job, deliver: Callable[[Event], None]) -> "_Beats":
        return _Beats(self, job, deliver)

    def close(self) -> None:
        """Runs end by themselves."""

    def chunk(self, index: int, prompt: str) -> FrameChunk:
        """A bar that moves on with every picture."""
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


class _Beats:
    def __init__(self, device: Metronome, job: Job, deliver: Callable[[Event], None]):
        self.began: float | None = time.perf_counter()
        self._device, self._job, self._deliver = device, job, deliver
        self._over = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def taken(self) -> None:
        """A metronome does not wait."""

    def stop(self) -> None:
        self._over.set()

    def cancel(self) -> None:
        self._over.set()

    def place(self) -> int:
        return 0

    def _run(self) -> None:
        prompt = self._job.request.prompts.cues[0].prompt
        beat = FRAMES / self._device._fps / self._device.speed
        chunks = []
        for index in range(CHUNKS):
            if self._over.wait(max(0.0, self.began + (index + 1) * beat - time.perf_counter())):
                return
            chunk = self._device.chunk(index, prompt)
            chunks.append(ChunkRecord.of(chunk))
            fps, speed = self._device._fps, self._device.speed
            info = ChunkInfo.model_construct(
                **dict(chunks[-1]), run=self._job.run, fps=fps, times_playback=speed
            )
            self._deliver(Made(chunk, info))
        seconds = CHUNKS * FRAMES / fps
        manifest = Manifest.model_construct(
            request=self._job.request,
            video=VideoRecord.model_construct(seconds=seconds, frames=CHUNKS * FRAMES),
            timings=RunTimings.model_construct(total_seconds=CHUNKS * beat, times_playback=speed),
            chunks=tuple(chunks),
        )
        self._deliver(Ended(manifest))


@dataclass(frozen=True)
class Opening:
    """How long the app keeps a visitor waiting.

    Attributes:
        served_ms: from `python app.py` to its page.
        click_ms: from each click to the first picture on the screen; the first run is a cold one.
    """

    served_ms: float
    click_ms: list[float]


@contextmanager
def _browser() -> Iterator[Any]:
    """
    Raises:
        ValueError: if there is none.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise ValueError("this needs Playwright: pip install playwright") from None
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise ValueError("this needs Chromium on the path")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=chromium, args=["--headless", "--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def ticking(metronome: Metronome) -> Iterator[str]:
    """The address of the page with a metronome in place of the model, until the `with` ends."""
    settings = Settings(model=POCKET.name, device="cpu")
    service = Service(settings, Models(settings), metronome)
    port = _free_port()
    page = launch(service, server_port=port)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        page.close()
        service.close()


def measure(speeds: tuple[float, ...]) -> list[Playback]:
    """Play one run at every speed.

    Raises:
        ValueError: if there is no browser.
    """
    generation = POCKET.generation
    metronome = Metronome(generation.fps, (generation.height, generation.width))
    with ticking(metronome) as url, _browser() as browser:
        played = []
        for speed in speeds:
            metronome.speed = speed
            played.append(_play(browser, url, speed, generation.fps))
        return played


def measure_app(clicks: int = 4) -> Opening:
    """Start the app as its users do, in a process of its own, and click.

    Raises:
        ValueError: if there is no browser, or the app does not start.
    """
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(PREFIX)},
        "GRADIO_SERVER_PORT": str(port),
        f"{PREFIX}MODEL": POCKET.name,
        f"{PREFIX}DEVICE": "cpu",
    }
    with _browser() as browser:
        began = time.perf_counter()
        app = subprocess.Popen(
            [sys.executable, str(ROOT / "app.py")],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        try:
            while not _serves(url):
                if app.poll() is not None:
                    raise ValueError(f"app.py ended with {app.returncode} before it served a page")
                time.sleep(0.05)
            served = 1000 * (time.perf_counter() - began)
            return Opening(served, [_click(browser, url) for _ in range(clicks)])
        finally:
            app.terminate()
            app.wait()


def _serves(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def _click(browser: Any, url: str) -> float:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(url)
    page.wait_for_function(_REPORT)
    page.locator(".cv-go:visible").click()
    page.wait_for_selector(".cv-stage[data-state=ended]", timeout=120_000)
    first = page.evaluate(_REPORT)["first"]
    page.close()
    return first


def _play(browser: Any, url: str, speed: float, fps: int) -> Playback:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(url)
    page.locator(".cv-go:visible").click()
    page.wait_for_selector(".cv-stage[data-state=ended]", timeout=120_000)
    page.wait_for_timeout(1000 * CHUNKS * FRAMES / fps + 1000)  # for what is still to be shown
    report = page.evaluate(_REPORT)
    page.close()
    first = report["chunks"][0]
    # Once through: the video then begins again.
    shown = report["frames"]
    again = next((i for i in range(1, len(shown)) if shown[i][0] < shown[i - 1][0]), len(shown))
    shown = shown[:again]
    usual = 1000 / fps / min(1.0, speed)
    pauses = [later[1] - earlier[1] for earlier, later in itertools.pairwise(shown)]
    gaps = [pause for pause in pauses if pause > GAP * usual]
    return Playback(
        speed=speed,
        first_ms=first["arrived"] - first["sent"] + first["shown"] - first["at"],
        click_ms=report["first"],
        arrival_ms=statistics.median(it["arrived"] - it["sent"] for it in report["chunks"]),
        shown=len(shown),
        expected=CHUNKS * FRAMES,
        gaps=len(gaps),
        gap_ms=sum(gaps),
        stalls=report["stalls"],
    )


def main(speeds: tuple[float, ...] = (0.5, 0.7, 1.25, 3.0)) -> dict[str, Any]:
    """Measure, print a table, and return the figures."""
    logging.getLogger("causvid.runs").setLevel(logging.WARNING)
    print(
        f"{'speed':>6}{'yield to picture':>18}{'click to picture':>18}{'yield to page':>15}"
        f"{'shown':>12}{'gaps':>6}{'in all':>10}{'stalls':>8}"
    )
    played = measure(speeds)
    for it in played:
        print(
            f"{it.speed:5.2f}x{it.first_ms:15.0f} ms{it.click_ms:15.0f} ms{it.arrival_ms:12.0f} ms"
            f"{it.shown:8} of {it.expected}{it.gaps:3}{it.gap_ms:7.0f} ms{it.stalls:8}"
        )
    opening = measure_app()
    cold, *warm = opening.click_ms
    print(
        f"app.py served its page after {opening.served_ms / 1000:.1f} s; click to picture with the "
        f"pocket model {cold:.0f} ms at first, then {statistics.median(warm):.0f} ms"
    )
    figures = {"player": [dataclasses.asdict(it) for it in played]}
    return {**figures, "app": dataclasses.asdict(opening)}
