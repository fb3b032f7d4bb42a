"""The memory of one stream: self-attention keys and values of the past, and of the prompt.

`KVCache` is allocated once. Frames live in fixed slots: the first `sink` frames for ever, the rest
in a ring that is overwritten in place, oldest first. Attention does not care about the order of
keys, so nothing is ever shifted, cloned or concatenated. Keys are stored rotated.

A chunk is written in three moves:

    cache.open(frames)                 # once: choose the slots, rotate the sink to its place
    cache.write(layer, keys, values)   # every layer of every pass: overwrite them, see the past
    cache.advance()                    # once: the last pass stays

Abandoning an open chunk is harmless: the next one overwrites the same slots. A pass may also hold
frames that are not to be remembered, ahead of the chunk: they have slots of their own.

    storage  [layers, 2, b, heads, window · tokens_per_frame, head_dim]   0 keys, 1 values
    slots    ahead | sink | ring                                          in frames

Counters, in latent frames since the start of the video:

    cursor           frames remembered so far, evicted ones included
    _sink_origin     the frame in the first slot of the sink
    _ring_origin     a frame in the first slot of the ring; none before it is remembered there
    _sink_position   the position to which the sink's keys are rotated at present
    _first, _frames  the open chunk, the frames ahead included
    _ahead           how many of those are ahead
"""

import itertools
from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from causvid.model.attention import time_rotation

SinkRotation = Literal["renewed", "absolute"]


class TextCache(NamedTuple):
    """Cross-attention keys and values of one prompt, `[b, m, heads, head_dim]` for every layer."""

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]


