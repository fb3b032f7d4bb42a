"""The catalogue states the published settings, and states them once."""

import dataclasses
import re

import pytest

from causvid.generation.geometry import ChunkPattern, LatentGrid
from causvid.presets.catalogue import POCKET, PRESETS, WAN_SIZES
from causvid.presets.preset import PresetError

PUBLISHED = [p for p in PRESETS.values() if p.folder is None]


@pytest.mark.parametrize(
    ("name", "times"),
    [
        ("causvid", [1000, 757, 522]),
        ("causvid-4step", [1000, 960, 888.89, 727.27]),
        ("self-forcing", [1000, 937.5, 833.33, 625]),
        ("causal-forcing-2step", [1000, 833.33]),
        ("krea-14b", [1000, 937, 833, 625]),
        ("streamdiffusion-v2", [700, 500]),
    ],
)
def test_presets_visit_the_published_times(name, times):
    visited = [1000 * level.time for level in PRESETS[name].generation.levels(1)]
    assert visited == pytest.approx(times, abs=0.01)


@pytest.mark.parametrize(
    ("name", "window", "sink"),
    [
        ("causvid", 21, 0),
        ("self-forcing", 21, 0),
        ("causal-forcing-frame", 21, 0),
        ("longlive", 12, 3),
        ("reward-forcing", 9, 3),
        ("streamdiffusion-v2", 6, 3),
    ],
)
def test_presets_have_the_published_window_and_sink(name, window, sink):
    generation = PRESETS[name].generation
    assert (generation.window, generation.sink) == (window, sink)


def test_fewer_steps_need_more_in_the_first_chunk():
    generation = PRESETS["causal-forcing-2step"].generation
    assert len(generation.levels(0)) == 4
    assert len(generation.levels(1)) == 2


def test_only_framewise_models_take_a_picture_as_their_first_latent():
    native = {preset.name for preset in PUBLISHED if preset.native_image}
    assert native == {"causal-forcing-frame", "causal-forcing-2step", "causal-forcing-1step"}
    assert PRESETS["causal-forcing-frame"].generation.chunks == ChunkPattern(1, 1)


def test_a_model_that_only_edits_video_says_so():
    assert PRESETS["streamdiffusion-v2"].modes == ("video",)


@pytest.mark.parametrize("preset", PUBLISHED, ids=lambda p: p.name)
def test_every_preset_is_complete(preset):
    assert PRESETS[preset.name] is preset
    assert preset.weights.entries
    assert preset.base.revision
    for file in filter(None, (preset.weights, preset.lora, preset.tiny_decoder)):
        assert file.revision is None or re.fullmatch("[0-9a-f]{40}", file.revision)
        assert file.url.startswith(f"https://huggingface.co/{file.repo}/blob/")
    assert preset.licence.url.startswith("https://")
    assert preset.title and preset.source


def test_all_sizes_cost_the_same():
    tokens = {LatentGrid(size.height, size.width).tokens_per_frame for size in WAN_SIZES}
    assert tokens == {1560}
    assert len(WAN_SIZES) == 3


def test_the_14b_model_differs_from_the_small_one_by_numbers_only():
    large = dataclasses.asdict(PRESETS["krea-14b"].transformer)
    small = dataclasses.asdict(PRESETS["self-forcing"].transformer)
    differing = {name for name in large if large[name] != small[name]}
    assert differing == {"num_layers", "num_attention_heads", "ffn_dim"}


def test_non_commercial_weights_are_marked():
    free = {preset.name for preset in PUBLISHED if preset.licence.commercial_use}
    assert "self-forcing" not in free and "causvid" not in free and "longlive" not in free
    assert "causal-forcing" in free


def test_a_missing_local_folder_is_a_readable_error(tmp_path):
    preset = dataclasses.replace(POCKET, folder=tmp_path)
    with pytest.raises(PresetError, match=r"there is no file .*model_index.json"):
        _ = preset.generation
