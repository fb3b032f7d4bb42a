"""What a generation will need, before anything is downloaded or started, and what would fit.

`preflight(…)` adds up a preset's costs for one stream. Not known here: speed, other processes, and
how well the allocator packs, for which `RESERVE` stands. Memory does not depend on the length of
the video.
"""

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from causvid.generation.geometry import Size
from causvid.generation.parameters import Decoder, check_decoder
from causvid.generation.sampler import SAMPLERS
from causvid.model.codec import codec_for
from causvid.pipeline import make_generator
from causvid.presets.costs import (
    cache_bytes,
    codec_costs,
    empty_models,
    prompt_flops,
    transformer_flops,
    transformer_working_bytes,
    weight_bytes,
)
from causvid.presets.execution import default_dtype
from causvid.presets.preset import Preset
from causvid.presets.registry import get_preset

# CUDA context, workspaces of cuBLAS and cuDNN, and gaps between allocations: a rule of thumb.
RESERVE = 10**9


@dataclass(frozen=True)
class Setting:
    """What decides about memory, and can be changed to need less of it."""

    size: Size
    window: int
    decoder: Decoder
    text_encoder_on_cpu: bool


@dataclass(frozen=True)
class Preflight:
    """Costs of one generation.

    Attributes:
        weights_bytes: transformer and codec.
        text_encoder_bytes: 0 if it is kept off the device.
        cache_bytes: keys and values of the past and of one prompt.
        codec_bytes: what the codec remembers between chunks.
        activation_bytes: the larger of the transformer's and the codec's working memory.
        reserve_bytes: see `RESERVE`; nothing on a CPU.
        available_bytes: what the device has.
        flops_per_chunk: of a chunk in the steady state: all passes, and the codec.
        total_flops: of the whole video, the text encoder left out.
        nearest: if this does not fit, the least changed setting that does, if any.
    """

    preset: str
    device: str
    setting: Setting
    seconds: float
    chunks: int
    weights_bytes: int
    text_encoder_bytes: int
    cache_bytes: int
    codec_bytes: int
    activation_bytes: int
    reserve_bytes: int
    available_bytes: int
    flops_per_chunk: int
    total_flops: int
    nearest: "Preflight | None" = None

    @property
    def parts(self) -> dict[str, int]:
        """The needed bytes, by what they are for."""
        return {
            "weights": self.weights_bytes,
            "text encoder": self.text_encoder_bytes,
            "key-value cache": self.cache_bytes,
            "codec state": self.codec_bytes,
            "working memory": self.activation_bytes,
            "reserve": self.reserve_bytes,
        }

    @property
    def total_bytes(self) -> int:
        return sum(self.parts.values())

    @property
    def fits(self) -> bool:
        return self.total_bytes <= self.available_bytes

    @property
    def message(self) -> str:
        """The estimate in words, with a way out if it does not fit."""
        size = self.setting.size
        text = (
            f"{self.preset} at {size.width}x{size.height}, {self.seconds:g} s in {self.chunks} "
            f"chunks: {_gb(self.total_bytes)} of {_gb(self.available_bytes)} on {self.device} ("
            + ", ".join(f"{name} {_gb(value)}" for name, value in self.parts.items() if value)
            + f"); {_flop(self.flops_per_chunk)} a chunk, {_flop(self.total_flops)} in all."
        )
        if self.fits:
            return text
        if self.nearest is None:
            return f"{text} That does not fit, and no smaller setting of this model does either."
        *others, last = _changes(self.setting, self.nearest.setting)
        changes = f"{', '.join(others)} and {last}" if others else last
        return (
            f"{text} That does not fit. With {changes} it would: {_gb(self.nearest.total_bytes)}."
        )


def preflight(
    preset: str | Path | Preset,
    size: Size | tuple[int, int] | None = None,
    seconds: float = 5.0,
    device: torch.device | str = "cpu",
    *,
    dtype: torch.dtype | None = None,
    decoder: Decoder = "full",
    window: int | None = None,
    source: bool = False,
    text_encoder_on_cpu: bool = False,
    memory_bytes: int | None = None,
) -> Preflight:
    """Estimate memory and work of one stream of a preset, and what would fit if this does not.

    Args:
        preset: a name, folder or Hub id, as for `load`.
        size: (height, width) in pixels; the trained size by default.
        dtype: of the weights, with the default of `load`.
        window: latent frames in view; the preset's by default.
        source: whether pictures are encoded too (image- and video-to-video).
        memory_bytes: what the device has; asked from it by default. A device that is not in this
            machine can be judged by stating it.

    Raises:
        ValueError: if size, length or window do not suit the model.
    """
    preset = get_preset(preset)
    device = torch.device(device)
    dtype = dtype or getattr(torch, default_dtype(device.type))
    if not 0 < seconds < math.inf:
        raise ValueError(
            f"the length must be more than 0 seconds and finite, got {seconds}: memory does not "
            f"depend on it, so estimate any length for an endless stream"
        )
    check_decoder(decoder, has_tiny=preset.has_tiny_decoder)
    generation = preset.generation
    setting = Setting(
        size=Size(*(size or (generation.height, generation.width))),
        window=generation.window if window is None else window,
        decoder=decoder,
        text_encoder_on_cpu=text_encoder_on_cpu and device.type != "cpu",
    )
    available = available_memory(device) if memory_bytes is None else memory_bytes

    def estimate(setting: Setting) -> Preflight:
        return _estimate(preset, setting, seconds, device, dtype, source, available)

    asked = estimate(setting)
    if asked.fits:
        return asked
    smaller = map(estimate, _smaller(preset, setting, device))
    return dataclasses.replace(asked, nearest=next((it for it in smaller if it.fits), None))


