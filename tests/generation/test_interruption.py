"""A chunk can be given up between any two layers, and what follows is as if it had not been."""

import numpy as np
import pytest
import torch

import causvid.model.interruption as interruption
from causvid.generation.source import VideoSource
from causvid.generation.stream import Stream, StreamInterrupted
from causvid.model.codec import TinyCodec
from causvid.model.interruption import interruptible, pause

SCHEDULE = "0s: a red car\n0.6s [recache]: a blue ball\n1.2s [flush]: a boat"


def pictures(count: int = 37):
    rng = np.random.default_rng(5)
    return iter(rng.integers(0, 255, (count, 32, 48, 3), np.uint8))


KINDS = {
    "text": dict,
    "image": lambda: {"image": next(pictures())},
    "video": lambda: {"source": VideoSource(pictures(), strength=0.6, adaptive=True)},
}


@pytest.fixture
def open_kind(open_stream):
    def open_(kind: str) -> Stream:
        return open_stream(SCHEDULE, chunk_count=5, **KINDS[kind]())

    return open_


class Interrupter:
    """Interrupts the stream at one of its pauses, and counts those that follow."""

    def __init__(self, monkeypatch, stream: Stream, at: int):
        self.count = 0

        def check():
            self.count += 1
            if self.count == at:
                stream.interrupt()
            stream_check()

        stream_check = stream._check
        monkeypatch.setattr(stream, "_check", check)


def made(stream: Stream) -> list[np.ndarray]:
    """All chunks, those that are given up tried again."""
    parts = []
    while True:
        try:
            chunk = stream.step()
        except StreamInterrupted:
            continue
        if chunk is None:
            return parts
        parts.append(chunk.frames)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_that_is_interrupted_anywhere_goes_on_as_if_it_had_not_been(
    open_kind, monkeypatch, kind
):
    whole = np.concatenate(made(open_kind(kind)))
    counted = Interrupter(monkeypatch, stream := open_kind(kind), at=0)
    made(stream)
    assert counted.count > 60
    for at in range(1, counted.count + 1, 31):
        stream = open_kind(kind)
        Interrupter(monkeypatch, stream, at)
        assert np.array_equal(np.concatenate(made(stream)), whole), at


@pytest.mark.parametrize("kind", ["text", "video"])
def test_a_snapshot_of_an_interrupted_chunk_goes_on_as_if_it_had_not_been(
    open_kind, monkeypatch, generator, autoencoder, prompt_encoder, kind
):
    whole = np.concatenate(made(open_kind(kind)))
    at = 9
    while True:
        stream = open_kind(kind)
        Interrupter(monkeypatch, stream, at)
        parts = []
        try:
            while (chunk := stream.step()) is not None:
                parts.append(chunk.frames)
        except StreamInterrupted:
            pass
        else:
            break
        again = Stream.resume(
            stream.snapshot(),
            generator,
            TinyCodec(autoencoder),
            prompt_encoder,
            source=VideoSource(pictures()) if kind == "video" else None,
        )
        assert np.array_equal(np.concatenate([*parts, *made(again)]), whole), at
        at += 23


def test_nothing_begins_after_an_interruption(open_kind, monkeypatch):
    stream = open_kind("text")
    stream.step()
    for at in range(2, 20, 3):
        counted = Interrupter(monkeypatch, stream, at)
        with pytest.raises(StreamInterrupted):
            stream.step()
        monkeypatch.undo()
        assert counted.count == at


def test_a_past_that_is_half_rebuilt_is_rebuilt_whatever_comes_next(open_stream, monkeypatch):
    def run(interrupted: bool) -> np.ndarray:
        stream = open_stream("a red car")
        stream.step(), stream.step()
        stream.steer("a blue ball", "recache")
        if interrupted:
            rebuild = stream._sampler.recache

            def half(*args):
                stream.interrupt()
                rebuild(*args)

            monkeypatch.setattr(stream._sampler, "recache", half)
            with pytest.raises(StreamInterrupted):
                stream.step()
            monkeypatch.undo()
            stream.steer("a blue ball", "swap")
        return stream.step().frames

    assert np.array_equal(run(interrupted=True), run(interrupted=False))


def test_outside_of_a_stream_a_pause_does_nothing():
    pause()
    with (
        pytest.raises(KeyboardInterrupt),
        interruptible(lambda: (_ for _ in ()).throw(KeyboardInterrupt), torch.device("cpu")),
    ):
        pause()
    pause()
    assert interruption._pause.get()() is None
