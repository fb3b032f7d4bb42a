"""bfloat16 where a CPU computes it natively: in linear layers and in a tiny decoder's convolutions.

Whole models in bfloat16 gain nothing on a CPU, as its fused attention is slower then. Here only
matrix products and convolutions have bfloat16 weights and inputs; sums are kept in float32 by the
kernels, and norms, attention, residuals, noise levels and pixels stay float32, as in training
(`causvid.training.precision`).
"""

import torch
from torch import Tensor, nn

from causvid.model.tiny_autoencoder import TinyAutoencoder
from causvid.model.transformer import CausalWanTransformer

LOWERED = torch.bfloat16


def native_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 by itself: without, it is 30 to 110 times slower
    than float32."""
    has = torch.cpu.get_capabilities()
    return bool(has.get("avx512_bf16") or has.get("amx_bf16"))


class LoweredLinear(nn.Linear):
    """A linear layer with bfloat16 weights, from and to the type of its input."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.weight.dtype)).to(x.dtype)


def lower_transformer(model: CausalWanTransformer) -> None:
    """Lower the linear layers of all blocks, in place: most of the model's work."""
    for block in model.blocks:
        for parent in list(block.modules()):
            for name, layer in parent.named_children():
                if type(layer) is nn.Linear:
                    setattr(parent, name, _lowered(layer))


def is_lowered(model: nn.Module) -> bool:
    """Whether some of its linear layers are."""
    return any(isinstance(layer, LoweredLinear) for layer in model.modules())


def arithmetic_of(model: CausalWanTransformer) -> str:
    """What a model computes in, for people: `"float32, products in bfloat16"` if it is lowered."""
    dtype = str(model.dtype).removeprefix("torch.")
    return f"{dtype}, products in bfloat16" if is_lowered(model) else dtype


def _lowered(layer: nn.Linear) -> LoweredLinear:
    with torch.device("meta"):
        lowered = LoweredLinear(
            layer.in_features, layer.out_features, layer.bias is not None, dtype=LOWERED
        )
    state = {name: weight.detach().to(LOWERED) for name, weight in layer.state_dict().items()}
    lowered.load_state_dict(state, assign=True)
    return lowered.requires_grad_(False).train(layer.training)


def lower_decoder(model: TinyAutoencoder) -> None:
    """Lower the convolutional decoder, in place, if a linear shortcut carries most of a picture and
    stays exact: bfloat16 alone has too few levels for pixels."""
    if model.decoder is not None and model.shortcut is not None:
        model.decoder.to(LOWERED)
