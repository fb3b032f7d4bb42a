"""The app in a real browser: videos play while they are made, and every control does its work.

Chromium is found on the path; without it these tests are skipped, except in CI. With `SCREENSHOTS`
set they leave pictures in `screenshots/`.
"""

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from appserver import running

from causvid.media import write_video

if os.environ.get("CI"):
    import playwright.sync_api as playwright
else:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None and not os.environ.get("CI"), reason="needs Chromium"
)

REPORT = """() => {
  const stage = document.querySelector('.cv-stage');
  for (let e = stage; e; e = e.parentElement) if (e.report) return e.report;
}"""
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    pocket = Path(__file__).parents[1] / "assets" / "pocket" / "model_index.json"
    model = "pocket" if pocket.exists() else "standin"
    with running(tmp_path_factory.mktemp("standin"), model, viewers=3) as app:
        yield app


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--headless", "--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@pytest.fixture
def visit(app, browser):
    """A function that opens the page; afterwards no page may have logged an error."""
    pages, complaints = [], []

    def open_(path: str = "/", script: str = "", **options) -> "playwright.Page":
        options = {"viewport": {"width": 1280, "height": 1000}, **options}
        page = browser.new_page(**options)
        page.add_init_script(script)
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda message: complaints.append(message.text) if message.type == "error" else None,
        )
        page.goto(app.url + path)
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
    if os.environ.get("SCREENSHOTS"):
        folder = Path(__file__).parents[1] / "screenshots"
        folder.mkdir(exist_ok=True)
        page.screenshot(path=folder / f"{name}.png", full_page=True)


def assert_played_while_made(made: dict) -> None:
    """The first picture was on the screen before the run ended; every chunk came once, in order."""
    indices = [chunk["index"] for chunk in made["chunks"]]
    assert indices == list(range(len(indices))) and len(indices) > 1
    assert made["frames"], "no picture was shown"
    assert made["frames"][0][1] < made["ended"]
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
    from PIL import Image

    Image.fromarray(frames[0]).save(folder / "picture.png")
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


def test_a_browser_without_mediasource_gets_pictures(visit):
    page = visit(script="delete window.MediaSource; delete window.ManagedMediaSource;")
    assert page.locator(".cv-stage").get_attribute("data-transport") == "canvas"
    generate(page)
    made = wait_for_end(page)
    assert_played_while_made(made)
    assert page.evaluate("document.querySelector('.cv-stage canvas').width") > 60


def test_a_picture_shows_its_crop_and_begins_the_video(visit, files):
    page = visit()
    choose(page, "Image to video")
    page.locator("input[type=file][accept*='image']").first.set_input_files(files["image"])
    wait_for(page, lambda: page.locator(".tabitem img:visible").count() >= 2)
    page.locator(".cv-prompt textarea:visible").fill("a red car drives right")
    generate(page)
    assert_played_while_made(wait_for_end(page))
    picture(page, "image")


def test_a_video_plays_beside_its_source(visit, files):
    page = visit()
    choose(page, "Video to video")
    page.locator("input[type=file][accept*='video']").first.set_input_files(files["video"])
    page.wait_for_selector(".tabitem video:visible")
    page.locator(".cv-prompt textarea:visible").fill("a red car drives right")
    generate(page)
    assert_played_while_made(wait_for_end(page))
    shape = page.evaluate(
        "() => { const v = document.querySelector('.cv-stage video');"
        " return v.videoWidth / v.videoHeight; }"
    )
    assert shape > 2.5, "source and result share the picture"
    picture(page, "video")


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


def test_unknown_words_are_pointed_out(visit):
    page = visit()
    page.locator(".cv-prompt textarea:visible").fill("a red dragon drives")
    wait_for(page, lambda: "dragon" in (page.locator(".cv-remark").first.text_content() or ""))


def test_closing_the_page_gives_the_device_back(visit, app, browser):
    page = browser.new_page()
    page.goto(app.url)
    page.wait_for_selector(".cv-go:visible")
    page.get_by_label("Endless").first.check()
    generate(page)
    wait_for(page, lambda: len(report(page)["chunks"]) >= 1)
    page.close()
    deadline = time.monotonic() + 30
    while app.service.device.load != (0, 0) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert app.service.device.load == (0, 0)


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
        if focused == "Generate":
            break
    assert focused == "Generate"
    page.keyboard.press("Enter")
    wait_for(page, lambda: len(report(page)["chunks"]) >= 1)
    page.locator("#stop-button").focus()
    page.keyboard.press("Enter")
    wait_for_end(page)
