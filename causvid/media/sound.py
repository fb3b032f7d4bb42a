"""The sound of a source beside the video that was made from it: AAC, of the same span.

The video's pictures are copied, not encoded again. Sound comes from files of strangers, as video
does; where it cannot be read, or its clock jumps, the video stays without.
"""

import heapq
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.stream import VideoStream

from causvid.media.place import part_of, put_in_place
from causvid.media.videofile import container_options
from causvid.media.webp import is_webp
from causvid.media.writer import open_mp4

_RATE = 48_000  # samples a second
_LAYOUT = "stereo"
_JUMP = _RATE // 2  # samples: a clock that is off by more has begun anew


def add_sound(video: Path, source: Path) -> bool | None:
    """Put the sound of `source` beside the pictures of an MP4 that was made from its beginning on.

    Returns:
        Whether that could be done, or `None` if there is no sound; else the video is as it was.
    """
    if is_webp(source):
        return None
    part = part_of(video)
    try:
        with (
            source.open("rb") as file,
            av.open(file, "r", options=container_options(), metadata_errors="replace") as given,
        ):
            if not given.streams.audio:
                return None
            _mux(video, given, part)
        put_in_place(part, video)
    except (av.FFmpegError, OSError, ValueError):  # also a full disk: the video matters more
        part.unlink(missing_ok=True)
        return False
    return True


def _mux(video: Path, given: InputContainer, part: Path) -> None:
    with av.open(str(video.absolute()), "r") as made:
        pictures = made.streams.video[0]
        assert pictures.duration and pictures.time_base and pictures.average_rate, "ours"
        length = round(pictures.duration * pictures.time_base * _RATE)
        with open_mp4(part, {"movflags": "faststart"}, pictures.average_rate) as result:
            copied = result.add_stream_from_template(pictures)
            sound = result.add_stream("aac", rate=_RATE, layout=_LAYOUT)
            assert isinstance(sound, AudioStream)
            for packet in heapq.merge(
                _pictures(made, pictures, copied), _encoded(given, length, sound), key=_time
            ):
                result.mux(packet)


def _time(packet: av.Packet) -> Fraction:
    return (packet.dts or 0) * (packet.time_base or Fraction(1))


def _pictures(made: InputContainer, track: VideoStream, copied: VideoStream) -> Iterator[av.Packet]:
    for packet in made.demux(track):
        if packet.dts is not None:
            packet.stream = copied
            yield packet


def _encoded(given: InputContainer, length: int, sound: AudioStream) -> Iterator[av.Packet]:
    done = 0
    for samples in _samples(given, length):
        frame = av.AudioFrame.from_ndarray(samples, "fltp", _LAYOUT)
        frame.rate, frame.pts, frame.time_base = _RATE, done, Fraction(1, _RATE)
        done += samples.shape[1]
        yield from sound.encode(frame)
    if not done:
        raise ValueError("no sound can be decoded")
    yield from sound.encode(None)


def _samples(given: InputContainer, length: int) -> Iterator[np.ndarray]:
    """Float32 `[2, n]`, `length` samples at most, on the clock of the pictures.

    Raises:
        ValueError: if the clock jumps.
    """
    pictures, track = given.streams.video[0], given.streams.audio[0]
    begin = (pictures.start_time or 0) * (pictures.time_base or Fraction(1))
    resampler = av.AudioResampler("fltp", _LAYOUT, _RATE)
    due, begun = 0, False
    for frame in _decoded(given, track):
        for piece in resampler.resample(frame):
            samples = piece.to_ndarray().astype(np.float32)
            at = due
            if piece.pts is not None and piece.time_base is not None:
                at = round((piece.pts * piece.time_base - begin) * _RATE)
            if not begun and at > 0:
                yield np.zeros((2, min(at, length)), np.float32)
                due = at
            elif not begun:
                samples, at = samples[:, -at:], 0
            elif abs(at - due) > _JUMP:
                raise ValueError("the clock of the sound jumps")
            begun = begun or samples.shape[1] > 0
            samples = samples[:, : max(0, length - due)]
            due += samples.shape[1]
            if samples.shape[1]:
                yield samples
            if due >= length:
                return


def _decoded(given: InputContainer, track: AudioStream) -> Iterator[av.AudioFrame | None]:
    """What can be decoded, and `None` at the end."""
    try:
        for packet in given.demux(track):
            try:
                yield from packet.decode()
            except av.FFmpegError:  # damaged; what follows may be whole
                continue
    except (av.FFmpegError, OSError):  # cut short
        pass
    yield None
