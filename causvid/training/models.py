"""Models of the recipe: new ones from settings, finished ones into a diffusers folder."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import torch
from diffusers import AutoencoderKLWan
from diffusers.configuration_utils import FrozenDict
from torch import nn
from transformers import PreTrainedTokenizerBase, UMT5EncoderModel

from causvid.generation.config import GenerationConfig
from causvid.model.checkpoint import parameter_dtype
from causvid.model.tiny_autoencoder import TinyAutoencoder
from causvid.model.transformer import CausalWanTransformer
from causvid.model.weight_files import write_checksums
from causvid.pipeline import CausVidPipeline
from causvid.presets.hub import fetch
from causvid.presets.preset import HubFolder, Preset
from causvid.presets.registry import get_preset
from causvid.training.recipes import TransformerShape
from causvid.training.teacher_model import TeacherModel
from causvid.world.tokenizer import tiny_text_encoder

_BASE_PARTS = ["transformer/*", "vae/*", "text_encoder/*", "tokenizer/*"]
# Of diffusers' `WanTransformer3DModel` alone.
_FOREIGN = ("image_dim", "added_kv_proj_dim", "rope_max_seq_len", "pos_embed_seq_len")
_SHARD = "9MB"
"""Largest file of an export: what a Git host takes without large-file storage, with room."""


Model = TypeVar("Model", bound=nn.Module)


def new_model(shape: TransformerShape, vocabulary: int, seed: int) -> TeacherModel:
    """A randomly initialised transformer with its text encoder, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer = CausalWanTransformer(**asdict(shape))
        # Nothing is predicted at first, so the loss starts at that of the mean.
        torch.nn.init.zeros_(transformer.proj_out.weight)
        torch.nn.init.zeros_(transformer.proj_out.bias)
        return TeacherModel(transformer, tiny_text_encoder(vocabulary, width=shape.text_dim))


def export(
    folder: Path,
    student: TeacherModel,
    teacher: TeacherModel | None,
    vae: AutoencoderKLWan | TinyAutoencoder,
    tokenizer: PreTrainedTokenizerBase,
    generation: GenerationConfig,
    *,
    published: bool = False,
) -> None:
    """Write a pipeline folder, the teacher's transformer beside it in `teacher/`.

    Args:
        student: with the text encoder of both, as that is trained with the teacher only.
        teacher: `None` where it is the base's.
        published: whether the base is a published model, which needs the range of bfloat16. Others
            are in float16, in files that a Git host takes.
    """
    shard = "5GB" if published else _SHARD
    CausVidPipeline(
        tokenizer=tokenizer,
        text_encoder=_lowered(student.text_encoder, published),
        transformer=_lowered(student.transformer, published),
        vae=_lowered(vae, published),
        generation=generation,
    ).save_pretrained(folder, max_shard_size=shard)
    if teacher is not None:
        transformer = _lowered(teacher.transformer, published)
        transformer.save_pretrained(folder / "teacher", max_shard_size=shard)
    for path in folder.glob("*/config.json"):
        config = json.loads(path.read_text(encoding="utf-8"))
        config.pop("_name_or_path", None)  # where weights were loaded from is nobody's business
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    write_checksums(folder)


def _lowered(model: Model, published: bool) -> Model:
    if not published:
        nn.Module.to(model, torch.float16)
        return model
    for name, weight in model.named_parameters():
        weight.data = weight.to(parameter_dtype(model, name, torch.bfloat16))
    return model


def base_folder(base: str | None, preset: Preset) -> Path:
    """A text-to-video model in diffusers' layout: a local folder, or a Hub repository's copy.

    Args:
        base: a folder or repository in place of the preset's base.

    Raises:
        PresetError: if it can neither be found nor downloaded.
    """
    if base is not None and Path(base).is_dir():
        return Path(base)
    repository = preset.base if base is None else HubFolder(base)
    if repository is None:
        raise ValueError(f"the preset {preset.name!r} has no base: pass --base FOLDER")
    return fetch(repository, "training needs its base", patterns=_BASE_PARTS)


def exported_folder(model: str) -> Path:
    """The folder of a model that `train export` wrote, by a preset's name, its path or a Hub id.

    Raises:
        ValueError: if there is no such model, or it is not in one folder.
    """
    preset = get_preset(model)
    if preset.hub is not None:
        return fetch(preset.hub, f"training takes {model!r}")
    if preset.folder is None:
        raise ValueError(
            f"{model!r} is no folder that `train export` wrote, but parts on the Hub: pass such a "
            "folder, or train with a recipe that has a --base"
        )
    return preset.folder


def load_exported(folder: Path, *, teacher: bool) -> TeacherModel:
    """The student or the teacher of an exported folder with its text encoder, in float32."""
    part = "teacher" if teacher else "transformer"
    return TeacherModel(load_transformer(folder / part), load_text_encoder(folder))


def load_transformer(folder: Path, dtype: torch.dtype = torch.float32) -> CausalWanTransformer:
    """A transformer of ours, or one of diffusers' Wan 2.1 text-to-video models."""
    model = CausalWanTransformer.from_pretrained(folder, torch_dtype=dtype)
    own = {name: value for name, value in model.config.items() if name not in _FOREIGN}
    model._internal_dict = FrozenDict(own)  # or every folder written from it would be warned of
    return model


def load_text_encoder(folder: Path, dtype: torch.dtype = torch.float32) -> UMT5EncoderModel:
    return UMT5EncoderModel.from_pretrained(folder / "text_encoder", torch_dtype=dtype)


def load_codec(folder: Path) -> AutoencoderKLWan | TinyAutoencoder:
    """The weights of a codec folder, in float32, of the class that it names."""
    name = json.loads((folder / "config.json").read_text(encoding="utf-8"))["_class_name"]
    kind = AutoencoderKLWan if name == AutoencoderKLWan.__name__ else TinyAutoencoder
    return kind.from_pretrained(folder, torch_dtype=torch.float32).eval().requires_grad_(False)
