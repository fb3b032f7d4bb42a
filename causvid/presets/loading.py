"""Presets by name, and loading them.

`load_preset` makes a `CausVidPipeline` out of a catalogue entry: it downloads what is missing,
builds on `meta`, fills strictly. What can go wrong on the way is a `PresetError` that names the
cure. Devices and memory are the caller's choice; `preflight` helps with it.
"""

import dataclasses
import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKLWan
from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from torch import nn
from transformers import AutoTokenizer, UMT5EncoderModel

from causvid.model.checkpoint import (
    CheckpointError,
    fill,
    merge_lora,
    read_state,
    transformer_names,
)
from causvid.model.lowering import lower_decoder, lower_transformer, native_bfloat16
from causvid.model.tiny_autoencoder import TinyAutoencoder
from causvid.model.transformer import CausalWanTransformer
from causvid.pipeline import CausVidPipeline
from causvid.presets.catalogue import POCKET, PRESETS, SELF_FORCING, HubFile, Preset, PresetError

__all__ = [
    "PRESETS",
    "Preset",
    "PresetError",
    "default_preset",
    "describe",
    "get_preset",
    "load_preset",
]


def get_preset(name: str) -> Preset:
    """The preset called `name`.

    Raises:
        PresetError: with the names that come closest.
    """
    try:
        return PRESETS[name]
    except KeyError:
        near = difflib.get_close_matches(name, PRESETS, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}? There are" if near else "there are"
        raise PresetError(f"there is no preset {name!r}; {hint} {', '.join(PRESETS)}") from None


def default_preset(device: torch.device | str) -> Preset:
    """What to offer on a device when nothing was asked for: the pocket model without a GPU."""
    return POCKET if torch.device(device).type == "cpu" else SELF_FORCING


def describe(preset: Preset) -> dict[str, Any]:
    """What a user may want to know of a preset before loading it, JSON-ready."""
    return {
        "name": preset.name,
        "title": preset.title,
        "source": preset.source,
        "modes": list(preset.modes),
        "sizes": [{"width": size.width, "height": size.height} for size in preset.sizes],
        "native_image": preset.native_image,
        "tiny_decoder": preset.tiny_decoder is not None,
        "licence": dataclasses.asdict(preset.licence),
        "weights": dataclasses.asdict(preset.weights) if preset.weights else None,
        "generation": preset.generation.to_dict(),
        "notes": preset.notes,
    }


def load_preset(
    preset: str | Preset,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    tiny_decoder: bool = False,
    text_encoder_device: torch.device | str | None = None,
    token: str | None = None,
) -> CausVidPipeline:
    """Download what is missing, check it, and assemble the pipeline.

    Args:
        preset: a name from `PRESETS`, or a preset of your own.
        device: where the models go.
        dtype: of all weights; by default bfloat16 on a GPU, and float32 on a CPU, whose matrix
            products and convolutions are in bfloat16 where the processor has it
            (`causvid.model.lowering`). Norms and embeddings that need float32 keep it.
        tiny_decoder: also load the preset's small autoencoder.
        text_encoder_device: where prompts are encoded, `device` by default. The CPU saves 11 GB
            of GPU memory for the Wan models and costs seconds per new prompt.
        token: for gated or private weights; by default that of `hf auth login` or `HF_TOKEN`.

    Raises:
        PresetError: if files cannot be had, or are not what the preset says.
    """
    preset = get_preset(preset) if isinstance(preset, str) else preset
    device = torch.device(device)
    asked, dtype = dtype, dtype or default_dtype(device)
    if tiny_decoder and preset.tiny_decoder is None:
        raise PresetError(f"{preset.name!r} has no tiny decoder: load it without")
    if preset.folder is not None:
        preset.read_folder("model_index.json")
        pipe = CausVidPipeline.from_pretrained(preset.folder, dtype=dtype)
    else:
        base = fetch_base(preset, token)
        pipe = CausVidPipeline(
            tokenizer=AutoTokenizer.from_pretrained(base / "tokenizer"),
            text_encoder=UMT5EncoderModel.from_pretrained(base / "text_encoder", dtype=dtype),
            transformer=_transformer(preset, device, dtype, token),
            vae=AutoencoderKLWan.from_pretrained(base / "vae", dtype=dtype),
            tiny_vae=_tiny_autoencoder(preset, device, dtype, token) if tiny_decoder else None,
            generation=preset.generation,
        )
    for name, module in pipe.components.items():
        if isinstance(module, nn.Module):  # one by one: the text encoder may never fit `device`
            elsewhere = name == "text_encoder" and text_encoder_device is not None
            module.to(text_encoder_device if elsewhere else device)
    if asked is None:
        lower_on_cpu(pipe, device)
    return pipe


