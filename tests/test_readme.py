"""The documents keep their word: what is to be typed can be, what is linked is there, and every
figure has its command."""

import argparse
import importlib
import io
import re
import shlex
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from huggingface_hub import SpaceCard, SpaceHardware

from causvid.serving.settings import variables
from tests.appserver import running

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for pattern in ("*.md", "docs/*.md", "assets/*/README.md", "examples/README.md")
    for path in sorted(ROOT.glob(pattern))
}
MAX_WORDS = 1300  # of the README, the Space's header included

_CODE = re.compile(r"^```\w*\n(.*?)^```|`([^`]+)`", re.DOTALL | re.MULTILINE)
_TYPED = re.compile(r"^(?:\w+=\S* )*(?:accelerate launch .*-m |python -m )?causvid (\w.*)$")


def section(title: str, text: str = README) -> str:
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE).group(1)


def code(text: str, language: str) -> str:
    return re.search(rf"```{language}\n(.*?)```", text, re.DOTALL).group(1)


def commands(text: str) -> list[list[str]]:
    """The arguments of every `causvid` command in a text's code, without what stands before it."""
    found = []
    for block, inline in _CODE.findall(text):
        lines = block.replace("\\\n", " ").splitlines() if block else [" ".join(inline.split())]
        for line in lines:
            if typed := _TYPED.match(line.strip()):
                found.append(shlex.split(typed.group(1), comments=True))
    return found


def table_rows(text: str) -> list[list[str]]:
    """Cells of the rows of all tables, without their headings."""
    rows = []
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        for line in table.splitlines()[2:]:
            rows.append([cell.strip() for cell in line.strip().strip("|").split(" | ")])
    return rows


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


@pytest.mark.slow
@pytest.mark.usefixtures("unhurried")
def test_the_api_takes_ten_lines_and_they_run(app):
    written = code(section("The API in ten lines"), "python")
    assert len(written.strip().splitlines()) <= 10
    assert "http://127.0.0.1:7860" in written
    names: dict = {}
    with redirect_stdout(io.StringIO()):
        exec(written.replace("http://127.0.0.1:7860", app.url), names)
    assert names["final"].endswith(".mp4")
    assert names["info"]["call"]["api_name"] == "/scheduled_video", "it was steered"


def test_the_python_example_runs(app, monkeypatch, tmp_path):
    monkeypatch.setattr("causvid.load", lambda _: app.service.models.open("standin")[0])
    monkeypatch.chdir(tmp_path)
    shown = []
    written = code(section("In Python"), "python").replace("seconds=60", "seconds=6")
    exec(written, {"show": shown.append})
    assert len(shown) > 5 and shown[0].shape[-1] == 3
    assert (tmp_path / "bird.mp4").stat().st_size


def test_commands_are_found_wherever_they_are_typed():
    text = (
        "Say `python -m causvid models`, or `causvid\nmodels`, not `causvid.models`.\n\n"
        "```bash\nA=1 causvid generate 'a b' \\\n  --seed 3  # why\n"
        "accelerate launch -m causvid train\n```\n"
    )
    found = [["models"], ["models"], ["generate", "a b", "--seed", "3"], ["train"]]
    assert commands(text) == found


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_can_be_typed(document):
    for name, *arguments in commands(DOCUMENTS[document]):
        parser = argparse.ArgumentParser(prog=f"{document}: causvid {name}")
        importlib.import_module(f"causvid.commands.{name}").add_arguments(parser)
        parser.parse_args(arguments)  # exits on a mistake


def test_the_readme_shows_how_to_use_it():
    assert len(commands(README)) >= 10


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_file_that_is_linked_is_there(document):
    text = _CODE.sub("", DOCUMENTS[document])
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)|<img src=\"([^\"]+)\"", text):
        (target,) = filter(None, target)
        if not target.startswith("http"):
            assert ((ROOT / document).parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_module_that_is_named_is_there(document):
    named = re.findall(r"`(\w+/[\w/]+\.(?:py|js))(?:: ([\w., ]+))?`", DOCUMENTS[document])
    for path, names in named:
        found = [it / path for it in (ROOT, ROOT / "causvid") if (it / path).is_file()]
        assert found or "NAME" in path, path
        for name in re.findall(r"\w+", names):
            assert any(re.search(rf"\b{name}\b", it.read_text()) for it in found), (path, name)


def test_the_readme_is_short():
    assert len(README.split()) <= MAX_WORDS


def test_the_settings_are_those_of_the_server():
    row = r"^\| `(CAUSVID_\w+|HF_TOKEN)` \|([^|]*)\| (.*) \|$"
    rows = re.findall(row, DOCUMENTS["docs/settings.md"], re.MULTILINE)
    assert [(name, default.strip(" `"), text) for name, default, text in rows] == variables()


def test_every_number_has_its_command():
    measured = table_rows(DOCUMENTS["docs/measured.md"])
    quoted = table_rows(section("Measured"))
    assert len(measured) > 20 and quoted
    for what, figure, command in [*measured, *quoted]:
        assert re.search(r"\d", figure), what
        assert commands(command) or command.startswith("`python -m tests"), what
        assert not what.startswith("…"), "a row stands by itself"
    known = {
        (figure, *commands(command)[0]) for _, figure, command in measured if commands(command)
    }
    for what, figure, command in quoted:
        assert any(figure in row[0] and list(row[1:]) == commands(command)[0] for row in known), (
            f"{what}: the README quotes what docs/measured.md does not have"
        )
