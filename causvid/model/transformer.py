"""`CausalWanTransformer`: one set of weights, run three ways.

    bidirectional   the whole clip, every frame sees every frame: the teacher
    block-causal    the whole clip under a frame mask: training and checking the student
    cached          one chunk against a `KVCache`: streaming

Parameter names and shapes are those of diffusers' `WanTransformer3DModel` (text to video), so
every Wan checkpoint, LoRA and quantisation config loads. Unlike it, every latent frame has its
own noise level, as causal generation needs (CausVid, arXiv 2412.07772, section 4.1; Diffusion
Forcing, arXiv 2407.01392). Knows nothing of schedules, chunks or pixels.
"""

import math
from typing import Any, Literal

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders import PeftAdapterMixin
from diffusers.models.attention import AttentionMixin, FeedForward
from diffusers.models.embeddings import PixArtAlphaTextProjection, TimestepEmbedding
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.transformers.transformer_wan import WanAttention
from torch import Tensor, nn

from causvid.model.attention import (
    CausalAttnProcessor,
    Past,
    Sight,
    project,
    rotary_table,
    sights,
)
from causvid.model.cache import TextCache
from causvid.model.interruption import pause


def sinusoid(times: Tensor, dim: int) -> Tensor:
    """Wan's time features of `times` in [0, 1]: `[…, dim]`, cosines first.

    The only place where time is scaled to 0 … 1000. Angles are float64 where the device has it:
    they reach 1000 radians.
    """
    real = torch.float32 if times.device.type == "mps" else torch.float64
    half = torch.arange(dim // 2, dtype=real, device=times.device) / (dim // 2)
    angles = (times.to(real) * 1000)[..., None] * torch.exp(-math.log(10_000) * half)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def position_features(height: int, width: int, count: int, device: torch.device) -> Tensor:
    """Absolute place of every token of a frame, `[height · width, count]`: the centre's (y, x)
    and sines and cosines of its multiples, independent of the resolution."""
    y = (torch.arange(height, device=device) + 0.5) / height
    x = (torch.arange(width, device=device) + 0.5) / width
    place = torch.stack(torch.meshgrid(y, x, indexing="ij"), dim=-1).flatten(0, 1)  # [n, 2]
    octaves = math.pi * 2.0 ** torch.arange((count - 2) // 4, device=device)
    angles = (place[:, :, None] * octaves).flatten(1)
    return torch.cat([place * 2 - 1, angles.sin(), angles.cos()], dim=-1)


class ConditionEmbedder(nn.Module):
    """Time to modulation, prompt embeddings to cross-attention input."""

    def __init__(self, dim: int, freq_dim: int, text_dim: int):
        super().__init__()
        self.freq_dim = freq_dim
        self.time_embedder = TimestepEmbedding(in_channels=freq_dim, time_embed_dim=dim)
        self.time_proj = nn.Linear(dim, 6 * dim)
        self.text_embedder = PixArtAlphaTextProjection(text_dim, dim, act_fn="gelu_tanh")

    def forward(self, times: Tensor) -> tuple[Tensor, Tensor]:
        """`times` `[b, f]` in [0, 1] → time embedding `[b, f, d]`, modulation `[b, f, 6, d]`."""
        features = sinusoid(times, self.freq_dim)
        time = self.time_embedder(features.to(self.time_embedder.linear_1.weight.dtype))
        activated = nn.functional.silu(time).to(self.time_proj.weight.dtype)
        return time, self.time_proj(activated).unflatten(-1, (6, -1))


class TransformerBlock(nn.Module):
    """Self-attention, text attention, feed-forward; time modulates the first and the last."""

    def __init__(self, dim: int, ffn_dim: int, heads: int, cross_attn_norm: bool, eps: float):
        super().__init__()
        head_dim = dim // heads
        self.norm1 = nn.LayerNorm(dim, eps, elementwise_affine=False)
        self.attn1 = WanAttention(dim, heads, head_dim, eps=eps, processor=CausalAttnProcessor())
        self.attn2 = WanAttention(
            dim,
            heads,
            head_dim,
            eps=eps,
            cross_attention_dim_head=head_dim,
            processor=CausalAttnProcessor(),
        )
        self.norm2 = nn.LayerNorm(dim, eps) if cross_attn_norm else nn.Identity()
        self.ffn = FeedForward(dim, inner_dim=ffn_dim, activation_fn="gelu-approximate")
        self.norm3 = nn.LayerNorm(dim, eps, elementwise_affine=False)
        self.scale_shift_table = nn.Parameter(torch.randn(1, 6, dim) / dim**0.5)

    def forward(
        self,
        x: Tensor,
        modulation: Tensor,
        text: tuple[Tensor, Tensor] | Tensor,
        rotary: Tensor,
        seen: tuple[Sight, ...] | None,
        memory: Past | None,
        layer: int,
    ) -> Tensor:
        """
        Args:
            x: `[b, f, n, d]`, n tokens in each of f frames: all tokens of a frame share its time,
                so modulation is broadcast and never copied to tokens.
            modulation: `[b, f, 6, d]`, one already added to the scales.
            text: the prompt's keys and values for this layer, or its hidden states `[b, m, d]`.
            layer: which one this is, for the memory. Not kept: code that is compiled for one layer
                must suit all.
        """
        table = (self.scale_shift_table[:, None] + modulation).to(x.dtype)[:, :, :, None]
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = table.unbind(2)  # [b, f, 1, d]
        frames = x.shape[1:3]

        h = torch.addcmul(shift, self.norm1(x), scale).flatten(1, 2)
        h = self.attn1(h, None, seen, rotary, memory=memory, layer=layer)
        x = torch.addcmul(x, h.unflatten(1, frames), gate)

        h = self.norm2(x).flatten(1, 2)
        if isinstance(text, Tensor):
            text = project(self.attn2, text)
        x = x + self.attn2(h, text).unflatten(1, frames)

        h = torch.addcmul(ffn_shift, self.norm3(x), ffn_scale)
        return torch.addcmul(x, self.ffn(h), ffn_gate)


class CausalWanTransformer(ModelMixin, ConfigMixin, PeftAdapterMixin, AttentionMixin):
    """Wan 2.1's diffusion transformer for text-to-video, with a noise level for every frame.

    Args:
        patch_size: (frames, rows, columns) of latents in a token; frames must be 1.
        num_attention_heads, attention_head_dim: their product is the model's width.
        in_channels, out_channels: latent channels.
        text_dim: width of the prompt embeddings.
        freq_dim: width of the sinusoidal time features.
        ffn_dim: hidden width of the feed-forward layers.
        num_layers: number of layers.
        cross_attn_norm: whether the text attention's input is normalised.
        qk_norm: always `"rms_norm_across_heads"`, Wan's normalisation over all heads together.
        eps: of all normalisations.
        text_length: prompts are zero-padded to this many embeddings.
        position_features: number of absolute place features added to the patches, 0 for none as
            in Wan (18 in the pocket model: rotary positions alone learn slowly where up is).
    """

    __module__ = "causvid"  # its public address, which saved pipelines name

    _supports_gradient_checkpointing = True
    _skip_layerwise_casting_patterns = ("patch_embedding", "condition_embedder", "norm")
    _no_split_modules = ("TransformerBlock",)
    _repeated_blocks = ("TransformerBlock",)
    # A list, as diffusers looks for one; Wan was published with these in float32.
    _keep_in_fp32_modules = ["time_embedder", "scale_shift_table"]  # noqa: RUF012

    @register_to_config
    def __init__(
        self,
        *,
        num_layers: int,
        num_attention_heads: int,
        ffn_dim: int,
        patch_size: tuple[int, int, int] = (1, 2, 2),
        attention_head_dim: int = 128,
        in_channels: int = 16,
        out_channels: int = 16,
        text_dim: int = 4096,
        freq_dim: int = 256,
        cross_attn_norm: bool = True,
        qk_norm: str = "rms_norm_across_heads",
        eps: float = 1e-6,
        text_length: int = 512,
        position_features: int = 0,
    ):
        super().__init__()
        if patch_size[0] != 1 or patch_size[1] != patch_size[2]:
            raise ValueError(f"patch_size must be (1, p, p), got {tuple(patch_size)}")
        if qk_norm != "rms_norm_across_heads":
            raise ValueError(f"qk_norm must be 'rms_norm_across_heads', got {qk_norm!r}")
        if position_features and (position_features < 6 or (position_features - 2) % 4):
            raise ValueError(f"position_features must be 0 or 2 + 4·k, got {position_features}")
        dim = num_attention_heads * attention_head_dim
        self.patch_embedding = nn.Conv3d(in_channels, dim, patch_size, patch_size)
        self.position_embedding = (
            nn.Linear(position_features, dim, bias=False) if position_features else None
        )
        self.condition_embedder = ConditionEmbedder(dim, freq_dim, text_dim)
        self.blocks = nn.ModuleList(
            TransformerBlock(dim, ffn_dim, num_attention_heads, cross_attn_norm, eps)
            for _ in range(num_layers)
        )
        self.norm_out = nn.LayerNorm(dim, eps, elementwise_affine=False)
        self.proj_out = nn.Linear(dim, out_channels * math.prod(patch_size))
        self.scale_shift_table = nn.Parameter(torch.randn(1, 2, dim) / dim**0.5)
        self.gradient_checkpointing = False
        # Options of `torch.compile` for the layers of its static pass; none: they are not compiled.
        self.compile_options: dict[str, Any] | None = None
        # How a stream makes its passes: by this module, by its static pass, or by that captured.
        self.passes: Literal["own", "static", "captured"] = "static"

    @property
    def compiled(self) -> bool:
        """Whether streams run compiled code."""
        return self.compile_options is not None

    def encode_text(self, prompt_embeds: Tensor) -> TextCache:
        """Keys and values of a prompt for every layer: computed once, used by every pass.

        Args:
            prompt_embeds: `[b, text_length, text_dim]`, zero after the end of the prompt. The
                zeros are attended to: Wan was trained that way.
        """
        text = self.condition_embedder.text_embedder(prompt_embeds.to(self.dtype))
        keys, values = zip(*(project(block.attn2, text) for block in self.blocks), strict=True)
        return TextCache(keys, values)

    def forward(
        self,
        latents: Tensor,
        times: Tensor,
        text: Tensor | TextCache,
        *,
        frame_mask: Tensor | None = None,
        positions: Tensor | None = None,
        memory: Past | None = None,
    ) -> Tensor:
        """Predict the velocity (noise - clean) of noisy latents.

        Args:
            latents: `[b, f, c, h, w]`.
            times: `[b, f]` in [0, 1], 1 for pure noise.
            text: prompt embeddings `[b, text_length, text_dim]`, or their `TextCache`.
            frame_mask: bool `[f, f]`, which frames (columns) each frame (rows) sees; none: all.
            positions: latent index of each frame `[f]`; 0 … f - 1 if left out.
            memory: an open cache whose chunk these frames are; brings its own positions.

        Returns:
            Velocity, shaped like `latents`.
        """
        batch, frames, _, height, width = latents.shape
        patch = self.config.patch_size[1]
        rows, columns = height // patch, width // patch

        head_dim = self.config.attention_head_dim
        if memory is not None:
            rotary = memory.rotary
        else:
            if positions is None:
                positions = torch.arange(frames, device=latents.device)
            rotary = rotary_table(positions, rows, columns, head_dim)
        seen = None if frame_mask is None else sights(frame_mask, rows * columns)

        x = self.patch_embedding(latents.to(self.dtype).transpose(1, 2))
        x = x.flatten(3).permute(0, 2, 3, 1).contiguous()  # [b, f, n, d]
        if self.position_embedding is not None:
            count = self.config.position_features
            x = x + self.position_embedding(
                position_features(rows, columns, count, x.device).to(x.dtype)
            )
        time, modulation = self.condition_embedder(times)
        # "1 + scale" for all layers at once; made on the device, so that nothing is copied there.
        unit = modulation.new_zeros(6, 1)
        unit[1::3] = 1
        modulation = modulation + unit

        if isinstance(text, TextCache):
            per_layer = list(zip(text.keys, text.values, strict=True))
        else:
            states = self.condition_embedder.text_embedder(text.to(self.dtype))
            per_layer = [states] * len(self.blocks)
        for layer, (block, layer_text) in enumerate(zip(self.blocks, per_layer, strict=True)):
            pause()
            arguments = (x, modulation, layer_text, rotary, seen, memory, layer)
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                x = self._gradient_checkpointing_func(block, *arguments)
            else:
                x = block(*arguments)

        table = (self.scale_shift_table[:, None] + time[:, :, None]).to(x.dtype)
        shift, scale = table[:, :, :, None].unbind(2)
        x = self.proj_out(torch.addcmul(shift, self.norm_out(x), 1 + scale))
        x = x.view(batch, frames, rows, columns, patch, patch, -1)
        return x.permute(0, 1, 6, 2, 4, 3, 5).reshape(batch, frames, -1, height, width)
