"""The app in a real browser: videos play while they are made, and every control does its work.

Chromium is found on the path; without it these tests are skipped, except in CI. In CI, and with
`SCREENSHOTS` set, they leave pictures in `screenshots/`.
"""

import base64
import os
import time
from pathlib import Path

import av
import numpy as np
import PIL.Image
import pytest

from causvid.benchmark import player as measure
from causvid.benchmark.player import CHROMIUM, REPORT
from causvid.generation.prompts import PromptSchedule
from causvid.media import FragmentMuxer
from causvid.ui.files import static
from tests.appserver import running
from tests.videos import write_video

if os.environ.get("CI"):
    import playwright.sync_api as playwright
else:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None and not os.environ.get("CI"), reason="needs Chromium"),
]

PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    pocket = Path(__file__).parents[2] / "assets" / "pocket" / "model_index.json"
    model = "pocket" if pocket.exists() else "standin"
    # A browser that is killed says no farewell: its runs end `lost_seconds` later.
    with running(tmp_path_factory.mktemp("standin"), model, viewers=3, lost_seconds=10) as app:
        yield app


@pytest.fixture(scope="module")
def browser():
    camera = "--use-fake-device-for-media-stream"
    with measure.chromium(camera, "--use-fake-ui-for-media-stream") as browser:  # and may use it
        yield browser


@pytest.fixture
def visit(app, browser):
    """A function that opens the page; afterwards no page may have logged an error."""
    pages, complaints = [], []

    def open_(
        path: str = "/", script: str = "", url: str = app.url, **options
    ) -> "playwright.Page":
        options = {"viewport": {"width": 1280, "height": 1000}, **options}
        page = browser.new_page(**options)
        page.add_init_script(script)
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda message: complaints.append(message.text) if message.type == "error" else None,
        )
        page.goto(url + path)
        page.wait_for_selector(".cv-go:visible")
        page.wait_for_function(REPORT)  # the stage is mounted
        page.wait_for_timeout(300)
        pages.append(page)
        return page

    yield open_
    for page in pages:
        page.close()
    assert complaints == []


def choose(page, tab: str) -> None:
    page.get_by_role("tab", name=tab).click()
    page.wait_for_selector(".cv-go:visible")


def generate(page) -> None:
    page.locator(".cv-go:visible").click()


def state(page) -> str:
    return page.locator(".cv-stage").get_attribute("data-state")


def wait_for(page, condition, seconds: float = 90):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        page.wait_for_timeout(50)
    raise AssertionError(f"waited {seconds} s in vain; the stage says {status(page)!r}")


def status(page) -> str:
    return page.locator(".cv-status").text_content()


def report(page) -> dict:
    return page.evaluate(REPORT)


def wait_for_end(page) -> dict:
    wait_for(page, lambda: state(page) in ("ended", "failed"))
    assert state(page) == "ended", status(page)
    return report(page)


def picture(page, name: str) -> None:
    if os.environ.get("SCREENSHOTS") or os.environ.get("CI"):
        folder = Path(__file__).parents[2] / "screenshots"
        folder.mkdir(exist_ok=True)
        page.screenshot(path=folder / f"{name}.png", full_page=True)


def assert_played_while_made(made: dict) -> None:
    """The first picture was on the screen before the run ended; every chunk came once, in order."""
    indices = [chunk["index"] for chunk in made["chunks"]]
    assert indices == list(range(len(indices))) and len(indices) > 1
    assert made["frames"], "no picture was shown"
    assert made["chunks"][0]["at"] <= made["frames"][0][1] < made["ended"]
    shown = [seconds for seconds, _ in made["frames"]]
    first_round = shown[: next((i for i, t in enumerate(shown) if i and t < shown[i - 1]), None)]
    assert first_round == sorted(first_round)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    y, x = np.mgrid[0:128, 0:224]
    frames = np.stack(
        [
            np.stack([(x + 6 * t) % 256, 255 - y, np.full_like(x, 90)], axis=-1).astype(np.uint8)
            for t in range(32)
        ]
    )
    write_video(folder / "source.mp4", frames, fps=16)
    PIL.Image.fromarray(frames[0]).save(folder / "picture.png")
    return {"video": folder / "source.mp4", "image": folder / "picture.png"}


def test_text_plays_while_it_is_made_and_can_be_downloaded(visit):
    page = visit()
    generate(page)
    made = wait_for_end(page)
    assert_played_while_made(made)
    assert page.locator(".cv-blocks li").count() == len(made["chunks"])
    assert made["first"] > 0
    with page.expect_download() as download:
        page.get_by_text("Download MP4").click()
    assert download.value.path().stat().st_size > 1000
    picture(page, "text")


@pytest.mark.parametrize(("speed", "slows"), [(0.6, True), (3.0, False)])
def test_playback_slows_down_where_generation_is_slower(visit, monkeypatch, speed, slows):
    """Chunks that come at a set multiple of playback speed."""
    monkeypatch.setattr(measure, "CHUNKS", 8)
    with measure.ticking(measure.Metronome(16, (128, 224), speed)) as url:
        page = visit(
            url=url,
            script="window.rates = []; document.addEventListener('ratechange', "
            "(event) => rates.push(event.target.playbackRate), true);",
        )
        generate(page)
        made = wait_for_end(page)
        assert_played_while_made(made)
        rates = page.evaluate("rates")
        assert (min(rates, default=1) < 1) == slows
        assert page.evaluate("document.querySelector('.cv-stage video').playbackRate") == 1
        page.close()


BUSY = """() => document.addEventListener('click', () => setTimeout(() => {
  for (const began = performance.now(); performance.now() - began < 3000;);
}, 100), {once: true})"""


def test_nothing_is_lost_while_the_browser_is_busy(visit, monkeypatch):
    """A whole run arrives while the page cannot show any of it."""
    monkeypatch.setattr(measure, "CHUNKS", 8)
    with measure.ticking(measure.Metronome(16, (128, 224), 30)) as url:
        page = visit(url=url)
        page.evaluate(BUSY)
        generate(page)
        made = wait_for_end(page)
        assert [chunk["index"] for chunk in made["chunks"]] == list(range(8))
        assert page.get_by_role("button", name="Stop").is_disabled()
        page.close()


