"""From what a user types to a preset: a name, a local folder, or a Hub id `owner/name[@revision]`.

Names are those of the catalogue, of installed packages (entry points of the group
`causvid.presets`, each a `Preset` of that name), and of a JSON file that `CAUSVID_PRESETS` names:

    {"mine": {"like": "self-forcing", "title": "Mine", "generation": {"window": 12}},
     "student": {"like": "./runs/student", "notes": "Trained on boats."}}

There `like` is anything that a model can be asked for by, a folder relative to the file; what else
is said replaces the field of `Preset` of that name.
"""

import dataclasses
import difflib
import json
import os
import re
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCard
from pydantic import TypeAdapter, ValidationError

from causvid.generation.geometry import Size
from causvid.generation.parameters import Mode
from causvid.presets.catalogue import POCKET, POCKET_2, PRESETS, SELF_FORCING
from causvid.presets.hub import fetch
from causvid.presets.preset import HubFolder, Licence, Preset, PresetError

FILE = "CAUSVID_PRESETS"
GROUP = "causvid.presets"
_HUB_ID = re.compile(r"(?P<repo>\w[\w.-]*/[\w.-]+)(@(?P<revision>[\w./-]+))?")
_SMALL_FILES = ["*.json", "tokenizer/*", "README.md"]


def get_preset(model: str | Path | Preset, token: str | None = None) -> Preset:
    """The model that is meant; of a Hub id, all but the weights is downloaded.

    Args:
        model: a name, a folder that `train export` or `save_pretrained` wrote, or a Hub id.
        token: for a gated or private repository; by default that of `hf auth login`.

    Raises:
        PresetError: with the names that come closest, or what is wrong with the folder.
    """
    if isinstance(model, Preset):
        return model
    name = str(model)
    if name in PRESETS:
        return PRESETS[name]
    known = list_presets()
    if name in known:
        return known[name]
    if isinstance(model, Path) or os.sep in name or Path(name).is_dir():
        return _unnamed(model, token)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? There are" if near else "there are"
    raise PresetError(
        f"there is no preset {name!r}; {hint} {', '.join(known)}, folders, and Hub ids owner/name"
    )


def list_presets() -> dict[str, Preset]:
    """All named presets, by name: those of the catalogue first.

    Raises:
        PresetError: if an installed package or the file offers what is none.
    """
    presets = dict(PRESETS)
    for entry in entry_points(group=GROUP):
        try:
            preset = entry.load()
        except Exception as error:  # whatever another package's import may raise
            raise PresetError(
                f"the preset {entry.name!r} of {entry.value} cannot be loaded: {error}"
            ) from error
        if not isinstance(preset, Preset) or preset.name != entry.name:
            raise PresetError(
                f"{entry.value} is offered as the preset {entry.name!r}; expected a Preset of that "
                f"name, got {preset!r:.80}"
            )
        presets.setdefault(preset.name, preset)
    if file := os.environ.get(FILE):
        for preset in read_presets(file):
            if preset.name in presets:
                raise PresetError(f"{file}: there is a preset {preset.name!r} already; rename it")
            presets[preset.name] = preset
    return presets


def read_presets(file: str | Path) -> list[Preset]:
    """The presets of a JSON file; see the module's description.

    Raises:
        PresetError: if it cannot be read; says where and what is wrong.
    """
    try:
        entries = json.loads(Path(file).read_text(encoding="utf-8"))
        items = [(name, dict(entry)) for name, entry in entries.items()]
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise PresetError(
            f"{FILE} names {file}, which cannot be read ({error}); expected a JSON object, "
            f'{{"name": {{"like": "self-forcing", …}}, …}}'
        ) from error
    return [_changed(Path(file), name, entry) for name, entry in items]


def default_preset(device: torch.device | str, mode: Mode = "text") -> Preset:
    """What to take on a device when nothing was asked for: a pocket model without a GPU."""
    if torch.device(device).type != "cpu":
        return SELF_FORCING
    return POCKET if mode == "text" else POCKET_2


