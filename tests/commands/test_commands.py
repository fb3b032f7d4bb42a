"""The command line as users call it, on a model with random weights."""

import json
import math
import re

import numpy as np
import PIL.Image
import pytest

from causvid.__main__ import COMMANDS, main
from causvid.commands.train import STAGES
from causvid.evaluate import PARTS
from causvid.media import VideoReader, probe
from causvid.presets.catalogue import PRESETS
from causvid.presets.loading import load_preset
from causvid.presets.registry import list_presets
from causvid.serving.request import Request
from tests.standin import save_standin
from tests.videos import write_video


@pytest.fixture(scope="module")
def standin(tmp_path_factory):
    return save_standin(tmp_path_factory.mktemp("standin"))


@pytest.fixture(autouse=True)
def offered(standin, monkeypatch):
    file = standin.folder.parent / "presets.json"
    file.write_text(json.dumps({"standin": {"like": str(standin.folder)}}))
    monkeypatch.setenv("CAUSVID_PRESETS", str(file))


def generate(out, *arguments):
    return main(["generate", *map(str, arguments), "--model", "standin", "--out", str(out)])


def read(path):
    with VideoReader(path, fps=16, height=64, width=96) as reader:
        return np.stack(list(reader))


def test_a_prompt_becomes_a_video_and_a_manifest_that_reproduces_it(tmp_path, standin, capsys):
    out = tmp_path / "car.mp4"
    assert generate(out, "a red car", "--seconds", 2, "--seed", 4) == 0
    manifest = json.loads((tmp_path / "car.json").read_text())
    info = probe(out)
    assert (info.width, info.height) == (96, 64)
    assert manifest["video"]["frames"] == len(read(out)) == 37
    assert manifest["request"]["seed"] == 4
    assert str(out) in capsys.readouterr().out

    request = Request.read(manifest["request"])
    frames = np.concatenate([c.frames for c in request.open(load_preset(standin, device="cpu"))])
    again = tmp_path / "again.mp4"
    write_video(again, frames, fps=16)
    assert again.read_bytes() == out.read_bytes()


def test_a_schedule_file_changes_the_prompt(tmp_path):
    schedule = tmp_path / "story.txt"
    schedule.write_text("0s: a red car\n1s [recache]: a blue ball\n")
    assert generate(tmp_path / "story.mp4", "--schedule", schedule, "--seconds", 2) == 0
    chunks = json.loads((tmp_path / "story.json").read_text())["chunks"]
    assert [c["prompt"] for c in chunks] == ["a red car"] * 2 + ["a blue ball"] * 2
    assert [c["handover"] for c in chunks] == [None, None, "recache", None]


def test_an_image_and_a_video_can_be_the_start(tmp_path):
    rng = np.random.default_rng(0)
    clip = tmp_path / "clip.mp4"
    write_video(clip, rng.integers(0, 256, (20, 80, 60, 3), dtype=np.uint8), fps=16)
    assert generate(tmp_path / "v.mp4", "a car", "--video", clip, "--strength", 0.5) == 0
    assert json.loads((tmp_path / "v.json").read_text())["video"]["frames"] == 20
    image = tmp_path / "picture.png"
    PIL.Image.fromarray(rng.integers(0, 256, (50, 90, 3), dtype=np.uint8)).save(image)
    assert generate(tmp_path / "i.mp4", "a car", "--image", image, "--seconds", 1) == 0
    assert json.loads((tmp_path / "i.json").read_text())["request"]["mode"] == "image"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "a PROMPT, --schedule FILE or --manifest FILE"),
        (["a car", "--manifest", "made.json"], "one of them only"),
        (["a car", "--seconds", "-1"], "the length is -1.0; expected more than 0"),
        (["a car", "--seconds", "inf"], "--seconds is endless"),
        (["a car", "--seconds", "0"], "--seconds is endless"),
        (["a car", "--steps", "0"], "the number of steps is 0; expected more than 0"),
        (["a car", "--steps", "99"], "1 … 50"),
        (["a car", "--size", "large"], "expected WIDTHxHEIGHT"),
        (["a car", "--decoder", "tiny"], "no tiny decoder"),
        (["a car", "--video", "missing.mp4"], "missing.mp4"),
        (["a car", "--image", "missing.png"], "missing.png"),
        (["a car", "--size", "65x64"], "nearest size is 64x64"),
        (
            ["a car", "--strength", "2", "--video", "missing.mp4"],
            "strength is 2.0; expected",
        ),
    ],
)
def test_mistakes_are_one_sentence_before_weights_are_loaded(
    tmp_path, capsys, monkeypatch, arguments, message
):
    monkeypatch.setattr("causvid.presets.loading.load", None)
    assert generate(tmp_path / "out.mp4", *arguments) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert not list(tmp_path.iterdir())


