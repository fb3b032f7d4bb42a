"""From a model's name, folder or Hub id to a `CausVidPipeline` that streams.

What is missing is downloaded; models are built on `meta` and filled strictly. What can go wrong on
the way is a `PresetError` that names the cure. Memory is the caller's choice; `preflight` helps.
"""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKLWan
from transformers import AutoTokenizer, UMT5EncoderModel

from causvid.generation.parameters import check_decoder
from causvid.model.checkpoint import (
    CheckpointError,
    fill,
    merge_lora,
    read_state,
    transformer_names,
)
from causvid.model.tiny_autoencoder import TinyAutoencoder
from causvid.model.transformer import CausalWanTransformer
from causvid.pipeline import CausVidPipeline
from causvid.presets.execution import Execution
from causvid.presets.hub import fetch_file, fetch_folder
from causvid.presets.preset import HubFile, Preset, PresetError
from causvid.presets.registry import get_preset

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


def fetch_base(preset: Preset, token: str | None = None) -> Path:
    """The local folder with a preset's codec, text encoder and tokenizer."""
    assert preset.base is not None, "a preset that is no folder has a base"
    what = f"preset {preset.name!r} needs its components"
    return fetch_folder(preset.base, _PARTS_OF_BASE, what, token)


def _from_folder(preset: Preset, dtype: torch.dtype, token: str | None) -> CausVidPipeline:
    preset.read_index()  # says what is wrong before diffusers does
    folder = preset.folder
    if preset.hub is not None:
        folder = fetch_folder(preset.hub, None, f"{preset.name!r} needs its weights", token)
    try:
        pipe = CausVidPipeline.from_pretrained(folder, dtype=dtype)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise PresetError(
            f"the weights of {preset.name!r} in {folder} cannot be loaded ({reason:.200}): check "
            f"that the folder was exported, copied or cloned completely"
        ) from error
    if preset.published is not None:
        pipe.register_to_config(generation=preset.published.to_dict())
    return pipe


def _assembled(
    preset: Preset, device: torch.device, dtype: torch.dtype, tiny_decoder: bool, token: str | None
) -> CausVidPipeline:
    base = fetch_base(preset, token)
    return CausVidPipeline(
        tokenizer=AutoTokenizer.from_pretrained(base / "tokenizer"),
        text_encoder=UMT5EncoderModel.from_pretrained(base / "text_encoder", dtype=dtype),
        transformer=_transformer(preset, device, dtype, token),
        vae=AutoencoderKLWan.from_pretrained(base / "vae", dtype=dtype),
        tiny_vae=_tiny_autoencoder(preset, device, dtype, token) if tiny_decoder else None,
        generation=preset.generation,
    )


def _transformer(
    preset: Preset, device: torch.device, dtype: torch.dtype, token: str | None
) -> CausalWanTransformer:
    assert preset.weights is not None, "a preset that is no folder has weights"
    path = _fetch(preset, preset.weights, token)
    lora = _fetch(preset, preset.lora, token) if preset.lora else None
    with init_empty_weights():
        model = CausalWanTransformer(**dataclasses.asdict(preset.transformer))
    try:
        state = transformer_names(read_state(path, preset.weights.entries))
        if lora is not None and preset.lora is not None:
            merge_lora(state, transformer_names(read_state(lora, preset.lora.entries)))
        fill(model, state, source=preset.weights.url, device=device, dtype=dtype)
    except CheckpointError as error:
        raise PresetError(f"preset {preset.name!r}: {error}") from error
    return model.eval().requires_grad_(False)


def _tiny_autoencoder(
    preset: Preset, device: torch.device, dtype: torch.dtype, token: str | None
) -> TinyAutoencoder:
    assert preset.tiny_decoder is not None, "it was asked for and checked"
    with init_empty_weights():
        model = TinyAutoencoder()
    try:
        path = _fetch(preset, preset.tiny_decoder, token)
        state = read_state(path, preset.tiny_decoder.entries)
        fill(model, state, source=preset.tiny_decoder.url, device=device, dtype=dtype)
    except CheckpointError as error:
        raise PresetError(f"preset {preset.name!r}: {error}") from error
    return model.eval().requires_grad_(False)


def _fetch(preset: Preset, file: HubFile, token: str | None) -> Path:
    return fetch_file(file, f"preset {preset.name!r} needs {file.path}", token)
