"""The released Wan 2.1 models map one to one onto ours and onto diffusers', shape by shape.

Key lists of the official code are in `golden/keys` (one template for all layers); the models are
built on the `meta` device, so the 14B one costs nothing.
"""

import json
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel

from causvid.model.checkpoint import fill, transformer_names
from causvid.model.transformer import CausalWanTransformer
from tests.parity.official import vae_names

KEYS = Path(__file__).parents[1] / "golden/keys"


def official(name: str) -> tuple[dict, dict[str, torch.Tensor]]:
    """The official configuration and state dict, on `meta`."""
    golden = json.loads((KEYS / f"{name}.json").read_text())
    state = {
        key.format(layer=layer): torch.empty(shape, device="meta")
        for key, shape in golden["keys"].items()
        for layer in range(golden["config"]["num_layers"] if "{layer}" in key else 1)
    }
    assert sum(value.numel() for value in state.values()) == golden["num_parameters"]
    return golden["config"], state


@pytest.mark.parametrize("size", ["1.3b", "14b"])
@pytest.mark.parametrize("model_class", [CausalWanTransformer, WanTransformer3DModel])
def test_the_released_transformers_fit(size, model_class):
    config, state = official(f"wan2.1_t2v_{size}_official")
    with torch.device("meta"):
        model = model_class(
            patch_size=tuple(config["patch_size"]),
            num_attention_heads=config["num_heads"],
            attention_head_dim=config["dim"] // config["num_heads"],
            in_channels=config["in_dim"],
            out_channels=config["out_dim"],
            text_dim=config["text_dim"],
            freq_dim=config["freq_dim"],
            ffn_dim=config["ffn_dim"],
            num_layers=config["num_layers"],
            cross_attn_norm=config["cross_attn_norm"],
            eps=config["eps"],
        )
    renamed = transformer_names({f"model.{key}": value for key, value in state.items()})
    assert len(renamed) == len(state) == len(model.state_dict())
    fill(model, renamed)


def test_our_transformer_and_that_of_diffusers_have_the_same_state_dict():
    with torch.device("meta"):
        ours = CausalWanTransformer(num_attention_heads=12, num_layers=30, ffn_dim=8960)
        theirs = WanTransformer3DModel(num_attention_heads=12, num_layers=30, ffn_dim=8960)
    shapes = [{k: v.shape for k, v in m.state_dict().items()} for m in (ours, theirs)]
    assert shapes[0] == shapes[1]


def test_the_released_vae_fits():
    golden = json.loads((KEYS / "wan2.1_vae_official.json").read_text())["keys"]
    state = {key: torch.empty(shape, device="meta") for key, shape in golden.items()}
    with torch.device("meta"):
        model = AutoencoderKLWan()
    assert len(vae_names(state)) == len(state)
    fill(model, vae_names(state))