def test_a_manifest_makes_its_video_again(tmp_path, capsys):
    story = tmp_path / "story.txt"
    story.write_text("0s: a red car\n1s [flush]: a blue zeppelin\n")
    made, again = tmp_path / "made.mp4", tmp_path / "again.mp4"
    options = ["--seconds", 2, "--seed", 3, "--size", "96x64"]
    assert generate(made, "--schedule", story, *options) == 0
    assert "“zeppelin” is not a word that this small model knows" in capsys.readouterr().err
    assert generate(again, "--manifest", tmp_path / "made.json", "--quiet") == 0
    assert again.read_bytes() == made.read_bytes()
    assert capsys.readouterr() == ("", "")
    assert generate(again, "--manifest", tmp_path / "made.json", "--seed", 4) == 0
    assert again.read_bytes() != made.read_bytes(), "what is given besides replaces it"


def test_what_a_video_is_made_from_is_not_overwritten(tmp_path, capsys):
    story = tmp_path / "story.json"
    story.write_text('[[0, "a red car"]]')
    assert generate(tmp_path / "story.mp4", "--schedule", story, "--seconds", 1) == 2
    assert "story.json would be overwritten" in capsys.readouterr().err
    assert generate(story, "a car", "--video", tmp_path / "." / "story.json") == 2
    assert story.read_text() == '[[0, "a red car"]]'


@pytest.mark.parametrize("option", ["--video", "--image"])
@pytest.mark.parametrize("way", ["as it is", "by a detour", "by a link"])
def test_a_source_is_not_overwritten_by_whatever_name(tmp_path, capsys, option, way):
    source, given = tmp_path / "made.mp4", tmp_path / "made.mp4"
    source.write_bytes(b"precious")
    if way == "by a detour":
        (tmp_path / "inner").mkdir()
        given = tmp_path / "inner" / ".." / "made.mp4"
    elif way == "by a link":
        given = tmp_path / "other.mp4"
        given.symlink_to(source)
    assert generate(given, "a car", option, source) == 2
    assert "would be overwritten" in capsys.readouterr().err
    assert source.read_bytes() == b"precious"


def test_a_manifest_in_place_of_a_schedule_is_named(tmp_path, capsys):
    manifest = tmp_path / "made.json"
    manifest.write_text('{"version": 1, "request": {}}')
    assert generate(tmp_path / "again.mp4", "--schedule", manifest) == 2
    assert "`generate --manifest FILE`" in capsys.readouterr().err


def test_an_unknown_model_names_near_ones(capsys):
    assert main(["generate", "a car", "--model", "self-forcing-dm"]) == 2
    assert "did you mean" in capsys.readouterr().err


def test_models_lists_every_preset_with_its_licence(capsys):
    assert main(["models", "--json"]) == 0
    listed = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert set(listed) == set(list_presets()) > set(PRESETS)
    assert listed["standin"]["native_image"]
    assert main(["models"]) == 0
    table = capsys.readouterr().out
    for preset in list_presets().values():
        assert preset.name in table
    assert "non-commercial" in table


def test_preflight_counts_without_weights(capsys):
    arguments = ["preflight", "self-forcing", "--device", "cuda", "--memory"]
    assert main([*arguments, "80", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["fits"] and figures["cache_bytes"] > 10**9
    assert math.isfinite(figures["flops_per_chunk"])
    assert main([*arguments, "8", "--json"]) == 1
    assert not json.loads(capsys.readouterr().out)["fits"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    assert f"`python -m causvid {command}" in said, "what it is for, not only its options"


@pytest.mark.parametrize(("command", "parts"), [("train", STAGES), ("evaluate", PARTS)])
def test_help_says_what_every_part_of_a_command_does(command, parts, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    said = capsys.readouterr().out
    for part in parts:
        # What it does stands beside a short name, and below a long one.
        assert re.search(rf"^    {part}( +|\n {{12,}})\w", said, re.MULTILINE), part
