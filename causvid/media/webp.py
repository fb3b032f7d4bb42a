"""An opened animated WebP, as `VideoFile` is an opened video; read by Pillow, not by libavformat.

Each picture costs its whole canvas, however little of it changes. Size and times are read from the
file's chunks before anything is decoded, and are those that the decoder keeps to.
"""

import struct
from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from itertools import chain
from typing import BinaryIO

import av
import numpy as np
from PIL import Image

from causvid.media.clock import Budget, PlayingTime, Timed
from causvid.media.kinds import EXPECTED
from causvid.media.videofile import (
    ON_WHITE,
    VideoInfo,
    VideoSource,
    check_duration,
    name_of,
    opened,
)

MAX_CANVAS = 3840 * 2160  # pixels, of which libwebp and Pillow keep some copies
MAX_PICTURES = 100_000
_STEP = Fraction(1, 10)  # seconds of a picture of which nothing is said, as browsers show it


def is_webp(source: VideoSource) -> bool:
    """Whether it begins as WebP, animated or not.

    Raises:
        ValueError: if it cannot be read.
    """
    with opened(source) as file:
        begin = file.tell()
        head = file.read(12)
        file.seek(begin)
    return head[:4] == b"RIFF" and head[8:] == b"WEBP"


class WebpFile:
    """The first picture has been decoded. What it has is what `VideoFile` has.

    Raises:
        ValueError: if it does not move, is damaged, too large or too long.
    """

    pixel_aspect = 1.0

    def __init__(self, source: VideoSource, max_pixels: int, max_seconds: float | None):
        self.name = name_of(source)
        with ExitStack() as stack:
            file = stack.enter_context(opened(source))
            begin = file.tell()
            size, lengths = _chunks(file, self.name)
            if len(lengths) < 2 or size is None:
                raise ValueError(f"{self.name} is not a video, but a WebP picture; {EXPECTED}")
            self._check_size(*size, min(max_pixels, MAX_CANVAS))
            clock = PlayingTime(_STEP)
            self._times = [clock.place(None, length) for length in lengths]
            check_duration(self.name, float(clock.end), max_seconds)
            file.seek(begin)
            try:
                self._image = stack.enter_context(Image.open(file, formats=["WEBP"]))
            except Exception:  # whatever libwebp finds wrong with it
                raise ValueError(
                    f"{self.name} is an animated WebP that is damaged; {EXPECTED}"
                ) from None
            self._check_size(*self._image.size, min(max_pixels, MAX_CANVAS))
            self._decoded = self._decode()
            first = next(self._decoded, None)
            if first is None:
                raise ValueError(f"no picture in {self.name} can be decoded; {EXPECTED}")
            self._first = first
            self.info = VideoInfo(
                *self._image.size,
                duration=float(clock.end),
                frames=len(lengths),
                fps=len(lengths) / float(clock.end),
                rotation=0,
                codec="webp",
                remarks=(ON_WHITE,) if self._image.mode == "RGBA" else (),
            )
            self._resources = stack.pop_all()

    def counted(self) -> VideoInfo:
        """The description, which is of what the file holds in any case.

        Raises:
            ValueError: if there are more pictures a second than any camera makes.
        """
        for _ in self._spent():
            pass
        return self.info

    def frames(self) -> Iterator[Timed]:
        """Decoded frames; the first that cannot be decoded ends it.

        Raises:
            ValueError: as `counted`.
        """
        decoded = chain([self._first], self._decoded)
        for (start, length), frame in zip(self._spent(), decoded, strict=False):
            yield Timed(start, length, frame)

    def close(self) -> None:
        self._resources.close()

    def __enter__(self) -> "WebpFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _spent(self) -> Iterator[tuple[Fraction, Fraction]]:
        budget, pixels = Budget(self.name), self._image.width * self._image.height
        for start, length in self._times:
            budget.spend(start, pixels)
            yield start, length

    def _check_size(self, width: int, height: int, allowed: int) -> None:
        if width * height > allowed:
            raise ValueError(
                f"{self.name} is {width}x{height}, {width * height:,} pixels; allowed are "
                f"{allowed:,} of an animated WebP"
            )

    def _decode(self) -> Iterator[av.VideoFrame]:
        for number in range(len(self._times)):
            try:
                self._image.seek(number)
                self._image.load()
            except Exception:  # damaged, or cut short
                return
            kind = "rgba" if self._image.mode == "RGBA" else "rgb24"
            yield av.VideoFrame.from_ndarray(np.asarray(self._image), kind)


def _chunks(file: BinaryIO, name: str) -> tuple[tuple[int, int] | None, list[Fraction | None]]:
    """The size of the canvas, and seconds of each picture of it, `None` where nothing is said.

    Raises:
        ValueError: if there are too many.
    """
    size: tuple[int, int] | None = None
    lengths: list[Fraction | None] = []
    file.seek(12, 1)
    while len(head := file.read(8)) == 8:
        kind, count = struct.unpack("<4sI", head)
        end = file.tell() + count + count % 2
        fields = file.read(min(count, 16))
        if kind == b"VP8X" and len(fields) >= 10:
            width, height = (int.from_bytes(fields[at : at + 3], "little") + 1 for at in (4, 7))
            size = width, height
        elif kind == b"ANMF" and len(fields) == 16:
            lengths.append(Fraction(int.from_bytes(fields[12:15], "little"), 1000) or None)
            if len(lengths) > MAX_PICTURES:
                raise ValueError(f"{name} has more than {MAX_PICTURES:,} pictures")
        file.seek(end)
    return size, lengths
