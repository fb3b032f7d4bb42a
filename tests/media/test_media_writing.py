"""Writing MP4 files, and the fragments that a browser plays."""

import io
import os
import re
import tracemalloc
from fractions import Fraction

import av
import numpy as np
import pytest

from causvid.media import FragmentMuxer, VideoReader, VideoWriter, probe
from tests.videos import write_video

SIZE = (32, 64)
CHUNKS = (1, 1, 12, 12, 5, 12)


def clip(count, seed=0, height=SIZE[0], width=SIZE[1]):
    """Smooth coloured pictures that move."""
    t, y, x = np.mgrid[:count, :height, :width] + np.array([seed, 0, 0]).reshape(3, 1, 1, 1)
    channels = (x * 3 + t * 5, y * 4 + t * 3, 255 - x * 2 - y + t * 2)
    return np.stack([np.clip(channel, 0, 255) for channel in channels], axis=-1).astype(np.uint8)


def chunks():
    return [clip(count, seed=7 * i) for i, count in enumerate(CHUNKS)]


def decoded(source):
    """All frames as stored, and their times in seconds."""
    source = io.BytesIO(source) if isinstance(source, bytes) else source
    with av.open(source) as container:
        frames = list(container.decode(video=0))
    pictures = np.stack([frame.to_ndarray(format="yuv420p") for frame in frames])
    return pictures, [frame.pts * frame.time_base for frame in frames]


def boxes(data):
    position, found = 0, []
    while position < len(data):
        found.append(data[position + 4 : position + 8].decode())
        position += int.from_bytes(data[position : position + 4], "big")
    return found


