"""The codec stage: a small autoencoder from closed form first, then trained where it pays.

1. `fit_encoder`: principal components of space-time patches. From then on the latents never change,
   so a teacher can be trained on them at once.
2. `fit_decoder`: least squares from 3x3 neighbourhoods of latents (current and previous) to pixels.
3. `DecoderStage`: convolutions learn what a linear map cannot, and the linear map not to ring. The
   encoder stays frozen, so latents made before remain valid. Once there is a student, the stage
   can be run again, to see past that student's errors.

Clips are uint8 tensors [t, H, W, 3] with t = 1 + 4 k; pixels are float [b, t, 3, H, W] in [-1, 1].
"""

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from causvid.autoencoder_tiny import LinearShortcut, MemoryBlock, TinyAutoencoder
from causvid.codec import TinyCodec
from causvid.diorama import Scene, Split, caption, render
from causvid.training.stage import ModelStage, OptimiserConfig, seeded

logger = logging.getLogger(__name__)


def diorama_clip(
    rng: np.random.Generator,
    *,
    frames: int,
    height: int = 128,
    width: int = 224,
    split: Split = "train",
) -> Tensor:
    """A clip of a random scene, from its beginning or from later on."""
    return _clip_of(Scene.sample(rng, split), rng, frames, height, width)


def _clip_of(
    scene: Scene, rng: np.random.Generator, frames: int, height: int = 128, width: int = 224
) -> Tensor:
    start = int(rng.integers(160)) if rng.random() < 0.7 else 0
    seed = int(rng.integers(2**31))
    return torch.from_numpy(
        render(scene, frames=frames, height=height, width=width, start=start, seed=seed)
    )


def clip_to_pixels(clips: Sequence[Tensor]) -> Tensor:
    """Float pixels [b, t, 3, H, W] in [-1, 1] of uint8 clips [t, H, W, 3]."""
    return torch.stack(tuple(clips)).permute(0, 1, 4, 2, 3).float() / 127.5 - 1


def _with_run_up(pixels: Tensor, frames: int) -> Tensor:
    """The stream as the network sees it: its first picture fills a group of `frames`."""
    return torch.cat([pixels[:, :1].expand(-1, frames - 1, -1, -1, -1), pixels], dim=1)


def _patches(clip: Tensor, shortcut: LinearShortcut) -> Tensor:
    """Space-time patches [f, 3 * frames * stride², h, w] in [0, 1], first picture repeated."""
    pixels = _with_run_up((clip_to_pixels([clip]) + 1) / 2, shortcut.frames)
    groups = pixels.reshape(-1, 3 * shortcut.frames, *pixels.shape[-2:])
    return F.pixel_unshuffle(groups, shortcut.stride)


@dataclass(frozen=True)
class CodecConfig:
    """What is fitted in closed form, and the convolutions that will be trained on top.

    Args:
        clips, frames: clips drawn for the fit and pixel frames of each, 1 + 4 k.
        latent_noise: of the latents that the decoder is fitted to, see `fit_decoder`.
        others: constructor arguments of `TinyAutoencoder`.
    """

    clips: int = 300
    frames: int = 17
    latent_noise: float = 0.25
    latent_channels: int = 64
    patch_size: int = 2
    space_scales: tuple[int, ...] = (2, 2, 2)
    shortcut_latents: int = 2
    shortcut_rank: int = 192
    decoder_channels: tuple[int, ...] = (128, 96, 64, 32)
    decoder_blocks: tuple[int, ...] = (2, 2, 1)
    decoder_gain: float = 0.03
    leak: float = 0.1


