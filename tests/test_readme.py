"""The README keeps its word: what it shows to be typed can be typed, and what it lists is there."""

import argparse
import importlib
import io
import re
import shlex
from contextlib import redirect_stdout

import pytest
from huggingface_hub import SpaceCard, SpaceHardware

from causvid.__main__ import COMMANDS
from causvid.resources import ROOT
from causvid.serving.settings import variables
from tests.appserver import running

README = (ROOT / "README.md").read_text(encoding="utf-8")
SETTINGS = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", README, re.DOTALL | re.MULTILINE).group(1)


def code(text: str, language: str) -> str:
    return re.search(rf"```{language}\n(.*?)```", text, re.DOTALL).group(1)


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    with running(tmp_path_factory.mktemp("standin")) as app:
        yield app


def test_the_front_matter_is_that_of_a_space():
    header = SpaceCard(README).data
    assert header.sdk == "gradio"
    assert f"gradio[mcp]=={header.sdk_version}\n" in (ROOT / "requirements.txt").read_text()
    assert (ROOT / header.app_file).exists()
    assert header.suggested_hardware in [it.value for it in SpaceHardware]
    colours = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert {header.colorFrom, header.colorTo} <= colours
    assert len(header.short_description) <= 60  # the Hub refuses longer ones


def test_the_api_takes_ten_lines_and_they_run(app):
    written = code(section("The API in ten lines"), "python")
    assert len(written.strip().splitlines()) <= 10
    assert "http://127.0.0.1:7860" in written
    names: dict = {}
    with redirect_stdout(io.StringIO()):
        exec(written.replace("http://127.0.0.1:7860", app.url), names)
    assert names["final"].endswith(".mp4")
    assert names["info"]["call"]["api_name"] == "/scheduled_video", "it was steered"


def test_the_python_example_runs(app, monkeypatch):
    monkeypatch.setattr("causvid.load", lambda _: app.service.models.open("standin")[0])
    shown = []
    written = code(section("In Python"), "python").replace("seconds=60", "seconds=6")
    exec(written, {"show": shown.append})
    assert len(shown) > 5 and shown[0].shape[-1] == 3


def test_every_command_can_be_typed():
    typed = re.findall(r"^python -m causvid .*|`python -m causvid [^`]*`", README, re.MULTILINE)
    assert len(typed) > 10
    for line in typed:
        name, *arguments = shlex.split(line.strip("`"), comments=True)[3:]
        parser = argparse.ArgumentParser()
        importlib.import_module(COMMANDS[name].module).add_arguments(parser)
        parser.parse_args(arguments)  # exits on a mistake


def test_every_file_that_is_linked_is_there():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


def test_the_settings_are_those_of_the_server():
    row = r"^\| `(CAUSVID_\w+|HF_TOKEN)` \|([^|]*)\| (.*) \|$"
    rows = re.findall(row, SETTINGS, re.MULTILINE)
    assert [(name, default.strip(" `"), text) for name, default, text in rows] == variables()


def test_every_number_has_its_command():
    rows = [line for line in section("Measured").splitlines() if line.startswith("|")][2:]
    for row in rows:
        command = row.strip("|").split("|")[-1].strip()
        assert command.startswith("`") or command == "the same", row
