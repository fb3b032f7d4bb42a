"""The pass that a stream runs: a `CausalWanTransformer` against an open cache, with all that can be
known before a pass worked out before it.

`StaticPass` is built of the transformer, which stays what is trained, adapted, saved and compared
with: a pass of the one gives the velocities of the other. What differs:

- Queries, keys and values come of one product, a patch embedding is a product, absolute places and
  the modulation of every layer at a noise level are tables, and the scheduler's algebra is inside.
- Activations are of the products' type; the residual, norms and rotations are of the model's.
- A pass is a function of tensors, without Python numbers but the bounds of what it sees: it has
  one graph, which serves every chunk that sees as much.

`static_pass` finds the one of a transformer, and builds another when weights, adapters, kernels or
devices have changed.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any
from weakref import WeakKeyDictionary, ref

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers.transformer_wan import WanAttention
from torch import Tensor, nn
from torch.nn import functional as F

from causvid.model.attention import rotate
from causvid.model.cache import KVCache, StoragePool, TextCache
from causvid.model.captured import CapturedPass, OnGpu
from causvid.model.cpu import (
    LOWERED,
    LoweredLinear,
    OneDnnLinear,
    attention_by_products,
    product_dtype,
)
from causvid.model.interruption import pause
from causvid.model.transformer import CausalWanTransformer, TransformerBlock, position_features

_REMEMBERED = 64  # levels, and picture sizes, whose tables are kept

_PLAIN = (nn.Linear, OneDnnLinear, LoweredLinear)


class _Attention(nn.Module):
    """Attention over `[b, heads, n, d]`, by the model's backend or, on a CPU, by its products."""

    def __init__(self, attn: WanAttention, dtype: torch.dtype):
        super().__init__()
        self.heads, self.dtype = attn.heads, dtype
        self.backend = attn.processor._attention_backend
        first = attn.norm_q.weight
        lowered = dtype == LOWERED and first.is_cpu
        self.products = lowered and self.backend is None and attention_by_products()
        self.query_norm = nn.Parameter(first.detach(), requires_grad=False)
        self.eps = attn.norm_q.eps

    def normed(self, query: Tensor) -> Tensor:
        query = F.rms_norm(
            query.to(self.query_norm.dtype), query.shape[-1:], self.query_norm, self.eps
        )
        return query.unflatten(-1, (self.heads, -1))

    def forward(self, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Query `[b, n, heads, d]`, the others `[b, heads, m, d]`; returns `[b, n, heads · d]`."""
        query = query.to(self.dtype)
        keys, values = keys.to(self.dtype), values.to(self.dtype)
        if self.products:
            scores = (query * query.shape[-1] ** -0.5).transpose(1, 2) @ keys.transpose(-2, -1)
            in_place = None if torch.compiler.is_compiling() else scores
            scores = torch.softmax(scores, dim=-1, out=in_place)
            return (scores @ values).transpose(1, 2).flatten(2)
        mixed = dispatch_attention_fn(
            query, keys.transpose(1, 2), values.transpose(1, 2), backend=self.backend
        )
        return mixed.flatten(2)


class StaticLayer(nn.Module):
    """One `TransformerBlock`, packed."""

    def __init__(self, block: TransformerBlock, dtype: torch.dtype):
        super().__init__()
        self.dtype, self.eps = dtype, block.norm1.eps
        own, text = block.attn1, block.attn2
        self.qkv = _packed([own.to_q, own.to_k, own.to_v])
        self.key_norm = nn.Parameter(own.norm_k.weight.detach(), requires_grad=False)
        self.own, self.text = _Attention(own, dtype), _Attention(text, dtype)
        self.own_out, self.text_out = _packed([own.to_out[0]]), _packed([text.to_out[0]])
        self.text_query = _packed([text.to_q])
        self.norm2 = block.norm2
        self.up, self.down = _packed([block.ffn.net[0].proj]), _packed([block.ffn.net[2]])
        # Where oneDNN has the products, it has the nonlinearity behind them, too.
        lowered = self.up.weight.is_cpu and dtype == LOWERED
        self.fused = lowered or type(self.up) is OneDnnLinear

    def forward(
        self,
        x: Tensor,
        table: Tensor,
        text: tuple[Tensor, Tensor],
        rotary: Tensor,
        stored: tuple[Tensor, Tensor],
        slots: Tensor,
        visible: tuple[int, int],
    ) -> Tensor:
        """
        Args:
            x: residual `[b, f, n, d]`.
            table: modulation `[f or 1, 6, 1, d]`, one already added to the scales.
            text: the prompt's keys and values `[b, m, heads, head_dim]`.
            rotary: of the tokens, as of `rotary_table`.
            stored: the cache's keys and values of this layer.
            slots: where those of the tokens go, int64 `[f · n]`.
            visible: the tokens of the cache that are seen, from and to.
        """
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = table.unbind(1)
        frames, (first, last) = x.shape[1:3], visible

        h = torch.addcmul(shift, self._normed(x), scale).flatten(1, 2)
        query, key, value = self.qkv(h.to(self.dtype)).chunk(3, dim=-1)
        query = rotate(self.own.normed(query), rotary)
        key = F.rms_norm(
            key.to(self.key_norm.dtype), key.shape[-1:], self.key_norm, self.own.eps
        ).unflatten(-1, query.shape[2:])
        for tensor, new in zip(stored, (rotate(key, rotary), value), strict=True):
            new = new.reshape(query.shape).transpose(1, 2).to(tensor.dtype)
            tensor.index_copy_(2, slots, new)
        keys, values = (tensor[:, :, first:last] for tensor in stored)
        h = self.own_out(self.own(query, keys, values).to(self.dtype))
        x = torch.addcmul(x, h.to(x.dtype).unflatten(1, frames), gate)

        h = self.text_query(self.norm2(x).to(self.dtype)).flatten(1, 2)
        h = self.text(self.text.normed(h), *(tensor.transpose(1, 2) for tensor in text))
        x = x + self.text_out(h.to(self.dtype)).to(x.dtype).unflatten(1, frames)

        h = torch.addcmul(ffn_shift, self._normed(x), ffn_scale).to(self.dtype)
        return torch.addcmul(x, self.down(self._activated(h)).to(x.dtype), ffn_gate)

    def _activated(self, h: Tensor) -> Tensor:
        if self.fused and h.is_cpu and not torch.compiler.is_compiling():  # compilers do it
            up = self.up
            return torch.ops.mkldnn._linear_pointwise(h, up.weight, up.bias, "gelu", [], "tanh")
        return F.gelu(self.up(h), approximate="tanh")

    def _normed(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], eps=self.eps)


class StaticPass(nn.Module):
    """See the module. Made by `static_pass`."""

    def __init__(self, model: CausalWanTransformer):
        super().__init__()
        dtype = product_dtype(model)
        self.dtype = model.dtype
        self.patch = model.config.patch_size[1]
        with torch.no_grad():
            patches = model.patch_embedding
            self.patch_weight = nn.Parameter(patches.weight.flatten(1), requires_grad=False)
            self.patch_bias = patches.bias
            self.layers = nn.ModuleList(StaticLayer(block, dtype) for block in _blocks(model))
        self.out, self.eps = _packed([model.proj_out]), model.norm_out.eps
        self._source = ref(model)  # where tables come from; who has the pass has the model
        self._tables: dict[Hashable, Any] = {}
        self.captured: CapturedPass | None = None
        if model.passes == "captured":
            self.captured = CapturedPass(OnGpu(self.patch_weight.device))

    def predict_clean(
        self, noisy: Tensor, levels: Sequence[tuple[float, float]], text: TextCache, cache: KVCache
    ) -> Tensor:
        """One pass over the open chunk, as `Generator.predict_clean`.

        Args:
            noisy: `[b, f, c, h, w]`.
            levels: time and sigma of every frame, or of all.
        """
        visible, tables = cache.visible, self.tables(tuple(levels), cache.grid)
        if self.captured is not None:
            return self.captured(self, noisy, tables, text, cache)
        return self(
            noisy,
            *tables,
            text.keys,
            text.values,
            cache.rotary,
            cache.keys,
            cache.values,
            cache.slots,
            (visible.start, visible.stop),
        )

    def forward(
        self,
        noisy: Tensor,
        sigma: Tensor,
        table: Tensor,
        last: Tensor,
        place: Tensor,
        text_keys: Sequence[Tensor],
        text_values: Sequence[Tensor],
        rotary: Tensor,
        keys: Sequence[Tensor],
        values: Sequence[Tensor],
        slots: Tensor,
        visible: tuple[int, int],
    ) -> Tensor:
        """Clean latents; `sigma`, `table`, `last` and `place` are those of `tables`."""
        batch, frames, channels, height, width = noisy.shape
        p = self.patch
        rows, columns = height // p, width // p
        x = noisy.to(self.dtype).view(batch, frames, channels, rows, p, columns, p)
        x = x.permute(0, 1, 3, 5, 2, 4, 6).reshape(batch, frames, rows * columns, -1)
        x = F.linear(x, self.patch_weight, self.patch_bias) + place
        parts = zip(text_keys, text_values, keys, values, strict=True)
        for layer, modulation, (text_key, text_value, key, value) in zip(
            self.layers, table.unbind(0), parts, strict=True
        ):
            if not torch.compiler.is_compiling():
                pause()
            stored = (key, value)
            x = layer(x, modulation, (text_key, text_value), rotary, stored, slots, visible)
        shift, scale = last.unbind(1)
        x = self.out(torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=self.eps), scale))
        x = x.view(batch, frames, rows, columns, p, p, -1).permute(0, 1, 6, 2, 4, 3, 5)
        velocity = x.reshape(batch, frames, -1, height, width).to(noisy.dtype)
        return noisy - sigma * velocity

    def tables(
        self, levels: tuple[tuple[float, float], ...], grid: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What a pass at these levels, of pictures of this size, needs: σ `[f, 1, 1, 1]`, the
        modulation of all layers `[layers, f, 6, 1, d]` and of the output `[f, 2, 1, d]`, and the
        places of the tokens `[n, d]`."""
        found = {level: self._remembered(level, self._modulation) for level in levels}
        if len(found) == 1:
            rows = found[levels[0]]
        else:
            by_frame = zip(*(found[level] for level in levels), strict=True)
            rows = tuple(torch.cat(parts, dim=-4) for parts in by_frame)
        return *rows, self._remembered(grid, self._place)

    @property
    def _model(self) -> CausalWanTransformer:
        model = self._source()
        assert model is not None, "a static pass does not outlive its transformer"
        return model

    def _remembered(self, key: Hashable, make: Callable[[Any], Any]) -> Any:
        entry = make, key
        if entry not in self._tables:
            if len(self._tables) >= _REMEMBERED:
                self._tables.pop(next(iter(self._tables)))
            with torch.no_grad():
                self._tables[entry] = make(key)
        return self._tables[entry]

    def _modulation(self, level: tuple[float, float]) -> tuple[Tensor, ...]:
        """The first three of `tables`, of one level."""
        model, device = self._model, self.patch_weight.device
        told, mixed_in = level
        time, modulation = model.condition_embedder(
            torch.full((1, 1), told, dtype=torch.float64, device=device)
        )
        unit = modulation.new_zeros(6, 1)
        unit[1::3] = 1
        table = torch.stack([block.scale_shift_table for block in _blocks(model)])
        table = (table + (modulation + unit)).to(self.dtype)  # [layers, f, 6, d]
        last = (model.scale_shift_table + time[0, :, None]).to(self.dtype)  # [f, 2, d]
        last[:, 1] += 1
        sigma = torch.full((1, 1, 1, 1), mixed_in, device=device)
        return sigma, table[:, :, :, None], last[:, :, None]

    def _place(self, grid: tuple[int, int]) -> Tensor:
        model = self._model
        if model.position_embedding is None:
            return self.patch_weight.new_zeros(1, 1)
        features = position_features(
            *grid, model.config.position_features, self.patch_weight.device
        )
        return model.position_embedding(features.to(self.dtype))


def _blocks(model: CausalWanTransformer) -> list[Any]:
    return list(model.blocks)


def _packed(layers: Sequence[nn.Module]) -> nn.Linear:
    """The products of several linear layers of one input, as one, adapters and all."""
    weights, biases = zip(*(_weights(layer) for layer in layers), strict=True)
    first = getattr(layers[0], "base_layer", layers[0])
    kind = OneDnnLinear if type(first) is OneDnnLinear else nn.Linear
    with torch.device("meta"):
        packed = kind(weights[0].shape[1], sum(len(weight) for weight in weights))
    weight, bias = (
        parts[0] if len(parts) == 1 else torch.cat(parts) for parts in (weights, biases)
    )
    packed.weight, packed.bias = (nn.Parameter(t, requires_grad=False) for t in (weight, bias))
    return packed


def _weights(layer: Any) -> tuple[Tensor, Tensor]:
    base = getattr(layer, "base_layer", layer)
    weight = base.weight.detach()
    if base is not layer and not layer.disable_adapters and not layer.merged:
        for name in layer.active_adapters:
            if name in layer.lora_A:
                weight = weight + layer.get_delta_weight(name).to(weight.dtype)
    return weight, base.bias.detach()


_passes: WeakKeyDictionary[CausalWanTransformer, tuple[StaticPass | None, "_State"]]
_passes = WeakKeyDictionary()


def static_pass(model: CausalWanTransformer) -> StaticPass | None:
    """The static pass of a transformer as it is now; none where only the transformer itself knows
    what to do: layers that are quantised, offloaded, hooked, or spread over devices; and none where
    it is to make its passes by itself."""
    if not isinstance(model, CausalWanTransformer):
        return None
    made, state = _passes.get(model, (None, None))
    if state is None or state.changed(model):
        state = _State(model)
        made = StaticPass(model).eval() if state.plain else None
        if made is not None and model.compile_options is not None:
            for layer in made.layers:  # they have one code, compiled once
                layer.compile(**model.compile_options)
        _passes[model] = made, state
    return made


def storage_pool(model: CausalWanTransformer) -> StoragePool | None:
    """Where the caches of a model get their storage, if its passes are captured."""
    if not isinstance(model, CausalWanTransformer) or model.passes != "captured":
        return None
    static = static_pass(model)
    return None if static is None or static.captured is None else static.captured.pool


class _State:
    """What a static pass is made of, to notice a change."""

    def __init__(self, model: CausalWanTransformer):
        children, weights = [], []
        self._adapters: list[Any] = []
        self.plain = not hasattr(model, "_hf_hook") and model.passes != "own"
        for module in model.modules():
            children += [(module._modules, name, part) for name, part in module._modules.items()]
            weights += [(module._parameters, name) for name in module._parameters]
            if hasattr(module, "base_layer"):
                self._adapters.append(module)
                self.plain &= hasattr(module, "get_delta_weight")
            hooked = hasattr(module, "_hf_hook") or hasattr(module, "_diffusers_hook")
            linear = isinstance(module, nn.Linear)
            self.plain &= not hooked and (not linear or type(module) in _PLAIN)
        self._children, self._weights = children, weights
        self._processors = [block.attn1.processor for block in _blocks(model)]
        self.plain &= all(it._parallel_config is None for it in self._processors)
        self._values = self._found(model)

    def changed(self, model: CausalWanTransformer) -> bool:
        return any(
            parts.get(name) is not part for parts, name, part in self._children
        ) or self._values != self._found(model)

    def _found(self, model: CausalWanTransformer) -> list[Any]:
        tensors = (parts.get(name) for parts, name in self._weights)
        return [
            hasattr(model, "_hf_hook"),
            model.compile_options,
            model.passes,
            *((it.data_ptr(), it.dtype, _version(it)) for it in tensors if it is not None),
            *(it._attention_backend for it in self._processors),
            *(
                (it.active_adapters, dict(it.scaling), it.merged, it.disable_adapters)
                for it in self._adapters
            ),
        ]


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version
