"""Rotary positions of any index, frame masks, and the attention call shared by all three modes.

Where keys and values come from is not decided here: a `memory` handed to the processor either
returns the keys and values of the whole visible past (cached generation) or is absent (whole
clips, with or without a mask). The kernel is diffusers' choice (`set_attention_backend`).
"""

from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import Any, NamedTuple, Protocol

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers.transformer_wan import WanAttention
from torch import Tensor

ROTARY_BASE = 10_000.0


class Past(Protocol):
    """The open chunk's place among the keys and values of the past, as a cached pass needs it."""

    @property
    def rotary(self) -> Tensor:
        """Rotations of its tokens, as of `rotary_table`."""
        ...

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Take the open chunk's `[b, n, heads, d]`, return all visible ones `[b, m, heads, d]`."""
        ...


def rotary_pairs(head_dim: int) -> tuple[int, int, int]:
    """How many of the `head_dim / 2` rotated pairs encode time, height and width (Wan's split)."""
    spatial = head_dim // 6
    return head_dim // 2 - 2 * spatial, spatial, spatial


def _angles(positions: Tensor, pairs: int) -> Tensor:
    """Angles `[len(positions), pairs]` in float64: the position is unbounded, and in float32 an
    hour-long stream would lose the phase of its fastest pair."""
    exponents = torch.arange(pairs, dtype=torch.float64, device=positions.device) / pairs
    return positions.to(torch.float64)[:, None] * ROTARY_BASE**-exponents


def _unit(angles: Tensor) -> Tensor:
    return torch.stack([angles.cos(), angles.sin()], dim=-1).float()


def time_rotation(positions: Tensor, head_dim: int) -> Tensor:
    """Rotation of the time pairs alone at latent `positions` `[f]`: float32 `[f, pairs, 2]`."""
    return _unit(_angles(positions, rotary_pairs(head_dim)[0]))