def test_a_browser_without_mediasource_gets_pictures(visit):
    page = visit(script="delete window.MediaSource; delete window.ManagedMediaSource;")
    assert page.locator(".cv-stage").get_attribute("data-transport") == "canvas"
    generate(page)
    made = wait_for_end(page)
    assert_played_while_made(made)
    assert page.evaluate("document.querySelector('.cv-stage canvas').width") > 60


def test_a_phones_managedmediasource_plays(visit):
    """iPhones have this class only. Chromium has none, so it gets one of the same interface."""
    page = visit(
        script="window.ManagedMediaSource = class extends window.MediaSource {};"
        "delete window.MediaSource;"
    )
    assert page.evaluate("typeof MediaSource") == "undefined"
    assert page.locator(".cv-stage").get_attribute("data-transport") == "media"
    generate(page)
    assert_played_while_made(wait_for_end(page))
    assert page.evaluate("document.querySelector('.cv-stage video').disableRemotePlayback")


def plays(page) -> bool:
    """Whether the stage shows a moving video."""
    return page.evaluate(
        "() => { const v = document.querySelector('.cv-stage video');"
        " return v.checkVisibility() && !v.paused && v.currentTime > 0; }"
    )


def test_an_example_welcomes_and_gives_way_to_the_first_run(visit):
    page = visit()
    wait_for(page, lambda: plays(page))
    assert state(page) == "idle" and "Made beforehand" in status(page)
    generate(page)
    assert_played_while_made(wait_for_end(page))
    assert "Made beforehand" not in status(page)


@pytest.mark.parametrize("without", ["", "delete window.MediaSource;"])
def test_an_example_plays_at_once_and_fills_in_its_prompt(visit, without):
    page = visit(script=without)
    card = page.locator(".cv-gallery [data-url]").nth(1)
    card.click()
    wait_for(page, lambda: plays(page) and state(page) == "ended")
    prompt = page.locator(".cv-prompt textarea:visible")
    wait_for(page, lambda: prompt.input_value() == card.get_attribute("data-prompt"))


VIDEO = "document.querySelector('.cv-stage video')"


def noted(page) -> str:
    """What the page says of a link or a manifest."""
    return page.locator(".block.cv-remixed").text_content()


def test_two_videos_play_in_step_with_a_wipe_between_them(visit, monkeypatch):
    """The first is pinned, the second made over it; the other way is from *My runs*."""
    monkeypatch.setattr(measure, "CHUNKS", 3)
    other = "document.querySelector('.cv-other')"
    with measure.ticking(measure.Metronome(16, (128, 224), 30)) as url:
        page = visit(url=url)
        generate(page)
        wait_for_end(page)
        first = report(page)["run"]
        page.get_by_role("button", name="Compare with the next").click()
        wait_for(page, lambda: first in page.evaluate(f"{other}.src"))
        generate(page)
        wait_for(page, lambda: report(page)["run"] != first)
        wait_for_end(page)
        assert first in page.evaluate(f"{other}.src")
        page.evaluate(f"{VIDEO}.pause(), {VIDEO}.currentTime = 1.2")
        wait_for(page, lambda: abs(page.evaluate(f"{other}.currentTime") - 1.2) < 0.1)
        page.get_by_label("Wipe").fill("25")
        assert "25%" in page.evaluate(f"getComputedStyle({other}).clipPath")
        picture(page, "compared")
        page.get_by_role("button", name="End comparison").click()
        assert not page.locator(".cv-other").is_visible()
        page.locator(".cv-runs [data-compare]").last.click()
        wait_for(page, lambda: first in page.evaluate(f"{other}.src"))
        page.close()


def test_a_kept_run_goes_on_and_its_picture_comes_back(visit, files):
    """In another page of the same browser: from *My runs*, with what it began with."""
    page = visit()
    choose(page, "Image to video")
    page.locator(".cv-picture input[type=file]").set_input_files(files["image"])
    page.locator(".cv-crop img").wait_for()
    page.locator(".cv-prompt:visible textarea").fill("it is still")
    page.get_by_label("number input for Seconds").locator("visible=true").fill("2")
    generate(page)
    wait_for_end(page)
    before = report(page)["run"]
    page.reload()
    page.wait_for_function(REPORT)
    card = page.locator(".cv-runs .cv-card").first
    card.locator("[data-again]").click()
    wait_for(page, lambda: "Filled in. Nothing" in noted(page))
    assert "Choose the picture" not in noted(page)
    page.locator(".cv-crop img").wait_for()
    picture(page, "remixed_picture")
    card.locator("[data-extend]").click()
    wait_for(page, lambda: report(page)["run"] not in (None, before))
    longer = wait_for_end(page)
    assert longer["chunks"][0]["start"] >= 2, "it goes on from the end"
    page.locator(".cv-runs [data-clear]").click()


def test_a_finished_run_is_downloaded_kept_and_played_again(visit, monkeypatch):
    """As WebP; in *My runs*, also after another video and in another page; then cleared."""
    monkeypatch.setattr(measure, "CHUNKS", 3)
    with measure.ticking(measure.Metronome(16, (128, 224), 30)) as url:
        page = visit(url=url)
        generate(page)
        wait_for_end(page)
        with page.expect_download() as download:
            page.get_by_role("button", name="WebP").click()
        with PIL.Image.open(download.value.path()) as moving:
            assert (moving.format, moving.size, moving.n_frames) == ("WEBP", (224, 128), 36)
        run = report(page)["run"]
        own = page.locator(".cv-runs .cv-card")
        assert own.count() == 1
        own.locator("[data-run]").click()
        wait_for(page, lambda: plays(page) and run in page.evaluate(f"{VIDEO}.src"))

        page.get_by_label("Speed").select_option("0.5")
        page.get_by_role("button", name="Loop").click()
        assert page.evaluate(f"[{VIDEO}.playbackRate, {VIDEO}.loop]") == [0.5, False]
        page.evaluate(f"{VIDEO}.pause(), {VIDEO}.currentTime = 1.03125")
        page.get_by_role("button", name="One picture on").click()
        wait_for(page, lambda: page.evaluate(f"{VIDEO}.currentTime * 16") == 17.5)
        page.get_by_role("button", name="One picture back").click()
        wait_for(page, lambda: page.evaluate(f"{VIDEO}.currentTime * 16") == 16.5)

        # Null at the end, as a function that is a result would be called.
        page.evaluate("window.kept = fetch, window.fetch = async () => ({ok: false}), null")
        own.locator("[data-run]").click()
        wait_for(page, lambda: "not on the server any more" in own.text_content())
        page.evaluate("window.fetch = kept, null")
        own.locator("[data-again]").click()
        wait_for(page, lambda: "Filled in" in noted(page))
        page.locator(".cv-runs [data-clear]").click()
        wait_for(page, lambda: own.count() == 0)
        page.close()