def available_memory(device: torch.device | str) -> int:
    """Bytes that this process can use on `device`, what it holds already included."""
    device = torch.device(device)
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device)
    return psutil.virtual_memory().available


def _estimate(
    preset: Preset,
    setting: Setting,
    seconds: float,
    device: torch.device,
    dtype: torch.dtype,
    source: bool,
    available: int,
) -> Preflight:
    models = empty_models(preset)
    generation = dataclasses.replace(preset.generation, window=setting.window)
    height, width = setting.size
    generator = make_generator(
        models.transformer, codec_for(models.vae), generation, height=height, width=width
    )
    model, grid = generator.transformer, generator.grid
    chunks = generation.chunks
    passes = SAMPLERS[generation.sampler].passes
    first_codec, codec = codec_costs(preset, setting.decoder, setting.size, dtype, source)

    def flops(chunk: int) -> int:
        work = sum(transformer_flops(model, grid, *cost) for cost in passes(generation, chunk))
        return work + (codec if chunk else first_codec).flops

    count = generator.timeline.chunk_count(seconds)
    # Beyond the window every chunk costs the same.
    steady = chunks.covering(setting.window) + 1
    widest = max(cost.frames for chunk in (0, steady) for cost in passes(generation, chunk))
    total = sum(flops(chunk) for chunk in range(min(count, steady)))
    total += max(0, count - steady) * flops(steady)
    in_memory = [model, models.vae] + ([models.tiny_vae] if setting.decoder == "tiny" else [])
    text_encoder = 0 if setting.text_encoder_on_cpu else weight_bytes(models.text_encoder, dtype)
    return Preflight(
        preset=preset.name,
        device=str(device),
        setting=setting,
        seconds=seconds,
        chunks=count,
        weights_bytes=sum(weight_bytes(part, dtype) for part in in_memory),
        text_encoder_bytes=text_encoder,
        cache_bytes=cache_bytes(generator, dtype),
        codec_bytes=codec.state_bytes,
        activation_bytes=max(
            transformer_working_bytes(model, grid, widest, dtype),
            first_codec.working_bytes,
            codec.working_bytes,
        ),
        reserve_bytes=0 if device.type == "cpu" else RESERVE,
        available_bytes=available,
        flops_per_chunk=flops(steady),
        total_flops=total + prompt_flops(model),
    )


def _smaller(preset: Preset, setting: Setting, device: torch.device) -> Iterator[Setting]:
    """Settings that need less and less, those that cost the viewer least first."""
    models = empty_models(preset)
    if device.type != "cpu" and not setting.text_encoder_on_cpu:
        setting = dataclasses.replace(setting, text_encoder_on_cpu=True)
        yield setting
    if setting.decoder == "full" and models.tiny_vae is not None:
        setting = dataclasses.replace(setting, decoder="tiny")
        yield setting
    generation = preset.generation
    # At least one chunk of recent past must stay in view.
    least = generation.least_window
    least += max(generation.chunks.first, generation.chunks.rest)
    for window in ((setting.window + least) // 2, least):
        if window < setting.window:
            setting = dataclasses.replace(setting, window=window)
            yield setting
    step = codec_for(models.vae).spatial_stride * models.transformer.config.patch_size[1]
    for scale in (0.8, 0.6, 0.4):
        sides = (max(step, round(side * scale / step) * step) for side in setting.size)
        yield dataclasses.replace(setting, size=Size(*sides))


def _changes(old: Setting, new: Setting) -> Iterator[str]:
    if new.text_encoder_on_cpu != old.text_encoder_on_cpu:
        yield "the text encoder on the CPU"
    if new.decoder != old.decoder:
        yield "the tiny decoder"
    if new.window != old.window:
        yield f"a window of {new.window} latent frames instead of {old.window}"
    if new.size != old.size:
        yield f"{new.size.width}x{new.size.height} pixels"


def _gb(nbytes: int) -> str:
    return f"{nbytes / 1e9:.2f} GB" if nbytes < 10e9 else f"{nbytes / 1e9:.1f} GB"


def _flop(count: int) -> str:
    thousands = min(int(math.log10(max(count, 1)) / 3), 6)
    return f"{count / 1000**thousands:.3g} {' kMGTPE'[thousands].strip()}FLOP"
