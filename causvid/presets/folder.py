"""A model's folder in diffusers' layout, checked file by file before anything is built from it.

diffusers and transformers answer a damaged file with whatever they stumble over, and a NaN not at
all. Here every way to be wrong is one `CheckpointError` that names the file; `loading.py` adds the
cure. Weights are compared with the configuration by their headers, so this reads no tensor, except
where the folder has checksums.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase, UMT5Config, UMT5EncoderModel

from causvid.model.checkpoint import check_finite, check_fit, with_tied
from causvid.model.tiny_autoencoder import TinyAutoencoder
from causvid.model.transformer import CausalWanTransformer
from causvid.model.weight_files import (
    CheckpointError,
    Stored,
    read_header,
    read_json,
    verify_checksums,
)

INDEX = "model_index.json"
_KINDS: dict[str, tuple[type[nn.Module], ...]] = {
    "transformer": (CausalWanTransformer,),
    "vae": (AutoencoderKLWan, TinyAutoencoder),
    "tiny_vae": (TinyAutoencoder,),
    "text_encoder": (UMT5EncoderModel,),
}
TEACHER = "teacher"  # beside the parts of a model that was distilled; not one of its components
_LIBRARIES = ("causvid", "diffusers", "transformers")
_STEMS = {"text_encoder": "model"}  # transformers' name of a weight file; diffusers' is the other
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")


def check_folder(folder: Path) -> None:
    """Whether a folder that `save_pretrained` wrote is whole, and its parts belong together.

    Raises:
        CheckpointError: names the file, and says what is wrong with it.
    """
    index = read_json(folder / INDEX)
    parts = [part for part in _KINDS if part != "tiny_vae" or has_part(index, part)]
    for part in [*parts, "tokenizer"]:
        library, kind = _named(index.get(part))
        known = [type_.__name__ for type_ in _KINDS.get(part, ())]
        if library.partition(".")[0] not in _LIBRARIES or (known and kind not in known):
            expected = " or ".join(known) or "a tokenizer of transformers"
            raise CheckpointError(
                f"{folder / INDEX} names {library}.{kind} as its {part}; expected {expected}"
            )
    verify_checksums(folder, [INDEX, *parts, "tokenizer"])
    models = {part: check_part(folder, part, _named(index[part])[1]) for part in parts}
    transformer, vae, encoder = (
        cast(Any, models[part]).config for part in ("transformer", "vae", "text_encoder")
    )
    width = encoder.d_model
    if transformer.text_dim != width:
        raise CheckpointError(
            f"{folder}/transformer reads texts of width {transformer.text_dim}, and text_encoder "
            f"makes them of width {width}: they are of two models"
        )
    channels = vae.latent_channels if "latent_channels" in vae else vae.z_dim
    if transformer.in_channels != channels:
        raise CheckpointError(
            f"{folder}/transformer reads {transformer.in_channels} latent channels, and vae makes "
            f"{channels}: they are of two models"
        )


def check_teacher(folder: Path) -> None:
    """Whether the teacher beside a distilled model is whole, and what it was when exported.

    Raises:
        CheckpointError: names the file, and says what is wrong with it.
    """
    verify_checksums(folder, [TEACHER])
    check_part(folder, TEACHER)


def check_part(folder: Path, part: str, kind: str | None = None) -> nn.Module:
    """Whether the weights of one part are whole and those of its configuration.

    Args:
        kind: the name of its class, if something says so.

    Returns:
        The part on the `meta` device: names and shapes, no memory.
    """
    model = empty_part(folder, part)
    if kind not in (None, type(model).__name__):
        raise CheckpointError(
            f"{folder / part / 'config.json'} describes a {type(model).__name__}, and {INDEX} "
            f"says that it is a {kind}"
        )
    stored: dict[str, Stored] = {}
    files = weight_files(folder / part, part)
    for file in files:
        stored |= read_header(file)
    check_fit(model.state_dict(), with_tied(model, stored), type(model).__name__, files[0])
    return model


def empty_part(folder: Path, part: str) -> nn.Module:
    """A part as its config.json describes it, on the `meta` device.

    Raises:
        CheckpointError: if that describes none.
    """
    path = folder / part / "config.json"
    config, kinds = read_json(path), _KINDS["transformer" if part == TEACHER else part]
    with _wrong_settings(path), torch.device("meta"):
        if part == "text_encoder":
            if config.get("model_type") != "umt5":
                raise ValueError(f"its model_type is {config.get('model_type')!r}, not 'umt5'")
            return UMT5EncoderModel(UMT5Config.from_dict(config))
        kind = {type_.__name__: type_ for type_ in kinds}.get(config.get("_class_name", ""))
        if kind is None:
            names = " or ".join(type_.__name__ for type_ in kinds)
            raise ValueError(f"its _class_name is {config.get('_class_name')!r}, not {names}")
        return kind.from_config(config)  # type: ignore[attr-defined]


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model's folder.

    Raises:
        CheckpointError: if its files are missing or damaged.
    """
    folder = folder / "tokenizer"
    for name in ("tokenizer_config.json", "tokenizer.json"):
        if name == "tokenizer_config.json" or not (folder / "spiece.model").exists():
            read_json(folder / name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer("a").input_ids  # noqa: B018 (some damages show only now)
    except Exception as error:  # the Rust library raises `Exception` itself
        raise CheckpointError(f"{folder / 'tokenizer.json'} is damaged ({_line(error)})") from error
    return tokenizer


def check_loaded(folder: Path, components: dict[str, Any]) -> None:
    """What only loaded weights show: numbers that are none, and words without an embedding.

    Raises:
        CheckpointError: names the file.
    """
    for part in _KINDS:
        model = components.get(part)
        if isinstance(model, nn.Module):
            files, state = weight_files(folder / part, part), model.state_dict()
            for file in files:
                own: dict[str, Tensor] = {k: state[k] for k in read_header(file) if k in state}
                check_finite(own, file)
    words, rows = len(components["tokenizer"]), components["text_encoder"].config.vocab_size
    if words > rows:
        raise CheckpointError(
            f"{folder / 'tokenizer' / 'tokenizer.json'} has {words} words, and the text encoder "
            f"knows {rows}: they are of two models"
        )


def weight_files(folder: Path, part: str) -> list[Path]:
    """The safetensors files of a part: one, or the shards of its index.

    Raises:
        CheckpointError: if there are none; says what is there instead.
    """
    name = f"{_STEMS.get(part, 'diffusion_pytorch_model')}.safetensors"
    index = folder / f"{name}.index.json"
    if index.exists():
        shards = read_json(index).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise CheckpointError(f"{index} is damaged: it lists no shards")
        names = sorted({str(shard) for shard in shards.values()})
        if foreign := [shard for shard in names if Path(shard).name != shard]:
            raise CheckpointError(f"{index} names {foreign[0]!r}, which is outside of its folder")
        return [folder / shard for shard in names]
    found = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
    if name not in found and (pickles := [it for it in found if it.endswith(_PICKLES)]):
        raise CheckpointError(
            f"{folder / pickles[0]} is a pickle, which can run any code and is never loaded: "
            f"convert it to {name} where you trust it"
        )
    if name not in found and (others := [it for it in found if it.endswith(".safetensors")]):
        raise CheckpointError(
            f"there is no file {folder / name}, but {others[0]}: if these are the weights, "
            f"rename it"
        )
    return [folder / name]


def has_part(index: dict[str, Any], part: str) -> bool:
    """Whether a model_index.json names a class for `part`."""
    return _named(index.get(part)) != ("None", "None")


def _named(entry: object) -> tuple[str, str]:
    """The library and the class of a component, as text whatever they are."""
    entry = entry if isinstance(entry, list | tuple) and len(entry) == 2 else (None, None)
    return str(entry[0]), str(entry[1])


@contextmanager
def _wrong_settings(path: Path) -> Iterator[None]:
    """Whatever a constructor stumbles over is the fault of the file with its arguments."""
    try:
        yield
    except Exception as error:
        raise CheckpointError(f"{path} describes no model ({_line(error)})") from error


def _line(error: Exception) -> str:
    return f"{(str(error).strip() or type(error).__name__).splitlines()[0]:.200}"
