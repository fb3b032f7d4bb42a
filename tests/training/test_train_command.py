"""`python -m causvid train` goes on from the weights that are shipped, in an empty run folder."""

import argparse
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from causvid.__main__ import main
from causvid.commands.train import add_arguments, resolved
from causvid.generation.cues import Handover
from causvid.generation.geometry import Size
from causvid.pipeline import CausVidPipeline
from causvid.training.recipes import POCKET, RECIPES, load_recipe

pytestmark = pytest.mark.usefixtures("forget_the_accelerator")

SHIPPED = Path(__file__).parents[2] / "assets" / "pocket"


def train(*arguments: object) -> int:
    return main(["train", *map(str, arguments)])


@pytest.mark.slow
def test_a_fresh_clone_renders_trains_and_exports(tmp_path):
    run = ("--run", tmp_path / "run", "--start-from", "pocket")
    assert train("data", *run, "--shards", 1, "--clips", 2) == 0
    assert train("teacher", *run, "--stop", 1) == 0
    assert train("causal", *run, "--stop", 1) == 0
    assert train("export", *run, "--student", "causal", "--out", tmp_path / "model") == 0
    pipe = CausVidPipeline.from_pretrained(tmp_path / "model")
    for path in (tmp_path / "model").rglob("*.json"):
        assert str(tmp_path) not in path.read_text(), "paths of this machine stay here"
    assert pipe.generation == CausVidPipeline.from_pretrained(SHIPPED).generation


@pytest.mark.parametrize(
    "foreign",
    [("teacher", "--out", "x"), ("codec", "--steps", "3"), ("ode", "--phases", "1x1x1")],
)
def test_what_a_stage_does_not_take_is_refused(foreign, capsys):
    with pytest.raises(SystemExit):
        train(*foreign)
    assert f"unrecognized arguments: {' '.join(foreign[1:])}" in capsys.readouterr().err


def test_every_setting_is_an_option_and_what_is_shown_is_a_recipe(tmp_path, capsys):
    options = ("--student-optimiser.betas", "0,0.9", "--rollout-chunks", "3,4", "--batch", "2")
    assert train("dmd", *options, "--handovers", "swap,blend:2", "--show") == 0
    shown = capsys.readouterr().out
    settings = json.loads(shown)["dmd"]
    assert settings["student_optimiser"]["betas"] == [0, 0.9]
    assert (settings["rollout_chunks"], settings["batch"]) == ([3, 4], 2)
    (tmp_path / "mine.json").write_text(shown)
    recipe = load_recipe(str(tmp_path / "mine.json"))
    assert recipe.dmd.handovers == (Handover("swap"), Handover("blend", 2))
    assert replace(recipe, dmd=POCKET.dmd) == POCKET
    assert train("dmd", "--recipe", tmp_path / "mine.json", "--show") == 0
    assert json.loads(capsys.readouterr().out)["dmd"] == settings


def test_picture_sizes_are_written_width_first(tmp_path, capsys):
    assert train("data", "--more-sizes", "192x320,240x240", "--show") == 0
    shown = capsys.readouterr().out
    (tmp_path / "mine.json").write_text(shown)
    recipe = load_recipe(str(tmp_path / "mine.json"))
    assert recipe.sizes == (Size(128, 224), Size(320, 192), Size(240, 240))
    assert json.loads(shown)["data"]["more_sizes"] == [[320, 192], [240, 240]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", '"recipe"'),
        ('{"recipe": "big"}', "there is no recipe 'big'"),
        ('{"recipe": "pocket", "dmd": {"stepz": 3}}', "DmdConfig has no setting stepz"),
        ('{"recipe": "pocket", "ode": {"steps": "many"}}', "OdeConfig.steps"),
        ('{"recipe": "pocket", "dmd": {"teacher": "blind"}}', "'bidirectional' or 'causal'"),
    ],
)
def test_a_recipe_that_is_none_says_why(text, said, tmp_path, capsys):
    (tmp_path / "mine.json").write_text(text)
    assert train("dmd", "--recipe", tmp_path / "mine.json", "--show") == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(("name", "apart"), [("pocket", 2), ("pocket-2", 1)])
