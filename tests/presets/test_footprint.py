"""Formulas agree with runs on `meta`, where a full-size model costs nothing."""

import dataclasses

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import causvid.model.attention
from causvid.generation.config import GenerationConfig
from causvid.generation.generator import Generator
from causvid.generation.geometry import LatentGrid, Size
from causvid.generation.sampler import new_sampler
from causvid.model.cache import KVCache
from causvid.model.codec import TinyCodec
from causvid.model.tiny_autoencoder import TinyAutoencoder
from causvid.model.transformer import CausalWanTransformer
from causvid.presets.catalogue import PRESETS
from causvid.presets.costs import (
    LiveBytes,
    cache_bytes,
    codec_costs,
    empty_models,
    prompt_flops,
    transformer_flops,
    transformer_working_bytes,
    weight_bytes,
)
from causvid.presets.preset import TransformerSize

GRID = LatentGrid(480, 832)
PRESET = PRESETS["self-forcing"]
SIZES = {"1.3b": TransformerSize(), "14b": PRESETS["krea-14b"].transformer}


def two_layers(size: TransformerSize, **changes) -> CausalWanTransformer:
    config = {**dataclasses.asdict(size), "num_layers": 2, **changes}
    with torch.device("meta"):
        return CausalWanTransformer(**config)


def cached_pass(model, frames: int, visible: int):
    """A pass over the newest `frames` of `visible`, to be run; text and cache exist already."""
    config, grid = model.config, LatentGrid(480, 832, patch=model.config.patch_size[1])
    cache = KVCache(
        num_layers=config.num_layers,
        batch=1,
        heads=config.num_attention_heads,
        head_dim=config.attention_head_dim,
        grid=grid.tokens,
        window=visible,
        device="meta",
        dtype=model.dtype,
    )
    cache.open(visible)
    cache.advance()
    cache.open(frames)
    with torch.no_grad():
        text = model.encode_text(
            torch.empty(1, config.text_length, config.text_dim, device="meta", dtype=model.dtype)
        )
    latents = torch.empty(
        1, frames, config.in_channels, grid.latent_height, grid.latent_width, device="meta"
    )
    times = torch.empty(1, frames, dtype=torch.float64, device="meta")
    held = [*cache.keys, *cache.values, *text.keys, *text.values, latents, times]
    return held, torch.no_grad()(lambda: model(latents, times, text, memory=cache))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("frames", "visible"), [(3, 3), (3, 21), (1, 6)])
def test_operations_of_a_pass_equal_the_counted_ones(size, frames, visible):
    model = two_layers(SIZES[size])
    _, run = cached_pass(model, frames, visible)
    with FlopCounterMode(display=False) as counter:
        run()
    expected = transformer_flops(model, GRID, frames, visible)
    assert counter.get_total_flops() == expected


def test_position_features_are_counted_too():
    model = two_layers(TransformerSize(), patch_size=(1, 1, 1), position_features=18)
    _, run = cached_pass(model, 3, 6)
    with FlopCounterMode(display=False) as counter:
        run()
    grid = dataclasses.replace(GRID, patch=1)
    assert counter.get_total_flops() == transformer_flops(model, grid, 3, 6)


def test_operations_of_a_prompt_equal_the_counted_ones():
    model = two_layers(TransformerSize())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.encode_text(torch.empty(1, 512, 4096, device="meta"))
    assert counter.get_total_flops() == prompt_flops(model)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize(
    "size", [*SIZES.values(), TransformerSize(ffn_dim=1536)], ids=[*SIZES, "narrow"]
)
def test_working_memory_is_bounded_within_a_factor_of_two(size, dtype, monkeypatch):
    # On `meta` there is no fused attention kernel; it would need its result and nothing else.
    monkeypatch.setattr(
        causvid.model.attention,
        "dispatch_attention_fn",
        lambda query, keys, values, **_: torch.empty_like(query),
    )
    model = torch.nn.Module.to(two_layers(size), dtype)
    held, run = cached_pass(model, 3, 21)
    start = sum(tensor.nbytes for tensor in held)
    with LiveBytes(held) as live:
        run()
    needed = live.peak - start
    assert needed < transformer_working_bytes(model, GRID, 3, dtype) < 2 * needed


