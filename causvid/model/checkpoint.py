"""Published checkpoints in, tensors under our parameter names out.

Our names are those of diffusers (`WanTransformer3DModel`, `AutoencoderKLWan`) and of transformers
(`UMT5EncoderModel`); released files use the names of the official Wan code, inside various nesting
and under various prefixes. A load is four steps, each a plain function on a state dict:

    state = transformer_names(read_state(path, ["generator_ema"]))      # find, then rename
    merge_lora(state, transformer_names(read_state(lora_path, ["generator_lora", FLAT])))
    fill(model, state, source=path)                                     # strict; built on `meta`

Files are pickled by anyone: they are read with `weights_only=True` and nothing else. This module
knows names and shapes, not what a checkpoint is good for, and downloads nothing.
"""

import pickle
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from causvid.model.weight_files import CheckpointError, Stored, container, read_header

State = dict[str, Tensor]

FLAT = ""  # stands for "the top level of the file is the state dict itself"

# What training code wraps around a model, outermost first in any combination.
_PREFIXES = re.compile(r"^(?:(?:base_model|model|module|net|diffusion_model|transformer)\.)+")
_WRAPPERS = re.compile(r"_(?:fsdp_wrapped_module|checkpoint_wrapped_module|orig_mod)\.")
_LORA_KEY = re.compile(r"^(.+)\.(lora_(?:A|B|down|up))(?:\.[^.]+)?\.weight$")


def read_state(path: str | Path, entries: Sequence[str] = ()) -> State:
    """The tensors of a `.safetensors` file or of one entry of a `torch.save` file.

    Tensors of zip-format files stay memory-mapped: what is never used is never read.

    Args:
        entries: nesting keys to look for, best first, such as `["generator_ema", "generator"]`;
            `FLAT` accepts a file without nesting. Empty takes the only candidate there is.

    Raises:
        CheckpointError: if the file is missing or damaged, holds Python objects other than
            tensors, or has none of the `entries` (or several candidates and none was named).
    """
    path = Path(path)
    tree = _read(path)
    found: dict[str, Mapping[str, object]] = {
        name: value
        for name, value in tree.items()
        if isinstance(value, Mapping) and any(isinstance(v, Tensor) for v in value.values())
    }
    if any(isinstance(value, Tensor) for value in tree.values()):
        found[FLAT] = tree
    if not found:
        deeper = [
            f"{outer}.{inner}"
            for outer, entries_ in tree.items()
            if isinstance(entries_, Mapping)
            for inner, value in entries_.items()
            if isinstance(value, Mapping) and any(isinstance(v, Tensor) for v in value.values())
        ]
        if deeper:
            raise CheckpointError(
                f"{path} holds tensors only two levels deep, in {_some(deeper)}: save one of these "
                f"by itself, as safetensors"
            )
        raise CheckpointError(f"{path} holds no tensors; its top-level keys are {_some(tree)}")
    for name in entries or (list(found) if len(found) == 1 else []):
        if name in found:
            return {key: v for key, v in found[name].items() if isinstance(v, Tensor)}
    asked = " or ".join(_entry(name) for name in entries) if entries else "no entry by name"
    raise CheckpointError(
        f"{path} holds {', '.join(_entry(name) for name in found)}, but {asked} was asked for: "
        f"name one of those that it holds"
    )


def transformer_names(state: Mapping[str, Tensor]) -> State:
    """Keys of a Wan transformer, or of a LoRA for one, as diffusers spells them.

    Prefixes of wrappers are dropped; keys that have diffusers' names already stay.
    """
    plain = unwrapped(state)
    official = any(".self_attn." in key or ".cross_attn." in key for key in plain)
    return convert_wan_transformer_to_diffusers(plain) if official else plain


