"""A source video for streaming video-to-video: read, encoded and noised chunk by chunk.

The source is an iterator of pictures and may be longer than memory; it is read no further than
the chunk at hand needs, unless it is told to `prefetch`.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from causvid.generation.parameters import check_strength
from causvid.generation.prefetch import Prefetch, close_pictures
from causvid.model.codec import CodecState, VideoCodec
from causvid.model.interruption import pause


def to_pixels(frames: np.ndarray, device: torch.device, dtype: torch.dtype) -> Tensor:
    """uint8 `[t, h, w, 3]` → `[1, t, 3, h, w]` in [-1, 1]."""
    pixels = torch.from_numpy(np.ascontiguousarray(frames)).to(device).permute(0, 3, 1, 2)
    return pixels[None].to(dtype) / 127.5 - 1


def to_bytes(pixels: Tensor) -> Tensor:
    """`[1, t, 3, h, w]` in [-1, 1] → uint8 `[t, h, w, 3]`, on the same device."""
    frames = ((pixels[0].float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return frames.permute(0, 2, 3, 1).contiguous()


def to_frames(pixels: Tensor) -> np.ndarray:
    """`[1, t, 3, h, w]` in [-1, 1] → uint8 `[t, h, w, 3]`, on the host."""
    return to_bytes(pixels).cpu().numpy()


@dataclass(frozen=True, eq=False)
class SourceChunk:
    """A chunk of the source.

    Attributes:
        latents: clean latents `[1, f, c, h, w]`.
        frames: the pictures themselves, uint8 `[t, h, w, 3]`; fewer than a whole chunk at the end
            of the source.
        strength: noise level σ to start from, in (0, 1].
        time: time stamp of the newest picture of a live source, seconds.
    """

    latents: Tensor
    frames: np.ndarray
    strength: float
    time: float | None = None


class VideoSource:
    """Feeds a stream with a source video.

    Args:
        frames: pictures at the model's rate and size, uint8 `[h, w, 3]` each.
        strength: how far to leave the source, in (0, 1]: the noise level σ of the first step.
        adaptive: lower the strength where the source moves fast, as StreamDiffusionV2 does
            (arXiv 2511.07399): noise that hides fast motion cannot be undone by the prompt.

    Raises:
        ValueError: if `strength` is out of range.
    """

    # StreamDiffusionV2's constants: a root-mean-square change of 0.2 between neighbouring
    # pictures in [-1, 1] counts as full motion and takes 0.1 off; a tenth of the last strength
    # stays, so that it does not flicker.
    FULL_MOTION = 0.2
    MOTION_DISCOUNT = 0.1
    INERTIA = 0.1

    def __init__(
        self, frames: Iterable[np.ndarray], *, strength: float = 0.7, adaptive: bool = False
    ):
        check_strength(strength)
        self._frames: Iterator[np.ndarray] = iter(frames)
        self._read: list[np.ndarray] = []  # of the next chunk
        self._time: float | None = None  # of the newest of them, where that is known
        self._skip = 0  # pictures to be dropped first
        self.strength = strength
        self.adaptive = adaptive
        self._last_strength = strength
        self.position = 0  # pictures of the chunks read so far

    def prefetch(self, ahead: int, changed: Callable[[], None]) -> None:
        """Read up to `ahead` pictures in a thread of its own from now on.

        Args:
            changed: called from that thread when `ready` may have become true.
        """
        self._frames = Prefetch(self._frames, ahead, changed, skip=self._skip)
        self._skip = 0

    def ready(self, count: int) -> bool:
        """Whether `read` of `count` pictures would not wait for the source."""
        frames = self._frames
        return not isinstance(frames, Prefetch) or frames.ready(count - len(self._read))

    @property
    def over(self) -> bool:
        """Whether there is no further picture; may wait for one."""
        try:
            self._gather(1)
        except ValueError:  # what is broken is told to whoever reads on
            return False
        return not self._read

    def read(
        self, count: int, codec: VideoCodec, state: CodecState, device: torch.device
    ) -> SourceChunk | None:
        """The next `count` pictures, encoded; `None` when there are none left.

        A chunk that the source ends in is filled up with its last picture before encoding. After
        an interruption, the same pictures are read again.
        """
        self._gather(count)
        if not self._read:
            return None
        frames = np.stack(self._read)
        missing = count - len(frames)
        filled = np.concatenate([frames, np.repeat(frames[-1:], missing, axis=0)])
        latents = codec.encode(to_pixels(filled, device, torch.float32), state)
        self._read = []
        self.position += len(frames)
        return SourceChunk(latents, frames, self._strength_for(frames), self._time)

    def close(self) -> None:
        """Release the reader behind the pictures, where there is one."""
        close_pictures(self._frames)

    def settings(self) -> dict[str, float | bool | int]:
        """What a snapshot needs to go on reading at the same place."""
        return {
            "strength": self.strength,
            "adaptive": self.adaptive,
            "last_strength": self._last_strength,
            "position": self.position,
        }

    def skip_to(self, settings: dict[str, float | bool | int]) -> None:
        """Go on where `settings()` was taken: pictures before that are read and dropped."""
        self._skip = int(settings["position"]) - self.position
        self.position = int(settings["position"])
        self.strength = float(settings["strength"])
        self.adaptive = bool(settings["adaptive"])
        self._last_strength = float(settings["last_strength"])

    def _gather(self, count: int) -> None:
        """Have `count` pictures of the next chunk, or all that there are."""
        while len(self._read) < count and (picture := next(self._frames, None)) is not None:
            if self._skip:
                self._skip -= 1
            else:
                self._read.append(picture)
            pause()

    def _strength_for(self, frames: np.ndarray) -> float:
        if not self.adaptive:
            return self.strength
        motion = 0.0
        if len(frames) > 1:
            change = np.diff(frames.astype(np.float32) / 127.5, axis=0)
            rms = float(np.sqrt((change**2).mean(axis=(1, 2, 3))).max())
            motion = min(rms / self.FULL_MOTION, 1.0)
        target = self.strength - self.MOTION_DISCOUNT * motion
        strength = (1 - self.INERTIA) * target + self.INERTIA * self._last_strength
        self._last_strength = min(max(strength, 0.02), 1.0)
        return self._last_strength
