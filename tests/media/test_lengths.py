"""Limits hold for what is read from a file, not for what its header claims."""

import io
import struct
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest

from causvid.media import VideoReader, probe
from causvid.media.clock import MAX_PIXEL_RATE, MAX_RATE, Budget, PlayingTime

FPS = 16


def shades(count: int, height: int = 32, width: int = 48) -> list[np.ndarray]:
    return [np.full((height, width, 3), number * 200 // count, np.uint8) for number in range(count)]


def clip(
    kind: str,
    codec: str,
    times: list[float] | int,
    *,
    rate: int = FPS,
    size: tuple[int, int] = (32, 48),
    **options: str,
) -> bytes:
    """A file of grey pictures, at these seconds, or so many at an even rate."""
    stamps = [n / rate for n in range(times)] if isinstance(times, int) else times
    file = io.BytesIO()
    with av.open(file, "w", format=kind, options=options) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = size
        stream.pix_fmt = {"gif": "rgb8"}.get(codec, "yuv420p")
        stream.codec_context.time_base = Fraction(1, rate)
        if codec == "libx264":
            stream.options = {"preset": "ultrafast"}
        for picture, time in zip(shades(len(stamps), *size), stamps, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format=stream.pix_fmt)
            frame.pts, frame.time_base = round(time * rate), Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


def claiming(data: bytes, seconds: float) -> bytes:
    """A Matroska file whose header tells another length."""
    place = data.index(b"\x44\x89\x88") + 3  # Duration, a double of milliseconds
    return data[:place] + struct.pack(">d", 1000 * seconds) + data[place + 8 :]


def short_avi(data: bytes) -> bytes:
    """An AVI without an index, whose header tells of 16 frames."""
    data = bytearray(data)
    main = data.index(b"avih") + 8 + 16
    stream = data.index(b"strh") + 8 + 32
    for place in (main, stream):
        data[place : place + 4] = struct.pack("<I", 16)
    return bytes(data[: data.index(b"idx1")])


# Files of 12 s, whatever they say.
LONG = {
    "a Matroska that claims 1 s": lambda: claiming(clip("matroska", "mpeg4", 192), 1),
    "a Matroska that claims 0 s": lambda: claiming(clip("matroska", "mpeg4", 192), 0),
    "an AVI that claims 1 s": lambda: short_avi(clip("avi", "mpeg4", 192)),
    "raw H.264": lambda: clip("h264", "libx264", 300, rate=25),
    "raw MPEG-4": lambda: clip("m4v", "mpeg4", 300, rate=25),
    "raw MPEG-1": lambda: clip("mpeg1video", "mpeg1video", 300, rate=25),
    "recordings joined as transport streams": lambda: clip("mpegts", "libx264", 32) * 6,
    "recordings joined as program streams": lambda: clip("mpeg", "mpeg1video", 50, rate=25) * 6,
    "recordings joined raw": lambda: clip("h264", "libx264", 50, rate=25) * 6,
    "a live recording": lambda: clip("matroska", "mpeg4", 192, live="1"),
}


@pytest.mark.parametrize("name", LONG)
def test_a_length_is_that_of_what_is_stored(name):
    data = LONG[name]()
    assert probe(data, whole=True).duration == pytest.approx(12, abs=0.3)
    with VideoReader(data, FPS, 16, 24) as video:
        assert len(video.read(1000)) == pytest.approx(192, abs=4)
    with pytest.raises(ValueError, match=r"is 1.* s long; allowed are 5 s"):
        probe(data, max_seconds=5, whole=True)
    with (
        VideoReader(data, FPS, 16, 24, max_seconds=11.2) as video,
        pytest.raises(ValueError, match=r"longer than 11\.7 s"),
    ):
        video.read(1000)


@pytest.mark.parametrize(
    ("kind", "codec", "fields"),
    [("webm", "libvpx", {}), ("matroska", "mpeg4", {}), ("matroska", "libx264", {})],
)
def test_a_nominal_rate_is_not_the_rate(kind, codec, fields):
    """Screen recorders write milliseconds, and are taken to make a thousand pictures a second."""
    times = [n / 30 for n in range(15)]
    data = clip(kind, codec, times, rate=1000, size=(360, 640), **fields)
    info = probe(data, whole=True)
    assert info.frames == 15 and 25 < info.fps < 34
    with VideoReader(data, FPS, 36, 64) as video:
        assert len(video.read(100)) in (7, 8)


@pytest.mark.parametrize("kind", ["matroska", "mpegts", "flv"])
@pytest.mark.parametrize("holes", [1, 2])
def test_a_hole_in_time_is_a_cut(kind, holes):
    times = [n / FPS + 3600 * (n >= 16) + 1000 * (n >= 24) * (holes - 1) for n in range(32)]
    data = clip(kind, "flv" if kind == "flv" else "mpeg4", times, rate=1000)
    assert probe(data, whole=True).duration < 2 + 5 * holes + 1
    with VideoReader(data, FPS, 16, 24) as video:
        read = video.read(5000)
    assert 32 <= len(read) < 115 * holes
    assert read[-1].mean() > 150, "what comes after it is shown"


def test_a_picture_that_is_to_stand_for_long_does():
    """A slide show: here the file says for how long, so that it is no hole."""
    data = clip("gif", "gif", [0, 8, 16], rate=100)
    with VideoReader(data, FPS, 16, 24) as video:
        assert len(video.read(1000)) >= 16 * 16


def dense(count: int, height: int, width: int) -> bytes:
    """A transport stream with a picture every 1/90000 s."""
    file = io.BytesIO()
    with av.open(file, "w", format="mpegts") as container:
        stream = container.add_stream(
            "libx264", rate=25, options={"preset": "ultrafast", "bf": "0"}
        )
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        picture = av.VideoFrame(width, height, "yuv420p")
        for plane in picture.planes:
            plane.update(bytes(plane.buffer_size))
        packets = []
        for number in range(count):
            picture.pts = number
            packets += stream.encode(picture)
        for number, packet in enumerate([*packets, *stream.encode()]):
            packet.pts = packet.dts = 90000 + number
            packet.time_base = Fraction(1, 90000)
            container.mux(packet)
    return file.getvalue()


@pytest.mark.parametrize(
    ("count", "size", "said"),
    [
        (MAX_RATE + 100, (32, 48), "more than 1,000 pictures a second"),
        pytest.param(
            *(500, (1080, 1920), "more than 1,000 million pixels a second"), marks=pytest.mark.slow
        ),
    ],
)
def test_a_second_of_source_holds_no_more_than_a_camera_makes(count, size, said):
    data = dense(count, *size)
    assert len(data) < 400_000
    with pytest.raises(ValueError, match=said):
        probe(data, whole=True)
    with VideoReader(data, FPS, 16, 24) as video, pytest.raises(ValueError, match=said):
        video.read(10)


def test_what_cameras_make_is_within_the_budget():
    for rate, pixels in ((30, 7680 * 4320), (120, 3840 * 2160), (240, 1920 * 1080), (960, 720**2)):
        budget = Budget("clip")
        for number in range(5 * rate):
            budget.spend(Fraction(number, rate), pixels)


def test_a_budget_is_not_saved_for_later():
    for pixels, count, said in ((1, MAX_RATE + 2, "pictures"), (MAX_PIXEL_RATE // 9, 11, "pixels")):
        budget = Budget("clip")
        for number in range(100):
            budget.spend(Fraction(number), 1000)
        with pytest.raises(ValueError, match=f"clip has more than .* {said} a second"):
            for _ in range(count):
                budget.spend(Fraction(200), pixels)


@pytest.mark.parametrize("seed", range(20))
def test_playing_time_never_goes_back_and_has_no_holes(seed):
    rng = np.random.default_rng(seed)
    clock, step = PlayingTime(Fraction(1, 25)), Fraction(1, 25)
    stamps = rng.integers(-(10**6), 10**6, 200)
    given = [None if rng.random() < 0.2 else Fraction(int(it), 90000) for it in stamps]
    placed = [clock.place(stamp, None)[0] for stamp in given]
    assert placed[0] == 0
    assert all(0 <= b - a <= 5 + step for a, b in pairwise(placed))


@pytest.mark.parametrize("seconds", [1, 2, 7])
def test_of_a_file_that_is_trimmed_only_what_is_shown_is_counted(seconds):
    """Twenty seconds stored, some shown: an edit list, as lossless cutters write it."""
    data = bytearray(clip("mp4", "libx264", 320, movflags="use_metadata_tags"))
    edit = data.index(b"elst") + 4
    scale = struct.unpack(">I", data[data.index(b"mvhd") + 16 : data.index(b"mvhd") + 20])[0]
    data[edit + 8 : edit + 12] = struct.pack(">I", seconds * scale)
    for info in (probe(bytes(data)), probe(bytes(data), whole=True)):
        assert info.frames is None or abs(info.frames - FPS * seconds) <= 1
        assert info.duration == pytest.approx(seconds, abs=0.1)
    with VideoReader(bytes(data), FPS, 16, 24) as video:
        assert len(video.read(1000)) == FPS * seconds
