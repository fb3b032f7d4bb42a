"""An opened video file: what is in it, and its decoded frames on one clock, over PyAV.

Files may come from strangers. Only containers that cannot refer to other files or to the network
are opened (a playlist could make a server read either); the content decides and not the name.
Damage in the middle is skipped, a file that was cut short ends early, and a file of which nothing
can be read is one `ValueError` with its base name.

Sizes, rates and colours are as the file has them; `reader.py` makes them what is wanted.
"""

import dataclasses
import io
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import BinaryIO, cast

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from causvid.media.clock import MAX_RATE, Budget, PlayingTime, Timed
from causvid.media.display import WIDE, has_alpha, is_hdr
from causvid.media.kinds import EXPECTED

# Containers round their length up, to a whole packet of sound for instance.
_GRACE = 0.5  # seconds

ON_WHITE = "What is transparent in it is laid on white."

# Self-contained formats, as libavformat names its demuxers. The last four hold no pictures; they
# are here so that a sound file can be called one.
_CONTAINERS = (
    "mov,mp4,matroska,webm,avi,gif,apng,mpegts,mpeg,mpegvideo,flv,asf,ogg,mxf,nut,dv,ivf,obu,"
    "h264,hevc,m4v,yuv4mpegpipe,mp3,wav,flac,aac"
)

VideoSource = str | Path | bytes | BinaryIO


@dataclass(frozen=True)
class VideoInfo:
    """What a file holds. Width and height are as displayed: turned, and with square pixels.

    `duration` is in seconds and `fps` an average; these and `frames` are None where the file does
    not tell. `rotation` is the turn to be applied, clockwise, of 0, 90, 180 or 270 degrees.
    `remarks` are sentences about what its pictures will be changed in.
    """

    width: int
    height: int
    duration: float | None
    frames: int | None
    fps: float | None
    rotation: int
    codec: str
    remarks: tuple[str, ...] = ()


def container_options() -> dict[str, str]:
    """How files of strangers are opened: nothing but what is in them is read."""
    return {"format_whitelist": _CONTAINERS, "protocol_whitelist": "none"}


def name_of(source: VideoSource) -> str:
    """What a file is called in errors."""
    return Path(source).name if isinstance(source, str | Path) else "the file"


@contextmanager
def opened(source: VideoSource) -> Iterator[BinaryIO]:
    """The file of a path, closed at the end; or bytes, or a file that is its owner's to close.

    Raises:
        ValueError: if it cannot be read.
    """
    if not isinstance(source, str | Path):
        yield io.BytesIO(source) if isinstance(source, bytes) else source
        return
    try:
        file = Path(source).open("rb")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise ValueError(f"cannot read {name_of(source)}: {error.strerror}") from None
    with file:
        yield file


def check_duration(name: str, seconds: float, allowed: float | None) -> None:
    """
    Raises:
        ValueError: if a file is longer than allowed, with some grace.
    """
    if allowed is not None and seconds > allowed + _GRACE:
        raise ValueError(f"{name} is {seconds:.1f} s long; allowed are {allowed:g} s")


