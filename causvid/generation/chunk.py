"""What one step of a stream returns: pictures, times, and the drift gauge.

Errors of autoregressive video pile up as over-saturation, contrast that grows or fades, and blur.
`Looks` has three numbers per chunk that show it, relative to the first chunk, while it happens.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from causvid.generation.cues import Handover

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


@dataclass(frozen=True)
class Looks:
    """Statistics of some frames, each in [0, 1].

    Attributes:
        saturation: mean spread between the strongest and the weakest colour channel.
        contrast: standard deviation of luma, of each picture, averaged.
        sharpness: mean difference of luma between neighbouring pixels.
    """

    saturation: float
    contrast: float
    sharpness: float

    @classmethod
    def of(cls, frames: Tensor) -> "Looks":
        """Looks of uint8 frames `[t, h, w, 3]`, found on the device where they lie."""
        red, green, blue = frames.unbind(-1)
        spread = red.maximum(green).maximum(blue) - red.minimum(green).minimum(blue)
        channels = zip(_LUMA, (red, green, blue), strict=True)
        weighted = [weight * channel.float() for weight, channel in channels]
        luma = weighted[0] + weighted[1] + weighted[2]
        steps = [luma.diff(dim=dim).abs().mean() for dim in (1, 2)]
        found = torch.stack(
            [
                spread.float().mean(),
                luma.flatten(1).std(dim=1, correction=0).mean(),
                (steps[0] + steps[1]) / 2,
            ]
        )
        return cls(*(found / 255).tolist())

    def relative_to(self, reference: "Looks") -> "Looks":
        """Each number over that of `reference`: 1 means unchanged."""
        floor = 1e-3  # a black or flat reference must not turn noise into drift
        return Looks(
            saturation=(self.saturation + floor) / (reference.saturation + floor),
            contrast=(self.contrast + floor) / (reference.contrast + floor),
            sharpness=(self.sharpness + floor) / (reference.sharpness + floor),
        )


@dataclass(frozen=True)
class Timings:
    """Seconds spent on one chunk. Remembering the chunk before it, which nobody waited for, is part
    of `denoise`."""

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
        looks: statistics of every third of the pictures.
        drift: those relative to the first chunk's; 1 is unchanged.
        timings: seconds that each part took.
        source: the source's pictures, like `frames`; video-to-video only.
        strength: noise level the source was raised to; video-to-video only.
        source_time: time stamp of the newest of the source's pictures; of a live source only.
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
    source_time: float | None = None
