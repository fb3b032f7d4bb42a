"""Files that strangers send: each works, or is refused in a sentence, and nothing stays behind."""

import io
import struct
import tempfile
import wave
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from tests.appserver import running

FPS = 16
CAMERA = Image.frombytes("RGB", (96, 64), bytes(x * y % 251 for x in range(576) for y in range(32)))


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    temporary = tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(temporary))
        patch.delenv("GRADIO_TEMP_DIR", raising=False)
        limits = {"max_seconds": 5.0, "upload_mb": 2, "upload_pixels": 12_000_000}
        with running(tmp_path_factory.mktemp("standin"), **limits) as app:
            yield app


@pytest.fixture(scope="module")
def client(app):
    return Client(app.url, verbose=False, download_files=False)  # it has temporary files, too


@pytest.fixture(autouse=True)
def nothing_stays_behind(app):
    yield
    assert app.reaches(0)
    for run in app.service.results.iterdir():  # kept for a while, so that it can be extended
        app.service.forget(run.name)
    assert list(app.service._folder.glob("*/*")) == []
    temporary = Path(tempfile.gettempdir()).iterdir()
    assert {path.name for path in temporary} <= {app.service._folder.name, "gradio"}


def png(picture: Image.Image = CAMERA, **options) -> bytes:
    return picture_file("PNG", picture, **options)


