"""`python -m causvid train` goes on from the weights that are shipped, in an empty run folder."""

from pathlib import Path

import pytest

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
