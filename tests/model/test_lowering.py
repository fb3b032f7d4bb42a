"""Lowered layers are the same layers to bfloat16's rounding, and everything else stays exact."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn

from causvid.model.lowering import (
    LOWERED,
    LoweredLinear,
    arithmetic_of,
    is_lowered,
    lower_decoder,
    lower_transformer,
    native_bfloat16,
)
from causvid.model.tiny_autoencoder import TinyAutoencoder
from causvid.presets import loading as presets
from causvid.presets.loading import load_preset

PROMPT = "a red car drives to the left through a meadow at noon"


def small_autoencoder() -> TinyAutoencoder:
    torch.manual_seed(0)
    return TinyAutoencoder(
        latent_channels=6,
        encoder_channels=(),
        decoder_channels=(8, 8, 8, 8),
        decoder_blocks=(1, 1, 1),
        shortcut_latents=2,
    ).eval()


def test_a_lowered_layer_is_what_autocast_makes_of_it(transformer):
    model = deepcopy(transformer)
    layer = model.blocks[0].ffn.net[2]
    x = torch.randn(2, 3, 64)
    with torch.autocast("cpu", LOWERED), torch.no_grad():
        expected = layer(x)
    lower_transformer(model)
    lowered = model.blocks[0].ffn.net[2](x)
    assert lowered.dtype == x.dtype
    assert torch.equal(lowered, expected.float())


@torch.inference_mode()
def test_a_lowered_transformer_is_close_to_the_exact_one(transformer):
    exact, lowered = transformer, deepcopy(transformer)
    lower_transformer(lowered)
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 3, 8, 4, 4, generator=generator)
    times = torch.full((1, 3), 0.5)
    text = torch.randn(1, exact.config.text_length, 16, generator=generator)
    expected, actual = exact(latents, times, text), lowered(latents, times, text)
    assert actual.dtype == torch.float32
    error = (actual - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert 0 < error < 2e-2


def test_only_layers_of_blocks_are_lowered_and_names_stay(transformer):
    exact, lowered = transformer, deepcopy(transformer)
    lower_transformer(lowered)
    assert list(lowered.state_dict()) == list(exact.state_dict())
    for name, layer in lowered.named_modules():
        if isinstance(layer, nn.Linear):
            assert isinstance(layer, LoweredLinear) == name.startswith("blocks.")
    assert is_lowered(lowered) and not is_lowered(exact)
    assert arithmetic_of(exact) == "float32"
    assert arithmetic_of(lowered) == "float32, products in bfloat16"
    assert lowered.dtype == torch.float32


@torch.inference_mode()
def test_a_lowered_decoder_keeps_its_shortcut_exact():
    exact, lowered = small_autoencoder(), small_autoencoder()
    lower_decoder(lowered)
    latents = torch.randn(1, 3, 6, 2, 3)
    assert torch.equal(lowered.shortcut.decode(latents, {}), exact.shortcut.decode(latents, {}))
    made, expected = lowered.decode(latents, {}), exact.decode(latents, {})
    assert made.dtype == torch.float32
    torch.testing.assert_close(made, expected, atol=3e-2, rtol=0)


def test_a_decoder_without_a_shortcut_is_left_alone():
    model = TinyAutoencoder(encoder_channels=(4,) * 4, decoder_channels=(8, 4, 4, 4))
    lower_decoder(model)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("native", [True, False])
def test_pocket_is_lowered_where_the_processor_has_it(monkeypatch, native):
    monkeypatch.setattr(presets, "native_bfloat16", lambda: native)
    pipe = load_preset("pocket")
    assert is_lowered(pipe.transformer) == native
    assert (pipe.vae.decoder["1"].weight.dtype == LOWERED) == native
    assert pipe.codec().dtype == torch.float32


def test_whoever_asks_for_float32_gets_it(monkeypatch):
    monkeypatch.setattr(presets, "native_bfloat16", lambda: True)
    pipe = load_preset("pocket", dtype=torch.float32)
    assert not is_lowered(pipe.transformer)
    assert {weight.dtype for weight in pipe.vae.parameters()} == {torch.float32}


def test_nobody_sees_the_difference(monkeypatch):
    def frames(native: bool) -> np.ndarray:
        monkeypatch.setattr(presets, "native_bfloat16", lambda: native)
        pipe = load_preset("pocket")
        return pipe(PROMPT, seconds=1, seed=3, output_type="uint8").frames.astype(int)

    difference = np.abs(frames(True) - frames(False))
    assert difference.mean() < 0.5  # of 255 grey levels


@pytest.mark.parametrize("flag", ["avx512_bf16", "amx_bf16", None])
def test_the_processor_is_asked(monkeypatch, flag):
    has = {"avx2": True} | ({flag: True} if flag else {})
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    assert native_bfloat16() == (flag is not None)
