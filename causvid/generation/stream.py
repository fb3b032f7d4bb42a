"""One viewer's state machine: a video that is made chunk by chunk, for as long as it is wanted.

Everything that changes while a viewer watches lives in a `Stream`; the weights behind it are
shared and stateless, so any number of streams can take turns. The app, the command line, the API,
the benchmark and the tests all drive the same `step()`.

    open → streaming → (ended ⇄ streaming) → closed

A stream that has ended can be extended. `steer`, `interrupt` and `close` may be called from other
threads while a step runs.
"""

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from causvid.generation.chunk import FrameChunk, Looks, Timings
from causvid.generation.generator import Generator, seeded_noise
from causvid.generation.parameters import check_seed, check_strength
from causvid.generation.prompts import Cue, Handover, PromptSchedule, PromptShare, SnappedSchedule
from causvid.generation.sampler import new_sampler
from causvid.generation.snapshot import (
    SnapshotSettings,
    pack,
    pack_pending,
    unpack,
    unpack_pending,
)
from causvid.generation.source import SourceChunk, VideoSource, to_bytes, to_pixels
from causvid.model.cache import TextCache
from causvid.model.codec import CodecState, VideoCodec
from causvid.model.interruption import interruptible

LOOKED_AT = 3
"""The drift gauge looks at every so many pictures: neighbours look alike."""

EncodePrompts = Callable[[list[str]], Tensor]
"""Prompts → embeddings `[b, text_length, text_dim]` on the transformer's device."""


class StreamClosed(RuntimeError):
    """The stream was closed; what it had is gone. Open a new one, or resume a snapshot."""


class StreamInterrupted(RuntimeError):
    """The chunk in the making was given up. The stream is as it was before it, and can go on."""


