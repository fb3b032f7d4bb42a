"""Whatever a video's colours, fields and transparency are, it comes as people see it."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from PIL import Image

from causvid.media import VideoReader, probe

FPS = 16
BARS = {"white": (255,) * 3, "grey": (128,) * 3, "red": (220, 20, 20), "green": (20, 200, 20)}
TO_BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
TO_P3 = np.array([[0.8225, 0.1774, 0.0], [0.0332, 0.9669, 0.0], [0.0171, 0.0724, 0.9108]])


def linear(values: np.ndarray) -> np.ndarray:
    values = values / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def hlg(light: np.ndarray) -> np.ndarray:
    """White is 203 of the 1000 nits of the screen."""
    light = light * 0.203
    luma = np.maximum(light @ [0.2627, 0.6780, 0.0593], 1e-9)
    scene = light * (luma ** (1 / 1.2 - 1))[..., None]
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    bright = a * np.log(np.maximum(12 * scene - b, 1e-9)) + c
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), bright)


def pq(light: np.ndarray) -> np.ndarray:
    power = (light * 203 / 10_000).clip(0) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def srgb(light: np.ndarray) -> np.ndarray:
    light = light.clip(0)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def bars() -> np.ndarray:
    """Linear light `[64, 96, 3]` of the bars in sRGB's primaries."""
    return linear(np.array([BARS[name] for name in BARS], float))[None, np.arange(96) // 24].repeat(
        64, axis=0
    )


