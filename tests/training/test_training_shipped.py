"""Every stage goes on from the weights that are shipped: it runs, it resumes, its loss falls."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from causvid.__main__ import main
from causvid.generation.generator import Generator, seeded
from causvid.generation.geometry import LatentGrid
from causvid.model.text import PromptEncoder
from causvid.model.tiny_autoencoder import TinyAutoencoder
from causvid.training.causal import CausalStage
from causvid.training.config import Lessons, Phase
from causvid.training.data import LatentCache
from causvid.training.decoder import DecoderStage
from causvid.training.dmd import DmdStage
from causvid.training.footage import diorama
from causvid.training.forcing import ForcingStage
from causvid.training.models import load_exported
from causvid.training.ode import OdeStage, write_trajectories
from causvid.training.recipes import POCKET
from causvid.training.rollout import RolloutPlan, roll_out
from causvid.training.teacher import TeacherStage
from causvid.training.teacher_model import Conditioning, embeddings_of, tokens_of
from causvid.training.trainer import LoopConfig, finished_average, train
from causvid.world import VOCABULARY
from causvid.world.tokenizer import word_tokenizer

pytestmark = pytest.mark.usefixtures("forget_the_accelerator")

SHIPPED = Path(__file__).parents[2] / "assets" / "pocket"
STEPS = 6
KEYS = [(9, number, 0) for number in range(3)]
"""Of micro-batches that are asked before and after."""


LENGTH = POCKET.transformer.text_length
GRID = LatentGrid(128, 224, 16, patch=1)


@pytest.fixture(scope="module")
def condition() -> Conditioning:
    encoder = load_exported(SHIPPED, teacher=True).text_encoder
    return embeddings_of(PromptEncoder(word_tokenizer(VOCABULARY, LENGTH), encoder, LENGTH))


def shipped(part: str):
    return load_exported(SHIPPED, teacher=part == "teacher").transformer


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> LatentCache:
    """A few clips, so few that a few steps can learn them."""
    run = tmp_path_factory.mktemp("run")
    AcceleratorState._reset_state(reset_partial_state=True)
    arguments = ["--run", str(run), "--start-from", str(SHIPPED), "--shards", "1", "--clips", "4"]
    assert main(["train", "data", *arguments]) == 0
    cache = LatentCache(run / "latents")
    cache.open()
    return cache


def quick(config, *, rate=3e-4, **options):
    """The recipe's settings, with a rate that learns at once."""
    optimiser = replace(config.optimiser, learning_rate=rate, warmup_steps=1, decay_share=0.0)
    return replace(config, optimiser=optimiser, **options)


def decoder(condition, data, folder):
    codec = TinyAutoencoder.from_pretrained(SHIPPED / "vae", torch_dtype=torch.float32)
    config = quick(POCKET.decoder, rate=3e-5, steps=STEPS, pool=2, frames=5)
    return DecoderStage(codec, config, diorama, POCKET.sizes)


def teacher(condition, data, folder):
    config = quick(POCKET.teacher, phases=(Phase(4, 2, STEPS),))
    words = tokens_of(word_tokenizer(VOCABULARY, LENGTH), LENGTH)
    return TeacherStage(load_exported(SHIPPED, teacher=True), words, data, config)


def causal(condition, data, folder):
    config = quick(POCKET.causal, phases=(Phase(4, 2, STEPS),))
    return CausalStage(shipped("student"), condition, data, config, POCKET.generation)


def ode(condition, data, folder):
    write_trajectories(
        shipped("teacher"),
        condition,
        data,
        folder / "trajectories",
        0,
        replace(POCKET.trajectories, frames=4, steps=4, batch=2, count=2),
        POCKET.generation,
        GRID,
    )
    trajectories = LatentCache(folder / "trajectories")
    trajectories.open()
    config = quick(POCKET.ode, steps=STEPS, batch=2)
    return OdeStage(shipped("student"), condition, trajectories, config, POCKET.generation)


def forcing(condition, data, folder):
    config = quick(POCKET.forcing, rate=1e-4, steps=STEPS, lessons=Lessons(batch=2, first_batch=2))
    model, earlier = shipped("student"), shipped("student")
    return ForcingStage(model, condition, data, config, POCKET.generation, earlier=earlier)


def mean_loss(stage) -> float:
    with torch.no_grad():
        return sum(stage.loss(0, key).item() for key in KEYS) / len(KEYS)


def run(stage, folder, stop=None):
    train(stage, LoopConfig(folder, log_steps=1), Accelerator(cpu=True), stop=stop)
    return stage


@pytest.mark.slow
@pytest.mark.parametrize("make", [decoder, teacher, causal, ode, forcing])
def test_a_stage_goes_on_from_the_shipped_weights(make, condition, data, tmp_path):
    before = make(condition, data, tmp_path)
    before.prepare(Accelerator(cpu=True))
    start = mean_loss(before)
    AcceleratorState._reset_state(reset_partial_state=True)
    run(make(condition, data, tmp_path), tmp_path / "run", stop=STEPS // 2)
    AcceleratorState._reset_state(reset_partial_state=True)
    after = run(make(condition, data, tmp_path), tmp_path / "run")
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, STEPS + 1))
    assert mean_loss(after) < start
    assert any(finished_average(tmp_path / "run").iterdir())


@pytest.mark.slow
def test_the_critic_goes_on_from_the_shipped_teacher(condition, data, tmp_path):
    """The student has no loss that must fall: where critic and teacher agree, it is done.

    The critic is asked about the student's videos of the captions that it learns from, at many
    noise levels: about others, a few steps may teach it nothing.
    """

    def make() -> DmdStage:
        config = POCKET.dmd
        critic = replace(
            config.critic_optimiser, learning_rate=3e-4, warmup_steps=1, decay_share=0.0
        )
        config = replace(config, critic_optimiser=critic, steps=2, batch=2, rollout_chunks=(3,))
        generator = Generator(shipped("student"), POCKET.generation, GRID)
        models, earlier = (shipped("teacher"), shipped("teacher")), shipped("student")
        return DmdStage(generator, *models, condition, data, config, earlier=earlier)

    def critic_loss(stage: DmdStage) -> float:
        with torch.no_grad():
            losses = [stage.critic_loss(made, text, seeded(9, draw)) for draw in range(12)]
        return sum(loss.item() for loss in losses) / len(losses)

    before = make()
    before.prepare(Accelerator(cpu=True))
    captions = data.batch((1, 2), frames=7, size=6).captions
    draw = seeded(5)
    with torch.no_grad():
        (text,) = condition(captions, torch.device("cpu"))
        plan = RolloutPlan(chunks=3, live=0, exit_step=3)
        made = roll_out(
            before.generator, text, plan, lambda *at: torch.randn(at[2], generator=draw)
        )
    start = critic_loss(before)
    AcceleratorState._reset_state(reset_partial_state=True)
    run(make(), tmp_path, stop=1)
    AcceleratorState._reset_state(reset_partial_state=True)
    after = run(make(), tmp_path)
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 2
    assert critic_loss(after) < start
