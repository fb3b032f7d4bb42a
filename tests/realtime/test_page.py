"""The socket in a real browser: Chromium's fake camera on the page, and the page of the socket."""

import os
import time
from collections.abc import Callable

import pytest

from causvid.benchmark import player as measure
from causvid.benchmark.player import CHROMIUM, REPORT
from causvid.serving.job import Job
from causvid.serving.record import ChunkInfo
from tests.appserver import running

if os.environ.get("CI"):
    import playwright.sync_api as playwright  # noqa: F401
else:
    pytest.importorskip("playwright.sync_api", reason="needs playwright")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None and not os.environ.get("CI"), reason="needs Chromium"),
]

PATIENCE = 240_000  # ms


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    with running(tmp_path_factory.mktemp("standin"), viewers=2) as app:
        yield app


@pytest.fixture(scope="module")
def browser():
    camera = "--use-fake-device-for-media-stream"
    with measure.chromium(camera, "--use-fake-ui-for-media-stream") as browser:
        yield browser


@pytest.fixture
def page(app, browser):
    page, complaints = browser.new_page(viewport={"width": 1280, "height": 1000}), []
    page.set_default_timeout(PATIENCE)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    if not page.is_closed():
        page.close()
    assert complaints == []
    assert app.reaches(0), "nothing goes on without its page"


def made(app) -> list[ChunkInfo]:
    """The newest chunk of every run."""
    return [run._last for run in app.service._runs.values()]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE / 1000
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def jobs(app) -> list[Job]:
    return [run.job for run in app.service._runs.values()]


def switch_on(page, url: str) -> None:
    page.goto(url)
    page.wait_for_function(REPORT)
    page.get_by_role("tab", name="Video to video").click()
    page.locator(".cv-prompt:visible textarea").fill("a red car")
    page.get_by_role("button", name="Camera, live").click()


def chunks(page, count: int) -> None:
    page.wait_for_function(f"() => (({REPORT})()?.chunks.length ?? 0) >= {count}")


@pytest.mark.parametrize("button", ["Stop the camera", "Stop"])
def test_a_camera_is_shown_changed_and_switched_off(app, page, button):
    switch_on(page, app.url)
    chunks(page, 3)
    assert jobs(app)[-1].live is not None and jobs(app)[-1].request.strength == 0.7
    panel = page.locator(".cv-live")
    panel.get_by_text("behind the camera").wait_for()
    source, video = page.locator(".cv-live video"), page.locator(".cv-stage video:not(.cv-other)")
    assert source.is_visible() and source.evaluate("(it) => it.videoWidth") > 0
    page.locator(".cv-prompt:visible textarea").press_sequentially(" by night")
    page.locator(".cv-legend", has_text="a red car by night").wait_for()
    slider = page.locator(".tabitem:visible input[type=range]").first
    slider.focus()
    slider.press("ArrowRight")  # strength, of which chunks tell
    wait_for(lambda: made(app)[-1].strength == 0.75)
    page.locator("#steer-prompt textarea").fill("the sea by night")
    page.get_by_role("button", name="Change now").click()
    page.locator(".cv-legend", has_text="the sea by night").wait_for()
    track = source.evaluate_handle("(it) => it.srcObject.getVideoTracks()[0]")
    if button == "Stop":
        page.locator("#stop-button").click()
    else:
        panel.get_by_role("button", name=button).click()
    page.wait_for_function("() => document.querySelector('.cv-stage').dataset.state === 'ended'")
    assert track.evaluate("(it) => it.readyState") == "ended", "the camera is off"
    assert video.evaluate("(it) => it.videoWidth") == 96
    assert panel.is_hidden()
    assert "from the camera" in page.locator(".cv-status").text_content()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download MP4").click()
    assert download.value.path().stat().st_size > 1000
    assert page.locator(".cv-own .cv-card").count() == 1, "it is among the visitor's runs"
    assert page.locator("#stop-button").is_disabled()


def test_a_page_that_is_closed_in_mid_run_leaves_nothing(app, page):
    switch_on(page, app.url)
    chunks(page, 2)
    assert app.reaches(1)
    page.close()
    assert app.reaches(0, seconds=120)


def test_a_camera_that_may_not_be_used_is_a_sentence(page, app):
    page.add_init_script(
        "navigator.mediaDevices.getUserMedia = () => Promise.reject(new Error('denied by you'))"
    )
    switch_on(page, app.url)
    page.locator(".cv-status", has_text="There is no camera to be had: denied by you").wait_for()


def test_the_page_of_the_socket_plays_and_changes_its_prompt(app, page):
    page.goto(app.url + "/v1/realtime/video")
    page.get_by_role("textbox").fill("a red car")
    page.get_by_role("button", name="Start").click()
    page.wait_for_function("() => document.querySelector('video').currentTime > 0.3")
    page.get_by_role("textbox").fill("a blue boat")
    page.get_by_role("button", name="Start").click()
    page.locator("pre", has_text="a blue boat").wait_for()
    page.get_by_role("button", name="Stop").click()