AXE = """async () => (await axe.run(document, {resultTypes: ['violations']})).violations
  .filter((it) => ['serious', 'critical'].includes(it.impact))
  .map((it) => [it.id, it.nodes.map((node) => node.html.slice(0, 200))])"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_stands_in_the_way_of_a_screen_reader(visit, monkeypatch, scheme, width):
    """axe-core finds nothing serious on any tab, before a run and after one."""
    if os.environ.get("CI"):
        import axe_playwright_python as package
    else:
        package = pytest.importorskip("axe_playwright_python", reason="needs axe-core")
    script = (Path(package.__file__).parent / "axe.min.js").read_text()
    monkeypatch.setattr(measure, "CHUNKS", 2)
    with measure.ticking(measure.Metronome(16, (128, 224), 30)) as url:
        page = visit(
            f"/?__theme={scheme}",
            url=url,
            viewport={"width": width, "height": 900},
            color_scheme=scheme,
            reduced_motion="reduce",
        )
        page.evaluate(f"{script};0")
        for number in range(4):
            page.get_by_role("tab").nth(number).click()
            page.wait_for_timeout(500)
            assert page.evaluate(AXE) == []
        page.get_by_role("tab").first.click()
        page.locator(".cv-prompt textarea:visible").fill("a red dragon")
        generate(page)
        wait_for_end(page)
        page.wait_for_timeout(500)
        assert page.evaluate(AXE) == []
        page.close()


def test_a_sample_is_tried_at_a_click_in_every_tab_that_wants_a_file(visit):
    page = visit()
    for tab, loaded in (("Image", ".cv-crop img"), ("Video", ".cv-source video")):
        choose(page, f"{tab} to video")
        for _ in range(2):  # also in place of another
            sample = page.locator("[data-sample]:visible").first
            words = sample.get_attribute("data-prompt")
            sample.click()
            page.locator(loaded).first.wait_for()
            prompt = page.locator(".cv-prompt textarea:visible")
            wait_for(page, lambda prompt=prompt, words=words: prompt.input_value() == words)


DROP = """(text) => {
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([text], 'manifest.json', {type: 'application/json'}));
  document.querySelector('.cv-headline').dispatchEvent(
    new DragEvent('drop', {dataTransfer, bubbles: true, cancelable: true}));
}"""


def test_a_run_is_shared_as_a_link_and_remade_from_its_manifest(visit):
    """The link of what was made opens the form with it; a hostile one is refused in words."""
    page = visit(permissions=["clipboard-read", "clipboard-write"])
    page.locator("input[type=number]:visible").first.fill("2")
    page.get_by_label("Seed", exact=True).locator("visible=true").fill("5")
    generate(page)
    made = wait_for_end(page)
    with page.expect_download() as download:
        page.get_by_text("Manifest as JSON").click()
    manifest = download.value.path().read_text()
    page.locator(".cv-share [data-copy]").click()
    link = wait_for(page, lambda: page.evaluate("navigator.clipboard.readText()"))

    other = visit("/#" + link.partition("#")[2])
    wait_for(other, lambda: "Filled in" in noted(other))
    seed = other.get_by_label("Seed", exact=True).locator("visible=true")
    assert seed.input_value() == "5"
    assert not report(other)["run"], "nothing starts by itself"
    seed.fill("6")
    other.evaluate(DROP, manifest)
    wait_for(other, lambda: seed.input_value() == "5")
    generate(other)
    assert len(wait_for_end(other)["chunks"]) == len(made["chunks"])

    card = page.locator(".cv-gallery .cv-card").nth(1)
    card.locator("[data-remix]").click()
    words = card.locator("[data-url]").get_attribute("data-prompt")
    wait_for(page, lambda: page.locator(".cv-prompt textarea:visible").input_value() == words)
    page.evaluate(DROP, '{"request": {"<img src=x onerror=alert(1)>": 1}}')
    wait_for(page, lambda: "Not filled in: unknown request parameters: <img" in noted(page))


def test_other_shapes_fill_the_stage(visit):
    page = visit()
    page.get_by_label("Portrait 128×224").locator("visible=true").check()
    generate(page)
    assert_played_while_made(wait_for_end(page))
    width, height = page.evaluate(
        "() => { const v = document.querySelector('.cv-stage video');"
        " return [v.videoWidth, v.videoHeight]; }"
    )
    assert (width, height) == (128, 224)
    screen = page.locator(".cv-screen").bounding_box()
    assert screen["width"] / screen["height"] == pytest.approx(128 / 224, rel=0.01), "no bars"
    assert screen["height"] > 400
    picture(page, "portrait")


def test_a_picture_shows_its_crop_and_begins_the_video(visit, files):
    page = visit()
    choose(page, "Image to video")
    page.locator("input[type=file][accept*='image']").first.set_input_files(files["image"])
    wait_for(page, lambda: page.locator(":is(.cv-picture, .cv-crop) img:visible").count() >= 2)
    page.locator(".cv-prompt textarea:visible").fill("a red car drives right")
    generate(page)
    assert_played_while_made(wait_for_end(page))
    picture(page, "image")


COPY = """() => new Promise((resolve) => {
  const canvas = document.createElement('canvas');
  canvas.width = 300;
  canvas.height = 200;
  canvas.getContext('2d').fillRect(0, 0, 300, 200);
  canvas.toBlob((blob) => resolve(
    navigator.clipboard.write([new ClipboardItem({'image/png': blob})])));
})"""
PASTE = """async (type) => {
  const [copied] = await navigator.clipboard.read();
  const data = new DataTransfer();
  data.items.add(new File([await copied.getType('image/png')], 'copied', {type}));
  document.activeElement.dispatchEvent(
    new ClipboardEvent('paste', {clipboardData: data, bubbles: true, cancelable: true}));
}"""
"""Headless browsers have no Ctrl+V for pictures; this is the event that it makes."""


def widths(page) -> list[int]:
    """Of what the two picture boxes show: the picture as it came, and its crop."""
    shown = page.locator(":is(.cv-picture, .cv-crop) img:visible")
    return shown.evaluate_all("them => them.map(it => it.naturalWidth)")


@pytest.mark.parametrize("way", ["button", "keys", "keys while the camera is open"])
def test_a_copied_picture_is_pasted_and_begins_the_video(visit, files, way):
    page = visit(permissions=["clipboard-read", "clipboard-write"])
    choose(page, "Image to video")
    page.evaluate(COPY)
    if way == "button":
        page.get_by_label("Paste from clipboard").locator("visible=true").click()
    else:
        if "camera" in way:
            open_camera(page)
        page.evaluate(PASTE, "image/png")
    wait_for(page, lambda: widths(page) == [300, 224])
    page.get_by_label("Upload file").locator("visible=true").click()
    page.locator("input[type=file][accept*='image']").first.set_input_files(files["image"])
    wait_for(page, lambda: widths(page) == [224, 224])
    page.evaluate(PASTE, "image/png")
    wait_for(page, lambda: widths(page) == [300, 224])
    page.locator(".cv-prompt textarea:visible").fill("a red car drives right")
    generate(page)
    assert_played_while_made(wait_for_end(page))


def test_pasting_elsewhere_is_left_alone(visit):
    page = visit(permissions=["clipboard-read", "clipboard-write"])
    page.evaluate(COPY)
    page.evaluate(PASTE, "image/png")
    choose(page, "Image to video")
    page.evaluate(PASTE, "text/plain")
    page.wait_for_timeout(500)
    assert widths(page) == []


CAMERA_SHOWS = """() => [...document.querySelectorAll('video')].some(
  (video) => video.srcObject && video.videoWidth && video.currentTime > 0)"""
"""What is shot before the camera's first picture is nothing."""


