"""Whole videos as files."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from causvid.media import VideoWriter
from causvid.media.clock import Rate


def write_video(path: str | Path, frames: Iterable[np.ndarray], fps: Rate, *, crf: int = 18) -> int:
    """Write an MP4 file from an array `[t, h, w, 3]`, or from any iterable of frames or clips.

    Returns:
        The number of frames written.

    Raises:
        ValueError: as `VideoWriter`.
    """
    with VideoWriter(path, fps, crf=crf) as video:
        for frame in frames:
            video.append(frame)
    return video.frame_count
