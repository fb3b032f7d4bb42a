"""Laws that hold for every sampler, whatever the weights."""

import dataclasses
import json
from typing import get_args

import numpy as np
import pytest
import torch

from causvid.generation.config import GenerationConfig, SamplerName
from causvid.generation.generator import Generator, Memory, seeded_noise
from causvid.generation.geometry import ChunkPattern, LatentGrid
from causvid.generation.prompts import PromptSchedule
from causvid.generation.sampler import SAMPLERS, new_sampler
from causvid.generation.schedule import Level
from causvid.generation.source import VideoSource, to_frames
from causvid.generation.stream import Stream, StreamInterrupted
from causvid.model.codec import TinyCodec
from causvid.model.transformer import CausalWanTransformer
from causvid.pipeline import CausVidPipeline, make_generator
from causvid.presets.catalogue import POCKET
from tests.conftest import TEXT_LENGTH, randomise

# What each is run with here, different from the fixture `config`: 1, 3, 3, … chunks, two steps.
SETTINGS = {
    "chunk": {},
    "blended sink": {"sampler": "chunk", "sink_decay": 0.9},
    "recompute": {"window": 6, "sink": 0},
    "rolling": {"window": 14, "sink": 1, "timesteps": (1000.0, 750.0, 500.0)},
    "history": {"sink": 1},
    "history, blended sink": {"sampler": "history", "sink": 1, "sink_decay": 0.9},
}
STORY = "0s: a red car\n3s [blend:3]: a blue ball\n6s [recache]: a green boat\n9s [flush]: a car"


def picture(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (32, 48, 3), dtype=np.uint8)


def frames_of(stream, count=None):
    chunks = []
    while (count is None or len(chunks) < count) and (chunk := stream.step()) is not None:
        chunks.append(chunk.frames)
    return np.concatenate(chunks)


@pytest.fixture(
    params=[
        pytest.param(name, marks=pytest.mark.slow if "blended" in name else ()) for name in SETTINGS
    ]
)
def maker(request, transformer, config) -> Generator:
    """A generator for each sampler, and for a sink that is blended."""
    changed = dataclasses.replace(config, **{"sampler": request.param, **SETTINGS[request.param]})
    return Generator(transformer, changed, LatentGrid(32, 48, patch=1))


@pytest.fixture
def begin(maker, open_stream):
    """Opens a stream of the sampler."""
    return lambda prompt="a red car", **options: open_stream(prompt, generator=maker, **options)


@pytest.fixture
def resume(maker, autoencoder, prompt_encoder):
    return lambda data, **options: Stream.resume(
        data, maker, TinyCodec(autoencoder), prompt_encoder, **options
    )


def test_every_name_has_a_sampler():
    assert set(SAMPLERS) == set(get_args(SamplerName))


def test_the_sampler_travels_as_json(maker):
    config = maker.config
    assert GenerationConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_an_unknown_sampler_is_refused():
    with pytest.raises(ValueError, match="'rolling' or 'history', got 'rollin'"):
        GenerationConfig.from_dict({"sampler": "rollin"})


def test_chunks_tile_the_time_axis(begin):
    stream = begin(chunk_count=5)
    sizes = [len(chunk.frames) for chunk in stream]
    assert sizes == [1, 12, 12, 12, 12]
    assert stream.position == 5


def test_a_long_video_begins_with_the_short_one(begin):
    short = frames_of(begin(STORY, chunk_count=6))
    assert np.array_equal(short, frames_of(begin(STORY, chunk_count=9))[: len(short)])


def test_streaming_equals_the_whole_clip_at_once(begin, autoencoder):
    stream = begin(chunk_count=2)
    streamed = frames_of(stream)
    codec = TinyCodec(autoencoder)
    whole = to_frames(codec.decode(stream._sampler.history, codec.start()))
    difference = np.abs(whole.astype(int) - streamed.astype(int))
    assert difference.max() <= 1  # rounding to 8 bits after sums in another order


def test_seeds_and_prompts_matter_and_nothing_else_does(begin):
    first = frames_of(begin(seed=5, chunk_count=4))
    assert np.array_equal(first, frames_of(begin(seed=5, chunk_count=4)))
    assert not np.array_equal(first, frames_of(begin(seed=6, chunk_count=4)))
    assert not np.array_equal(first, frames_of(begin("a blue ball", seed=5, chunk_count=4)))


def test_interleaved_streams_do_not_know_of_each_other(begin):
    alone = [frames_of(begin(seed=seed, chunk_count=5)) for seed in (1, 2)]
    streams = [begin(seed=seed) for seed in (1, 2)]
    parts = [[stream.step().frames for stream in streams] for _ in range(5)]
    for one, whole in zip(zip(*parts, strict=True), alone, strict=True):
        assert np.array_equal(np.concatenate(one), whole)


