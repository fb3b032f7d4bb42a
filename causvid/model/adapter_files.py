"""Where a LoRA comes from: a file, a folder with one, or a repository on the Hub."""

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download, model_info
from huggingface_hub.errors import EntryNotFoundError, HTTPError, OfflineModeIsEnabled
from safetensors import safe_open
from torch import Tensor

from causvid.model.adapters import some
from causvid.model.checkpoint import read_state
from causvid.model.weight_files import CheckpointError, container, read_json

_OF_A_FOLDER = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")
_OPTIONS = ("revision", "token", "cache_dir", "subfolder", "force_download", "local_files_only")


def open_adapter(
    path: Path, weight_name: str | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a file, or of the file in a folder, and PEFT's settings beside or in it.

    Raises:
        CheckpointError: if there is no such file, or it cannot be read.
    """
    if path.is_dir():
        path = path / (weight_name or _only([file.name for file in path.iterdir()], path))
    settings: dict[str, Any] = {}
    state = read_state(path)
    if container(path) == "safetensors":
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("lora_adapter_metadata", "{}")
        try:
            stated = dict(json.loads(text))
        except (ValueError, TypeError):
            stated = {}  # somebody else's
        settings = {key.removeprefix("transformer."): value for key, value in stated.items()}
    if not settings and (beside := path.with_name("adapter_config.json")).exists():
        settings = read_json(beside)
    return state, settings


def download_adapter(repo: str, weight_name: str | None = None, **options: Any) -> Path:
    """The local copy of a LoRA on the Hub, PEFT's settings beside it if it has some.

    Args:
        options: some are `hf_hub_download`'s: revision, token, subfolder, cache_dir, ….

    Raises:
        CheckpointError: if it cannot be had, or `weight_name` is needed.
    """
    options = {name: value for name, value in options.items() if name in _OPTIONS}
    try:
        if weight_name is None:
            about = {name: options[name] for name in ("revision", "token") if name in options}
            files = [file.rfilename for file in model_info(repo, **about).siblings or ()]
            within = f"{options['subfolder']}/" if options.get("subfolder") else ""
            found = [name.removeprefix(within) for name in files if name.startswith(within)]
            weight_name = _only([n for n in found if "/" not in n], repo)
        path = Path(hf_hub_download(repo, weight_name, **options))
        with contextlib.suppress(EntryNotFoundError):
            hf_hub_download(repo, "adapter_config.json", **options)
    except CheckpointError:
        raise
    except (HTTPError, OfflineModeIsEnabled, OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(
            f"the LoRA {repo} could not be had from the Hub ({reason:.200}): check its name, or "
            f"download it and pass the file"
        ) from error
    return path


def _only(names: Iterable[str], source: str | Path) -> str:
    """The one LoRA among the files of a folder.

    Raises:
        CheckpointError: if there is none, or it is not clear which.
    """
    found = sorted(name for name in names if name.lower().endswith(".safetensors"))
    usual = [name for name in _OF_A_FOLDER if name in found]
    if len(found) != 1 and not usual:
        which = f" ({some(found)}): name one as weight_name" if found else "; expected a LoRA"
        raise CheckpointError(f"{source} holds {len(found)} .safetensors files{which}")
    return (usual or found)[0]
