"""A model on its device, and what a stream of it shows to its client: `parts` is made of that."""

import gc
import importlib.metadata
import shutil
import time
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch

from causvid.benchmark.budget import Ceilings, ceilings
from causvid.benchmark.pieces import unseen_prompts
from causvid.benchmark.suite import Plan
from causvid.benchmark.timing import Hardware, peak_memory
from causvid.benchmark.untrained import untrained_pipeline
from causvid.generation.generator import seeded_noise
from causvid.generation.parameters import Decoder
from causvid.generation.sampler import new_sampler
from causvid.model.cpu import product_dtype
from causvid.model.static import static_pass
from causvid.pipeline import CausVidPipeline
from causvid.presets.execution import Execution, in_force
from causvid.presets.loading import load
from causvid.presets.registry import default_preset, get_preset

Figures = dict[str, Any]
Passes = Literal["own", "static", "captured"]

_SETTLED = 6  # chunks that are timed once the window is full


@dataclass
class Run:
    """A stream as its client has it: seconds of chunks, and what the device says of their parts."""

    first: float
    first_parts: dict[str, float]
    intervals: list[float]
    pictures: list[int]
    denoise: list[float]
    decode: list[float]


class Bench:
    """A model on its device, and ways to run it."""

    def __init__(self, plan: Plan):
        execution = Execution(device=plan.device).resolved()
        self.device = torch.device(execution.device)
        self.preset = get_preset(plan.model or default_preset(execution.device))
        self.untrained = self.preset.folder is None
        if self.untrained:
            self.pipe: CausVidPipeline = untrained_pipeline(self.preset, execution)
        else:
            self.pipe = load(self.preset, execution)
        self.fast: Decoder = "full" if self.pipe.tiny_vae is None else "tiny"
        self.attention = self.transformer.blocks[0].attn1.processor._attention_backend
        self._ceilings: Ceilings | None = None
        self._prompts = unseen_prompts()

    @property
    def transformer(self) -> Any:
        return self.pipe.transformer

    @property
    def dtype(self) -> torch.dtype:
        """Of products."""
        return product_dtype(self.transformer)

    @property
    def ceilings(self) -> Ceilings:
        if self._ceilings is None:
            self._ceilings = ceilings(self.device, self.dtype)
        return self._ceilings

    def about(self) -> dict[str, Any]:
        """Machine, versions and model."""
        grid, hardware = self.pipe.generator().grid, asdict(Hardware.of(self.device))
        versions = {}
        for name in ("diffusers", "transformers", "triton", "torchao", "fa3-fwd"):
            try:
                versions[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                versions[name] = ""
        cudnn = torch.backends.cudnn.version() if self.device.type == "cuda" else ""
        return {
            **hardware,
            "cuda": torch.version.cuda or "",
            "cudnn": cudnn,
            **versions,
            "compiler": shutil.which("cc") or shutil.which("gcc") or "none",
            "model": self.preset.name + (" with random weights" if self.untrained else ""),
            "size": f"{grid.width}x{grid.height}",
            "execution": in_force(self.pipe),
        }

    def usable(self) -> bool:
        """Whether the device still answers, after a failure."""
        try:
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            torch.ones(1, device=self.device).add_(1).item()
        except RuntimeError:
            return False
        return True

    def reset(self) -> None:
        """As it was loaded, with the memory of what came before free again."""
        self.transformer.compile_options = None
        for block in self.transformer.blocks:
            for attention in (block.attn1, block.attn2):
                attention.processor._attention_backend = self.attention
        self.use("static")
        static_pass(self.transformer)  # lets go of the one before, its graphs and storages
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def use(self, passes: Passes, *, compiled: bool = False) -> None:
        """How passes are made from now on."""
        self.transformer.passes = passes
        self.transformer.compile_options = (
            {"dynamic": True, "fullgraph": True} if compiled else None
        )

    def stream(self, *, decoder: Decoder | None = None, **settings: int) -> Figures:
        """A stream until its window is full and for some chunks more, after one to warm up.

        Args:
            settings: of `CausVidPipeline.stream`.
        """
        options: dict[str, Any] = {**settings, "decoder": decoder or self.fast}
        generator = self.pipe.generator(**settings)
        fills = generator.config.chunks.covering(generator.config.window) + generator.config.lead
        chunks = fills + _SETTLED
        started = time.perf_counter()
        self._run(chunks=fills + 1, **options)
        warm_up = time.perf_counter() - started
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        return {
            **_figures(self._run(chunks=chunks, **options), fills, generator.config.fps),
            "warm_up_s": warm_up,
            **self._memory(),
            **self.capture(),
        }

    def _run(self, *, chunks: int, **options: Any) -> Run:
        seconds = self.pipe.generator().timeline.duration(chunks)
        made, clocks = [], [time.perf_counter()]
        with self.pipe.stream(next(self._prompts), seconds=seconds, **options) as stream:
            for chunk in stream:  # ends with pictures on the host
                clocks.append(time.perf_counter())
                made.append((len(chunk.frames), chunk.timings))
        first, *intervals = np.diff(clocks).tolist()
        return Run(
            first=first,
            first_parts=asdict(made[0][1]),
            intervals=intervals,
            pictures=[count for count, _ in made],
            denoise=[timings.denoise for _, timings in made],
            decode=[timings.decode for _, timings in made],
        )

    def _memory(self) -> Figures:
        peak = peak_memory(self.device)
        if self.device.type != "cuda":
            return {"memory_gib": peak / 2**30}
        encoder = sum(it.nbytes for it in self.pipe.text_encoder.parameters() if it.is_cuda)
        return {
            "memory_gib": peak / 2**30,
            "without_text_encoder_gib": (peak - encoder) / 2**30,
            "reserved_gib": torch.cuda.max_memory_reserved(self.device) / 2**30,
        }

    def capture(self) -> Figures:
        """How many graphs there are, if passes are captured, or why there are none."""
        static = static_pass(self.transformer)
        if static is None or static.captured is None:
            return {}
        found: Figures = {"graphs": static.captured.count}
        if static.captured.refused is not None:
            found["capture_refused"] = static.captured.refused
        return found

    @torch.no_grad()
    def latents(self, chunks: int) -> torch.Tensor:
        """Of the last of some chunks of a stream of seed 0."""
        generator = self.pipe.generator()
        sampler = new_sampler(generator)
        text = generator.encode_text(self.pipe.prompt_encoder("a red balloon"))

        def noise(chunk: int, step: int) -> torch.Tensor:
            return seeded_noise(0, chunk, step, generator.chunk_shape(chunk), generator.device)

        made = None
        while sampler.begun < chunks + generator.config.lead:
            made = sampler.next(sampler.begun, text, noise)
        assert made is not None
        return made.float()


def _figures(run: Run, fills: int, fps: int) -> Figures:
    """Of chunks 0 … `fills` - 1 the window fills; the first interval belongs to chunk 1."""
    settled = run.intervals[fills - 1 :]
    pictures = sum(run.pictures[fills:])
    milliseconds = [1000 * it for it in settled]
    return {
        "fps": pictures / sum(settled),
        "x_playback": pictures / sum(settled) / fps,
        "fps_from_start": sum(run.pictures[1:]) / sum(run.intervals),
        "first_picture_s": run.first,
        "of_it": {**run.first_parts, "other": run.first - sum(run.first_parts.values())},
        "chunk_ms_p50": float(np.median(milliseconds)),
        "chunk_ms_p95": float(np.percentile(milliseconds, 95)),
        "denoise_ms": 1000 * float(np.median(run.denoise[fills:])),
        "decode_ms": 1000 * float(np.median(run.decode[fills:])),
    }
