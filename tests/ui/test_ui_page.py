"""The page as it is built, without a browser: what it offers, says and keeps to itself."""

import argparse
import asyncio
import importlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys

import gradio as gr
import pytest
import spaces  # noqa: F401  (reads the environment now, as in app.py, and finds no Space)

from causvid.commands import generate
from causvid.generation.geometry import ChunkPattern, LatentGrid, Timeline
from causvid.generation.prompts import PromptSchedule, ScheduleError
from causvid.presets.catalogue import PRESETS
from causvid.resources import ROOT
from causvid.serving.models import Models, check_fit
from causvid.serving.process import ServerProcess
from causvid.serving.request import PARAMETERS, Parameter, Request
from causvid.serving.service import Service
from causvid.serving.settings import Settings
from causvid.serving.zero import LentDevice
from causvid.ui import endpoints
from causvid.ui.about import credits, headline, licence_notice
from causvid.ui.form import Options, size_name
from causvid.ui.hints import PROMPTS, STORIES, Chips
from causvid.ui.page import build_page
from causvid.ui.schedule_tab import rows_of
from causvid.ui.server import main, make_service
from causvid.ui.timeline import draw_timeline
from tests.standin import save_standin
from tests.world.reading import impossible, unknown_words

TIMELINE = Timeline(LatentGrid(128, 224, spatial_stride=16, patch=1), ChunkPattern(1, 3), 16)


class NoDevice:
    """Nothing is generated here."""

    takes_live = True

    def close(self):
        pass


@pytest.fixture
def service():
    settings = Settings(model="self-forcing", models=("causal-forcing",), device="cpu")
    service = Service(settings, Models(settings), NoDevice())
    yield service
    service.close()


def test_a_non_commercial_licence_is_visible_before_generate(service):
    written = json.dumps(build_page(service).config, default=str)
    assert "not for commercial use" in written
    assert "CC BY-NC-SA 4.0" in written


def test_the_licence_shown_is_that_of_the_model_chosen(service):
    assert "CC BY-NC-SA" in licence_notice(PRESETS["self-forcing"])
    assert licence_notice(PRESETS["causal-forcing"]) == ""


def test_a_space_offers_to_be_copied_and_nothing_else_does(service, monkeypatch):
    assert "duplicate=true" not in credits(service)
    monkeypatch.setenv("SPACE_ID", "ada/live")
    assert "https://huggingface.co/spaces/ada/live?duplicate=true" in credits(service)


def test_only_the_endpoints_are_public(service):
    public = {
        fn.api_name for fn in build_page(service).fns.values() if fn.api_visibility == "public"
    }
    assert public == {
        "text_to_video",
        "image_to_video",
        "video_to_video",
        "scheduled_video",
        "extend",
        "steer",
        "models",
        "preflight",
    }


@pytest.mark.parametrize("longest", [0.1, 1, 2, 2.5, 4, 5])
def test_any_length_can_be_the_longest(service, longest):
    settings = service.settings.model_copy(update={"max_seconds": float(longest)})
    object.__setattr__(settings, "_presets", service.settings.presets)
    other = Service(settings, service.models, service.device)
    with gr.Blocks():
        slider = Options(other, "text", 5.0)["seconds"]
    other.close()
    assert 0 < slider.minimum < slider.value <= slider.maximum == longest


def test_of_a_source_a_part_can_be_asked_for(service):
    with gr.Blocks():
        options = Options(service, "video", None)
    values = {component: component.value for component in options.components}
    assert options.read(values)["seconds"] is None
    assert options.read(values | {options["seconds"]: 2})["seconds"] == 2


@pytest.mark.parametrize("seed", [2**53, 1798406481619217200, 2.0**63])
def test_a_seed_that_a_browser_has_rounded_is_refused(service, seed):
    with gr.Blocks():
        options = Options(service, "text", 5.0)
    values = {component: component.value for component in options.components}
    with pytest.raises(ValueError, match=r"seeds end at 9007199254740991 \(2\^53 - 1\)"):
        options.read(values | {options["seed"]: seed})
    assert options.read(values | {options["seed"]: 2**53 - 1})["seed"] == 2**53 - 1


def test_the_page_has_an_input_for_every_parameter(service):
    with gr.Blocks():
        options = Options(service, "video", 5.0)
    values = {component: component.value for component in options.components}
    given = options.read(values)
    assert set(given) == set(PARAMETERS)
    assert (given["seconds"], given["model"], given["size"]) == (5.0, "self-forcing", "832x480")
    assert options.read(values | {options["endless"]: True})["seconds"] == 0