def rotary_table(positions: Tensor, height: int, width: int, head_dim: int) -> Tensor:
    """Rotations of all tokens of latent frames at `positions` `[f]` on a `height` × `width` grid.

    Any index is valid: there is no table to run out of. Computed once per chunk, in float64.

    Returns:
        Cosines and sines, float32 `[f · height · width, 1, head_dim / 2, 2]`: time pairs first,
        then rows, columns.
    """
    _, rows, columns = rotary_pairs(head_dim)
    device = positions.device
    time = time_rotation(positions, head_dim)[:, None, None]
    row = _unit(_angles(torch.arange(height, device=device), rows))[None, :, None]
    column = _unit(_angles(torch.arange(width, device=device), columns))[None, None]
    shape = (len(positions), height, width)
    parts = [part.expand(*shape, *part.shape[-2:]) for part in (time, row, column)]
    return torch.cat(parts, dim=-2).flatten(0, 2)[:, None]


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Turn neighbouring channels of `x` `[…, d]` by `rotation` `[…, d / 2, 2]`; float32 result.

    Half precision would cost the phase, float64 twice the bandwidth. Compilers have no complex
    numbers; without one, their product is the fastest, bit for bit the same.
    """
    pairs = x.float().unflatten(-1, (-1, 2))
    if torch.compiler.is_compiling():
        (a, b), (cos, sin) = pairs.unbind(-1), rotation.unbind(-1)
        return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2)
    turned = torch.view_as_complex(pairs) * torch.view_as_complex(rotation)
    return torch.view_as_real(turned).flatten(-2)


def block_causal_mask(sizes: Sequence[int], *, window: int | None = None, sink: int = 0) -> Tensor:
    """Which frames (columns) each frame (row) sees when chunks of `sizes` are made in order.

    A frame sees its own chunk and all earlier ones (CausVid, section 4.1); with a `window`, only
    the last `window` frames up to the end of its chunk, the first `sink` of the clip among them.

    Returns:
        bool `[f, f]`, f = sum of `sizes`.
    """
    counts = torch.as_tensor(sizes)
    ends = counts.cumsum(0).repeat_interleave(counts)  # of every frame's chunk
    frame = torch.arange(len(ends))
    visible = frame[None] < ends[:, None]
    if window is not None:
        recent = frame[None] >= ends[:, None] - (window - sink)
        visible &= recent | (frame[None] < sink)
    return visible


def teacher_forcing_mask(sizes: Sequence[int], *, given: int = 0) -> Tensor:
    """The mask over clean frames followed by noisy ones, as at inference when the past is perfect.

    The clean frames are those of all chunks but the last. A noisy chunk sees the clean chunks
    before it and itself (arXiv 2412.07720).

    Args:
        sizes: frames of the chunks.
        given: chunks at the start that have no noisy copy.

    Returns:
        bool `[n, n]`, n the clean and the noisy frames together.
    """
    causal = block_causal_mask(sizes)
    same = causal & causal.T
    past, first = sum(sizes[:-1]), sum(sizes[:given])
    clean = torch.cat([causal, torch.zeros_like(causal)], dim=1)[:past]
    noisy = torch.cat([causal & ~same, same], dim=1)[first:]
    seen = torch.cat([clean, noisy])
    return torch.cat([seen[:, :past], seen[:, len(causal) + first :]], dim=1)


class Sight(NamedTuple):
    """A run of tokens that see the same tokens."""

    tokens: slice
    visible: tuple[slice, ...]

    def of(self, keys: Tensor) -> Tensor:
        """The visible ones of `keys` (or values) `[b, n, heads, d]`."""
        parts = [keys[:, span] for span in self.visible]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def sights(frame_mask: Tensor, tokens_per_frame: int) -> tuple[Sight, ...]:
    """Split a frame mask, bool `[f, f]`, into runs of frames that see the same frames.

    Each is then attended by itself, without a mask: no kernel computes scores to hide them, and
    no `[n, n]` tensor exists, which at 21 frames of 480x832 pixels would take two gigabytes and be
    kept by every layer for its backward pass.

    Raises:
        ValueError: if a frame sees nothing.
    """
    rows = frame_mask.tolist()
    blind = [frame for frame, row in enumerate(rows) if not any(row)]
    if blind:
        raise ValueError(f"frames {blind} see no frame at all, not even themselves")
    runs, start = [], 0
    for row, frames in groupby(rows):
        end = start + len(list(frames)) * tokens_per_frame
        runs.append(Sight(slice(start, end), _spans(row, tokens_per_frame)))
        start = end
    return tuple(runs)


def _spans(row: Sequence[bool], scale: int) -> tuple[slice, ...]:
    """The runs of true entries."""
    edges = [i * scale for i, (a, b) in enumerate(pairwise([False, *row, False])) if a != b]
    return tuple(slice(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True))


class CausalAttnProcessor:
    """Runs one `WanAttention`: self-attention through a memory or a mask, or cross-attention.

    `set_attention_backend` of the model sets `_attention_backend` here, as for any diffusers
    processor.
    """

    _attention_backend = None
    _parallel_config = None

    def __call__(
        self,
        attn: WanAttention,
        hidden_states: Tensor,
        text: tuple[Tensor, Tensor] | None = None,
        sights: Sequence[Sight] | None = None,
        rotary: Tensor | None = None,
        *,
        memory: Past | None = None,
        layer: int = 0,
    ) -> Tensor:
        """
        Args:
            hidden_states: tokens `[b, n, d]`.
            text: the prompt's keys and values `[b, m, heads, head_dim]`; makes this
                cross-attention.
            sights: which tokens see which, in the order of the tokens; all see all if left out.
            rotary: rotations `[n, 1, head_dim / 2, 2]` of these tokens (self-attention).
            memory: where cached self-attention keeps keys and values, under `layer`.
        """
        query = attn.norm_q(attn.to_q(hidden_states)).unflatten(-1, (attn.heads, -1))
        if text is not None:
            keys, values = text
        else:
            assert rotary is not None, "self-attention needs rotations"
            keys, values = project(attn, hidden_states)
            keys = rotate(keys, rotary)
            if memory is not None:
                keys, values = memory.write(layer, keys, values)
            else:
                keys = keys.to(values.dtype)
            query = rotate(query, rotary).to(keys.dtype)
        parallel = self._parallel_config if text is None else None
        if sights is None:
            mixed = self.attend(query, keys, values, parallel)
        else:
            parts = (
                self.attend(query[:, sight.tokens], sight.of(keys), sight.of(values), parallel)
                for sight in sights
            )
            mixed = torch.cat(list(parts), dim=1)
        return attn.to_out[0](mixed.flatten(2, 3).type_as(hidden_states))

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, parallel: Any) -> Tensor:
        """One call of the kernel, over `[b, n, heads, d]`."""
        return dispatch_attention_fn(
            query, keys, values, backend=self._attention_backend, parallel_config=parallel
        )


def project(attn: WanAttention, source: Tensor) -> tuple[Tensor, Tensor]:
    """Normalised keys, and values, of `source` `[b, m, d]`: two `[b, m, heads, head_dim]`."""
    keys = attn.norm_k(attn.to_k(source)).unflatten(-1, (attn.heads, -1))
    return keys, attn.to_v(source).unflatten(-1, (attn.heads, -1))
