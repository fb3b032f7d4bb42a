"""What a CPU computes a model in: its layers are swapped for faster ones, in place.

- `OneDnnLinear`: float32 products by oneDNN. torch hands bfloat16 products on the CPU to oneDNN,
  but float32 ones to MKL, which leaves the AVX-512 of AMD's processors unused: on one core of a
  Zen 5, MKL makes 90 GFLOP/s and oneDNN 200. On Intel's processors the two are alike.
- `LoweredLinear`: products in bfloat16, where the processor has it: those of linear layers, of
  convolutions and of attention (`causvid.model.static`), and the nonlinearities between them. Sums
  are kept in float32 by the kernels, and norms, rotations, residuals, noise levels and pixels stay
  float32, as in training (`causvid.training.precision`).

Weights keep their names.
"""

import ctypes
import platform

import torch
from torch import Tensor, nn

from causvid.model.tiny_autoencoder import TinyAutoencoder
from causvid.model.transformer import CausalWanTransformer

LOWERED = torch.bfloat16

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # <malloc.h>


def native_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 by itself: without, it is 30 to 110 times slower
    than float32."""
    has = torch.cpu.get_capabilities()
    return bool(has.get("avx512_bf16") or has.get("amx_bf16"))


def onednn_pays() -> bool:
    """Whether this processor has AVX-512, and torch was built with oneDNN."""
    capable = torch.cpu.get_capabilities().get("avx512_f", False)
    return torch.backends.mkldnn.is_available() and bool(capable)


def keep_freed_memory() -> None:
    """Let this process keep what it frees, up to 256 MiB, as the next pass asks for the same again.

    glibc hands blocks of some hundred kilobytes back to the system at once, and has every page of
    the next one zeroed: a sixth of the time of a small decoder. Other libraries keep them anyway.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        libc.mallopt(_M_TRIM_THRESHOLD, 256 << 20)


class LoweredLinear(nn.Linear):
    """A linear layer with bfloat16 weights, from and to the type of its input."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.weight.dtype)).to(x.dtype)


class OneDnnLinear(nn.Linear):
    """A linear layer through oneDNN, for float32 on a CPU; torch's own way for anything else."""

    def forward(self, x: Tensor) -> Tensor:
        special = (
            torch.is_grad_enabled()
            or torch.is_autocast_enabled("cpu")
            or torch.compiler.is_compiling()
        )
        if special or not all(t.is_cpu and t.dtype == torch.float32 for t in (x, self.weight)):
            return super().forward(x)
        # What torch.compile emits for a linear layer on the CPU; it has no public name.
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")


_PROMPT_LAYERS = ("text_embedder.", "attn2.to_k", "attn2.to_v")
"""They run once a prompt, outside of the passes that are worth it."""


def use_onednn(model: CausalWanTransformer) -> None:
    """Send the float32 products of a transformer's passes through oneDNN where that pays. Whatever
    else it computes, on other devices or with gradients, stays as it is."""
    if onednn_pays():
        for name, layer in list(model.named_modules()):
            if type(layer) is nn.Linear and not any(part in f"{name}." for part in _PROMPT_LAYERS):
                model.set_submodule(name, _swapped(layer, OneDnnLinear))


def lower_transformer(model: CausalWanTransformer) -> None:
    """Compute the products of all blocks, most of the work, in bfloat16 where the processor has
    it."""
    if native_bfloat16():
        for name, layer in list(model.blocks.named_modules()):
            if type(layer) in (nn.Linear, OneDnnLinear):
                model.blocks.set_submodule(name, _swapped(layer, LoweredLinear, LOWERED))


def lower_decoder(model: TinyAutoencoder) -> None:
    """Lower the convolutional decoder, in place, if a linear shortcut carries most of a picture and
    stays exact: bfloat16 alone has too few levels for pixels."""
    if native_bfloat16() and model.decoder is not None and model.shortcut is not None:
        # torch's stubs do not know this argument
        model.decoder.to(LOWERED, memory_format=torch.channels_last)  # type: ignore[call-overload]


def is_lowered(model: nn.Module) -> bool:
    """Whether some of its linear layers are."""
    return any(isinstance(layer, LoweredLinear) for layer in model.modules())


def product_dtype(model: CausalWanTransformer) -> torch.dtype:
    """What the products of its passes are computed in."""
    return LOWERED if is_lowered(model) else model.dtype


def attention_by_products() -> bool:
    """Whether attention in bfloat16 is faster as two products around a softmax than by torch's
    fused kernel: so it is by a third on AMD's processors (and the kernel is as slow as in float32),
    but not with AMX."""
    return not torch.cpu.get_capabilities().get("amx_bf16", False)


def arithmetic_of(model: CausalWanTransformer) -> str:
    """What a model computes in, for people: `"float32, products in bfloat16"` if it is lowered;
    attention is products, too."""
    dtype = str(model.dtype).removeprefix("torch.")
    return f"{dtype}, products in bfloat16" if is_lowered(model) else dtype


def _swapped(
    layer: nn.Linear, kind: type[nn.Linear], dtype: torch.dtype | None = None
) -> nn.Linear:
    """A layer of another kind with the same weights, or with copies of them in `dtype`."""
    with torch.device("meta"):
        swapped = kind(layer.in_features, layer.out_features, layer.bias is not None)
    for name, weight in layer.named_parameters():
        if dtype is not None:
            weight = nn.Parameter(weight.detach().to(dtype), requires_grad=False)
        setattr(swapped, name, weight)
    return swapped.train(layer.training)
