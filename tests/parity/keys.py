"""Cases of names and shapes: weights, nested checkpoints, and full-size key lists on `meta`.

Here the error is 0 where everything fits; whatever does not is a `Mismatch` that says so.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from torch import nn

from causvid.model.checkpoint import transformer_names
from causvid.model.transformer import CausalWanTransformer
from tests.parity.case import Case, Mismatch
from tests.parity.folder import CHECKPOINT, ReferenceFolder, Settings, transformer_config
from tests.parity.official import vae_names

MAP = "map_official_to_diffusers"
RULES = "ordered_replacements"

Shapes = Mapping[str, Sequence[int]]


def transformer_weights(case: Case, folder: ReferenceFolder) -> None:
    """Official names become ours one to one, and every weight arrives."""
    _check_loaded(case, folder.transformer(case.name), transformer_names)


def vae_weights(case: Case, folder: ReferenceFolder) -> None:
    """The same for the VAE."""
    _check_loaded(case, folder.vae(case.name), vae_names)


def checkpoint(case: Case, folder: ReferenceFolder) -> None:
    """The entry of a nested training checkpoint that one should load is the weights beside it."""
    model = folder.transformer(case.setting(CHECKPOINT), file=folder.root / case.name)
    _check_loaded(case, model, transformer_names)


def _check_loaded(case: Case, model: nn.Module, rename: Callable) -> None:
    loaded = model.state_dict()
    names = name_map((match.string for match in case.matching(".+")), rename)
    for official, ours in names.items():
        case.check(official, loaded[ours])


def name_map(official: Iterable[str], rename: Callable) -> dict[str, str]:
    """What each of a model's official names becomes.

    Raises:
        Mismatch: if two names become one.
    """
    state = {name: torch.empty(0, device="meta") for name in official}
    ours = {id(value): name for name, value in rename(state).items()}
    if len(ours) != len(state):
        raise Mismatch(f"{len(state)} names become {len(ours)}")
    return {name: ours[id(value)] for name, value in state.items()}


def official_transformer(case: Case, folder: ReferenceFolder) -> None:
    """A full-size official key list, onto ours and onto diffusers' transformer."""
    shapes: Shapes = case.setting("keys")
    prefix = case.settings.get("key_prefix_in_generator_checkpoint", "")
    names = name_map((prefix + name for name in shapes), transformer_names)
    renamed = {names[prefix + name]: shape for name, shape in shapes.items()}
    config = transformer_config(case.setting("config"))
    for kind in (CausalWanTransformer, WanTransformer3DModel):
        _check_shapes(renamed, kind, config)
    count = sum(torch.Size(shape).numel() for shape in shapes.values())
    if count != case.settings.get("num_parameters", count):
        raise Mismatch(f"its keys have {count} parameters, not {case.settings['num_parameters']}")


def diffusers_transformer(case: Case, folder: ReferenceFolder) -> None:
    """A full-size key list of diffusers, and the map onto it from the official names."""
    config = dict(case.setting("config"))
    _check_shapes(case.setting("keys"), WanTransformer3DModel, config)
    config.pop("added_kv_proj_dim", None)  # of image-to-video models only
    _check_shapes(case.setting("keys"), CausalWanTransformer, config)
    _check_map(case.setting(MAP), transformer_names)


def rename_rules(case: Case, folder: ReferenceFolder) -> None:
    """Ordered replacements: the same names as ours for every official key of the folder."""
    lists = folder.where(is_official_list)
    official = {key for name in lists for key in folder.settings(name)["keys"]}
    if not official:
        raise Mismatch("there is no official key list to apply the rules to")
    expected = {}
    for key in official:
        name = key
        for old, new in case.setting(RULES):
            name = name.replace(old, new)
        expected[key] = name
    _check_map(expected, transformer_names)


def vae_map(case: Case, folder: ReferenceFolder) -> None:
    """The map of a VAE's names, and that it covers diffusers' class."""
    _check_map(case.setting(MAP), vae_names)
    with torch.device("meta"):
        model = AutoencoderKLWan(**case.setting("diffusers_config"))
    _check_names(set(case.setting(MAP).values()), set(model.state_dict()), "AutoencoderKLWan")


def vae_list(case: Case, folder: ReferenceFolder) -> None:
    """A full-size key list of the VAE, official or diffusers'."""
    shapes: Shapes = case.settings
    if "conv1.weight" in shapes:
        names = name_map(shapes, vae_names)
        shapes = {names[name]: shape for name, shape in shapes.items()}
    config = {
        "base_dim": shapes["encoder.conv_in.weight"][0],
        "z_dim": shapes["post_quant_conv.weight"][0],
    }
    _check_shapes(shapes, AutoencoderKLWan, config)


def is_official_list(settings: Settings) -> bool:
    """Whether a JSON lists the keys of an official transformer."""
    return "keys" in settings and "num_heads" in settings.get("config", {})


def is_diffusers_list(settings: Settings) -> bool:
    """Whether a JSON lists the keys of a diffusers transformer."""
    return "keys" in settings and "num_attention_heads" in settings.get("config", {})


def is_vae_list(settings: Settings) -> bool:
    """Whether a JSON is nothing but names and shapes of a VAE."""
    return bool(settings) and all(
        isinstance(value, list) and name.endswith((".weight", ".bias", ".gamma"))
        for name, value in settings.items()
    )


def _check_map(expected: Mapping[str, str], rename: Callable) -> None:
    ours = name_map(expected, rename)
    other = sorted(name for name in expected if ours[name] != expected[name])
    if other:
        name = other[0]
        raise Mismatch(
            f"{len(other)} names become others, such as {name}: {ours[name]}, not {expected[name]}"
        )


def _check_shapes(expected: Shapes, kind: type[nn.Module], config: Mapping) -> None:
    with torch.device("meta"):
        ours = {name: list(value.shape) for name, value in kind(**config).state_dict().items()}
    _check_names(set(expected), set(ours), kind.__name__)
    other = sorted(name for name in ours if list(expected[name]) != ours[name])
    if other:
        name = other[0]
        raise Mismatch(
            f"{len(other)} shapes differ in {kind.__name__}, such as {name}: {ours[name]}, "
            f"not {list(expected[name])}"
        )


def _check_names(expected: set[str], ours: set[str], kind: str) -> None:
    if expected != ours:
        odd = sorted(expected ^ ours)
        raise Mismatch(f"{len(odd)} names are not both here and in {kind}: {odd[0]}")