def test_a_snapshot_resumes_bit_for_bit(begin, resume):
    whole = [chunk.frames for chunk in begin(STORY, chunk_count=9)]
    stream = begin(STORY, chunk_count=9)
    for k in range(9):
        assert np.array_equal(resume(stream.snapshot()).step().frames, whole[k]), k
        stream.step()


def test_an_ended_stream_can_be_extended(begin):
    whole = frames_of(begin(chunk_count=6))
    stream = begin(chunk_count=4)
    part = frames_of(stream)
    stream.extend(seconds=2.5)
    assert np.array_equal(np.concatenate([part, frames_of(stream)]), whole)


def test_a_branch_leaves_its_origin_alone(begin, resume):
    whole = frames_of(begin(chunk_count=7))
    stream = begin(chunk_count=7)
    part = frames_of(stream, 3)
    branch = resume(stream.snapshot())
    branch.steer("a blue ball", "recache")
    assert not np.array_equal(frames_of(branch), whole[len(part) :])
    assert np.array_equal(frames_of(stream), whole[len(part) :])


@pytest.mark.parametrize("handover", ["swap", "recache", "flush", "blend:2"])
def test_steering_says_from_which_chunk_on_and_equals_the_schedule_it_writes(
    begin, maker, handover
):
    plain = [chunk.frames for chunk in begin(chunk_count=9)]
    stream = begin(chunk_count=9)
    made = [stream.step() for _ in range(4)]
    first = stream.steer("a blue ball at night", handover)
    made += list(stream)
    assert first == 4 + maker.config.lead
    for chunk, before in zip(made[:4], plain, strict=False):
        assert np.array_equal(chunk.frames, before)
    # chunks that were begun under the old prompt are finished under the new one
    assert all(not np.array_equal(a.frames, b) for a, b in zip(made[4:], plain[4:], strict=True))
    assert [chunk.handover is not None for chunk in made] == [k == first for k in range(9)]
    assert made[first - 1].prompt == "a red car" and made[first].prompt == "a blue ball at night"
    planned = begin(stream.schedule.to_text(), chunk_count=9)
    assert np.array_equal(np.concatenate([c.frames for c in made]), frames_of(planned))


def test_an_image_is_the_first_chunk(begin, resume):
    stream = begin(image=picture(), chunk_count=4)
    first = stream.step()
    assert len(first.frames) == 1
    data = stream.snapshot()
    rest = frames_of(stream)
    assert np.array_equal(frames_of(resume(data)), rest)
    other = frames_of(begin(image=picture(1), chunk_count=4))
    assert not np.array_equal(rest, other[1:])


@pytest.mark.parametrize("strength", [0.3, 0.6, 1.0])
def test_a_source_video_is_used_or_refused(begin, maker, resume, strength):
    def source(seed=0):
        return VideoSource((picture(seed + k) for k in range(49)), strength=strength)

    if not SAMPLERS[maker.config.sampler].takes_source:
        with pytest.raises(ValueError, match="cannot start from a source video: use a model"):
            begin(source=source())
        return
    whole = frames_of(begin(source=source()))
    stream = begin(source=source())
    part = frames_of(stream, 2)
    rest = frames_of(resume(stream.snapshot(), source=source()))
    assert np.array_equal(np.concatenate([part, rest]), whole)
    assert np.array_equal(frames_of(begin(source=source(seed=100))), whole) == (strength == 1)


@pytest.mark.slow
def test_an_interrupted_chunk_can_be_made_again_after_any_pass(begin, monkeypatch):
    whole = [chunk.frames for chunk in begin(STORY, chunk_count=6)]
    predict = Generator.predict_clean

    def run(at):
        stream, calls = begin(STORY, chunk_count=6), []

        def counted(*args, **kwargs):
            calls.append(1)
            if len(calls) == at:
                stream.interrupt()
            return predict(*args, **kwargs)

        monkeypatch.setattr(Generator, "predict_clean", counted)
        frames = []
        while len(frames) < 6:
            position = stream.position
            try:
                frames.append(stream.step().frames)
            except StreamInterrupted:
                assert stream.position == position
                assert len(calls) <= at + 1  # the pass at hand was the last, but for a recache
        monkeypatch.undo()
        return np.concatenate(frames), len(calls)

    _, passes = run(at=0)
    for at in range(1, passes, 3):
        assert np.array_equal(run(at)[0], np.concatenate(whole)), at


