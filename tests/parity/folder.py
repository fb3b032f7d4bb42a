"""A reference folder on disk: its cases, and the models whose weights it holds.

Cases are found by their JSON; which weights a case runs on is what its JSON says, or the weights
that lie beside it. Knows nothing of what is compared.
"""

import json
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from diffusers import AutoencoderKLWan
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from causvid.model.checkpoint import fill, read_state, transformer_names
from causvid.model.transformer import CausalWanTransformer
from tests.parity.case import Case, Mismatch
from tests.parity.official import vae_names

Settings = Mapping[str, Any]

CHECKPOINT = "checkpoint"  # the setting that stands for the missing JSON of a `torch.save` file
CAUSVID_SHIFT = 8.0  # of all its configurations
GENERATOR_ENTRIES = ("generator_ema", "generator")  # the average, where there is one, is released


def is_transformer(settings: Settings) -> bool:
    """Whether a JSON describes a file of transformer weights."""
    return "num_heads" in settings.get("config", {}) and _all_parameters(settings)


def is_vae(settings: Settings) -> bool:
    """Whether a JSON describes a file of VAE weights."""
    return "dim_mult" in settings.get("config", {}) and _all_parameters(settings)


def _all_parameters(settings: Settings) -> bool:
    names = settings.get("tensors", {})
    return bool(names) and all(
        name.endswith((".weight", ".bias", "gamma", "modulation")) for name in names
    )


def transformer_config(official: Settings) -> dict[str, Any]:
    """The configuration of our transformer (and diffusers') for an official one."""
    if official.get("model_type", "t2v") != "t2v" or not official.get("qk_norm", True):
        raise Mismatch("only text-to-video transformers with normalised queries are known")
    return {
        "patch_size": tuple(official["patch_size"]),
        "num_attention_heads": official["num_heads"],
        "attention_head_dim": official["dim"] // official["num_heads"],
        "in_channels": official["in_dim"],
        "out_channels": official["out_dim"],
        "text_dim": official["text_dim"],
        "freq_dim": official["freq_dim"],
        "ffn_dim": official["ffn_dim"],
        "num_layers": official["num_layers"],
        "cross_attn_norm": official["cross_attn_norm"],
        "eps": official["eps"],
    }


