"""What one step of a stream returns."""

from dataclasses import dataclass

import numpy as np

from causvid.generation.cues import Handover
from causvid.generation.drift import Looks


@dataclass(frozen=True)
class Timings:
    """Seconds spent on one chunk."""

    text: float
    source: float
    denoise: float
    decode: float

    @property
    def total(self) -> float:
        return self.text + self.source + self.denoise + self.decode


@dataclass(frozen=True, eq=False)
class FrameChunk:
    """What one step returns.

    Attributes:
        index: number of the chunk, from 0.
        frames: pictures, uint8 `[t, h, w, 3]`.
        first_frame: index of the first picture in the video.
        start, end: the span it plays in, seconds.
        prompt: the prompt in force; the one that is coming in during a blend.
        handover: how the prompt took over, if it did so at this chunk.
        looks: statistics of the pictures.
        drift: those relative to the first chunk's; 1 is unchanged.
        timings: seconds that each part took.
        source: the source's pictures, like `frames`; video-to-video only.
        strength: noise level the source was raised to; video-to-video only.
    """

    index: int
    frames: np.ndarray
    first_frame: int
    start: float
    end: float
    prompt: str
    handover: Handover | None
    looks: Looks
    drift: Looks
    timings: Timings
    source: np.ndarray | None = None
    strength: float | None = None
