"""The decoder stage: convolutions learn what a linear map cannot, and the linear map not to ring.

The encoder stays frozen, so latents made before remain valid. Once there is a student, the stage
can be run again, to see past that student's errors. Clips and pixels are those of
`causvid.world.pixels`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from causvid.model.tiny_autoencoder import TinyAutoencoder
from causvid.training.fidelity import borders, gradients
from causvid.training.stage import ModelStage, OptimiserConfig, seeded
from causvid.world import Scene, caption
from causvid.world.pixels import clip_of, clip_to_pixels, diorama_clip, with_run_up


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
            (gradient.abs() * torch.where(borders(gradient, stride), self.border, 1.0)).mean()
            for gradient in gradients(error)
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
            latents = self.encode(with_run_up(real, self.run_up + 1))
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
            clips = [clip_of(scene, rng, frames) for scene in scenes]
            pixels = with_run_up((clip_to_pixels(clips) + 1) / 2, self.run_up + 1)
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
