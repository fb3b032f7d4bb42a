"""A real browser behind a cable that is cut: its video goes on when the network is back."""

import contextlib
import os
import socket
import threading
import time
from contextlib import closing

import pytest

from causvid.benchmark import player as measure
from causvid.benchmark.player import CHROMIUM, REPORT
from tests.appserver import running

if not os.environ.get("CI"):
    pytest.importorskip("playwright.sync_api", reason="needs playwright")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None and not os.environ.get("CI"), reason="needs Chromium"),
]


class Cable:
    """Carries connections to a port, until it is cut; `mend` lets new ones through."""

    def __init__(self, port: int):
        self._port, self._whole = port, True
        self._ends: set[socket.socket] = set()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self._whole = False
        for end in list(self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self._whole = True

    def close(self) -> None:
        self._listening.close()
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                if not self._whole:
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self._port))
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(self, this: socket.socket, that: socket.socket) -> None:
        self._ends.add(this)
        with contextlib.suppress(OSError):
            while data := this.recv(1 << 16):
                that.sendall(data)
        for end in (this, that):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._ends.discard(this)


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    with running(tmp_path_factory.mktemp("standin"), viewers=1, endless_seconds=1e5) as app:
        yield app


@pytest.fixture(scope="module")
def browser():
    with measure.chromium() as browser:
        yield browser


@pytest.fixture
def cable(app):
    with closing(Cable(int(app.url.rpartition(":")[2]))) as cable:
        yield cable


@pytest.fixture
def watching(app, browser, cable):
    """The page behind the cable, that watches a video without end, some chunks of it shown."""
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.set_default_timeout(300_000)
    page.goto(cable.url)
    page.wait_for_selector(".cv-go:visible")
    page.wait_for_function(REPORT)
    page.get_by_label("Endless").first.check()
    page.locator(".cv-go:visible").click()
    shown(page, 2)
    yield page
    page.close()
    assert app.reaches(0, seconds=300)


def shown(page, chunks: int) -> list[dict]:
    """The chunks that came since the page was loaded, when so many of them have been shown."""
    page.wait_for_function(
        f"() => {{ const it = ({REPORT})();"
        f"return it && it.chunks.filter((chunk) => chunk.shown !== null).length >= {chunks} }}"
    )
    return page.evaluate(REPORT)["chunks"]


def remembered(page) -> dict:
    return page.evaluate("() => JSON.parse(sessionStorage.getItem('causvid.run'))")


def blink(page, cable, seconds: float) -> None:
    """Cut the cable; Gradio loads the page again when it is whole."""
    page.evaluate("window.before = true")
    cable.cut()
    time.sleep(seconds)
    cable.mend()
    page.wait_for_function("() => !window.before")


def test_a_video_goes_on_after_the_network_blinked(app, cable, watching):
    before = shown(watching, 2)
    (run,) = app.service._runs
    seen = remembered(watching)["shown"]
    blink(watching, cable, 3)
    after = shown(watching, 3)
    assert list(app.service._runs) == [run], "it is the same run"
    indices = [chunk["index"] for chunk in after]
    assert indices == list(range(indices[0], indices[0] + len(indices))), "nothing is missing"
    assert seen <= indices[0] <= before[-1]["index"] + 1
    blocks = watching.locator(".cv-blocks li").evaluate_all(
        "all => all.map(it => it.dataset.chunk)"
    )
    assert [int(it) for it in blocks] == list(range(len(blocks))), "the strip is whole"

    blink(watching, cable, 1)  # and once more
    shown(watching, 2)
    watching.locator("#stop-button").click()
    watching.wait_for_selector(".cv-stage[data-state=ended]")
    with watching.expect_download() as download:
        watching.get_by_text("Download MP4").click()
    assert download.value.path().stat().st_size > 1000
    assert app.reaches(0)


def test_what_was_made_is_offered_to_a_page_that_comes_back_too_late(app, cable, watching):
    (showing,) = (it for it in _showings(app) if not it.over)
    showing._wait = 0
    blink(watching, cable, 2)
    watching.wait_for_selector(".cv-stage[data-state=ended]")
    assert "connection was lost" in watching.locator(".cv-status").text_content()
    assert app.reaches(0)
    watching.wait_for_function("() => document.querySelector('.cv-stage video').readyState > 1")
    watching.get_by_role("button", name="Extend", exact=True).click()
    assert shown(watching, 2)
    watching.wait_for_selector(".cv-stage[data-state=ended]")


def test_a_page_that_is_loaded_again_goes_on_and_one_that_is_closed_ends_its_run(app, watching):
    (run,) = (id for id, run in app.service._runs.items() if run.ended is None)
    watching.evaluate("location.reload()")
    assert shown(watching, 1)
    assert run in app.service._runs
    with watching.expect_popup() as opened:
        watching.evaluate("() => void window.open(location.href)")
    copy = opened.value  # with what the first remembers
    copy.wait_for_function(REPORT)
    copy.wait_for_function("() => sessionStorage.getItem('causvid.run') === null")
    copy.close()
    assert app.service.device.load == (1, 0), "another tab has nothing to do with it"
    watching.goto("about:blank")
    assert app.reaches(0, seconds=120), "at once, though lost pages are waited for"
    assert run not in app.service._runs


def _showings(app):
    """Those of the page's handlers."""
    return app.page.leave.__self__._showings.values()
