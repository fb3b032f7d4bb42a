"""From a model's name, folder or Hub id to a `CausVidPipeline` that streams.

What is missing is downloaded; models are built on `meta` and filled strictly. What can go wrong on
the way is a `PresetError` that names the cure. Memory is the caller's choice; `preflight` helps.
"""

import dataclasses
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKLWan
from transformers import UMT5EncoderModel

from causvid.generation.parameters import check_decoder
from causvid.model.checkpoint import (
    CheckpointError,
    State,
    fill,
    merge_lora,
    read_state,
    transformer_names,
)
from causvid.model.tiny_autoencoder import TinyAutoencoder
from causvid.model.transformer import CausalWanTransformer
from causvid.pipeline import CausVidPipeline
from causvid.presets.execution import Execution
from causvid.presets.folder import check_folder, check_loaded, check_part, load_tokenizer
from causvid.presets.hub import fetch
from causvid.presets.preset import HubFile, Preset, PresetError, again
from causvid.presets.registry import get_preset

Model = TypeVar("Model", CausalWanTransformer, TinyAutoencoder)

_PARTS_OF_BASE = ["vae/*", "text_encoder/*", "tokenizer/*"]


def load(
    model: str | Path | Preset,
    execution: Execution | None = None,
    *,
    tiny_decoder: bool = False,
    token: str | None = None,
    **settings: Any,
) -> CausVidPipeline:
    """Download what is missing, check it, and assemble the pipeline.

    Args:
        model: a preset's name, a folder that `train export` or `save_pretrained` wrote, or a Hub id
            `owner/name[@revision]` of such a folder; or a preset of your own.
        execution: on which device and in which arithmetic.
        tiny_decoder: also load a preset's small autoencoder. That of a folder always is.
        token: for gated or private weights; by default that of `hf auth login` or `HF_TOKEN`.
        settings: fields of `execution`, such as `device="cuda"` or `dtype=torch.float16`.

    Raises:
        PresetError: if there is no such model, files cannot be had, or are not what they should be.
        ValueError: if there is no tiny decoder, or it cannot be computed so.
    """
    execution = dataclasses.replace(execution or Execution(), **settings).resolved()
    preset = get_preset(model, token)
    dtype = execution.torch_dtype
    if preset.folder is None:
        check_decoder("tiny" if tiny_decoder else "full", has_tiny=preset.has_tiny_decoder)
        pipe = _assembled(preset, torch.device(execution.device), dtype, tiny_decoder, token)
    else:
        pipe = _from_folder(preset, dtype, token)
    execution.apply(pipe)
    return pipe


load_preset = load  # its name in version 0.1


def check_files(preset: Preset) -> None:
    """Whether the files of a model that is a folder here are whole; of others, nothing.

    Raises:
        PresetError: names the file and the cure.
    """
    if preset.folder is not None and preset.hub is None:
        with preset.cured():
            check_folder(preset.folder)


def _from_folder(preset: Preset, dtype: torch.dtype, token: str | None) -> CausVidPipeline:
    folder = preset.folder
    if preset.hub is not None:
        folder = fetch(preset.hub, f"{preset.name!r} needs its weights", token)
    assert folder is not None, "its weights are a folder"
    with preset.cured():
        check_folder(folder)
        tokenizer = load_tokenizer(folder)
        try:
            pipe = CausVidPipeline.from_pretrained(folder, dtype=dtype, tokenizer=tokenizer)
        except (OSError, ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise CheckpointError(f"{folder} cannot be loaded ({reason:.200})") from error
        check_loaded(folder, pipe.components)
    if preset.published is not None:
        pipe.register_to_config(generation=preset.published.to_dict())
    return pipe


def _assembled(
    preset: Preset, device: torch.device, dtype: torch.dtype, tiny_decoder: bool, token: str | None
) -> CausVidPipeline:
    """The parts of a base and of checkpoints, each downloaded when its turn comes."""
    assert preset.base is not None and preset.weights is not None, "its weights are no folder"
    name = f"preset {preset.name!r}"
    base = fetch(preset.base, f"{name} needs its components", token, patterns=_PARTS_OF_BASE)

    def read(file: HubFile) -> State:
        path = fetch(file, f"{name} needs {file.path}", token)
        try:
            return read_state(path, file.entries)
        except CheckpointError as error:
            raise PresetError(f"{name}: {error}; {again(path)}") from error

    def filled(model: Model, state: State, file: HubFile) -> Model:
        fill(model, state, source=file.url, device=device, dtype=dtype)
        return model.eval().requires_grad_(False)

    try:
        for part in ("text_encoder", "vae"):
            check_part(base, part)
        tokenizer = load_tokenizer(base)
    except CheckpointError as error:
        raise PresetError(f"{name}: {error}; {again(base)}") from error
    with init_empty_weights():
        transformer = CausalWanTransformer(**dataclasses.asdict(preset.transformer))
        tiny_vae = TinyAutoencoder() if tiny_decoder else None
    try:
        state = transformer_names(read(preset.weights))
        if preset.lora is not None:
            merge_lora(state, transformer_names(read(preset.lora)))
        transformer = filled(transformer, state, preset.weights)
        if tiny_vae is not None and preset.tiny_decoder is not None:
            tiny_vae = filled(tiny_vae, read(preset.tiny_decoder), preset.tiny_decoder)
    except CheckpointError as error:
        raise PresetError(f"{name}: {error}") from error
    pipe = CausVidPipeline(
        tokenizer=tokenizer,
        text_encoder=UMT5EncoderModel.from_pretrained(base / "text_encoder", dtype=dtype),
        transformer=transformer,
        vae=AutoencoderKLWan.from_pretrained(base / "vae", dtype=dtype),
        tiny_vae=tiny_vae,
        generation=preset.generation,
    )
    check_loaded(base, {**pipe.components, "transformer": None, "tiny_vae": None})
    return pipe
