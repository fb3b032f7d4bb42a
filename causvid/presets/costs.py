"""Bytes and operations of a preset's models, found on the `meta` device: no weights, no memory.

Parameters and cache are counted exactly. What a codec needs while it works is found by running it
on `meta` and watching which tensors are alive. The transformer's operations and working memory are
formulas, so that a question takes no time; tests hold them against such runs. Operations count a
multiply-add as two.
"""

import dataclasses
import json
import math
import weakref
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple, cast

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from transformers import UMT5Config, UMT5EncoderModel

from causvid.generation.generator import Generator
from causvid.generation.geometry import ChunkPattern, LatentGrid, Size
from causvid.generation.parameters import Decoder
from causvid.generation.sampler import new_sampler
from causvid.model.checkpoint import parameter_dtype
from causvid.model.codec import CodecState, codec_for
from causvid.model.tiny_autoencoder import TinyAutoencoder
from causvid.model.transformer import CausalWanTransformer
from causvid.presets.folder import empty_part
from causvid.presets.preset import Preset

# The text encoder of every Wan 2.1 model, google/umt5-xxl.
_UMT5_XXL = UMT5Config(
    vocab_size=256_384,
    d_model=4096,
    d_kv=64,
    d_ff=10_240,
    num_layers=24,
    num_heads=64,
    feed_forward_proj="gated-gelu",
)


class Models(NamedTuple):
    """A preset's models, without weights."""

    transformer: CausalWanTransformer
    vae: AutoencoderKLWan | TinyAutoencoder
    tiny_vae: TinyAutoencoder | None
    text_encoder: UMT5EncoderModel


@lru_cache(maxsize=32)
def empty_models(preset: Preset) -> Models:
    """The models of a preset on the `meta` device: sizes and names, no memory."""
    if preset.folder is None:
        with torch.device("meta"):
            return Models(
                CausalWanTransformer(**dataclasses.asdict(preset.transformer)),
                AutoencoderKLWan(),
                TinyAutoencoder() if preset.tiny_decoder else None,
                UMT5EncoderModel(_UMT5_XXL),
            )
    with preset.cured():
        folder, tiny = preset.folder, preset.has_tiny_decoder
        return Models(
            cast(CausalWanTransformer, empty_part(folder, "transformer")),
            cast(AutoencoderKLWan | TinyAutoencoder, empty_part(folder, "vae")),
            cast(TinyAutoencoder, empty_part(folder, "tiny_vae")) if tiny else None,
            cast(UMT5EncoderModel, empty_part(folder, "text_encoder")),
        )


def weight_bytes(model: nn.Module, dtype: torch.dtype) -> int:
    """Bytes of the parameters of `model` once loaded in `dtype`."""
    return sum(
        parameter.numel() * parameter_dtype(model, name, dtype).itemsize
        for name, parameter in model.named_parameters()
    )


def cache_bytes(generator: Generator, dtype: torch.dtype) -> int:
    """Keys and values of the past, in all caches of the sampler, the sinks' spare keys, and the
    keys and values of one prompt.

    Raises:
        ValueError: if the configuration does not suit the sampler.
    """
    numbers = spare = 0
    for cache in new_sampler(generator).caches:
        while cache.cursor < cache.sink:
            cache.open(generator.config.chunks.frames(1 if cache.cursor else 0))
            cache.advance()
        stored = (*cache.keys, *cache.values)
        numbers += sum(tensor.numel() for tensor in stored)
        spare += cache.nbytes - sum(tensor.nbytes for tensor in stored)
    config = generator.transformer.config
    dim = config.num_attention_heads * config.attention_head_dim
    text = 2 * config.num_layers * config.text_length * dim
    return (numbers + text) * dtype.itemsize + spare


def transformer_flops(
    model: CausalWanTransformer, grid: LatentGrid, frames: int, visible: int
) -> int:
    """Operations of one cached pass over `frames` latent frames that see `visible`, batch 1."""
    config = model.config
    dim = config.num_attention_heads * config.attention_head_dim
    n = frames * grid.tokens_per_frame
    m = visible * grid.tokens_per_frame
    patch = math.prod(config.patch_size)
    multiply_adds = config.num_layers * (
        6 * n * dim * dim  # q, k, v, output of self-attention; q, output of text attention
        + 2 * n * m * dim
        + 2 * n * config.text_length * dim
        + 2 * n * dim * config.ffn_dim
    )
    multiply_adds += n * dim * patch * (config.in_channels + config.out_channels)
    multiply_adds += grid.tokens_per_frame * dim * config.position_features
    return 2 * multiply_adds + modulation_flops(model, frames)


