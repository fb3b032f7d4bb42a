import dataclasses
import threading

import numpy as np
import pytest
import torch

from causvid.generation.generator import Generator, Memory
from causvid.generation.geometry import ChunkPattern, LatentGrid
from causvid.generation.snapshot import unpack
from causvid.generation.source import VideoSource, to_frames, to_pixels
from causvid.generation.stream import Stream, StreamClosed
from causvid.model.codec import TinyCodec


def frames_of(stream, count=None):
    chunks = []
    while count is None or len(chunks) < count:
        chunk = stream.step()
        if chunk is None:
            break
        chunks.append(chunk.frames)
    return np.concatenate(chunks)


def picture(seed=0, size=(32, 48)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def test_chunks_tile_the_time_axis(open_stream):
    end, frame = 0.0, 0
    for index, chunk in enumerate(open_stream(chunk_count=4)):
        assert chunk.index == index
        assert chunk.first_frame == frame
        assert chunk.start == pytest.approx(end)
        assert chunk.frames.dtype == np.uint8
        assert chunk.frames.shape == (1 if index == 0 else 12, 32, 48, 3)
        end, frame = chunk.end, frame + len(chunk.frames)
    assert index == 3
    assert end == pytest.approx(37 / 8)


def test_the_same_seed_gives_the_same_frames_and_another_seed_others(open_stream):
    first = frames_of(open_stream(seed=5, chunk_count=3))
    assert np.array_equal(first, frames_of(open_stream(seed=5, chunk_count=3)))
    assert not np.array_equal(first, frames_of(open_stream(seed=6, chunk_count=3)))


def test_a_long_video_begins_with_the_short_one(open_stream):
    short = frames_of(open_stream(chunk_count=2))
    assert np.array_equal(short, frames_of(open_stream(chunk_count=6))[: len(short)])


def test_two_interleaved_streams_equal_two_separate_ones(open_stream):
    alone = [
        frames_of(open_stream(p, seed=s, chunk_count=5)) for p, s in (("a car", 1), ("a ball", 2))
    ]
    one, two = open_stream("a car", seed=1), open_stream("a ball", seed=2)
    parts = [[], []]
    for _ in range(5):
        for stream, part in zip((one, two), parts, strict=True):
            part.append(stream.step().frames)
    assert np.array_equal(np.concatenate(parts[0]), alone[0])
    assert np.array_equal(np.concatenate(parts[1]), alone[1])


def test_streaming_equals_the_whole_clip_at_once(
    generator, open_stream, autoencoder, prompt_encoder
):
    """Within the window, decoding the latents of all chunks in one call gives the same frames."""

    stream = open_stream(chunk_count=3)
    streamed = frames_of(stream)
    codec = TinyCodec(autoencoder)
    whole = to_frames(codec.decode(stream._sampler.history, codec.start()))
    difference = np.abs(whole.astype(int) - streamed.astype(int))
    assert difference.max() <= 1  # rounding to 8 bits after sums in another order


def test_a_prompt_matters(open_stream):
    assert not np.array_equal(
        frames_of(open_stream("a red car", chunk_count=1)),
        frames_of(open_stream("a blue ball", chunk_count=1)),
    )


@pytest.mark.parametrize("handover", ["swap", "recache", "flush", "blend:2"])
def test_steering_leaves_earlier_chunks_alone_and_changes_later_ones(open_stream, handover):
    plain = [c.frames for c in open_stream(chunk_count=7)]
    stream = open_stream(chunk_count=7)
    steered = [stream.step() for _ in range(4)]
    assert stream.steer("a blue ball at night", handover) == 4
    steered += list(stream)
    for k in range(4):
        assert np.array_equal(steered[k].frames, plain[k])
    assert not np.array_equal(steered[4].frames, plain[4])
    assert steered[4].prompt == "a blue ball at night"
    assert str(steered[4].handover) == handover
    assert steered[3].handover is None and steered[5].handover is None


@pytest.mark.parametrize("handover", ["swap", "recache", "flush", "blend:2"])
def test_steering_by_hand_equals_the_schedule_it_writes(open_stream, handover):
    stream = open_stream(chunk_count=7)
    parts = [stream.step().frames for _ in range(3)]
    stream.steer("a blue ball", handover)
    parts += [chunk.frames for chunk in stream]
    planned = open_stream(stream.schedule.to_text(), chunk_count=7)
    assert np.array_equal(np.concatenate(parts), frames_of(planned))


def test_hand_overs_differ(open_stream):
    results = {}
    for handover in ("swap", "recache", "flush", "blend:2"):
        stream = open_stream(chunk_count=6)
        for _ in range(4):
            stream.step()
        stream.steer("a blue ball", handover)
        results[handover] = frames_of(stream).tobytes()
    assert len(set(results.values())) == 4


def test_recaching_before_anything_was_evicted_equals_having_had_the_prompt_for_the_past(
    open_stream, generator
):
    """After a recache the keys of the past are those of the new prompt over the old latents."""
    stream = open_stream(chunk_count=4)
    stream.step(), stream.step()
    history = stream._sampler.history.clone()
    stream.steer("a blue ball", "recache")
    stream._prompt(stream.schedule.snapped(generator.timeline), 2)
    recached = stream._sampler.cache.tensors()["storage"]

    cache = generator.new_cache()
    cache.open(4)
    generator.remember(history, Memory(cache, stream._text))
    cache.advance()
    assert torch.equal(recached, cache.tensors()["storage"])


def test_a_snapshot_resumes_bit_for_bit(open_stream, generator, autoencoder, prompt_encoder):

    text = "0s: a red car\n3s [blend:3]: a blue ball\n6s [recache]: a green boat"
    whole = [c.frames for c in open_stream(text, chunk_count=9)]
    stream = open_stream(text, chunk_count=9)
    for k in range(9):
        data = stream.snapshot()
        resumed = Stream.resume(data, generator, TinyCodec(autoencoder), prompt_encoder)
        assert np.array_equal(resumed.step().frames, whole[k]), k
        stream.step()


def test_a_branch_leaves_its_origin_alone(open_stream, generator, autoencoder, prompt_encoder):

    whole = frames_of(open_stream(chunk_count=6))
    stream = open_stream(chunk_count=6)
    part = frames_of(stream, 3)
    branch = Stream.resume(stream.snapshot(), generator, TinyCodec(autoencoder), prompt_encoder)
    branch.steer("a blue ball", "flush")
    assert not np.array_equal(frames_of(branch), whole[len(part) :])
    assert np.array_equal(frames_of(stream), whole[len(part) :])


def test_a_snapshot_of_another_model_is_refused(
    open_stream, generator, autoencoder, prompt_encoder
):

    stream = open_stream(chunk_count=2)
    stream.step()
    other = dataclasses.replace(generator, grid=LatentGrid(48, 32, patch=1))
    with pytest.raises(ValueError, match="height 32, this stream has 48"):
        Stream.resume(stream.snapshot(), other, TinyCodec(autoencoder), prompt_encoder)


@pytest.mark.parametrize("data", [b"", b"nonsense", b"\x10" + b"\x00" * 7 + b'{"a": {"b": 1}} '])
def test_what_is_no_snapshot_is_refused(data):
    with pytest.raises(ValueError, match="not a snapshot"):
        unpack(data)


def test_an_ended_stream_can_be_extended(open_stream):
    whole = frames_of(open_stream(chunk_count=5))
    stream = open_stream(chunk_count=3)
    part = frames_of(stream)
    assert stream.step() is None
    stream.extend(seconds=2.5)
    assert np.array_equal(np.concatenate([part, frames_of(stream)]), whole)


@pytest.mark.parametrize("pattern", [ChunkPattern(1, 3), ChunkPattern(3, 3)])
def test_an_image_is_the_first_chunk(transformer, config, open_stream, autoencoder, pattern):

    generator = Generator(
        transformer, dataclasses.replace(config, chunks=pattern), LatentGrid(32, 48, patch=1)
    )
    image = picture()
    stream = open_stream(generator=generator, image=image, chunk_count=2)
    first, second = stream
    still = np.repeat(image[None], len(first.frames), axis=0)
    codec, state = TinyCodec(autoencoder), TinyCodec(autoencoder).start()
    rebuilt = codec.decode(
        codec.encode(to_pixels(still, generator.device, torch.float32), state), state
    )
    assert np.array_equal(first.frames, to_frames(rebuilt))
    other = list(open_stream(generator=generator, image=picture(1), chunk_count=2))
    assert not np.array_equal(second.frames, other[1].frames)


def test_a_source_video_is_read_chunk_by_chunk_and_ends_the_stream(open_stream):
    read = []

    def source():
        for k in range(1 + 12 + 5):
            read.append(k)
            yield picture(k)

    stream = open_stream(source=VideoSource(source(), strength=0.6))
    chunk = stream.step()
    assert len(read) == 1 and len(chunk.frames) == 1
    assert np.array_equal(chunk.source[0], picture(0))
    stream.step()
    assert len(read) == 13
    last = stream.step()
    assert last.frames.shape == last.source.shape == (5, 32, 48, 3)
    assert stream.step() is None


def test_full_strength_ignores_the_source(open_stream):
    def run(seed):
        source = VideoSource((picture(seed + k) for k in range(13)), strength=1.0)
        return frames_of(open_stream(source=source))

    assert np.array_equal(run(0), run(100))


def test_a_weak_strength_stays_closer_to_the_source_than_a_strong_one(generator, open_stream):
    def latents(strength):
        source = VideoSource([picture(k) for k in range(13)], strength=strength)
        stream = open_stream(source=source)
        frames_of(stream)
        return stream._sampler.history

    nothing = latents(0.001)
    assert (latents(0.1) - nothing).norm() < (latents(0.9) - nothing).norm()


def test_adaptive_strength_falls_where_the_source_moves(open_stream):
    still = VideoSource([picture(0)] * 25, strength=0.7, adaptive=True)
    moving = VideoSource([picture(k) for k in range(25)], strength=0.7, adaptive=True)
    calm = [c.strength for c in open_stream(source=still)]
    lively = [c.strength for c in open_stream(source=moving)]
    assert calm == pytest.approx([0.7] * 3)
    assert lively[1] == pytest.approx(0.61) and lively[2] < 0.61


def test_a_snapshot_of_video_to_video_goes_on_in_its_source(
    open_stream, generator, autoencoder, prompt_encoder
):

    def source():
        return VideoSource((picture(k) for k in range(49)), strength=0.6, adaptive=True)

    whole = frames_of(open_stream(source=source()))
    stream = open_stream(source=source())
    part = frames_of(stream, 2)
    data = stream.snapshot()
    with pytest.raises(ValueError, match="pass its source video"):
        Stream.resume(data, generator, TinyCodec(autoencoder), prompt_encoder)
    resumed = Stream.resume(
        data, generator, TinyCodec(autoencoder), prompt_encoder, source=source()
    )
    assert np.array_equal(frames_of(resumed), whole[len(part) :])


def test_a_closed_stream_says_so(open_stream):
    stream = open_stream()
    stream.step()
    stream.close()
    stream.close()
    for action in (stream.step, stream.snapshot, lambda: stream.steer("a ball")):
        with pytest.raises(StreamClosed, match="open a new one"):
            action()


def test_closing_from_another_thread_stops_within_one_pass(open_stream, monkeypatch):
    stream = open_stream()
    stream.step()
    passes = []
    inside, go_on = threading.Event(), threading.Event()
    predict = Generator.predict_clean

    def slow(*args, **kwargs):
        passes.append(1)
        inside.set()
        go_on.wait(10)
        return predict(*args, **kwargs)

    monkeypatch.setattr(Generator, "predict_clean", slow)
    failure = []

    def work():
        try:
            stream.step()
        except StreamClosed as error:
            failure.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    inside.wait(10)
    closer = threading.Thread(target=stream.close)
    closer.start()
    while not stream.closed:
        pass
    go_on.set()
    worker.join(10), closer.join(10)
    assert failure and len(passes) == 1


def test_a_prompt_sent_while_a_chunk_is_made_waits_for_the_next_one(open_stream, monkeypatch):
    plain = [c.frames for c in open_stream(chunk_count=3)]
    stream = open_stream(chunk_count=3)
    stream.step()
    predict, sent = Generator.predict_clean, []

    def meddle(*args, **kwargs):
        if not sent:
            sent.append(stream.steer("a blue ball", "swap"))
        return predict(*args, **kwargs)

    monkeypatch.setattr(Generator, "predict_clean", meddle)
    assert np.array_equal(stream.step().frames, plain[1])
    assert sent == [2]
    assert not np.array_equal(stream.step().frames, plain[2])


def test_pictures_leave_before_the_pass_that_remembers_them(open_stream, config, monkeypatch):
    asked, predict = [], Generator.predict_clean

    def spy(generator, noisy, level, memory):
        asked.append(level)
        return predict(generator, noisy, level, memory)

    monkeypatch.setattr(Generator, "predict_clean", spy)
    stream, levels = open_stream(chunk_count=2), list(config.levels(0))
    stream.step()
    assert asked == levels
    stream.step()
    assert asked == [*levels, config.context_level, *levels]
    stream.settle()
    assert asked[-1] == config.context_level
    made = len(asked)
    stream.settle()
    stream.snapshot()
    assert len(asked) == made


def test_a_failed_chunk_can_be_made_again(open_stream, monkeypatch):
    def run(fail_at):
        source = VideoSource((picture(k) for k in range(37)), strength=0.6)
        stream = open_stream("0s: a car\n1s [recache]: a ball", source=source)
        predict, calls = Generator.predict_clean, []

        def failing(*args, **kwargs):
            calls.append(1)
            if len(calls) == fail_at:
                raise MemoryError("for a test")
            return predict(*args, **kwargs)

        monkeypatch.setattr(Generator, "predict_clean", failing)
        parts = []
        while True:
            try:
                chunk = stream.step()
            except MemoryError:
                continue
            if chunk is None:
                break
            parts.append(chunk.frames)
        monkeypatch.undo()
        return np.concatenate(parts)

    whole = run(fail_at=0)
    for k in (1, 3, 5, 6, 8):
        assert np.array_equal(run(fail_at=k), whole), k


@pytest.mark.slow
def test_two_thousand_chunks_run_in_constant_memory(open_stream, transformer, config):
    generator = Generator(
        transformer,
        dataclasses.replace(
            config, timesteps=(1000.0,), chunks=ChunkPattern(1, 1), window=4, sink=1
        ),
        LatentGrid(16, 16, patch=1),
    )
    stream = open_stream(generator=generator)
    frames_of(stream, 10)
    cache = stream._sampler.cache
    addresses, kept = [t.data_ptr() for t in (*cache.keys, *cache.values)], cache.nbytes
    size = len(stream.snapshot())
    frames = frames_of(stream, 1990)
    assert stream.position == 2000
    assert [t.data_ptr() for t in (*cache.keys, *cache.values)] == addresses
    assert cache.nbytes == kept
    assert abs(len(stream.snapshot()) - size) < 200  # the counters' digits
    assert np.isfinite(stream._sampler.history.numpy()).all()
    assert len(frames) == 1990 * 4


def test_an_image_must_fit_and_excludes_a_source(open_stream):
    with pytest.raises(ValueError, match=r"\(32, 48, 3\), got \(10, 10, 3\)"):
        open_stream(image=picture(size=(10, 10)))
    with pytest.raises(ValueError, match="not from both"):
        open_stream(image=picture(), source=VideoSource([]))


def test_an_empty_source_makes_an_empty_stream(open_stream):
    assert open_stream(source=VideoSource([])).step() is None


def test_drift_is_relative_to_the_first_chunk(open_stream):
    chunks = list(open_stream(chunk_count=3))
    assert vars(chunks[0].drift) == pytest.approx({"saturation": 1, "contrast": 1, "sharpness": 1})
    assert chunks[2].drift.contrast == pytest.approx(
        chunks[2].looks.contrast / chunks[0].looks.contrast, rel=0.05
    )
