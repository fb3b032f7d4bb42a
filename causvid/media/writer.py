"""Writing MP4 files: H.264, 4:2:0, BT.709, index in front, the same bytes for the same frames.

The number of threads and all else that changes the result is fixed, so it does not depend on the
machine. A file appears under its name when it is complete, never before. 4:2:0 needs even sizes;
an odd edge is repeated once, so that nothing of the picture is lost.
"""

import contextlib
import io
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from av.container import OutputContainer
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation
from av.video.stream import VideoStream

from causvid.media.clock import Rate, as_rate
from causvid.media.place import NoRoomError, check_place, lacks_room, part_of, put_in_place

# Bit-exact on every processor; swscale's default takes short cuts that are not.
_EXACT = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INP
    | Interpolation.BITEXACT
)

# Every quarter of a second that is complete is on the disk, and plays.
_IN_FRAGMENTS = {
    "movflags": "delay_moov+default_base_moof+skip_trailer",
    "frag_duration": "250000",
    "flush_packets": "1",
}


class VideoWriter:
    """Write frames to an MP4 file as they come.

        with VideoWriter("out.mp4", fps=16) as video:
            for chunk in stream:
                video.append(chunk.frames)

    The size is that of the first frame. If the `with` statement is left by an exception no file
    appears, and an older one under this name stays as it was. Until then the video is in fragments
    of a second, so that `close` can keep what was written before the disk was full.

    Attributes:
        frame_count: frames so far; after `close`, those in the file.
    """

    def __init__(self, path: str | Path, fps: Rate, *, crf: int = 18):
        """Choose where to write; nothing is opened before the first frame.

        Args:
            path: must end in .mp4, in a folder that exists.
            crf: x264's constant quality, 0 (best) to 51; 18 is hard to tell from the source.

        Raises:
            ValueError: if the path or the rate cannot be used.
        """
        self.frame_count = 0
        self._path = _checked(path)
        self._part = part_of(self._path)
        self._rate = as_rate(fps)
        # x264's macroblock tree was seen to give other bytes for the same frames, run by run, on
        # a processor with AVX-512; constant quality loses little without it.
        self._options = {"preset": "medium", "crf": str(crf), "threads": "4", "mbtree": "0"}
        self._size: tuple[int, int] | None = None
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._full = False

    def append(self, frames: np.ndarray) -> None:
        """Add one frame `[h, w, 3]` or several `[t, h, w, 3]`, uint8.

        Raises:
            ValueError: if they are something else, or not of the size of the first.
            NoRoomError: if the disk is full; `close` keeps what was written before.
        """
        for frame in as_clip(frames, self._size):
            if self._container is None or self._stream is None:
                height, width = self._size = frame.shape[:2]
                self._container = open_mp4(self._part, _IN_FRAGMENTS, self._rate)
                self._stream = add_h264(self._container, self._rate, height, width, self._options)
            encoded = self._stream.encode(to_yuv(frame, self.frame_count, self._rate))
            with self._room():
                self._container.mux(encoded)
            self.frame_count += 1

    def close(self) -> None:
        """Finish the file.

        Raises:
            ValueError: if there was no frame, or the file cannot be put in its place.
            NoRoomError: if the disk was full before anything was written.
        """
        if self._container is None or self._stream is None:
            raise ValueError(f"there are no frames to write to {self._path.name}")
        try:
            with contextlib.suppress(NoRoomError):
                if not self._full:
                    with self._room():
                        self._container.mux(self._stream.encode())
                with self._room():
                    self._container.close()
            self._finish()
        finally:
            self.abort()

    def abort(self) -> None:
        """Stop and leave no file behind; without effect once the file is finished."""
        if self._container is not None:
            with contextlib.suppress(OSError):  # the disk is full
                self._container.close()
        self._part.unlink(missing_ok=True)

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    @contextlib.contextmanager
    def _room(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not lacks_room(error):
                raise
            self._full = True
            raise NoRoomError(f"there is no room left for {self._path.name}") from None

    def _finish(self) -> None:
        if self._full:
            self.frame_count = _cut_to_whole_fragments(self._part)
            if not self.frame_count:
                raise NoRoomError(f"there is no room for {self._path.name}; nothing was kept")
            put_in_place(self._part, self._path)
            return
        whole = part_of(self._path)
        try:
            with self._part.open("rb") as made:
                _copy(made, whole, self._rate)
        except NoRoomError:  # for a second copy, even for a moment; the fragments play, too
            whole = self._part
        put_in_place(whole, self._path)


def write_video(path: str | Path, frames: Any, fps: Rate, *, crf: int = 18) -> None:
    """Write a whole clip, such as `pipe(…).frames[0]` of whatever `output_type`.

    Args:
        frames: `[t, h, w, 3]` or a tensor `[t, 3, h, w]`, uint8 or floats in [0, 1]; or a list of
            pictures.

    Raises:
        ValueError: if they are something else, or as `VideoWriter`.
    """
    clip = np.asarray(frames)
    if clip.ndim == 5 and len(clip) == 1:
        clip = clip[0]
    if clip.ndim == 4 and clip.shape[3] != 3 and clip.shape[1] == 3:
        clip = clip.transpose(0, 2, 3, 1)
    if clip.dtype.kind == "f" and clip.size:
        if not (clip.min() >= 0 and clip.max() <= 1):  # false for NaN, too
            raise ValueError(
                f"got frames from {clip.min():g} to {clip.max():g}; expected floats from 0 to 1, "
                "or uint8"
            )
        clip = (clip * 255).round().astype(np.uint8)
    with VideoWriter(path, fps, crf=crf) as video:
        video.append(as_clip(clip))


def copy_mp4(source: BinaryIO, path: str | Path, rate: Fraction) -> int:
    """Write the video in `source` to `path` without encoding it again, index in front.

    Returns:
        The number of frames copied.

    Raises:
        ValueError: if the path cannot be used.
        NoRoomError: if the disk is full; then no file appears.
    """
    path = _checked(path)
    part = part_of(path)
    try:
        count = _copy(source, part, rate)
    except NoRoomError:
        raise NoRoomError(f"there is no room left for {path.name}") from None
    put_in_place(part, path)
    return count


def _copy(source: BinaryIO, part: Path, rate: Fraction) -> int:
    count, whole = 0, False
    try:
        with av.open(source, "r") as fragments:
            track = fragments.streams.video[0]
            begin = 0 if track.start_time is None else track.start_time
            with open_mp4(part, {"movflags": "faststart"}, rate) as container:
                copied = container.add_stream_from_template(track)
                for packet in fragments.demux(track):
                    if packet.dts is None or packet.pts is None:  # the end
                        continue
                    packet.dts, packet.pts = packet.dts - begin, packet.pts - begin
                    packet.stream = copied
                    container.mux(packet)
                    count += 1
        whole = True
    except OSError as error:
        if lacks_room(error):
            raise NoRoomError("there is no room left for a file") from None
        raise
    finally:
        if not whole:
            part.unlink(missing_ok=True)
    return count


def open_mp4(
    target: Path | BinaryIO, options: Mapping[str, str], rate: Fraction
) -> OutputContainer:
    """An MP4 container whose clock ticks a whole number of times a frame."""
    file = str(target.absolute()) if isinstance(target, Path) else target
    ticks = rate.numerator if rate.numerator >= 1000 else rate.numerator * 1000
    # bitexact leaves out the name of the library's version.
    exact = {"video_track_timescale": str(ticks), "fflags": "bitexact"}
    return av.open(file, "w", format="mp4", options={**exact, **options})


def add_h264(
    container: OutputContainer, rate: Fraction, height: int, width: int, options: Mapping[str, str]
) -> VideoStream:
    """An x264 track for frames of `to_yuv`, tagged so that every player shows the same colours."""
    stream = container.add_stream(
        "libx264",
        rate=rate,
        time_base=1 / rate,
        height=height + height % 2,
        width=width + width % 2,
        pix_fmt="yuv420p",
        options=dict(options),
    )
    codec = stream.codec_context
    codec.color_range = ColorRange.MPEG
    codec.color_primaries = ColorPrimaries.BT709
    codec.color_trc = ColorTrc.BT709
    codec.colorspace = Colorspace.ITU709
    return stream


def to_yuv(frame: np.ndarray, index: int, rate: Fraction) -> av.VideoFrame:
    """A frame for the encoder, shown at `index / rate` seconds."""
    height, width = frame.shape[:2]
    if height % 2 or width % 2:
        frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24").reformat(
        format="yuv420p",
        dst_colorspace=Colorspace.ITU709,
        dst_color_range=ColorRange.MPEG,
        interpolation=_EXACT,
        threads=1,
    )
    picture.pts, picture.time_base = index, 1 / rate
    return picture


