"""Reading pictures and video. Files are made here, the hostile ones too."""

import io
import itertools
import os
import re
import struct
import tracemalloc
import wave
import zlib
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image, ImageCms

from causvid.media import VideoReader, add_sound, fit, probe, read_image, write_video
from causvid.media.clock import Timed, at_rate

RED, GREEN, BLUE, GREY = (220, 30, 30), (30, 200, 40), (30, 40, 210), (128, 128, 128)


def corners(height=48, width=64):
    """Red, green / blue, grey in the four corners: shows every turn and mirroring."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2] = RED
    picture[: height // 2, width // 2 :] = GREEN
    picture[height // 2 :, : width // 2] = BLUE
    picture[height // 2 :, width // 2 :] = GREY
    return picture


def names(picture):
    """The colour in each corner, by reading order."""
    height, width = picture.shape[:2]
    found = ""
    for y, x in itertools.product((height // 4, 3 * height // 4), (width // 4, 3 * width // 4)):
        distance = [np.abs(picture[y, x].astype(int) - c).sum() for c in (RED, GREEN, BLUE, GREY)]
        assert min(distance) < 40, picture[y, x]
        found += "rgbw"[int(np.argmin(distance))]
    return found


def numbered(index, height=32, width=64):
    """A frame that says its number below 256 in two grey levels; survives any codec."""
    frame = np.empty((height, width, 3), np.uint8)
    frame[:, : width // 2] = index % 16 * 16 + 8
    frame[:, width // 2 :] = index // 16 * 16 + 8
    return frame


def number(frame):
    low, high = (frame[:, half].mean() for half in (slice(4, 28), slice(36, 60)))
    return int(high // 16 * 16 + low // 16)


def make_video(
    target,
    frames,
    *,
    fps=16,
    codec="libx264",
    pix_fmt="yuv420p",
    times=None,
    container=None,
    tags=(),
    convert=(),
    options=(),
    muxing=(),
):
    """Encode frames, at the given times in seconds or at a constant rate."""
    frames = list(frames)
    if codec == "libx264":
        options = {"preset": "ultrafast", "g": "8", **dict(options)}
    with av.open(target, "w", format=container, options=dict(muxing)) as output:
        stream = output.add_stream(codec, rate=fps, pix_fmt=pix_fmt, options=dict(options))
        stream.height, stream.width = frames[0].shape[:2]
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for name, value in dict(tags).items():
            setattr(stream.codec_context, name, value)
        for i, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame)
            picture = picture.reformat(format=pix_fmt, **dict(convert))
            picture.time_base = Fraction(1, 1000) if times else 1 / Fraction(fps)
            picture.pts = round(times[i] * 1000) if times else i
            output.mux(stream.encode(picture))
        output.mux(stream.encode())
    return target


def turned(path, matrix):
    """Write a 2x2 matrix (a, b, c, d) into the track header of an MP4, as telephones do."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # version 0: the matrix is 40 bytes into the box
    a, b, c, d = (value * 65536 for value in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def numbers_of(source, fps=16, **options):
    with VideoReader(source, fps, 32, 64, **options) as video:
        return [number(frame) for frame in video]


def png_header(width, height):
    """A PNG that promises a large picture and holds almost nothing."""

    def chunk(kind, data):
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


class TestReadImage:
    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM"])
    def test_content_decides_and_not_the_name(self, kind, tmp_path):
        path = tmp_path / "picture.doc"
        Image.fromarray(corners()).save(path, format=kind)
        assert names(read_image(path)) == names(read_image(path.read_bytes())) == "rgbw"

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_exif_orientation_is_applied(self, orientation):
        # How the camera stored an upright picture, for each value of the flag.
        stored = {
            1: corners(),
            2: corners()[:, ::-1],
            3: corners()[::-1, ::-1],
            4: corners()[::-1],
            5: corners().swapaxes(0, 1),
            6: np.rot90(corners()),
            7: corners()[::-1, ::-1].swapaxes(0, 1),
            8: np.rot90(corners(), -1),
        }[orientation]
        exif = Image.Exif()
        exif[0x0112] = orientation
        file = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(stored)).save(file, "JPEG", exif=exif, quality=95)
        picture = read_image(file.getvalue())
        assert picture.shape == (48, 64, 3)
        assert names(picture) == "rgbw"

    @pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
    def test_transparency_is_laid_on_white(self, mode):
        image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
        image.paste((0, 0, 0, 255), (4, 0, 8, 8))
        file = io.BytesIO()
        (image.quantize(4) if mode == "P" else image.convert(mode)).save(file, "PNG")
        picture = read_image(file.getvalue())
        assert picture[0, 0].tolist() == [255, 255, 255]
        assert picture[0, 7].tolist() == [0, 0, 0]

    def test_half_transparent_is_half_white(self):
        image = Image.new("RGBA", (2, 2), (0, 0, 0, 128))
        assert abs(int(read_image(image)[0, 0, 0]) - 127) <= 1

    @pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
    def test_animations_give_their_first_frame(self, kind):
        file = io.BytesIO()
        first, *others = (Image.new("RGB", (16, 16), colour) for colour in (RED, GREEN, BLUE))
        first.save(file, kind, save_all=True, append_images=others, duration=50, lossless=True)
        assert np.abs(read_image(file.getvalue()).astype(int) - RED).max() < 3

    def test_sixteen_bits_keep_their_range(self):
        ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
        file = io.BytesIO()
        Image.fromarray(ramp).save(file, "PNG")
        assert np.array_equal(read_image(file.getvalue())[..., 0].ravel(), np.arange(256))

    def test_cmyk_and_grey_become_rgb(self):
        for colour, mode in (((255, 0, 0), "CMYK"), ((90, 90, 90), "L"), ((255, 255, 255), "1")):
            file = io.BytesIO()
            kind = "TIFF" if mode == "1" else "JPEG"
            Image.new("RGB", (16, 16), colour).convert(mode).save(file, kind, quality=95)
            assert np.abs(read_image(file.getvalue()).astype(int) - colour).max() < 6

    def test_colour_profiles_are_converted_and_broken_ones_ignored(self):
        file = io.BytesIO()
        lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        for profile in (lab, b"no profile"):
            Image.fromarray(corners()).save(file, "PNG", icc_profile=profile)
            assert names(read_image(file.getvalue())) == "rgbw"

    def test_arrays_and_images_are_taken_as_they_are(self):
        assert np.array_equal(read_image(corners()), corners())
        assert np.array_equal(read_image(Image.fromarray(corners())), corners())
        assert read_image(corners()[..., 0]).shape == (48, 64, 3)

    @pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
    @pytest.mark.parametrize("size", [(10_000, 10_000), (60_000, 60_000)])
    def test_large_pictures_are_refused_before_they_are_decoded(self, size, tmp_path):
        path = tmp_path / "bomb.png"
        path.write_bytes(png_header(*size))
        tracemalloc.start()
        with pytest.raises(ValueError, match=r"^bomb\.png is .*allowed are 50,000,000"):
            read_image(path)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
        tracemalloc.stop()

    def test_the_limit_counts_for_images_in_memory(self):
        with pytest.raises(ValueError, match=r"64x48, 3,072 pixels; allowed are 3,000"):
            read_image(corners(), max_pixels=3000)

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"", "is not a picture that can be read; expected PNG"),
            (b"hello " * 100, "is not a picture"),
            (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not a picture"),
            (b"\x89PNG\r\n\x1a\n" + bytes(50), "is not a picture"),
            (png_header(100, 100), r"is damaged: "),
        ],
    )
    def test_other_files_are_one_clear_error(self, data, message, tmp_path):
        path = tmp_path / "upload.png"
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"^upload\.png " + message):
            read_image(path)

    def test_truncated_pictures_are_damaged(self):
        file = io.BytesIO()
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        for kind in ("JPEG", "PNG", "WEBP"):
            Image.fromarray(noise).save(file, kind)
            with pytest.raises(ValueError, match=r"^the file is (damaged|not a picture)"):
                read_image(file.getvalue()[:1500])

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            (np.full((4, 4, 3), 2, np.float32), r"float32 \[4, 4, 3\]; expected uint8"),
            (np.zeros((4, 4, 5), np.uint8), "5 channels"),
            (np.zeros((0, 4, 3), np.uint8), r"uint8 \[0, 4, 3\]"),
            (7, "got int; expected a path"),
            (Image.new("F", (4, 4)), "floating-point"),
        ],
    )
    def test_unusable_objects_are_named(self, source, message):
        with pytest.raises(ValueError, match=message):
            read_image(source)

    def test_missing_files_are_named_without_their_folder(self, tmp_path):
        with pytest.raises(ValueError, match=r"^cannot read gone\.png: No such file"):
            read_image(tmp_path / "gone.png")