def picture_file(kind: str, picture: Image.Image = CAMERA, **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def promised(width: int, height: int) -> bytes:
    """A PNG that promises a large picture and holds almost nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + body


def animation(kind: str, frames: int, size: tuple[int, int] = (16, 16), **options) -> bytes:
    first, *others = [Image.new("L", size, n % 2 * 255) for n in range(frames)]
    return picture_file(kind, first, save_all=True, append_images=others, loop=0, **options)


def huge_canvas(width: int, height: int, frames: int = 3) -> bytes:
    """A fast animation of small pictures on a canvas that is not."""
    data = bytearray(animation("GIF", frames, duration=10))
    data[6:10] = struct.pack("<HH", width, height)
    return bytes(data)


def movie(
    pictures: list[np.ndarray],
    times: list[float] | None = None,
    *,
    rotation: int = 0,
    fps: int = FPS,
    **muxing: str,
) -> bytes:
    """An MP4 that loses nothing, at a constant rate or with a time for every picture."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4", options=muxing) as container:
        options = {"preset": "ultrafast", "qp": "0"}
        stream = container.add_stream("libx264rgb", rate=fps, pix_fmt="rgb24", options=options)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, pixels in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(pixels)
            frame.time_base = Fraction(1, 1000)
            frame.pts = round(1000 * (times[number] if times else number / fps))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    data = bytearray(file.getvalue())
    turn = {0: (1, 0, 0, 1), 90: (0, 1, -1, 0), 270: (0, -1, 1, 0)}[rotation]
    a, b, c, d = (65536 * value for value in turn)
    matrix = data.index(b"tkhd") + 44  # in the track header of version 0
    data[matrix : matrix + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    return bytes(data)


def sound() -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as container:
        container.setnchannels(1)
        container.setsampwidth(2)
        container.setframerate(8000)
        container.writeframes(bytes(8000))
    return file.getvalue()


def still(shade: int) -> np.ndarray:
    return np.full((64, 96, 3), shade, np.uint8)


CLIP = [still(10 * number) for number in range(20)]


def send(client, endpoint: str, folder: Path, name: str, data: bytes) -> tuple[dict, bytes]:
    """The manifest and the video of a run on a file; random weights, but always the same."""
    path = folder / name
    path.write_bytes(data)
    limits = {"seconds": 0.5} if endpoint == "/image_to_video" else {"strength": 0.5}
    _, manifest, video = client.predict(handle_file(path), "a ball", **limits, api_name=endpoint)
    return manifest, httpx.get(video["url"]).content


PICTURES: dict[str, tuple[Callable[[], bytes], str]] = {
    "cut.png": (lambda: png()[:200], "cut.png is damaged"),
    "huge.png": (lambda: promised(10_000, 10_000), "is 10000x10000, 100,000,000 pixels; allowed"),
    "words.png": (lambda: b"hello there " * 50, "words.png is not a picture.*expected PNG"),
    "clip.jpg": (lambda: movie(CLIP), "clip.jpg is not a picture.*expected PNG"),
    "page.svg": (lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture"),
    "nothing.png": (lambda: b"", "nothing.png is empty"),
    "canvas.gif": (lambda: huge_canvas(60_000, 60_000), "canvas.gif.*allowed are 12,000,000"),
    "canvas.webp": (
        lambda: picture_file("WEBP", Image.new("1", (4000, 4000)).convert("RGB")),
        "is 4000x4000, 16,000,000 pixels; allowed are 12,000,000",
    ),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_that_cannot_be_used_are_refused(client, tmp_path, name):
    make, said = PICTURES[name]
    with pytest.raises(AppError, match=said):
        send(client, "/image_to_video", tmp_path, name, make())


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("photo.jpg", png),
        ("photo.mp4", png),
        ("thousands.gif", lambda: animation("GIF", 3000)),
        ("thousands.png", lambda: animation("PNG", 1000)),
        ("thousands.webp", lambda: animation("WEBP", 200)),
    ],
)
def test_a_picture_is_one_whatever_its_name_and_however_it_goes_on(client, tmp_path, name, make):
    manifest, _ = send(client, "/image_to_video", tmp_path, name, make())
    assert manifest["video"]["frames"] >= 8


def test_a_photo_that_was_turned_is_upright(client, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees, as telephones write
    upright = png()
    turned = png(CAMERA.transpose(Image.Transpose.ROTATE_90), exif=exif)
    assert (
        send(client, "/image_to_video", tmp_path, "upright.png", upright)[1]
        == send(client, "/image_to_video", tmp_path, "turned.png", turned)[1]
    )


VIDEOS: dict[str, tuple[Callable[[], bytes], str]] = {
    "cut.mp4": (lambda: movie(CLIP).partition(b"moov")[0], "cut.mp4 is not a video, or is damaged"),
    "words.mp4": (lambda: b"hello there " * 50, "words.mp4 is not a video.*expected a video"),
    "list.mp4": (lambda: b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", "list.mp4 is not a video"),
    "photo.mp4": (png, "photo.mp4 is not a video"),
    "packed.mp4": (lambda: b"PK\x03\x04" + bytes(400), "packed.mp4 is not a video"),
    "nothing.mp4": (lambda: b"", "nothing.mp4 is empty"),
    "blank.mp4": (lambda: blank(), "blank.mp4"),
    "speech.mp4": (sound, "speech.mp4 holds only sound; expected a video"),
    "long.gif": (
        lambda: animation("GIF", 1000, duration=20),
        r"long.gif is 20\.0 s long; allowed are 5 s",
    ),
    "long.png": (lambda: animation("PNG", 60, duration=500), r"is 30\.0 s long; allowed are 5 s"),
    "still.webp": (lambda: animation("WEBP", 1), "still.webp is not a video, but a WebP picture"),
    "long.webp": (lambda: animation("WEBP", 60, duration=500), r"is 30\.0 s long; allowed are 5 s"),
    "canvas.gif": (lambda: huge_canvas(60_000, 60_000), "canvas.gif"),
    "fast.gif": (
        lambda: huge_canvas(4000, 2800, frames=200),
        "fast.gif has more than 1,000 million pixels a second",
    ),
}


def blank() -> bytes:
    """A video track without a picture."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4", options={"movflags": "empty_moov"}) as container:
        stream = container.add_stream("libx264", rate=FPS, pix_fmt="yuv420p")
        stream.height, stream.width = 64, 96
        container.start_encoding()
    return file.getvalue()


@pytest.mark.parametrize("name", VIDEOS)
def test_videos_that_cannot_be_used_are_refused(client, tmp_path, name):
    make, said = VIDEOS[name]
    with pytest.raises(AppError, match=said):
        send(client, "/video_to_video", tmp_path, name, make())


def test_a_video_that_breaks_off_gives_what_is_there(client, tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (40, 64, 96, 3), np.uint8)
    whole = movie(list(noise), movflags="frag_keyframe+empty_moov", frag_duration="250000")
    manifest, _ = send(client, "/video_to_video", tmp_path, "cut.mp4", whole[: len(whole) // 2])
    assert 5 < manifest["video"]["frames"] < 35


def test_a_variable_rate_is_taken_in_its_own_time(client, tmp_path):
    """Frames that come late are shown late: the same as if each were repeated until the next."""
    moments = [0, 1, 2, 6, 7, 8, 16, 17, 19]  # sixteenths of a second
    changing = movie([CLIP[n] for n in moments], [n / FPS for n in moments])
    steady = movie([CLIP[max(m for m in moments if m <= n)] for n in range(20)])
    made, video = send(client, "/video_to_video", tmp_path, "changing.mp4", changing)
    _, expected = send(client, "/video_to_video", tmp_path, "steady.mp4", steady)
    assert made["video"]["frames"] == 20
    assert video == expected


@pytest.mark.parametrize("rotation", [90, 270])
def test_the_video_of_a_telephone_is_upright(client, tmp_path, rotation):
    rng = np.random.default_rng(1)
    upright = [rng.integers(0, 255, (64, 96, 3), np.uint8) for _ in range(13)]
    stored = [np.ascontiguousarray(np.rot90(picture, rotation // 90)) for picture in upright]
    _, expected = send(client, "/video_to_video", tmp_path, "upright.mp4", movie(upright))
    turned = movie(stored, rotation=rotation)
    assert send(client, "/video_to_video", tmp_path, "turned.mp4", turned)[1] == expected


def test_a_file_that_is_too_large_is_not_even_received(app):
    files = {"files": ("large.mp4", bytes(2_100_000))}
    answer = httpx.post(f"{app.url}/gradio_api/upload", files=files)
    assert answer.status_code == 413 and "a file may have 2 MB" in answer.text


def test_a_source_that_is_too_much_at_the_chosen_size_is_refused(client, app, tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(movie(CLIP))
    object.__setattr__(app.service.settings, "max_work", 64 * 96 * 1.0)
    try:
        with pytest.raises(AppError, match=r"1\.25 s at 96x64 are too much.*allowed are 1 s"):
            client.predict(handle_file(path), "a ball", api_name="/video_to_video")
    finally:
        object.__setattr__(app.service.settings, "max_work", 1e9)
