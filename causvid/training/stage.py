"""What every stage that trains one model shares: optimiser, learning rate, averaging, gradients."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from causvid.training.optimiser import MuonWithAdamW
from causvid.training.trainer import Metrics


@dataclass(frozen=True)
class OptimiserConfig:
    """AdamW or Muon with a linear warm-up and decay, and an average of the weights.

    Args:
        learning_rate, warmup_steps, decay_share: linear up, constant, linear down to zero over
            the last `decay_share` of all steps.
        ema_decay: limit of the averaging decay, which grows as 1 - 3 / (step + 3).
        accumulation: micro-batches in a step, on every process.
        muon: whether the matrices of layers learn by Muon; `betas` are then of all else.
    """

    learning_rate: float
    warmup_steps: int = 50
    decay_share: float = 0.33
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    accumulation: int = 1
    muon: bool = False

    def rate_at(self, step: int, steps: int) -> float:
        """The learning rate of a step out of `steps`."""
        rise = (step + 1) / max(1, self.warmup_steps)
        fall = (steps - step) / max(1.0, steps * self.decay_share)
        return self.learning_rate * min(1.0, rise, fall)

    def optimiser(self, module: nn.Module) -> torch.optim.Optimizer:
        """An optimiser of the weights of `module` that are trained."""
        if self.muon:
            return MuonWithAdamW(
                module, lr=self.learning_rate, betas=self.betas, weight_decay=self.weight_decay
            )
        return torch.optim.AdamW(
            [weight for weight in module.parameters() if weight.requires_grad],
            lr=self.learning_rate,
            betas=self.betas,
            weight_decay=self.weight_decay,
        )

    def average(self, module: nn.Module) -> "Average":
        """The average of `module`'s weights, once they are where they will be trained."""
        return Average(module, self.ema_decay)


class Average(EMAModel):
    """The weights of a module, averaged over its training. What is frozen is its own average.

    Where processes hold a shard of the weights each, they hold one of the average, but its stored
    state is whole.
    """

    def __init__(self, module: nn.Module, decay: float):
        weights = list(module.parameters())
        super().__init__(weights, decay=decay, use_ema_warmup=True, inv_gamma=3.0, power=1.0)
        self._trained = [weight.requires_grad for weight in weights]
        self.shadow_params = [
            mean if weight.requires_grad else weight.detach()
            for mean, weight in zip(self.shadow_params, weights, strict=True)
        ]

    def state_dict(self) -> dict[str, Any]:
        """Every process has to ask for it, as shards are gathered."""
        return {
            **super().state_dict(),
            "shadow_params": [
                _whole(mean) if trained else torch.empty(0)
                for mean, trained in zip(self.shadow_params, self._trained, strict=True)
            ],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        ours = self.shadow_params
        super().load_state_dict(state_dict)
        self.shadow_params = [
            _placed_like(mean, stored) if trained else mean
            for mean, stored, trained in zip(ours, self.shadow_params, self._trained, strict=True)
        ]


def _whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor().cpu() if isinstance(tensor, DTensor) else tensor


def _placed_like(ours: Tensor, whole: Tensor) -> Tensor:
    whole = whole.to(ours.device)
    if isinstance(ours, DTensor):
        return distribute_tensor(whole, ours.device_mesh, ours.placements)
    return whole


def seeded(*key: int) -> torch.Generator:
    """A CPU generator that depends on `key` alone."""
    seed = 0
    for part in key:
        seed = (seed * 1_000_003 + part + 1) % (2**63 - 25)
    return torch.Generator().manual_seed(seed)


@contextmanager
def averaged(ema: Average, model: nn.Module) -> Iterator[None]:
    """Inside, `model` has its averaged weights."""
    pairs = zip(model.parameters(), ema.shadow_params, strict=True)
    trained = [(weight, mean) for weight, mean in pairs if weight.requires_grad]
    kept = [(weight, weight.detach().clone()) for weight, _ in trained]
    _copy(trained)
    try:
        yield
    finally:
        _copy(kept)


@torch.no_grad()
def _copy(pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
    for target, source in pairs:
        target.copy_(source)


class ModelStage(ABC):
    """A stage that lowers one loss of one model. Once prepared, `ema` has the weights to keep."""

    def __init__(self, model: nn.Module, optimiser: OptimiserConfig, *, steps: int, seed: int):
        self.model = model
        self.steps = steps
        self.seed = seed
        self.optimiser_config = optimiser
        self.optimiser = optimiser.optimiser(model)

    @abstractmethod
    def loss(self, step: int, key: tuple[int, ...]) -> Tensor:
        """The loss of one micro-batch; everything random in it is a function of `key`."""

    def prepare(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.model, self.optimiser = accelerator.prepare(self.model, self.optimiser)
        self.ema = self.optimiser_config.average(self.model)
        accelerator.register_for_checkpointing(self.ema)

    def save_average(self, folder: Path) -> None:
        with averaged(self.ema, self.model):
            state = self.accelerator.get_state_dict(self.model)
            if self.accelerator.is_main_process:
                self.write(self.accelerator.unwrap_model(self.model), state, folder)

    def write(self, model: nn.Module, state: dict[str, Tensor], folder: Path) -> None:
        """Write `model` as ordinary model folders, in the main process; it needs a `save`.

        Args:
            state: its whole weights, of which it may hold but a shard.
        """
        model.save(folder, state)

    def refresh(self) -> None:
        """Take in data that came meanwhile; nothing here."""
        return

    def update(self, step: int) -> Metrics:
        config, accelerator = self.optimiser_config, self.accelerator
        for group in self.optimiser.param_groups:
            group["lr"] = config.rate_at(step, self.steps) * group.get("scale", 1.0)
        total = 0.0
        for part in range(config.accumulation):
            # The same micro-batches whether processes share them or one accumulates them.
            place = accelerator.process_index * config.accumulation + part
            last = part == config.accumulation - 1
            with nullcontext() if last else accelerator.no_sync(self.model):
                loss = self.loss(step, (self.seed, step, place)) / config.accumulation
                accelerator.backward(loss)
            total += loss.item()
        norm = accelerator.clip_grad_norm_(self.model.parameters(), config.clip_norm)
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.ema.step(self.model.parameters())
        return {"loss": total, "grad_norm": float(norm)}
