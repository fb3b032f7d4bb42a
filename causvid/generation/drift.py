"""The drift gauge: have the pictures changed their looks since the stream began?

Errors of autoregressive video pile up as over-saturation, contrast that grows or fades, and blur.
Three numbers per chunk, relative to the first chunk, show it while it happens.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

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
        luma = sum(
            weight * channel.float()
            for weight, channel in zip(_LUMA, (red, green, blue), strict=True)
        )
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
