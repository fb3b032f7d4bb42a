"""The parts of `suite`: each measures one thing of one loaded model and returns its figures."""

import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from causvid.benchmark.bench import Bench, Figures, Passes
from causvid.benchmark.budget import best_seconds, budget
from causvid.benchmark.pieces import profile_chunk
from causvid.benchmark.suite import Plan
from causvid.generation.parameters import Decoder
from causvid.model.static import static_pass


class Part(NamedTuple):
    """One row of the table.

    Attributes:
        name: what it is.
        run: measures it.
        expected: seconds that it should take; with less left it is not begun.
        longest: seconds after which it is given up.
    """

    name: str
    run: Callable[[Bench], Figures]
    expected: float
    longest: float


def measure_parts(
    plan: Plan, done: Sequence[str], allowed: Callable[[], bool]
) -> Iterator[tuple[str, Any]]:
    """Load the model and run the parts that are not done: messages for `suite`.

    Args:
        allowed: asked after every `next`, whether it should be run.
    """
    bench = Bench(plan)
    yield "about", bench.about()
    all_parts = PARTS_OF_A_GPU if bench.device.type == "cuda" else PARTS_OF_A_CPU
    parts = [part for part in all_parts if not plan.only or part.name in plan.only]
    yield "parts", tuple(part.name for part in parts)
    for part in parts:
        if part.name in done:
            continue
        yield "next", (part.name, part.expected, part.longest)
        if not allowed():
            continue
        result: dict[str, Any] = {"name": part.name}
        started, usable = time.perf_counter(), True
        try:
            bench.reset()
            result["figures"] = part.run(bench)
        except Exception as error:  # whatever it is, the other parts are worth their time
            reason = str(error).strip().partition("\n")[0]
            result["note"] = f"failed: {type(error).__name__}: {reason:.300}"
            result["trace"] = traceback.format_exc()[-4000:]
            del error
            usable = bench.usable()
        result["seconds"] = time.perf_counter() - started
        yield "result", result
        if not usable:
            yield "end", "restart"
            return
    yield "end", "done"


def _stream(
    passes: Passes,
    *,
    compiled: bool = False,
    decoder: Decoder | None = None,
    **settings: int,
) -> Callable[[Bench], Figures]:
    def run(bench: Bench) -> Figures:
        bench.use(passes, compiled=compiled)
        return bench.stream(decoder=decoder, **settings)

    return run


def _ceilings(bench: Bench) -> Figures:
    at = bench.ceilings
    return {"tflops": at.flops / 1e12, "copy_gb_per_s": at.bandwidth / 1e9}


def _budget(bench: Bench) -> Figures:
    rows = budget(bench.pipe.generator(), bench.dtype, bench.ceilings)
    return {
        f"window_{row.visible}": {
            "products_tflop": row.products / 1e12,
            "attention_tflop": row.attention / 1e12,
            "cache_gb": row.cache / 1e9,
            "activations_gb": row.activations / 1e9,
            "at_best_ms": 1000 * row.at_best,
        }
        for row in rows
    }


def _parity(bench: Bench) -> Figures:
    """Latents of the second chunk: a static pass beside the transformer's own, captured ones."""
    ways: tuple[Passes, ...] = ("own", "static", "captured")
    if bench.device.type != "cuda":
        ways = ways[:2]
    found = {}
    for passes in ways:
        bench.use(passes)
        found[passes] = bench.latents(2)
    bench.use(ways[-1])
    again = bench.latents(2)  # captured: the storage and the graphs of the one before
    scale = found["own"].norm()
    figures: Figures = {
        f"{passes}_to_own": ((found[passes] - found["own"]).norm() / scale).item()
        for passes in ways[1:]
    }
    figures["again_equal"] = torch.equal(again, found[ways[-1]])
    if "captured" in found:
        figures["captured_equals_static"] = torch.equal(found["captured"], found["static"])
    return {**figures, **bench.capture()}


