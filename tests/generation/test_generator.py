import dataclasses
import json

import pytest
import torch
from torch.testing import assert_close

from causvid.generation.config import GenerationConfig
from causvid.generation.generator import Memory, seeded_noise
from causvid.generation.geometry import ChunkPattern
from causvid.generation.schedule import CLEAN

CPU = torch.device("cpu")


def test_noise_depends_on_seed_chunk_and_step_alone():
    shape = (1, 3, 4, 5, 6)
    torch.manual_seed(0)
    first = seeded_noise(7, 2, 1, shape, CPU)
    torch.randn(100)
    assert torch.equal(first, seeded_noise(7, 2, 1, shape, CPU))
    others = [seeded_noise(*key, shape, CPU) for key in ((8, 2, 1), (7, 3, 1), (7, 2, 2))]
    assert all(not torch.allclose(first, other) for other in others)
    assert abs(first.mean()) < 0.2 and abs(first.std() - 1) < 0.2


def test_negative_and_huge_seeds_are_seeds():
    for seed in (-1, 2**63, 2**64 - 1):
        assert seeded_noise(seed, 0, 0, (4,), CPU).shape == (4,)


def test_settings_travel_as_json():
    config = GenerationConfig(
        timesteps=(1000, 500),
        first_chunk_timesteps=(1000, 750, 500, 250),
        chunks=ChunkPattern(1, 3),
        window=9,
        sink=2,
    )
    assert GenerationConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_the_first_chunk_may_have_its_own_steps():
    config = GenerationConfig(
        timesteps=(1000, 500), first_chunk_timesteps=(1000, 750, 500, 250), shift=5
    )
    assert [round(level.time * 1000, 1) for level in config.levels(0)] == [1000, 937.5, 833.3, 625]
    assert [round(level.time * 1000, 1) for level in config.levels(1)] == [1000, 833.3]


@pytest.mark.parametrize("steps", [1, 2, 4, 7])
def test_any_number_of_steps_starts_at_pure_noise(steps):
    levels = GenerationConfig().with_steps(steps).levels(3)
    assert len(levels) == steps
    assert levels[0].sigma == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"timesteps": ()}, "must fall"),
        ({"timesteps": (500, 750)}, "must fall"),
        ({"timesteps": (1000, 0)}, "above 0"),
        ({"window": 4, "sink": 2}, "cannot hold a sink of 2 and a chunk of 3"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        GenerationConfig(**settings)


def test_unknown_settings_are_named():
    with pytest.raises(ValueError, match="unknown generation settings stpes"):
        GenerationConfig.from_dict({"stpes": 4})


def test_steps_out_of_range_are_refused():
    with pytest.raises(ValueError, match="1 … 50, got 0"):
        GenerationConfig().with_steps(0)


def test_each_step_is_asked_at_its_level_and_the_clean_pass_comes_last(generator, prompt_encoder):
    asked = []

    class Spy:
        config, dtype, device = generator.transformer.config, torch.float32, CPU

        def __call__(self, x, times, text, *, memory):
            asked.append(times.unique().item())
            return torch.zeros_like(x)

    text = generator.encode_text(prompt_encoder("a car"))
    cache = generator.new_cache()
    cache.open(1)
    spied = dataclasses.replace(generator, transformer=Spy())
    noise = torch.randn(generator.chunk_shape(0))
    clean = spied.denoise(
        generator.config.levels(0), lambda step: noise * (step == 0), Memory(cache, text)
    )
    assert asked == [*(level.time for level in generator.config.levels(0)), CLEAN.time]
    # a velocity of zero calls the noisy input clean; renoising then scales it down
    assert_close(clean, noise * (1 - generator.config.levels(0)[1].sigma))


def test_levels_may_be_given_for_every_frame(generator, prompt_encoder):
    memory = Memory(generator.new_cache(), generator.encode_text(prompt_encoder("a car")))
    noise = torch.randn(generator.chunk_shape(1))
    high, low = generator.config.levels(1)

    def predicted(levels):
        memory.cache.open(3)
        with torch.inference_mode():
            return generator.predict_clean(noise, levels, memory)

    assert torch.equal(predicted([high] * 3), predicted(high))
    mixed = predicted([low, low, high])
    assert not torch.allclose(mixed, predicted(high)) and not torch.allclose(mixed, predicted(low))


def test_strength_starts_at_its_own_level_and_keeps_the_remaining_ones(generator):
    levels = generator.source_levels(0.9, 1)
    assert levels[0].sigma == levels[0].time == 0.9
    assert levels[1:] == tuple(x for x in generator.config.levels(1) if x.sigma < 0.9)
    assert generator.source_levels(1.0, 1)[0].sigma == 1


@pytest.mark.parametrize("strength", [0, -0.1, 1.1])
def test_a_strength_off_the_scale_is_refused(generator, strength):
    with pytest.raises(ValueError, match=r"\(0, 1\]"):
        generator.source_levels(strength, 0)


def test_a_recache_of_the_last_frame_forgets_what_lies_between_it_and_the_sink(generator, config):
    """Two pasts that differ there alone: one future, or two if the window is rebuilt."""
    draw = torch.Generator().manual_seed(5)
    model = generator.transformer.config
    past = torch.randn((1, 10, model.in_channels, 4, 6), generator=draw)
    other = past.clone()
    other[:, 4:-1] += 1  # not the chunk that the sink ends in: its frames see each other
    noise = torch.randn((1, 3, model.in_channels, 4, 6), generator=draw)
    words = [torch.randn((1, model.text_length, model.text_dim), generator=draw) for _ in range(2)]

    def future(kept, history):
        maker = dataclasses.replace(
            generator, config=dataclasses.replace(config, recache_past=kept)
        )
        cache, (before, after) = maker.new_cache(), map(maker.encode_text, words)
        for clean in history.split(config.chunks.sizes(10), dim=1):
            cache.open(clean.shape[1])
            maker.remember(clean, Memory(cache, before))
            cache.advance()
        maker.recache(history, Memory(cache, after))
        cache.open(3)
        return maker.predict_clean(noise, config.levels(4)[0], Memory(cache, after))

    with torch.inference_mode():
        assert torch.equal(future("last", past), future("last", other))
        assert not torch.equal(future("window", past), future("window", other))
    with pytest.raises(ValueError, match="recache_past is 'window' or 'last', got 'none'"):
        dataclasses.replace(config, recache_past="none")