def open_camera(page) -> None:
    page.get_by_label("Capture from camera").locator("visible=true").click()
    page.get_by_text("Click to Access Webcam").locator("visible=true").click()
    page.wait_for_function(CAMERA_SHOWS, timeout=90_000)


def test_a_photo_from_the_camera_begins_the_video(visit):
    page = visit()
    choose(page, "Image to video")
    open_camera(page)
    page.get_by_label("capture photo").click()
    wait_for(page, lambda: page.locator(":is(.cv-picture, .cv-crop) img:visible").count() >= 2)
    page.locator(".cv-prompt textarea:visible").fill("a red car drives right")
    generate(page)
    assert_played_while_made(wait_for_end(page))


def test_a_recording_from_the_camera_is_followed(visit):
    page = visit()
    choose(page, "Video to video")
    open_camera(page)
    shutter = page.locator(".capture-button:visible")
    shutter.click()
    page.get_by_title("stop recording").wait_for()
    page.wait_for_timeout(5000)
    shutter.click()
    page.wait_for_selector(".cv-source video[src*='gradio_api']:visible")
    page.locator(".cv-prompt textarea:visible").fill("a red car drives right")
    generate(page)
    assert_played_while_made(wait_for_end(page))
    assert page.locator(".cv-stage[data-beside]").count() == 1


@pytest.mark.parametrize("screen", ["desktop", "phone", "phone without mediasource"])
def test_a_video_plays_with_its_source_and_goes_on_so(visit, files, screen):
    """Beside it; on a phone below it, where two pictures beside each other would be tiny."""
    script = "delete window.MediaSource;" if "without" in screen else ""
    page = visit(script=script, **({} if screen == "desktop" else {"viewport": PHONE}))
    choose(page, "Video to video")
    page.locator("input[type=file][accept*='video']").first.set_input_files(files["video"])
    page.wait_for_selector(".tabitem video:visible")
    page.locator(".cv-prompt textarea:visible").fill("a red car drives right")
    generate(page)
    wait_for(page, lambda: report(page)["chunks"])
    wait_for(page, lambda: seen_whole(page), 5)  # on a phone the page moves for it
    page.locator("#stop-button").click()
    before = wait_for_end(page)
    assert_both_in_one(page, 448 / 128 if screen == "desktop" else 224 / 256)
    picture(page, f"video-{screen}")
    page.get_by_label("Extend by (s)").fill("1")
    page.get_by_role("button", name="Extend", exact=True).click()
    wait_for(page, lambda: len(report(page)["chunks"]) > len(before["chunks"]))
    after = wait_for_end(page)
    indices = [chunk["index"] for chunk in after["chunks"]]
    assert indices == list(range(len(indices)))
    assert_both_in_one(page, 448 / 128 if screen == "desktop" else 224 / 256)
    if "without" not in screen:  # a whole video, in one piece
        ends = page.evaluate(
            "() => { const {buffered} = document.querySelector('.cv-stage video');"
            " return [buffered.length, buffered.start(0), buffered.end(0)]; }"
        )
        assert ends == [1, 0, pytest.approx(after["chunks"][-1]["end"], abs=0.01)]


def seen_whole(page) -> bool:
    box = page.locator(".cv-screen").bounding_box()
    return 0 <= box["y"] <= page.viewport_size["height"] - box["height"]