def _attention(bench: Bench) -> Figures:
    """Of one layer and chunk, by every kernel of torch: TFLOP/s, by frames seen."""
    config, grid = bench.transformer.config, bench.pipe.generator().grid
    heads, size = config.num_attention_heads, config.attention_head_dim
    frames = bench.pipe.generation.chunks.rest
    chunk = frames * grid.tokens_per_frame
    kernels = {
        "cudnn": SDPBackend.CUDNN_ATTENTION,
        "flash": SDPBackend.FLASH_ATTENTION,
        "efficient": SDPBackend.EFFICIENT_ATTENTION,
    }

    def tensor(tokens: int) -> torch.Tensor:
        made = torch.randn(1, tokens, heads, size, device=bench.device, dtype=bench.dtype)
        return made.transpose(1, 2)

    found: Figures = {}
    for queries, seen in ((1, 1), (1, 3), (1, 4), (1, 7), (2, 8)):
        query, key, value = tensor(queries * chunk), tensor(seen * chunk), tensor(seen * chunk)
        flops = 4 * queries * chunk * seen * chunk * heads * size
        rates = {}
        for name, kernel in (("default", None), *kernels.items()):
            try:
                with sdpa_kernel(list(kernels.values()) if kernel is None else kernel):
                    call = partial(F.scaled_dot_product_attention, query, key, value)
                    seconds = best_seconds(call, bench.device)
            except RuntimeError:
                rates[name] = 0.0
            else:
                rates[name] = flops / seconds / 1e12
        found[f"q{queries * frames}_k{seen * frames}"] = rates
    return found


