"""Shape arithmetic: pixels ↔ latent frames ↔ tokens ↔ chunks. Knows no tensors.

Shape legend, used in every docstring of the package:

    b batch · t pixel frames · f latent frames · c channels · h, w height and width
    n tokens · d feature dimension · heads attention heads

Latents are `[b, f, c, h, w]`, tokens `[b, n, d]`, decoded pixels `[b, t, 3, h, w]` in [-1, 1]
and finished pictures uint8 `[t, h, w, 3]`. Time is causal: the first latent frame stands for one
pixel frame, every later one for `temporal_stride` of them.
"""

import math
import re
from dataclasses import dataclass
from typing import NamedTuple


class Size(NamedTuple):
    """A picture size in pixels, written WIDTHxHEIGHT."""

    height: int
    width: int

    @classmethod
    def parse(cls, text: str) -> "Size":
        """
        Raises:
            ValueError: unless it is of the form 320x192.
        """
        found = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", text)
        if found is None:
            raise ValueError(f"{text!r} is not WIDTHxHEIGHT such as 320x192")
        return cls(width=int(found[1]), height=int(found[2]))

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


@dataclass(frozen=True)
class ChunkPattern:
    """How many latent frames are generated at once: `first` in chunk 0, `rest` in every other.

    (3, 3) is the pattern of the published chunkwise checkpoints, (1, 1) of the framewise ones;
    (1, 3) has an independent first frame, so image-to-video is native.
    """

    first: int = 3
    rest: int = 3

    def __post_init__(self):
        if self.first < 1 or self.rest < 1:
            raise ValueError(
                f"chunks must hold at least one latent frame, got first={self.first}, "
                f"rest={self.rest}"
            )

    def frames(self, chunk: int) -> int:
        """Latent frames in `chunk`."""
        return self.first if chunk == 0 else self.rest

    def start(self, chunk: int) -> int:
        """Index of the first latent frame of `chunk`."""
        return 0 if chunk == 0 else self.first + (chunk - 1) * self.rest

    def chunk_of(self, frame: int) -> int:
        """The chunk that holds latent frame `frame`."""
        return 0 if frame < self.first else 1 + (frame - self.first) // self.rest

    def covering(self, frames: int) -> int:
        """The smallest number of chunks that hold at least `frames` latent frames."""
        return 0 if frames <= 0 else 1 + max(0, math.ceil((frames - self.first) / self.rest))

    def sizes(self, frames: int) -> tuple[int, ...]:
        """Chunk sizes that add up to exactly `frames`.

        Raises:
            ValueError: if `frames` does not end on a chunk boundary.
        """
        count = self.covering(frames)
        if frames < 1 or self.start(count) != frames:
            raise ValueError(
                f"{frames} latent frames do not fill whole chunks of {self.first}, {self.rest}, "
                f"{self.rest}, …; the nearest lengths that do are "
                f"{self.start(max(1, count - 1))} and {self.start(count)}"
            )
        return tuple(self.frames(i) for i in range(count))

    def runs(self, frames: int) -> tuple[int, ...]:
        """Sizes that add up to `frames` and end with a chunk, but need not begin with one."""
        whole, part = divmod(frames, self.rest)
        return (part,) * (part > 0) + (self.rest,) * whole


@dataclass(frozen=True)
class LatentGrid:
    """Where a picture of `height` × `width` pixels lands in latent and token space."""

    height: int
    width: int
    spatial_stride: int = 8
    temporal_stride: int = 4
    patch: int = 2

    def __post_init__(self):
        step = self.spatial_stride * self.patch
        if self.height < step or self.width < step or self.height % step or self.width % step:
            near = [max(step, round(side / step) * step) for side in (self.height, self.width)]
            raise ValueError(
                f"picture size {self.width}x{self.height} is not a multiple of {step} pixels in "
                f"both directions; the nearest size is {near[1]}x{near[0]}"
            )

    @property
    def latent_height(self) -> int:
        return self.height // self.spatial_stride

    @property
    def latent_width(self) -> int:
        return self.width // self.spatial_stride

    @property
    def tokens(self) -> tuple[int, int]:
        """Rows and columns of tokens of one latent frame."""
        return self.latent_height // self.patch, self.latent_width // self.patch

    @property
    def tokens_per_frame(self) -> int:
        rows, columns = self.tokens
        return rows * columns

    def pixel_frames(self, start: int, count: int) -> int:
        """Pixel frames that latent frames `start … start + count - 1` decode to."""
        return self.pixel_start(start + count) - self.pixel_start(start)

    def pixel_start(self, latent: int) -> int:
        """Index of the first pixel frame of latent frame `latent`."""
        return 0 if latent == 0 else 1 + (latent - 1) * self.temporal_stride

    def latent_frames(self, pixel_frames: int) -> int:
        """The smallest number of latent frames that decode to at least `pixel_frames`."""
        return 1 + math.ceil(max(0, pixel_frames - 1) / self.temporal_stride)


@dataclass(frozen=True)
class Timeline:
    """Chunks on the clock: which pixel frames and seconds each chunk covers.

    `lead` is how many chunks are begun after one before it leaves: the prompts of that many chunks
    after a video's end are still heard in it.
    """

    grid: LatentGrid
    chunks: ChunkPattern
    fps: float
    lead: int = 0

    def first_pixel_frame(self, chunk: int) -> int:
        return self.grid.pixel_start(self.chunks.start(chunk))

    def pixel_frames(self, chunk: int) -> int:
        return self.grid.pixel_frames(self.chunks.start(chunk), self.chunks.frames(chunk))

    def start_time(self, chunk: int) -> float:
        """Seconds from the start of the video to the first frame of `chunk`."""
        return self.first_pixel_frame(chunk) / self.fps

    def chunk_count(self, seconds: float) -> int:
        """The smallest number of whole chunks that last at least `seconds`."""
        if not seconds > 0:
            raise ValueError(f"the length must be more than 0 seconds, got {seconds}")
        frames = max(1, math.ceil(seconds * self.fps - 1e-6))
        return self.chunks.covering(self.grid.latent_frames(frames))

    def duration(self, chunk_count: int) -> float:
        """Seconds that the first `chunk_count` chunks last."""
        return self.start_time(chunk_count) if chunk_count else 0.0
