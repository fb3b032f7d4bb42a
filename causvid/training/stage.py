"""What every stage that trains one model shares: optimiser, learning rate, averaging, gradients."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from causvid.training.trainer import Metrics


@dataclass(frozen=True)
class OptimiserConfig:
    """AdamW with a linear warm-up and decay, and an average of the weights.

    Args:
        learning_rate, warmup_steps, decay_share: linear up, constant, linear down to zero over
            the last `decay_share` of all steps.
        ema_decay: limit of the averaging decay, which grows as 1 - 3 / (step + 3).
        accumulation: micro-batches in a step, on every process.
    """

    learning_rate: float
    warmup_steps: int = 50
    decay_share: float = 0.33
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    accumulation: int = 1

    def rate_at(self, step: int, steps: int) -> float:
        """The learning rate of a step out of `steps`."""
        rise = (step + 1) / max(1, self.warmup_steps)
        fall = (steps - step) / max(1.0, steps * self.decay_share)
        return self.learning_rate * min(1.0, rise, fall)

    def optimiser(self, parameters: Iterable[nn.Parameter]) -> torch.optim.AdamW:
        return torch.optim.AdamW(
            [parameter for parameter in parameters if parameter.requires_grad],
            lr=self.learning_rate,
            betas=self.betas,
            weight_decay=self.weight_decay,
        )

    def average(self, parameters: Iterable[nn.Parameter]) -> EMAModel:
        return EMAModel(
            parameters, decay=self.ema_decay, use_ema_warmup=True, inv_gamma=3.0, power=1.0
        )


def seeded(*key: int) -> torch.Generator:
    """A CPU generator that depends on `key` alone."""
    seed = 0
    for part in key:
        seed = (seed * 1_000_003 + part + 1) % (2**63 - 25)
    return torch.Generator().manual_seed(seed)


@contextmanager
def averaged(ema: EMAModel, model: nn.Module) -> Iterator[None]:
    """Inside, `model` has its averaged weights."""
    ema.store(model.parameters())
    ema.copy_to(model.parameters())
    try:
        yield
    finally:
        ema.restore(model.parameters())


class ModelStage(ABC):
    """A stage that lowers one loss of one model. `ema` holds the weights to keep."""

    def __init__(self, model: nn.Module, optimiser: OptimiserConfig, *, steps: int, seed: int):
        self.model = model
        self.steps = steps
        self.seed = seed
        self.optimiser_config = optimiser
        self.optimiser = optimiser.optimiser(model.parameters())
        self.ema = optimiser.average(model.parameters())

    @abstractmethod
    def loss(self, step: int, key: tuple[int, ...]) -> Tensor:
        """The loss of one micro-batch; everything random in it is a function of `key`."""

    def prepare(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.model, self.optimiser = accelerator.prepare(self.model, self.optimiser)
        self.ema.to(accelerator.device)
        accelerator.register_for_checkpointing(self.ema)

    def save_average(self, folder: Path) -> None:
        """The model must have a `save(folder)`."""
        with averaged(self.ema, self.model):
            self.accelerator.unwrap_model(self.model).save(folder)

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
