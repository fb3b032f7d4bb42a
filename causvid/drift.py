"""The drift gauge: have the pictures changed their looks since the stream began?

Errors of autoregressive video pile up as over-saturation, contrast that grows or fades, and blur.
Three numbers per chunk, relative to the first chunk, show it while it happens.
"""

from dataclasses import dataclass

import numpy as np

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601


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
    def of(cls, frames: np.ndarray) -> "Looks":
        """Looks of uint8 frames `[t, h, w, 3]`."""
        pixels = frames.astype(np.float32) / 255
        luma = pixels @ _LUMA
        return cls(
            saturation=float((pixels.max(-1) - pixels.min(-1)).mean()),
            contrast=float(luma.std(axis=(1, 2)).mean()),
            sharpness=float(
                (np.abs(np.diff(luma, axis=1)).mean() + np.abs(np.diff(luma, axis=2)).mean()) / 2
            ),
        )

    def relative_to(self, reference: "Looks") -> "Looks":
        """Each number over that of `reference`: 1 means unchanged."""
        floor = 1e-3  # a black or flat reference must not turn noise into drift
        return Looks(
            saturation=(self.saturation + floor) / (reference.saturation + floor),
            contrast=(self.contrast + floor) / (reference.contrast + floor),
            sharpness=(self.sharpness + floor) / (reference.sharpness + floor),
        )
