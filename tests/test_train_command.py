"""`python -m causvid train` goes on from the weights that are shipped, in an empty run folder."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from causvid.__main__ import main
from causvid.pipeline import CausVidPipeline

pytestmark = pytest.mark.usefixtures("forget_the_accelerator")

SHIPPED = Path(__file__).parents[1] / "assets" / "pocket"


def train(*arguments: object) -> int:
    return main(["train", *map(str, arguments)])


def test_a_fresh_clone_renders_trains_and_exports(tmp_path):
    run = ("--run", tmp_path / "run", "--start-from", SHIPPED)
    assert train("data", *run, "--shards", 1, "--clips", 2) == 0
    assert train("teacher", *run, "--stop", 1) == 0
    assert train("causal", *run, "--stop", 1) == 0
    assert train("export", *run, "--student", "causal", "--out", tmp_path / "model") == 0
    pipe = CausVidPipeline.from_pretrained(tmp_path / "model")
    for path in (tmp_path / "model").rglob("*.json"):
        assert str(tmp_path) not in path.read_text(), "paths of this machine stay here"
    assert pipe.generation == CausVidPipeline.from_pretrained(SHIPPED).generation


def test_a_stage_without_its_data_says_what_to_run_first(tmp_path, capsys):
    assert train("teacher", "--run", tmp_path) == 2
    assert "train data" in capsys.readouterr().err


def test_a_student_is_exported_as_the_mean_of_two(tmp_path):
    folders = SHIPPED, SHIPPED.with_name("pocket-next")
    mean = ("--start-from", folders[0], "--mean-with", folders[1], "--out", tmp_path / "mean")
    assert train("export", "--run", tmp_path / "run", *mean) == 0
    file = "transformer/diffusion_pytorch_model.safetensors"
    first, second, both = (load_file(folder / file) for folder in (*folders, tmp_path / "mean"))
    for name, weight in both.items():
        between = (first[name].float() + second[name].float()) / 2
        assert_close(weight, between.half(), rtol=1e-3, atol=1e-6)
    assert not torch.equal(first["proj_out.weight"], second["proj_out.weight"])
    words = "text_encoder/model.safetensors"
    assert_close(load_file(tmp_path / "mean" / words), load_file(folders[0] / words))


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