def assert_both_in_one(page, shape: float) -> None:
    shown = page.evaluate(
        "() => { const find = (it) => document.querySelector(`.cv-stage ${it}`);"
        " const [v, c] = [find('video'), find('canvas')];"
        " return v.checkVisibility() ? v.videoWidth / v.videoHeight : c.width / c.height; }"
    )
    assert shown == pytest.approx(shape)
    labels = page.locator(".cv-beside span:visible")
    assert labels.all_text_contents() == ["Source", "Result"]
    first, second = (labels.nth(index).bounding_box() for index in range(2))
    below = first["y"] + first["height"] <= second["y"] + 1
    assert below == (shape < 1)


@pytest.fixture(scope="module")
def unusual(tmp_path_factory) -> dict[str, Path]:
    """Videos that the server reads, and that a browser calls something else or cannot play."""
    folder = tmp_path_factory.mktemp("unusual")
    shades = [PIL.Image.new("RGB", (224, 128), (shade, 90, 40)) for shade in range(0, 240, 20)]
    options = {"save_all": True, "append_images": shades[1:], "duration": 60}
    shades[0].save(folder / "source.gif", **options)
    shades[0].save(folder / "source.apng", "PNG", **options)
    for name, kind, codec in (
        ("source.avi", "avi", "mpeg4"),
        ("source.ts", "mpegts", "mpeg2video"),
        ("nosuffix", "mp4", "libx264"),
    ):
        with av.open(str(folder / name), "w", format=kind) as output:
            stream = output.add_stream(codec, rate=16, width=224, height=128, pix_fmt="yuv420p")
            for shade in shades:
                output.mux(stream.encode(av.VideoFrame.from_image(shade)))
            output.mux(stream.encode())
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.parametrize(
    "name", ["source.gif", "source.apng", "source.avi", "source.ts", "nosuffix"]
)
def test_the_video_tab_takes_whatever_the_server_reads(visit, unusual, name):
    page = visit()
    choose(page, "Video to video")
    chosen = page.locator(".cv-source input[type=file]").first
    chosen.set_input_files(unusual[name])
    page.wait_for_selector(".cv-source video:visible")
    page.wait_for_timeout(1500)
    assert page.locator(".toast-body").count() == 0, "no error for a missing preview"
    page.locator(".cv-prompt textarea:visible").fill("a red car")
    generate(page)
    wait_for_end(page)
    assert report(page)["chunks"]


def test_a_schedule_changes_prompts_on_the_strip(visit):
    page = visit()
    choose(page, "Prompt schedule")
    wait_for(page, lambda: page.locator(".cv-segments li").count() == 3)
    picture(page, "schedule")
    generate(page)
    wait_for(page, lambda: page.locator(".cv-legend li").count() >= 2)
    assert page.locator(".cv-blocks li[data-handover]").count() >= 1
    page.locator("#stop-button").click()
    wait_for_end(page)


def test_a_bad_schedule_is_refused_and_its_row_named(visit):
    page = visit()
    choose(page, "Prompt schedule")
    wait_for(page, lambda: page.locator(".cv-segments li").count() == 3)
    page.get_by_role("button", name="Clear", exact=True).click()
    wait_for(page, lambda: "row 1" in (page.locator(".cv-problem").text_content() or ""))
    generate(page)
    wait_for(page, lambda: "row 1" in status(page))
    assert state(page) == "failed"


def cues(page) -> list[str]:
    return page.locator(".cv-cues li").all_text_contents()


def test_schedules_come_from_files_and_go_to_files(visit, tmp_path):
    page = visit()
    choose(page, "Prompt schedule")
    wait_for(page, lambda: len(cues(page)) == 3)
    stories = {
        "story.txt": "0s: a red boat on the sea by day\n6s [flush]: a red boat at night\n",
        "story.json": '{"version": 1, "cues": [{"start": 0, "prompt": "a blue car by day"}, '
        '{"start": 3, "prompt": "a blue car in the rain", "handover": "blend:2"}]}',
    }
    for name, story in stories.items():
        (tmp_path / name).write_text(story)
        page.locator("input[type=file][accept*='.txt']").set_input_files(tmp_path / name)
        wanted = PromptSchedule.parse(story)
        last = wanted.cues[-1]
        wait_for(page, lambda: len(cues(page)) == 2 and last.prompt in cues(page)[1])  # noqa: B023
        assert str(last.handover) in cues(page)[1]
        for button in ("Save text", "Save JSON"):
            with page.expect_download() as download:
                page.get_by_text(button, exact=True).click()
            saved = Path(download.value.path()).read_text(encoding="utf-8")
            assert saved.startswith("{") == (button == "Save JSON")
            assert PromptSchedule.parse(saved) == wanted

    (tmp_path / "bad.txt").write_text("0s: a ball\nsoon: a boat\n")
    page.locator("input[type=file][accept*='.txt']").set_input_files(tmp_path / "bad.txt")
    page.get_by_text("line 2").first.wait_for()
    assert len(cues(page)) == 2, "the table stays as it was"


def test_a_schedule_is_written_as_text_or_in_the_table(visit):
    page = visit()
    choose(page, "Prompt schedule")
    wait_for(page, lambda: len(cues(page)) == 3)
    page.get_by_role("button", name="As text").click()
    page.locator("#schedule-text textarea").fill("0s: a red car by day\n4s: a red dragon\n")
    page.get_by_role("button", name="Use this text").click()
    wait_for(page, lambda: len(cues(page)) == 2)
    page.locator("#timeline .cv-remark", has_text="dragon").wait_for()
    page.get_by_role("button", name="Add row", exact=True).click()
    wait_for(page, lambda: "row 3" in (page.locator(".cv-problem").text_content() or ""))
    page.get_by_test_id("cell-2-1").dblclick()
    page.keyboard.type("a red car at night")
    page.keyboard.press("Enter")
    wait_for(page, lambda: len(cues(page)) == 3 and "at night" in cues(page)[2])


