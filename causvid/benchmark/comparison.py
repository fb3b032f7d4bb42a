"""Our cached generation against `PlainBaseline` on the CPU: same weights, same run, in turns.

The size lies between the pocket model and Wan: wide and long enough for attention over the past
to be most of the work, small enough for a CPU in float32. Measured is a chunk of three latent
frames that sees 3, 12 or 21 of them, itself included.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from causvid.benchmark.baseline import PlainBaseline
from causvid.benchmark.timing import Seconds, Task, measure
from causvid.generation.config import GenerationConfig
from causvid.generation.generator import Generator, Memory, seeded_noise
from causvid.generation.geometry import LatentGrid
from causvid.model.transformer import CausalWanTransformer

CPU = torch.device("cpu")

FRAMES = 3  # of the chunk
VISIBLE = (3, 12, 21)  # the first chunk, a window that is filling, a full one


def comparison_generator() -> Generator:
    """Width 384, 8 layers, 6 heads, 15 × 26 tokens a frame; random weights, window 21."""
    torch.manual_seed(0)
    model = CausalWanTransformer(
        num_attention_heads=6, attention_head_dim=64, ffn_dim=1536, num_layers=8
    )
    config = GenerationConfig(height=240, width=416)
    grid = LatentGrid(config.height, config.width)
    return Generator(model.eval().requires_grad_(False), config, grid)


class Ours:
    """`Generator` and `KVCache`, put before the chunk to be measured."""

    def __init__(self, generator: Generator, prompt: Tensor):
        self.generator = generator
        self.cache = generator.new_cache()
        self.cache.storage.normal_()
        self.memory = Memory(self.cache, generator.transformer.encode_text(prompt))

    def open(self, past: int) -> None:
        """Stand before a chunk that follows `past` latent frames."""
        self.cache.reset()
        for _ in range(past // FRAMES):
            self.cache.open(FRAMES)
            self.cache.advance()

    def run_pass(self) -> Tensor:
        """One pass over the chunk: its clean latents."""
        self.cache.open(FRAMES)
        noise = _noise(self.generator, 0)
        return self.generator.predict_clean(noise, self.generator.config.levels(1)[0], self.memory)

    def run_chunk(self) -> Tensor:
        """The whole chunk, all steps and the pass that remembers it: its clean latents."""
        self.cache.open(FRAMES)
        clean = self.generator.denoise(
            self.generator.config.levels(1), partial(_noise, self.generator), self.memory
        )
        self.cache.advance()
        return clean


class Baseline:
    """`PlainBaseline`, likewise."""

    def __init__(self, generator: Generator, prompt: Tensor):
        self.generator = generator
        self.prompt = prompt
        self.plain = PlainBaseline(generator)
        self.cache = self.plain.new_cache()
        self.past = 0
        for layer in self.cache:
            layer["k"].normal_()
            layer["v"].normal_()

    def open(self, past: int) -> None:
        self.past = past
        for layer in self.cache:
            for name in ("global_end_index", "local_end_index"):
                layer[name].fill_(past * self.generator.grid.tokens_per_frame)

    def run_pass(self) -> Tensor:
        noise = _noise(self.generator, 0)
        level = self.generator.config.levels(1)[0]
        return self.plain.predict_clean(noise, level, self.prompt, self.cache, self.past)

    def run_chunk(self) -> Tensor:
        return self.plain.denoise(
            self.generator.config.levels(1),
            partial(_noise, self.generator),
            self.prompt,
            self.cache,
            self.past,
        )


def _noise(generator: Generator, step: int) -> Tensor:
    return seeded_noise(0, 1, step, generator.chunk_shape(1), CPU)


class Pair(NamedTuple):
    """Both sides of one measurement."""

    ours: Seconds
    baseline: Seconds

    @property
    def ratio(self) -> float:
        """How many times as fast ours is, by median wall time."""
        return self.baseline.median / self.ours.median

    @property
    def cpu_ratio(self) -> float:
        return self.baseline.median_cpu / self.ours.median_cpu


@dataclass(frozen=True)
class Comparison:
    """A chunk that sees `visible` latent frames.

    Attributes:
        one_pass: a single pass, without eviction.
        chunk: all passes of a chunk; of a full window, frames have to leave it first.
        parts: CPU seconds of one pass of ours, and of the baseline's, by kind of work.
    """

    visible: int
    one_pass: Pair
    chunk: Pair
    parts: tuple[dict[str, float], dict[str, float]]


@torch.inference_mode()
def compare(generator: Generator, visible: Sequence[int], *, repeats: int) -> Iterator[Comparison]:
    """Measure both sides against less and more of the past.

    Args:
        visible: latent frames that the chunk sees, itself included; multiples of its 3.
        repeats: timed passes of either side; of chunks, each of many passes, half as many.
    """
    config = generator.transformer.config
    prompt = torch.randn(1, config.text_length, config.text_dim)
    sides = (Ours(generator, prompt), Baseline(generator, prompt))
    for frames in visible:
        before = frames - FRAMES
        passes = [Task(side.run_pass, partial(side.open, before)) for side in sides]
        full = frames == generator.config.window
        start = frames if full else before
        chunks = [Task(side.run_chunk, partial(side.open, start)) for side in sides]
        yield Comparison(
            visible=frames,
            one_pass=Pair(*measure(passes, CPU, repeats=repeats)),
            chunk=Pair(*measure(chunks, CPU, repeats=(repeats + 1) // 2, warmup=0)),
            parts=tuple(_parts(side, before) for side in sides),
        )


def _parts(side: Ours | Baseline, past: int) -> dict[str, float]:
    side.open(past)
    with _Parts(side.generator.transformer) as parts:
        start = time.process_time()
        side.run_pass()
        total = time.process_time() - start
    parts.seconds["everything else"] = total - sum(parts.seconds.values())
    return parts.seconds


class _Parts(TorchFunctionMode):
    """Charges CPU time to self-attention, text attention and linear layers while active."""

    def __init__(self, model: CausalWanTransformer):
        super().__init__()
        self.seconds = {"attention": 0.0, "text attention": 0.0, "linear layers": 0.0}
        self._text_length = model.config.text_length
        self._linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
        self._hooks: list[Any] = []
        self._started = 0.0

    def __enter__(self) -> "_Parts":
        for linear in self._linears:
            self._hooks.append(linear.register_forward_pre_hook(self._start))
            self._hooks.append(linear.register_forward_hook(self._stop))
        return super().__enter__()

    def __exit__(self, *exception) -> None:
        super().__exit__(*exception)
        for hook in self._hooks:
            hook.remove()

    def _start(self, *_) -> None:
        self._started = time.process_time()

    def _stop(self, *_) -> None:
        self.seconds["linear layers"] += time.process_time() - self._started

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is not nn.functional.scaled_dot_product_attention:
            return func(*args, **kwargs)
        start = time.process_time()
        result = func(*args, **kwargs)
        keys = args[1] if len(args) > 1 else kwargs["key"]
        part = "text attention" if keys.shape[-2] == self._text_length else "attention"
        self.seconds[part] += time.process_time() - start
        return result