def merge_lora(state: State, lora: Mapping[str, Tensor], *, scale: float = 1.0) -> None:
    """Add a low-rank adapter to the weights it adapts, in place: W ← W + scale · (α/r) · B A.

    Computed in float32 and rounded once (LoRA, arXiv 2106.09685, equation 3). α comes from
    `….alpha` keys; PEFT files have none, so state α/r there through `scale`.

    Args:
        lora: `….lora_A.weight` and `….lora_B.weight` pairs (or `lora_down`, `lora_up`) under the
            names that `state` uses; see `transformer_names`.

    Raises:
        CheckpointError: if a pair is incomplete, or adapts a weight that `state` does not have.
    """
    pairs: dict[str, dict[str, Tensor]] = {}
    for key, value in lora.items():
        if match := _LORA_KEY.match(key):
            side = "A" if match[2] in ("lora_A", "lora_down") else "B"
            pairs.setdefault(match[1], {})[side] = value
        elif not key.endswith(".alpha"):
            raise CheckpointError(f"{key!r} is not a LoRA key (….lora_A.weight, ….lora_B.weight)")
    broken = [name for name, pair in pairs.items() if len(pair) != 2]
    homeless = [name for name in pairs if f"{name}.weight" not in state]
    if broken or homeless or not pairs:
        raise CheckpointError(
            f"the LoRA does not fit: {len(pairs)} adapted layers, {len(broken)} with one half "
            f"missing ({_some(broken)}), {len(homeless)} unknown to the model ({_some(homeless)})"
        )
    for name, pair in pairs.items():
        down, up = pair["A"].float(), pair["B"].float()
        weight = state[f"{name}.weight"]
        if (up.shape[0], down.shape[1]) != weight.shape or up.shape[1] != down.shape[0]:
            raise CheckpointError(
                f"the LoRA of {name!r} has shapes {tuple(up.shape)} and {tuple(down.shape)}, "
                f"which do not multiply to the weight's {tuple(weight.shape)}"
            )
        alpha = lora.get(f"{name}.alpha")
        factor = scale if alpha is None else scale * float(alpha) / len(down)
        merged = torch.addmm(weight.float(), up, down, alpha=factor)
        state[f"{name}.weight"] = merged.to(weight.dtype)