def fit_codec(config: CodecConfig, *, seed: int = 0) -> TinyAutoencoder:
    """A codec that works without any training: a linear one, and convolutions that add nothing."""
    architecture = asdict(config)
    count, frames, noise = (architecture.pop(name) for name in ("clips", "frames", "latent_noise"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = TinyAutoencoder(encoder_channels=(), **architecture)
        rng = np.random.default_rng(seed)
        clips = [diorama_clip(rng, frames=frames) for _ in range(count)]
        fit_encoder(model, clips)
        fit_decoder(model, clips, noise)
    return model.eval()


@torch.no_grad()
def fit_encoder(model: TinyAutoencoder, clips: Iterable[Tensor]) -> None:
    """Sets the linear encoder to whitened principal components, and the latent normalisation.

    Raw latents have unit variance each, which suits the convolutions. Normalised ones, which the
    diffusion model sees, keep part of their unequal weight in the picture: a standard deviation
    proportional to the square root of the component's (root mean square 1 over channels). Equal
    variance would make most of the diffusion loss a matter of texture.
    """
    shortcut = _shortcut_of(model)
    size = 3 * shortcut.frames * shortcut.stride**2
    count, total = 0, torch.zeros(size, dtype=torch.float64)
    second = torch.zeros(size, size, dtype=torch.float64)
    for clip in clips:
        rows = _patches(clip, shortcut).movedim(1, -1).flatten(0, -2) - 0.5
        count += len(rows)
        total += rows.sum(0, dtype=torch.float64)
        second += rows.T @ rows
    mean = total / count
    covariance = second / count - torch.outer(mean, mean)
    values, vectors = torch.linalg.eigh(covariance)
    channels = model.config.latent_channels
    deviations = values[-channels:].flip(0).clamp_min(1e-12).sqrt()
    components = vectors[:, -channels:].flip(1).T / deviations[:, None]
    shortcut.encoder.weight.copy_(components.view_as(shortcut.encoder.weight))
    shortcut.encoder.bias.copy_(-components @ (mean + 0.5))
    scale = deviations.sqrt()
    scale = scale / scale.square().mean().sqrt()
    model.register_to_config(latents_mean=[0.0] * channels, latents_std=(1 / scale).tolist())
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
    cross = torch.zeros(inputs, outputs, dtype=torch.float64)
    count = 0
    for clip in clips:
        targets = _patches(clip, shortcut)
        latents = shortcut.encoder(F.pixel_shuffle(targets, shortcut.stride))
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
    solution = torch.linalg.solve(gram, cross).T  # [outputs, inputs]
    _set_linear_map(shortcut, solution[:, :-1], solution[:, -1], gram / count)
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
    shortcut.decoder.weight.copy_(weight.reshape(shortcut.decoder.weight.shape))
    shortcut.decoder.bias.copy_(bias)


def begin_decoder(model: TinyAutoencoder) -> None:
    """Convolutions that carry their input through at full strength and add nothing to the output.

    Residual branches and the last convolution start at zero, so that training starts from the
    shortcut alone. PyTorch's default would shrink activations by a factor of two or three per
    layer, and the last layer would learn from next to nothing.
    """
    for layer in model.decoder.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    for layer in model.decoder.values():
        if isinstance(layer, MemoryBlock):
            nn.init.zeros_(layer.conv[-1].weight)
    nn.init.zeros_(layer.weight)


def _shortcut_of(model: TinyAutoencoder) -> LinearShortcut:
    if model.shortcut is None or model.encoder is not None:
        raise ValueError(
            "closed-form fitting needs a linear encoder: build the TinyAutoencoder with "
            "encoder_channels=() and shortcut_latents > 0"
        )
    return model.shortcut


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


def measure(model: TinyAutoencoder, clips: Sequence[Tensor]) -> Fidelity:
    """Fidelity over clips, one at a time."""
    errors, seams, sharp = [], [], []
    for clip in clips:
        real = clip_to_pixels([clip])
        made = reconstruct(model, [clip])
        errors.append(F.mse_loss(made, real).item() / 4)  # range 2, so peak² is 4
        stride = model.spatial_stride
        seams.append([seam(x, stride) for x in (made, real)])
        sharp.append([sum(g.abs().mean().item() for g in _gradients(x)) for x in (made, real)])
    made_seam, real_seam = torch.tensor(seams).sum(0).tolist()
    made_sharp, real_sharp = torch.tensor(sharp).sum(0).tolist()
    return Fidelity(
        psnr=-10 * math.log10(sum(errors) / len(errors)),
        seam=made_seam / real_seam,
        sharpness=made_sharp / real_sharp,
    )


def _gradients(x: Tensor) -> tuple[Tensor, Tensor]:
    """Across columns and across rows; the last dimension counts the steps of either."""
    return x.diff(dim=-1), x.diff(dim=-2).mT


def _borders(gradient: Tensor, stride: int) -> Tensor:
    """Which steps of a gradient cross the border of a cell of `stride` pixels."""
    return torch.arange(1, gradient.shape[-1] + 1, device=gradient.device) % stride == 0


def seam(pixels: Tensor, stride: int) -> float:
    """Gradient of pixels [b, t, 3, H, W] across borders of `stride`-pixel cells over elsewhere."""
    ratios = []
    for gradient in _gradients(pixels):
        columns = gradient.abs().mean(dim=tuple(range(gradient.ndim - 1)))
        border = _borders(gradient, stride)
        ratios.append((columns[border].mean() / columns[~border].mean()).item())
    return sum(ratios) / 2


@dataclass(frozen=True)
class DecoderConfig:
    """Settings of the decoder stage.

    Args:
        pool, pool_steps: clips drawn at once, and how many steps live on them. A pool is made
            again in batches of `remake_batch`, if a student is at hand.
        clips, frames: clips per step and pixel frames of each, 1 + 4 k; with no more than two
            latents the memory would never see what it holds in the middle of a stream.
        crop: height and width seen of each clip, multiples of the spatial stride.
        latent_noise: greatest standard deviation of noise on normalised latents, each clip draws
            its own; a diffusion model's latents are never exact. What is wrong with them changes
            from latent to latent and from cell to cell, so a decoder that has learned to see
            through noise shows less flicker and fewer seams.
        remade_share: of the clips, how many are decoded from what a student makes of them, with
            its own errors instead of noise.
        shortcut_scale: learning rate of the linear shortcut over that of the convolutions. It is
            the best there is for the square error, but not for edges and flat areas: least
            squares rings around everything it cannot draw.
        absolute, square, gradient, change: weights of the terms of the loss.
        border: of gradients across the borders of latent cells, beside 1 for all others.
    """

    optimiser: OptimiserConfig
    steps: int = 16_000
    pool: int = 400
    pool_steps: int = 500
    clips: int = 2
    frames: int = 13
    crop: tuple[int, int] = (128, 80)
    latent_noise: float = 0.3
    remade_share: float = 0.4
    remake_batch: int = 8
    shortcut_scale: float = 0.3
    absolute: float = 1.0
    square: float = 40.0
    gradient: float = 3.0
    change: float = 2.0
    border: float = 6.0

    def loss(self, made: Tensor, real: Tensor, stride: int) -> Tensor:
        """Mean absolute and square error, and mean absolute error of gradients in space and time.

        Args:
            made, real: pixels `[b, t, 3, H, W]`, whose first cell begins at the first pixel.
            stride: pixels of a cell.

        The square alone would blur what is uncertain; gradients in space keep edges sharp and
        flat areas flat, those in time keep still what stands still where one latent ends and the
        next begins.
        """
        error = made - real
        edges = sum(
            (gradient.abs() * torch.where(_borders(gradient, stride), self.border, 1.0)).mean()
            for gradient in _gradients(error)
        )
        return (
            self.absolute * error.abs().mean()
            + self.square * error.square().mean()
            + self.gradient * edges
            + self.change * error.diff(dim=1).abs().mean()
        )


Remake = Callable[[Tensor, list[str], torch.Generator], Tensor]
"""Normalised latents `[b, f, c, h, w]` and their captions → the same with a student's errors."""


class _Drawn(NamedTuple):
    """A clip, and raw latents `[f, c, h, w]` of a student's making, if there is one."""

    clip: Tensor
    remade: Tensor | None


class DecoderStage(ModelStage):
    """Trains the decoder on diorama clips; the encoder stays frozen.

    Args:
        remake: puts a student's errors on latents of whole pictures (`causvid.training.remaking`).
    """

    def __init__(
        self,
        model: TinyAutoencoder,
        config: DecoderConfig,
        *,
        remake: Remake | None = None,
        seed: int = 0,
    ) -> None:
        model.requires_grad_(False)
        model.decoder.requires_grad_(True)
        linear = [p for name, p in model.shortcut.named_parameters() if "encoder" not in name]
        for parameter in linear:
            parameter.requires_grad_(True)
        super().__init__(model, config.optimiser, steps=config.steps, seed=seed)
        self.optimiser.param_groups.clear()
        self.optimiser.add_param_group({"params": list(model.decoder.parameters())})
        self.optimiser.add_param_group({"params": linear, "scale": config.shortcut_scale})
        self.config = config
        self.remake = remake
        self.encode = model.encode
        self.run_up = model.temporal_stride - 1
        self.stride = model.spatial_stride
        self.deviations = torch.tensor(model.config.latents_std).view(-1, 1, 1)
        self._pools = lru_cache(maxsize=1)(self._draw_pool)

    def loss(self, step: int, key: tuple[int, ...]) -> Tensor:
        rng, device = np.random.default_rng(key), self.accelerator.device
        pool = self._pools(step // self.config.pool_steps, key[-1])
        chosen = [pool[i] for i in rng.integers(len(pool), size=self.config.clips)]
        spans = [self._place(drawn.clip, rng) for drawn in chosen]
        clips = [drawn.clip[:, y, x] for drawn, (y, x) in zip(chosen, spans, strict=True)]
        real = (clip_to_pixels(clips).to(device) + 1) / 2
        draw = seeded(*key)
        with torch.no_grad():
            latents = self.encode(_with_run_up(real, self.run_up + 1))
            level = self.config.latent_noise * torch.rand((len(clips), 1, 1, 1, 1), generator=draw)
            noise = level * torch.randn(latents.shape, generator=draw)
            latents += (noise * self.deviations).to(device)
            for index, (drawn, span) in enumerate(zip(chosen, spans, strict=True)):
                if drawn.remade is not None and rng.random() < self.config.remade_share:
                    rows, columns = self._cells(span)
                    latents[index] = drawn.remade[..., rows, columns].to(device)
        made = self.model(latents)[:, self.run_up :]
        return self.config.loss(made.float(), real, self.stride)

    def _draw_pool(self, index: int, place: int) -> list[_Drawn]:
        key = (self.seed, index, place)
        rng, frames = np.random.default_rng(key), self.config.frames
        if self.remake is None:
            clips = [diorama_clip(rng, frames=frames) for _ in range(self.config.pool)]
            return [_Drawn(clip, None) for clip in clips]
        draw, pool = seeded(*key), []
        while len(pool) < self.config.pool:
            scenes = [Scene.sample(rng) for _ in range(self.config.remake_batch)]
            clips = [_clip_of(scene, rng, frames) for scene in scenes]
            pixels = _with_run_up((clip_to_pixels(clips) + 1) / 2, self.run_up + 1)
            with torch.no_grad():
                latents = self.encode(pixels.to(self.accelerator.device)).cpu() / self.deviations
            captions = [caption(scene, rng) for scene in scenes]
            remade = self.remake(latents, captions, draw) * self.deviations
            pool += map(_Drawn, clips, remade)
        return pool

    def _place(self, clip: Tensor, rng: np.random.Generator) -> tuple[slice, slice]:
        """Rows and columns of a part of the picture whose patches coincide with the whole's.

        Places are drawn from a triangle around the middle: the diorama's object stands there, and
        it is what the linear map draws worst.
        """
        spans = []
        for length, crop in zip(clip.shape[1:3], self.config.crop, strict=True):
            free = (length - crop) // self.stride + 1
            first = self.stride * int(rng.random(2).mean() * free)
            spans.append(slice(first, first + crop))
        return spans[0], spans[1]

    def _cells(self, place: tuple[slice, slice]) -> tuple[slice, slice]:
        rows, columns = (slice(s.start // self.stride, s.stop // self.stride) for s in place)
        return rows, columns

    def write(self, model: nn.Module, state: dict[str, Tensor], folder: Path) -> None:
        model.save_pretrained(folder)
