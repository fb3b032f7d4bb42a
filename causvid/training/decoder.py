"""The decoder stage: convolutions beside the linear map reduce the error that it leaves.

The encoder stays frozen, so latents made before remain valid. Once there is a student, the stage
can be run again, to see past that student's errors. Clips and pixels are those of
`causvid.world.pixels`.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from causvid.generation.generator import seeded
from causvid.generation.geometry import Size
from causvid.model.tiny_autoencoder import TinyAutoencoder
from causvid.training.config import DecoderConfig
from causvid.training.fidelity import borders, gradients
from causvid.training.footage import Footage
from causvid.training.model_stage import ModelStage
from causvid.world.pixels import clip_to_pixels, with_run_up

Remake = Callable[[Tensor, list[str], torch.Generator], Tensor]
"""Normalised latents `[b, f, c, h, w]` and their captions → the same with a student's errors."""


def decoder_loss(made: Tensor, real: Tensor, stride: int, config: DecoderConfig) -> Tensor:
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
        (gradient.abs() * torch.where(borders(gradient, stride), config.border, 1.0)).mean()
        for gradient in gradients(error)
    )
    return (
        config.absolute * error.abs().mean()
        + config.square * error.square().mean()
        + config.gradient * edges
        + config.change * error.diff(dim=1).abs().mean()
    )


class _Drawn(NamedTuple):
    """A clip, and raw latents `[f, c, h, w]` of a student's making, if there is one."""

    clip: Tensor
    remade: Tensor | None


class DecoderStage(ModelStage[DecoderConfig]):
    """Trains the decoder on drawn clips; the encoder stays frozen.

    Args:
        footage: draws the clips.
        sizes: theirs, each as often as any other.
        remake: puts a student's errors on latents of whole pictures (`causvid.training.remakes`).
    """

    def __init__(
        self,
        model: TinyAutoencoder,
        config: DecoderConfig,
        footage: Footage,
        sizes: Sequence[Size],
        *,
        remake: Remake | None = None,
        seed: int = 0,
    ) -> None:
        if model.decoder is None or model.shortcut is None:
            raise ValueError("this stage trains a convolutional decoder beside a linear one")
        model.requires_grad_(False)
        model.decoder.requires_grad_(True)
        # Where a motion is shown is no matter of a pixel's error: it stays as it was fitted.
        frozen = ("encoder", "motion")
        linear = [
            parameter
            for name, parameter in model.shortcut.named_parameters()
            if not name.startswith(frozen)
        ]
        for parameter in linear:
            parameter.requires_grad_(True)
        super().__init__(model, config, seed=seed)
        self.optimiser.param_groups.clear()
        self.optimiser.add_param_group({"params": list(model.decoder.parameters())})
        self.optimiser.add_param_group({"params": linear, "scale": config.shortcut_scale})
        self.footage, self.sizes, self.remake = footage, list(sizes), remake
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
            # Squared, so that half of the clips have less than a quarter of it: a decoder that
            # sees as much noise as that everywhere blurs what is exact.
            share = torch.rand((len(clips), 1, 1, 1, 1), generator=draw).square()
            noise = self.config.latent_noise * share * torch.randn(latents.shape, generator=draw)
            latents += (noise * self.deviations).to(device)
            for index, (drawn, span) in enumerate(zip(chosen, spans, strict=True)):
                if drawn.remade is not None and rng.random() < self.config.remade_share:
                    rows, columns = self._cells(span)
                    latents[index] = drawn.remade[..., rows, columns].to(device)
        made = self.model(latents)[:, self.run_up :]
        return decoder_loss(made.float(), real, self.stride, self.config)

    def _draw_pool(self, index: int, place: int) -> list[_Drawn]:
        key = (self.seed, index, place)
        rng, draw = np.random.default_rng(key), seeded(*key)
        batch = 1 if self.remake is None else self.config.remake_batch
        pool: list[_Drawn] = []
        while len(pool) < self.config.pool:
            size = self.sizes[int(rng.integers(len(self.sizes)))]
            drawn = [self.footage(rng, self.config.frames, size) for _ in range(batch)]
            clips, captions = map(list, zip(*drawn, strict=True))
            if self.remake is None:
                pool += [_Drawn(clip, None) for clip in clips]
                continue
            pixels = with_run_up((clip_to_pixels(clips) + 1) / 2, self.run_up + 1)
            with torch.no_grad():
                latents = self.encode(pixels.to(self.accelerator.device)).cpu() / self.deviations
            remade = self.remake(latents, captions, draw) * self.deviations
            pool += map(_Drawn, clips, remade)
        return pool

    def _place(self, clip: Tensor, rng: np.random.Generator) -> tuple[slice, slice]:
        """Rows and columns of a part of the picture whose patches coincide with the whole's."""
        spans = []
        for length, crop in zip(clip.shape[1:3], self.config.crop, strict=True):
            first = self.stride * int(rng.integers((length - crop) // self.stride + 1))
            spans.append(slice(first, first + crop))
        return spans[0], spans[1]

    def _cells(self, place: tuple[slice, slice]) -> tuple[slice, slice]:
        rows, columns = (slice(s.start // self.stride, s.stop // self.stride) for s in place)
        return rows, columns