class TestWriteVideo:
    def test_every_frame_is_written_once_at_its_time(self, tmp_path):
        path = tmp_path / "a.mp4"
        assert write_video(path, clip(40), 16) == 40
        pictures, times = decoded(str(path))
        assert len(pictures) == 40
        assert times == [Fraction(i, 16) for i in range(40)]

    @pytest.mark.parametrize("fps", [24, 12.5, Fraction(30000, 1001), 29.97002997])
    def test_any_rate_is_exact(self, fps, tmp_path):
        write_video(tmp_path / "a.mp4", clip(30), fps)
        exact = Fraction(fps).limit_denominator(1001)
        assert decoded(str(tmp_path / "a.mp4"))[1] == [i / exact for i in range(30)]

    def test_browsers_can_play_it_while_it_loads(self, tmp_path):
        write_video(tmp_path / "a.mp4", clip(4), 16)
        found = boxes((tmp_path / "a.mp4").read_bytes())
        assert found.index("moov") < found.index("mdat")
        with av.open(str(tmp_path / "a.mp4")) as container:
            codec = container.streams.video[0].codec_context
            assert (codec.name, codec.pix_fmt) == ("h264", "yuv420p")
            assert codec.colorspace == codec.color_primaries == codec.color_trc == 1  # BT.709

    def test_what_is_written_is_read_again(self, tmp_path):
        write_video(tmp_path / "a.mp4", clip(20), 16)
        with VideoReader(tmp_path / "a.mp4", 16, *SIZE) as video:
            difference = np.abs(video.read(99).astype(int) - clip(20))
        assert difference.mean() < 3

    def test_same_frames_are_same_bytes(self, tmp_path):
        for name in ("a.mp4", "b.mp4"):
            write_video(tmp_path / name, clip(40), 16)
        assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()

    def test_frames_may_be_drawn_one_by_one_or_in_clips(self, tmp_path):
        assert write_video(tmp_path / "a.mp4", iter(clip(40)), 16) == 40
        assert write_video(tmp_path / "b.mp4", iter([clip(40)[:25], clip(40)[25:]]), 16) == 40
        assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()

    def test_odd_sizes_repeat_their_edge(self, tmp_path):
        write_video(tmp_path / "a.mp4", np.full((3, 33, 65, 3), 200, np.uint8), 16)
        info = probe(tmp_path / "a.mp4")
        assert (info.height, info.width) == (34, 66)
        with VideoReader(tmp_path / "a.mp4", 16, 34, 66) as video:
            assert np.abs(next(video).astype(int) - 200).max() <= 2

    def test_a_file_appears_complete_or_not_at_all(self, tmp_path):
        path = tmp_path / "a.mp4"
        path.write_bytes(b"older")
        with pytest.raises(RuntimeError), VideoWriter(path, 16) as video:
            video.append(clip(12))
            raise RuntimeError
        assert path.read_bytes() == b"older"
        assert os.listdir(tmp_path) == ["a.mp4"]
        with VideoWriter(path, 16) as video:
            video.append(clip(12))
            assert path.read_bytes() == b"older"
        assert probe(path).frames == 12
        assert os.listdir(tmp_path) == ["a.mp4"]

    @pytest.mark.parametrize(
        ("name", "frames", "fps", "message"),
        [
            ("a.mp4", [], 16, "no frames to write to a.mp4"),
            ("a.webm", clip(1), 16, "a.webm does not end in .mp4"),
            ("gone/a.mp4", clip(1), 16, "folder for a.mp4 does not exist"),
            ("a.mp4", clip(1), 0, "frame rate is 0"),
            ("a.mp4", clip(2).astype(np.float32), 16, "float32 [32, 64, 3]; expected uint8"),
            ("a.mp4", clip(2)[..., :1], 16, "uint8 [32, 64, 1]; expected uint8 [t, h, w, 3]"),
            ("a.mp4", [clip(1), clip(1, height=48)], 16, "frames of 64x48; expected 64x32"),
        ],
    )
    def test_unusable_requests_are_named_and_leave_nothing(
        self, name, frames, fps, message, tmp_path
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            write_video(tmp_path / name, frames, fps)
        assert os.listdir(tmp_path) == []


class TestFragmentMuxer:
    @pytest.fixture
    def muxer(self):
        with FragmentMuxer(16, *SIZE) as muxer:
            yield muxer

    def test_fragments_in_a_row_are_one_valid_video(self, muxer):
        data = muxer.init + b"".join(muxer.append(chunk).data for chunk in chunks())
        pictures, times = decoded(data)
        assert len(pictures) == sum(CHUNKS)
        assert times == [Fraction(i, 16) for i in range(sum(CHUNKS))]

    def test_fragments_know_their_place(self, muxer):
        fragments = [muxer.append(chunk) for chunk in chunks()]
        assert [fragment.index for fragment in fragments] == list(range(len(CHUNKS)))
        assert [fragment.frame_count for fragment in fragments] == list(CHUNKS)
        assert [fragment.first_frame for fragment in fragments] == [0, 1, 2, 14, 26, 31]
        assert muxer.frame_count == sum(CHUNKS)
        for fragment in fragments:
            assert boxes(fragment.data) == ["moof", "mdat"]
            sequence = fragment.data.index(b"mfhd") + 8
            assert (
                int.from_bytes(fragment.data[sequence : sequence + 4], "big") == fragment.index + 1
            )

    def test_each_fragment_is_one_key_frame_and_what_depends_on_it(self, muxer):
        for chunk in chunks():
            cut = np.concatenate([chunk, 255 - chunk])  # a hard cut in the middle
            fragment = muxer.append(cut)
            with av.open(io.BytesIO(muxer.init + fragment.data)) as container:
                keys = [packet.is_keyframe for packet in container.demux(video=0) if packet.size]
            assert keys == [True] + [False] * (len(cut) - 1)

    def test_the_initialisation_segment_is_known_before_the_first_chunk(self, muxer):
        assert boxes(muxer.init) == ["ftyp", "moov"]
        assert re.fullmatch(r'video/mp4; codecs="avc1\.[0-9a-f]{6}"', muxer.mime)
        with FragmentMuxer(16, *SIZE) as other:
            assert other.init == muxer.init

    def test_same_chunks_are_same_bytes(self, muxer):
        with FragmentMuxer(16, *SIZE) as other:
            for chunk in chunks():
                assert muxer.append(chunk) == other.append(chunk)

    def test_pictures_do_not_depend_on_the_chunks_before(self, muxer):
        alone = muxer.append(clip(12))
        muxer.append(clip(5, seed=50))
        later = muxer.append(clip(12))
        assert np.array_equal(
            decoded(muxer.init + alone.data)[0], decoded(muxer.init + later.data)[0]
        )

    def test_finish_copies_the_pictures_into_one_file(self, muxer, tmp_path):
        data = muxer.init + b"".join(muxer.append(chunk).data for chunk in chunks())
        assert muxer.finish(tmp_path / "a.mp4") == sum(CHUNKS)
        pictures, times = decoded(str(tmp_path / "a.mp4"))
        assert np.array_equal(pictures, decoded(data)[0])
        assert times == [Fraction(i, 16) for i in range(sum(CHUNKS))]
        found = boxes((tmp_path / "a.mp4").read_bytes())
        assert found.index("moov") < found.index("mdat")
        assert probe(tmp_path / "a.mp4").duration == sum(CHUNKS) / 16

    def test_a_finished_video_can_be_extended(self, muxer, tmp_path):
        muxer.append(clip(12))
        assert muxer.finish(tmp_path / "a.mp4") == 12
        muxer.append(clip(12, seed=5))
        assert muxer.finish(tmp_path / "a.mp4") == 24
        assert len(decoded(str(tmp_path / "a.mp4"))[0]) == 24

    def test_one_chunk_can_be_saved_to_play_by_itself(self, muxer, tmp_path):
        fragments = [muxer.append(chunk) for chunk in chunks()]
        for fragment in fragments:
            path = tmp_path / f"{fragment.index}.mp4"
            assert muxer.save_chunk(fragment, path) == fragment.frame_count
            assert decoded(str(path))[1] == [Fraction(i, 16) for i in range(fragment.frame_count)]
            assert boxes(path.read_bytes())[:2] == ["ftyp", "moov"]

    @pytest.mark.parametrize("fps", [12.5, 24, Fraction(30000, 1001)])
    def test_any_rate_is_exact(self, fps, tmp_path):
        with FragmentMuxer(fps, 33, 65) as muxer:
            data = muxer.init + b"".join(
                muxer.append(clip(5, seed=i, height=33, width=65)).data for i in range(3)
            )
            muxer.finish(tmp_path / "a.mp4")
        expected = [i / Fraction(fps).limit_denominator(1001) for i in range(15)]
        assert decoded(data)[1] == decoded(str(tmp_path / "a.mp4"))[1] == expected

    def test_noise_does_not_flood_the_line(self, muxer):
        noise = np.random.default_rng(0).integers(0, 256, (48, *SIZE, 3), dtype=np.uint8)
        size = sum(len(muxer.append(part).data) for part in np.split(noise, 4))
        assert size * 8 / 3 < 3 * 100_000  # bits a second, of small pictures' ceiling

    def test_memory_does_not_grow(self, muxer):
        def peak(count):
            tracemalloc.start()
            for i in range(count):
                muxer.append(clip(4, seed=i))
            used = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            return used

        first = peak(10)
        assert peak(60) < first + 50_000

    @pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files in /proc")
    def test_nothing_is_left_open(self, tmp_path):
        before = len(os.listdir("/proc/self/fd"))
        with FragmentMuxer(16, *SIZE) as muxer:
            fragment = muxer.append(clip(4))
            muxer.finish(tmp_path / "a.mp4")
            muxer.save_chunk(fragment, tmp_path / "b.mp4")
        muxer.close()
        assert len(os.listdir("/proc/self/fd")) == before
        assert sorted(os.listdir(tmp_path)) == ["a.mp4", "b.mp4"]

    def test_unusable_input_is_named(self, muxer, tmp_path):
        with pytest.raises(ValueError, match=r"no frames to write to a\.mp4"):
            muxer.finish(tmp_path / "a.mp4")
        with pytest.raises(ValueError, match="a chunk without frames; expected at least one"):
            muxer.append(clip(1)[:0])
        with pytest.raises(ValueError, match="frames of 64x48; expected 64x32"):
            muxer.append(clip(1, height=48))
        with pytest.raises(ValueError, match=r"float64 .* expected uint8"):
            muxer.append(clip(1) / 255)
        with pytest.raises(ValueError, match="size is 0x32; expected at least 2x2"):
            FragmentMuxer(16, 32, 0)
        muxer.append(clip(1))
        with pytest.raises(ValueError, match=r"a\.avi does not end in \.mp4"):
            muxer.finish(tmp_path / "a.avi")
        assert os.listdir(tmp_path) == []


def test_harsh_noise_gives_the_same_bytes_every_time(tmp_path):
    """Pictures on which x264's default rate control was seen to differ from run to run."""
    rng = np.random.default_rng(1)
    frames = rng.integers(0, 2, (37, 64, 96, 3), dtype=np.uint8) * 255
    files = []
    for k in range(4):
        write_video(tmp_path / f"{k}.mp4", frames, fps=16)
        files.append((tmp_path / f"{k}.mp4").read_bytes())
    assert len(set(files)) == 1
