"""Swapped layers are the same layers, to their type's rounding, and everything else stays exact."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn

from causvid.model import cpu
from causvid.model.cpu import (
    LOWERED,
    LoweredLinear,
    OneDnnLinear,
    arithmetic_of,
    is_lowered,
    lower_decoder,
    lower_transformer,
    native_bfloat16,
    use_onednn,
)
from causvid.model.tiny_autoencoder import TinyAutoencoder
from causvid.presets.loading import load


@pytest.fixture
def processor(monkeypatch):
    """What the processor is taken to have."""

    def processor(*, bfloat16: bool, onednn: bool = False) -> None:
        monkeypatch.setattr(cpu, "native_bfloat16", lambda: bfloat16)
        monkeypatch.setattr(cpu, "onednn_pays", lambda: onednn)

    return processor


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


def test_a_lowered_layer_is_what_autocast_makes_of_it(transformer, processor):
    processor(bfloat16=True)
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
def test_a_lowered_transformer_is_close_to_the_exact_one(transformer, processor):
    processor(bfloat16=True)
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


def test_only_layers_of_blocks_are_lowered_and_names_stay(transformer, processor):
    processor(bfloat16=True)
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
def test_a_lowered_decoder_keeps_its_shortcut_exact(processor):
    processor(bfloat16=True)
    exact, lowered = small_autoencoder(), small_autoencoder()
    lower_decoder(lowered)
    latents = torch.randn(1, 3, 6, 2, 3)
    assert torch.equal(lowered.shortcut.decode(latents, {}), exact.shortcut.decode(latents, {}))
    made, expected = lowered.decode(latents, {}), exact.decode(latents, {})
    assert made.dtype == torch.float32
    torch.testing.assert_close(made, expected, atol=3e-2, rtol=0)


def test_a_decoder_without_a_shortcut_is_left_alone(processor):
    processor(bfloat16=True)
    model = TinyAutoencoder(encoder_channels=(4,) * 4, decoder_channels=(8, 4, 4, 4))
    lower_decoder(model)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("native", [True, False])
def test_pocket_is_lowered_where_the_processor_has_it(processor, native):
    processor(bfloat16=native)
    pipe = load("pocket", device="cpu")
    assert is_lowered(pipe.transformer) == native
    assert (pipe.vae.decoder["1"].weight.dtype == LOWERED) == native
    assert pipe.codec().dtype == torch.float32


def test_whoever_asks_for_float32_gets_it(processor):
    processor(bfloat16=True)
    pipe = load("pocket", device="cpu", dtype=torch.float32)
    assert not is_lowered(pipe.transformer)
    assert {weight.dtype for weight in pipe.vae.parameters()} == {torch.float32}


def test_nobody_sees_the_difference(processor):
    def frames(native: bool) -> np.ndarray:
        processor(bfloat16=native)
        pipe = load("pocket", device="cpu")
        return pipe(PROMPT, seconds=1, seed=3, output_type="uint8").frames.astype(int)

    difference = np.abs(frames(True) - frames(False))
    assert difference.mean() < 0.5  # of 255 grey levels


@pytest.mark.slow
def test_a_stream_does_not_drift_away_from_the_exact_one():
    fast, exact = load("pocket", device="cpu"), load("pocket", device="cpu", dtype=torch.float32)
    with fast.stream(PROMPT, seconds=60) as ours, exact.stream(PROMPT, seconds=60) as theirs:
        for chunk in range(14):
            a, b = (stream.step().frames.astype(float) for stream in (ours, theirs))
            assert ((a - b) ** 2).mean() < 0.2, chunk  # 55 dB


@pytest.mark.parametrize("flag", ["avx512_bf16", "amx_bf16", None])
def test_the_processor_is_asked(monkeypatch, flag):
    has = {"avx2": True} | ({flag: True} if flag else {})
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    assert native_bfloat16() == (flag is not None)


def through_onednn(features: int, out: int, *, bias: bool = True) -> tuple[nn.Linear, OneDnnLinear]:
    plain = nn.Linear(features, out, bias)
    swapped = OneDnnLinear(features, out, bias)
    swapped.load_state_dict(plain.state_dict())
    return plain, swapped


needs_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN"
)


@needs_onednn
@pytest.mark.parametrize("shape", [(64,), (5, 64), (2, 3, 40, 64), (2, 0, 64)])
@pytest.mark.parametrize("bias", [True, False])
@torch.inference_mode()
def test_results_are_equal_to_rounding(shape, bias):
    plain, swapped = through_onednn(64, 96, bias=bias)
    x = torch.randn(shape)
    torch.testing.assert_close(swapped(x), plain(x), atol=1e-5, rtol=1e-5)


@needs_onednn
@torch.inference_mode()
def test_inputs_need_not_be_contiguous():
    plain, swapped = through_onednn(64, 96)
    x = torch.randn(3, 64, 50).transpose(1, 2)
    torch.testing.assert_close(swapped(x), plain(x), atol=1e-5, rtol=1e-5)


def test_gradients_take_torch_own_way():
    _, layer = through_onednn(8, 4)
    x = torch.randn(3, 8)
    layer(x).sum().backward()
    torch.testing.assert_close(layer.weight.grad, x.sum(0).expand(4, 8))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@torch.inference_mode()
def test_other_types_take_torch_own_way(dtype):
    plain, layer = through_onednn(8, 4)
    x = torch.randn(3, 8, dtype=dtype)
    assert torch.equal(layer.to(dtype)(x), plain.to(dtype)(x))


@torch.inference_mode()
def test_other_devices_are_left_alone():
    layer = OneDnnLinear(8, 4, device="meta")
    assert layer(torch.empty(3, 8, device="meta")).shape == (3, 4)


@needs_onednn
@torch.inference_mode()
def test_a_transformer_is_swapped_but_for_its_prompts(transformer, processor):
    processor(bfloat16=False, onednn=True)
    swapped = deepcopy(transformer)
    use_onednn(swapped)
    assert list(swapped.state_dict()) == list(transformer.state_dict())
    assert isinstance(swapped.proj_out, OneDnnLinear) and not is_lowered(swapped)
    text = torch.randn(1, transformer.config.text_length, 16)
    exact, actual = transformer.encode_text(text), swapped.encode_text(text)
    assert all(torch.equal(a, b) for a, b in zip(exact.keys, actual.keys, strict=True))
    latents, times = torch.randn(1, 3, 8, 4, 4), torch.full((1, 3), 0.5)
    expected, made = transformer(latents, times, exact), swapped(latents, times, actual)
    torch.testing.assert_close(made, expected, atol=1e-4, rtol=1e-4)
