"""LoRA files of every naming change weights by what they say, or are refused with the reason."""

import json
import logging

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from causvid.model.weight_files import CheckpointError
from causvid.pipeline import CausVidPipeline

RANK, ALPHA = 2, 3.0
LAYERS = {  # ours → the official code's
    "blocks.0.attn1.to_q": "blocks.0.self_attn.q",
    "blocks.1.attn1.to_out.0": "blocks.1.self_attn.o",
    "blocks.0.attn2.to_k": "blocks.0.cross_attn.k",
    "blocks.1.ffn.net.0.proj": "blocks.1.ffn.0",
    "blocks.1.ffn.net.2": "blocks.1.ffn.2",
    "condition_embedder.time_proj": "time_projection.1",
    "condition_embedder.text_embedder.linear_1": "text_embedding.0",
    "proj_out": "head.head",
}


@pytest.fixture(scope="module")
def saved(pipeline, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipe")
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture
def pipe(saved) -> CausVidPipeline:
    pipe = CausVidPipeline.from_pretrained(saved)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def matrices(transformer) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """A and B of every layer."""
    generator = torch.Generator().manual_seed(0)
    found = {}
    for layer in LAYERS:
        out, into = transformer.get_parameter(f"{layer}.weight").shape
        down = torch.randn(RANK, into, generator=generator)
        found[layer] = down, torch.randn(out, RANK, generator=generator)
    return found


def flat(name: str) -> str:
    return name.replace(".", "_")


PLAIN = (".lora_A.weight", ".lora_B.weight")
NAMED = (".lora_A.default.weight", ".lora_B.default.weight")
DOWN = (".lora_down.weight", ".lora_up.weight")
# (how a layer's name is written, A, B, α)
NAMINGS = {
    "diffusers": ("transformer.{ours}", *PLAIN, None),
    "diffusers, with alpha": ("transformer.{ours}", *PLAIN, ".alpha"),
    "diffusers, down": ("transformer.{ours}", *DOWN, ".alpha"),
    "diffusers, old": ("transformer.{ours}", ".lora.down.weight", ".lora.up.weight", None),
    "diffusers, bare": ("{ours}", *PLAIN, None),
    "official, bare": ("{official}", *PLAIN, None),
    "official, down": ("{official}", *DOWN, ".alpha"),
    "ComfyUI": ("diffusion_model.{official}", *DOWN, ".alpha"),
    "ComfyUI, A": ("diffusion_model.{official}", *PLAIN, None),
    "PEFT": ("base_model.model.{official}", *PLAIN, None),
    "PEFT, named": (
        "base_model.model.{ours}",
        ".lora_A.default.weight",
        ".lora_B.default.weight",
        None,
    ),
    "model.diffusion_model": (
        "model.diffusion_model.{official}",
        ".lora_A.weight",
        ".lora_B.weight",
        None,
    ),
    "unet": ("unet.{ours}", *PLAIN, None),
    "DiffSynth": ("pipe.dit.{official}", *NAMED, None),
    "FSDP": (
        "module.model._fsdp_wrapped_module.{official}",
        ".lora_A.weight",
        ".lora_B.weight",
        None,
    ),
    "musubi": ("lora_unet_{official_flat}", *DOWN, ".alpha"),
    "musubi, no alpha": ("lora_unet_{official_flat}", *DOWN, None),
    "kohya of diffusers": ("lora_unet_{flat}", *DOWN, ".alpha"),
    "OneTrainer": ("lora_transformer_{flat}", *DOWN, ".alpha"),
    "LyCORIS": ("lycoris_{official_flat}", *DOWN, ".alpha"),
}


def written(matrices, naming: str) -> dict[str, torch.Tensor]:
    pattern, down, up, alpha = NAMINGS[naming]
    state = {}
    for ours, (a, b) in matrices.items():
        official = LAYERS[ours]
        name = pattern.format(
            ours=ours, official=official, flat=flat(ours), official_flat=flat(official)
        )
        state |= {name + down: a, name + up: b}
        if alpha:
            state[name + alpha] = torch.tensor(ALPHA)
    return state


def change(pipe, layer: str, name: str = "it") -> torch.Tensor:
    """What an adapter adds to a weight."""
    return pipe.transformer.get_submodule(layer).get_delta_weight(name)


@pytest.mark.parametrize("naming", NAMINGS)
def test_every_naming_adds_exactly_what_its_matrices_say(pipe, matrices, tmp_path, naming):
    path = tmp_path / "lora.safetensors"
    save_file(written(matrices, naming), path)
    pipe.load_lora_weights(path, adapter_name="it")
    assert set(pipe.adapters["it"].layers) == set(LAYERS)
    scale = ALPHA / RANK if NAMINGS[naming][3] else 1.0
    for layer, (down, up) in matrices.items():
        torch.testing.assert_close(change(pipe, layer), scale * up @ down)
        assert pipe.adapters["it"].scales[layer] == scale
    pipe.unload_lora_weights()
    assert pipe.adapters == {}


@pytest.mark.parametrize(
    ("settings", "scale"),
    [
        ({"r": RANK, "lora_alpha": 8}, 4.0),
        ({"r": RANK, "lora_alpha": 8, "use_rslora": True}, 8 / RANK**0.5),
        ({"r": RANK, "lora_alpha": 8, "alpha_pattern": {"to_q": 1}}, 0.5),
    ],
)
def test_an_alpha_beside_the_file_or_in_its_head_counts(pipe, matrices, tmp_path, settings, scale):
    state = written(matrices, "PEFT")
    save_file(state, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    pipe.load_lora_weights(tmp_path, adapter_name="it")
    layer = "blocks.0.attn1.to_q"
    down, up = matrices[layer]
    torch.testing.assert_close(change(pipe, layer), scale * up @ down)
    pipe.unload_lora_weights()
    head = {f"transformer.{name}": value for name, value in settings.items()}
    save_file(state, tmp_path / "own.safetensors", {"lora_adapter_metadata": json.dumps(head)})
    pipe.load_lora_weights(tmp_path / "own.safetensors", adapter_name="it")
    torch.testing.assert_close(change(pipe, layer), scale * up @ down)


def test_ranks_may_differ_from_layer_to_layer(pipe, matrices):
    layer, other = list(matrices)[:2]
    wide = torch.randn(5, matrices[other][0].shape[1]), torch.randn(len(matrices[other][1]), 5)
    state = written({layer: matrices[layer], other: wide}, "ComfyUI")
    pipe.load_lora_weights(state, adapter_name="it")
    torch.testing.assert_close(
        change(pipe, layer), ALPHA / RANK * matrices[layer][1] @ matrices[layer][0]
    )
    torch.testing.assert_close(change(pipe, other), ALPHA / 5 * wide[1] @ wide[0])


def test_differences_of_weights_and_biases_are_applied(pipe, matrices, transformer):
    """Some layers have both, some one, some none, as in distillation LoRAs."""
    state = written(matrices, "ComfyUI")
    generator = torch.Generator().manual_seed(1)
    weight = transformer.blocks[0].attn1.to_k.weight
    diff = torch.randn(weight.shape, generator=generator)
    biases = {
        "blocks.0.self_attn.q": torch.randn(32, generator=generator),
        "blocks.0.self_attn.v": torch.randn(32, generator=generator),
    }
    state["diffusion_model.blocks.0.self_attn.k.diff"] = diff
    state |= {f"diffusion_model.{name}.diff_b": value for name, value in biases.items()}
    pipe.load_lora_weights(state, adapter_name="it")
    torch.testing.assert_close(change(pipe, "blocks.0.attn1.to_k"), diff)
    x = torch.randn(3, 32, generator=generator)
    for ours, official in (("to_q", "q"), ("to_v", "v")):
        layer = pipe.transformer.get_submodule(f"blocks.0.attn1.{ours}")
        plain = transformer.get_submodule(f"blocks.0.attn1.{ours}")
        expected = plain(x) + biases[f"blocks.0.self_attn.{official}"]
        if ours == "to_q":
            down, up = matrices["blocks.0.attn1.to_q"]
            expected = expected + ALPHA / RANK * x @ down.T @ up.T
        torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("parts", [("diff",), ("diff_b",), ("diff", "diff_b")], ids="+".join)
def test_a_layer_may_have_differences_only(pipe, matrices, transformer, layer, parts):
    """Beside others with matrices; as in distillation LoRAs, in any kind of layer."""
    plain = transformer.get_submodule(layer)
    state = written({it: ab for it, ab in matrices.items() if it != layer}, "ComfyUI")
    shapes = {"diff": plain.weight.shape, "diff_b": plain.bias.shape}
    generator = torch.Generator().manual_seed(2)
    added = {part: torch.randn(shapes[part], generator=generator) for part in parts}
    state |= {f"diffusion_model.{LAYERS[layer]}.{part}": it for part, it in added.items()}
    pipe.load_lora_weights(state, adapter_name="it")
    assert set(pipe.adapters["it"].layers) == set(LAYERS)
    x = torch.randn(3, plain.in_features, generator=generator)
    expected = torch.nn.functional.linear(
        x, plain.weight + added.get("diff", 0), plain.bias + added.get("diff_b", 0)
    )
    torch.testing.assert_close(pipe.transformer.get_submodule(layer)(x), expected)
    pipe.unload_lora_weights()
    assert torch.equal(pipe.transformer.get_submodule(layer)(x), plain(x))


def test_a_convolution_is_adapted(pipe, transformer):
    weight = transformer.patch_embedding.weight
    diff = torch.randn(weight.shape)
    pipe.load_lora_weights({"diffusion_model.patch_embedding.diff": diff}, adapter_name="it")
    x = torch.randn(1, weight.shape[1], 1, 2, 2)
    expected = torch.nn.functional.conv3d(x, weight + diff, transformer.patch_embedding.bias)
    torch.testing.assert_close(pipe.transformer.patch_embedding(x), expected)


def test_differences_of_norms_are_counted_in_one_warning(pipe, matrices, caplog):
    state = written(matrices, "ComfyUI")
    norms = ["blocks.0.self_attn.norm_q.diff", "blocks.1.norm3.diff_b", "blocks.1.modulation.diff"]
    shapes = [(32,), (32,), (1, 6, 32)]
    state |= {f"diffusion_model.{n}": torch.ones(s) for n, s in zip(norms, shapes, strict=True)}
    state["diffusion_model.blocks.1.self_attn.norm_k.diff"] = torch.zeros(32)  # nothing is lost
    with caplog.at_level(logging.WARNING):
        pipe.load_lora_weights(state, adapter_name="it")
    assert [it for it in caplog.messages if "3 differences of norms" in it] == caplog.messages
    assert len(pipe.adapters["it"].left_out) == 3
    assert set(pipe.adapters["it"].layers) == set(LAYERS)


def only(**entries: torch.Tensor) -> dict[str, torch.Tensor]:
    return {f"diffusion_model.blocks.0.self_attn.q.{k}": v for k, v in entries.items()}


PAIR = {"lora_A.weight": torch.ones(2, 32), "lora_B.weight": torch.ones(32, 2)}
REFUSED = {
    "DoRA": (only(**PAIR, dora_scale=torch.ones(32, 1)), "is a DoRA"),
    "DoRA of PEFT": (only(**PAIR, **{"lora_magnitude_vector": torch.ones(32)}), "is a DoRA"),
    "LoKr": (only(lokr_w1=torch.ones(4, 4), lokr_w2=torch.ones(8, 8)), "is a LoKr"),
    "LoHa": (only(hada_w1_a=torch.ones(4, 2), hada_w1_b=torch.ones(2, 4)), "is a LoHa"),
    "OFT": (only(oft_blocks=torch.ones(4, 4)), "is an OFT"),
    "Tucker": (only(**PAIR, **{"lora_mid.weight": torch.ones(2, 2)}), "is a LoCon"),
    "wide": (
        only(**{"lora_A.weight": torch.ones(2, 5120), "lora_B.weight": torch.ones(5120, 2)}),
        "blocks.0.attn1.to_q has width 5120, ours 32",
    ),
    "deep": (
        {k.replace("blocks.0", "blocks.35"): v for k, v in only(**PAIR).items()},
        r"another model.*blocks\.35.*this one has 2 blocks",
    ),
    "half": (only(**{"lora_A.weight": torch.ones(2, 32)}), "holds A, expected A and B"),
    "alpha alone": (only(alpha=torch.tensor(1.0)), "holds α only, expected A and B"),
    "ranks": (
        only(**{"lora_A.weight": torch.ones(3, 32), "lora_B.weight": torch.ones(32, 2)}),
        "do not multiply",
    ),
    "NaN": (only(**{**PAIR, "lora_A.weight": torch.full((2, 32), torch.nan)}), "NaN"),
    "image to video": (
        only(**PAIR)
        | {f"diffusion_model.blocks.0.cross_attn.k_img.{k}": v for k, v in PAIR.items()},
        "Wan image-to-video, which has extra attention",
    ),
    "nothing": ({}, "adapts no layer"),
    "another architecture": (
        {f"unet.down_blocks.0.attentions.0.{k}": v for k, v in PAIR.items()},
        "adapts no layer of this model: it holds unet.down_blocks",
    ),
    "a checkpoint": ({"blocks.0.self_attn.q.weight": torch.ones(32, 32)}, "adapts no layer"),
    "mixed": (
        only(**PAIR) | {"text_encoder.block.0.q.lora_A.weight": torch.ones(2, 4)},
        "1 of its 3 entries is of layers that this model has not",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_applied_is_refused_and_changes_nothing(pipe, pipeline, kind):
    state, said = REFUSED[kind]
    with pytest.raises(CheckpointError, match=said) as caught:
        pipe.load_lora_weights(state)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    assert pipe.adapters == {}
    ours, theirs = pipe.transformer.state_dict(), pipeline.transformer.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], r"holds 0 \.safetensors files; expected a LoRA"),
        (["a.safetensors", "b.safetensors"], r"holds 2 .*a\.safetensors, b.*name one as weight_n"),
    ],
)
def test_a_folder_needs_one_file(pipe, tmp_path, names, said):
    for name in names:
        save_file(only(**PAIR), tmp_path / name)
    with pytest.raises(ValueError, match=said):
        pipe.load_lora_weights(tmp_path)
    if names:
        pipe.load_lora_weights(tmp_path, weight_name="a.safetensors", adapter_name="it")
        assert pipe.adapters["it"].layers == ("blocks.0.attn1.to_q",)


