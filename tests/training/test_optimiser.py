"""Muon beside AdamW: matrices of layers get orthogonal steps, and both are stored as one."""

import pytest
import torch
from torch import nn

from causvid.training.config import OptimiserConfig
from causvid.training.model_stage import new_optimiser
from causvid.training.optimiser import MuonWithAdamW

CONFIG = OptimiserConfig(learning_rate=1e-2, weight_decay=0.0, muon=True)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.into = nn.Linear(8, 16)
        self.blocks = nn.ModuleList(nn.Linear(16, 16) for _ in range(2))
        self.out = nn.Linear(16, 4)

    def forward(self, x):
        x = self.into(x)
        for block in self.blocks:
            x = x + torch.tanh(block(x))
        return self.out(x)


def learn(model: nn.Module, optimiser: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        model(torch.randn(32, 8, generator=generator)).square().mean().backward()
        optimiser.step()
        optimiser.zero_grad()


def test_steps_of_matrices_are_orthogonal_and_others_are_adams():
    model, other = Model(), Model()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    learn(model, new_optimiser(CONFIG, model), range(1))
    learn(
        other, torch.optim.AdamW(other.parameters(), 1e-2, (0.9, 0.99), weight_decay=0.0), range(1)
    )
    for name, weight in model.state_dict().items():
        step = weight - before[name]
        if name.startswith("blocks") and name.endswith("weight"):
            # The five iterations leave singular values between 0.7 and 1.2, of directions that
            # the gradient has at all.
            sizes = torch.linalg.svdvals(step) / (1e-2 * 0.2 * 16**0.5)
            assert sizes[:4].min() > 0.5 and sizes.max() < 1.5
        else:
            torch.testing.assert_close(weight, other.state_dict()[name])


def test_it_goes_on_from_what_was_stored():
    whole, stopped = Model(), Model()
    learn(whole, new_optimiser(CONFIG, whole), range(6))
    first = new_optimiser(CONFIG, stopped)
    learn(stopped, first, range(3))
    resumed = Model()
    resumed.load_state_dict(stopped.state_dict())
    second = new_optimiser(CONFIG, resumed)
    second.load_state_dict(first.state_dict())
    learn(resumed, second, range(3, 6))
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name])


def test_a_changed_rate_is_that_of_all():
    model = Model()
    optimiser = new_optimiser(CONFIG, model)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    for group in optimiser.param_groups:
        group["lr"] = 0.0
    learn(model, optimiser, range(2))
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, before[name])


def test_what_is_frozen_is_left_alone():
    model = Model()
    model.blocks[0].requires_grad_(False)
    model.out.requires_grad_(False)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    learn(model, new_optimiser(CONFIG, model), range(1))
    changed = {
        name for name, weight in model.state_dict().items() if (weight != before[name]).any()
    }
    assert changed == {"into.weight", "into.bias", "blocks.1.weight", "blocks.1.bias"}


def test_a_model_without_layers_is_refused():
    with pytest.raises(ValueError, match="matrices of layers"):
        MuonWithAdamW(nn.Linear(4, 4), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.0)
