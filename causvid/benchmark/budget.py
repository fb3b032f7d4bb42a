"""What a pass costs, and what the card could do at best: FLOPs and bytes against its ceilings.

Bytes are those that have to move whatever is fused: weights, the keys and values that are seen, and
between two products what one writes and the next reads.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch

from causvid.generation.generator import Generator
from causvid.presets.costs import modulation_flops, transformer_flops


@dataclass(frozen=True)
class Ceilings:
    """What a device reaches at its easiest.

    Attributes:
        flops: operations per second of a large square product, a multiply-add as two.
        bandwidth: bytes per second, read and written, of a copy.
    """

    flops: float
    bandwidth: float


@dataclass(frozen=True)
class PassBudget:
    """One pass over a chunk.

    Attributes:
        visible: latent frames that it sees.
        products, attention: operations of the linear layers, and of self-attention.
        weights, cache, activations: bytes moved.
        at_best: seconds at the ceilings, none of it overlapping: attention and products by
            operations, activations by bytes; weights and cache come with them.
    """

    visible: int
    products: int
    attention: int
    weights: int
    cache: int
    activations: int
    at_best: float

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return asdict(self)


def ceilings(device: torch.device, dtype: torch.dtype) -> Ceilings:
    """Measured, in about a second."""
    on_gpu = device.type == "cuda"
    side, size = (8192, 1 << 30) if on_gpu else (1024, 64 << 20)
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    product = best_seconds(lambda: a @ b, device)
    source = torch.empty(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = best_seconds(lambda: target.copy_(source), device)
    return Ceilings(flops=2 * side**3 / product, bandwidth=2 * size / copy)


def best_seconds(run: Callable[[], object], device: torch.device, repeats: int = 5) -> float:
    """Of one call: the shortest of some, after two that warm up."""
    times = []
    for _ in range(2 + repeats):
        if device.type == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            run()
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end) / 1000)
        else:
            started = time.perf_counter()
            run()
            times.append(time.perf_counter() - started)
    return min(times[2:])


def budget(
    generator: Generator, dtype: torch.dtype, at: Ceilings, windows: tuple[int, ...] = ()
) -> Iterator[PassBudget]:
    """Of passes over a whole chunk.

    Args:
        dtype: of products and cache.
        windows: latent frames that are seen; by default as the window fills.
    """
    config, model = generator.config, generator.transformer.config
    frames = config.chunks.rest
    seen = windows or tuple(
        sorted({frames, *(w for w in (6, 9, 12) if frames < w < config.window), config.window})
    )
    dim = model.num_attention_heads * model.attention_head_dim
    tokens = frames * generator.grid.tokens_per_frame
    weights = sum(it.numel() for it in generator.transformer.blocks.parameters()) * dtype.itemsize
    # Of every layer: what the seven products read and write, and the nonlinearity between two.
    rows = 3 * (dim + dim) + 4 * (2 * dim) + 2 * (dim + model.ffn_dim)
    activations = model.num_layers * tokens * rows * dtype.itemsize
    for visible in seen:
        whole = transformer_flops(generator.transformer, generator.grid, frames, visible)
        whole -= modulation_flops(generator.transformer, frames)
        cached = visible * generator.grid.tokens_per_frame
        attention = 4 * model.num_layers * tokens * cached * dim
        yield PassBudget(
            visible=visible,
            products=whole - attention,
            attention=attention,
            weights=weights,
            cache=2 * model.num_layers * cached * dim * dtype.itemsize,
            activations=activations,
            at_best=whole / at.flops + activations / at.bandwidth,
        )