class KVCache:
    """Self-attention keys and values of all layers: a sink, and a ring over the recent past.

    Args:
        num_layers, batch, heads, head_dim: the transformer's.
        tokens_per_frame: tokens of one latent frame.
        window: latent frames visible to a pass, its own and the sink included.
        sink: latent frames at the start of the video that are never evicted (StreamingLLM,
            arXiv 2309.17453; for video LongLive, arXiv 2509.22622).
        sink_rotation: `"renewed"` keeps the sink just before the oldest visible frame, so that
            its distance to the present stays one that was seen in training and a stream has no
            end; `"absolute"` leaves it where it was, as the published rolling models do.
        sink_decay: in (0, 1): frames that leave the window are blended into the sink, whose keys
            and values become moving averages (Reward Forcing, arXiv 2512.04678). Each goes to the
            next of the sink's frames in turn. Needs a renewed sink.
        ahead: latent frames that a pass may hold beyond those that are remembered.

    Raises:
        ValueError: if the window does not hold more than the sink and the frames ahead.
    """

    def __init__(
        self,
        *,
        num_layers: int,
        batch: int,
        heads: int,
        head_dim: int,
        tokens_per_frame: int,
        window: int,
        sink: int = 0,
        sink_rotation: SinkRotation = "renewed",
        sink_decay: float | None = None,
        ahead: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        if not 0 <= sink < window - ahead:
            raise ValueError(
                f"the window ({window} frames) must be larger than the sink ({sink}) and the "
                f"frames ahead ({ahead})"
            )
        self.window = window
        self.sink = sink
        self.ahead = ahead
        self.ring = window - sink - ahead
        self.sink_rotation = sink_rotation
        self.sink_decay = sink_decay
        self.tokens_per_frame = tokens_per_frame
        self.head_dim = head_dim
        self.storage = torch.empty(
            (num_layers, 2, batch, heads, window * tokens_per_frame, head_dim),
            device=device,
            dtype=dtype,
        )
        self.reset()

    def reset(self) -> None:
        """Forget everything; the allocation stays."""
        self.cursor = self._sink_origin = self._sink_position = 0
        self._ring_origin = self.sink
        # The sink's keys before their rotation in time, none where that is absolute; renewing
        # from here never adds up errors. With a decay also the rest of it: what of the keys is
        # not rotated in time, and the values. float32, as a small share vanishes in bfloat16.
        self._sink_keys: Tensor | None = None
        self._sink_rest: Tensor | None = None
        # With a decay: what the open chunk pushes out, frame → keys and values.
        self._evicted: dict[int, Tensor] = {}
        self._first = self._frames = self._ahead = 0
        self._visible = slice(0, 0)  # tokens of the storage
        self._spans: list[tuple[slice, slice]] = []  # tokens of the open chunk, of the storage
        self.rotary: Tensor | None = None  # of the open chunk; filled in by its first pass

    @property
    def nbytes(self) -> int:
        kept = (self._sink_keys, self._sink_rest, *self._evicted.values())
        return self.storage.nbytes + sum(tensor.nbytes for tensor in kept if tensor is not None)

    @property
    def sink_end(self) -> int:
        """The latent frame after the sink's last."""
        return self._sink_origin + self.sink

    @property
    def positions(self) -> Tensor:
        """Latent indices of the open chunk, int64 `[frames]`, on the cache's device."""
        return torch.arange(self._first, self._first + self._frames, device=self.storage.device)

    def open(self, frames: int, ahead: int = 0) -> None:
        """Prepare the slots of the next chunk of `frames` latent frames.

        Args:
            ahead: number of further latent frames that take part in attention and are not
                remembered.

        Raises:
            ValueError: if the chunk is larger than what the window leaves beside the sink, or
                more frames are ahead than the cache was made for.
        """
        self._put_back()
        self._open(self.cursor, frames, ahead)

    @torch.compiler.disable  # the spans differ from chunk to chunk
    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store the open chunk's rotated `keys` and `values` `[b, n, heads, d]` of one layer.

        Returns:
            Views of all visible keys and values, `[b, m, heads, d]`, in no particular order.
        """
        slot_keys, slot_values = self.storage[layer].unbind()
        for source, slots in self._spans:
            slot_keys[:, :, slots] = keys[:, source].transpose(1, 2)
            slot_values[:, :, slots] = values[:, source].transpose(1, 2)
        return (
            slot_keys[:, :, self._visible].transpose(1, 2),
            slot_values[:, :, self._visible].transpose(1, 2),
        )

    def advance(self) -> None:
        """Keep the open chunk as it was last written and move on."""
        self.cursor = self._first + self._frames - self._ahead
        self._sink_keys, self._sink_rest = self._blended_sink()
        self._evicted = {}
        if self.sink and self._first < self.sink_end <= self.cursor:
            self._keep_sink()
        self._frames = self._ahead = 0

    def past(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values `[b, m, heads, d]` visible to the open chunk, itself left out: copies."""
        spans = sorted((slots.start, slots.stop) for _, slots in self._spans)
        edges = [self._visible.start, *itertools.chain(*spans), self._visible.stop]
        kept = [
            self.storage[layer, ..., i:j, :] for i, j in zip(edges[::2], edges[1::2], strict=True)
        ]
        keys, values = torch.cat(kept, dim=3).unbind()
        return keys.transpose(1, 2), values.transpose(1, 2)

    def reopen(self, *, keep_sink: bool, frames: int | None = None) -> tuple[int, int]:
        """Open the remembered past itself, to be written anew in one pass (LongLive, section 3.2).

        Follow with the passes of a chunk, over the latents of the frames returned, then
        `advance()`; the cursor ends where it was.

        Args:
            keep_sink: leave the sink's keys as they are. Otherwise the oldest remembered frames
                become the new sink.
            frames: forget all but the sink and the last `frames` first.

        Returns:
            The first latent frame to run, and how many.
        """
        self._put_back()
        if frames is not None:
            self.flush(frames)
        oldest = max(self._ring_origin, self.cursor - self.ring)  # in the ring
        complete = self._sink_origin == 0 and self._ring_origin == self.sink
        if complete and self.cursor <= self.sink + self.ring:
            first = 0  # nothing was evicted yet: the sink is part of the window and rewritten
        elif keep_sink:
            first = oldest
        else:
            first = max(self.cursor - self.sink - self.ring, oldest - self.sink)
            self._sink_origin = self._sink_position = first
            self._ring_origin = first + self.sink
        self._open(first, self.cursor - first, 0)
        return first, self.cursor - first

    def flush(self, frames: int = 1) -> None:
        """Forget all but the sink and the last `frames` (the KV flush of ∞-RoPE, arXiv 2511.20649,
        leaves one)."""
        self._put_back()
        first = self.cursor - frames
        if first <= self._ring_origin:
            return
        kept = [self.storage[..., self._tokens(self._slot(first + i), 1), :] for i in range(frames)]
        self.storage[..., self._tokens(self.sink, frames), :] = torch.cat(kept, dim=-2)
        self._ring_origin = first

    def tensors(self) -> dict[str, Tensor]:
        """Everything remembered, for a snapshot between chunks: name → tensor."""
        self._put_back()
        counters = [self.cursor, self._sink_origin, self._ring_origin, self._sink_position]
        filled = self._tokens(0, self._visible_frames(self.cursor))
        state = {
            "counters": torch.tensor(counters),
            "storage": self.storage[..., filled, :].clone(),
        }
        if self._sink_keys is not None:
            state["sink_keys"] = torch.view_as_real(self._sink_keys).clone()
        if self._sink_rest is not None:
            state["sink_rest"] = self._sink_rest.clone()
        return state

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take over what `tensors()` of an equal cache returned, bit for bit."""
        self.reset()
        filled = state["storage"]
        slots = self.storage[..., self._tokens(0, self.sink + self.ring), :]
        if filled.shape[:4] != slots.shape[:4] or filled.shape[4] > slots.shape[4]:
            raise ValueError(
                f"the snapshot's cache has shape {tuple(filled.shape)}, this stream's has "
                f"{tuple(slots.shape)}: resume with the same model, size and window"
            )
        self.cursor, self._sink_origin, self._ring_origin, self._sink_position = (
            int(value) for value in state["counters"]
        )
        slots[..., : filled.shape[4], :] = filled
        if "sink_keys" in state:
            pairs = state["sink_keys"].to(self.storage.device)
            self._sink_keys = torch.view_as_complex(pairs.contiguous())
        if "sink_rest" in state:
            self._sink_rest = state["sink_rest"].to(self.storage.device)

    def _open(self, first: int, frames: int, ahead: int) -> None:
        end = first + frames
        beyond_sink = end - max(first, self.sink_end)
        if frames + ahead < 1 or beyond_sink > self.ring or ahead > self.ahead:
            raise ValueError(
                f"a chunk of {frames} latent frames does not fit a window of {self.window} with a "
                f"sink of {self.sink}: use a window of at least "
                f"{self.sink + frames + max(ahead, self.ahead)}"
            )
        self._first, self._frames, self._ahead = first, frames + ahead, ahead
        self._visible = self._tokens(-ahead, ahead + self._visible_frames(end))
        self._spans = list(self._chunk_spans(first, first + self._frames))
        self.rotary = None
        if self._sink_keys is not None and first >= self.sink_end:
            oldest = max(self._ring_origin, end - self.ring)
            if self.sink_decay is not None:
                leaving = range(max(self._ring_origin, self.cursor - self.ring), oldest)
                self._evicted = {f: self._frame_view(f).clone() for f in leaving}
            self._place_sink(oldest - self.sink)

    def _visible_frames(self, end: int) -> int:
        in_sink = min(self.sink, end - self._sink_origin)
        return in_sink + max(0, min(self.ring, end - self._ring_origin))

    def _slot(self, frame: int) -> int:
        """The slot of a latent frame, counted in frames from the sink's first."""
        if self._ahead and frame >= self._first + self._frames - self._ahead:
            return frame - self._first - self._frames
        if frame < self.sink_end:
            return frame - self._sink_origin
        return self.sink + (frame - self._ring_origin) % self.ring

    def _tokens(self, slot: int, count: int) -> slice:
        first = self.ahead + slot
        return slice(first * self.tokens_per_frame, (first + count) * self.tokens_per_frame)

    def _chunk_spans(self, first: int, end: int) -> Iterator[tuple[slice, slice]]:
        """Split frames `first … end - 1` into runs of consecutive slots: one, two or three."""
        start = first
        for frame in range(first + 1, end + 1):
            if frame == end or self._slot(frame) != self._slot(frame - 1) + 1:
                source = slice(*((i - first) * self.tokens_per_frame for i in (start, frame)))
                yield source, self._tokens(self._slot(start), frame - start)
                start = frame

    def _frame_view(self, frame: int) -> Tensor:
        """Keys and values of one frame `[layers, 2, b, heads, tokens, d]`: a view."""
        return self.storage[..., self._tokens(self._slot(frame), 1), :]

    def _sink_view(self) -> Tensor:
        """The sink `[layers, 2, b, heads, sink, tokens, d]`, a view of the storage."""
        sink = self.storage[..., self._tokens(0, self.sink), :]
        return sink.unflatten(-2, (self.sink, self.tokens_per_frame))

    def _rotation(self, position: int, frames: int) -> Tensor:
        """In time, of frames from latent index `position` on: complex `[frames, 1, pairs]`."""
        positions = torch.arange(position, position + frames, device=self.storage.device)
        return time_rotation(positions, self.head_dim)[:, None]

    def _unrotated(self, view: Tensor, position: int) -> tuple[Tensor, Tensor]:
        """Of frames `[layers, 2, b, heads, f, tokens, d]` that are rotated to `position` and on:
        what rotates in time, before it did, and all the rest. Both float32."""
        rotation = self._rotation(position, view.shape[4])
        keys, values = view.float().unbind(1)
        pairs = rotation.shape[-1]
        turning = torch.view_as_complex(keys.unflatten(-1, (-1, 2)))[..., :pairs]
        rest = torch.cat([keys[..., 2 * pairs :], values], dim=-1)
        return turning * rotation.conj(), rest

    def _keep_sink(self) -> None:
        """Remember the freshly written sink without its rotation in time."""
        self._sink_position = self._sink_origin
        if self.sink_rotation == "renewed":
            keys, rest = self._unrotated(self._sink_view(), self._sink_origin)
            self._sink_keys = keys
            self._sink_rest = None if self.sink_decay is None else rest

    def _place_sink(self, position: int) -> None:
        """Rotate the sink as if its first frame stood at latent index `position`."""
        if position == self._sink_position:
            return
        keys, rest = self._blended_sink()
        assert keys is not None, "a sink that moves was kept"
        view = self._sink_view()
        turned = torch.view_as_real(keys * self._rotation(position, self.sink)).flatten(-2)
        view[:, 0, ..., : turned.shape[-1]] = turned.to(self.storage.dtype)
        if rest is not None:
            fixed = self.head_dim - turned.shape[-1]
            view[:, 0, ..., turned.shape[-1] :] = rest[..., :fixed].to(self.storage.dtype)
            view[:, 1] = rest[..., fixed:].to(self.storage.dtype)
        self._sink_position = position

    def _blended_sink(self) -> tuple[Tensor | None, Tensor | None]:
        """`_sink_keys` and `_sink_rest` after the eviction of what the open chunk pushes out."""
        keys, rest, decay = self._sink_keys, self._sink_rest, self.sink_decay
        if not self._evicted or keys is None or rest is None or decay is None:
            return keys, rest
        keys, rest = keys.clone(), rest.clone()
        for frame, evicted in self._evicted.items():
            place = (frame - self.sink_end) % self.sink
            leaving = self._unrotated(evicted.unsqueeze(4), frame)
            for mean, new in zip((keys, rest), leaving, strict=True):
                mean[:, :, :, place] *= decay
                mean[:, :, :, place] += (1 - decay) * new[:, :, :, 0]
        return keys, rest

    def _put_back(self) -> None:
        """Undo the eviction of a chunk that was abandoned."""
        for frame, evicted in self._evicted.items():
            self._frame_view(frame)[:] = evicted
            self._sink_position = -1  # nowhere: it is placed again before it is seen
        self._evicted = {}


class GradientMemory:
    """Stands in for an open `KVCache` on a pass that needs gradients.

    Autograd refuses keys that are later overwritten in place, so the live chunk is concatenated
    to a detached copy of the past and nothing is written. The copy is kept, as the pass is run
    again in the backward pass if activations are checkpointed, when the cache has moved on.
    """

    def __init__(self, cache: KVCache):
        self._cache = cache
        self._past: dict[int, tuple[Tensor, Tensor]] = {}
        self.positions = cache.positions
        self.rotary: Tensor | None = None

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        if layer not in self._past:
            self._past[layer] = self._cache.past(layer)
        past_keys, past_values = self._past[layer]
        keys = keys.to(values.dtype)
        return torch.cat([past_keys, keys], dim=1), torch.cat([past_values, values], dim=1)
