"""A live source: bounded, the newest wins, and nobody waits for a camera but its own run."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from causvid.generation.live import GAP, LiveFeed, LiveSource
from causvid.generation.source import VideoSource
from causvid.generation.stream import StreamInterrupted

FPS, CHUNK = 8, 12
SIZE = (32, 48)


def picture(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    made = np.full((*size, 3), number % 256, np.uint8)
    made.flat[1] = number // 256
    return made


def numbers(pictures: list[np.ndarray]) -> list[int]:
    return [int(it.flat[0]) + 256 * int(it.flat[1]) for it in pictures]


def feed(fps: float = FPS, ahead: int = 2 * CHUNK) -> LiveFeed:
    made = LiveFeed()
    made.attach(fps, ahead)
    return made


def film(into: LiveFeed, count: int, rate: float = FPS, *, since: float = 0.0, first: int = 0):
    """Pictures first, first + 1, … of a camera of some rate."""
    for n in range(count):
        into.put(picture(first + n), since + n / rate)


def test_a_camera_at_the_models_rate_loses_and_repeats_nothing():
    live, seen = feed(), []
    for n in range(10 * CHUNK):
        live.put(picture(n), 100 + n / FPS)
        if live.ready(CHUNK):
            pictures, newest = live.take(CHUNK)
            seen += numbers(pictures)
            assert newest == 100 + n / FPS, "as soon as the last picture is there"
    assert seen == list(range(10 * CHUNK))


@pytest.mark.parametrize("rate", [FPS / 2, FPS * 0.9, FPS * 1.1, 2 * FPS, 7 * FPS])
def test_a_camera_of_another_rate_is_placed_on_the_models_clock(rate):
    live, seen = feed(), []
    for n in range(round(5 * CHUNK * rate / FPS) + 1):
        live.put(picture(n), n / rate)
        if live.ready(CHUNK):
            pictures, _ = live.take(CHUNK)
            assert len(pictures) == CHUNK
            seen += numbers(pictures)
    assert 4 * CHUNK <= len(seen) <= 5 * CHUNK
    for frame, number in enumerate(seen):  # what was there in the middle of the frame, or newer
        assert abs(number / rate - frame / FPS) <= 1 / FPS + 1 / rate


@pytest.mark.parametrize("slower", [1.3, 2, 5, 50])
def test_where_making_is_slower_pictures_are_left_out_and_latency_does_not_grow(slower):
    live, at, n, starts = feed(), 0.0, 0, []
    for _ in range(8):  # each chunk takes `slower` times as long to make as to play
        at += slower * CHUNK / FPS
        while n / FPS < at:
            live.put(picture(n), n / FPS)
            n += 1
        assert live.ready(CHUNK)
        pictures, newest = live.take(CHUNK)
        assert len(pictures) == CHUNK and newest == (n - 1) / FPS, "the newest is in it"
        starts.append(numbers(pictures))
    assert len(live._pictures) <= 2 * CHUNK
    for taken in starts:
        steps = np.diff(taken)
        assert steps.max() - steps.min() <= 1, "they are left out evenly"


def test_a_feed_is_bounded_before_and_while_it_is_read():
    live = LiveFeed()
    film(live, 1000)
    assert len(live._pictures) == 1 and not live.wanted
    live.attach(FPS, 2 * CHUNK)
    assert live.wanted and not live.ready(CHUNK), "what was seen before is old"
    film(live, 1000, since=1000 / FPS)
    assert len(live._pictures) == 2 * CHUNK


def test_a_camera_that_pauses_pauses_the_stream_and_what_is_old_is_dropped():
    live = feed()
    film(live, CHUNK - 1)
    assert not live.ready(CHUNK)
    film(live, CHUNK - 1, since=60, first=100)
    assert not live.ready(CHUNK), "the pause is not filled"
    live.put(picture(100 + CHUNK - 1), 60 + (CHUNK - 1) / FPS)
    assert numbers(live.take(CHUNK)[0]) == list(range(100, 100 + CHUNK))


@pytest.mark.parametrize("jump", [-1e6, -0.5, -1e-9, 0.0, GAP + 0.01, 1e9])
def test_a_clock_that_jumps_begins_anew(jump):
    live = feed()
    film(live, CHUNK + 3)
    live.take(CHUNK)
    since = (CHUNK + 2) / FPS + jump
    film(live, CHUNK, since=since, first=50)
    assert live.ready(CHUNK)
    assert numbers(live.take(CHUNK)[0]) == list(range(50, 50 + CHUNK))


@given(
    st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=60),
    st.integers(1, CHUNK),
)
def test_whatever_the_time_stamps_the_feed_holds(times, count):
    live = feed()
    for n, time in enumerate(times):
        live.put(picture(n), time)
        assert len(live._pictures) <= 2 * CHUNK
        if live.ready(count):
            pictures, newest = live.take(count)
            assert len(pictures) == count and newest == time and numbers(pictures)[-1] == n
            assert not live.ready(count)


@pytest.mark.parametrize("time", [float("nan"), float("inf")])
def test_a_time_stamp_is_a_number(time):
    with pytest.raises(ValueError, match="expected seconds"):
        feed().put(picture(0), time)


def test_a_feed_that_has_ended_gives_what_is_left():
    live = feed()
    film(live, 5)
    live.end()
    assert live.ready(CHUNK) and not live.over
    assert numbers(live.take(CHUNK)[0]) == list(range(5))
    assert live.over and live.take(CHUNK) == ([], None)
    live.put(picture(9), 9.0)
    assert live.take(CHUNK) == ([], None)


def test_it_is_told_when_something_changes():
    told = []
    live = LiveFeed()
    live.attach(FPS, 24, lambda: told.append(live.ready(1)))
    live.put(picture(0), 0.0)
    live.end()
    assert told == [True, True]
    live.close()
    assert len(told) == 2, "who has closed it is not called any more"


def source(live: LiveFeed, **options) -> LiveSource:
    return LiveSource(live, fps=FPS, height=SIZE[0], width=SIZE[1], **options)


def test_a_stream_follows_a_camera_whose_track_turns_and_changes_its_size(open_stream):
    live = LiveFeed()
    with open_stream(source=source(live)) as stream:
        stream.prefetch()
        assert not stream.ready
        sizes = [(32, 48), (48, 32), (320, 480), (7, 3), (1, 1)]
        for n in range(1 + 2 * CHUNK):
            live.put(picture(n, sizes[n % len(sizes)]), 5 + n / FPS)
        chunks = []
        while stream.ready:
            chunks.append(stream.step())
        assert chunks[0].frames.shape == (1, *SIZE, 3)
        for chunk in chunks:
            assert chunk.source.shape == chunk.frames.shape
            assert chunk.source_time in [5 + n / FPS for n in range(1 + 2 * CHUNK)]
        assert chunks[-1].source_time == 5 + 2 * CHUNK / FPS


def test_a_live_source_gives_the_frames_of_a_recorded_one(open_stream):
    """The same pictures, as they come and as a recording."""
    pictures = [picture(10 * n) for n in range(1 + 2 * CHUNK)]
    live = LiveFeed()
    with (
        open_stream(source=source(live, strength=0.6)) as one,
        open_stream(source=VideoSource(pictures, strength=0.6)) as two,
    ):
        for n, it in enumerate(pictures):
            live.put(it, n / FPS)
            if one.ready:
                np.testing.assert_array_equal(one.step().frames, two.step().frames)
        assert one.position == two.position == 3


def test_who_waits_for_a_camera_can_be_interrupted(open_stream):
    live = LiveFeed()
    with open_stream(source=source(live)) as stream:
        timer = threading.Timer(0.1, stream.interrupt)
        timer.start()
        with pytest.raises(StreamInterrupted):
            stream.step()
        live.put(picture(1), 0.0)
        assert stream.step().source_time == 0.0
        live.end()
        assert stream.step() is None


def test_a_snapshot_of_a_live_stream_goes_on_with_what_the_camera_sees_then(pipeline):
    live = LiveFeed()
    with pipeline.stream("a red car", video=live, strength=0.5) as stream:
        film(live, 1)
        stream.step()
        snapshot = stream.snapshot()
    again = LiveFeed()
    with pipeline.resume(snapshot, video=again) as stream:
        film(again, CHUNK, since=77)
        assert stream.ready
        chunk = stream.step()
        assert chunk.index == 1 and chunk.strength == 0.5
        assert chunk.source_time == 77 + (CHUNK - 1) / FPS
