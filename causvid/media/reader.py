"""Reading video at a constant rate and a given size, lazily, over PyAV.

A `VideoReader` decodes while its frames are asked for, so its memory does not depend on the length
of the video. Frames are placed by presentation time: a variable rate, a slide show and a 60 Hz
recording all come out at the rate that was asked for. The rotation flag of telephones and
non-square pixels are honoured. `videofile.py` and `webp.py` open the files, whoever made them.
"""

from collections.abc import Iterator
from itertools import islice

import av
import numpy as np

from causvid.media.clock import Rate, as_rate, at_rate
from causvid.media.display import displayed
from causvid.media.images import fit
from causvid.media.interlacing import progressive
from causvid.media.videofile import VideoFile, VideoInfo, VideoSource
from causvid.media.webp import WebpFile, is_webp

MAX_VIDEO_PIXELS = 7680 * 4320  # 8K: a larger frame is more likely an attack than a recording


def probe(
    source: VideoSource,
    *,
    max_pixels: int = MAX_VIDEO_PIXELS,
    max_seconds: float | None = None,
    whole: bool = False,
) -> VideoInfo:
    """Describe a video after decoding its first frame.

    Args:
        whole: count the packets, which reads the file once and decodes nothing more. Where the
            header gives no length (recordings made in a browser), it is done in any case.

    Raises:
        ValueError: as `VideoReader`.
    """
    with _open(source, max_pixels, max_seconds) as file:
        return file.info if file.info.duration and not whole else file.counted()


def _open(source: VideoSource, max_pixels: int, max_seconds: float | None) -> VideoFile | WebpFile:
    kind = WebpFile if is_webp(source) else VideoFile
    return kind(source, max_pixels, max_seconds)


class VideoReader:
    """An iterator of uint8 `[height, width, 3]` frames at a constant rate.

        with VideoReader("walk.mov", fps=16, height=480, width=832) as video:
            while len(frames := video.read(12)):
                ...

    Output frame n is what the source shows in the middle of its interval, at (n + 1/2) / fps. The
    reader closes itself at its end; `close` or the `with` statement free the file earlier.

    Attributes:
        info: what the header tells.
    """

    def __init__(
        self,
        source: VideoSource,
        fps: Rate,
        height: int,
        width: int,
        *,
        max_pixels: int = MAX_VIDEO_PIXELS,
        max_seconds: float | None = None,
    ):
        """Open the source and decode its first frame.

        Args:
            source: a path, the bytes of a file, or a binary file object.
            fps, height, width: what to deliver; other shapes are made to `fit`.
            max_pixels: files with larger frames are refused before one is decoded.
            max_seconds: longer files are refused, at once where the header tells the length,
                otherwise when the limit is passed. Half a second of grace.

        Raises:
            ValueError: if it is no video, nothing in it can be decoded, or a limit is exceeded.
        """
        self._size = (height, width)
        rate = as_rate(fps)
        self._file = _open(source, max_pixels, max_seconds)
        self.info = self._file.info
        self._frames = at_rate(progressive(self._file.frames()), rate, self._shape)

    def __iter__(self) -> Iterator[np.ndarray]:
        return self

    def __next__(self) -> np.ndarray:
        try:
            return next(self._frames)
        except BaseException:
            self.close()
            raise

    def read(self, count: int) -> np.ndarray:
        """The next frames, uint8 `[t, height, width, 3]`: `count`, fewer at the end, then none."""
        frames = list(islice(self, count))
        return np.stack(frames) if frames else np.empty((0, *self._size, 3), np.uint8)

    def close(self) -> None:
        """Free the file; the reader is then at its end. Closing twice is allowed."""
        self._frames.close()
        self._file.close()

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _shape(self, frame: av.VideoFrame) -> np.ndarray:
        picture, pixel_aspect = displayed(frame, self._file.pixel_aspect, *self._size)
        return fit(picture, *self._size, pixel_aspect=pixel_aspect)