def default_dtype(device: torch.device | str) -> torch.dtype:
    """What weights are kept in where nothing else is asked for."""
    return torch.float32 if torch.device(device).type == "cpu" else torch.bfloat16


def lower_on_cpu(pipe: CausVidPipeline, device: torch.device | str) -> None:
    """Lower products and convolutions of a float32 pipeline, in place, if `device` is a CPU that
    has bfloat16; see `causvid.model.lowering`."""
    if torch.device(device).type != "cpu" or not native_bfloat16():
        return
    lower_transformer(pipe.transformer)
    for vae in (pipe.vae, pipe.tiny_vae):
        if isinstance(vae, TinyAutoencoder):
            lower_decoder(vae)


def fetch(preset: Preset, file: HubFile, token: str | None = None) -> Path:
    """The local copy of one of a preset's files, downloaded if need be."""
    with _readable(preset, file.repo, file.path):
        return Path(hf_hub_download(file.repo, file.path, revision=file.commit, token=token))


def fetch_base(preset: Preset, token: str | None = None) -> Path:
    """The local folder with a preset's codec, text encoder and tokenizer."""
    patterns = ["vae/*", "text_encoder/*", "tokenizer/*"]
    with _readable(preset, preset.base.repo, "its components"):
        folder = snapshot_download(
            preset.base.repo,
            revision=preset.base.commit,
            allow_patterns=patterns,
            token=token,
        )
    return Path(folder)


def _transformer(
    preset: Preset, device: torch.device, dtype: torch.dtype, token: str | None
) -> CausalWanTransformer:
    path = fetch(preset, preset.weights, token)
    lora = fetch(preset, preset.lora, token) if preset.lora else None
    with init_empty_weights():
        model = CausalWanTransformer(**dataclasses.asdict(preset.transformer))
    try:
        state = transformer_names(read_state(path, preset.weights.entries))
        if lora is not None:
            merge_lora(state, transformer_names(read_state(lora, preset.lora.entries)))
        fill(model, state, source=preset.weights.url, device=device, dtype=dtype)
    except CheckpointError as error:
        raise PresetError(f"preset {preset.name!r}: {error}") from error
    return model.eval().requires_grad_(False)


def _tiny_autoencoder(
    preset: Preset, device: torch.device, dtype: torch.dtype, token: str | None
) -> TinyAutoencoder:
    with init_empty_weights():
        model = TinyAutoencoder()
    try:
        path = fetch(preset, preset.tiny_decoder, token)
        state = read_state(path, preset.tiny_decoder.entries)
        fill(model, state, source=preset.tiny_decoder.url, device=device, dtype=dtype)
    except CheckpointError as error:
        raise PresetError(f"preset {preset.name!r}: {error}") from error
    return model.eval().requires_grad_(False)


@contextmanager
def _readable(preset: Preset, repo: str, what: str) -> Iterator[None]:
    """Turn the many ways a download can fail into one sentence with a cure."""
    page = f"https://huggingface.co/{repo}"
    try:
        yield
        return
    except GatedRepoError as error:
        cause, cure = (
            error,
            f"accept the conditions on {page} and log in with `hf auth login`, or set HF_TOKEN",
        )
    except RepositoryNotFoundError as error:
        cause, cure = (
            error,
            f"{page} is gone or private; if it is yours, `hf auth login` or set HF_TOKEN",
        )
    except RevisionNotFoundError as error:
        cause, cure = error, f"the pinned revision is gone; pick another on {page}/commits/main"
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, ConnectionError) as error:
        cause, cure = (
            error,
            (
                "the Hub cannot be reached and there is no local copy; connect once (and unset "
                "HF_HUB_OFFLINE), or copy a Hub cache here and point HF_HOME at it"
            ),
        )
    except EntryNotFoundError as error:
        cause, cure = error, f"the repository has no such file any more; see {page}/tree/main"
    except HfHubHTTPError as error:
        cause, cure = error, f"the Hub answered with an error, try again later ({error})"
    except OSError as error:
        cause, cure = error, f"it could not be stored ({error}); free some disk space"
    raise PresetError(
        f"preset {preset.name!r} needs {what} from {repo}, which could not be had: {cure}"
    ) from cause