def as_clip(frames: np.ndarray, size: tuple[int, int] | None = None) -> np.ndarray:
    """`frames` as `[t, h, w, 3]`, if they are uint8 pictures of `size` (height, width).

    Raises:
        ValueError: if they are not.
    """
    frames = np.asarray(frames)
    clip = frames[None] if frames.ndim == 3 else frames
    if clip.dtype != np.uint8 or clip.ndim != 4 or clip.shape[3] != 3 or 0 in clip.shape[1:]:
        raise ValueError(
            f"got frames of {frames.dtype} {list(frames.shape)}; expected uint8 [t, h, w, 3]"
        )
    if size is not None and clip.shape[1:3] != tuple(size):
        raise ValueError(
            f"got frames of {clip.shape[2]}x{clip.shape[1]}; expected {size[1]}x{size[0]} as before"
        )
    return clip


def boxes(data: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Top-level boxes that are there as a whole: type, first byte and the byte after the last one
    (ISO 14496-12, 4.2; sizes here fit 32 bits)."""
    end = data.seek(0, io.SEEK_END)
    position = 0
    while position + 8 <= end:
        data.seek(position)
        head = data.read(8)
        size = int.from_bytes(head[:4], "big")
        if size < 8 or position + size > end:
            return
        yield head[4:], position, position + size
        position += size


def _cut_to_whole_fragments(path: Path) -> int:
    """Take off what plays no more, and count the frames that are left."""
    with path.open("r+b") as file:
        whole = 0
        for kind, _, after in boxes(file):
            if kind == b"mdat":
                whole = after
        file.truncate(whole)
        if not whole:
            return 0
    with av.open(str(path)) as container:
        return sum(packet.dts is not None for packet in container.demux(video=0))


def _checked(path: str | Path) -> Path:
    path = Path(path)
    if path.suffix.lower() != ".mp4":
        raise ValueError(f"{path.name} does not end in .mp4, the only kind of file written here")
    check_place(path)
    return path
