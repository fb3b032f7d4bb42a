"""A captured pass gives what the pass gives, whoever had its storage before.

A GPU replays; here a call that writes where it wrote before stands for that.
"""

import gc
import weakref
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

from causvid.generation.prompts import PromptSchedule
from causvid.generation.stream import Stream, StreamInterrupted
from causvid.model import static
from causvid.model.captured import Graph
from causvid.model.codec import TinyCodec
from causvid.model.static import static_pass

STORY = "0s: a red car\n1s [recache]: a blue ball\n2s [flush]: a green boat\n3s [blend:1]: a car"


class Replaying:
    """Stands for a GPU: whoever replays sees what lies in the captured tensors then."""

    def __init__(self, *_):
        self.replays, self.on_replay = 0, None

    def __call__(self, run):
        made = run()
        with torch.inference_mode(False):
            result = made.clone()

        def replay():
            self.replays += 1
            if self.on_replay is not None:
                self.on_replay()
            result.copy_(run())

        return Graph(replay, result)


@pytest.fixture
def recorder(monkeypatch):
    recorder = Replaying()
    monkeypatch.setattr(static, "OnGpu", lambda device: recorder)
    return recorder


@pytest.fixture
def captured(generator, recorder):
    """The generator, its passes captured."""
    transformer = deepcopy(generator.transformer)
    transformer.passes = "captured"
    return replace(generator, transformer=transformer)


@pytest.fixture
def opened(autoencoder, prompt_encoder):
    def open_stream(generator, schedule=STORY, **options):
        parsed = PromptSchedule.parse(schedule)
        return Stream(
            generator, TinyCodec(autoencoder), prompt_encoder, parsed, chunk_count=7, **options
        )

    return open_stream


def frames(stream) -> np.ndarray:
    with stream:
        return np.concatenate([chunk.frames for chunk in stream])


def graphs(generator) -> int:
    return static_pass(generator.transformer).captured.count


def test_a_story_is_the_same(generator, captured, opened, recorder):
    assert np.array_equal(frames(opened(captured)), frames(opened(generator)))
    assert recorder.replays > 10


def test_the_next_viewer_finds_the_graphs_and_nothing_of_the_last(
    generator, captured, opened, recorder
):
    frames(opened(captured, "a red car", seed=1))
    made, before = graphs(captured), recorder.replays
    second = frames(opened(captured, "a green boat", seed=2))
    assert graphs(captured) == made
    assert np.array_equal(second, frames(opened(generator, "a green boat", seed=2)))
    passes = recorder.replays - before
    assert passes == 7 * 2 + 6, "no pass of the second ran uncaptured"


def test_viewers_in_turns_do_not_meet(generator, captured, opened):
    words = ("a red car", "a blue ball")
    alone = [frames(opened(generator, text, seed=seed)) for seed, text in enumerate(words)]
    streams = [opened(captured, text, seed=seed) for seed, text in enumerate(words)]
    parts = list(zip(*streams, strict=True))
    for index, expected in enumerate(alone):
        assert np.array_equal(np.concatenate([pair[index].frames for pair in parts]), expected)


def test_a_pass_under_inference_mode_leaves_a_storage_that_others_can_use(
    generator, captured, opened
):
    with torch.inference_mode():
        frames(opened(captured))
    assert np.array_equal(frames(opened(captured)), frames(opened(generator)))


def test_other_weights_are_captured_anew(generator, captured, opened):
    stream = opened(captured)
    parts = [stream.step().frames for _ in range(4)]
    with torch.no_grad():
        captured.transformer.proj_out.weight.mul_(1.5)
    parts += [chunk.frames for chunk in stream]
    plain = replace(generator, transformer=deepcopy(generator.transformer))
    expected = opened(plain)
    whole = [expected.step().frames for _ in range(4)]
    with torch.no_grad():
        plain.transformer.proj_out.weight.mul_(1.5)
    whole += [chunk.frames for chunk in expected]
    assert np.array_equal(np.concatenate(parts), np.concatenate(whole))


def test_a_stream_is_interrupted_between_two_replays(captured, opened, recorder):
    frames(opened(captured))
    stream = opened(captured)
    expected = frames(opened(captured))
    before = recorder.replays
    recorder.on_replay = stream.interrupt
    with pytest.raises(StreamInterrupted):
        stream.step()
    assert recorder.replays == before + 1
    recorder.on_replay = None
    assert np.array_equal(frames(stream), expected)


def test_where_nothing_can_be_captured_passes_run_as_they_are(
    generator, captured, opened, monkeypatch
):
    def refuse(device):
        def capture(run):
            raise RuntimeError("operation not permitted when stream is capturing\nmore")

        return capture

    monkeypatch.setattr(static, "OnGpu", refuse)
    assert np.array_equal(frames(opened(captured)), frames(opened(generator)))
    refused = static_pass(captured.transformer).captured.refused
    assert refused == "operation not permitted when stream is capturing"
    assert graphs(captured) == 0


def test_storages_of_another_size_are_let_go(captured):
    pool = static_pass(captured.transformer).captured.pool
    first = captured.new_cache()
    storage = weakref.ref(first.storage)
    del first
    second = captured.new_cache()
    assert second.storage is storage()
    del second
    wider = replace(captured, config=replace(captured.config, window=11))
    cache = wider.new_cache()
    gc.collect()
    assert storage() is None
    assert cache.storage.size.tokens == 11 * cache.tokens_per_frame
    assert not pool._free


def test_nobody_keeps_a_transformer_or_its_storages(captured, opened):
    frames(opened(captured))
    static = static_pass(captured.transformer)
    kept = [weakref.ref(it) for it in (captured.transformer, static, static.captured.pool._free[0])]
    del static
    object.__delattr__(captured, "transformer")
    gc.collect()
    assert [it() for it in kept] == [None] * 3