def hdr(encode, matrix, trc: int, primaries: int, codec="libx265", pixels="yuv420p10le") -> bytes:
    signal = encode(bars() @ matrix.T)
    picture = (65535 * signal.clip(0, 1)).round().astype(np.uint16)
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream(codec, rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 96, 64, pixels
        if codec == "libx265":
            stream.options = {"x265-params": "log-level=none", "crf": "5"}
        context = stream.codec_context
        context.color_trc, context.color_primaries = trc, primaries
        context.colorspace, context.color_range = Colorspace.BT2020, ColorRange.MPEG
        for number in range(8):
            frame = av.VideoFrame.from_ndarray(picture, "rgb48le").reformat(
                format=pixels, dst_colorspace=Colorspace.BT2020, dst_color_range=ColorRange.MPEG
            )
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


HDR = {
    "HLG": (hlg, TO_BT2020, ColorTrc.ARIB_STD_B67, ColorPrimaries.BT2020),
    "PQ": (pq, TO_BT2020, ColorTrc.SMPTE2084, ColorPrimaries.BT2020),
    "PQ in Display P3": (pq, TO_P3, ColorTrc.SMPTE2084, ColorPrimaries.SMPTE432),
    "BT.2020 without HDR": (srgb, TO_BT2020, ColorTrc.BT2020_10, ColorPrimaries.BT2020),
    "Display P3": (srgb, TO_P3, ColorTrc.BT709, ColorPrimaries.SMPTE432),
}


@pytest.mark.parametrize("name", HDR)
def test_wide_and_bright_colours_are_brought_down_and_it_is_told(name):
    data = hdr(*HDR[name])
    shown = VideoReader(data, FPS, 64, 96).read(1)[0].astype(int)
    for place, (bar, expected) in enumerate(BARS.items()):
        got = shown[32, 24 * place + 12]
        assert np.abs(got - expected).max() <= 16, (bar, got)
    white, grey = shown[32, 12], shown[32, 36]
    assert white.min() >= 225 and np.ptp(grey) <= 8
    [remark] = probe(data).remarks
    assert ("HDR" in remark) == (name in ("HLG", "PQ", "PQ in Display P3"))


def test_highlights_of_hdr_are_brighter_than_white_and_not_all_the_same():
    values = np.array([0.75, 0.8, 0.9, 1.0])

    def encode(_):
        return np.broadcast_to(values[np.arange(96) // 24][None, :, None], (64, 96, 3))

    data = hdr(encode, np.eye(3), ColorTrc.ARIB_STD_B67, ColorPrimaries.BT2020)
    row = VideoReader(data, FPS, 64, 96).read(1)[0][32, 12::24, 0].astype(int)
    assert (np.diff(row) > 0).all() and row[0] > 225


def moving(picture: int, interlaced: bool) -> np.ndarray:
    """A white bar that moves 8 pixels a picture; in fields, those of two moments."""
    frame = np.zeros((64, 96, 3), np.uint8)
    for parity in (0, 1):
        at = 8 * picture + (4 * parity if interlaced else 0)
        frame[parity::2, at : at + 24] = 255
    return frame


def fields(kind: str, codec: str, interlaced: bool, **options: str) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        if interlaced:
            stream.codec_context.flags |= 1 << 18 | 1 << 29  # interlaced DCT and motion
        for number in range(8):
            frame = av.VideoFrame.from_ndarray(moving(number, interlaced), "rgb24")
            frame = frame.reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


def combs(pictures: np.ndarray) -> float:
    grey = pictures[4].astype(int)[..., 0]
    return float(np.abs(np.diff(grey, axis=0))[1:-1].max(1).mean())


@pytest.mark.parametrize(
    ("kind", "codec", "options"),
    [
        ("mp4", "libx264", {"x264-params": "tff=1", "crf": "10"}),
        ("mpegts", "libx264", {"x264-params": "bff=1", "crf": "10"}),
        ("mpegts", "mpeg2video", {}),
    ],
)
def test_interlaced_video_has_no_combs_and_keeps_its_time(kind, codec, options):
    data = fields(kind, codec, True, **options)
    with VideoReader(data, 25, 64, 96) as video:
        pictures = video.read(100)
    assert combs(pictures) < 100 and len(pictures) == 8
    assert probe(data).remarks == ("It is interlaced, and is made progressive.",)
    assert np.diff(pictures.astype(int).mean((1, 2, 3))).__abs__().max() < 40, "none is lost"


def test_progressive_video_is_left_alone():
    data = fields("mp4", "libx264", False, crf="10")
    assert probe(data).remarks == ()
    pictures = VideoReader(data, 25, 64, 96).read(100)
    assert np.abs(pictures[4].astype(int) - moving(4, False)).mean() < 12


def transparent(kind: str, codec: str, pixels: str) -> bytes:
    """Transparent but for a red square in the middle, under which other colours are."""
    picture = np.zeros((64, 96, 4), np.uint8)
    picture[..., 1] = 200
    picture[16:48, 32:64] = (255, 0, 0, 255)
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as container:
        stream = container.add_stream(codec, rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 96, 64, pixels
        for number in range(8):
            frame = av.VideoFrame.from_ndarray(picture, "rgba").reformat(format=pixels)
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


def animated(kind: str, count: int = 5) -> bytes:
    frames = [Image.new("RGBA", (96, 64), (0, 200, 0, 0)) for _ in range(count)]
    for number, frame in enumerate(frames):
        frame.paste((255, 0, 0, 255), (32, 16, 64 + number, 48))
    file = io.BytesIO()
    frames[0].save(
        file,
        kind,
        save_all=True,
        append_images=frames[1:],
        duration=100,
        disposal=2 if kind == "GIF" else 1,
        loop=0,
    )
    return file.getvalue()


TRANSPARENT = {
    "QuickTime Animation": lambda: transparent("mov", "qtrle", "argb"),
    "PNG in QuickTime": lambda: transparent("mov", "png", "rgba"),
    "ProRes 4444": lambda: transparent("mov", "prores_ks", "yuva444p10le"),
    "WebM, VP9": lambda: transparent("webm", "libvpx-vp9", "yuva420p"),
    "FFV1": lambda: transparent("matroska", "ffv1", "yuva420p"),
    "GIF": lambda: animated("GIF"),
    "APNG": lambda: animated("PNG"),
}


@pytest.mark.parametrize("name", TRANSPARENT)
def test_what_is_transparent_is_white(name):
    data = TRANSPARENT[name]()
    with VideoReader(data, FPS, 64, 96) as video:
        pictures = video.read(4).astype(int)
    assert (pictures[:, 2, 2] >= 250).all()
    assert (np.abs(pictures[:, 32, 48] - (255, 0, 0)) < 30).all()
    assert any("transparent" in remark for remark in probe(data).remarks)


def test_of_an_animated_avif_the_animation_is_read():
    frames = [Image.new("RGB", (20, 20), (250 - 60 * n,) * 3) for n in range(4)]
    file = io.BytesIO()
    frames[0].save(file, "AVIF", save_all=True, append_images=frames[1:], duration=250)
    with VideoReader(file.getvalue(), FPS, 20, 20) as video:
        pictures = video.read(100).astype(int)
    assert len(pictures) == 16
    np.testing.assert_allclose(pictures[::4].mean((1, 2, 3)), [250, 190, 130, 70], atol=6)
