"""Muon for the matrices of a transformer's layers, AdamW for everything else.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; at scale arXiv 2502.16982)
orthogonalises the momentum of a weight matrix, so that directions which gradients rarely take
learn as fast as the common ones. Embeddings, norms, biases and the first and last layers of a
model are no such matrices.
"""

from typing import Any

import torch
from torch import nn

_LAYERS = ("block", "blocks")
"""What transformers and diffusers call the list of a model's layers."""


class MuonWithAdamW(torch.optim.Optimizer):
    """Two of torch's optimisers as one: groups, state, and what is stored, are of both.

    Args:
        module: whose weights are trained, but for those that need no gradient.
        lr: of both. Muon's updates are scaled to the size of AdamW's (arXiv 2502.16982, section
            2.2), so that one rate serves.
        betas: AdamW's.
        weight_decay: decoupled, of both.

    Raises:
        ValueError: if no matrix of a layer is trained.
    """

    def __init__(
        self, module: nn.Module, *, lr: float, betas: tuple[float, float], weight_decay: float
    ):
        matrices = [
            linear.weight
            for name, linear in module.named_modules()
            if isinstance(linear, nn.Linear)
            and linear.weight.requires_grad
            and any(part in _LAYERS for part in name.split("."))
        ]
        if not matrices:
            raise ValueError("Muon trains the matrices of layers, and this model has none to train")
        known = {id(matrix) for matrix in matrices}
        others = [
            weight
            for weight in module.parameters()
            if weight.requires_grad and id(weight) not in known
        ]
        self._muon = torch.optim.Muon(
            matrices, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
        )
        self._adamw = torch.optim.AdamW(others, lr=lr, betas=betas, weight_decay=weight_decay)
        super().__init__([*matrices, *others], {})
        self.param_groups = [*self._muon.param_groups, *self._adamw.param_groups]
        self._share_state()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._share_state()

    def _share_state(self) -> None:
        first = len(self._muon.param_groups)
        self._muon.param_groups = self.param_groups[:first]
        self._adamw.param_groups = self.param_groups[first:]
        self._muon.state = self._adamw.state = self.state

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        self._muon.step()
        self._adamw.step()
