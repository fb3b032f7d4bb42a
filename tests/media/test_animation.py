"""Videos as pictures that move."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from causvid.media import animation, write_animation
from tests.videos import write_video


@pytest.fixture
def video(tmp_path) -> Path:
    frames = np.zeros((32, 64, 96, 3), np.uint8)
    frames[..., 0] = np.linspace(0, 255, 32, dtype=np.uint8)[:, None, None]
    write_video(tmp_path / "video.mp4", frames, fps=16)
    return tmp_path / "video.mp4"


def reds(path: Path) -> list[int]:
    with PIL.Image.open(path) as moving:
        shown = []
        for index in range(moving.n_frames):
            moving.seek(index)
            shown.append(moving.convert("RGB").getpixel((24, 16))[0])
        return shown


@pytest.mark.parametrize("suffix", animation.SUFFIXES)
def test_every_picture_of_a_short_video_moves_on(video, suffix):
    target = video.with_suffix(suffix)
    write_animation(video, target, width=96, height=64, fps=16)
    with PIL.Image.open(target) as moving:
        assert moving.size == (96, 64) and moving.info["loop"] == 0
    shown = reds(target)
    assert len(shown) == 32 and shown == sorted(shown) and shown[-1] - shown[0] > 200


@pytest.mark.parametrize("suffix", animation.SUFFIXES)
def test_of_a_long_one_pictures_are_left_out_evenly_and_a_wide_one_is_smaller(
    video, suffix, monkeypatch
):
    monkeypatch.setattr(animation, "MAX_WIDTH", 48)
    monkeypatch.setattr(animation, "MAX_PIXELS", 48 * 32 * 16)
    target = video.with_suffix(suffix)
    write_animation(video, target, width=96, height=64, fps=16)
    with PIL.Image.open(target) as moving:
        assert moving.size == (48, 32)
        moving.load()  # WebP tells it of the picture that was read last
        assert moving.info["duration"] == pytest.approx(125, abs=6)
    shown = reds(target)
    assert len(shown) == 16 and max(np.diff(shown)) < 30


def test_one_that_would_hardly_move_is_refused(video, monkeypatch):
    monkeypatch.setattr(animation, "MAX_PIXELS", 96 * 64 * 4)
    with pytest.raises(ValueError, match="the video has 2 s; gif files are made of up to 1 s"):
        write_animation(video, video.with_suffix(".gif"), width=96, height=64, fps=16)
    assert not video.with_suffix(".gif").exists()
