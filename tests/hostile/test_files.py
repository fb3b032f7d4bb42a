"""Files that were damaged by chance and files that were crafted: read, or refused in a sentence."""

import functools
import gzip
import io
import random
import struct
import time
import zlib
from collections import Counter
from collections.abc import Callable
from fractions import Fraction

import av
import numpy as np
import psutil
import pytest
from PIL import Image

from causvid.media import VideoReader, probe, read_image
from tests.media.test_hostile_files import animation, blank, huge_canvas, movie, promised, sound

MAX_PIXELS = 12_000_000
MAX_SECONDS = 5.0
MUTATED = 600
FEW = 60  # of them in the default tier


def picture(kind: str, **options) -> bytes:
    y, x = np.mgrid[:64, :96]
    noise = np.random.default_rng(0).integers(0, 40, (64, 96, 3))
    pixels = (np.stack([x * 2, y * 3, x + y], -1) + noise).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def video(container: str, codec: str, pixels: str = "yuv420p") -> bytes:
    """A second of a moving gradient."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=16, width=96, height=64, pix_fmt=pixels)
        for number in range(16):
            y, x = np.mgrid[:64, :96]
            shades = np.stack([x + 8 * number, y * 2, x + y], -1).astype(np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(shades)))
        output.mux(stream.encode())
    return file.getvalue()


PICTURES: dict[str, Callable[[], bytes]] = {
    "png": lambda: picture("PNG"),
    "jpg": lambda: picture("JPEG", quality=80),
    "progressive.jpg": lambda: picture("JPEG", progressive=True),
    "webp": lambda: picture("WEBP"),
    "gif": lambda: picture("GIF"),
    "avif": lambda: picture("AVIF"),
    "tif": lambda: picture("TIFF", compression="tiff_lzw"),
    "bmp": lambda: picture("BMP"),
    "moving.gif": lambda: animation("GIF", 10, duration=50),
    "moving.webp": lambda: animation("WEBP", 10, duration=50),
}
VIDEOS: dict[str, Callable[[], bytes]] = {
    "mp4": lambda: video("mp4", "libx264"),
    "mkv": lambda: video("matroska", "libx264"),
    "webm": lambda: video("webm", "libvpx"),
    "avi": lambda: video("avi", "mpeg4"),
    "ts": lambda: video("mpegts", "mpeg2video"),
    "mov": lambda: video("mov", "mjpeg", "yuvj420p"),
    "gif": lambda: animation("GIF", 20, duration=50),
    "apng": lambda: animation("PNG", 20, duration=50),
}


@functools.cache
def whole(kind: str, name: str) -> bytes:
    return {"picture": PICTURES, "video": VIDEOS}[kind][name]()


def mutated(data: bytes, seed: int) -> bytes:
    """Some bytes changed, lost, doubled, zeroed, or taken from elsewhere, as `seed` says."""
    chance, found = random.Random(seed), bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(found) or 1)
        if chance.random() < 0.3:
            at = min(at, chance.randrange(64))  # headers
        length = chance.choice([1, 2, 4, 16, 200])
        match chance.randrange(7):
            case 0:
                for _ in range(chance.randint(1, 20)):
                    found[chance.randrange(len(found))] = chance.randrange(256)
            case 1:
                del found[at + chance.randrange(1, 2000) :]
            case 2:
                del found[at : at + length]
            case 3:
                found[at:at] = chance.randbytes(length)
            case 4:
                found[at : at + length] = bytes(length)
            case 5:
                found[at : at + 4] = chance.choice([b"\xff" * 4, b"\x7f\xff\xff\xff", bytes(4)])
            case 6:
                found[at:at] = found[: chance.randrange(1, 500)]
        if not found:
            break
    return bytes(found)


def read(kind: str, data: bytes) -> str:
    """What came of a file: `"read"`, or the sentence that refuses it."""
    try:
        if kind == "picture":
            pixels = read_image(data, max_pixels=MAX_PIXELS)
            assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3
            return "read"
        probe(data, max_pixels=MAX_PIXELS)
        limits = {"max_pixels": MAX_PIXELS, "max_seconds": MAX_SECONDS}
        with VideoReader(data, 16, 64, 96, **limits) as reader:
            frames = reader.read(round(16 * (MAX_SECONDS + 1)))
        assert frames.shape[1:] == (64, 96, 3) and len(frames)
        return "read"
    except ValueError as error:
        sentence = str(error)
        assert sentence and "\n" not in sentence and len(sentence) < 400, sentence
        assert "Traceback" not in sentence and "object at 0x" not in sentence
        return sentence


def read_mutated(count: int) -> tuple[Counter[str], float, float]:
    """Outcomes, the slowest file in seconds, and what memory has grown by, in MB."""
    names = [*(("picture", it) for it in PICTURES), *(("video", it) for it in VIDEOS)]
    outcomes: Counter[str] = Counter()
    process, slowest = psutil.Process(), 0.0
    before = process.memory_info().rss
    for seed in range(count):
        kind, name = names[seed % len(names)]
        started = time.perf_counter()
        outcomes[
            "read" if read(kind, mutated(whole(kind, name), seed)) == "read" else "refused"
        ] += 1
        slowest = max(slowest, time.perf_counter() - started)
    return outcomes, slowest, (process.memory_info().rss - before) / 1e6


def test_the_seeds_themselves_are_read():
    """Or the mutations would prove nothing."""
    for kind, names in (("picture", PICTURES), ("video", VIDEOS)):
        for name in names:
            assert read(kind, whole(kind, name)) == "read", name


def test_mutated_files_are_read_or_refused():
    outcomes, *_ = read_mutated(FEW)
    assert outcomes.total() == FEW


@pytest.mark.hostile
def test_hundreds_of_mutated_files_are_read_or_refused(tell):
    outcomes, slowest, grown = read_mutated(MUTATED)
    assert outcomes.total() == MUTATED and min(outcomes["read"], outcomes["refused"]) > 100
    tell(
        f"{MUTATED} mutated pictures and videos",
        f"{outcomes['read']} read, {outcomes['refused']} refused, 0 crashes; the slowest "
        f"{slowest:.2f} s, memory {grown:+.0f} MB",
    )


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(*chunks: bytes) -> bytes:
    """A picture with other chunks before its pixels."""
    data = picture("PNG")
    return data[:33] + b"".join(chunks) + data[33:]


def bomb(megabytes: int) -> bytes:
    return zlib.compress(bytes(megabytes * 10**6), 9)


def bmp(width: int, height: int, bits: int = 24, compression: int = 0) -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 1000, 0, 0, 54) + header + bytes(1000)


def gif(width: int, height: int) -> bytes:
    data = bytearray(animation("GIF", 1))
    data[6:10] = struct.pack("<HH", width, height)
    return bytes(data)


def jpeg_of(width: int, height: int) -> bytes:
    data = bytearray(picture("JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def tiff(*entries: tuple[int, int, int, int], following: int = 0) -> bytes:
    """A directory of (tag, type, count, value), and where the next one is."""
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return (
        b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + body + struct.pack("<I", following)
    )


def box(kind: bytes, *parts: bytes) -> bytes:
    data = b"".join(parts)
    return struct.pack(">I", len(data) + 8) + kind + data


def nested(depth: int) -> bytes:
    data = b""
    for _ in range(depth):
        data = box(b"moov", data)
    return box(b"ftyp", b"isom\0\0\0\0isom") + data


def replaced(data: bytes, old: bytes, new: bytes) -> bytes:
    assert old in data
    return data.replace(old, new)


def dense() -> bytes:
    """Frames a 90000th of a second apart."""
    file = io.BytesIO()
    with av.open(file, "w", format="mpegts") as output:
        stream = output.add_stream("mpeg2video", rate=25, width=96, height=64, pix_fmt="yuv420p")
        packets = []
        for _ in range(300):
            frame = av.VideoFrame.from_ndarray(np.zeros((64, 96, 3), np.uint8))
            packets += stream.encode(frame)
        for number, packet in enumerate([*packets, *stream.encode()]):
            packet.pts = packet.dts = number
            packet.time_base = Fraction(1, 90_000)
            output.mux(packet)
    return file.getvalue()


CLIP = [np.full((64, 96, 3), 10 * number, np.uint8) for number in range(20)]
CRAFTED: dict[str, tuple[str, Callable[[], bytes]]] = {
    # Pictures that promise much.
    "png of 10,000 by 10,000": ("picture", lambda: promised(10_000, 10_000)),
    "png of 2,147,483,647 by 1": ("picture", lambda: promised(2**31 - 1, 1)),
    "png of 1 by 49,999,999": ("picture", lambda: promised(1, 49_999_999)),
    "png of nothing": ("picture", lambda: promised(0, 0)),
    "jpeg of 65,535 by 65,535": ("picture", lambda: jpeg_of(65535, 65535)),
    "jpeg of 0 by 0": ("picture", lambda: jpeg_of(0, 0)),
    "jpeg that is all missing": ("picture", lambda: jpeg_of(3000, 3000)),
    "bmp of 30,000 by 30,000": ("picture", lambda: bmp(30_000, 30_000)),
    "bmp of a negative height": ("picture", lambda: bmp(60, -60)),
    "bmp of a negative width": ("picture", lambda: bmp(-60, 60)),
    "bmp of 7 bits": ("picture", lambda: bmp(60, 60, bits=7)),
    "bmp of run lengths": ("picture", lambda: bmp(3000, 3000, bits=8, compression=1)),
    "gif of 65,535 by 65,535": ("picture", lambda: gif(65535, 65535)),
    "gif of 0 by 0": ("picture", lambda: gif(0, 0)),
    "ppm of a billion": ("picture", lambda: b"P6 100000 100000 255\n" + bytes(100)),
    "ppm of digits": ("picture", lambda: b"P6 " + b"9" * 5000 + b" 1 255\n"),
    "ppm of comments": ("picture", lambda: b"P6\n" + b"#\n" * 100_000),
    # Metadata that unpack.
    "png with a profile bomb": (
        "picture",
        lambda: png_with(chunk(b"iCCP", b"p\0\0" + bomb(20))),
    ),
    "png with a text bomb": ("picture", lambda: png_with(chunk(b"zTXt", b"k\0\0" + bomb(20)))),
    "png with an iTXt bomb": (
        "picture",
        lambda: png_with(chunk(b"iTXt", b"k\0\1\0\0\0" + bomb(20))),
    ),
    "png with 20,000 chunks": ("picture", lambda: png_with(*[chunk(b"teSt", b"x")] * 20_000)),
    "png with bad EXIF": ("picture", lambda: png_with(chunk(b"eXIf", b"II*\0\xff\xff\xff\xff"))),
    "png with a bad profile": (
        "picture",
        lambda: png_with(chunk(b"iCCP", b"p\0\0" + zlib.compress(b"no profile" * 50))),
    ),
    "png with a chunk of 2 GB": ("picture", lambda: picture("PNG")[:33] + b"\x7f\xff\xff\xffIDAT"),
    "tiff of directories in a circle": ("picture", lambda: tiff((256, 3, 1, 9), following=8)),
    "tiff of a billion strips": (
        "picture",
        lambda: tiff((256, 4, 1, 60), (257, 4, 1, 60), (273, 4, 2**30, 8), (279, 4, 2**30, 8)),
    ),
    "tiff of 4 billion pixels": (
        "picture",
        lambda: tiff((256, 4, 1, 2**16), (257, 4, 1, 2**16), (273, 4, 1, 8), (279, 4, 1, 8)),
    ),
    # What is no picture.
    "eps": ("picture", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%id) run"),
    "pdf": ("picture", lambda: b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\ntrailer<<>>"),
    "svg that includes a file": (
        "picture",
        lambda: b"<svg xmlns:x='http://www.w3.org/1999/xlink'><image x:href='/etc/passwd'/></svg>",
    ),
    "psd": ("picture", lambda: b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 9, 9, 8, 3)),
    "a gzip bomb": ("picture", lambda: gzip.compress(bytes(10**7))),
    "an HEIC header": ("picture", lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(8)),
    # Videos that refer to elsewhere.
    "an HLS playlist": ("video", lambda: b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n"),
    "an HLS playlist of a host": ("video", lambda: b"#EXTM3U\n#EXTINF:1,\nhttp://169.254.0.1/\n"),
    "a list to concatenate": ("video", lambda: b"ffconcat version 1.0\nfile /etc/passwd\n"),
    "a session description": (
        "video",
        lambda: b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96",
    ),
    "mp4 that refers to a file": (
        "video",
        lambda: replaced(movie(CLIP), b"url \0\0\0\1", b"url \0\0\0\0"),
    ),
    "a script for subtitles": ("video", lambda: b"[Script Info]\n[Events]\nDialogue: 0"),
    # Videos that claim.
    "mp4 of boxes in boxes": ("video", lambda: nested(5000)),
    "mp4 of a header only": ("video", lambda: box(b"ftyp", b"isom\0\0\0\0isom")),
    "mp4 without pictures": ("video", blank),
    "mp4 of a huge box": ("video", lambda: box(b"ftyp", b"isom") + b"\xff\xff\xff\xffmoov"),
    "mp4 with its end before its beginning": ("video", lambda: movie(CLIP)[::-1]),
    "mp4 of equal stamps": ("video", lambda: movie(CLIP, [0.001 * n for n in range(20)])),
    "mp4 of an hour in 20 frames": ("video", lambda: movie(CLIP, [180.0 * n for n in range(20)])),
    "ts of many frames a second": ("video", dense),
    "gif of a large canvas": ("video", lambda: huge_canvas(2000, 1400, frames=60)),
    "gif of a larger canvas": ("video", lambda: huge_canvas(60_000, 60_000)),
    "gif of 1,000 frames": ("video", lambda: animation("GIF", 1000, duration=20)),
    "sound": ("video", sound),
    "a still picture as video": ("video", lambda: picture("PNG")),
    "webp as video": ("video", lambda: animation("WEBP", 10, duration=50)),
    "zeros": ("video", lambda: bytes(10_000)),
    "one byte": ("video", lambda: b"\0"),
}


@pytest.mark.parametrize("name", CRAFTED)
def test_a_crafted_file_is_read_or_refused(name):
    kind, make = CRAFTED[name]
    data, process = make(), psutil.Process()
    before = process.memory_info().rss
    read(kind, data)
    if kind == "picture":
        assert process.memory_info().rss - before < 400e6, "what any accepted picture may take"


@pytest.mark.hostile
def test_crafted_files_in_one_process(tell):
    outcomes: Counter[str] = Counter()
    slowest, process = (0.0, ""), psutil.Process()
    before = process.memory_info().rss
    for name, (kind, make) in CRAFTED.items():
        data, started = make(), time.perf_counter()
        outcomes["read" if read(kind, data) == "read" else "refused"] += 1
        slowest = max(slowest, (time.perf_counter() - started, name))
    grown = (process.memory_info().rss - before) / 1e6
    tell(
        f"{len(CRAFTED)} crafted pictures and videos",
        f"{outcomes['read']} read, {outcomes['refused']} refused, 0 crashes; the slowest "
        f"{slowest[0]:.2f} s ({slowest[1]}), memory {grown:+.0f} MB",
    )
