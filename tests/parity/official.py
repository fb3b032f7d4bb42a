"""Keys of the official VAE and text encoder, as diffusers and transformers spell them.

The package loads both from diffusers' repositories; only comparisons read official files.
"""

import re
from collections.abc import Mapping

from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers
from torch import Tensor

from causvid.model.checkpoint import State, unwrapped


def vae_names(state: Mapping[str, Tensor]) -> State:
    """Keys of the official Wan 2.1 VAE as `AutoencoderKLWan` spells them.

    diffusers' own converter knows only the released depth of the decoder's flat list of modules,
    so that list is resolved here: stages of equally many residual blocks, each but the last
    followed by one upsampler.
    """
    plain = unwrapped(state)
    upsamplers = [
        int(key.split(".")[2])
        for key in plain
        if re.match(r"decoder\.upsamples\.\d+\.(?:resample|time_conv)\.", key)
    ]
    stage = min(upsamplers, default=-1) + 1  # modules per stage; 0: no decoder in these keys

    def place(match: re.Match) -> str:
        index, rest = int(match[1]), match[2]
        if index % stage == stage - 1:
            return f"decoder.up_blocks.{index // stage}.upsamplers.0.{rest}"
        for official, ours in _RESIDUAL_BLOCK.items():
            rest = rest.replace(official, ours)
        return f"decoder.up_blocks.{index // stage}.resnets.{index % stage}.{rest}"

    if stage:
        pattern = re.compile(r"^decoder\.upsamples\.(\d+)\.(.+)$")
        plain = {pattern.sub(place, key): value for key, value in plain.items()}
    return convert_wan_vae_to_diffusers(plain)


_RESIDUAL_BLOCK = {
    "residual.0.": "norm1.",
    "residual.2.": "conv1.",
    "residual.3.": "norm2.",
    "residual.6.": "conv2.",
    "shortcut.": "conv_shortcut.",
}

_UMT5 = {
    r"^token_embedding\.": "shared.",
    r"^norm\.": "encoder.final_layer_norm.",
    r"^blocks\.(\d+)\.norm1\.": r"encoder.block.\1.layer.0.layer_norm.",
    r"^blocks\.(\d+)\.attn\.": r"encoder.block.\1.layer.0.SelfAttention.",
    r"^blocks\.(\d+)\.pos_embedding\.embedding\.": (
        r"encoder.block.\1.layer.0.SelfAttention.relative_attention_bias."
    ),
    r"^blocks\.(\d+)\.norm2\.": r"encoder.block.\1.layer.1.layer_norm.",
    r"^blocks\.(\d+)\.ffn\.gate\.0\.": r"encoder.block.\1.layer.1.DenseReluDense.wi_0.",
    r"^blocks\.(\d+)\.ffn\.fc1\.": r"encoder.block.\1.layer.1.DenseReluDense.wi_1.",
    r"^blocks\.(\d+)\.ffn\.fc2\.": r"encoder.block.\1.layer.1.DenseReluDense.wo.",
}


def umt5_names(state: Mapping[str, Tensor]) -> State:
    """Keys of the official Wan text encoder as `UMT5EncoderModel` spells them."""

    def rename(key: str) -> str:
        for official, ours in _UMT5.items():
            key, count = re.subn(official, ours, key)
            if count:
                return key
        return key

    return {rename(key): value for key, value in unwrapped(state).items()}
