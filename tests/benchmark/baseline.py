"""The plain way to run the same weights, an oracle for `generator.py` and `cache.py`.

Written in the manner of the first published causal video models:

    cache       a list of one dict per layer; keys and values are token-major, cloned and shifted
                inside the attention when full; end indices are tensors, read back with `.item()`
    rotation    complex128 from a table of 1024 positions, put together again for every sample,
                every layer, queries and keys alike
    modulation  expanded from frames to tokens
    text        keys and values recomputed in every pass
    norms       cast to float32 and back

It borrows the modules of a `CausalWanTransformer`, so outputs are equal but for rounding, and a
faster result cannot come from doing something else. Knows neither renewed sinks nor masks, and a
stream ends where its table does.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from diffusers.models.transformers.transformer_wan import WanAttention
from torch import Tensor, nn
from torch.nn.functional import layer_norm, scaled_dot_product_attention, silu

from causvid.benchmark.counts import (
    ChunkCost,
    OperatorCounter,
    noise_on_meta,
    prompt_on_meta,
    steady_chunk,
)
from causvid.generation.generator import Generator, NoiseSource
from causvid.generation.schedule import CLEAN, Level, add_noise, clean_from_velocity
from causvid.model.attention import ROTARY_BASE, rotary_pairs
from causvid.model.transformer import TransformerBlock, sinusoid

TABLE_POSITIONS = 1024

LayerCache = dict[str, Tensor]


class PlainBaseline:
    """Makes chunks with a generator's weights, levels and window, the plain way.

    Args:
        generator: whose weights and configuration to use.
        index_device: where end indices live; the generator's device if left out. On `meta`, where
            tensors have no values to read back, they have to live on the CPU.
    """

    def __init__(self, generator: Generator, *, index_device: torch.device | str | None = None):
        self.generator = generator
        self.transformer = generator.transformer
        self.index_device = generator.device if index_device is None else index_device
        self.frame_tokens = generator.grid.tokens_per_frame
        head_dim = self.transformer.config.attention_head_dim
        positions = torch.arange(TABLE_POSITIONS, dtype=torch.float64, device=generator.device)
        self.tables = []  # time, rows, columns: complex128 [positions, pairs]
        for pairs in rotary_pairs(head_dim):
            exponents = torch.arange(pairs, dtype=torch.float64, device=generator.device) / pairs
            angles = torch.outer(positions, ROTARY_BASE**-exponents)
            self.tables.append(torch.polar(torch.ones_like(angles), angles))

    def new_cache(self, batch: int = 1) -> list[LayerCache]:
        """An empty cache: one dict per layer."""
        model, config = self.transformer.config, self.generator.config
        shape = (
            batch,
            config.window * self.frame_tokens,
            model.num_attention_heads,
            model.attention_head_dim,
        )
        like = {"device": self.generator.device, "dtype": self.transformer.dtype}
        return [
            {
                "k": torch.zeros(shape, **like),
                "v": torch.zeros(shape, **like),
                "global_end_index": torch.zeros(1, dtype=torch.long, device=self.index_device),
                "local_end_index": torch.zeros(1, dtype=torch.long, device=self.index_device),
            }
            for _ in range(model.num_layers)
        ]

    def denoise(
        self,
        levels: Sequence[Level],
        noise: NoiseSource,
        prompt_embeds: Tensor,
        cache: list[LayerCache],
        start: int,
    ) -> Tensor:
        """Make the chunk that begins at latent frame `start` and leave it clean in the cache.

        Returns:
            Clean latents `[b, f, c, h, w]`.
        """
        x = noise(0)
        for step, (level, lower) in enumerate(pairwise((*levels, CLEAN)), start=1):
            x = self.predict_clean(x, level, prompt_embeds, cache, start)
            if lower.sigma:
                x = add_noise(x, noise(step), lower.sigma)
        self.predict_clean(x, self.generator.config.context_level, prompt_embeds, cache, start)
        return x

    def predict_clean(
        self,
        noisy: Tensor,
        level: Level,
        prompt_embeds: Tensor,
        cache: list[LayerCache],
        start: int,
    ) -> Tensor:
        """One pass: noisy latents `[b, f, c, h, w]` → clean ones."""
        model = self.transformer
        batch, frames, _, height, width = noisy.shape
        patch = model.config.patch_size[1]
        grid = (frames, height // patch, width // patch)

        x = model.patch_embedding(noisy.to(model.dtype).transpose(1, 2))
        x = x.flatten(2).transpose(1, 2)  # [b, n, d]

        embedder = model.condition_embedder
        times = level.time * torch.ones(batch, frames, dtype=torch.float64, device=x.device)
        features = sinusoid(times, embedder.freq_dim)
        time = embedder.time_embedder(features.to(embedder.time_embedder.linear_1.weight.dtype))
        modulation = embedder.time_proj(silu(time).to(x.dtype)).unflatten(-1, (6, -1))
        time = time.repeat_interleave(self.frame_tokens, dim=1)
        modulation = modulation.repeat_interleave(self.frame_tokens, dim=1)  # [b, n, 6, d]
        text = embedder.text_embedder(prompt_embeds.to(model.dtype))

        for block, layer_cache in zip(model.blocks, cache, strict=True):
            x = self._block(block, x, modulation, text, layer_cache, grid, start)

        shift, scale = (model.scale_shift_table + time[:, :, None]).to(x.dtype).unbind(2)
        x = model.proj_out(_layer_norm(model.norm_out, x) * (1 + scale) + shift)
        x = x.view(batch, *grid, patch, patch, -1)
        velocity = x.permute(0, 1, 6, 2, 4, 3, 5).reshape(noisy.shape)
        return clean_from_velocity(noisy, velocity.to(noisy.dtype), level.sigma)

    def _block(
        self,
        block: TransformerBlock,
        x: Tensor,
        modulation: Tensor,
        text: Tensor,
        cache: LayerCache,
        grid: tuple[int, int, int],
        start: int,
    ) -> Tensor:
        table = (block.scale_shift_table[:, None] + modulation).to(x.dtype)
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = table.unbind(2)  # [b, n, d]

        h = _layer_norm(block.norm1, x) * (1 + scale) + shift
        x = x + self._self_attention(block.attn1, h, cache, grid, start) * gate

        h = _layer_norm(block.norm2, x)
        x = x + self._text_attention(block.attn2, h, text)

        h = _layer_norm(block.norm3, x) * (1 + ffn_scale) + ffn_shift
        return x + block.ffn(h) * ffn_gate

    def _self_attention(
        self,
        attn: WanAttention,
        x: Tensor,
        cache: LayerCache,
        grid: tuple[int, int, int],
        start: int,
    ) -> Tensor:
        query = _rms_norm(attn.norm_q, attn.to_q(x)).unflatten(-1, (attn.heads, -1))
        keys = _rms_norm(attn.norm_k, attn.to_k(x)).unflatten(-1, (attn.heads, -1))
        values = attn.to_v(x).unflatten(-1, (attn.heads, -1))
        query = self._rotate(query, grid, start)
        keys = self._rotate(keys, grid, start)

        config = self.generator.config
        sink = config.sink * self.frame_tokens
        capacity = cache["k"].shape[1]
        count = keys.shape[1]
        end = start * self.frame_tokens + count
        new = end - cache["global_end_index"].item()  # 0 when a chunk is run again
        local_end = cache["local_end_index"].item() + new
        if local_end > capacity:
            evicted = local_end - capacity
            kept = cache["local_end_index"].item() - evicted - sink
            for name in ("k", "v"):
                moved = cache[name][:, sink + evicted : sink + evicted + kept].clone()
                cache[name][:, sink : sink + kept] = moved
            local_end = capacity
        cache["k"][:, local_end - count : local_end] = keys
        cache["v"][:, local_end - count : local_end] = values
        mixed = _attention(query, cache["k"][:, :local_end], cache["v"][:, :local_end])
        cache["global_end_index"].fill_(end)
        cache["local_end_index"].fill_(local_end)
        return attn.to_out[0](mixed)

    def _text_attention(self, attn: WanAttention, x: Tensor, text: Tensor) -> Tensor:
        query = _rms_norm(attn.norm_q, attn.to_q(x)).unflatten(-1, (attn.heads, -1))
        keys = _rms_norm(attn.norm_k, attn.to_k(text)).unflatten(-1, (attn.heads, -1))
        values = attn.to_v(text).unflatten(-1, (attn.heads, -1))
        return attn.to_out[0](_attention(query, keys, values))

    def _rotate(self, x: Tensor, grid: tuple[int, int, int], start: int) -> Tensor:
        """Rotate `[b, n, heads, d]`, whose first frame is latent frame `start`."""
        frames, rows, columns = grid
        time, row, column = self.tables
        rotated = []
        for sample in x:
            rotation = torch.cat(
                [
                    time[start : start + frames].view(frames, 1, 1, -1).expand(*grid, -1),
                    row[:rows].view(1, rows, 1, -1).expand(*grid, -1),
                    column[:columns].view(1, 1, columns, -1).expand(*grid, -1),
                ],
                dim=-1,
            ).reshape(frames * rows * columns, 1, -1)
            pairs = torch.view_as_complex(sample.to(torch.float64).unflatten(-1, (-1, 2)))
            rotated.append(torch.view_as_real(pairs * rotation).flatten(-2))
        return torch.stack(rotated).type_as(x)


def _layer_norm(norm: nn.LayerNorm | nn.Identity, x: Tensor) -> Tensor:
    if isinstance(norm, nn.Identity):
        return x
    weight = None if norm.weight is None else norm.weight.float()
    bias = None if norm.bias is None else norm.bias.float()
    return layer_norm(x.float(), norm.normalized_shape, weight, bias, norm.eps).type_as(x)


def _rms_norm(norm: nn.RMSNorm, x: Tensor) -> Tensor:
    wide = x.float()
    wide = wide * torch.rsqrt(wide.pow(2).mean(dim=-1, keepdim=True) + norm.eps)
    return wide.type_as(x) * norm.weight


def _attention(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """`[b, n, heads, d]`, `[b, m, heads, d]` twice → `[b, n, heads · d]`."""
    query, keys, values = (x.transpose(1, 2) for x in (query, keys, values))
    return scaled_dot_product_attention(query, keys, values).transpose(1, 2).flatten(2)


@torch.inference_mode()
def count_baseline(generator: Generator) -> ChunkCost:
    """The cost of the chunk that `causvid.benchmark.counts.count` counts, made by `PlainBaseline`.

    Its end indices live on the CPU, as `meta` has no values to read back. They stand for tensors
    of the device like all its others.
    """
    baseline = PlainBaseline(generator, index_device="cpu")
    cache, prompt = baseline.new_cache(), prompt_on_meta(generator)
    config, steady = generator.config, steady_chunk(generator)
    start = config.chunks.start
    for chunk in range(steady):
        clean = noise_on_meta(generator, chunk)(0)
        baseline.predict_clean(clean, config.context_level, prompt, cache, start(chunk))
    with OperatorCounter("meta", "cpu") as counter:
        noise = noise_on_meta(generator, steady)
        baseline.denoise(config.levels(steady), noise, prompt, cache, start(steady))
    return counter.cost(sum(layer[name].nbytes for layer in cache for name in ("k", "v")))
