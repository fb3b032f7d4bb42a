"""What a viewer wrote never reaches the log unless it is asked for, whatever fails."""

import io
import logging

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from causvid.generation.stream import Stream
from causvid.log import withhold_texts
from causvid.media import FragmentMuxer
from causvid.serving.job import Production
from causvid.serving.record import Recorder
from causvid.serving.service import Service
from causvid.ui.page import Page
from tests.appserver import running
from tests.ui.test_lost_page import Page as Visitor

SECRET = "a secret garden at midnight"


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    with running(tmp_path_factory.mktemp("standin"), viewers=2, waiting=2) as app:
        yield app


@pytest.fixture
def logged(capfd):
    """A function that tells what was logged and printed since the test began."""
    stream, root = io.StringIO(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = [logging.StreamHandler(stream)]
    root.setLevel(logging.INFO)
    withhold_texts()
    yield lambda: stream.getvalue() + "".join(capfd.readouterr())
    root.handlers[:] = handlers
    root.setLevel(level)


def broken(*_, **__):
    raise RuntimeError(f"cannot make {SECRET!r}")


FAULTS = [
    (Stream, "step"),
    (Stream, "snapshot"),
    (Production, "open"),
    (Recorder, "info"),
    (Recorder, "manifest"),
    (FragmentMuxer, "append"),
    (FragmentMuxer, "finish"),
    (Service, "start"),
    (Service, "read"),
    (Page, "postprocess_data"),
]


@pytest.mark.parametrize(("owner", "name"), FAULTS, ids=[name for _, name in FAULTS])
def test_a_fault_is_logged_without_the_prompt(app, logged, monkeypatch, owner, name):
    monkeypatch.setattr(owner, name, broken)
    with pytest.raises(AppError, match="something broke here"):
        Client(app.url, verbose=False).predict(SECRET, 0.5, api_name="/text_to_video")
    monkeypatch.undo()
    assert app.reaches(0)
    said = logged()
    assert "Traceback" in said and "RuntimeError" in said, "it is logged"
    assert "secret" not in said and "midnight" not in said


@pytest.mark.parametrize(("owner", "name"), [(Stream, "step"), (FragmentMuxer, "append")])
def test_a_fault_of_a_run_on_the_page_is_logged_without_the_prompt(
    app, logged, monkeypatch, owner, name
):
    page = Visitor(app.url)
    prompt = next(n for n, part in page.parts.items() if part.get("label") == "Prompt")
    page.parts[prompt]["value"] = SECRET
    monkeypatch.setattr(owner, name, broken)
    with page.generate() as (_, lines):
        error = next(it for it in page.messages(lines) if it["kind"] == "error")
        assert "something broke here" in error["text"]
    monkeypatch.undo()
    assert app.reaches(0)
    said = logged()
    assert "Traceback" in said and "secret" not in said


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("/text_to_video", {"prompt": SECRET * 100}),
        ("/text_to_video", {"prompt": SECRET, "seconds": 10**6}),
        ("/scheduled_video", {"schedule": f"0s: {SECRET}\n{SECRET}"}),
        ("/scheduled_video", {"schedule": {"cues": [{"start": SECRET, "prompt": SECRET}]}}),
        ("/steer", {"run": SECRET, "prompt": SECRET}),
        ("/extend", {"run": SECRET, "prompt": SECRET, "handover": SECRET}),
    ],
)
def test_a_mistake_is_not_logged_at_all(app, logged, name, values):
    with pytest.raises(AppError):
        Client(app.url, verbose=False).predict(api_name=name, **values)
    assert app.reaches(0)
    said = logged()
    assert "Traceback" not in said and "secret" not in said


def test_a_run_is_logged_without_its_prompts(app, logged):
    client = Client(app.url, verbose=False)
    *_, manifest, _ = client.predict(SECRET, 0.5, api_name="/text_to_video")
    client.predict(manifest["run"], 0.5, f"{SECRET} and more", api_name="/extend")
    assert app.reaches(0)
    said = logged()
    assert said.count('"outcome": "finished"') == 2 and "secret" not in said