def test_passes_are_those_that_it_takes(begin, maker, monkeypatch):
    taken = []
    predict = Generator.predict_clean

    def counted(generator, noisy, level, memory):
        visible = memory.cache.visible
        rows = visible.stop - visible.start
        taken.append((noisy.shape[1], rows // memory.cache.tokens_per_frame))
        return predict(generator, noisy, level, memory)

    monkeypatch.setattr(Generator, "predict_clean", counted)
    stream = begin()
    for chunk in range(7):
        taken.clear()
        stream.step()
        assert taken == SAMPLERS[maker.config.sampler].passes(maker.config, chunk), chunk


def test_memory_does_not_grow(begin):
    stream = begin()
    frames_of(stream, 8)
    addresses = [t.data_ptr() for cache in stream._sampler.caches for t in cache.keys]
    size = len(stream.snapshot())
    frames_of(stream, 30)
    assert addresses == [t.data_ptr() for cache in stream._sampler.caches for t in cache.keys]
    assert abs(len(stream.snapshot()) - size) < 200  # the counters' digits


def levels_asked(generator, sampler, text, chunk, monkeypatch):
    """The time told for every frame in each pass of one call."""
    asked, predict = [], Generator.predict_clean

    def spy(generator, noisy, level, memory):
        levels = [level] * noisy.shape[1] if isinstance(level, Level) else level
        asked.append([it.time for it in levels])
        return predict(generator, noisy, level, memory)

    with monkeypatch.context() as patch:
        patch.setattr(Generator, "predict_clean", spy)
        latents = sampler.next(chunk, text, noise_of(generator))
        sampler.settle()
    return asked, latents


def noise_of(generator):
    return lambda chunk, step: seeded_noise(
        0, chunk, step, generator.chunk_shape(chunk), generator.device
    )


class TestRolling:
    @pytest.fixture
    def maker(self, transformer, config):
        changed = dataclasses.replace(
            config,
            sampler="rolling",
            timesteps=(1000.0, 800.0, 600.0, 400.0, 200.0),
            window=21,
            sink=3,
            chunks=ChunkPattern(3, 3),
        )
        return Generator(transformer, changed, LatentGrid(32, 48, patch=1))

    @torch.no_grad()
    def test_five_sub_windows_rise_and_one_clean_chunk_leaves(
        self, maker, prompt_encoder, monkeypatch
    ):
        sampler, text = new_sampler(maker), maker.encode_text(prompt_encoder("a car"))
        times = [level.time for level in maker.config.levels(0)]
        for chunk in range(8):
            asked, latents = levels_asked(maker, sampler, text, chunk, monkeypatch)
            oldest = max(0, chunk - 4)
            wide = [times[chunk - k] for k in range(oldest, chunk + 1) for _ in range(3)]
            assert asked[0] == wide
            if chunk < 4:
                assert latents is None and len(asked) == 1
            else:
                assert latents.shape[1] == 3 and asked[1:] == [[0.0] * 3]
            assert sampler.begun == chunk + 1

    @torch.no_grad()
    def test_the_sink_is_rotated_to_just_before_the_oldest_frame_in_view(
        self, maker, prompt_encoder
    ):
        sampler, text = new_sampler(maker), maker.encode_text(prompt_encoder("a car"))
        for chunk in range(12):
            sampler.next(chunk, text, noise_of(maker))
        sampler.settle()
        cache = sampler.cache
        assert cache.cursor == 24
        assert cache._sink_position == 24 - cache.ring - 3 == 15

    @torch.no_grad()
    def test_a_chunk_in_the_making_sees_those_after_it(self, maker, prompt_encoder):
        """Another noise for chunk 4 changes chunk 0, which leaves when chunk 4 has entered."""
        text, plain = maker.encode_text(prompt_encoder("a car")), noise_of(maker)

        def first(noise):
            sampler = new_sampler(maker)
            return [sampler.next(chunk, text, noise) for chunk in range(5)][-1]

        made = first(plain)
        assert torch.equal(made, first(plain))
        other = first(lambda chunk, step: plain(chunk, step) * (-1 if chunk == 4 else 1))
        assert not torch.allclose(made, other, atol=1e-4)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"window": 17}, "the 5 chunks that .* use a window of at least 18"),
            ({"first_chunk_timesteps": (1000.0,)}, "all chunks through the same steps"),
        ],
    )
    def test_settings_that_do_not_suit_it_are_refused(self, maker, open_stream, change, message):
        config = dataclasses.replace(maker.config, **change)
        with pytest.raises(ValueError, match=message):
            open_stream(generator=dataclasses.replace(maker, config=config))