def describe(preset: Preset) -> dict[str, Any]:
    """What a user may want to know of a preset before loading it, JSON-ready."""
    weights = preset.weights or preset.hub
    return {
        "name": preset.name,
        "title": preset.title,
        "source": preset.source,
        "modes": list(preset.modes),
        "sizes": [{"width": size.width, "height": size.height} for size in preset.sizes],
        "native_image": preset.native_image,
        "tiny_decoder": preset.has_tiny_decoder,
        "licence": dataclasses.asdict(preset.licence),
        "weights": dataclasses.asdict(weights) if weights else None,
        "generation": preset.generation.to_dict(),
        "notes": preset.notes,
    }


def _changed(file: Path, name: str, entry: dict[str, Any]) -> Preset:
    """An entry of a file: the preset that it is like, with some fields replaced."""
    like = entry.pop("like", None)
    if not isinstance(like, str):
        raise PresetError(f'{file}: {name!r} needs "like": a preset, a folder or a Hub id')
    base = PRESETS.get(like) or _unnamed(file.parent / like if like.startswith(".") else like)
    values = dataclasses.asdict(base) | {"name": name, "title": name}
    if "generation" in entry:
        values["published"] = base.generation.to_dict()
        entry["published"] = entry.pop("generation")
    for key, value in entry.items():
        old = values.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            value = {**old, **value}
        values[key] = value
    try:
        return TypeAdapter(Preset).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])).replace("published", "generation")
        raise PresetError(f"{file}: {name!r}: {place}: {first['msg'].lower()}") from error


def _unnamed(model: str | Path, token: str | None = None) -> Preset:
    """A folder or a Hub id as a preset."""
    name = str(model)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _in_folder(folder.resolve())
    hub_id = _HUB_ID.fullmatch(name)
    if hub_id and not isinstance(model, Path):
        hub = HubFolder(hub_id["repo"], hub_id["revision"])
        what = f"{name!r} is no folder here; as a Hub id it needs its settings"
        folder = fetch(hub, what, token, patterns=_SMALL_FILES)
        # The folder is called after the commit, and the weights are to be of the same.
        pinned = HubFolder(hub.repo, folder.name)
        source = f"https://huggingface.co/{hub.repo}"
        return _in_folder(folder, name=name, title=name, source=source, hub=pinned)
    raise PresetError(
        f"there is no folder {name}: expected one that `train export` or `save_pretrained` wrote"
    )


def _in_folder(folder: Path, **known: Any) -> Preset:
    facts = {"name": folder.name, "title": folder.name, "source": "a local folder", **known}
    preset = Preset(**facts, licence=_licence(folder, known.get("hub")), folder=folder)
    if not (folder / "model_index.json").is_file():
        raise PresetError(
            f"{folder} holds no model_index.json: expected a folder that `train export` or "
            f"`save_pretrained` wrote"
        )
    kind = preset.read_json().get("_class_name")
    if kind != "CausVidPipeline":
        raise PresetError(
            f"{preset.folder} holds a {kind}, expected a CausVidPipeline: a model that looks at "
            f"all frames at once cannot stream before it is trained to"
        )
    generation = preset.generation
    size, more = Size(generation.height, generation.width), generation.more_sizes
    sizes = tuple(dict.fromkeys((size, *(more or (Size(*size[::-1]),)))))
    return dataclasses.replace(preset, sizes=sizes, mixed_sizes=bool(more))


def _licence(folder: Path, hub: HubFolder | None) -> Licence:
    """What the card says, in words of the Hub such as `cc-by-nc-4.0`."""
    card = folder / "README.md"
    try:
        name = ModelCard.load(card).data.license if card.is_file() else None
    except Exception:  # a text without the card's header, or with one that is no YAML
        name = None
    url = hub.url if hub else ""
    if name is None:  # whoever has a folder of weights may have made them
        return Licence("not stated", url, commercial_use=hub is None)
    return Licence(name, url, commercial_use="-nc" not in name)
