"""What a preset is: where a model's weights are, what may be done with them, how they generate."""

import functools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from causvid.generation.config import GenerationConfig
from causvid.generation.geometry import Size
from causvid.generation.parameters import Mode
from causvid.model.weight_files import CheckpointError, read_json
from causvid.resources import REVISIONS, ROOT


class PresetError(ValueError):
    """A model that does not exist or cannot be loaded; the message says what to do."""


@dataclass(frozen=True)
class HubFolder:
    """A repository in diffusers' layout, pinned to a commit where one is known."""

    repo: str
    revision: str | None = None

    @property
    def commit(self) -> str | None:
        """What is loaded; `None` for the newest."""
        return self.revision or _deployed_revisions().get(self.repo)

    @property
    def url(self) -> str:
        return f"https://huggingface.co/{self.repo}/tree/{self.commit or 'main'}"


@dataclass(frozen=True, kw_only=True)
class HubFile(HubFolder):
    """One file of a repository.

    Args:
        entries: nesting keys inside a checkpoint, best first; see `checkpoint.read_state`.
    """

    path: str
    entries: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        return f"https://huggingface.co/{self.repo}/blob/{self.commit or 'main'}/{self.path}"


@functools.cache
def _deployed_revisions() -> dict[str, str]:
    path = ROOT / REVISIONS
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def again(path: Path) -> str:
    """How to have a file or a folder of the Hub downloaded anew."""
    # In a Hub cache: models--OWNER--NAME/snapshots/COMMIT/…, links into models--OWNER--NAME/blobs.
    snapshots = next((p for p in path.parents if p.name == "snapshots"), None)
    return f"delete {snapshots.parent if snapshots else path}, and it is downloaded again"


@dataclass(frozen=True)
class Licence:
    """What the weights may be used for, to be shown wherever they are offered."""

    name: str
    url: str
    commercial_use: bool
    note: str = ""


@dataclass(frozen=True)
class TransformerSize:
    """The sizes of a Wan 2.1 text-to-video transformer; the default is 1.3B."""

    num_layers: int = 30
    num_attention_heads: int = 12
    attention_head_dim: int = 128
    ffn_dim: int = 8960
    freq_dim: int = 256
    text_dim: int = 4096
    text_length: int = 512


@dataclass(frozen=True)
class Preset:
    """One named model. Its weights are a folder, or parts on the Hub.

    Args:
        name: what users type.
        title: what users read.
        source: the paper or project that the weights come from.
        licence: of the weights.
        published: how it generates; `None` where that travels with `folder`.
        weights: the transformer's checkpoint.
        lora: an adapter to merge into it (α equal to its rank, as all published ones here).
        transformer: the transformer's size.
        base: where codec, text encoder and tokenizer come from.
        tiny_decoder: a small autoencoder of the same latent space.
        modes: what it can be asked for.
        sizes: picture sizes of equal cost, the trained one first.
        mixed_sizes: whether all of `sizes` were trained, not the first alone.
        notes: where we differ from the published sampler, and other things to know.
        folder: a local folder that `CausVidPipeline.save_pretrained` wrote, with everything.
        hub: the repository that `folder` is the local copy of; its weights may not be there yet.
    """

    name: str
    title: str
    source: str
    licence: Licence
    published: GenerationConfig | None = None
    weights: HubFile | None = None
    lora: HubFile | None = None
    transformer: TransformerSize = TransformerSize()
    base: HubFolder | None = None
    tiny_decoder: HubFile | None = None
    modes: tuple[Mode, ...] = ("text", "image", "video")
    sizes: tuple[Size, ...] = ()
    mixed_sizes: bool = False
    notes: str = ""
    folder: Path | None = None
    hub: HubFolder | None = None

    # Of the library that reads presets from a file: a misspelt field is an error.
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    @property
    def generation(self) -> GenerationConfig:
        """How it generates.

        Raises:
            PresetError: if that should be in `folder` and is not.
        """
        if self.published is not None:
            return self.published
        index = self.read_json()
        try:
            return GenerationConfig.from_dict(index["generation"])
        except (KeyError, TypeError, ValueError) as error:
            raise PresetError(
                f"the model_index.json in {self.folder} does not say how the model generates "
                f"({error}): export it again, with this version"
            ) from error

    @property
    def native_image(self) -> bool:
        """Whether a picture can be the first latent frame itself, not repeated to fill a chunk."""
        return "image" in self.modes and self.generation.chunks.first == 1

    @property
    def has_tiny_decoder(self) -> bool:
        """Whether there is a small autoencoder beside the full one."""
        if self.folder is None:
            return self.tiny_decoder is not None
        return self.read_json().get("tiny_vae", [None, None])[1] is not None

    def repositories(self) -> dict[str, str | None]:
        """The Hub repositories that it is loaded from → commit, `None` for the newest."""
        parts = (self.weights, self.lora, self.base, self.tiny_decoder, self.hub)
        return {part.repo: part.commit for part in parts if part is not None}

    def read_json(self, path: str = "model_index.json") -> dict[str, Any]:
        """What a file in `folder` says; by default its components, and how it generates.

        Raises:
            PresetError: if it is not there, or is damaged.
        """
        assert self.folder is not None, "only local models are read"
        with self.cured():
            return read_json(self.folder / path)

    @contextmanager
    def cured(self) -> Iterator[None]:
        """What is wrong with a file of `folder`, with what to do about it.

        Raises:
            PresetError: in place of a `CheckpointError`.
        """
        try:
            yield
        except CheckpointError as error:
            if self.hub is not None:
                cure = again(self.folder or Path())
            elif self.folder is not None and self.folder.is_relative_to(ROOT):
                cure = "restore it with `git checkout`, or install the package again"
            else:
                cure = "check that the folder was exported, copied or cloned completely"
            raise PresetError(f"{self.name!r} cannot be used: {error}; {cure}") from error
