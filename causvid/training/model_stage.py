"""What every stage that trains one model shares: optimiser, learning rate, averaging, gradients."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from causvid.model.transformer import CausalWanTransformer
from causvid.training.config import OptimiserConfig
from causvid.training.optimiser import MuonWithAdamW
from causvid.training.precision import use_training_attention
from causvid.training.teacher_model import TeacherModel, save_model
from causvid.training.trainer import Metrics


def new_optimiser(config: OptimiserConfig, module: nn.Module) -> torch.optim.Optimizer:
    """An optimiser of the weights of `module` that are trained."""
    if config.muon:
        return MuonWithAdamW(
            module, lr=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay
        )
    return torch.optim.AdamW(
        [weight for weight in module.parameters() if weight.requires_grad],
        lr=config.learning_rate,
        betas=config.betas,
        weight_decay=config.weight_decay,
    )


class Average(EMAModel):
    """The weights of a module, averaged over its training. What is frozen is its own average.

    Where processes hold a shard of the weights each, they hold one of the average, but its stored
    state is whole.
    """

    def __init__(self, module: nn.Module, decay: float):
        weights = list(module.parameters())
        super().__init__(weights, decay=decay, use_ema_warmup=True, inv_gamma=3.0, power=1.0)
        self._trained = [weight.requires_grad for weight in weights]
        self.shadow_params: list[Tensor] = [
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
        self.optimiser = new_optimiser(optimiser, model)

    @abstractmethod
    def loss(self, step: int, key: tuple[int, ...]) -> Tensor:
        """The loss of one micro-batch; everything random in it is a function of `key`."""

    def prepare(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        use_training_attention(self.model, accelerator.device, accelerator.mixed_precision)
        self.model, self.optimiser = accelerator.prepare(self.model, self.optimiser)
        self.ema = Average(self.model, self.optimiser_config.ema_decay)
        accelerator.register_for_checkpointing(self.ema)

    def save_average(self, folder: Path) -> None:
        with averaged(self.ema, self.model):
            state = self.accelerator.get_state_dict(self.model)
            if self.accelerator.is_main_process:
                self.write(self.accelerator.unwrap_model(self.model), state, folder)

    def write(self, model: nn.Module, state: dict[str, Tensor], folder: Path) -> None:
        """Write `model` as ordinary model folders, in the main process.

        Args:
            state: its whole weights, of which it may hold but a shard.
        """
        assert isinstance(model, TeacherModel | CausalWanTransformer)
        save_model(model, state, folder)

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