class TestHistory:
    @pytest.fixture
    def maker(self, transformer, config):
        changed = dataclasses.replace(config, sampler="history")  # a sink of 2: chunks 0 and 1
        return Generator(transformer, changed, LatentGrid(32, 48, patch=1))

    @torch.no_grad()
    def test_no_clean_pass_beyond_the_sink(self, maker, prompt_encoder, monkeypatch):
        sampler, text = new_sampler(maker), maker.encode_text(prompt_encoder("a car"))
        times = [level.time for level in maker.config.levels(0)]
        for chunk in range(5):
            asked, _ = levels_asked(maker, sampler, text, chunk, monkeypatch)
            expected = [*times, 0.0] if chunk < 2 else times
            assert asked == [[time] * maker.config.chunks.frames(chunk) for time in expected]

    @torch.no_grad()
    def test_each_step_sees_what_the_same_step_wrote(self, maker, prompt_encoder):
        """The first step's past is the noise itself: what later steps made does not reach it."""
        text, plain = maker.encode_text(prompt_encoder("a car")), noise_of(maker)

        def caches(noise):
            sampler = new_sampler(maker)
            for chunk in range(4):
                sampler.next(chunk, text, noise)
            return [cache.tensors()["storage"] for cache in sampler.caches]

        first, second = caches(plain)
        changed = caches(lambda c, step: plain(c, step) * (-1 if c >= 2 and step == 1 else 1))
        assert torch.equal(first, changed[0])
        assert not torch.equal(second, changed[1])

    @torch.no_grad()
    def test_the_sink_is_clean_and_the_same_for_all_steps(self, maker, prompt_encoder):
        text = maker.encode_text(prompt_encoder("a car"))
        sampler = new_sampler(maker)
        made = [sampler.next(chunk, text, noise_of(maker)) for chunk in range(4)]
        plain, sink = maker.new_cache(), slice(0, 2 * maker.grid.tokens_per_frame)
        for clean in made[:2]:
            plain.open(clean.shape[1])
            maker.remember(clean, Memory(plain, text))
            plain.advance()
        values = plain.tensors()["storage"][:, 1, :, :, sink]
        for cache in sampler.caches:
            assert torch.equal(cache.tensors()["storage"][:, 1, :, :, sink], values)

    def test_steps_of_the_first_chunk_alone_are_refused_without_a_sink(self, maker, open_stream):
        config = dataclasses.replace(maker.config, sink=0, first_chunk_timesteps=(1000.0,))
        with pytest.raises(ValueError, match="a cache for each step"):
            open_stream(generator=dataclasses.replace(maker, config=config))


class TestRecompute:
    @torch.no_grad()
    def test_keys_do_not_carry_what_has_left_the_window(self, transformer, config, prompt_encoder):
        """A chunk depends on the clean frames in view, and on nothing that they were made from."""
        changed = dataclasses.replace(
            config, sampler="recompute", window=6, sink=0, chunks=ChunkPattern(3, 3)
        )
        maker = Generator(transformer, changed, LatentGrid(32, 48, patch=1))
        text, noise = maker.encode_text(prompt_encoder("a car")), noise_of(maker)
        sampler = new_sampler(maker)
        made = [sampler.next(chunk, text, noise) for chunk in range(4)]
        other = new_sampler(maker)
        for chunk in range(3):
            other.take(made[chunk] if chunk == 2 else torch.randn_like(made[0]), text)
        assert torch.equal(other.next(3, text, noise), made[3])

    def test_a_sink_is_refused(self, transformer, config, open_stream):
        changed = dataclasses.replace(config, sampler="recompute")
        maker = Generator(transformer, changed, LatentGrid(32, 48, patch=1))
        with pytest.raises(ValueError, match="keeps no sink, got one of 2"):
            open_stream(generator=maker)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rolling", "history"])
def test_on_pockets_shape_streams_go_on_resume_and_steer(name, prompt_encoder):
    """The size, chunks and codec that users get, with random weights of the transformer."""
    pipe = CausVidPipeline.from_pretrained(POCKET.folder)
    shape = {**pipe.transformer.config, "text_dim": 16, "text_length": TEXT_LENGTH}
    transformer = CausalWanTransformer.from_config(shape).eval().requires_grad_(False)
    randomise(transformer, seed=4)
    changed = {"sampler": name, "window": 14} if name == "rolling" else {"sampler": name}
    config = dataclasses.replace(pipe.generation, **changed)
    generator = make_generator(transformer, pipe.codec(), config)

    def begin(prompt, count):
        schedule = PromptSchedule.parse(prompt)
        return Stream(generator, pipe.codec(), prompt_encoder, schedule, chunk_count=count)

    whole = frames_of(begin("a red car", 8))
    assert whole.shape[1:] == (128, 224, 3)
    stream = begin("a red car", 4)
    short = frames_of(stream)
    assert np.array_equal(short, whole[: len(short)])
    snapshot = stream.snapshot()
    resumed, steered = (
        Stream.resume(snapshot, generator, pipe.codec(), prompt_encoder) for _ in range(2)
    )
    steered.steer("a blue ball", "recache")
    for each in (resumed, steered):
        each.chunk_count = 8
    assert np.array_equal(frames_of(resumed), whole[len(short) :])
    assert not np.array_equal(frames_of(steered), whole[len(short) :])
