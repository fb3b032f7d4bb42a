"""How far a live video is behind its camera: `python -m causvid benchmark --live`.

The whole app in a process of its own, and Chromium with a fake camera that shows a time code. The
code is read back from the screen, of the camera's picture and of the video that is made from it:
the time between the same code here and there is the latency. The page's own figure
stands beside it.

A code survives a small strength only, at which a chunk has fewer steps. So the page's figure, held
against the code there, is read for some time at the usual strength, too.
"""

import statistics
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import numpy as np

from causvid.benchmark import table
from causvid.benchmark.player import REPORT, chromium, serving
from causvid.presets.catalogue import POCKET
from causvid.serving.request import PARAMETERS

CODE_STRENGTH = 0.1
USUAL_STRENGTH = PARAMETERS["strength"].default
SECONDS = 60.0

# The camera's picture is 4:3, the cells of its code are in what remains of it at 16:9.
_CAMERA = (480, 640)
_TOP, _HEIGHT = 72, 336
_COLUMNS, _ROWS = 4, 3
CODES = 256  # in turn; a video is less behind than they take
_RATE, _FRAMES = 30, 6  # Chromium plays MJPEG at this rate; pictures of a code
_LONGEST = 12.0  # seconds of latency that are told from a misread code
_SETTLING = 8.0  # seconds before anything counts: the model is loaded, the buffer fills

# Reads the mean of every cell of both videos at each refresh of the screen, into `window.codes`.
_WATCH = """([top, height, columns, rows, whole]) => {
  const shot = document.createElement('canvas');
  const brush = shot.getContext('2d', { willReadFrequently: true });
  Object.assign(shot, { width: 8 * columns, height: 8 * rows });
  const read = (video) => {
    if (!video?.videoWidth || video.readyState < 2) return null;
    const { videoWidth: across, videoHeight: down } = video;
    const scale = Math.max(across / whole[1], down / whole[0]); // fills
    const y = (down - whole[0] * scale) / 2 + top * scale;
    brush.drawImage(video, (across - whole[1] * scale) / 2, y, whole[1] * scale, height * scale,
      0, 0, shot.width, shot.height);
    const { data } = brush.getImageData(0, 0, shot.width, shot.height), cells = [];
    for (let row = 0; row < rows; row++) for (let column = 0; column < columns; column++) {
      let sum = 0;
      for (let j = 2; j < 6; j++) for (let i = 2; i < 6; i++)
        sum += data[4 * ((8 * row + j) * shot.width + 8 * column + i) + 1];
      cells.push(sum / 16);
    }
    return cells;
  };
  window.codes = [];
  const sight = document.querySelector('.cv-live video');
  const made = document.querySelector('.cv-stage video');
  const watch = () => {
    window.codes.push([performance.now() / 1000, read(sight), read(made)]);
    requestAnimationFrame(watch);
  };
  watch();
}"""
_OWN = """() => {
  for (let e = document.querySelector('.cv-live'); e; e = e.parentElement)
    if (e.report) return (({ latency, skipped, sent }) => ({ latency, skipped, sent }))(e.report);
}"""


def cells_of(code: int) -> list[bool]:
    """A code as cells that are white or black: Gray code, its parity, and one of either to tell
    them by. Neighbours differ in two cells, so two of them blended are not a third."""
    gray = code ^ (code >> 1)
    bits = [bool(gray >> place & 1) for place in range(8)]
    odd = sum(bits) % 2 == 1
    return [*bits, odd, not odd, True, False]


def code_of(cells: Sequence[float]) -> int | None:
    """The inverse, of the cells' brightness; `None` where it cannot be told."""
    *values, white, black = cells
    if white - black < 60:
        return None
    shares = [(value - black) / (white - black) for value in values]
    if any(0.35 < share < 0.65 for share in shares):
        return None
    *bits, odd, even = (share > 0.5 for share in shares)
    if odd == even or odd != (sum(bits) % 2 == 1):
        return None
    gray = sum(bit << place for place, bit in enumerate(bits))
    code = gray
    while gray := gray >> 1:
        code ^= gray
    return code


