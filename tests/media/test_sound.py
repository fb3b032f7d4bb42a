"""The sound of a source goes along into what was made from it, for as long as that is."""

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from causvid.media import VideoReader, add_sound
from tests.videos import write_video

FPS = 16
SECONDS = 1.25  # of the video that was made


def recording(
    kind: str, codec: str, seconds: float = 3.0, *, begin: float = 0.0, layout: str = "stereo"
) -> bytes:
    """Three seconds of pictures with a tone that rises in loudness."""
    rate = 48_000
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as container:
        pictures = container.add_stream("mpeg4" if kind != "webm" else "libvpx", rate=FPS)
        pictures.width, pictures.height, pictures.pix_fmt = 48, 32, "yuv420p"
        sound = container.add_stream(codec, rate=rate, layout=layout)
        for number in range(3 * FPS):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 48, 3), np.uint8), "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(pictures.encode(frame))
        time = np.arange(round(rate * seconds)) / rate
        tone = (np.sin(2 * np.pi * 440 * time) * time / 3 * 20_000).astype(np.int16)
        samples = np.repeat(tone[:, None], 1 if layout == "mono" else 2, axis=1).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(samples, "s16", layout)
        frame.rate, frame.pts, frame.time_base = rate, round(begin * rate), Fraction(1, rate)
        container.mux(sound.encode(frame))
        for stream in (pictures, sound):
            container.mux(stream.encode(None))
    return file.getvalue()


@pytest.fixture
def made(tmp_path) -> Path:
    path = tmp_path / "made.mp4"
    shades = [np.full((32, 48, 3), n * 10, np.uint8) for n in range(round(FPS * SECONDS))]
    write_video(path, shades, FPS)
    return path


def source(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "source"
    path.write_bytes(data)
    return path


def heard(path: Path) -> np.ndarray:
    """Loudness of every tenth of a second."""
    with av.open(str(path)) as container:
        parts = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
    whole = np.concatenate(parts)
    count = len(whole) // 4800
    return np.sqrt((whole[: 4800 * count].reshape(count, -1) ** 2).mean(axis=1))


@pytest.mark.parametrize(
    ("kind", "codec", "layout"),
    [
        ("mp4", "aac", "stereo"),
        ("mov", "pcm_s16le", "mono"),
        ("webm", "libopus", "stereo"),
        ("matroska", "flac", "stereo"),
        ("avi", "mp2", "mono"),
        ("mpegts", "mp2", "stereo"),
    ],
)
def test_the_sound_of_the_same_span_is_kept(tmp_path, made, kind, codec, layout):
    pictures = VideoReader(made, FPS, 32, 48).read(99)
    assert add_sound(made, source(tmp_path, recording(kind, codec, layout=layout)))
    loudness = heard(made)
    assert len(loudness) in (12, 13)
    rising = np.linspace(0.05, 1.15, 12) / 3 * 20_000 / 32_768 / np.sqrt(2)
    np.testing.assert_allclose(loudness[1:11], rising[1:11], rtol=0.35)
    np.testing.assert_array_equal(VideoReader(made, FPS, 32, 48).read(99), pictures)
    with av.open(str(made)) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"]
        assert abs(float(container.duration / av.time_base) - SECONDS) < 0.1


def test_sound_that_begins_later_does_so(tmp_path, made):
    assert add_sound(made, source(tmp_path, recording("matroska", "flac", begin=0.6)))
    loudness = heard(made)
    assert loudness[:5].max() < 0.002 < loudness[8]


def test_sound_that_ends_earlier_does_so(tmp_path, made):
    assert add_sound(made, source(tmp_path, recording("mp4", "aac", seconds=0.5)))
    assert 4 <= len(heard(made)) <= 6


def test_without_sound_nothing_is_changed(tmp_path, made):
    before, silent = made.read_bytes(), tmp_path / "silent.mp4"
    write_video(silent, np.zeros((16, 32, 48, 3), np.uint8), FPS)
    assert add_sound(made, silent) is None
    assert made.read_bytes() == before


@pytest.mark.parametrize("name", ["joined", "words", "nothing", "a playlist"])
def test_sound_that_cannot_be_used_leaves_the_video_as_it_was(tmp_path, made, name):
    before = made.read_bytes()
    data = {
        "joined": lambda: recording("mpegts", "mp2", seconds=0.5) * 4,
        "words": lambda: b"hello there " * 50,
        "nothing": lambda: b"",
        "a playlist": lambda: b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n",
    }[name]()
    assert add_sound(made, source(tmp_path, data)) is False
    assert made.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made.mp4", "source"]
