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

    keys, values  for every layer a tensor [b, heads, window · tokens_per_frame, head_dim]
    frames        ahead | sink | ring

Each tensor is allocated by itself: a compiler that saw views of one would copy the whole cache at
every write. `open` fills in what differs from chunk to chunk, `slots` and `rotary`, where it lies,
so that a compiled or captured pass serves every chunk that sees as much.

Counters, in latent frames since the start of the video:

    cursor           frames remembered so far, evicted ones included
    _sink_origin     the frame in the first slot of the sink
    _ring_origin     a frame in the first slot of the ring; none before it is remembered there
    _sink_position   the position to which the sink's keys are rotated at present
    _first, _frames  the open chunk, the frames ahead included
    _ahead           how many of those are ahead
"""

import threading
import weakref
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from causvid.model.attention import rotary_table, rotate, time_rotation

SinkRotation = Literal["renewed", "absolute"]


class TextCache(NamedTuple):
    """Cross-attention keys and values of one prompt, `[b, m, heads, head_dim]` for every layer."""

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]


class StorageSize(NamedTuple):
    """What a `Storage` is allocated for."""

    num_layers: int
    batch: int
    heads: int
    tokens: int
    head_dim: int
    device: torch.device | str | None
    dtype: torch.dtype | None


class Storage:
    """The tensors of a `KVCache`; their addresses stay."""

    def __init__(self, size: StorageSize):
        self.size = size
        layers, batch, heads, tokens, head_dim, device, dtype = size
        # Whoever comes first may infer, others may not, and both write.
        with torch.inference_mode(False):
            self.slots = torch.empty(tokens, dtype=torch.int64, device=device)
            self.rotary = torch.empty((tokens, 1, head_dim // 2, 2), device=device)
            # The kernels of a GPU read token by token, those of a CPU head by head.
            by_head = self.slots.device.type == "cpu"
            near, far = (heads, tokens) if by_head else (tokens, heads)
            tensors = [
                torch.empty((batch, near, far, head_dim), device=device, dtype=dtype)
                for _ in range(2 * layers)
            ]
        if not by_head:
            tensors = [tensor.transpose(1, 2) for tensor in tensors]
        self.keys, self.values = tuple(tensors[:layers]), tuple(tensors[layers:])


class StoragePool:
    """Storages that no cache uses at present. It has those of the size that was asked for last."""

    def __init__(self) -> None:
        self._free: list[Storage] = []
        self._lending = threading.Lock()

    def lend(self, size: StorageSize, cache: "KVCache") -> Storage:
        """A storage for as long as `cache` lives."""
        with self._lending:
            self._free[:] = [it for it in self._free if it.size == size]
            storage = self._free.pop() if self._free else Storage(size)
        weakref.finalize(cache, self._free.append, storage).atexit = False
        return storage


class KVCache:
    """Self-attention keys and values of all layers: a sink, and a ring over the recent past.

    Args:
        num_layers, batch, heads, head_dim: the transformer's.
        grid: rows and columns of tokens of one latent frame.
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
        pool: where its storage comes from and goes to; it has one of its own without.

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
        grid: tuple[int, int],
        window: int,
        sink: int = 0,
        sink_rotation: SinkRotation = "renewed",
        sink_decay: float | None = None,
        ahead: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        pool: StoragePool | None = None,
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
        self.grid = grid
        self.tokens_per_frame = grid[0] * grid[1]
        self.head_dim = head_dim
        tokens = window * self.tokens_per_frame
        size = StorageSize(num_layers, batch, heads, tokens, head_dim, device, dtype)
        self.storage = Storage(size) if pool is None else pool.lend(size, self)
        self.keys, self.values = self.storage.keys, self.storage.values
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
        self.visible = slice(0, 0)  # tokens that the open chunk sees, itself included

    @property
    def device(self) -> torch.device:
        return self.storage.slots.device

    @property
    def nbytes(self) -> int:
        kept = (self._sink_keys, self._sink_rest, *self._evicted.values())
        tensors = (*self.keys, *self.values, *kept)
        return sum(tensor.nbytes for tensor in tensors if tensor is not None)

    @property
    def sink_end(self) -> int:
        """The latent frame after the sink's last."""
        return self._sink_origin + self.sink

    @property
    def positions(self) -> Tensor:
        """Latent indices of the open chunk, int64 `[frames]`, on the cache's device."""
        return torch.arange(self._first, self._first + self._frames, device=self.device)

    @property
    def slots(self) -> Tensor:
        """Where the open chunk's tokens are written, int64 `[n]`."""
        return self.storage.slots[: self._frames * self.tokens_per_frame]

    @property
    def rotary(self) -> Tensor:
        """Rotations of the open chunk's tokens, as of `rotary_table`."""
        return self.storage.rotary[: self._frames * self.tokens_per_frame]

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

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store the open chunk's rotated `keys` and `values` `[b, n, heads, d]` of one layer.

        Returns:
            Views of all visible keys and values, `[b, m, heads, d]`, in no particular order.
        """
        stored = self.keys[layer], self.values[layer]
        for tensor, new in zip(stored, (keys, values), strict=True):
            tensor.index_copy_(2, self.slots, new.transpose(1, 2).to(tensor.dtype))
        kept_keys, kept_values = (tensor[:, :, self.visible].transpose(1, 2) for tensor in stored)
        return kept_keys, kept_values

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
        size = self.tokens_per_frame
        written = {self._slot(self._first + i) + self.ahead for i in range(self._frames)}
        seen = range(self.visible.start // size, self.visible.stop // size)
        kept = [slice(i * size, (i + 1) * size) for i in seen if i not in written]

        def copied(tensor: Tensor) -> Tensor:
            parts = [tensor[:, :, :0], *(tensor[:, :, span] for span in kept)]
            return torch.cat(parts, dim=2).transpose(1, 2)

        return copied(self.keys[layer]), copied(self.values[layer])

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
        slots = [self._tokens(self._slot(first + i), 1) for i in range(frames)]
        for tensor in (*self.keys, *self.values):
            kept = torch.cat([tensor[:, :, slot] for slot in slots], dim=2)
            tensor[:, :, self._tokens(self.sink, frames)] = kept
        self._ring_origin = first

    def tensors(self) -> dict[str, Tensor]:
        """Everything remembered, for a snapshot between chunks: name → tensor."""
        self._put_back()
        counters = [self.cursor, self._sink_origin, self._ring_origin, self._sink_position]
        filled = self._tokens(0, self._visible_frames(self.cursor))
        state = {
            "counters": torch.tensor(counters),
            "storage": self._gathered(filled),
        }
        if self._sink_keys is not None:
            state["sink_keys"] = self._sink_keys.unflatten(-1, (-1, 2)).clone()
        if self._sink_rest is not None:
            state["sink_rest"] = self._sink_rest.clone()
        return state

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take over what `tensors()` of an equal cache returned, bit for bit."""
        self.reset()
        filled = state["storage"]
        tokens = (self.sink + self.ring) * self.tokens_per_frame
        ours = (len(self.keys), 2, *self.keys[0].shape[:2], tokens, self.head_dim)
        *theirs, filled_tokens, head_dim = filled.shape
        if (*theirs, head_dim) != (*ours[:4], ours[5]) or filled_tokens > tokens:
            raise ValueError(
                f"the snapshot's cache has shape {tuple(filled.shape)}, this stream's has "
                f"{ours}: resume with the same model, size and window"
            )
        self.cursor, self._sink_origin, self._ring_origin, self._sink_position = (
            int(value) for value in state["counters"]
        )
        self._scatter(self._tokens(0, filled_tokens // self.tokens_per_frame), filled)
        if "sink_keys" in state:
            self._sink_keys = state["sink_keys"].to(self.device).flatten(-2)
        if "sink_rest" in state:
            self._sink_rest = state["sink_rest"].to(self.device)

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
        self.visible = self._tokens(-ahead, ahead + self._visible_frames(end))
        self._fill_in()
        if self._sink_keys is not None and first >= self.sink_end:
            oldest = max(self._ring_origin, end - self.ring)
            if self.sink_decay is not None:
                leaving = range(max(self._ring_origin, self.cursor - self.ring), oldest)
                self._evicted = {f: self._gathered(self._tokens_of(f)) for f in leaving}
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

    def _tokens_of(self, frame: int) -> slice:
        return self._tokens(self._slot(frame), 1)

    def _fill_in(self) -> None:
        """Slots and rotations of the open chunk, into the tensors that every pass reads."""
        frames = range(self._first, self._first + self._frames)
        firsts = torch.tensor([self._tokens_of(frame).start for frame in frames])
        if self.device.type == "cuda":  # from pageable memory the copy would wait for the GPU
            firsts = firsts.pin_memory()
        firsts = firsts.to(self.device, non_blocking=True)
        within = torch.arange(self.tokens_per_frame, device=self.device)
        self.slots.copy_((firsts[:, None] + within).flatten())
        self.rotary.copy_(rotary_table(self.positions, *self.grid, self.head_dim))

    def _gathered(self, tokens: slice) -> Tensor:
        """Keys and values of all layers, `[layers, 2, b, heads, tokens, d]`: a copy."""
        pairs = zip(self.keys, self.values, strict=True)
        return torch.stack([torch.stack([t[:, :, tokens] for t in pair]) for pair in pairs])

    def _scatter(self, tokens: slice, gathered: Tensor) -> None:
        """Write back what `_gathered` returned."""
        for layer, (keys, values) in enumerate(gathered):
            self.keys[layer][:, :, tokens], self.values[layer][:, :, tokens] = keys, values

    def _rotation(self, position: int, frames: int) -> Tensor:
        """In time, of frames from latent index `position` on: `[frames, 1, pairs, 2]`."""
        positions = torch.arange(position, position + frames, device=self.device)
        return time_rotation(positions, self.head_dim)[:, None]

    def _unrotated(self, gathered: Tensor, position: int) -> tuple[Tensor, Tensor]:
        """Of gathered frames that are rotated to latent index `position` and on: what rotates in
        time, before it did, and all the rest. Both float32, `[layers, b, heads, f, tokens, …]`."""
        view = gathered.float().unflatten(-2, (-1, self.tokens_per_frame))
        keys, values = view.unbind(1)
        rotation = self._rotation(position, keys.shape[3])
        turning = 2 * rotation.shape[-2]
        back = rotation * rotation.new_tensor([1, -1])
        rest = torch.cat([keys[..., turning:], values], dim=-1)
        return rotate(keys[..., :turning], back), rest

    def _keep_sink(self) -> None:
        """Remember the freshly written sink without its rotation in time."""
        self._sink_position = self._sink_origin
        if self.sink_rotation == "renewed":
            sink = self._gathered(self._tokens(0, self.sink))
            keys, rest = self._unrotated(sink, self._sink_origin)
            self._sink_keys = keys
            self._sink_rest = None if self.sink_decay is None else rest

    def _place_sink(self, position: int) -> None:
        """Rotate the sink as if its first frame stood at latent index `position`."""
        if position == self._sink_position:
            return
        keys, rest = self._blended_sink()
        assert keys is not None, "a sink that moves was kept"
        turned = rotate(keys, self._rotation(position, self.sink)).flatten(3, 4)
        turning, slots = turned.shape[-1], self._tokens(0, self.sink)
        for stored, new in zip(self.keys, turned, strict=True):
            stored[:, :, slots, :turning] = new
        if rest is not None:
            fixed = self.head_dim - turning
            for layer, new in enumerate(rest.flatten(3, 4)):
                self.keys[layer][:, :, slots, turning:] = new[..., :fixed]
                self.values[layer][:, :, slots] = new[..., fixed:]
        self._sink_position = position

    def _blended_sink(self) -> tuple[Tensor | None, Tensor | None]:
        """`_sink_keys` and `_sink_rest` after the eviction of what the open chunk pushes out."""
        keys, rest, decay = self._sink_keys, self._sink_rest, self.sink_decay
        if not self._evicted or keys is None or rest is None or decay is None:
            return keys, rest
        keys, rest = keys.clone(), rest.clone()
        for frame, evicted in self._evicted.items():
            place = (frame - self.sink_end) % self.sink
            leaving = self._unrotated(evicted, frame)
            for mean, new in zip((keys, rest), leaving, strict=True):
                mean[:, :, :, place] *= decay
                mean[:, :, :, place] += (1 - decay) * new[:, :, :, 0]
        return keys, rest

    def _put_back(self) -> None:
        """Undo the eviction of a chunk that was abandoned."""
        for frame, evicted in self._evicted.items():
            self._scatter(self._tokens_of(frame), evicted)
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
        self.rotary = cache.rotary.clone()

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        if layer not in self._past:
            self._past[layer] = self._cache.past(layer)
        past_keys, past_values = self._past[layer]
        keys = keys.to(values.dtype)
        return torch.cat([past_keys, keys], dim=1), torch.cat([past_values, values], dim=1)