def test_the_script_of_a_recipe_asks_for_what_there_is(name, apart, tmp_path):
    """Every command of it, at full scale and at one percent of it, in one process or two."""
    script = Path(__file__).parents[2] / "recipes" / f"{name}.sh"
    for scale, processes in (("100", "1"), ("100", "2"), ("1", "2")):
        how = {"SCALE": scale, "PROCESSES": processes, "RUN": str(tmp_path / "run")}
        said = subprocess.run(
            ["bash", script],
            env={**os.environ, "PYTHON": "echo", **how},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        parser = argparse.ArgumentParser()
        add_arguments(parser)
        words = [line.partition("causvid train ")[2].split() for line in said.splitlines()]
        asked = [parser.parse_args(line) for line in words]
        stages = [args.stage for args in asked]
        assert stages[0] == "codec" and stages[-1] == "export"
        if (scale, processes) == ("100", "1"):  # the recipe's own, but for pocket's second decoder
            own = {args.stage: args for args in asked[:-apart]}
            for stage, args in own.items():
                assert resolved(args, RECIPES[name]) == getattr(RECIPES[name], stage), stage


def test_the_script_of_a_recipe_shares_the_minutes_of_a_gpu(tmp_path):
    script = Path(__file__).parents[2] / "recipes" / "pocket-2.sh"
    run, python, log = tmp_path / "run", tmp_path / "python", tmp_path / "asked.txt"
    (tmp_path / "vae").mkdir()
    python.write_text(
        f'#!/bin/sh\necho "$@" >> {log}\n'
        f'case "$*" in *"train data"*) mkdir -p {run}/latents\n'
        f"for i in $(seq 0 99); do touch $(printf {run}/latents/shard-%05d.safetensors $i); done;; "
        "esac\n"
    )
    python.chmod(0o755)
    how = {"DEVICE": "cuda", "MINUTES": "9", "VAE": str(tmp_path / "vae"), "RUN": str(run)}
    how["COMPILE"] = "yes"
    subprocess.run(["bash", script], env={**os.environ, "PYTHON": str(python), **how}, check=True)
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    asked = [
        parser.parse_args(line.partition("causvid train ")[2].split())
        for line in log.read_text().splitlines()
    ]
    trained = [args for args in asked if args.stage not in ("data", "export")]
    assert [args.stage for args in trained] == ["teacher", "causal", "consistency", "dmd"]
    assert 0.9 * 450 < sum(args.seconds for args in trained) <= 450
    assert all(args.compile and resolved(args, RECIPES["pocket-2"]) for args in trained)
    assert {args.workers for args in asked if args.stage == "data"} == {12}
    assert (run / "vae").is_dir() and asked[-1].stage == "export"


def test_a_recipe_with_a_base_trains_no_codec(capsys):
    assert train("codec", "--recipe", "wan-1.3b") == 2
    assert "its base comes with a codec" in capsys.readouterr().err


def test_a_stage_without_its_data_says_what_to_run_first(tmp_path, capsys):
    assert train("teacher", "--run", tmp_path) == 2
    assert "train data" in capsys.readouterr().err


def test_a_model_that_is_no_exported_folder_is_refused(tmp_path, capsys):
    for model, said in (("self-forcing", "parts on the Hub"), ("./nothing", "no folder")):
        assert train("causal", "--run", tmp_path, "--start-from", model) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize("stage", ["causal", "ode", "dmd", "export"])
def test_a_stage_without_its_teacher_says_so(stage, tmp_path, capsys):
    assert train(stage, "--run", tmp_path) == 2
    assert "train that stage first" in capsys.readouterr().err


@pytest.mark.parametrize("stage", ["data", "decoder"])
def test_a_stage_without_its_codec_says_so(stage, tmp_path, capsys):
    assert train(stage, "--run", tmp_path) == 2
    assert "train codec" in capsys.readouterr().err


def test_a_codec_whose_latents_may_be_in_use_is_not_replaced(tmp_path, capsys):
    (tmp_path / "vae").mkdir()
    assert train("codec", "--run", tmp_path) == 2
    assert "may be in use" in capsys.readouterr().err