def test_stories_fill_the_table_and_rows_are_sorted(visit):
    page = visit()
    choose(page, "Prompt schedule")
    wait_for(page, lambda: len(cues(page)) == 3)
    page.get_by_role("button", name="Weather turns").click()
    wait_for(page, lambda: "boat" in cues(page)[0])
    page.get_by_role("button", name="As text").click()
    page.locator("#schedule-text textarea").fill('[[4, "a ball"], [0, "a car"], [2, "a boat"]]')
    page.get_by_role("button", name="Use this text").click()
    wait_for(page, lambda: len(cues(page)) == 3 and "a car" in cues(page)[0])
    cell = page.get_by_test_id("cell-0-0")
    cell.dblclick()
    page.keyboard.press("Control+a")
    page.keyboard.type("9")
    page.keyboard.press("Enter")
    wait_for(page, lambda: "row 2" in (page.locator(".cv-problem").text_content() or ""))
    page.get_by_role("button", name="Sort", exact=True).click()
    wait_for(page, lambda: page.get_by_test_id("cell-2-0").inner_text().strip()[:1] == "9")


def test_figures_are_those_of_the_run(visit):
    page = visit()
    generate(page)
    wait_for_end(page)
    wait_for(page, lambda: report(page)["first"])  # the run may end before its first picture
    made = report(page)
    figure = {
        it.get_attribute("data-figure"): it.text_content().split("\u202f")[0]
        for it in page.locator("[data-figure]").all()
    }
    assert float(figure["first"]) == pytest.approx(made["first"] / 1000, abs=0.01)
    assert float(figure["length"]) == pytest.approx(made["chunks"][-1]["end"], abs=0.1)
    assert float(figure["speed"]) > 0 and figure["buffer"] == "–"
    assert page.locator(".cv-gauge[data-level]").count() == 3
    for gauge in page.locator(".cv-gauge").all():
        assert "times the first chunk" in gauge.get_attribute("aria-valuetext")


def test_stop_ends_a_run_at_once_and_keeps_what_there_is(visit, app):
    page = visit()
    page.get_by_label("Endless").first.check()
    generate(page)
    wait_for(page, lambda: len(report(page)["chunks"]) >= 2)
    page.locator("#stop-button").click()
    made = wait_for_end(page)
    assert "Stopped" in status(page)
    assert app.service.device.load == (0, 0)
    assert len(made["chunks"]) >= 2


def test_the_prompt_changes_while_it_plays_then_extend_and_branch(visit):
    page = visit()
    page.get_by_label("Endless").first.check()
    generate(page)
    wait_for(page, lambda: len(report(page)["chunks"]) >= 1)
    box = page.locator("#steer-prompt textarea")
    box.fill("a blue boat on the sea at night")
    page.get_by_role("button", name="Change now", exact=True).click()
    wait_for(page, lambda: page.locator(".cv-legend li").count() == 2)
    assert page.locator(".cv-blocks li[data-handover='recache']").count() == 1
    page.locator("#stop-button").click()
    before = len(wait_for_end(page)["chunks"])
    picture(page, "steered")

    page.get_by_label("Extend by (s)").fill("2")
    page.get_by_role("button", name="Extend", exact=True).click()
    wait_for(page, lambda: len(report(page)["chunks"]) > before)
    after = len(wait_for_end(page)["chunks"])

    box.fill("a green bird in the snow")
    page.get_by_role("button", name="Branch", exact=True).click()
    wait_for(page, lambda: page.locator(".cv-legend li").count() == 3)
    made = wait_for_end(page)
    assert [chunk["index"] for chunk in made["chunks"]] == list(range(len(made["chunks"])))
    assert len(made["chunks"]) > after


def test_the_hand_over_is_one_setting_on_the_stage_and_in_every_tab(visit):
    page = visit()
    choose(page, "Video to video")
    page.get_by_role("button", name="Advanced").locator("visible=true").click()
    advanced = page.get_by_label("When the prompt changes").locator("visible=true")
    stage = page.get_by_label("Hand-over", exact=True)
    for source, other, value in ((advanced, stage, "flush"), (stage, advanced, "blend:2")):
        source.click()
        page.get_by_role("option", name=value).click()
        wait_for(page, lambda other=other, value=value: other.input_value() == value)


@pytest.mark.parametrize(
    ("field", "entry", "said"),
    [
        ("Seed", "", "the seed is empty; expected a whole number"),
        ("Seed", "-1", "the seed is -1; expected 0 or more"),
        ("Seed", "1.5", "the seed is 1.5; expected a whole number"),
        ("Extend by (s)", "", "the extension is empty; expected a number"),
        ("Extend by (s)", "0", "the extension is 0; expected more than 0"),
        ("Extend by (s)", "1000", "would have"),
    ],
)
def test_a_number_that_cannot_be_is_refused_by_its_name(visit, field, entry, said):
    page = visit()
    if field != "Seed":
        generate(page)
        wait_for(page, lambda: report(page)["chunks"])
        page.locator("#stop-button").click()
        wait_for_end(page)
    page.get_by_label(field, exact=True).locator("visible=true").fill(entry)
    if field == "Seed":
        generate(page)
    else:
        page.get_by_role("button", name="Extend", exact=True).click()
    wait_for(page, lambda: said in status(page))


def test_the_dice_rolls_another_seed(visit):
    page = visit()
    seed = page.get_by_label("Seed", exact=True).locator("visible=true")
    assert seed.input_value() == "0"
    page.get_by_role("button", name="Roll").locator("visible=true").click()
    wait_for(page, lambda: seed.input_value() not in ("", "0"))


@pytest.mark.parametrize("height", [700, 1000])
def test_what_is_made_is_in_sight_wherever_generate_was_pressed(visit, height):
    """In a high window the stage stays beside the inputs; in a low one the page goes there."""
    page = visit(viewport={"width": 1280, "height": height})
    choose(page, "Prompt schedule")
    wait_for(page, lambda: page.locator(".cv-segments li").count() == 3)
    page.evaluate("scrollTo(0, 200)")
    assert seen_whole(page) == (height == 1000)
    page.locator(".cv-go:visible").evaluate("it => it.scrollIntoView({block: 'start'})")
    assert page.evaluate("scrollY") > 300
    page.locator(".cv-go:visible").evaluate("it => it.click()")
    wait_for(page, lambda: report(page)["chunks"])
    wait_for(page, lambda: seen_whole(page), 5)
    page.locator("#stop-button").click()
    wait_for_end(page)


