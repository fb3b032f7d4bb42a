"""LoRA files of every published naming, as PEFT wants them: exactly, or not at all.

Trainers spell the same matrices in many ways: under diffusers' names of our layers or those of the
official Wan code, with dots or underscores, with a dozen prefixes, as A and B or down and up, with
α in the file, beside it or nowhere. `read_adapter` finds the layer that each entry means. What it
cannot apply exactly it refuses with the reason, but for differences of norms, which it counts.

    lora_A, lora_B    W ← W + α/r · B A  (LoRA, arXiv 2106.09685, equation 3); α is r if not stated
    diff              W ← W + diff, as a LoRA of full rank
    diff_b            b ← b + diff_b, as the bias of B
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from causvid.model.checkpoint import check_finite
from causvid.model.weight_files import CheckpointError

_PREFIXES = (
    "base_model|model|module|net|pipe|dit|unet|diffusion_model|transformer|generator|_orig_mod|"
    "_fsdp_wrapped_module|_checkpoint_wrapped_module"
)
_DOTTED_PREFIX = re.compile(rf"(?:(?:{_PREFIXES})\.)+")
_FLAT_PREFIX = re.compile(rf"(?:(?:lora|lycoris|{_PREFIXES})_)+")
_WRAPPER = re.compile(r"_(?:fsdp_wrapped_module|checkpoint_wrapped_module|orig_mod)\.")

_MATRIX = re.compile(
    r"(?P<layer>.+)\.(?:lora_(?P<half>A|B|down|up)|lora(?:_linear_layer)?\.(?P<old>down|up))"
    r"(?:\.(?!weight$|bias$)[^.]+)?(?:\.(?P<of>weight|bias))?"
)
_WAN = re.compile(r"(?:^|\.|lora_unet_)blocks[._]\d")
_OTHER = re.compile(r"(?P<layer>.+)\.(?P<what>alpha|lora_alpha|diff|diff_b)")
_KINDS = {  # what is in a key → what the file then is
    "dora_scale": "a DoRA, which also scales every column of a weight",
    "lora_magnitude_vector": "a DoRA, which also scales every column of a weight",
    "lokr_": "a LoKr, whose matrices are Kronecker products",
    "hada_": "a LoHa, whose matrices are Hadamard products",
    "lora_mid": "a LoCon with a Tucker core",
    "oft_": "an OFT, which rotates weights",
    "boft_": "a BOFT, which rotates weights",
    "ia3_l": "an IA3, which scales activations",
    "vera_lambda": "a VeRA, whose matrices are random",
    ".set_weight": "one that replaces whole weights",
    ".reshape_weight": "one that changes the shapes of weights",
    "lora_embedding_": "one of an embedding, which the transformer has none of",
}
_OFFICIAL = (  # ours → the official Wan code's
    ("condition_embedder.time_embedder.linear_1", "time_embedding.0"),
    ("condition_embedder.time_embedder.linear_2", "time_embedding.2"),
    ("condition_embedder.text_embedder.linear_1", "text_embedding.0"),
    ("condition_embedder.text_embedder.linear_2", "text_embedding.2"),
    ("condition_embedder.time_proj", "time_projection.1"),
    (".attn1.", ".self_attn."),
    (".attn2.", ".cross_attn."),
    (".to_q", ".q"),
    (".to_k", ".k"),
    (".to_v", ".v"),
    (".to_out.0", ".o"),
    (".ffn.net.0.proj", ".ffn.0"),
    (".ffn.net.2", ".ffn.2"),
    (".norm2", ".norm3"),
    ("proj_out", "head.head"),
)


@dataclass(frozen=True)
class Adapter:
    """A LoRA as it is applied to a transformer.

    Attributes:
        scales: the adapted layers, with the α/r of each.
        ranks: likewise, r.
        left_out: entries of the file that are not used: differences of norms and modulation.
        tensors: `LAYER.lora_A.weight`, `LAYER.lora_B.weight`, and `LAYER.lora_B.bias` of all
            layers or of none.
    """

    scales: Mapping[str, float]
    ranks: Mapping[str, int]
    left_out: tuple[str, ...] = ()
    tensors: Mapping[str, Tensor] = field(default_factory=dict, repr=False)

    @property
    def layers(self) -> tuple[str, ...]:
        """The adapted layers, by our names."""
        return tuple(self.scales)

    def config(self) -> dict[str, Any]:
        """The arguments of a `peft.LoraConfig`."""
        alphas = {layer: scale * self.ranks[layer] for layer, scale in self.scales.items()}
        first = next(iter(self.ranks))
        return {
            "r": self.ranks[first],
            "lora_alpha": alphas[first],
            "rank_pattern": {f"^{layer}": rank for layer, rank in self.ranks.items()},
            "alpha_pattern": {f"^{layer}": alpha for layer, alpha in alphas.items()},
            "target_modules": list(self.layers),
            "lora_bias": any(key.endswith(".bias") for key in self.tensors),
        }


@dataclass
class _Layer:
    """What a file says of one layer, by what it is."""

    found: dict[str, Tensor] = field(default_factory=dict)


def read_adapter(
    state: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    settings: Mapping[str, Any] | None = None,
    source: object = "the adapter",
) -> Adapter:
    """Find the layers that a LoRA's entries mean.

    Args:
        state: the entries, under whatever names.
        weights: the transformer's parameters, of which only names and shapes matter.
        settings: PEFT's, for an α that is not among the entries.
        source: its name.

    Raises:
        CheckpointError: if there is nothing to apply, or something that cannot be; says what.
    """
    settings = settings or {}
    for mark, kind in _KINDS.items():
        if key := next((key for key in state if mark in key), None):
            raise CheckpointError(
                f"{source} is {kind}, and only LoRA is applied ({key}): merge it into the model "
                f"where it was trained, or train a plain LoRA"
            )
    if settings.get("use_dora"):
        raise CheckpointError(f"{source} is a DoRA, and only LoRA is applied")
    check_finite(state, str(source))
    layers, left_out = _sorted(state, _aliases(weights), weights, source)
    scales: dict[str, float] = {}
    ranks: dict[str, int] = {}
    tensors: dict[str, Tensor] = {}
    biases: dict[str, Tensor] = {}
    for layer, entries in layers.items():
        weight = weights[f"{layer}.weight"]
        down, up, scale = _matrices(layer, dict(entries.found), weight, settings, source)
        if "diff_b" in entries.found:
            biases[layer] = entries.found["diff_b"]
        tensors[f"{layer}.lora_A.weight"], tensors[f"{layer}.lora_B.weight"] = down, up
        scales[layer], ranks[layer] = scale, len(down)
    if not scales:
        raise CheckpointError(
            f"{source} adapts no layer of this model: it holds {some(state) or 'nothing'}; "
            f"expected a LoRA of a Wan transformer, as ….lora_A.weight and ….lora_B.weight"
        )
    if biases:  # PEFT has them for all layers, and scales them as it does B
        for layer, scale in scales.items():
            up = tensors[f"{layer}.lora_B.weight"]
            tensors[f"{layer}.lora_B.weight"] = up.float() * scale
            bias = biases.get(layer, torch.zeros(len(up)))
            tensors[f"{layer}.lora_B.bias"] = bias.float()
        scales = dict.fromkeys(scales, 1.0)
    return Adapter(scales, ranks, tuple(left_out), tensors)


def _sorted(
    state: Mapping[str, Tensor],
    aliases: Mapping[str, str],
    weights: Mapping[str, Tensor],
    source: object,
) -> tuple[dict[str, _Layer], list[str]]:
    """Entries by layer, and those that belong to none that can be adapted."""
    layers: dict[str, _Layer] = {}
    left_out: list[str] = []
    unknown: list[str] = []
    elsewhere: list[str] = []
    for key, value in state.items():
        what, name = _taken_apart(_WRAPPER.sub("", key))
        layer = aliases.get(name) or aliases.get(_DOTTED_PREFIX.sub("", name, count=1))
        layer = layer or aliases.get(_FLAT_PREFIX.sub("", name, count=1))
        if not what:
            unknown.append(key)
        elif layer is None:
            elsewhere.append(key)
        elif f"{layer}.weight" not in weights or weights[f"{layer}.weight"].ndim < 2:
            if what not in ("diff", "diff_b"):
                elsewhere.append(key)
            elif value.any():
                left_out.append(key)
        else:
            layers.setdefault(layer, _Layer()).found[what] = value
    if not layers and not left_out and not any(_WAN.search(key) for key in elsewhere):
        return {}, []
    if any("add_k_proj" in key or "k_img" in key for key in elsewhere):
        raise CheckpointError(
            f"{source} was made for Wan image-to-video, which has extra attention layers: load "
            f"one for Wan text-to-video of the same size"
        )
    if elsewhere or unknown:
        depth = len({name.split(".")[1] for name in weights if name.startswith("blocks.")})
        what = "is of layers that this model has not" if elsewhere else "is no LoRA's"
        raise CheckpointError(
            f"{source} is for another model or of another kind: {len(elsewhere or unknown)} of its "
            f"{len(state)} entries {what} ({some(elsewhere or unknown)}); this one has "
            f"{depth} blocks"
        )
    return layers, left_out


def _taken_apart(key: str) -> tuple[str, str]:
    """What a key is of its layer (`"A"`, `"B"`, `"diff"`, …; empty if it is no LoRA's), and the
    layer's name in the file."""
    if match := _MATRIX.fullmatch(key):
        half = {"down": "A", "up": "B"}.get(name := match["half"] or match["old"], name)
        if match["of"] == "bias":
            return ("bias" if half == "B" else ""), match["layer"]
        return half, match["layer"]
    if match := _OTHER.fullmatch(key):
        return match["what"].removeprefix("lora_"), match["layer"]
    return "", key


def _matrices(
    layer: str,
    entries: dict[str, Tensor],
    weight: Tensor,
    settings: Mapping[str, Any],
    source: object,
) -> tuple[Tensor, Tensor, float]:
    """A `[r, in]`, B `[out, r]` and α/r of a layer; of a convolution with its kernel behind."""
    alpha, bias = entries.pop("alpha", None), entries.pop("bias", None)
    if bias is not None:
        raise CheckpointError(f"{source} has a bias in its own B of {layer}, which is not applied")
    correction = entries.pop("diff_b", None)
    if correction is not None and correction.shape != weight.shape[:1]:
        raise CheckpointError(_another_size(source, layer, correction.shape[0], weight.shape[0]))
    kernel = weight.shape[2:]
    if set(entries) == {"A", "B"}:
        down, up = (_plain(entries[half], weight.ndim) for half in "AB")
        if down.ndim != weight.ndim or up.ndim != weight.ndim or up.shape[1] != down.shape[0]:
            raise CheckpointError(
                f"{source} is damaged: the matrices of {layer}, {list(up.shape)} and "
                f"{list(down.shape)}, do not multiply"
            )
        if (up.shape[0], *down.shape[1:]) != tuple(weight.shape):
            its, ours = next(
                pair
                for pair in zip((up.shape[0], *down.shape[1:]), weight.shape, strict=True)
                if pair[0] != pair[1]
            )
            raise CheckpointError(_another_size(source, layer, its, ours))
        return down, up, _scale(layer, len(down), alpha, settings)
    if set(entries) == {"diff"}:
        diff = entries["diff"]
        if diff.shape != weight.shape:
            raise CheckpointError(_another_size(source, layer, diff.shape[0], weight.shape[0]))
        one = torch.eye(len(weight), dtype=diff.dtype)
        return diff, one.reshape(*one.shape, *(1 for _ in kernel)), 1.0
    if not entries and correction is not None:
        down = torch.zeros(1, *weight.shape[1:])
        return down, torch.zeros(len(weight), 1, *(1 for _ in kernel)), 1.0
    raise CheckpointError(
        f"{source} is damaged or of another kind: of {layer} it holds "
        f"{' and '.join(sorted(entries)) or 'α only'}, expected A and B"
    )


def _plain(matrix: Tensor, dimensions: int) -> Tensor:
    """Without the ones that some trainers add behind, as to a convolution of one pixel."""
    while matrix.ndim > dimensions and matrix.shape[-1] == 1:
        matrix = matrix.squeeze(-1)
    return matrix


def _scale(layer: str, rank: int, alpha: Tensor | None, settings: Mapping[str, Any]) -> float:
    if alpha is not None:
        return float(alpha) / rank
    stated = settings.get("lora_alpha")
    for pattern, value in (settings.get("alpha_pattern") or {}).items():
        if re.fullmatch(rf"(?:.*\.)?(?:{pattern})", layer):
            stated = value
    if not isinstance(stated, int | float):
        return 1.0
    return stated / (math.sqrt(rank) if settings.get("use_rslora") else rank)


def _another_size(source: object, layer: str, its: int, ours: int) -> str:
    return (
        f"{source} is for another model: its {layer} has width {its}, ours {ours}; load one that "
        f"was trained on a model of this size"
    )


def _aliases(weights: Mapping[str, Tensor]) -> dict[str, str]:
    """Every name of a layer or parameter → ours."""
    names: dict[str, str] = {}
    for parameter in weights:
        ours = parameter.removesuffix(".weight").removesuffix(".bias")
        for name in _spelt(ours):
            names.setdefault(name, ours)
    return names


def _spelt(ours: str) -> Iterator[str]:
    official = ours
    for mine, theirs in _OFFICIAL:
        official = official.replace(mine, theirs)
    if ours == "scale_shift_table":
        official = "head.modulation"
    official = official.replace("scale_shift_table", "modulation")
    for name in (ours, official, ours.removesuffix(".0") if ours.endswith("to_out.0") else ours):
        yield name
        yield name.replace(".", "_")


def some(names: Iterable[str], limit: int = 4) -> str:
    """The first of many names."""
    names = list(names)
    return ", ".join(names[:limit]) + (", …" if len(names) > limit else "")