@pytest.mark.parametrize(
    ("schema", "kind"),
    [
        ({"type": "integer"}, gr.Number),
        ({"type": "boolean"}, gr.Checkbox),
        ({"type": "string"}, gr.Textbox),
        ({"type": "string", "enum": ["a", "b"]}, gr.Radio),
    ],
)
def test_a_new_parameter_gets_an_input_and_a_place_in_every_call(
    service, monkeypatch, schema, kind
):
    new = Parameter("colour", "How colourful.", schema)
    monkeypatch.setitem(PARAMETERS, "colour", new)
    with gr.Blocks():
        options = Options(service, "text", 5.0)
    assert isinstance(options["colour"], kind) and options["colour"].info == "How colourful."
    parser = argparse.ArgumentParser()
    generate.add_arguments(parser)
    assert "How colourful." in parser.format_help()
    endpoint = endpoints._making("new", "text", "Summary.", PARAMETERS["seed"])
    assert endpoint.parameters[-1] == new


@pytest.mark.parametrize("loaded", [True, False])
def test_the_tiny_decoder_is_offered_where_there_is_one(loaded):
    settings = Settings(model="self-forcing", device="cpu", tiny_decoder=loaded)
    service = Service(settings, Models(settings), NoDevice())
    with gr.Blocks():
        options = Options(service, "text", 5.0)
    assert [name for _, name in options["decoder"].choices] == ["full", "tiny"][: 1 + loaded]
    assert options["decoder"].visible == loaded
    service.close()


def test_sizes_are_named_by_their_shape():
    named = {name: [size_name(size) for size in PRESETS[name].sizes] for name in PRESETS}
    assert named["self-forcing"] == ["Landscape 832×480", "Portrait 480×832", "Square 640×624"]
    assert named["pocket"] == ["Landscape 224×128", "Portrait 128×224", "Nearly square 176×160"]


@pytest.mark.parametrize("name", PRESETS)
def test_every_shape_costs_about_the_same(name):
    pixels = [size.width * size.height for size in PRESETS[name].sizes]
    assert len(pixels) == 3
    trained_square = 1.07 if name == "pocket-2" else 1.03  # its square is one that it has learned
    assert max(pixels) <= trained_square * min(pixels)


def test_the_pocket_models_examples_use_only_words_that_it_knows():

    stories = [
        cue.prompt for story in STORIES["words"].values() for cue in PromptSchedule.parse(story)
    ]
    for prompt in (*PROMPTS["words"], *stories):
        assert unknown_words(prompt) == [] and impossible(prompt) == []


@pytest.mark.parametrize(
    "story", [text for of_kind in STORIES.values() for text in of_kind.values()]
)
def test_stories_survive_the_table(story):
    schedule = PromptSchedule.parse(story)
    assert PromptSchedule.parse(rows_of(schedule)) == schedule


def test_the_timeline_shows_where_cues_really_go():
    schedule = PromptSchedule.parse("0s: a ball\n4s [flush]: a <b>boat</b>\n")
    drawing = draw_timeline(schedule, 8.0, TIMELINE)
    assert "3.81 s" in drawing and "asked for 4 s" in drawing
    assert "flush" in drawing
    assert "<b>boat" not in drawing, "prompts are escaped"


def ticks(drawing: str) -> list[float]:
    return [float(place) for place in re.findall(r'<i style="left:([0-9.]+)%">', drawing)]


def test_the_timeline_marks_the_beginning_of_every_chunk_but_the_first():
    schedule = PromptSchedule.constant("a ball")
    expected = [TIMELINE.start_time(chunk) for chunk in range(1, TIMELINE.chunk_count(8.0))]
    drawing = draw_timeline(schedule, 8.0, TIMELINE)
    length = TIMELINE.duration(TIMELINE.chunk_count(8.0))
    assert ticks(drawing) == pytest.approx([100 * it / length for it in expected], abs=1e-3)
    long = ticks(draw_timeline(schedule, 600.0, TIMELINE))
    assert 60 < len(long) <= 120 and long[-1] > 95, "fewer, but over the whole length"


def test_chunks_and_limits_of_a_model_are_known_before_it_is_loaded(service):
    """Nothing is on this machine of it but its name."""
    assert not service.models.ready
    schedule = PromptSchedule.parse("0s: a fox\n4s: a wolf\n")
    timeline = service.models.timeline("self-forcing")
    drawing = draw_timeline(schedule, 8.0, timeline)
    assert len(ticks(drawing)) == timeline.chunk_count(8.0) - 1 > 5
    assert "asked for 4 s" in drawing, "the cue goes to where a chunk begins"

    def ask(text="a fox", **changes):
        return Request(model="self-forcing", prompts=text, **changes)

    preset = service.models.preset("self-forcing")
    check_fit(ask(seconds=5.0, height=480, width=832), preset)
    for request, said in (
        (ask("0s: a fox\n9s: a wolf", seconds=5.0), "the video ends at"),
        (ask(height=480, width=830), "not a multiple of 16"),
        (ask(window=2), "cannot hold"),
    ):
        with pytest.raises(ValueError, match=said):
            check_fit(request, preset)


def test_the_timeline_tells_of_cues_that_are_never_seen():
    schedule = PromptSchedule.parse("0s: a ball\n4s: a boat\n4.1s: a car\n")
    assert "no chunk of its own" in draw_timeline(schedule, 8.0, TIMELINE)


