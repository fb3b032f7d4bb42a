"""A network that blinks: the run waits for its page, which takes it up again; nobody else can.

Pages speak plain HTTP here, as Gradio's front end does; `test_browser.py` has a real one.
"""

import json
import time
from collections.abc import Iterator
from itertools import islice

import httpx
import pytest
from gradio_client import Client

from tests.appserver import running
from tests.test_endurance import Visitor

LONG = 1e5  # seconds of video


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    folder = tmp_path_factory.mktemp("standin")
    with running(folder, viewers=1, waiting=2, endless_seconds=LONG, lost_seconds=60) as app:
        yield app


@pytest.fixture(scope="module")
def impatient(tmp_path_factory):
    """An app that waits for nobody."""
    folder = tmp_path_factory.mktemp("standin")
    with running(folder, viewers=1, waiting=2, endless_seconds=LONG, lost_seconds=0) as app:
        yield app


@pytest.fixture(autouse=True)
def the_next_one_is_served(request):
    yield
    name = "app" if "app" in request.fixturenames else "impatient"
    app = request.getfixturevalue(name)
    assert app.reaches(0)
    assert Client(app.url, verbose=False).predict("a ball", 0.5, api_name="/text_to_video")[2]
    assert app.reaches(0)


class Page(Visitor):
    """A browser's page, its messages those that its player gets."""

    def messages(self, lines: Iterator[str]) -> Iterator[dict]:
        for line in lines:
            if line.startswith("data:"):
                yield from _with_kind(json.loads(line[5:]).get("output"))

    def watch(self, chunks: int) -> tuple[dict, list[dict]]:
        """Start a run without end and lose the connection after so many chunks; what came."""
        self.endless()
        with self.generate() as (_, lines):
            return self.opened(lines, chunks)

    def endless(self) -> None:
        """Press the first tab's box, in the page as it is."""
        box = next(n for n, part in self.parts.items() if "Endless" in str(part.get("label")))
        self.parts[box]["value"] = True

    def opened(self, lines: Iterator[str], chunks: int) -> tuple[dict, list[dict]]:
        messages = (it for it in self.messages(lines) if it["kind"] in ("open", "chunk"))
        opening, *rest = islice(messages, 1 + chunks)
        return opening, [it["info"] for it in rest]

    def take_up(self, lines_of: str, told) -> list[dict]:
        """Press the hidden button in another session, as a page that was loaded again."""
        button = next(n for n, it in self.parts.items() if it.get("elem_id") == "take-up")
        self.click(button, lines_of, [told])

    def leave(self, claim) -> httpx.Response:
        return httpx.post(f"{self.url}/leave", json={"claim": claim})


def _with_kind(value) -> Iterator[dict]:
    if isinstance(value, dict) and "kind" in value:
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _with_kind(part)


def end_of(page: Page, session: str, lines: Iterator[str]) -> dict:
    stops = (n for n, part in page.parts.items() if part.get("elem_id") == "stop-button")
    page.click(next(stops), session, [])
    return next(it for it in page.messages(lines) if it["kind"] == "end")


@pytest.mark.parametrize("seen", [1, 3])
def test_a_run_waits_for_its_page_which_goes_on_from_where_it_was(app, seen):
    page = Page(app.url)
    opening, infos = page.watch(seen)
    assert [info["index"] for info in infos] == list(range(seen))
    run = app.service._runs[opening["run"]]
    deadline = time.monotonic() + 60
    while run.ticket._unread < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    made = run.ticket._made
    time.sleep(0.5)
    assert app.service.device.load == (1, 0), "the run is there"
    assert run.ticket._made == made, "and nobody works on it: enough chunks are unread"

    page.take_up("page-loaded-again", {"claim": opening["claim"], "shown": seen - 1})
    with page.listen("page-loaded-again") as lines:
        again, rest = page.opened(lines, 5)
        assert [it["index"] for it in again["before"]] == list(range(seen - 1))
        assert [it["index"] for it in rest] == list(range(seen - 1, seen + 4)), "nothing is missing"
        assert (again["run"], again["init"]) == (opening["run"], opening["init"])
        assert "Stopped after" in end_of(page, "page-loaded-again", lines)["text"]


