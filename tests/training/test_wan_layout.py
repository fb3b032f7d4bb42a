"""A model of exactly Wan's layout is distilled by the command line, in one process and in two."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    WanPipeline,
    WanTransformer3DModel,
)

from causvid.__main__ import main
from causvid.pipeline import CausVidPipeline
from causvid.training.data import LatentCache
from causvid.world.tokenizer import tiny_text_encoder, word_tokenizer
from tests.videos import write_video

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("forget_the_accelerator")]

PROMPTS = ["a red car", "a blue boat", "a green ball at night"]
RECIPE = {
    "recipe": "wan-1.3b",
    "generation": {"height": 32, "width": 48, "window": 6},
    "data": {"clips": 1, "latents": 6},
    "teacher": {"phases": "6x1x1"},
    "causal": {"phases": "6x1x1"},
    "trajectories": {"frames": 6, "steps": 4, "batch": 2, "count": 2},
    "ode": {
        "steps": 2,
        "optimiser": {"learning_rate": 0.01, "warmup_steps": 1, "ema_decay": 0.0},
    },
    "consistency": {"steps": 2, "levels": 4, "guidance": 1.5},
    "forcing": {"steps": 2, "lessons": {"first_weight": 1.0, "first_batch": 1}},
    "dmd": {"steps": 2, "window": 6, "rollout_chunks": [2, 3], "switch_share": 0.5},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A folder as `WanPipeline.save_pretrained` writes it, with tiny random models."""
    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    tokenizer = word_tokenizer(" ".join(PROMPTS).split(), 512)
    WanPipeline(
        tokenizer=tokenizer,
        text_encoder=tiny_text_encoder(len(tokenizer), width=16, layers=1),
        vae=AutoencoderKLWan(
            base_dim=4,
            z_dim=4,
            dim_mult=[1, 1, 1, 1],
            num_res_blocks=1,
            latents_mean=[0.1, -0.2, 0.3, 0.0],
            latents_std=[1.5, 2.0, 0.7, 1.0],
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=5.0),
        transformer=WanTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=12,
            in_channels=4,
            out_channels=4,
            text_dim=16,
            freq_dim=16,
            ffn_dim=32,
            num_layers=2,
        ),
    ).save_pretrained(folder)
    config = json.loads((folder / "vae/config.json").read_text())
    for name in ("scale_factor_spatial", "scale_factor_temporal"):
        del config[name]  # as the published folder, which is older than they are
    (folder / "vae/config.json").write_text(json.dumps(config))
    (folder / "recipe.json").write_text(json.dumps(RECIPE))
    (folder / "prompts.txt").write_text("\n".join(PROMPTS) + "\n")
    rng = np.random.default_rng(0)
    (folder / "videos").mkdir()
    for index, prompt in enumerate(PROMPTS[:2]):
        clip = rng.integers(256, size=(50, 32, 48, 3), dtype=np.uint8)
        write_video(folder / f"videos/{index}.mp4", clip, fps=16)
        (folder / f"videos/{index}.txt").write_text(f"{prompt}\n")
    return folder


def train(base: Path, run: Path, stage: str, *options: object) -> None:
    source = ("--recipe", base / "recipe.json", "--base", base, "--run", run)
    assert main(["train", stage, *map(str, (*source, *options))]) == 0


def distil(base: Path, run: Path) -> None:
    """From the base to a student, on prompts, and on clips for the stage that needs some."""
    prompts = ("--prompts", base / "prompts.txt")
    train(base, run, "data", "--videos", base / "videos")
    train(base, run, "trajectories", "--shards", 2, *prompts)
    train(base, run, "ode")
    train(base, run, "forcing")
    train(base, run, "dmd", *prompts)


def check_student(base: Path, run: Path, tmp_path: Path) -> None:
    """It is exported, generates, and is no longer its teacher."""
    train(base, run, "export", "--out", tmp_path / "model")
    asked = [PROMPTS[0], "--model", str(tmp_path / "model"), "--seconds", "1"]
    assert main(["generate", *asked, "--out", str(tmp_path / "video.mp4")]) == 0
    assert (tmp_path / "video.mp4").stat().st_size
    pipe = CausVidPipeline.from_pretrained(tmp_path / "model")
    assert isinstance(pipe.vae, AutoencoderKLWan)
    assert pipe.generation.window == 6
    assert not (tmp_path / "model" / "teacher").exists(), "the base has it"
    teacher = WanTransformer3DModel.from_pretrained(base / "transformer").state_dict()
    student = pipe.transformer.state_dict()
    assert student.keys() == teacher.keys()
    assert any((student[name].float() - teacher[name]).abs().max() > 0.005 for name in teacher)


def test_a_model_of_wans_layout_is_distilled_and_generates(base, tmp_path):
    run = tmp_path / "run"
    distil(base, run)
    assert not list(run.rglob("text_encoder")), "the base has it"
    check_student(base, run, tmp_path)


def test_its_teacher_and_a_causal_student_are_trained_on_videos(base, tmp_path):
    run = tmp_path / "run"
    train(base, run, "data", "--videos", base / "videos")
    cache = LatentCache(run / "latents")
    cache.open()
    assert len(cache) == 4, "two clips of 21 pictures in each video"
    assert set(cache.batch((0,), frames=6, size=16).captions) == set(PROMPTS[:2])
    train(base, run, "teacher")
    train(base, run, "causal")
    train(base, run, "consistency")
    train(base, run, "export", "--student", "consistency", "--out", tmp_path / "model")
    assert (tmp_path / "model" / "teacher" / "config.json").exists(), "it is another one"


def test_two_processes_distil_it_too(base, tmp_path):
    launch = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", __file__]
    subprocess.run(
        [sys.executable, "-m", *launch, str(base), str(tmp_path / "run")],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
        check=True,
        capture_output=True,
    )
    check_student(base, tmp_path / "run", tmp_path)


if __name__ == "__main__":
    distil(Path(sys.argv[1]), Path(sys.argv[2]))
