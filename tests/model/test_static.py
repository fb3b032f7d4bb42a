"""A static pass is the pass of its transformer, whatever is in the cache and whatever changes."""

import gc
import weakref
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

from causvid.generation import generator as generators
from causvid.generation.generator import Memory, seeded_noise
from causvid.generation.stream import Stream
from causvid.model import cpu
from causvid.model.codec import TinyCodec
from causvid.model.static import StaticPass, static_pass


def velocity_error(ours, theirs, noisy):
    """Of two clean latents, relative to the velocity."""
    return ((ours - theirs).norm() / (noisy - theirs).norm()).item()


@contextmanager
def by_reference():
    """Passes of the transformer itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generators, "static_pass", lambda model: None)
        yield


def text_of(generator, prompt_encoder, words="a red car"):
    return generator.encode_text(prompt_encoder(words))


@pytest.mark.parametrize(("lowered", "bound"), [(False, 1e-5), (True, 5e-3)])
@torch.no_grad()
def test_it_gives_the_velocities_of_its_transformer_at_every_offset_of_the_ring(
    generator, prompt_encoder, monkeypatch, lowered, bound
):
    generator = replace(generator, config=replace(generator.config, window=9))
    if lowered:
        monkeypatch.setattr(cpu, "native_bfloat16", lambda: True)
        generator = replace(generator, transformer=deepcopy(generator.transformer))
        cpu.lower_transformer(generator.transformer)
    text = text_of(generator, prompt_encoder)
    ours, theirs = generator.new_cache(), generator.new_cache()
    for chunk in range(10):  # chunks of 3 frames begin at each of the ring's 7
        noisy = seeded_noise(0, chunk, 0, generator.chunk_shape(chunk), generator.device)
        level = generator.config.levels(chunk)[chunk % 2]
        for cache in (ours, theirs):
            cache.open(noisy.shape[1])
        made = generator.predict_clean(noisy, level, Memory(ours, text))
        with by_reference():
            expected = generator.predict_clean(noisy, level, Memory(theirs, text))
        assert velocity_error(made, expected, noisy) < bound
        ours.advance()
        theirs.advance()
    for layer in range(2):
        for mine, other in ((ours.keys, theirs.keys), (ours.values, theirs.values)):
            difference = (mine[layer].float() - other[layer].float()).norm()
            assert difference <= 2 * bound * other[layer].float().norm()


@torch.no_grad()
def test_each_frame_may_have_its_level(generator, prompt_encoder):
    text, levels = text_of(generator, prompt_encoder), generator.config.levels(1)
    noisy = seeded_noise(1, 0, 0, generator.chunk_shape(1), generator.device)
    cache = generator.new_cache()
    cache.open(3)
    asked = [levels[0], levels[1], generator.config.context_level]
    made = generator.predict_clean(noisy, asked, Memory(cache, text))
    with by_reference():
        expected = generator.predict_clean(noisy, asked, Memory(cache, text))
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=1e-5)


STORY = "0s: a red car\n1s [recache]: a blue ball\n2s [flush]: a green boat\n3s [blend:1]: a car"


def frames_of(stream, chunks):
    return np.concatenate([stream.step().frames for _ in range(chunks)])


@pytest.mark.parametrize("change", [{}, {"sink_decay": 0.9}, {"sampler": "history"}])
def test_a_stream_is_that_of_the_transformer(open_stream, generator, change):
    maker = replace(generator, config=replace(generator.config, **change))
    made = frames_of(open_stream(STORY, generator=maker), 7)
    with by_reference():
        expected = frames_of(open_stream(STORY, generator=maker), 7)
    difference = (made.astype(float) - expected) ** 2
    assert 10 * np.log10(255**2 / max(difference.mean(), 1e-9)) > 55


@pytest.mark.parametrize("static_first", [True, False])
def test_a_snapshot_of_one_path_goes_on_on_the_other(
    open_stream, generator, autoencoder, prompt_encoder, static_first
):
    def resumed(snapshot):
        stream = Stream.resume(snapshot, generator, TinyCodec(autoencoder), prompt_encoder)
        return frames_of(stream, 3)

    def made():
        stream = open_stream(STORY)
        frames_of(stream, 4)
        return stream.snapshot()

    if static_first:
        snapshot = made()
        with by_reference():
            there = resumed(snapshot)
    else:
        with by_reference():
            snapshot = made()
        there = resumed(snapshot)
    whole = frames_of(open_stream(STORY), 7)[-len(there) :]
    assert ((there.astype(float) - whole) ** 2).mean() < 0.2  # 55 dB


@torch.no_grad()
def test_another_is_built_when_weights_or_kernels_change(transformer):
    model = deepcopy(transformer)
    first = static_pass(model)
    assert static_pass(model) is first
    model.blocks[0].attn1.to_q.weight.mul_(1.5)
    second = static_pass(model)
    assert second is not first and static_pass(model) is second
    model.set_attention_backend("_native_math")
    third = static_pass(model)
    assert third is not second
    model.double()
    assert static_pass(model).dtype == torch.float64
    model.blocks[0].ffn.net[2].register_forward_hook(lambda *_: None)
    assert static_pass(model) is not None  # a hook of nobody's changes no parameters


@torch.no_grad()
def test_an_adapter_is_in_it_and_leaves_it(generator, prompt_encoder):
    from peft import LoraConfig

    model = deepcopy(generator.transformer)
    maker = replace(generator, transformer=model)
    text = text_of(maker, prompt_encoder)
    noisy = seeded_noise(1, 0, 0, maker.chunk_shape(1), maker.device)

    def made():
        cache = maker.new_cache()
        cache.open(3)
        return maker.predict_clean(noisy, maker.config.levels(1)[0], Memory(cache, text))

    plain = made()
    model.add_adapter(LoraConfig(target_modules=["to_q", "to_v", "net.0.proj"], r=2))
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.normal_(std=0.3)
    adapted = made()
    with by_reference():
        torch.testing.assert_close(adapted, made(), atol=1e-4, rtol=1e-4)
    assert velocity_error(adapted, plain, noisy) > 1e-3
    model.disable_adapters()
    torch.testing.assert_close(made(), plain)


def test_what_only_the_transformer_knows_has_none(transformer):
    model = deepcopy(transformer)
    model.enable_layerwise_casting(torch.float8_e4m3fn, torch.float32)
    assert static_pass(model) is None
    assert static_pass(object()) is None


def arguments(static: StaticPass, generator, cache, text):
    noisy = torch.empty(generator.chunk_shape(1), device=generator.device)
    visible = (cache.visible.start, cache.visible.stop)
    tables = static.tables(((0.5, 0.5),), cache.grid)
    stored = (cache.keys, cache.values, cache.slots)
    return (noisy, *tables, text.keys, text.values, cache.rotary, *stored, visible)


@torch.no_grad()
def test_it_is_one_graph_which_serves_every_place_of_the_ring(generator, prompt_encoder):
    static = static_pass(generator.transformer)
    cache, text = generator.new_cache(), text_of(generator, prompt_encoder)
    torch._dynamo.reset()
    counters.clear()
    compiled = torch.compile(static, fullgraph=True, dynamic=False, backend="aot_eager")
    for chunk in range(9):
        cache.open(1 if chunk == 0 else 3)
        if chunk > 2:  # the window is full
            compiled(*arguments(static, generator, cache, text))
        cache.advance()
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]


@pytest.mark.slow
@torch.no_grad()
def test_the_pass_of_the_1_3b_model_is_exported_and_writes_no_whole_cache():
    from causvid.benchmark.counts import full_size
    from causvid.presets.catalogue import PRESETS

    generator = full_size(PRESETS["self-forcing"])
    static, cache = static_pass(generator.transformer), generator.new_cache()
    config = generator.transformer.config
    empty = torch.empty(1, config.text_length, config.text_dim, device="meta")
    text = generator.transformer.encode_text(empty)
    cache.open(generator.config.chunks.rest)
    program = torch.export.export(static, arguments(static, generator, cache, text))
    program = program.run_decompositions({})
    whole = cache.keys[0].numel()
    layers = config.num_layers
    written = [
        node
        for node in program.graph.nodes
        if node.op == "call_function" and getattr(node.meta.get("val"), "numel", int)() >= whole
    ]
    # Each is one layer's tensor, updated in place once the graph is compiled.
    assert {str(node.target) for node in written} <= {"aten.index_copy.default"}
    assert len(written) == 2 * layers


def test_nobody_keeps_a_transformer_that_is_let_go(transformer):
    model = deepcopy(transformer)
    static_pass(model).tables(((0.5, 0.5),), (2, 3))
    kept = weakref.ref(model)
    del model
    gc.collect()
    assert kept() is None
