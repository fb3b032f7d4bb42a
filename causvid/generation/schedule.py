"""Shifted flow-matching noise levels, and the algebra between noisy, clean and velocity.

    noisy    = (1 - σ) · clean + σ · noise
    velocity = noise - clean                       (flow matching, arXiv 2210.02747)
    clean    = noisy - σ · velocity

Levels run from 1 (pure noise) to 0 (clean). The published few-step models are told their time on
a 0 … 1000 scale and take σ from a table of 1000 shifted levels; both are kept apart in `Level`, as
a model may be told another time than the noise it gets (StreamDiffusionV2 does so).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

Number = TypeVar("Number", float, Tensor)

TABLE_SIZE = 1000  # the training discretisation of Wan 2.1 and of every model distilled from it


class Level(NamedTuple):
    """One noise level: `time` in [0, 1] as told to the model, `sigma` in [0, 1] as mixed in."""

    time: float
    sigma: float


CLEAN = Level(0.0, 0.0)


def per_frame(values: Sequence[float], dtype: torch.dtype, device: torch.device) -> Tensor:
    """One value for each latent frame, `[f]`: filled on the device, so that nothing is copied."""
    runs = [(value, len(list(run))) for value, run in groupby(values)]
    return torch.cat([torch.full((n,), v, dtype=dtype, device=device) for v, n in runs])


@dataclass(frozen=True)
class FlowSchedule:
    """Flow-matching levels with a timestep shift s: σ = s·u / (1 + (s - 1)·u), u from 1 to 0.

    A shift above 1 spends more steps on high noise, as larger pictures need
    (Stable Diffusion 3, arXiv 2403.03206, section 5.3.2).
    """

    shift: float = 1.0

    def __post_init__(self):
        if not self.shift > 0:
            raise ValueError(f"the timestep shift must be positive, got {self.shift}")

    def shifted(self, u: Number) -> Number:
        """σ of the unshifted level u in [0, 1]."""
        return self.shift * u / (1 + (self.shift - 1) * u)

    def sigmas(self, steps: int) -> Tensor:
        """`steps` levels from 1 towards 0, 0 itself not included. float32 `[steps]`."""
        return self.shifted(torch.linspace(1, 0, steps + 1)[:-1])

    @cached_property
    def table(self) -> np.ndarray:
        """σ of the training table, float32 `[TABLE_SIZE]`, falling from 1."""
        return self.sigmas(TABLE_SIZE).numpy()

    def warp(self, timestep: float) -> float:
        """A timestep in 0 … 1000 that counts table rows from the end, as the time of that row."""
        row = TABLE_SIZE - int(timestep)
        return 0.0 if row == TABLE_SIZE else float(self.table[row]) * 1000

    def level(self, timestep: float) -> Level:
        """The level of a time in 0 … 1000: σ is that of the nearest row of the training table.

        At timestep 0 this is the smallest trained σ, not zero (0.005 at shift 5); `CLEAN` is
        zero exactly.
        """
        if not 0 <= timestep <= 1000:
            raise ValueError(f"a timestep must lie in 0 … 1000, got {timestep}")
        nearest = int(np.abs(self.table.astype(np.float64) * 1000 - timestep).argmin())
        return Level(timestep / 1000, float(self.table[nearest]))

    def levels(self, timesteps: tuple[float, ...], *, warp: bool) -> tuple[Level, ...]:
        """The levels that a published step list visits, noisiest first."""
        return tuple(self.level(self.warp(t) if warp else t) for t in timesteps)


def add_noise(clean: Tensor, noise: Tensor, sigma: float | Tensor) -> Tensor:
    """Mix `noise` into `clean` at level σ, a number or a tensor broadcastable to both.

    At σ = 0 the result is `clean` exactly.
    """
    return (1 - sigma) * clean + sigma * noise


def clean_from_velocity(noisy: Tensor, velocity: Tensor, sigma: float | Tensor) -> Tensor:
    """The clean sample that `velocity` points at, seen from `noisy` at level σ."""
    return noisy - sigma * velocity


def velocity_from_clean(noisy: Tensor, clean: Tensor, sigma: float | Tensor) -> Tensor:
    """The velocity at `noisy`, level σ > 0, that leads to `clean`."""
    return (noisy - clean) / sigma
