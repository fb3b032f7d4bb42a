"""A small autoencoder in closed form; what is left to explain is trained (`decoder.py`).

1. `fit_encoder`: principal components of space-time patches. From then on the latents never change,
   so a teacher can be trained on them at once.
2. `fit_decoder`: least squares from 3x3 neighbourhoods of latents (current and previous) to pixels.

Clips and pixels are those of `causvid.world.pixels`.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from causvid.generation.geometry import Size
from causvid.model.tiny_autoencoder import LinearShortcut, MemoryBlock, TinyAutoencoder
from causvid.training.config import CodecConfig
from causvid.training.footage import Footage
from causvid.world.pixels import clip_to_pixels, with_run_up

logger = logging.getLogger(__name__)


def fit_codec(
    config: CodecConfig, footage: Footage, sizes: Sequence[Size], *, seed: int = 0
) -> TinyAutoencoder:
    """A codec that works without any training: a linear one, and convolutions that add nothing.

    Args:
        footage: draws the clips.
        sizes: theirs, in turn.
    """
    architecture = asdict(config)
    count, frames, noise = (architecture.pop(name) for name in ("clips", "frames", "latent_noise"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = TinyAutoencoder(encoder_channels=(), **architecture)
        rng = np.random.default_rng(seed)
        clips = [footage(rng, frames, sizes[i % len(sizes)])[0] for i in range(count)]
        fit_encoder(model, clips)
        fit_decoder(model, clips, noise)
    return model.eval()


@torch.no_grad()
def fit_encoder(model: TinyAutoencoder, clips: Iterable[Tensor]) -> None:
    """Sets the linear encoder to whitened principal components, and the latent normalisation.

    Raw latents have unit variance each, which suits the convolutions. Normalised ones, which the
    diffusion model sees, keep part of their unequal weight in the picture: a standard deviation
    proportional to the square root of the component's (root mean square 1 over channels). Equal
    variance would make most of the diffusion loss a matter of texture. Motion, where it is encoded,
    weighs as much as the strongest component.
    """
    shortcut = _shortcut_of(model)
    size = 3 * shortcut.frames * shortcut.stride**2
    count, total, energy = 0, torch.zeros(size, dtype=torch.float64), 0.0
    second = torch.zeros(size, size, dtype=torch.float64)
    for clip in clips:
        patches, motion = _patches(clip, model)
        rows = patches.movedim(1, -1).flatten(0, -2) - 0.5
        count += len(rows)
        total += rows.sum(0, dtype=torch.float64)
        second += rows.T @ rows
        energy += motion.square().sum().item()
    mean = total / count
    covariance = second / count - torch.outer(mean, mean)
    values, vectors = torch.linalg.eigh(covariance)
    channels = shortcut.encoder.out_channels
    deviations = values[-channels:].flip(0).clamp_min(1e-12).sqrt()
    components = vectors[:, -channels:].flip(1).T / deviations[:, None]
    _set(shortcut.encoder, components, -components @ (mean + 0.5))
    scale, raw = deviations.sqrt(), torch.ones(channels, dtype=torch.float64)
    if model.config.motion:
        raw = torch.cat(
            [raw, raw.new_tensor(energy / (2 * count)).clamp_min(1e-4).sqrt().expand(2)]
        )
        scale = torch.cat([scale, scale[:1].expand(2)])
    scale = scale / scale.square().mean().sqrt()
    model.register_to_config(latents_mean=[0.0] * len(scale), latents_std=(raw / scale).tolist())
    explained = values[-channels:].sum() / values.sum()
    logger.info("encoder: %d patches, %.2f %% of the variance kept", count, 100 * explained)


@torch.no_grad()
def fit_decoder(model: TinyAutoencoder, clips: Iterable[Tensor], latent_noise: float) -> None:
    """Sets the decoder shortcut to the least-squares map from noisy latents to pixels, or to the
    best such map of its rank.

    It is Wiener's filter: the more a neighbour, in space or time, tells about a pixel, the more
    it is asked, and the less the errors of one latent show as a seam or a flicker.

    Args:
        latent_noise: standard deviation of white noise on normalised latents. More costs fidelity
            where latents are exact, and gains it where a model has made them: 0.25 costs 0.4 dB
            and takes two fifths off the flicker of the student's videos.
    """
    shortcut = _shortcut_of(model)
    latents_seen, channels = shortcut.latents, model.config.latent_channels
    inputs, outputs = latents_seen * channels * 9 + 1, shortcut.decoder.out_channels
    gram = torch.zeros(inputs, inputs, dtype=torch.float64)
    cross = torch.zeros(inputs, outputs + 2, dtype=torch.float64)
    count = 0
    for clip in clips:
        targets, motion = _patches(clip, model)
        latents = shortcut.encoder(F.pixel_shuffle(targets, shortcut.stride))
        if model.config.motion:
            latents = torch.cat([latents, motion], dim=1)
        targets = torch.cat([targets, motion], dim=1)
        history = torch.cat([latents[:1].expand(latents_seen - 1, -1, -1, -1), latents])
        seen = [history[i : i + len(latents)] for i in reversed(range(latents_seen))]
        columns = F.unfold(F.pad(torch.cat(seen, dim=1), (1, 1, 1, 1), mode="replicate"), 3)
        rows = columns.movedim(1, -1).flatten(0, 1)
        rows = torch.cat([rows, rows.new_ones(len(rows), 1)], dim=1)
        gram += rows.T @ rows
        cross += rows.T @ targets.movedim(1, -1).flatten(0, -2)
        count += len(rows)
    # Noise adds its variance, and nothing else, to what a least-squares fit sees of its inputs.
    scale = latent_noise * torch.tensor(model.config.latents_std, dtype=torch.float64)
    variance = scale.square().repeat(latents_seen)[:, None].expand(-1, 9).flatten()
    gram.diagonal()[:-1] += count * variance
    solution = torch.linalg.solve(gram, cross[:, :outputs]).T  # [outputs, inputs]
    _set_linear_map(shortcut, solution[:, :-1], solution[:, -1], gram / count)
    if shortcut.motion is not None:
        now = torch.tensor([*range(channels * 9), inputs - 1])  # the current latent comes first
        solution = torch.linalg.solve(gram[now][:, now], cross[now, outputs:]).T
        _set(shortcut.motion, solution[:, :-1], solution[:, -1])
    if model.decoder is not None:
        begin_decoder(model)


def _set_linear_map(shortcut: LinearShortcut, weight: Tensor, bias: Tensor, moments: Tensor):
    """The decoder of a shortcut, or the best one of its rank.

    Args:
        weight, bias: `[outputs, inputs]`, `[outputs]`.
        moments: second moments of inputs and a constant 1, `[inputs + 1, inputs + 1]`.
    """
    if shortcut.mixer is not None:
        # Reduced-rank regression: kept are the directions in which pixels vary most. The mean of
        # what is lost goes to the bias.
        mean = moments[:-1, -1]
        spread = moments[:-1, :-1] - torch.outer(mean, mean)
        _, directions = torch.linalg.eigh(weight @ spread @ weight.T)
        directions = directions[:, -shortcut.mixer.out_channels :]
        mixer = directions.T @ weight
        bias = bias + (weight - directions @ mixer) @ mean
        shortcut.mixer.weight.copy_(mixer.reshape(shortcut.mixer.weight.shape))
        weight = directions
    _set(shortcut.decoder, weight, bias)


def _set(layer: nn.Conv2d, weight: Tensor, bias: Tensor) -> None:
    layer.weight.copy_(weight.reshape(layer.weight.shape))
    if layer.bias is not None:
        layer.bias.copy_(bias)


def begin_decoder(model: TinyAutoencoder) -> None:
    """Convolutions that carry their input through at full strength and add nothing to the output.

    Residual branches and the last convolution start at zero, so that training starts from the
    shortcut alone. PyTorch's default would shrink activations by a factor of two or three per
    layer, and the last layer would learn from next to nothing.
    """
    if model.decoder is None:
        return
    for layer in model.decoder.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    layers = list(model.decoder.values())
    ends: list[Any] = [layer.conv[-1] for layer in layers if isinstance(layer, MemoryBlock)]
    for end in [*ends, layers[-1]]:
        nn.init.zeros_(end.weight)


def _shortcut_of(model: TinyAutoencoder) -> LinearShortcut:
    if model.shortcut is None or model.encoder is not None:
        raise ValueError(
            "closed-form fitting needs a linear encoder: build the TinyAutoencoder with "
            "encoder_channels=() and shortcut_latents > 0"
        )
    return model.shortcut


def _patches(clip: Tensor, model: TinyAutoencoder) -> tuple[Tensor, Tensor]:
    """Space-time patches [f, 3 * frames * stride², h, w] in [0, 1], first picture repeated, and
    their motion [f, 2, h, w]: zero where it is not encoded."""
    stride = model.spatial_stride
    pixels = with_run_up((clip_to_pixels([clip]) + 1) / 2, model.temporal_stride)
    motion = pixels.new_zeros(1)
    if model.config.motion:
        pixels, motion = model.compensated(pixels)
    groups = pixels.reshape(-1, 3 * model.temporal_stride, *pixels.shape[-2:])
    patches = F.pixel_unshuffle(groups, stride)
    return patches, motion.expand(1, len(patches), 2, *patches.shape[-2:])[0]