def test_nobody_takes_up_the_run_of_another(app):
    page = Page(app.url)
    opening, _ = page.watch(1)
    for told in (None, {}, [], {"claim": opening["run"]}, {"claim": ""}, {"claim": [1]}, "x", 5):
        page.take_up("a-stranger", told)
        with page.listen("a-stranger") as lines:
            message = next(page.messages(lines))
        assert message["kind"] == "error" and "nothing is left" in message["text"]
    for claim in ("", None, opening["run"], [opening["claim"]], {"a": 1}, "x" * 10**4):
        assert page.leave(claim).status_code == 204
    assert app.service.device.load == (1, 0), "nor ends it"
    assert page.leave(opening["claim"]).status_code == 204


@pytest.mark.parametrize("lost", [False, True])
def test_a_page_that_is_closed_ends_its_run_at_once_and_leaves_nothing(app, lost):
    page = Page(app.url)
    if lost:
        opening, _ = page.watch(1)
        page.leave(opening["claim"])
    else:
        page.endless()
        with page.generate() as (_, lines):
            opening, _ = page.opened(lines, 1)
            page.leave(opening["claim"])
    assert app.reaches(0, seconds=30)
    assert opening["run"] not in app.service._runs
    assert not (app.service.results / opening["run"]).exists()


def test_a_page_that_reconnects_before_its_old_stream_is_missed_gets_the_run(app):
    page = Page(app.url)
    page.endless()
    with page.generate() as (_, lines):
        opening, _ = page.opened(lines, 1)
        page.take_up("the-second", {"claim": opening["claim"], "shown": 0})
        with page.listen("the-second") as others:
            again, rest = page.opened(others, 3)
            assert again["run"] == opening["run"] and len(rest) == 3
            end_of(page, "the-second", others)


def test_after_the_time_the_device_is_free_and_the_page_is_offered_what_was_made(impatient):
    page = Page(impatient.url)
    opening, infos = page.watch(2)
    assert impatient.reaches(0, seconds=30)
    page.take_up("page-much-later", {"claim": opening["claim"], "shown": 1})
    with page.listen("page-much-later") as lines:
        clip = next(it for it in page.messages(lines) if it["kind"] == "clip")
        assert list(lines), "the stream ends in order"
    assert "connection was lost" in clip["text"] and "Stopped after" in clip["text"]
    video = httpx.get(f"{impatient.url}/{clip['url']}")
    assert video.status_code == 200 and video.content[4:8] == b"ftyp"
    client = Client(impatient.url, verbose=False)
    *_, manifest, _ = client.predict(opening["run"], 0.5, api_name="/extend")
    assert manifest["video"]["seconds"] >= infos[-1]["seconds"]


@pytest.mark.parametrize("chunks", [1, 3])
def test_a_dropped_call_of_the_api_can_be_extended(app, chunks):
    page = Page(app.url)
    with page.call("text_to_video", prompt="a red car", seconds=0) as lines:
        for line in islice((it for it in lines if '"first_frame"' in it), chunks):
            run = json.loads(line[5:])[1]["run"]
    assert app.reaches(0, seconds=30)
    *_, manifest, video = Client(app.url, verbose=False).predict(run, 0.5, api_name="/extend")
    assert len(manifest["chunks"]) > chunks and video


def test_a_call_that_is_cancelled_leaves_nothing(app):
    client = Client(app.url, verbose=False)
    job = client.submit("a red car", 0, api_name="/text_to_video")
    assert app.reaches(1)
    while not job.outputs():
        time.sleep(0.05)
    run = job.outputs()[0][1]["run"]
    job.cancel()
    assert app.reaches(0) and run not in app.service._runs