class VideoFile:
    """An opened video file whose first frame has been decoded."""

    def __init__(self, source: VideoSource, max_pixels: int, max_seconds: float | None):
        self.name = name_of(source)
        self._max_seconds = max_seconds
        with ExitStack() as stack:
            file = stack.enter_context(opened(source))
            self._container = stack.enter_context(self._open(file, max_pixels))
            self._stream = self._video_stream()
            self._stored = PlayingTime(self._step)  # of packets, in the order of the file
            self._packet_count = 0
            self._check_size(max_pixels)
            self._decoder = _decoder(self._stream, max_pixels)
            self._decoded = self._decode()
            first = next(self._decoded, None)
            if first is None:
                raise ValueError(f"no picture in {self.name} can be decoded; {EXPECTED}")
            self._first = first
            aspect = float(self._stream.sample_aspect_ratio or 1)
            self.pixel_aspect = aspect if 0.1 < aspect < 10 else 1.0  # nothing real is beyond
            self.info = self._describe()
            self._check_duration(self.info)
            self._resources = stack.pop_all()

    def close(self) -> None:
        self._resources.close()

    def __enter__(self) -> "VideoFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def counted(self) -> VideoInfo:
        """The description with length, count and rate as found by reading to the end, whatever the
        header tells.

        Raises:
            ValueError: if it is longer than allowed, or has more pictures a second than any camera
                makes.
        """
        for _ in self._packets():
            pass
        duration, count = float(self._stored.end), self._packet_count
        info = dataclasses.replace(self.info, duration=duration, frames=count, fps=count / duration)
        self._check_duration(info)
        return info

    def frames(self) -> Iterator[Timed]:
        """Decoded frames on a clock that starts at 0 and never goes back.

        Raises:
            ValueError: at a frame that ends after the longest time allowed; if there are more
                frames a second than any camera makes.
        """
        clock, budget = PlayingTime(self._step), Budget(self.name)
        limit = math.inf if self._max_seconds is None else self._max_seconds + _GRACE
        for frame in chain([self._first], self._decoded):
            stamp = frame.pts if frame.pts is not None else frame.dts
            start, duration = clock.place(self._seconds(stamp), self._seconds(frame.duration))
            budget.spend(start, frame.width * frame.height)
            if clock.end > limit:
                raise ValueError(
                    f"{self.name} is longer than {limit:g} s, the longest video allowed"
                )
            yield Timed(start, duration, frame)

    def _open(self, file: BinaryIO, max_pixels: int) -> InputContainer:
        options = {**container_options(), "max_pixels": str(max_pixels)}
        try:
            return av.open(file, "r", options=options, metadata_errors="replace")
        except (av.FFmpegError, OSError, ValueError):
            raise ValueError(f"{self.name} is not a video, or is damaged; {EXPECTED}") from None

    def _video_stream(self) -> VideoStream:
        streams = self._container.streams.video
        if self._container.format.name.startswith("mov") and len(streams) > 1:
            # An animated AVIF begins with a still picture.
            streams = sorted(streams, key=lambda it: it.frames == 1)
        for stream in streams:
            if stream.disposition & Disposition.attached_pic:  # the cover of a sound recording
                continue
            if stream.codec_context is None:
                raise ValueError(f"the video codec of {self.name} is not supported; {EXPECTED}")
            return stream
        found = "only sound" if self._container.streams.audio else "no video track"
        raise ValueError(f"{self.name} holds {found}; {EXPECTED}")

    def _check_size(self, max_pixels: int) -> None:
        codec = self._stream.codec_context
        if self._coded_pixels > max_pixels:
            raise ValueError(
                f"{self.name} is {codec.width}x{codec.height}, {self._coded_pixels:,} pixels; "
                f"allowed are {max_pixels:,}"
            )
        # The size may also grow in the middle of a stream; the decoder holds the line there.
        codec.options = {"max_pixels": str(max_pixels)}
        codec.thread_type = "AUTO"
        codec.thread_count = 2  # enough to outrun playback; many viewers may share the machine

    def _check_duration(self, info: VideoInfo) -> None:
        check_duration(self.name, info.duration or 0, self._max_seconds)

    def _packets(self) -> Iterator[av.Packet]:
        packets, budget = self._container.demux(self._stream), Budget(self.name)
        while True:
            try:
                packet = next(packets, None)
            except (av.FFmpegError, OSError):  # cut short; what came before is still a video
                return
            if packet is None or packet.size == 0:
                return
            if not packet.is_discard:  # trimmed away without being cut out
                self._packet_count += 1
                stamp = packet.dts if packet.dts is not None else packet.pts
                time, _ = self._stored.place(self._seconds(stamp), self._seconds(packet.duration))
                budget.spend(time, self._coded_pixels)
            yield packet

    def _decode(self) -> Iterator[av.VideoFrame]:
        for packet in chain(self._packets(), [None]):  # None asks for the frames held back
            try:
                frames = self._decoder.decode(packet)
            except av.FFmpegError:  # damaged; a later key frame may still be whole
                continue
            yield from frames

    @property
    def _time_base(self) -> Fraction:
        """Seconds of a tick; every stream that was decoded from has one."""
        return self._stream.time_base or Fraction(1)

    @property
    def _step(self) -> Fraction:
        """Seconds of a frame of which nothing is said."""
        return 1 / (self._rate() or Fraction(25))

    @property
    def _coded_pixels(self) -> int:
        return self._stream.codec_context.width * self._stream.codec_context.height

    def _seconds(self, ticks: int | None) -> Fraction | None:
        return None if ticks is None else ticks * self._time_base

    def _rate(self) -> Fraction | None:
        rate = self._stream.average_rate
        return rate if rate and 0 < rate <= MAX_RATE else None

    def _describe(self) -> VideoInfo:
        stream, frame = self._stream, self._first
        duration = None
        if stream.duration:
            duration = float(stream.duration * self._time_base)
        elif self._container.duration:
            duration = self._container.duration / av.time_base
        rotation = -frame.rotation % 360
        width, height = round(frame.width * self.pixel_aspect), frame.height
        if rotation in (90, 270):
            width, height = height, width
        rate = self._rate()
        return VideoInfo(
            width=width,
            height=height,
            duration=duration if duration and duration > 0 else None,
            # A file that was trimmed without being cut tells how many it stores.
            frames=stream.frames if rate and _fits(stream.frames, duration, rate) else None,
            fps=float(rate) if rate else None,
            rotation=rotation,
            codec=stream.codec_context.name,
            remarks=tuple(_remarks(frame)),
        )


def _remarks(frame: av.VideoFrame) -> Iterator[str]:
    if is_hdr(frame):
        yield "It is HDR; its brightness and colours are brought down to an ordinary screen's."
    elif frame.color_primaries in WIDE:
        yield "Its wide range of colours is brought down to an ordinary screen's."
    if frame.interlaced_frame:
        yield "It is interlaced, and is made progressive."
    if has_alpha(frame) and frame.format.name != "pal8":
        yield ON_WHITE


def _decoder(stream: VideoStream, max_pixels: int) -> VideoCodecContext:
    """The stream's own, or one that knows of the transparency of WebM, which is stored apart."""
    codec = stream.codec_context
    name = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(codec.name)
    if stream.metadata.get("alpha_mode") != "1" or name is None:
        return codec
    decoder = cast(VideoCodecContext, av.CodecContext.create(name, "r"))
    decoder.extradata = codec.extradata
    decoder.options = {"max_pixels": str(max_pixels)}
    return decoder


def _fits(frames: int, duration: float | None, rate: Fraction) -> bool:
    """Whether so many frames are about what the length and the rate of the header make."""
    if not frames or not duration:
        return False
    return abs(frames - duration * rate) <= 1 + frames / 10
