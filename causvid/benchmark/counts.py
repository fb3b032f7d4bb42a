"""What a chunk costs at full size, counted on the `meta` device: no weights, no GPU, no clock.

Operators are counted as they reach the device. Two rules keep that close to what a GPU would do:

    free    an operator that only describes a tensor anew: a view by its schema, an allocation, a
            question about sizes
    fused   attention and RMS norm count once where they are called as one: `meta` composes them of
            smaller operators, a GPU has one kernel for each

A synchronisation is an operator after which the host waits for the device: a value or a
data-dependent shape read back, or a copy between the two that is not asked for as non-blocking.

Counted is one chunk of the steady state, window full, made by the model's own sampler. The prompt
and the codec are not part of it.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from causvid.benchmark.untrained import as_loaded
from causvid.generation.generator import Generator
from causvid.generation.sampler import new_sampler
from causvid.model.codec import codec_for
from causvid.pipeline import make_generator
from causvid.presets.costs import empty_models
from causvid.presets.preset import Preset

aten = torch.ops.aten

_ATTENTION = aten.scaled_dot_product_attention.default
_FUSED = {_ATTENTION, aten._fused_rms_norm.default}

# Free, though their schemas do not show it.
_NO_WORK = {
    aten.empty.memory_format,
    aten.empty_like.default,
    aten.empty_strided.default,
    aten.new_empty.default,
    aten.new_empty_strided.default,
    aten._unsafe_view.default,
    aten.lift_fresh.default,
}

_READ_BACK = {
    aten._local_scalar_dense.default,  # .item(), bool(), int(), float()
    aten.equal.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten._unique2.default,
    aten.unique_dim.default,
    aten.unique_consecutive.default,
    aten.repeat_interleave.Tensor,
}


@dataclass(frozen=True)
class ChunkCost:
    """What one chunk costs.

    Attributes:
        launches_per_chunk: operators that start work on the device.
        syncs_per_chunk: times that the host waits for the device.
        flops_per_chunk: of convolutions, matrix products and attention, a multiply-add as two.
        cache_bytes: keys and values of the past, of all layers and caches.
    """

    launches_per_chunk: int
    syncs_per_chunk: int
    flops_per_chunk: int
    cache_bytes: int


class OperatorCounter(TorchDispatchMode):
    """Counts operators that reach the device and those that make the host wait, by name, and flops.

    Use under `inference_mode`: only there composed operators arrive whole.

    Args:
        device_types: whose tensors stand for those of the device. All others are the host's.
    """

    def __init__(self, *device_types: str):
        super().__init__()
        self.device_types = device_types
        self.launches: Counter[str] = Counter()
        self.syncs: Counter[str] = Counter()
        self.flops = 0

    def cost(self, cache_bytes: int) -> ChunkCost:
        """All that was counted, as the cost of one chunk."""
        launches, syncs = self.launches.total(), self.syncs.total()
        return ChunkCost(launches, syncs, self.flops, cache_bytes)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in _FUSED:
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        result = func(*args, **kwargs)
        if any(self._on_device(value) for value in tree_leaves((args, kwargs, result))):
            self.launches[func.name()] += not _is_free(func)
            self.syncs[func.name()] += self._waits(func, args, kwargs, result)
            self.flops += _flops(func, args, kwargs, result)
        return result

    def _on_device(self, value: Any) -> bool:
        return isinstance(value, Tensor) and value.device.type in self.device_types

    def _waits(self, func: Any, args: tuple, kwargs: dict[str, Any], result: Any) -> bool:
        if func in (aten.index.Tensor, aten.index_put_.default):  # a mask, turned into indices
            return any(index is not None and index.dtype == torch.bool for index in args[1])
        if func is aten._to_copy.default:
            source, target, non_blocking = args[0], result, kwargs.get("non_blocking")
        elif func is aten.copy_.default:
            target, source, non_blocking = args[0], args[1], (*args, False)[2]
        else:
            return func in _READ_BACK
        return self._on_device(source) != self._on_device(target) and not non_blocking


def _is_free(func: Any) -> bool:
    returns = func._schema.returns
    tensors = [value for value in returns if "Tensor" in str(value.type)]
    return func in _NO_WORK or all(
        value.alias_info is not None and not value.alias_info.is_write for value in tensors
    )


def _flops(func: Any, args: tuple, kwargs: dict[str, Any], result: Any) -> int:
    """By torch's formulas; that of any fused attention holds for attention as such."""
    same = aten._scaled_dot_product_flash_attention if func is _ATTENTION else func.overloadpacket
    formula = flop_registry.get(same)
    return 0 if formula is None else formula(*args, **kwargs, out_val=result)


def full_size(preset: Preset, dtype: torch.dtype = torch.bfloat16) -> Generator:
    """The generator of a preset on `meta`."""
    models = empty_models(preset)
    transformer = as_loaded(models.transformer, dtype)
    return make_generator(transformer, codec_for(models.vae), preset.generation)


@torch.inference_mode()
def count(generator: Generator) -> ChunkCost:
    """The cost of a chunk of a generator on `meta`."""
    sampler = new_sampler(generator)
    text = generator.transformer.encode_text(prompt_on_meta(generator))
    first = steady_chunk(generator) + generator.config.lead

    def noise(chunk: int, step: int) -> Tensor:
        return noise_on_meta(generator, chunk)(step)

    for chunk in range(first):
        sampler.next(chunk, text, noise)
    with OperatorCounter("meta") as counter:
        sampler.next(first, text, noise)
    return counter.cost(sum(cache.nbytes for cache in sampler.caches))


def steady_chunk(generator: Generator) -> int:
    """The first chunk for which older frames have to leave the window."""
    return generator.config.chunks.covering(generator.config.window)


def prompt_on_meta(generator: Generator) -> Tensor:
    """Embeddings of one prompt `[1, text_length, text_dim]`, on the generator's device."""
    config = generator.transformer.config
    return torch.empty(1, config.text_length, config.text_dim, device=generator.device)


def noise_on_meta(generator: Generator, chunk: int) -> Callable[[int], Tensor]:
    """Noise that is on the device already: to draw or to copy it counts as one launch."""
    shape = generator.chunk_shape(chunk)
    return lambda step: torch.randn(shape, device=generator.device)
