"""A stream's state as one safetensors file: settings in its metadata, memory in its tensors."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from causvid.generation.config import GenerationConfig
from causvid.generation.generator import Generator
from causvid.generation.geometry import LatentGrid
from causvid.generation.source import SourceChunk

VERSION = 1
_ENTRY = "causvid"


@dataclass(frozen=True)
class SnapshotSettings:
    """Everything about a stream that is not a tensor, JSON-ready.

    Args:
        config: the `GenerationConfig` as a dict.
        height, width: picture size in pixels.
        schedule: the prompt schedule's JSON form.
        seed: of the noise.
        next: the chunk to be made next.
        chunk_count: chunks in all, `None` for a stream without end.
        first_looks: the reference of the drift gauge.
        source: position and strength in the source of video-to-video.
        rebuilding: the past is half encoded anew under another prompt.
    """

    config: dict[str, Any]
    height: int
    width: int
    schedule: dict[str, Any]
    seed: int
    next: int
    chunk_count: int | None
    first_looks: dict[str, float] | None
    source: dict[str, Any] | None
    rebuilding: bool = False

    @property
    def generation(self) -> GenerationConfig:
        return GenerationConfig.from_dict(self.config)

    def check(self, generator: Generator) -> None:
        """
        Raises:
            ValueError: if the snapshot was taken with other settings or another size.
        """
        grid: LatentGrid = generator.grid
        pairs = {
            "height": (self.height, grid.height),
            "width": (self.width, grid.width),
            "settings": (self.generation, generator.config),
        }
        for name, (theirs, ours) in pairs.items():
            if theirs != ours:
                raise ValueError(
                    f"the snapshot was taken with {name} {theirs}, this stream has {ours}"
                )


def pack(settings: SnapshotSettings, tensors: Mapping[str, Tensor]) -> bytes:
    """The file's content."""
    state = {"version": VERSION, **dataclasses.asdict(settings)}
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return save(contiguous, metadata={_ENTRY: json.dumps(state)})


def unpack(snapshot: bytes | str | Path) -> tuple[SnapshotSettings, dict[str, Tensor]]:
    """Settings and tensors of a snapshot: the content of a file, or its path.

    Raises:
        ValueError: if it is no snapshot, or one of an unknown version.
    """
    data = snapshot if isinstance(snapshot, bytes) else Path(snapshot).read_bytes()
    try:
        tensors = load(data)
        length = int.from_bytes(data[:8], "little")  # of the JSON header, safetensors' format
        state = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][_ENTRY])
        version = state.pop("version")
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError("this is not a snapshot of a CausVid stream") from error
    if version != VERSION:
        raise ValueError(f"the snapshot has version {version}, this code reads {VERSION}")
    return SnapshotSettings(**state), tensors


def pack_pending(source: SourceChunk | None, latents: Tensor | None) -> dict[str, Tensor]:
    """What an interrupted chunk left, for a snapshot: name → tensor."""
    kept = {} if latents is None else {"pending.latents": latents.clone()}
    if source is not None:
        kept["pending.source"] = source.latents
        kept["pending.frames"] = torch.from_numpy(source.frames)
        kept["pending.strength"] = torch.tensor(source.strength, dtype=torch.float64)
    return kept


def unpack_pending(
    tensors: dict[str, Tensor], device: torch.device
) -> tuple[SourceChunk | None, Tensor | None]:
    """The inverse of `pack_pending`."""
    latents, source = tensors.get("pending.latents"), tensors.get("pending.source")
    chunk = None
    if source is not None:
        frames = tensors["pending.frames"].numpy()
        chunk = SourceChunk(source.to(device), frames, tensors["pending.strength"].item())
    return chunk, None if latents is None else latents.to(device)