def modulation_flops(model: CausalWanTransformer, frames: int) -> int:
    """Of those, the operations that turn noise levels into modulation. A static pass remembers
    their result."""
    config = model.config
    dim = config.num_attention_heads * config.attention_head_dim
    return 2 * frames * dim * (config.freq_dim + dim + 6 * dim)


def prompt_flops(model: CausalWanTransformer) -> int:
    """Operations that turn one prompt's embeddings into keys and values of all layers."""
    config = model.config
    dim = config.num_attention_heads * config.attention_head_dim
    projection = config.text_dim * dim + dim * dim
    return 2 * config.text_length * (projection + 2 * config.num_layers * dim * dim)


def transformer_working_bytes(
    model: CausalWanTransformer, grid: LatentGrid, frames: int, dtype: torch.dtype
) -> int:
    """Peak of live intermediate tensors in a pass over `frames` latent frames, batch 1.

    In units of one token row per token: the residual, its normalised copy and both sides of the
    feed-forward's nonlinearity; or queries and keys, of which rotation holds float32 copies. The
    attention kernel is taken to be a fused one, which never holds the score matrix.
    """
    config = model.config
    dim = config.num_attention_heads * config.attention_head_dim
    rows = max(4 * dim + 2 * config.ffn_dim, 11 * dim)
    return frames * grid.tokens_per_frame * rows * dtype.itemsize


class CodecCost(NamedTuple):
    """Of one chunk: operations, bytes remembered afterwards, and peak bytes meanwhile."""

    flops: int
    state_bytes: int
    working_bytes: int


class LiveBytes(TorchDispatchMode):
    """Follows how many bytes of tensors are alive: `held` ones, and those created meanwhile."""

    def __init__(self, held: Iterable[Tensor]) -> None:
        super().__init__()
        self.now = 0
        self.peak = 0
        self._known: weakref.WeakSet = weakref.WeakSet()
        for tensor in held:
            self._hold(tensor)

    def __torch_dispatch__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        for tensor in tree_leaves((args, kwargs)):
            if isinstance(tensor, Tensor):  # weights, and views of them, cost nothing
                self._known.add(tensor.untyped_storage())
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._hold(tensor)
        return result

    def _hold(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage not in self._known:
            self._known.add(storage)
            self._count(storage.nbytes())
            weakref.finalize(storage, self._count, -storage.nbytes())

    def _count(self, nbytes: int) -> None:
        self.now += nbytes
        self.peak = max(self.peak, self.now)


def codec_costs(
    preset: Preset, decoder: Decoder, size: Size, dtype: torch.dtype, source: bool
) -> tuple[CodecCost, CodecCost]:
    """Costs of the first chunk and of every later one, a `source`'s encoding included."""
    models = empty_models(preset)
    module = models.tiny_vae if decoder == "tiny" else models.vae
    assert module is not None, "callers check that there is a tiny decoder"
    config = json.dumps(dict(module.config), default=str, sort_keys=True)
    chunks = preset.generation.chunks
    # mypy takes no class of another's metaclass for hashable
    return _codec_costs(type(module), config, chunks, size, dtype, source)  # type: ignore[arg-type]


@lru_cache(maxsize=64)
def _codec_costs(
    model_class: type[AutoencoderKLWan] | type[TinyAutoencoder],
    config: str,
    chunks: ChunkPattern,
    size: Size,
    dtype: torch.dtype,
    source: bool,
) -> tuple[CodecCost, CodecCost]:
    with torch.device("meta"):
        module = model_class.from_config(json.loads(config))
    codec = codec_for(nn.Module.to(module, dtype))
    shape = (codec.latent_channels, *(side // codec.spatial_stride for side in size))
    state = codec.start()

    def run(frames: int, pixel_frames: int) -> CodecCost:
        latents = torch.empty(1, frames, *shape, device="meta", dtype=dtype)
        pixels = torch.empty(1, pixel_frames, 3, *size, device="meta", dtype=dtype)
        live = LiveBytes(_remembered(state))
        with torch.no_grad(), live, FlopCounterMode(display=False) as counter:
            if source:
                codec.encode(pixels, state)
            codec.decode(latents, state)
        kept = sum(value.nbytes for value in _remembered(state))
        return CodecCost(counter.get_total_flops(), kept, live.peak - kept)

    stride = codec.temporal_stride
    first = run(chunks.first, 1 + (chunks.first - 1) * stride)
    return first, run(chunks.rest, chunks.rest * stride)


def _remembered(state: CodecState) -> Iterator[Tensor]:
    for side in (state.encoder, state.decoder):
        yield from side.memory.values()
