"""How well a codec keeps pictures: error, sharpness, and whether its grid shows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from causvid.model.codec import TinyCodec
from causvid.model.tiny_autoencoder import TinyAutoencoder
from causvid.world.pixels import clip_to_pixels, psnr


@torch.no_grad()
def reconstruct(model: TinyAutoencoder, clips: Sequence[Tensor]) -> Tensor:
    """What a viewer would see: pixels [b, t, 3, H, W] in [-1, 1] through encode and decode."""
    codec = TinyCodec(model)
    state = codec.start()
    return codec.decode(codec.encode(clip_to_pixels(clips), state), state)


@dataclass(frozen=True)
class Fidelity:
    """How close reconstructions are.

    Attributes:
        psnr: dB, from the mean square error of all clips together.
        seam: gradient across latent-cell borders over gradient elsewhere, divided by the same
            figure of the originals; 1.0 means an invisible grid.
        sharpness: mean gradient magnitude over that of the originals.
    """

    psnr: float
    seam: float
    sharpness: float


def measure(model: TinyAutoencoder, clips: Iterable[Tensor]) -> Fidelity:
    """Fidelity over clips, one at a time."""
    errors, seams, sharp = [], [], []
    for clip in clips:
        real = clip_to_pixels([clip])
        made = reconstruct(model, [clip])
        errors.append(F.mse_loss(made, real).item())
        stride = model.spatial_stride
        seams.append([seam(x, stride) for x in (made, real)])
        sharp.append([sum(g.abs().mean().item() for g in gradients(x)) for x in (made, real)])
    made_seam, real_seam = torch.tensor(seams).sum(0).tolist()
    made_sharp, real_sharp = torch.tensor(sharp).sum(0).tolist()
    return Fidelity(
        psnr=psnr(sum(errors) / len(errors), peak=2),
        seam=made_seam / real_seam,
        sharpness=made_sharp / real_sharp,
    )


def gradients(x: Tensor) -> tuple[Tensor, Tensor]:
    """Across columns and across rows; the last dimension counts the steps of either."""
    return x.diff(dim=-1), x.diff(dim=-2).mT


def borders(gradient: Tensor, stride: int) -> Tensor:
    """Which steps of a gradient cross the border of a cell of `stride` pixels."""
    return torch.arange(1, gradient.shape[-1] + 1, device=gradient.device) % stride == 0


def seam(pixels: Tensor, stride: int) -> float:
    """Gradient of pixels [b, t, 3, H, W] across borders of `stride`-pixel cells over elsewhere."""
    ratios = []
    for gradient in gradients(pixels):
        columns = gradient.abs().mean(dim=tuple(range(gradient.ndim - 1)))
        border = borders(gradient, stride)
        ratios.append((columns[border].mean() / columns[~border].mean()).item())
    return sum(ratios) / 2