class TestFit:
    def test_a_fitting_size_is_identity(self):
        picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        assert np.array_equal(fit(picture, 48, 64), picture)

    def test_crop_cuts_both_sides_evenly(self):
        picture = np.zeros((32, 96, 3), np.uint8)
        picture[:, 32:64] = 255
        assert fit(picture, 32, 32).min() == 255
        assert fit(picture.swapaxes(0, 1), 32, 32).min() == 255

    @pytest.mark.parametrize("size", [(64, 64), (40, 200), (200, 40), (33, 57)])
    def test_nothing_is_stretched(self, size):
        y, x = np.mgrid[:120, :160]
        disc = np.where((y - 59.5) ** 2 + (x - 79.5) ** 2 < 10**2, 255, 60).astype(np.uint8)
        fitted = fit(np.repeat(disc[..., None], 3, axis=2), *size)[..., 0] > 160
        height, width = fitted.any(axis=1).sum(), fitted.any(axis=0).sum()
        assert abs(int(height) - int(width)) <= 2  # of up to 33, measured at a threshold

    def test_shrinking_is_antialiased(self):
        stripes = np.zeros((64, 64, 3), np.uint8)
        stripes[:, ::2] = 255
        shrunk = fit(stripes, 16, 16).astype(int)
        assert np.abs(shrunk[:, 2:-2] - 127).max() <= 4

    def test_wide_pixels_are_made_square(self):
        stripes = np.zeros((32, 32, 3), np.uint8)
        stripes[:8] = 255
        wide = fit(stripes, 32, 64, pixel_aspect=2.0)
        assert np.array_equal(wide, np.repeat(stripes, 2, axis=1)), "nothing is cut"

    def test_extreme_shapes_fit(self):
        for shape in ((1, 5000), (5000, 1), (1, 1)):
            assert fit(np.full((*shape, 3), 9, np.uint8), 48, 64).shape == (48, 64, 3)

    def test_unusable_input_is_named(self):
        with pytest.raises(ValueError, match=r"float64 \[4, 4, 3\]; expected uint8 \[h, w, 3\]"):
            fit(np.zeros((4, 4, 3)), 8, 8)


