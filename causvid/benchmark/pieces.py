"""How long a preset's parts take, and a whole stream of it, from prompt to pictures.

Parts are timed in the state that a long stream settles into: window full, codec past its first
latent; chunks are made by the model's own sampler. The stream is timed as a viewer has it, its
prompt not seen before.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from causvid.benchmark.timing import Seconds, measure, peak_memory
from causvid.generation.generator import Memory, seeded_noise
from causvid.generation.parameters import Decoder
from causvid.generation.sampler import new_sampler
from causvid.generation.source import to_frames
from causvid.pipeline import CausVidPipeline

PROMPT = "a red balloon rises over the sea at sunset"


@dataclass(frozen=True)
class Piece:
    """One measured part.

    Attributes:
        name: what it is.
        seconds: of one run.
        pixel_frames: pictures that one run contributes to; 0 for what happens once per prompt.
    """

    name: str
    seconds: Seconds
    pixel_frames: int

    @property
    def frames_per_second(self) -> float | None:
        return self.pixel_frames / self.seconds.median if self.pixel_frames else None


@dataclass(frozen=True)
class StreamRun:
    """One measured stream.

    Attributes:
        first_frame: seconds from asking for the stream to holding its first pictures.
        steps: seconds of every later step.
        frames_per_second: pictures of the later steps by the time they took together.
        playback_rate: pictures per second that the video is meant to be watched at.
        peak_memory: bytes; see `timing.peak_memory`.
    """

    first_frame: float
    steps: Seconds
    frames_per_second: float
    playback_rate: int
    peak_memory: int


@torch.inference_mode()
def measure_pieces(
    pipe: CausVidPipeline, *, repeats: int, decoder: Decoder = "full"
) -> Iterator[Piece]:
    """Time the parts of a loaded pipeline at its trained size, one after the other.

    Args:
        repeats: timed runs of each.
    """
    from causvid.media import FragmentMuxer  # and with it PyAV, which models do not need

    generator, codec = pipe.generator(), pipe.codec(decoder)
    device = generator.device
    config, timeline = generator.config, generator.timeline
    chunk = config.chunks.covering(config.window)  # the first that outgrows the window
    frames = timeline.pixel_frames(chunk)

    def piece(name: str, run: Callable[[], object]) -> Piece:
        return Piece(name, measure(run, device, repeats=repeats), frames)

    unseen = unseen_prompts()
    prompt = piece("prompt", lambda: generator.encode_text(pipe.prompt_encoder(next(unseen))))
    yield replace(prompt, pixel_frames=0)

    maker = _Maker(pipe)
    latents = maker.make()
    memory = Memory(maker.sampler.caches[0], maker.text)
    memory.cache.open(latents.shape[1])  # and to be abandoned
    level = config.levels(chunk)[0]
    yield piece("transformer pass", lambda: generator.predict_clean(latents, level, memory))
    yield piece("transformer chunk", maker.make)

    state = codec.start()
    pixels = codec.decode(latents, state)
    yield piece("codec decode", lambda: codec.decode(latents, state))
    codec.encode(pixels[:, :1], state)
    pixels = codec.decode(latents, state)
    yield piece("codec encode", lambda: codec.encode(pixels, state))

    pictures = to_frames(pixels)
    grid = generator.grid
    with FragmentMuxer(fps=config.fps, height=grid.height, width=grid.width) as muxer:
        yield piece("mux", lambda: muxer.append(pictures))


@torch.inference_mode()
def profile_chunk(pipe: CausVidPipeline, *, decoder: Decoder = "full", rows: int = 25) -> str:
    """A table of the operators of one chunk, denoised and decoded, in the steady state.

    Sorted by the device's own time; `rows` operators are listed.
    """
    maker, codec = _Maker(pipe), pipe.codec(decoder)
    on_gpu, state = maker.generator.device.type == "cuda", codec.start()
    codec.decode(maker.make(), state)  # allocations, and the first, shorter group
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as profiler:
        codec.decode(maker.make(), state)
    order = "self_cuda_time_total" if on_gpu else "self_cpu_time_total"
    return profiler.key_averages().table(sort_by=order, row_limit=rows)


def measure_stream(
    pipe: CausVidPipeline, *, seconds: float, decoder: Decoder = "full"
) -> StreamRun:
    """Time a stream of `seconds` of video, after a short one for warm-up.

    Raises:
        ValueError: if that is but one chunk.
    """
    timeline = pipe.generator().timeline
    if timeline.chunk_count(seconds) < 2:
        raise ValueError(
            f"{seconds:g} s are a single chunk: measure at least {timeline.duration(2):g} s"
        )
    warmup = pipe.stream(f"{PROMPT}, rehearsal", seconds=timeline.duration(2), decoder=decoder)
    with warmup as rehearsal:
        for _ in rehearsal:
            pass
    pictures, clocks = [], [(time.perf_counter(), time.process_time())]
    with pipe.stream(PROMPT, seconds=seconds, decoder=decoder) as stream:
        for step in stream:  # ends with pictures on the host, so nothing is left running
            clocks.append((time.perf_counter(), time.process_time()))
            pictures.append(len(step.frames))
    (first_frame, *wall), (_, *cpu) = np.diff(clocks, axis=0).T.tolist()
    return StreamRun(
        first_frame=first_frame,
        steps=Seconds(tuple(wall), tuple(cpu)),
        frames_per_second=sum(pictures[1:]) / sum(wall),
        playback_rate=pipe.generation.fps,
        peak_memory=peak_memory(pipe.transformer.device),
    )


def unseen_prompts() -> Iterator[str]:
    """Prompts without end, none of which is in a cache."""
    return (f"{PROMPT}, take {number}" for number in itertools.count(1))


class _Maker:
    """Latents of one chunk after the other by the pipeline's sampler, its window filled."""

    def __init__(self, pipe: CausVidPipeline):
        self.generator = pipe.generator()
        self.sampler = new_sampler(self.generator)
        self.text = self.generator.encode_text(pipe.prompt_encoder(PROMPT))
        config = self.generator.config
        for _ in range(config.chunks.covering(config.window) + config.lead):
            self.sampler.next(self.sampler.begun, self.text, self._noise)

    def make(self) -> torch.Tensor:
        """The next chunk's clean latents `[1, f, c, h, w]`."""
        latents = self.sampler.next(self.sampler.begun, self.text, self._noise)
        assert latents is not None
        return latents

    def _noise(self, chunk: int, step: int) -> torch.Tensor:
        shape = self.generator.chunk_shape(chunk)
        return seeded_noise(0, chunk, step, shape, self.generator.device)