@pytest.mark.parametrize("width", [320, 375, 390, 640, 768, 1000, 1280])
def test_all_four_tabs_are_in_sight_at_any_width(visit, width):
    page = visit(viewport={"width": width, "height": 800})
    assert page.get_by_role("tab").locator("visible=true").count() == 4


def test_unknown_words_are_pointed_out(visit):
    page = visit()
    prompt = page.locator(".cv-prompt textarea:visible")
    prompt.fill("a red Balloons and a dragon fly")
    words = page.locator(".cv-words .cv-remark")
    wait_for(page, lambda: words.count() == 1 and "dragon" in words.text_content())
    words.get_by_role("button", name="Use “balloon” for “balloons”").click()
    wait_for(page, lambda: prompt.input_value() == "a red balloon and a dragon fly")
    wait_for(page, lambda: "balloons" not in words.text_content())


@pytest.fixture(scope="module")
def two_models(tmp_path_factory):
    """A small model and, to be chosen only, a large one that knows any word."""
    with running(tmp_path_factory.mktemp("standin"), models=("self-forcing",)) as app:
        yield app


def choose_model(page, name: str) -> None:
    page.get_by_role("button", name="Advanced").locator("visible=true").click()
    page.get_by_label("Model", exact=True).locator("visible=true").click()
    page.get_by_role("option", name=name).click()


def test_what_the_page_says_is_about_the_model_chosen(visit, two_models):
    page = visit(url=two_models.url)
    prompt = page.locator(".cv-prompt textarea:visible")
    remark = page.locator(".block.cv-words:visible")
    chips = page.locator(".cv-chip:visible")
    prompt.fill("a red dragon")
    wait_for(page, lambda: remark.count() == 1)
    assert page.locator(".cv-model", has_text="standin").count() == 1
    assert page.locator(".cv-licence:visible").count() == 0
    small = chips.all_inner_texts()

    choose_model(page, "Self-Forcing, DMD")
    page.locator(".cv-model", has_text="Self-Forcing, DMD").wait_for()
    page.locator(".cv-licence:visible").wait_for()
    wait_for(page, lambda: remark.count() == 0)
    wait_for(page, lambda: chips.count() and not {*chips.all_inner_texts()} & {*small})
    large = chips.all_inner_texts()
    assert prompt.input_value() == "a red dragon", "what was written stays"
    page.get_by_label("Portrait 480×832").locator("visible=true").wait_for()
    chips.first.click()
    wait_for(page, lambda: prompt.input_value() == large[0])

    choose(page, "Prompt schedule")
    page.locator(".cv-licence:visible").wait_for()
    wait_for(page, lambda: "Under water" in chips.all_inner_texts())
    choose_model(page, "standin")
    page.locator(".cv-model", has_text="standin").wait_for()
    wait_for(page, lambda: "A day passes" in chips.all_inner_texts())
    wait_for(page, lambda: cues(page) and "desert" in cues(page)[0])
    choose(page, "Text to video")
    wait_for(page, lambda: chips.all_inner_texts() == small)
    wait_for(page, lambda: prompt.input_value() == small[0])
    assert page.locator(".cv-licence:visible").count() == 0


MANY_CHUNKS = """(script) => {
  const Strip = new Function(`${script}; return Strip`)();
  const strip = new Strip(document.querySelector('.cv-stage'));
  for (let index = 0; index < 800; index++) strip.add({
    index, start: index, end: index + 1, prompt: 'a red car', handover: null,
    timings: {total: 1}, times_playback: 1, drift: {},
  });
  const blocks = document.querySelector('.cv-blocks');
  const edge = (element) => element.getBoundingClientRect().right;
  return edge(blocks.lastElementChild) / edge(blocks);
}"""


def test_the_chunks_of_an_endless_run_fit_the_strip(browser):
    page = browser.new_page(viewport=PHONE)
    page.set_content(f"<style>{static('style.css')}</style>{static('stage.html')}")
    # Browsers round widths down, to a 64th of a pixel.
    assert 0.95 < page.evaluate(MANY_CHUNKS, static("strip.js")) <= 1.0
    page.close()


LONG_VIDEO = """async ([script, keep, room, mime, init, fragments]) => {
  const Player = new Function(`${script}; return MediaPlayer`)();
  const video = document.querySelector('video');
  const seen = {removed: [], outside: [], frames: [], refused: 0};
  const until = async (holds) => {
    const patience = performance.now() + 60_000;
    while (!holds()) {
      if (performance.now() > patience) throw new Error(`stuck at ${video.currentTime} s`);
      await new Promise((done) => setTimeout(done, 50));
    }
  };
  const {remove, appendBuffer} = SourceBuffer.prototype;
  SourceBuffer.prototype.remove = function (start, end) {
    seen.removed.push([end, video.currentTime, seen.frames.length]);
    remove.call(this, start, end);
  };
  SourceBuffer.prototype.appendBuffer = function (data) {
    const held = this.buffered.length ? this.buffered.end(0) - this.buffered.start(0) : 0;
    if (held >= room) {
      seen.refused += 1;
      throw new DOMException('full', 'QuotaExceededError');
    }
    appendBuffer.call(this, data);
  };
  const player = new Player(video, (seconds) => seen.frames.push(seconds), keep);
  player.open({mime, init, seconds: fragments.length});
  for (const data of fragments) {
    player.append({data, duration: 1});
    await until(() => !player.queue.length && player.ahead <= 2);
    const {buffered, currentTime} = video;
    if (buffered.length && currentTime < buffered.start(0)) seen.outside.push(currentTime);
  }
  player.finish();
  await until(() => seen.frames.some((it, i) => i && it < seen.frames[i - 1] - 1));
  video.currentTime = 0;
  await new Promise((done) => video.addEventListener('seeked', done, {once: true}));
  return {...seen, sought: video.currentTime, start: video.buffered.start(0)};
}"""


