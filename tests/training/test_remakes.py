"""Clips that a student makes again: its errors, on clips whose pictures are known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from causvid.generation.generator import Generator
from causvid.generation.geometry import LatentGrid
from causvid.model.codec import codec_for
from causvid.model.text import PromptEncoder
from causvid.model.tiny_autoencoder import TinyAutoencoder
from causvid.training.decoder import DecoderStage
from causvid.training.footage import diorama
from causvid.training.models import load_exported
from causvid.training.ode import student_times
from causvid.training.recipes import POCKET
from causvid.training.remakes import Remaker
from causvid.training.teacher_model import embeddings_of
from causvid.training.trainer import LoopConfig, finished_average, train
from causvid.world import VOCABULARY, Scene, caption, render
from causvid.world.pixels import clip_to_pixels
from causvid.world.tokenizer import word_tokenizer

SHIPPED = Path(__file__).parents[2] / "assets" / "pocket"
SCENES = [Scene.sample(np.random.default_rng(seed)) for seed in (1, 2)]
CAPTIONS = [caption(scene, np.random.default_rng(0)) for scene in SCENES]


def remaker(depth: int = 2) -> Remaker:
    student = load_exported(SHIPPED, teacher=False)
    config, length = POCKET.generation, POCKET.transformer.text_length
    grid = LatentGrid(config.height, config.width, spatial_stride=16, patch=1)
    encoder = PromptEncoder(word_tokenizer(VOCABULARY, length), student.text_encoder, length)
    return Remaker(Generator(student.transformer, config, grid), embeddings_of(encoder), depth)


@pytest.fixture(scope="module")
def latents() -> torch.Tensor:
    clips = [render(scene, frames=13, height=128, width=224, seed=0) for scene in SCENES]
    pixels = clip_to_pixels([torch.from_numpy(clip) for clip in clips])
    vae = TinyAutoencoder.from_pretrained(SHIPPED / "vae", torch_dtype=torch.float32).eval()
    codec = codec_for(vae)
    with torch.inference_mode():
        return codec.encode(pixels, codec.start()).clone()


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_clip_made_again_is_the_same_clip_with_errors(latents):
    errors = []
    for depth in (1, 2, 3):
        made = remaker(depth)
        made.strengths = made.strengths[:1]  # the noisiest of them
        again = made(latents, CAPTIONS, drawn(0))
        assert again.shape == latents.shape and again.isfinite().all()
        errors.append((again - latents).square().mean().sqrt().item())
    assert 0.05 < errors[0] < errors[1] < errors[2]
    unrelated = (latents.flip(0) - latents).square().mean().sqrt()
    assert errors[1] < unrelated / 2


def test_it_starts_at_the_students_own_last_levels(latents):
    assert remaker(2).strengths == student_times(POCKET.generation)[-3:-1]


def test_the_same_draw_makes_the_same_clip(latents):
    make = remaker()
    first, second = make(latents, CAPTIONS, drawn(1)), make(latents, CAPTIONS, drawn(1))
    assert torch.equal(first, second)
    assert not torch.equal(first, make(latents, CAPTIONS, drawn(2)))


def test_clips_of_another_size_are_made_again(latents):
    upright = latents.transpose(-1, -2)
    again = remaker()(upright, CAPTIONS, drawn(0))
    assert again.shape == upright.shape
    assert (again - upright).square().mean() < (upright.flip(0) - upright).square().mean()


def test_the_future_does_not_change_what_is_made(latents):
    make = remaker()
    changed = latents.clone()
    changed[:, 1:] = latents[:, 1:].flip(0)
    first, second = make(latents, CAPTIONS, drawn(1)), make(changed, CAPTIONS, drawn(1))
    assert torch.equal(first[:, :1], second[:, :1])
    assert not torch.equal(first[:, 1:], second[:, 1:])


@pytest.mark.slow
def test_a_decoder_learns_to_see_past_the_errors_and_resumes_bit_by_bit(tmp_path):
    optimiser = replace(
        POCKET.decoder.optimiser, learning_rate=2e-5, warmup_steps=1, decay_share=0.0
    )
    config = replace(
        POCKET.decoder, optimiser=optimiser, steps=8, pool=4, remake_batch=2, remade_share=1.0
    )

    def stage() -> DecoderStage:
        vae = TinyAutoencoder.from_pretrained(SHIPPED / "vae", torch_dtype=torch.float32)
        return DecoderStage(vae, config, diorama, POCKET.sizes, remake=remaker())

    def loss(which: DecoderStage) -> float:
        with torch.no_grad():
            return sum(which.loss(0, (7, place, 0)).item() for place in range(8)) / 8

    before = stage()
    before.prepare(Accelerator(cpu=True))
    start = loss(before)
    after = stage()
    train(after, LoopConfig(tmp_path / "whole"), Accelerator(cpu=True))
    assert loss(after) < start
    for stop in (3, None):
        train(stage(), LoopConfig(tmp_path / "parts"), Accelerator(cpu=True), stop=stop)
    whole, parts = (
        TinyAutoencoder.from_pretrained(finished_average(tmp_path / name)).state_dict()
        for name in ("whole", "parts")
    )
    for name, weight in whole.items():
        assert torch.equal(weight, parts[name])
