"""What every stage that trains one model shares: optimiser, learning rate, averaging, gradients."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from causvid.training.config import OptimiserConfig
from causvid.training.data import LatentCache
from causvid.training.optimiser import MuonWithAdamW
from causvid.training.precision import use_training_attention
from causvid.training.teacher_model import Conditioning, save_model
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
    """The trained weights of a module, averaged over its training.

    Where processes hold a shard of the weights each, they hold one of the average, but its stored
    state is whole.
    """

    def __init__(self, module: nn.Module, decay: float):
        self.weights: list[Tensor] = [
            weight for weight in module.parameters() if weight.requires_grad
        ]
        self.shadow_params: list[Tensor]
        super().__init__(
            self.weights,
            decay=decay,
            use_ema_warmup=True,
            inv_gamma=3.0,
            power=1.0,
            foreach=not any(isinstance(weight, DTensor) for weight in self.weights),
        )

    def state_dict(self) -> dict[str, Any]:
        """Every process has to ask for it, as shards are gathered."""
        whole = [
            mean.full_tensor().cpu() if isinstance(mean, DTensor) else mean
            for mean in self.shadow_params
        ]
        return {**super().state_dict(), "shadow_params": whole}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        ours = self.shadow_params
        super().load_state_dict(state_dict)
        pairs = zip(ours, self.shadow_params, strict=True)
        self.shadow_params = [_placed_like(mean, stored) for mean, stored in pairs]

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the module has its averaged weights."""
        kept = [weight.detach().clone() for weight in self.weights]
        _copy(self.weights, self.shadow_params)
        try:
            yield
        finally:
            _copy(self.weights, kept)


def _placed_like(ours: Tensor, whole: Tensor) -> Tensor:
    whole = whole.to(ours.device)
    if isinstance(ours, DTensor):
        return distribute_tensor(whole, ours.device_mesh, ours.placements)
    return whole


@torch.no_grad()
def _copy(targets: list[Tensor], sources: list[Tensor]) -> None:
    torch._foreach_copy_(targets, sources)


def descend(
    accelerator: Accelerator, model: nn.Module, optimiser: torch.optim.Optimizer, clip_norm: float
) -> Tensor:
    """One step along the gradients that `model` has gathered; returns their norm, on the device."""
    norm: Tensor = accelerator.clip_grad_norm_(model.parameters(), clip_norm)
    optimiser.step()
    optimiser.zero_grad()
    return norm


class StageConfig(Protocol):
    """What the settings of every stage that trains one model have."""

    @property
    def optimiser(self) -> OptimiserConfig: ...

    @property
    def steps(self) -> int: ...


Config = TypeVar("Config", bound=StageConfig)


class ModelStage(ABC, Generic[Config]):
    """A stage that lowers one loss of one model. Once prepared, `ema` has the weights to keep."""

    def __init__(self, model: nn.Module, config: Config, *, seed: int = 0):
        self.model = model
        self.config = config
        self.steps = config.steps
        self.seed = seed
        self.optimiser = new_optimiser(config.optimiser, model)

    @abstractmethod
    def loss(self, step: int, key: tuple[int, ...]) -> Tensor:
        """The loss of one micro-batch; everything random in it is a function of `key`."""

    def prepare(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        use_training_attention(self.model, accelerator.device, accelerator.mixed_precision)
        self.model, self.optimiser = accelerator.prepare(self.model, self.optimiser)
        self.ema = Average(self.model, self.config.optimiser.ema_decay)
        accelerator.register_for_checkpointing(self.ema)

    def save_average(self, folder: Path) -> None:
        with self.ema.applied():
            state = self.accelerator.get_state_dict(self.model)
            if self.accelerator.is_main_process:
                save_model(self.accelerator.unwrap_model(self.model), state, folder)

    def refresh(self) -> None:
        """Take in data that came meanwhile; nothing here."""
        return

    def update(self, step: int) -> Metrics:
        config, accelerator = self.config.optimiser, self.accelerator
        for group in self.optimiser.param_groups:
            group["lr"] = config.rate_at(step, self.steps) * group.get("scale", 1.0)
        total = torch.zeros((), device=accelerator.device)
        for part in range(config.accumulation):
            # The same micro-batches whether processes share them or one accumulates them.
            place = accelerator.process_index * config.accumulation + part
            last = part == config.accumulation - 1
            with nullcontext() if last else accelerator.no_sync(self.model):
                loss = self.loss(step, (self.seed, step, place)) / config.accumulation
                accelerator.backward(loss)
            total += loss.detach()
        norm = descend(accelerator, self.model, self.optimiser, config.clip_norm)
        self.ema.step(self.ema.weights)
        return {"loss": total, "grad_norm": norm}


class CaptionedStage(ModelStage[Config]):
    """A stage on captioned latents.

    Args:
        condition: how `model` is given captions.
        data: its opened shards are part of a checkpoint.
    """

    def __init__(
        self,
        model: nn.Module,
        condition: Conditioning,
        data: LatentCache,
        config: Config,
        *,
        seed: int = 0,
    ):
        super().__init__(model, config, seed=seed)
        self.condition = condition
        self.data = data

    def prepare(self, accelerator: Accelerator) -> None:
        super().prepare(accelerator)
        accelerator.register_for_checkpointing(self.data)

    def refresh(self) -> None:
        self.data.open()