class TestLiveBytes:
    def test_the_peak_counts_what_lives_at_once(self):
        with LiveBytes([]) as live:
            a = torch.empty(1000, device="meta")
            b = a + 1  # two alive
            del a
            c = b + 1  # still two
            del b, c
            torch.empty(500, device="meta")
        assert (live.peak, live.now) == (8000, 0)

    def test_views_and_what_was_there_before_cost_nothing(self):
        weight = torch.empty(10, 10, device="meta")
        with LiveBytes([]) as live:
            weight.t().reshape(100)[:50].view(5, 10)  # the reshape copies
        assert live.peak == 400

    def test_what_is_held_counts_until_it_is_dropped(self):
        held = [torch.empty(100, device="meta")]
        with LiveBytes(held) as live:
            held.clear()
            torch.empty(50, device="meta")
        assert (live.peak, live.now) == (400, 0)


def test_released_sizes_are_counted_as_published():
    models = empty_models(PRESET)
    assert weight_bytes(models.transformer, torch.float32) == 4 * 1_418_996_800
    # The released file of the text encoder holds 11.36 GB of bfloat16.
    assert weight_bytes(models.text_encoder, torch.bfloat16) == pytest.approx(11.36e9, rel=1e-3)


def test_modules_kept_in_float32_count_as_such():
    model = empty_models(PRESET).transformer
    tables = sum(p.numel() for name, p in model.named_parameters() if "table" in name)
    embedder = sum(p.numel() for p in model.condition_embedder.time_embedder.parameters())
    extra = 2 * (tables + embedder)
    assert weight_bytes(model, torch.bfloat16) == 2 * 1_418_996_800 + extra


@pytest.mark.parametrize(
    ("sampler", "window", "sink"),
    [
        ("chunk", 9, 0),
        ("chunk", 9, 3),
        ("recompute", 9, 0),
        ("rolling", 18, 3),
        ("history", 9, 0),
        ("history", 9, 3),
    ],
)
def test_cache_bytes_are_those_of_real_caches(sampler, window, sink):
    model = CausalWanTransformer(
        num_layers=2, num_attention_heads=2, attention_head_dim=12, ffn_dim=8, text_length=4
    )
    config = GenerationConfig(sampler=sampler, window=window, sink=sink)
    generator = Generator(model, config, LatentGrid(32, 48))
    caches = new_sampler(generator).caches
    for cache in caches:
        for chunk in range(2):
            cache.open(config.chunks.frames(chunk))
            cache.advance()
    held = sum(cache.nbytes for cache in caches)
    text = 2 * 2 * 4 * 24 * 4
    with torch.device("meta"):
        empty = dataclasses.replace(
            generator, transformer=CausalWanTransformer.from_config(model.config)
        )
    assert cache_bytes(empty, torch.float32) == held + text


class TestCodec:
    SMALL = Size(64, 96)

    def test_only_bytes_depend_on_the_dtype(self):
        half = codec_costs(PRESET, "tiny", self.SMALL, torch.bfloat16, False)[1]
        single = codec_costs(PRESET, "tiny", self.SMALL, torch.float32, False)[1]
        assert half.flops == single.flops
        assert 2 * half.state_bytes == single.state_bytes

    def test_state_bytes_are_those_of_a_real_stream(self):
        codec = TinyCodec(TinyAutoencoder())
        state = codec.start()
        codec.decode(torch.zeros(1, 3, 16, 8, 12), state)
        kept = sum(value.nbytes for value in state.decoder.memory.values())
        _, later = codec_costs(PRESET, "tiny", self.SMALL, torch.float32, False)
        assert later.state_bytes == kept

    def test_the_tiny_decoder_needs_less_of_everything(self):
        full = codec_costs(PRESET, "full", self.SMALL, torch.bfloat16, False)[1]
        tiny = codec_costs(PRESET, "tiny", self.SMALL, torch.bfloat16, False)[1]
        assert all(a < b for a, b in zip(tiny, full, strict=True))

    def test_encoding_a_source_adds_to_the_costs(self):
        without = codec_costs(PRESET, "tiny", self.SMALL, torch.bfloat16, False)[1]
        with_source = codec_costs(PRESET, "tiny", self.SMALL, torch.bfloat16, True)[1]
        assert with_source.flops > without.flops
        assert with_source.state_bytes > without.state_bytes
