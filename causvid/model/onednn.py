"""Float32 linear layers on the CPU through oneDNN.

torch hands bfloat16 products on the CPU to oneDNN, but float32 ones to MKL, which leaves the
AVX-512 of AMD's processors unused: on one core of a Zen 5, MKL makes 90 GFLOP/s and oneDNN 200,
both in true float32. On Intel's processors the two are alike.
"""

from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


def onednn_linear(device: torch.device) -> AbstractContextManager:
    """The context in which a model on `device` should run when no gradients are wanted.

    Elsewhere than on CPUs with AVX-512, and for gradients and other types, it changes nothing.
    """
    return _OneDnnLinear() if device.type == "cpu" and _has_avx512() else nullcontext()


@lru_cache(maxsize=1)
def _has_avx512() -> bool:
    capable = torch.cpu.get_capabilities().get("avx512_f", False)
    return torch.backends.mkldnn.is_available() and bool(capable)


class _OneDnnLinear(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.nn.functional.linear:
            return _linear(*args, **kwargs)
        return func(*args, **kwargs)


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    special = torch.is_grad_enabled() or torch.compiler.is_compiling()
    plain = all(
        type(t) in (Tensor, torch.nn.Parameter) and t.is_cpu and t.dtype == torch.float32
        for t in (x, weight)
    )
    if special or not plain:
        return torch.nn.functional.linear(x, weight, bias)
    # What torch.compile emits for a linear layer on the CPU; it has no public name.
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
