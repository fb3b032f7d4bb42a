"""Random numbers of training, drawn where they are needed."""

from collections.abc import Sequence

import torch
from torch import Tensor


def normal(shape: Sequence[int], rng: torch.Generator, device: torch.device) -> Tensor:
    """Standard normal numbers of `shape` on `device`, a function of the state of `rng` and of the
    device's kind.

    A CPU draws what a batch of a GPU needs slower than the GPU trains on it.

    Args:
        rng: on the CPU.
    """
    if device.type != "cuda":
        return torch.randn(*shape, generator=rng).to(device)
    seed = int(torch.randint(2**62, (), generator=rng))
    return torch.randn(*shape, generator=torch.Generator(device).manual_seed(seed), device=device)