class TestVideoTime:
    def test_a_source_of_the_same_rate_passes_frame_by_frame(self, tmp_path):
        path = make_video(tmp_path / "a.mp4", map(numbered, range(40)))
        assert numbers_of(path) == list(range(40))

    def test_millisecond_time_stamps_do_not_drop_or_double_frames(self, tmp_path):
        path = make_video(tmp_path / "a.mkv", map(numbered, range(100)), fps=24)
        assert numbers_of(path, fps=24) == list(range(100))

    @pytest.mark.parametrize("fps", [5, 15, 24, 30, 60, Fraction(30000, 1001)])
    def test_other_rates_show_what_is_on_screen_in_the_middle(self, fps, tmp_path):
        path = make_video(tmp_path / "a.mp4", map(numbered, range(90)), fps=fps)
        count = round(Fraction(90) / fps * 16)
        expected = [int((n + Fraction(1, 2)) / 16 * fps) for n in range(count)]
        assert numbers_of(path) == expected

    @pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
    def test_variable_rates_are_placed_by_presentation_time(self, name, tmp_path):
        times = [0, 0.1, 0.12, 0.5, 0.55, 0.6, 2.0, 2.1]
        path = make_video(tmp_path / name, map(numbered, range(8)), times=times)
        shown = numbers_of(path)
        middle = [(n + 0.5) / 16 for n in range(len(shown))]
        assert shown == [max(i for i in range(8) if times[i] <= m) for m in middle]
        assert 33 <= len(shown) <= 36

    def test_a_clip_shorter_than_one_interval_is_one_frame(self, tmp_path):
        path = make_video(tmp_path / "a.mp4", [numbered(7)], fps=60)
        assert numbers_of(path) == [7]

    def test_a_clock_that_restarts_goes_on(self, tmp_path):
        halves = (make_video(tmp_path / f"{i}.ts", map(numbered, range(16))) for i in range(2))
        joined = b"".join(half.read_bytes() for half in halves)
        assert len(numbers_of(joined)) in range(30, 35)

    def test_read_gives_clips_then_none(self, tmp_path):
        path = make_video(tmp_path / "a.mp4", map(numbered, range(20)))
        with VideoReader(path, 16, 32, 64) as video:
            clips = [video.read(12) for _ in range(3)]
        assert [clip.shape for clip in clips] == [(12, 32, 64, 3), (8, 32, 64, 3), (0, 32, 64, 3)]
        assert [number(frame) for clip in clips for frame in clip] == list(range(20))

    def test_frames_are_drawn_as_they_are_needed(self):
        drawn = []
        step = Fraction(1, 32)
        source = (drawn.append(i) or Timed(i * step, step, i) for i in itertools.count())
        assert len(list(itertools.islice(at_rate(source, Fraction(16), np.array), 10))) == 10
        assert len(drawn) <= 22


