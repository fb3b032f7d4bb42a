"""Frame masks that only checks need."""

from collections.abc import Sequence

import torch
from torch import Tensor

from causvid.model.attention import block_causal_mask


def teacher_forcing_mask(sizes: Sequence[int]) -> Tensor:
    """The mask over a clean copy followed by a noisy copy of the same f frames: bool `[2f, 2f]`.

    Clean chunks see clean chunks up to themselves; a noisy chunk sees the clean chunks before it
    and itself, as at inference when the past is perfect.
    """
    causal = block_causal_mask(sizes)
    same = torch.block_diag(*(torch.ones(size, size) for size in sizes)).bool()
    return torch.cat(
        [
            torch.cat([causal, torch.zeros_like(causal)], dim=1),
            torch.cat([causal & ~same, same], dim=1),
        ]
    )