def write_camera(path: Path) -> None:
    """All codes in turn, as what Chromium takes for a camera."""
    with av.open(str(path), "w", format="mjpeg") as file:
        stream = file.add_stream("mjpeg", rate=_RATE)
        stream.height, stream.width = _CAMERA
        stream.pix_fmt = "yuvj420p"
        for code in range(CODES):
            cells = np.array(cells_of(code)).reshape(_ROWS, _COLUMNS)
            picture = np.full((*_CAMERA, 3), 128, np.uint8)
            block = np.ones((_HEIGHT // _ROWS, _CAMERA[1] // _COLUMNS))
            picture[_TOP : _TOP + _HEIGHT] = np.kron(20 + 215 * cells, block)[..., None]
            for _ in range(_FRAMES):
                file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode())


def latencies(samples: Iterable[tuple[float, int | None, int | None]]) -> tuple[list[float], int]:
    """Seconds from a code in the camera's picture to the same in the video, of every code that was
    in both, and how many the video left out.

    Args:
        samples: time, seconds, and the codes of both that were on the screen then.
    """
    began: dict[int, float] = {}  # the newest time that the camera began to show a code
    found: dict[tuple[int, float], float] = {}
    last: int | None = None
    for time, seen, shown in samples:
        if seen is not None and seen != last:
            began[seen], last = time, seen
        if shown is not None and shown in began and time - began[shown] < _LONGEST:
            found.setdefault((shown, began[shown]), time - began[shown])
    times = sorted(time for _, time in found)
    whole = round((times[-1] - times[0]) * _RATE / _FRAMES) + 1 if times else 0
    return list(found.values()), max(0, whole - len(times))


def measure(seconds: float = SECONDS) -> dict[str, Any]:
    """Watch a live video for so long, and then at the usual strength, a minute at most.

    Raises:
        ValueError: if there is no browser, or the app does not start.
    """
    usual = min(seconds, SECONDS)
    limit = str(2 * (seconds + usual) + 60)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        write_camera(folder / "camera.mjpeg")
        options = (
            "--use-fake-device-for-media-stream",
            "--use-fake-ui-for-media-stream",
            f"--use-file-for-fake-video-capture={folder / 'camera.mjpeg'}",
        )
        browser = stack.enter_context(chromium(*options))
        url = stack.enter_context(serving(ENDLESS_SECONDS=limit))
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.set_default_timeout(180_000)
        page.goto(url)
        page.wait_for_function(REPORT)
        page.get_by_role("tab", name="Video to video").click()
        page.locator(".cv-prompt:visible textarea").fill("it is still")
        strength = page.get_by_label("number input for Strength").locator("visible=true")
        strength.fill(str(CODE_STRENGTH))
        strength.press("Tab")
        page.wait_for_timeout(500)
        page.get_by_role("button", name="Camera, live").click()
        page.wait_for_function(f"() => (({REPORT})()?.chunks.length ?? 0) >= 3")
        page.wait_for_timeout(1000 * _SETTLING)
        page.evaluate(_WATCH, [_TOP, _HEIGHT, _COLUMNS, _ROWS, _CAMERA])
        told = _told(page, seconds)
        samples = [
            (time, *(None if cells is None else code_of(cells) for cells in both))
            for time, *both in page.evaluate("() => window.codes")
        ]
        strength.fill(str(USUAL_STRENGTH))
        strength.press("Tab")
        page.wait_for_timeout(1000 * _SETTLING)
        usual_told = _told(page, usual)
        own = page.evaluate(_OWN)
        page.get_by_role("button", name="Stop the camera").click()
        page.wait_for_selector(".cv-stage[data-state=ended]")
    found, left_out = latencies(samples)
    if not found:
        raise ValueError("no time code could be read from the screen")
    return {
        "model": POCKET.name,
        "seconds": seconds,
        "by_code": {"strength": CODE_STRENGTH, **_figures(found), "codes_left_out": left_out},
        "by_page": {"strength": CODE_STRENGTH, **_figures(told)},
        "by_page_usual": {"strength": USUAL_STRENGTH, **_figures(usual_told)},
        "pictures": {"sent": own["sent"], "left_out": own["skipped"]},
    }


def _told(page: Any, seconds: float) -> list[float]:
    """What the page says of its latency, twice a second."""
    told = []
    for _ in range(round(2 * seconds)):
        page.wait_for_timeout(500)
        if (own := page.evaluate(_OWN)) and own["latency"] is not None:
            told.append(own["latency"])
    return told


def _figures(seconds: list[float]) -> dict[str, float]:
    """Median and 95th percentile, and the same of the last tenth: whether it grows."""
    if not seconds:
        raise ValueError("the page told no latency")
    late = seconds[-max(1, len(seconds) // 10) :]
    return {
        "readings": len(seconds),
        "median": statistics.median(seconds),
        "p95": float(np.quantile(seconds, 0.95)),
        "median_at_the_end": statistics.median(late),
    }


def main(seconds: float = SECONDS, *, show: bool = True) -> dict[str, Any]:
    """Measure, print a table if `show`, and return the figures.

    Raises:
        ValueError: as `measure`.
    """
    figures = measure(seconds)
    if show:
        rows = [
            (
                name,
                *(f"{it[key]:.2f}" for key in ("strength", "median", "p95", "median_at_the_end")),
                str(it["readings"]),
            )
            for name, it in (
                ("by time code", figures["by_code"]),
                ("by the page", figures["by_page"]),
                ("by the page", figures["by_page_usual"]),
            )
        ]
        header = (
            "seconds behind",
            "strength",
            "median",
            "p95",
            "at the end",
            "readings",
        )
        sent, code = figures["pictures"], figures["by_code"]
        print(
            f"{table(header, rows)}\n{sent['sent']} pictures sent, {sent['left_out']} left out by "
            f"the browser; {code['codes_left_out']} codes of a fifth of a second were not read"
        )
    return {"live": figures}
