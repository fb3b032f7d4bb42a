"""Real latents as a student would have made them: what a decoder has to expect.

A decoder that has only seen exact latents, or white noise on them, shows what a model gets wrong
as seams and flicker. Noising real latents part of the way, and letting the student denoise them
chunk by chunk on its own past, gives latents with the student's errors, of which the right
pictures are known.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from causvid.generation.generator import Generator, Memory
from causvid.training.ode import student_times
from causvid.training.teacher_model import Conditioning


class Remaker:
    """A frozen student that makes clips again.

    Args:
        generator: holds the student.
        condition: how it is given captions.
        depth: how many of its last steps are taken at most. Further up, what is left of a clip
            is its plan alone, and its pictures are no longer the right ones.
    """

    def __init__(
        self,
        generator: Generator,
        condition: Conditioning,
        depth: int = 2,
    ):
        self.generator = generator
        generator.transformer.requires_grad_(False).eval()
        self.condition = condition
        self.strengths = student_times(generator.config)[-1 - depth : -1]

    @torch.no_grad()
    def __call__(self, latents: Tensor, captions: Sequence[str], rng: torch.Generator) -> Tensor:
        """Normalised latents `[b, f, c, h, w]` of whole pictures of any size, made again under
        `captions`.

        Args:
            rng: decides the noise, and from which of the student's levels it starts.
        """
        grid = self.generator.grid
        height, width = (side * grid.spatial_stride for side in latents.shape[-2:])
        generator = replace(self.generator, grid=replace(grid, height=height, width=width))
        pattern = generator.config.chunks
        text = generator.encode_text(*self.condition(list(captions), generator.device))
        strength = self.strengths[int(torch.randint(len(self.strengths), (), generator=rng))]
        cache = generator.new_cache(len(latents))
        memory = Memory(cache, text)
        made = []
        for chunk, source in enumerate(latents.split(pattern.sizes(latents.shape[1]), dim=1)):
            cache.open(source.shape[1])
            noise = partial(self._noise, source.shape, rng)
            levels = generator.source_levels(strength, chunk)
            made.append(generator.denoise(levels, noise, memory, source=source))
            cache.advance()
        return torch.cat(made, dim=1)

    @staticmethod
    def _noise(shape: torch.Size, rng: torch.Generator, step: int) -> Tensor:
        return torch.randn(shape, generator=rng)