def fill(
    model: nn.Module,
    state: Mapping[str, Tensor],
    *,
    source: str | Path = "the checkpoint",
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Give every parameter of `model`, built on the `meta` device, its tensor from `state`.

    Strict: every key must be used and every parameter found. A patch embedding that was stored as
    a linear layer is reshaped to the convolution it equals. Tensors move to `device` and `dtype`
    one by one; see `parameter_dtype` for those that stay in float32.

    Raises:
        CheckpointError: with the keys that are missing, left over or of another shape.
    """
    wanted = model.state_dict()
    tensors = with_tied(model, state)
    for key in {"patch_embedding.weight"} & wanted.keys() & tensors.keys():
        if tensors[key].ndim == 2 and tensors[key].numel() == wanted[key].numel():
            # [d, c · patch volume] in the order of the convolution's [d, c, pt, ph, pw].
            tensors[key] = tensors[key].reshape(wanted[key].shape)
    check_fit(wanted, tensors, type(model).__name__, source)
    check_finite(tensors, source)

    placed: dict[int, Tensor] = {}  # tied tensors move once
    for key, value in tensors.items():
        if id(value) not in placed:
            cast = dtype if value.is_floating_point() else None
            target = cast and parameter_dtype(model, key, cast)
            placed[id(value)] = value.to(device=device, dtype=target)
        tensors[key] = placed[id(value)]
    model.load_state_dict(tensors, strict=True, assign=True)
    if tie_weights := getattr(model, "tie_weights", None):
        tie_weights()


def parameter_dtype(model: nn.Module, name: str, dtype: torch.dtype) -> torch.dtype:
    """What the parameter `name` is stored in when `model` is loaded in `dtype`.

    Modules that diffusers' and transformers' models list as `_keep_in_fp32_modules` stay in
    float32; for transformers this guards against float16's range and does not hold in bfloat16.
    """
    keep = getattr(model, "_keep_in_fp32_modules", None) or ()
    if isinstance(model, PreTrainedModel) and dtype == torch.bfloat16:
        keep = ()
    return torch.float32 if not set(keep).isdisjoint(name.split(".")) else dtype


Shaped = TypeVar("Shaped", Tensor, Stored)


def with_tied(model: nn.Module, state: Mapping[str, Shaped]) -> dict[str, Shaped]:
    """`state` with the copies of tied parameters, of which files store the original only."""
    tensors = dict(state)
    # transformers names them {copy: original}.
    for copy, original in (getattr(model, "_tied_weights_keys", None) or {}).items():
        if original in state:
            tensors.setdefault(copy, state[original])
    return tensors


def check_fit(
    wanted: Mapping[str, Tensor], found: Mapping[str, Shaped], model: str, source: str | Path
) -> None:
    """Whether a file has all parameters of a model, of the right shapes, and no others.

    Args:
        model, source: names of the model and of the file.

    Raises:
        CheckpointError: with the keys that are missing, left over or of another shape.
    """
    problems = {
        "missing": [key for key in wanted if key not in found],
        "left over": [key for key in found if key not in wanted],
        "of another shape": [
            f"{key} is {tuple(found[key].shape)}, should be {tuple(wanted[key].shape)}"
            for key in wanted
            if key in found and tuple(found[key].shape) != tuple(wanted[key].shape)
        ],
    }
    told = [f"{len(keys)} {what}: {_some(keys)}" for what, keys in problems.items() if keys]
    if told:
        raise CheckpointError(
            f"{source} does not fit {model} ({len(wanted)} parameters). {'; '.join(told)}. "
            f"Check that the file, its entry and the model's configuration belong together"
        )


def check_finite(state: Mapping[str, Tensor], source: str | Path) -> None:
    """Whether all numbers are some: one that is not makes every pixel black.

    Raises:
        CheckpointError: with the tensors that hold NaN or infinity.
    """
    broken = [name for name, value in state.items() if not _is_finite(value)]
    if broken:
        raise CheckpointError(
            f"{source} is damaged: {_some(broken)} hold{'s' if len(broken) == 1 else ''} numbers "
            f"that are NaN or infinite"
        )


def _is_finite(value: Tensor) -> bool:
    if value.is_meta or not value.is_floating_point() or value.element_size() < 2:
        return True
    return not value.numel() or all(bool(end.isfinite()) for end in value.aminmax())


def _read(path: Path) -> Mapping[str, object]:
    """The content decides: files are called anything."""
    kind = container(path)
    if kind == "safetensors":
        read_header(path)  # says what is wrong with a file that is not whole
        return load_file(path)
    try:
        # Only zip archives can be mapped.
        tree = torch.load(path, map_location="cpu", weights_only=True, mmap=kind == "zip")
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is not a file of plain tensors, and nothing else is loaded, because a "
            f"pickle can run any code. Convert it to safetensors where you trust it"
        ) from error
    except Exception as error:  # on damaged bytes, the reader raises whatever it stumbles over
        raise CheckpointError(
            f"{path} cannot be read ({_first_line(error)}): it is damaged or incomplete, download "
            f"it again"
        ) from error
    if not isinstance(tree, Mapping):
        raise CheckpointError(f"{path} holds a {type(tree).__name__}, not named tensors")
    return tree


def unwrapped(state: Mapping[str, Tensor]) -> State:
    """Keys without the prefixes of training wrappers."""
    return {_PREFIXES.sub("", _WRAPPERS.sub("", key)): value for key, value in state.items()}


def _entry(name: str) -> str:
    return "a flat state dict" if name == FLAT else f"{name!r}"


def _first_line(error: Exception) -> str:
    return f"{(str(error).strip() or type(error).__name__).splitlines()[0]:.200}"


def _some(names: Iterable[object], limit: int = 4) -> str:
    shown = [str(name) for name in names]
    return ", ".join(shown[:limit]) + (", …" if len(shown) > limit else "") or "none"