class TestVideoPicture:
    @pytest.mark.parametrize(
        ("matrix", "rotation", "shape"),
        [
            ((1, 0, 0, 1), 0, (48, 64)),
            ((0, 1, -1, 0), 90, (64, 48)),
            ((-1, 0, 0, -1), 180, (48, 64)),
            ((0, -1, 1, 0), 270, (64, 48)),
        ],
    )
    def test_the_rotation_flag_is_honoured(self, matrix, rotation, shape, tmp_path):
        upright = corners(*shape)
        stored = np.ascontiguousarray(np.rot90(upright, rotation // 90))
        path = turned(make_video(tmp_path / "a.mp4", [stored] * 3), matrix)
        info = probe(path)
        assert (info.rotation, info.height, info.width) == (rotation, *shape)
        with VideoReader(path, 16, *shape) as video:
            assert names(next(video)) == "rgbw"

    def test_mirrored_recordings_are_mirrored_back(self, tmp_path):
        stored = np.ascontiguousarray(corners()[:, ::-1])
        path = turned(make_video(tmp_path / "a.mp4", [stored] * 3), (-1, 0, 0, 1))
        with VideoReader(path, 16, 48, 64) as video:
            assert names(next(video)) == "rgbw"

    def test_wide_pixels_are_shown_wide(self, tmp_path):
        tags = {"sample_aspect_ratio": Fraction(2)}
        stripes = np.zeros((48, 32, 3), np.uint8)
        stripes[:8] = 255
        path = make_video(tmp_path / "a.mp4", [stripes], tags=tags)
        assert (probe(path).height, probe(path).width) == (48, 64)
        with VideoReader(path, 16, 48, 64) as video:
            assert next(video)[:6].min() > 250, "nothing is cut"

    def test_absurd_pixel_shapes_are_not_believed(self, tmp_path):
        tags = {"sample_aspect_ratio": Fraction(1, 4000)}
        path = make_video(tmp_path / "a.mkv", [corners()] * 2, codec="ffv1", tags=tags)
        assert (probe(path).height, probe(path).width) == (48, 64)

    @pytest.mark.parametrize(
        ("codec", "pix_fmt", "convert", "tags", "height"),
        [
            ("libx264", "yuv420p", {}, {}, 48),  # untagged: BT.601
            ("libx264", "yuv420p", {"dst_colorspace": 1}, {}, 720),  # untagged HD: BT.709
            ("libx264", "yuv420p", {"dst_colorspace": 1}, {"colorspace": 1}, 48),
            ("libx264", "yuv420p", {"dst_color_range": 2}, {"color_range": 2}, 48),
            ("libx264", "yuv444p10le", {}, {}, 48),
            ("mjpeg", "yuvj420p", {}, {}, 48),
            ("ffv1", "bgr0", {}, {}, 48),
        ],
    )
    def test_colours_are_those_that_were_encoded(
        self, codec, pix_fmt, convert, tags, height, tmp_path
    ):
        picture = corners(height, height * 4 // 3)
        path = make_video(
            tmp_path / "a.mkv",
            [picture] * 2,
            codec=codec,
            pix_fmt=pix_fmt,
            convert=convert,
            tags=tags,
        )
        with VideoReader(path, 16, 48, 64) as video:
            frame = next(video).astype(int)
        for (y, x), colour in zip(
            [(8, 8), (8, 56), (40, 8), (40, 56)], (RED, GREEN, BLUE, GREY), strict=True
        ):
            assert np.abs(frame[y, x] - colour).max() <= 6

    def test_other_shapes_are_cropped_and_large_ones_shrunk(self, tmp_path):
        picture = np.full((480, 960, 3), 255, np.uint8)
        picture[:, :240] = picture[:, 720:] = 0
        path = make_video(tmp_path / "a.mp4", [picture] * 2)
        with VideoReader(path, 16, 48, 48) as video:
            assert next(video).mean() > 250

    def test_the_size_may_change_in_the_middle(self, tmp_path):
        sizes = [(32, 64), (64, 128), (48, 96)]
        parts = (
            make_video(tmp_path / f"{i}.ts", [numbered(16 * i + k, *size) for k in range(16)])
            for i, size in enumerate(sizes)
        )
        with VideoReader(b"".join(part.read_bytes() for part in parts), 16, 32, 64) as video:
            shown = [number(frame) for frame in video]
        assert shown == sorted(shown) and shown[0] == 0 and shown[-1] == 47
        assert len(set(shown)) >= 45, "a frame may be lost where the recordings are joined"


class TestVideoFiles:
    @pytest.mark.parametrize(
        ("name", "codec", "pix_fmt"),
        [
            ("a.mov", "mjpeg", "yuvj420p"),
            ("a.avi", "mpeg4", "yuv420p"),
            ("a.webm", "libvpx", "yuv420p"),
            ("a.ts", "mpeg2video", "yuv420p"),
            ("a.gif", "gif", "rgb8"),
            ("a.mkv", "ffv1", "yuv420p10le"),
        ],
    )
    def test_containers_and_codecs_read_alike(self, name, codec, pix_fmt, tmp_path):
        frames = map(numbered, range(20))
        path = make_video(tmp_path / name, frames, codec=codec, pix_fmt=pix_fmt, fps=25)
        with VideoReader(path, 25, 32, 64) as video:
            shown = np.array([frame[..., 0].mean() for frame in video])
        expected = np.array([numbered(i).mean() for i in range(20)])
        assert len(shown) == 20
        assert np.abs(shown - expected).max() < 24  # the GIF palette has 8 levels of red

    def test_the_name_does_not_matter_and_neither_does_having_one(self, tmp_path):
        path = make_video(tmp_path / "a.mp4", map(numbered, range(20)))
        path = path.rename(tmp_path / "100%d: notes.txt")
        assert numbers_of(path) == numbers_of(path.read_bytes()) == list(range(20))
        with path.open("rb") as file:
            assert numbers_of(file) == list(range(20))

    def test_probe_tells_what_is_inside(self, tmp_path):
        info = probe(make_video(tmp_path / "a.mp4", map(numbered, range(32))))
        assert (info.width, info.height, info.frames, info.fps) == (64, 32, 32, 16.0)
        assert (info.duration, info.rotation, info.codec) == (2.0, 0, "h264")

    def test_a_recording_without_length_is_counted(self, tmp_path):
        class Pipe(io.RawIOBase):  # like a browser's recorder: the header is never completed
            def __init__(self):
                self.data = bytearray()

            def writable(self):
                return True

            def write(self, data):
                self.data += data
                return len(data)

        pipe = make_video(
            Pipe(),
            map(numbered, range(32)),
            codec="libvpx",
            container="webm",
            options={"live": "1"},
        )
        data = bytes(pipe.data)
        info = probe(data)
        assert (info.frames, round(info.duration, 2), round(info.fps)) == (32, 2.0, 16)
        with pytest.raises(ValueError, match=r"the file is 2\.0 s long; allowed are 1 s"):
            probe(data, max_seconds=1)
        with VideoReader(data, 16, 32, 64, max_seconds=1) as video:
            assert video.info.duration is None
            assert len(video.read(16)) == 16
            with pytest.raises(ValueError, match=r"is longer than 1\.5 s"):
                video.read(16)

    @pytest.mark.parametrize("name", ["a.mkv", "a.ts", "a.avi", "fragmented.mp4"])
    def test_a_truncated_file_gives_what_is_there(self, name, tmp_path):
        noise = np.random.default_rng(0).integers(0, 256, (64, 32, 64, 3), dtype=np.uint8)
        muxing = {"movflags": "frag_keyframe+empty_moov"} if "frag" in name else {}
        path = make_video(tmp_path / name, noise // 2, muxing=muxing)
        data = path.read_bytes()
        whole = len(numbers_of(data))
        half = len(numbers_of(data[: len(data) // 2]))
        assert whole == 64
        assert 20 <= half <= 44

    def test_damage_in_the_middle_is_skipped(self, tmp_path):
        rng = np.random.default_rng(0)
        frames = [numbered(i) + rng.integers(0, 4, (32, 64, 3), np.uint8) for i in range(64)]
        path = make_video(tmp_path / "a.ts", frames)
        data = bytearray(path.read_bytes())
        data[len(data) // 2 : len(data) // 2 + 500] = rng.bytes(500)
        shown = numbers_of(bytes(data))
        assert sum(a == b for a, b in zip(shown, range(64), strict=False)) > 48
        assert shown[-1] == 63

    @pytest.mark.parametrize(
        ("name", "data"),
        [
            ("empty.mp4", b""),
            ("text.mp4", b"hello there\n" * 50),
            ("noise.mp4", np.random.default_rng(0).bytes(5000)),
            ("picture.mp4", png_header(64, 64)),
            ("list.mp4", b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1/a.ts\n#EXT-X-ENDLIST\n"),
            ("concat.mp4", b"ffconcat version 1.0\nfile a.mp4\n"),
            ("archive.mp4", b"PK\x03\x04" + bytes(200)),
        ],
    )
    def test_other_files_are_one_clear_error(self, name, data, tmp_path):
        make_video(tmp_path / "a.mp4", [numbered(0)])  # what the list would have read
        path = tmp_path / name
        path.write_bytes(data)
        for use in (probe, lambda p: VideoReader(p, 16, 32, 64)):
            with pytest.raises(
                ValueError, match=rf"^{name} is not a video.*expected a video such as"
            ):
                use(path)

    def test_a_truncated_mp4_without_index_is_damaged(self, tmp_path):
        path = make_video(tmp_path / "a.mp4", map(numbered, range(20)))
        with pytest.raises(ValueError, match=r"^the file is not a video, or is damaged"):
            probe(path.read_bytes().partition(b"moov")[0])

    def test_nothing_decodable_is_an_error(self, tmp_path):
        path = make_video(tmp_path / "a.mp4", map(numbered, range(20)))
        data = bytearray(path.read_bytes())
        start = data.index(b"mdat") + 4
        data[start : data.index(b"moov") - 4] = bytes(data.index(b"moov") - 4 - start)
        with pytest.raises(ValueError, match=r"^no picture in the file can be decoded"):
            probe(bytes(data))

    def test_sound_only_is_called_sound(self, tmp_path):
        path = tmp_path / "speech.mp4"
        with wave.open(str(path), "wb") as sound:
            sound.setnchannels(1)
            sound.setsampwidth(2)
            sound.setframerate(8000)
            sound.writeframes(bytes(16000))
        with pytest.raises(ValueError, match=r"^speech\.mp4 holds only sound; expected a video"):
            probe(path)

    def test_limits_are_checked_early(self, tmp_path):
        path = make_video(tmp_path / "a.mp4", map(numbered, range(32)))
        with pytest.raises(ValueError, match=r"a\.mp4 is 64x32, 2,048 pixels; allowed are 2,000"):
            probe(path, max_pixels=2000)
        with pytest.raises(ValueError, match=r"a\.mp4 is 2\.0 s long; allowed are 1\.2 s"):
            VideoReader(path, 16, 32, 64, max_seconds=1.2)
        assert len(numbers_of(path, max_seconds=1.8)) == 32

    def test_a_bomb_of_an_animation_is_refused_cheaply(self):
        file = io.BytesIO()
        Image.new("P", (8, 8)).save(file, "GIF")
        data = bytearray(file.getvalue())
        data[6:10] = struct.pack("<HH", 60_000, 60_000)
        with pytest.raises(ValueError, match="no picture in the file can be decoded"):
            probe(bytes(data))

    @pytest.mark.parametrize(
        ("fps", "message"),
        [(0, "frame rate is 0; expected above 0"), (float("nan"), "frame rate is nan")],
    )
    def test_the_rate_is_checked(self, fps, message):
        with pytest.raises(ValueError, match=message):
            VideoReader(b"", fps, 32, 64)


class TestVideoResources:
    def open_files(self):
        return len(os.listdir("/proc/self/fd"))

    @pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files in /proc")
    def test_no_file_stays_open(self, tmp_path):
        good = make_video(tmp_path / "a.mp4", map(numbered, range(32)))
        bad = tmp_path / "bad.mp4"
        bad.write_bytes(good.read_bytes()[:-600])
        before = self.open_files()
        with VideoReader(good, 16, 32, 64) as video:
            next(video)
        exhausted = VideoReader(good, 16, 32, 64)
        assert len(list(exhausted)) == 32
        closed = VideoReader(good, 16, 32, 64)
        closed.close()
        closed.close()
        assert list(closed) == []
        for refuse in (
            lambda: probe(bad),
            lambda: probe(good, max_seconds=1),
            lambda: probe(good, max_pixels=10),
        ):
            with pytest.raises(ValueError, match="mp4"):
                refuse()
        assert self.open_files() == before

    def test_memory_does_not_depend_on_the_length(self, tmp_path):
        def peak(count):
            frames = (numbered(i % 256) for i in range(count))
            path = make_video(tmp_path / f"{count}.mp4", frames)
            with VideoReader(path, 16, 32, 64) as video:
                video.read(12)
                tracemalloc.start()
                assert sum(1 for _ in video) == count - 12
                used = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            return used

        assert peak(600) < peak(100) + 100_000


@pytest.mark.parametrize("crf", [18, 0])
@pytest.mark.parametrize(
    "colour", [(30, 180, 40), (30, 40, 200), (220, 180, 40), (20, 200, 200), (5, 5, 5)]
)
def test_a_result_that_is_fed_back_in_keeps_its_colours(tmp_path, colour, crf):
    """Five times through the codec: what is rounded is rounded both ways."""
    clip = np.full((6, 64, 96, 3), colour, np.uint8)
    for _ in range(5):
        write_video(tmp_path / "again.mp4", clip, 16, crf=crf)
        with VideoReader(tmp_path / "again.mp4", 16, 64, 96) as video:
            clip = video.read(6)
    assert np.abs(clip[3, 32, 48].astype(int) - colour).max() <= 2


MOVING = {"GIF": {}, "PNG": {}, "WEBP": {"lossless": True}, "AVIF": {"quality": 100}}


def moving(kind: str, lengths: list[int], mode: str = "RGB", **options) -> bytes:
    """An animation that becomes brighter; each picture is shown for so many milliseconds."""
    shades = np.linspace(20, 220, len(lengths)).astype(int)
    pictures = [
        Image.new(mode, (32, 24), (shade,) * 3 + (255,) * (len(mode) - 3))
        for shade in map(int, shades)
    ]
    file = io.BytesIO()
    options = {"save_all": True, "append_images": pictures[1:], "duration": lengths, **options}
    pictures[0].save(file, kind, **MOVING[kind], **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", MOVING)
@pytest.mark.parametrize("lengths", [[100] * 5, [50, 400, 100, 250], [1000, 40, 40, 40, 1000]])
def test_animations_are_read_with_their_own_times(kind, lengths):
    data = moving(kind, lengths)
    info = probe(data, whole=True)
    assert info.frames == len(lengths) and info.duration == pytest.approx(sum(lengths) / 1000)
    with VideoReader(data, 50, 24, 32) as video:
        shades = video.read(999).mean((1, 2, 3))
    assert len(shades) == pytest.approx(sum(lengths) / 20, abs=1)
    steps = np.flatnonzero(np.diff(shades) > 5) + 1
    np.testing.assert_allclose(steps, np.cumsum(lengths)[:-1] / 20, atol=1)
    assert (np.diff(shades) > -2).all() and shades[0] < 30 and shades[-1] > 210


@pytest.mark.parametrize("suffix", ["webp", "mp4", "jpg", ""])
def test_an_animated_webp_is_one_whatever_its_name(tmp_path, suffix):
    path = tmp_path / f"moving.{suffix}"
    path.write_bytes(moving("WEBP", [100] * 4))
    assert probe(path).frames == 4
    with path.open("rb") as file, VideoReader(file, 10, 24, 32) as video:
        assert len(video.read(9)) == 4
    assert add_sound(path, path) is None, "it has none, and that is told as of a silent film"


def test_an_animated_webp_without_times_is_shown_as_browsers_show_it():
    assert probe(moving("WEBP", [0, 0, 0, 0])).duration == pytest.approx(0.4)


def test_an_animated_webp_lies_on_white_where_it_is_transparent():
    pictures = [Image.new("RGBA", (32, 24), (255, 0, 0, 0)) for _ in range(3)]
    for number, picture in enumerate(pictures):
        picture.paste((0, 0, 200, 255), (0, 0, 8 + number, 24))
    file = io.BytesIO()
    pictures[0].save(
        file, "WEBP", save_all=True, append_images=pictures[1:], duration=100, lossless=True
    )
    with VideoReader(file.getvalue(), 10, 24, 32) as video:
        seen = video.read(9)
    assert len(seen) == 3 and (seen[:, :, 20:] == 255).all() and (seen[:, :, :6, 2] > 190).all()
    assert any("white" in remark for remark in probe(file.getvalue()).remarks)


def canvas(width: int, height: int, pictures: int = 2, milliseconds: int = 100) -> bytes:
    """The chunks of an animation, with nothing in them."""
    chunk = lambda kind, data: kind + struct.pack("<I", len(data)) + data  # noqa: E731
    sides = b"".join((side - 1).to_bytes(3, "little") for side in (width, height))
    time = milliseconds.to_bytes(3, "little")
    frame = chunk(b"ANMF", bytes(6) + sides + time + bytes(1))
    body = b"WEBP" + chunk(b"VP8X", b"\2" + bytes(3) + sides) + chunk(b"ANIM", bytes(6))
    return chunk(b"RIFF", body + frame * pictures)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (canvas(16_000, 16_000), "16000x16000, 256,000,000 pixels; allowed are 8,294,400"),
        (canvas(64, 48, pictures=100_001), "more than 100,000 pictures"),
        (canvas(64, 48, pictures=700), "is 70.0 s long; allowed are 60 s"),
        (canvas(64, 48), "is an animated WebP that is damaged"),
        (moving("WEBP", [100] * 5)[:-60], "is an animated WebP that is damaged"),
        (moving("WEBP", [100])[:40], "a WebP picture; expected a video such as"),
        (b"RIFF\0\0\0\0WEBP", "a WebP picture; expected a video such as"),
        (b"RIFF\0\0\0\0WEB", "is not a video, or is damaged"),
    ],
)
def test_a_webp_that_cannot_be_read_as_a_video_is_refused_by_its_name(tmp_path, data, said):
    path = tmp_path / "moving.webp"
    path.write_bytes(data)
    for source, name in ((path, "moving.webp"), (data, "the file")):
        with pytest.raises(ValueError, match=re.escape(said)) as caught:
            probe(source, max_seconds=60)
        assert name in str(caught.value) and str(tmp_path) not in str(caught.value)


def test_an_animated_webp_has_the_budget_of_any_video():
    fast = moving("WEBP", [1] * 6)
    assert probe(fast, whole=True).fps == 1000
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("causvid.media.clock.MAX_PIXEL_RATE", 32 * 24 * 3)
        with pytest.raises(ValueError, match="million pixels a second"):
            probe(fast, whole=True)
        with pytest.raises(ValueError, match="million pixels a second"):
            VideoReader(fast, 1000, 24, 32).read(9)