def test_the_timeline_refuses_cues_after_the_end():
    schedule = PromptSchedule.parse("0s: a ball\n20s: a boat\n")
    with pytest.raises(ScheduleError, match="ends at"):
        draw_timeline(schedule, 8.0, TIMELINE)


def test_a_wrong_variable_stops_the_start_with_one_sentence(monkeypatch):
    monkeypatch.setenv("CAUSVID_MAX_SECONDS", "soon")
    with pytest.raises(ValueError, match="CAUSVID_MAX_SECONDS is 'soon'; expected a number"):
        main(ServerProcess())


def test_missing_weights_stop_the_start_with_one_sentence(monkeypatch, tmp_path):
    shutil.copy(PRESETS["pocket"].folder / "model_index.json", tmp_path)
    monkeypatch.setenv("CAUSVID_MODEL", str(tmp_path))
    with pytest.raises(ValueError, match="cloned completely"):
        main(ServerProcess())


def test_a_taken_port_stops_the_start_with_one_sentence(monkeypatch, service):
    """It does not serve another port in silence: whoever asks for this one would find nobody."""
    monkeypatch.setattr("causvid.ui.server.make_service", lambda _: service)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        monkeypatch.setenv("GRADIO_SERVER_PORT", str(port))
        with pytest.raises(OSError, match=f"port {port} is taken.*GRADIO_SERVER_PORT"):
            main(ServerProcess())


@pytest.mark.parametrize("port", ["abc", "", "-1", "0", "65536", "7860.5"])
def test_a_port_that_is_none_stops_the_start_with_one_sentence(port):
    """In a process of its own, as Gradio reads it when it is imported."""
    environment = {**os.environ, "GRADIO_SERVER_PORT": port}
    command = [sys.executable, ROOT / "app.py"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    expected = f"app.py: GRADIO_SERVER_PORT is {port!r}; expected a whole number from 1 to 65535\n"
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", expected)


def test_on_zerogpu_every_run_borrows_the_device(monkeypatch, tmp_path):
    monkeypatch.setenv("SPACES_ZERO_GPU", "1")
    service = make_service(Settings(model=str(save_standin(tmp_path).folder), device="cpu"))
    assert isinstance(service.device, LentDevice)

    async def make() -> int:
        request = Request(model="standin", prompts="a red car", seconds=1.0)
        run = service.start(request)
        return len([event async for event in run.events()])

    assert asyncio.run(make()) > 1
    service.close()


def test_on_zerogpu_compiling_is_refused(monkeypatch):
    monkeypatch.setenv("SPACES_ZERO_GPU", "1")
    monkeypatch.setenv("CAUSVID_COMPILE", "1")
    with pytest.raises(ValueError, match="CAUSVID_COMPILE is on; ZeroGPU cannot compile"):
        main(ServerProcess())


@pytest.mark.parametrize("platform", ["zerogpu", "own", "own, small"])
def test_models_stay_loaded_where_a_process_would_load_them_in_vain(
    monkeypatch, tmp_path, platform
):
    """Or where they are so small that nobody misses the room."""
    if platform == "own":
        monkeypatch.setattr("causvid.ui.server._SMALL", 10)
    first, other = str(save_standin(tmp_path).folder), str(tmp_path / "other")
    shutil.copytree(first, other)
    if platform == "zerogpu":
        monkeypatch.setenv("SPACES_ZERO_GPU", "1")
    service = make_service(Settings(model=first, models=(other,), device="cpu"))
    first, _ = service.models.open("standin")
    service.models.open("other")
    again, _ = service.models.open("standin")
    assert (again is first) == (platform != "own"), "elsewhere there may be room for one only"
    service.close()


def test_no_stubs_are_written_beside_our_components(monkeypatch, tmp_path):
    (tmp_path / "ours.py").write_text("import gradio as gr\n\n\nclass Ours(gr.HTML):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("ours")
    assert list(tmp_path.glob("*.pyi")) == []


def test_the_page_says_which_model_makes_what():
    settings = Settings(device="cpu")
    service = Service(settings, Models(settings), NoDevice())
    said = headline(service)
    assert said.index("Text to video: <b>Pocket: ") < said.index("Image and video to video: ")
    assert "Pocket 2" not in headline(service, "pocket")
    with gr.Blocks():
        text, picture = (Chips(service, PROMPTS, mode) for mode in ("text", "image"))
    assert list(text.rows) == ["words"] and list(picture.rows) == ["words", "given"]
    assert picture.rows["given"].visible and not picture.rows["words"].visible
    with gr.Blocks():
        models = {mode: Options(service, mode, 5.0).model for mode in ("text", "image", "video")}
    assert models["text"] is None and models["video"].value == "pocket-2"
    given = service.read("image", PromptSchedule.constant("it is still"), {})
    assert given.model == "pocket-2" and given.size == (192, 320)
    assert service.read("text", PromptSchedule.constant("a car"), {}).model == "pocket"
    service.close()
