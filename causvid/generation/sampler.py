"""What a sampler is: the order in which chunks are denoised, and what is remembered of them.

A stream has one, made by `new_sampler` as its `GenerationConfig.sampler` says. Between two calls of
`next` the whole state of the latents is in it: key-value caches, the last clean latents, and what
it has begun and holds back. The stream adds prompts, steering and pictures.

    chunk      one chunk after the other, each remembered clean      `chunkwise.ChunkSampler`
    recompute  the same, the past encoded anew before every chunk    `chunkwise.RecomputeSampler`
    rolling    several chunks at rising noise, one leaves a step     `rolling.RollingSampler`
    history    one cache for each step, no clean pass                `history.HistorySampler`
"""

from typing import ClassVar, Protocol

from torch import Tensor

from causvid.generation.chunkwise import ChunkSampler, Pass, RecomputeSampler
from causvid.generation.config import GenerationConfig, SamplerName
from causvid.generation.generator import Generator, StreamNoise
from causvid.generation.history import HistorySampler
from causvid.generation.rolling import RollingSampler
from causvid.generation.source import SourceChunk
from causvid.model.cache import KVCache, TextCache


class Sampler(Protocol):
    """The latents of one stream in the making.

    The same call can be made again after one that raised, between any two layers, and gives what
    that would have given. Results depend on the arguments and the calls before alone, never on the
    length of the video, so that a long video begins with the short one.
    """

    takes_source: ClassVar[bool]
    """Whether chunks can start from a source video."""
    caches: tuple[KVCache, ...]

    def __init__(self, generator: Generator, batch: int = 1):
        """
        Raises:
            ValueError: if the generator's configuration does not suit the sampler.
        """
        ...

    @property
    def begun(self) -> int:
        """Chunks begun so far: those that left, and those held back."""
        ...

    def next(
        self,
        chunk: int,
        text: TextCache,
        noise: StreamNoise,
        *,
        source: SourceChunk | None = None,
    ) -> Tensor | None:
        """Begin `chunk`, the one numbered `begun`, and work until one leaves or must wait.

        Args:
            text: the prompt of the chunk that begins; chunks held back see it, too.
            noise: of any chunk and step.
            source: what the chunk starts from, where `takes_source`.

        Returns:
            Clean latents `[b, f, c, h, w]` of chunk `chunk - config.lead`; `None`
            while there is none yet.
        """
        ...

    def take(self, latents: Tensor, text: TextCache) -> None:
        """Remember clean latents of chunk 0 `[b, f, c, h, w]`, made elsewhere (image-to-video)."""
        ...

    def settle(self) -> None:
        """Make the pass that remembers what left last, if it is still due. All that needs it does
        so by itself; called before, it costs them nothing."""
        ...

    def flush(self) -> None:
        """Forget all but the sink and the last frame."""
        ...

    def recache(self, text: TextCache, noise: StreamNoise) -> None:
        """Rebuild what is remembered under a new prompt."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """The state, settled, for a snapshot: name → tensor."""
        ...

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take over what `tensors()` of an equal sampler returned, bit for bit."""
        ...

    @classmethod
    def passes(cls, config: GenerationConfig, chunk: int) -> list[Pass]:
        """The transformer's passes of the call that makes `chunk` leave: what it costs."""
        ...


SAMPLERS: dict[SamplerName, type[Sampler]] = {
    "chunk": ChunkSampler,
    "recompute": RecomputeSampler,
    "rolling": RollingSampler,
    "history": HistorySampler,
}


def new_sampler(generator: Generator, batch: int = 1) -> Sampler:
    """The sampler that the generator's configuration names, at the start of a video."""
    return SAMPLERS[generator.config.sampler](generator, batch)