class ReferenceFolder:
    """
    Raises:
        ValueError: if the path is not a folder.
    """

    def __init__(self, root: str | Path):
        self.root = Path(root)
        if not self.root.is_dir():
            raise ValueError(
                f"{self.root} is not a folder; pass one laid out as a reference folder"
            )

    def names(self) -> list[str]:
        """Every case: one for each JSON and each `.pt` file, paths without the JSON's suffix."""
        found = {self._name(p.with_suffix("")) for p in self.root.rglob("*.json")}
        # A tensor file must have its JSON; listing it makes a missing one visible.
        found |= {self._name(p.with_suffix("")) for p in self.root.rglob("*.safetensors")}
        found |= {self._name(p) for p in self.root.rglob("*.pt")}
        return sorted(found)

    def open(self, name: str) -> Case:
        """
        Raises:
            Mismatch: if its JSON or its tensors cannot be read, or do not belong together.
        """
        if name.endswith(".pt"):
            weights = self.near(name, is_transformer)
            return Case(name, {CHECKPOINT: weights}, self.tensors(weights))
        settings = self.settings(name)
        listed = settings.get("tensors", {})
        tensors = self.tensors(name) if listed or self._file(name).exists() else {}
        if set(listed) != set(tensors):
            odd = sorted(set(listed) ^ set(tensors))
            raise Mismatch(f"JSON and file list different tensors: {', '.join(odd[:3])}")
        for key, entry in listed.items():
            if isinstance(entry, dict):
                _check_listed(key, tensors[key], entry)
        return Case(name, settings, tensors)

    def settings(self, name: str) -> Settings:
        settings = self._all_settings.get(name)
        if settings is None:
            raise Mismatch(f"there is no {name}.json")
        if isinstance(settings, Mismatch):
            raise settings
        return settings

    def tensors(self, name: str) -> dict[str, Tensor]:
        try:
            return load_file(self._file(name))
        except (OSError, SafetensorError) as error:
            raise Mismatch(f"{name}.safetensors cannot be read: {error}") from error

    def where(self, fits: Callable[[Settings], bool]) -> list[str]:
        """Names of all JSON files that satisfy a predicate."""
        readable = {k: v for k, v in self._all_settings.items() if not isinstance(v, Mismatch)}
        return [name for name, settings in sorted(readable.items()) if fits(settings)]

    def near(self, name: str, fits: Callable[[Settings], bool]) -> str:
        """The JSON that satisfies a predicate: beside `name` if there is one, else anywhere."""
        folder = PurePosixPath(name).parent
        found = self.where(fits)
        beside = [other for other in found if PurePosixPath(other).parent == folder]
        candidates = beside or found
        if len(candidates) != 1:
            raise Mismatch(f"needs one file that it does not name; found {candidates or 'none'}")
        return candidates[0]

    def weights(self, case: Case, role: str = "dit") -> str:
        """The name of the weights in this `role` that a case runs on."""
        said = case.settings.get("weights")
        if isinstance(said, Mapping):
            if role not in said:
                raise Mismatch(f"its JSON names no weights for {role!r}")
            return said[role]
        if isinstance(said, str):
            return said
        return self.near(case.name, is_vae if role == "vae" else is_transformer)

    def shift(self, case: Case) -> float:
        """The timestep shift of a case; CausVid's cases state theirs once, in a neighbour."""
        if "timestep_shift" in case.settings:
            return float(case.settings["timestep_shift"])

        def states_it(settings: Settings) -> bool:
            return "shift" in settings.get("scheduler", {})

        if "scheduler" in case.settings:
            return float(case.settings["scheduler"]["shift"])
        if not self.where(states_it):
            return CAUSVID_SHIFT
        return float(self.settings(self.near(case.name, states_it))["scheduler"]["shift"])

    def frames_per_chunk(self, case: Case) -> int:
        """Latent frames of a chunk, as the case says or the weights that it runs on."""
        if "num_frame_per_block" in case.settings:
            return int(case.settings["num_frame_per_block"])
        weights = self.settings(self.weights(case))
        if "num_frame_per_block" not in weights:
            raise Mismatch("neither its JSON nor that of its weights says 'num_frame_per_block'")
        return int(weights["num_frame_per_block"])

    def transformer(
        self, name: str, *, file: Path | None = None, dtype: torch.dtype = torch.float32
    ) -> CausalWanTransformer:
        """The transformer of a weights JSON, with its weights or those of a checkpoint `file`."""
        config = self.settings(name)["config"]
        with torch.device("meta"):
            model = CausalWanTransformer(
                **transformer_config(config), text_length=config["text_len"]
            )
        state = self.tensors(name) if file is None else read_state(file, GENERATOR_ENTRIES)
        fill(model, transformer_names(state), source=file or name, dtype=dtype)
        return model.eval()

    def vae(self, name: str) -> AutoencoderKLWan:
        """The VAE of a weights JSON; a neighbour states how its latents are normalised."""
        config = self.settings(name)["config"]
        stated = self.where(lambda settings: "latents_mean" in settings)
        normalisation = {}
        if stated:
            neighbour = self.settings(self.near(name, lambda s: "latents_mean" in s))
            normalisation = {k: neighbour[k] for k in ("latents_mean", "latents_std")}
        with torch.device("meta"):
            model = AutoencoderKLWan(
                base_dim=config["dim"],
                z_dim=config["z_dim"],
                dim_mult=config["dim_mult"],
                num_res_blocks=config["num_res_blocks"],
                attn_scales=config["attn_scales"],
                temperal_downsample=config["temperal_downsample"],
                scale_factor_spatial=2 ** (len(config["dim_mult"]) - 1),
                scale_factor_temporal=2 ** sum(config["temperal_downsample"]),
                **normalisation,
            )
        fill(model, vae_names(self.tensors(name)), source=name)
        return model.eval()

    @cached_property
    def _all_settings(self) -> dict[str, Settings | Mismatch]:
        found: dict[str, Settings | Mismatch] = {}
        for path in self.root.rglob("*.json"):
            name = self._name(path.with_suffix(""))
            try:
                value = json.loads(path.read_text())
            except (OSError, ValueError) as error:
                found[name] = Mismatch(f"its JSON cannot be read: {error}")
                continue
            good = isinstance(value, dict)
            found[name] = value if good else Mismatch("its JSON is not an object")
        return found

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _file(self, name: str) -> Path:
        return self.root / f"{name}.safetensors"


def _check_listed(name: str, tensor: Tensor, entry: Settings) -> None:
    shape, dtype = list(tensor.shape), str(tensor.dtype).removeprefix("torch.")
    if shape != entry.get("shape", shape) or dtype != entry.get("dtype", dtype):
        raise Mismatch(
            f"{name} is {dtype} {shape} in the file, {entry.get('dtype')} {entry.get('shape')} in "
            f"its JSON"
        )