def _in_eight_bits(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """`x` `[n, d]` and the scale of each row."""
    scale = x.abs().amax(dim=1, keepdim=True).float().clamp(min=1e-12) / 448
    return (x / scale).to(torch.float8_e4m3fn), scale


def _product(
    x: tuple[torch.Tensor, torch.Tensor], weight: tuple[torch.Tensor, torch.Tensor]
) -> torch.Tensor:
    return torch._scaled_mm(
        x[0], weight[0].t(), scale_a=x[1], scale_b=weight[1].t(), out_dtype=torch.bfloat16
    )


def _quantised_product(x: torch.Tensor, weight: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return _product(_in_eight_bits(x), weight)


def _products(bench: Bench) -> Figures:
    """The products of a layer: TFLOP/s in its type, in 8 bits, and with the quantisation of the
    input, a scale a row."""
    config = bench.transformer.config
    dim = config.num_attention_heads * config.attention_head_dim
    tokens = bench.pipe.generation.chunks.rest * bench.pipe.generator().grid.tokens_per_frame
    found: Figures = {}
    wide = config.ffn_dim
    for inputs, outputs in ((dim, 3 * dim), (dim, dim), (dim, wide), (wide, dim)):
        x = torch.randn(tokens, inputs, device=bench.device, dtype=bench.dtype)
        weight = torch.randn(outputs, inputs, device=bench.device, dtype=bench.dtype)
        low, low_weight = _in_eight_bits(x), _in_eight_bits(weight)
        flops, rates = 2 * tokens * inputs * outputs, {}
        runs: dict[str, Callable[[], object]] = {
            str(bench.dtype).removeprefix("torch."): partial(F.linear, x, weight),
            "fp8": partial(_product, low, low_weight),
            "fp8_and_quantising": partial(_quantised_product, x, low_weight),
        }
        for name, call in runs.items():
            try:
                rates[name] = flops / best_seconds(call, bench.device) / 1e12
            except RuntimeError as error:
                rates[name] = str(error).partition("\n")[0][:120]
        found[f"{inputs}_to_{outputs}"] = rates
    return found


def _eight_bits(bench: Bench) -> Figures:
    """Products that compute in fp8 by torchao, compiled and captured, and their error."""
    from torchao.quantization import (
        Float8DynamicActivationFloat8WeightConfig,
        PerRow,
        quantize_,
    )

    bench.use("static")
    expected = bench.latents(1)
    bench.use("captured", compiled=True)
    static = static_pass(bench.transformer)
    assert static is not None
    quantize_(static.layers, Float8DynamicActivationFloat8WeightConfig(granularity=PerRow()))
    error = ((bench.latents(1) - expected).norm() / expected.norm()).item()
    return {"error_of_first_latents": error, **bench.stream()}


def _profile(bench: Bench) -> Figures:
    """The kernels of one chunk."""
    table = profile_chunk(bench.pipe, decoder=bench.fast, rows=20)
    return {"operators": table}


def _decoder(bench: Bench, *, searched: bool = False) -> Figures:
    """Decoding a chunk by the full decoder, as it is and channels last: ms.

    Args:
        searched: let cuDNN try its ways first, which takes a while.
    """
    codec, generator = bench.pipe.codec("full"), bench.pipe.generator()
    latents = torch.randn(generator.chunk_shape(1), device=bench.device)

    def milliseconds() -> float:
        state = codec.start()
        with torch.no_grad():
            codec.decode(latents, state)
            run = partial(codec.decode, latents, state)
            return 1000 * best_seconds(run, bench.device, repeats=2)

    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = searched
    try:
        found = {"as_it_is_ms": milliseconds()}
        _convolutions_in(codec.module, torch.channels_last, torch.channels_last_3d)
        found["channels_last_ms"] = milliseconds()
    finally:
        torch.backends.cudnn.benchmark = before
        _convolutions_in(codec.module, torch.contiguous_format, torch.contiguous_format)
    return found


def _convolutions_in(
    model: nn.Module, flat: torch.memory_format, deep: torch.memory_format
) -> None:
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            layout = flat if isinstance(module, nn.Conv2d) else deep
            module.weight.data = module.weight.data.contiguous(memory_format=layout)


_SHORT: dict[str, Any] = {"window": 12, "sink": 3}  # LongLive's

PARTS_OF_A_GPU = (
    Part("ceilings", _ceilings, 2, 20),
    Part("plain, window 21, tiny decoder", _stream("own"), 9, 40),
    Part("captured, window 21, tiny decoder", _stream("captured"), 9, 40),
    Part("parity", _parity, 4, 30),
    Part("captured, window 12, tiny decoder", _stream("captured", **_SHORT), 6, 30),
    Part("captured, two steps, tiny decoder", _stream("captured", steps=2), 6, 30),
    Part("captured, window 21, full decoder", _stream("captured", decoder="full"), 14, 45),
    Part("full decoder", _decoder, 5, 30),
    Part("budget", _budget, 1, 20),
    Part("attention kernels", _attention, 3, 25),
    Part("products", _products, 2, 25),
    Part("compiled and captured, window 21", _stream("captured", compiled=True), 40, 110),
    Part("compiled, window 12", _stream("captured", compiled=True, **_SHORT), 8, 60),
    Part("compiled, two steps", _stream("captured", compiled=True, steps=2), 8, 60),
    Part("static, window 21, tiny decoder", _stream("static"), 9, 40),
    Part(
        "captured, window 12, full decoder",
        _stream("captured", window=12, sink=3, decoder="full"),
        11,
        40,
    ),
    Part("full decoder, cuDNN searched", partial(_decoder, searched=True), 12, 60),
    Part("8 bits by torchao, compiled", _eight_bits, 30, 110),
    Part("operators", _profile, 10, 40),
)

PARTS_OF_A_CPU = (
    Part("ceilings", _ceilings, 1, 20),
    Part("plain", _stream("own"), 3, 60),
    Part("static", _stream("static"), 3, 60),
    Part("parity", _parity, 1, 30),
    Part("two steps", _stream("static", steps=2), 3, 60),
    Part("budget", _budget, 1, 20),
    Part("operators", _profile, 2, 30),
)
