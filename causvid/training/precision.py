"""Where bfloat16 pays, and an attention whose backward pass does too.

Weights stay float32; only the arithmetic of a forward pass is lowered, by autocast.
"""

from typing import Any

import torch
from torch import Tensor, nn

from causvid.model.attention import CausalAttnProcessor
from causvid.model.cpu import native_bfloat16
from causvid.model.transformer import CausalWanTransformer


def mixed_precision(device: torch.device) -> str:
    """`"bf16"` where the processor computes it natively, else `"no"`.

    Without native support bfloat16 is 30 to 110 times slower than float32 on a CPU, so it is
    never assumed there.
    """
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    return "bf16" if device.type == "cpu" and native_bfloat16() else "no"


def use_training_attention(model: nn.Module, device: torch.device, precision: str) -> None:
    """Give the transformers in `model` the attention that is fastest in training, in place."""
    if device.type == "cpu" and precision == "bf16":
        for module in model.modules():
            if isinstance(module, CausalWanTransformer):
                module.set_attn_processor(PlainAttention())


class PlainAttention(CausalAttnProcessor):
    """Two matrix products and a softmax in place of the fused attention kernel.

    PyTorch's fused CPU kernel gains nothing from bfloat16 in its backward pass; the plain form is
    2 to 8 times faster there for sequences of up to a thousand tokens. The result is the same to
    rounding.
    """

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, parallel: Any) -> Tensor:
        query, keys, values = (x.transpose(1, 2) for x in (query, keys, values))
        scores = (query * query.shape[-1] ** -0.5) @ keys.transpose(-1, -2)
        return (scores.softmax(dim=-1).to(values.dtype) @ values).transpose(1, 2)