class Stream:
    """A video in the making: an iterator of `FrameChunk`.

    Args:
        generator: weights, configuration and size, shared between streams.
        codec: the streaming codec, shared between streams.
        encode_prompts: prompts to embeddings, shared between streams.
        schedule: which prompt holds when.
        seed: the same seed, schedule and sources give the same frames, and a longer video begins
            with the shorter one.
        chunk_count: chunks to make, or `None` for a stream without end.
        image: uint8 `[h, w, 3]` of the generator's size: image-to-video. A model with an
            independent first frame takes it as its first latent, another as a still that fills
            its first chunk (CausVid, section 5.3).
        source: a source video: video-to-video. The stream ends with it.

    Raises:
        ValueError: if image and source are both given, sizes do not fit, or the sampler does not
            suit the configuration or the mode.
    """

    def __init__(
        self,
        generator: Generator,
        codec: VideoCodec,
        encode_prompts: EncodePrompts,
        schedule: PromptSchedule,
        *,
        seed: int = 0,
        chunk_count: int | None = None,
        image: np.ndarray | None = None,
        source: VideoSource | None = None,
    ):
        if image is not None and source is not None:
            raise ValueError("a stream starts from an image or from a video, not from both")
        grid = generator.grid
        if image is not None and image.shape != (grid.height, grid.width, 3):
            raise ValueError(
                f"the image must have shape ({grid.height}, {grid.width}, 3), got "
                f"{tuple(image.shape)}: fit it first (causvid.media.fit)"
            )
        if chunk_count is not None and chunk_count < 1:
            raise ValueError(f"a stream needs at least one chunk, got {chunk_count}")
        self._sampler = new_sampler(generator)
        if source is not None and not self._sampler.takes_source:
            raise ValueError(
                f"the {generator.config.sampler} sampler cannot start from a source video: use a "
                f"model of another sampler, or begin with a prompt or an image"
            )
        self.generator = generator
        self.seed = check_seed(seed)
        self.chunk_count = chunk_count
        self._codec = codec
        self._encode_prompts = encode_prompts
        self._image = image
        self._source = source
        self._source_chunk: SourceChunk | None = None  # read, but its pictures are not made yet
        self._latents: Tensor | None = None  # left the sampler, but are not decoded yet
        self._rebuilding = False  # the past, for a new prompt
        self._schedule = schedule
        self._next = 0  # chunks finished
        self._steerable = 0  # the first chunk whose prompt can still be changed
        self._codec_state: CodecState = codec.start()
        self._mix: tuple[PromptShare, ...] | None = None  # what `_text` was computed from
        self._text: TextCache | None = None
        self._first_looks: Looks | None = None
        self._closed = threading.Event()
        self._interrupted = threading.Event()
        self._stepping = threading.RLock()
        self._steering = threading.Lock()

    # State

    @property
    def position(self) -> int:
        """Chunks made so far."""
        return self._next

    @property
    def seconds(self) -> float:
        """Length of the video so far."""
        return self.generator.timeline.duration(self._next)

    @property
    def schedule(self) -> PromptSchedule:
        """Which prompt holds when; with every `steer` so far written into it."""
        return self._schedule

    @property
    def closed(self) -> bool:
        return self._closed.is_set()

    # Making frames

    @torch.no_grad()
    def step(self) -> FrameChunk | None:
        """Make the next chunk; `None` at the end of the video or of the source.

        Raises:
            StreamClosed: if the stream is, or gets closed while it works: between two layers.
            StreamInterrupted: likewise, after `interrupt`.
        """
        with self._stepping:
            self._check()
            if self.chunk_count is not None and self._next >= self.chunk_count:
                return None
            with interruptible(self._check, self.generator.device):
                return self._make(self._next)

    def __iter__(self) -> Iterator[FrameChunk]:
        return self

    def __next__(self) -> FrameChunk:
        chunk = self.step()
        if chunk is None:
            raise StopIteration
        return chunk

    def steer(self, prompt: str, handover: Handover | str = "recache") -> int:
        """Change the prompt from the next chunk on that is begun; later cues are dropped.

        Safe to call while a step runs: the chunk in the making keeps its prompt. A sampler that
        begins chunks before others have left (`GenerationConfig.lead`) ends those under the new
        prompt.

        Returns:
            The first chunk that is made under the new prompt alone.

        Raises:
            StreamClosed: if the stream is closed.
            ValueError: if the prompt is empty or the hand-over unknown.
        """
        self._check_open()
        if isinstance(handover, str):
            handover = Handover.parse(handover)
        with self._steering:
            chunk = self._steerable
            now = self.generator.timeline.start_time(chunk)
            cue = Cue(0.0, prompt, handover)
            self._schedule = self._schedule.then(now, PromptSchedule((cue,)))
            return chunk

    def leave_source(self, strength: float | None = None, adaptive: bool | None = None) -> int:
        """Leave the source video more or less, from the next chunk on that is begun.

        Args:
            strength: in (0, 1]; `None` leaves it as it is.
            adaptive: whether to leave it less where it moves fast; likewise.

        Returns:
            The first chunk that is made with it.

        Raises:
            StreamClosed: if the stream is closed.
            ValueError: if there is no source, or `strength` is out of range.
        """
        self._check_open()
        if self._source is None:
            raise ValueError("this video has no source that it could be left from")
        if strength is not None:
            check_strength(strength)
        with self._steering:
            if strength is not None:
                self._source.strength = strength
            if adaptive is not None:
                self._source.adaptive = adaptive
            return self._steerable

    def extend(self, seconds: float) -> None:
        """Let the stream run `seconds` longer than it was to run; at least one chunk."""
        if self.chunk_count is not None:
            timeline = self.generator.timeline
            end = timeline.duration(self.chunk_count) + seconds
            self.chunk_count = max(self.chunk_count + 1, timeline.chunk_count(end))

    def interrupt(self) -> None:
        """Give up the chunk in the making, between two layers, or else the next.

        The step raises `StreamInterrupted`. Unlike a closed stream, this one can be snapshot, and
        the next step makes the same chunk.
        """
        self._interrupted.set()

    def close(self) -> None:
        """Stop between two layers and let go of all memory. May be repeated."""
        self._closed.set()
        with self._stepping:
            if self._source is not None:
                self._source.close()
            for name in ("_sampler", "_codec_state", "_text"):
                vars(self).pop(name, None)
            self._latents = self._source_chunk = None

    # The source

    def prefetch(self, changed: Callable[[], None] = lambda: None) -> None:
        """Read a source ahead from now on, two chunks of pictures at most.

        Args:
            changed: called from another thread when `ready` may have become true.
        """
        if self._source is not None:
            self._source.prefetch(2 * self.generator.timeline.pixel_frames(1), changed)

    @property
    def ready(self) -> bool:
        """Whether the next step would not wait for the source."""
        if self._source is None or self._source_chunk is not None:
            return True
        return self._source.ready(self.generator.timeline.pixel_frames(self._next))

    @property
    def source_over(self) -> bool:
        """Whether the source has no more pictures; may wait for one."""
        if self._source is None or self._source_chunk is not None:
            return False
        with self._stepping:
            return self._source.over

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    # Keeping and resuming

    def settle(self) -> None:
        """Remember the last chunk, whose pictures left before: else the next step does so, or a
        snapshot, which needs no pass of the model after this."""
        with self._stepping:
            self._check_open()
            self._sampler.settle()

    def snapshot(self) -> bytes:
        """The whole state between two chunks, as a safetensors file.

        Continue it, or branch from it: the frames that follow are those of an uninterrupted
        stream, bit for bit. A source video is not part of it.
        """
        with self._stepping:
            self._check_open()
            tensors = {f"codec.{k}": v for k, v in self._codec_state.tensors().items()}
            tensors |= self._sampler.tensors()
            tensors |= pack_pending(self._source_chunk, self._latents)
            settings = SnapshotSettings(
                config=self.generator.config.to_dict(),
                height=self.generator.grid.height,
                width=self.generator.grid.width,
                schedule=self._schedule.to_dict(),
                seed=self.seed,
                next=self._next,
                chunk_count=self.chunk_count,
                first_looks=vars(self._first_looks) if self._first_looks else None,
                source=self._source.settings() if self._source else None,
                rebuilding=self._rebuilding,
            )
            return pack(settings, tensors)

    @classmethod
    def resume(
        cls,
        snapshot: bytes | str | Path,
        generator: Generator,
        codec: VideoCodec,
        encode_prompts: EncodePrompts,
        *,
        source: VideoSource | None = None,
    ) -> "Stream":
        """Go on from a snapshot, given the same weights.

        Args:
            snapshot: what `snapshot()` returned, or a file with it.
            source: video-to-video: the same source from its beginning.

        Raises:
            ValueError: if it is no snapshot, or one of another model, size or mode.
        """
        settings, tensors = unpack(snapshot)
        settings.check(generator)
        if (settings.source is None) != (source is None):
            raise ValueError(
                "the snapshot is of a video-to-video stream: pass its source video"
                if source is None
                else "the snapshot is not of a video-to-video stream: pass no source video"
            )
        stream = cls(
            generator,
            codec,
            encode_prompts,
            PromptSchedule.parse(settings.schedule),
            seed=settings.seed,
            chunk_count=settings.chunk_count,
            source=source,
        )

        codec_tensors = {k: v for k, v in tensors.items() if k.startswith("codec.")}
        stream._codec_state = codec.restore(
            {k.removeprefix("codec."): v for k, v in codec_tensors.items()}
        )
        stream._sampler.restore({k: v for k, v in tensors.items() if k not in codec_tensors})
        stream._rebuilding = settings.rebuilding
        stream._source_chunk, stream._latents = unpack_pending(tensors, generator.device)
        if settings.first_looks:
            stream._first_looks = Looks(**settings.first_looks)
        if source is not None and settings.source is not None:
            source.skip_to(settings.source)
        stream._next, stream._steerable = settings.next, stream._sampler.begun
        return stream

    # One chunk

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise StreamClosed("this stream is closed: open a new one, or resume a snapshot")

    def _check(self) -> None:
        self._check_open()
        if self._interrupted.is_set():
            self._interrupted.clear()
            raise StreamInterrupted("the chunk was given up; the stream can go on")

    def _make(self, index: int) -> FrameChunk | None:
        clock = _Clock(self.generator.device)
        timeline, sampler = self.generator.timeline, self._sampler
        snapped = self._schedule.snapped(timeline)
        try:
            # A sampler may begin several chunks before the first leaves.
            while self._latents is None:
                begun = sampler.begun
                with self._steering:  # from here on a new prompt waits for the next chunk
                    snapped = self._schedule.snapped(timeline)
                    self._steerable = begun + 1
                sampler.settle()  # now, not while somebody waited for the last chunk
                clock.lap("denoise")
                source = self._read_source(begun)
                if self._source is not None and source is None:
                    return None
                clock.lap("source")
                text = self._prompt(snapped, begun)
                clock.lap("text")
                if begun == 0 and self._image is not None:
                    latents = self._encode_image(self._image)
                    sampler.take(latents, text)
                    self._latents = latents
                else:
                    self._latents = sampler.next(begun, text, self._noise, source=source)
                clock.lap("denoise")
        finally:
            # A chunk that was abandoned does not count, and can be made again.
            self._steerable = sampler.begun

        source = self._source_chunk
        pictures = to_bytes(self._codec.decode(self._latents, self._codec_state))
        if source is not None:
            pictures = pictures[: len(source.frames)]
        self._source_chunk = self._latents = None
        looks = Looks.of(pictures[::LOOKED_AT])
        frames = pictures.cpu().numpy()  # here the host waits for the device, and only here
        clock.lap("decode")
        self._first_looks = self._first_looks or looks
        self._next = index + 1
        starting = snapped.starting(index) if index else None
        first_frame = timeline.first_pixel_frame(index)
        return FrameChunk(
            index=index,
            frames=frames,
            first_frame=first_frame,
            start=first_frame / timeline.fps,
            end=(first_frame + len(frames)) / timeline.fps,
            prompt=snapped.at(index).cue.prompt,
            handover=None if starting is None else starting.cue.handover,
            looks=looks,
            drift=looks.relative_to(self._first_looks),
            timings=Timings(**clock.seconds()),
            source=None if source is None else source.frames,
            strength=None if source is None else source.strength,
            source_time=None if source is None else source.time,
        )

    def _read_source(self, index: int) -> SourceChunk | None:
        if self._source is not None and self._source_chunk is None:
            count = self.generator.timeline.pixel_frames(index)
            self._source_chunk = self._source.read(
                count, self._codec, self._codec_state, self.generator.device
            )
        return self._source_chunk

    def _encode_image(self, image: np.ndarray) -> Tensor:
        """The image as the latents of chunk 0: one, or a still that fills it."""
        count = self.generator.timeline.pixel_frames(0)
        still = np.repeat(image[None], count, axis=0)
        pixels = to_pixels(still, self.generator.device, torch.float32)
        return self._codec.encode(pixels, self._codec.start())

    def _noise(self, chunk: int, step: int) -> Tensor:
        shape = self.generator.chunk_shape(chunk)
        return seeded_noise(self.seed, chunk, step, shape, self.generator.device)

    def _prompt(self, snapped: SnappedSchedule, chunk: int) -> TextCache:
        """Bring the text, and where a hand-over asks for it the past, up to the prompt of `chunk`,
        which begins."""
        mix = snapped.mix(chunk)
        if mix != self._mix or self._text is None:
            embeds = self._encode_prompts([share.prompt for share in mix])
            weights = embeds.new_tensor([share.weight for share in mix])
            mixed = (embeds * weights[:, None, None]).sum(0, keepdim=True)
            self._text = self.generator.encode_text(mixed)
            self._mix = mix
        starting = snapped.starting(chunk) if chunk else None
        kind = None if starting is None else starting.cue.handover.kind
        if kind == "recache" or self._rebuilding:
            # If it is given up half way, the next chunk begins with it, whatever its prompt.
            self._rebuilding = True
            self._sampler.recache(self._text, self._noise)
            self._rebuilding = False
        if kind == "flush":
            self._sampler.flush()
        return self._text


class _Clock:
    """Laps of a device's own time, read when their work is done: nothing waits for them."""

    def __init__(self, device: torch.device):
        self._device = device
        self._marks: list[tuple[str, Any]] = [("", self._now())]

    def lap(self, part: str) -> None:
        """Charge what was asked for since the last lap to `part`."""
        self._marks.append((part, self._now()))

    def seconds(self) -> dict[str, float]:
        """Of every part."""
        found = dict.fromkeys((field.name for field in dataclasses.fields(Timings)), 0.0)
        on_gpu = self._device.type == "cuda"
        if on_gpu:
            self._marks[-1][1].synchronize()
        for (_, start), (part, end) in pairwise(self._marks):
            found[part] += start.elapsed_time(end) / 1000 if on_gpu else end - start
        return found

    def _now(self) -> Any:
        if self._device.type != "cuda":
            return time.perf_counter()
        mark = torch.cuda.Event(enable_timing=True)
        mark.record(torch.cuda.current_stream(self._device))
        return mark