@pytest.mark.parametrize(("keep", "room"), [(2, 1000), (1000, 12)], ids=["kept", "quota"])
def test_old_pictures_make_room_and_playback_goes_on(browser, app, keep, room):
    """In a page of the player alone, with seconds in place of minutes; 14 of them are played."""
    seconds, fps = 14, 4
    with FragmentMuxer(fps=fps, height=64, width=96) as muxer:
        grey = np.linspace(0, 255, seconds * fps).astype(np.uint8)
        frames = np.broadcast_to(grey[:, None, None, None], (len(grey), 64, 96, 3))
        fragments = [muxer.append(part.copy()) for part in np.split(frames, seconds)]
        coded = [base64.b64encode(it.data).decode() for it in fragments]
        init = base64.b64encode(muxer.init).decode()
        arguments = [static("player.js"), keep, room, muxer.mime, init, coded]
    page = browser.new_page()
    page.goto(f"{app.url}/healthz")  # MediaSource is for pages with an address
    page.set_content("<video muted playsinline></video>")
    seen = page.evaluate(LONG_VIDEO, arguments)
    page.close()
    kept = keep if room > seconds else 10
    assert seen["removed"], "nothing was dropped"
    assert all(end <= now - kept + 1e-6 for end, now, _ in seen["removed"])
    assert (seen["refused"] > 0) == (room < seconds)
    assert seen["outside"] == []
    first_round = seen["frames"][: np.argmin(np.diff(seen["frames"])) + 1]
    assert len(first_round) > seen["removed"][0][2], "pictures came after the first were dropped"
    assert max(first_round) == pytest.approx(seconds - 1 / fps, abs=1e-3), "to the last picture"
    assert seen["sought"] >= seen["start"] > 0, "what is gone cannot be gone back to"


def test_closing_the_page_gives_the_device_back(visit, app, browser):
    page = browser.new_page()
    page.goto(app.url)
    page.wait_for_selector(".cv-go:visible")
    page.get_by_label("Endless").first.check()
    generate(page)
    wait_for(page, lambda: len(report(page)["chunks"]) >= 1)
    page.close()
    assert app.reaches(0, seconds=30)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_everything_without_scrolling_sideways(visit, scheme):
    page = visit(f"/?__theme={scheme}", viewport=PHONE, color_scheme=scheme)
    tabs = page.get_by_role("tab")
    assert tabs.count() == 4
    for index in range(4):
        tabs.nth(index).click()
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        picture(page, f"phone-{scheme}-{index}")
    tabs.first.click()
    generate(page)
    wait_for(page, lambda: len(report(page)["frames"]) > 0)
    picture(page, f"phone-{scheme}-live")
    page.locator("#stop-button").click()
    wait_for_end(page)


def test_the_keyboard_is_enough(visit):
    page = visit()
    prompt = page.locator(".cv-prompt textarea:visible")
    prompt.focus()
    for _ in range(40):
        page.keyboard.press("Tab")
        focused = page.evaluate("document.activeElement.textContent.trim()")
        ring = page.evaluate(
            "(({outlineStyle, boxShadow}) => outlineStyle + boxShadow)"
            "(getComputedStyle(document.activeElement))"
        )
        assert ring != "nonenone", f"nothing shows that {focused!r} has the focus"
        if focused == "Generate":
            break
    assert focused == "Generate"
    page.keyboard.press("Enter")
    wait_for(page, lambda: len(report(page)["chunks"]) >= 1)
    page.locator("#stop-button").focus()
    page.keyboard.press("Enter")
    wait_for_end(page)


def press_until(page, reached: str, key: str = "Tab", most: int = 60) -> None:
    """Press a key until that has the focus which says `reached`."""
    for _ in range(most):
        page.keyboard.press(key)
        if page.evaluate(f"({FOCUSED})()") == reached:
            return
    raise AssertionError(f"{reached!r} cannot be reached")


FOCUSED = """() => {
  const it = document.activeElement;
  return (it.ariaLabel || it.placeholder || it.textContent || it.type).trim();
}"""


def test_a_run_is_made_steered_stopped_and_extended_by_keys_alone(visit):
    page = visit()
    lists = page.locator(".options:visible")
    press_until(page, "What to show")
    page.keyboard.press("Control+a")
    page.keyboard.type("a red car in the desert by day")
    press_until(page, "checkbox")  # endless
    page.keyboard.press("Space")
    press_until(page, "Generate")
    page.keyboard.press("Enter")
    wait_for(page, lambda: report(page)["chunks"])
    press_until(page, "From the next chunk on, show …")
    page.keyboard.type("a red car in the desert at night")
    press_until(page, "Hand-over")
    wait_for(page, lambda: lists.count() == 1)
    for key in ("ArrowDown", "Enter"):
        page.keyboard.press(key)
    chosen = page.get_by_label("Hand-over", exact=True)
    wait_for(page, lambda: chosen.input_value() == "swap")  # as a person would
    press_until(page, "Hand-over", "Shift+Tab")
    press_until(page, "Change now")
    assert lists.count() == 0, "it would hide what stands below"
    page.keyboard.press("Space")
    wait_for(page, lambda: page.locator(".cv-legend li").count() == 2)
    assert page.locator(".cv-blocks li[data-handover='swap']").count() == 1
    press_until(page, "Stop", "Shift+Tab")
    page.keyboard.press("Enter")
    before = len(wait_for_end(page)["chunks"])
    press_until(page, "Extend by (s)")
    page.keyboard.type("1")
    press_until(page, "Extend")
    page.keyboard.press("Enter")
    wait_for(page, lambda: len(report(page)["chunks"]) > before)
    wait_for_end(page)
    press_until(page, "Prompt schedule", "Shift+Tab")
    page.keyboard.press("Enter")
    assert page.get_by_role("tab", name="Prompt schedule").get_attribute("aria-selected") == "true"