@pytest.mark.parametrize("data", [b"", b"version https://git-lfs.github.com/spec/v1\n", b"<html>"])
def test_a_damaged_file_is_refused_in_a_sentence(pipe, tmp_path, data):
    path = tmp_path / "lora.safetensors"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"lora\.safetensors is (empty|a Git LFS|a web page)"):
        pipe.load_lora_weights(path)


@pytest.mark.parametrize("scale", [1.0, 0.7, -2.0])
def test_fusing_is_undone_to_the_last_bit(pipe, matrices, scale):
    def make() -> np.ndarray:
        return pipe("a car", seconds=1, output_type="uint8").frames

    weights = {key: value.clone() for key, value in pipe.transformer.state_dict().items()}
    plain = make()
    for _ in range(3):
        pipe.load_lora_weights(written(matrices, "musubi"), adapter_name="it")
        pipe.fuse_lora(lora_scale=scale)
        assert not np.array_equal(make(), plain)
        pipe.unfuse_lora()
        pipe.unload_lora_weights()
        after = pipe.transformer.state_dict()
        assert all(torch.equal(after[key], value) for key, value in weights.items())
        assert np.array_equal(make(), plain)


def test_two_adapters_fused_one_after_the_other_are_undone_together(pipe, matrices):
    weights = {key: value.clone() for key, value in pipe.transformer.state_dict().items()}
    first = dict(list(matrices.items())[:2])
    pipe.load_lora_weights(written(first, "musubi"), adapter_name="one")
    pipe.fuse_lora(adapter_names=["one"])
    pipe.load_lora_weights(written(matrices, "PEFT"), adapter_name="two")
    pipe.fuse_lora(adapter_names=["two"])
    pipe.unfuse_lora()
    pipe.unload_lora_weights()
    after = pipe.transformer.state_dict()
    assert all(torch.equal(after[key], value) for key, value in weights.items())
