"""What cannot fit is refused with the numbers and a way out."""

import dataclasses
import json
import math

import pytest
import torch

from causvid.__main__ import main
from causvid.generation.geometry import LatentGrid, Size
from causvid.generation.sampler import SAMPLERS
from causvid.presets.catalogue import PRESETS
from causvid.presets.costs import empty_models, prompt_flops, transformer_flops
from causvid.presets.preflight import available_memory, preflight

GB = 10**9
# Small pictures keep the codec's run on `meta` short. With its memory stated, no GPU is asked.
OPTIONS = {"size": Size(64, 96), "device": "cuda", "dtype": torch.bfloat16}


def check(preset="self-forcing", memory=80 * GB, **options):
    return preflight(preset, **{**OPTIONS, **options}, memory_bytes=memory)


def test_parts_add_up_and_fit():
    result = check()
    parts = [
        getattr(result, field.name)
        for field in dataclasses.fields(result)
        if field.name.endswith("_bytes") and not field.name.startswith("available")
    ]
    assert len(parts) == 6 and all(part > 0 for part in parts)
    assert result.total_bytes == sum(parts)
    assert result.fits and result.nearest is None
    assert "does not fit" not in result.message


def test_memory_does_not_depend_on_the_length_but_work_does():
    short, long = check(seconds=5), check(seconds=500)
    assert short.total_bytes == long.total_bytes
    assert (short.chunks, long.chunks) == (7, 667)
    steady = long.flops_per_chunk
    assert long.total_flops < long.chunks * steady
    longer = check(seconds=500.75)
    assert longer.total_flops - long.total_flops == steady


def test_work_is_the_sum_over_chunks_passes_and_the_codec():
    four = check("causal-forcing-2step", seconds=13 / 16, decoder="tiny")  # 1 + 4 + 4 + 4 frames
    assert four.chunks == 4
    model, grid = empty_models(PRESETS["causal-forcing-2step"]).transformer, LatentGrid(64, 96)
    # The first chunk has four steps, the others two; each is followed by a clean pass, which is
    # made with the next chunk, so that the last has none.
    passes = [5, 3, 3, 2]
    expected = sum(n * transformer_flops(model, grid, 1, i + 1) for i, n in enumerate(passes))
    codec = four.total_flops - expected - prompt_flops(model)
    assert 0 < codec < expected


def test_what_does_not_fit_names_the_nearest_setting_that_does():
    room = check()
    tight = check(memory=room.total_bytes - 1)
    assert not tight.fits
    assert tight.nearest.setting == dataclasses.replace(tight.setting, text_encoder_on_cpu=True)
    assert "text encoder on the CPU it would: " in tight.message
    assert all(part in tight.message for part in ("96x64", "key-value cache", "encoder 11.4 GB"))


def test_the_way_out_can_take_several_changes():
    on_cpu = check(text_encoder_on_cpu=True)
    tight = check(memory=on_cpu.total_bytes - on_cpu.cache_bytes // 2)
    assert tight.nearest.setting.decoder == "tiny"
    assert tight.nearest.setting.window < 21
    assert tight.nearest.fits
    assert "the tiny decoder and a window of" in tight.message


def test_a_smaller_picture_is_the_last_resort():
    least = check(text_encoder_on_cpu=True, decoder="tiny", window=6).total_bytes
    tight = check(memory=least - 1)
    assert tight.nearest.setting.size < tight.setting.size
    assert f"{tight.nearest.setting.size.width}x" in tight.message


def test_what_fits_in_no_way_says_so():
    result = check("krea-14b", memory=8 * GB, decoder="tiny")
    assert result.nearest is None
    assert "no smaller setting of this model does either" in result.message


def test_on_a_cpu_the_text_encoder_has_nowhere_else_to_go():
    result = check(device="cpu", memory=8 * GB, text_encoder_on_cpu=True)
    assert result.text_encoder_bytes > 11 * GB
    assert result.reserve_bytes == 0
    assert result.nearest is None


def test_the_default_is_the_trained_size_and_window():
    setting = preflight("longlive", device="cuda", decoder="tiny", memory_bytes=80 * GB).setting
    assert (setting.size, setting.window) == (Size(480, 832), 12)


def test_the_full_size_cache_is_as_large_as_known():
    # 30 layers, 21 frames of 1560 tokens, keys and values of 1536 numbers in bfloat16: 6.04 GB;
    # and 512 text tokens.
    cache = preflight(
        "self-forcing", device="cuda", decoder="tiny", memory_bytes=80 * GB
    ).cache_bytes
    assert cache == 30 * 2 * 1536 * 2 * (21 * 1560 + 512)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seconds": math.inf}, "finite"),
        ({"seconds": 0}, "more than 0 seconds"),
        ({"size": (65, 96)}, "not a multiple of 16"),
        ({"window": 2}, "cannot hold"),
        ({"preset": "self-force"}, "did you mean self-forcing"),
    ],
)
def test_impossible_questions_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        check(**options)


def test_a_local_model_is_measured_by_its_own_configuration(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    local = dataclasses.replace(PRESETS["pocket"], folder=tmp_path)
    result = preflight(local, seconds=2, memory_bytes=GB)
    parts = (pipeline.transformer, pipeline.vae)
    weights = sum(p.nbytes for part in parts for p in part.parameters())
    assert result.weights_bytes == weights
    assert result.text_encoder_bytes == sum(p.nbytes for p in pipeline.text_encoder.parameters())
    assert result.setting.size == Size(pipeline.generation.height, pipeline.generation.width)
    assert result.fits
    with pytest.raises(ValueError, match="no tiny decoder"):
        preflight(local, decoder="tiny")


def test_the_command_answers_by_its_exit_status(capsys):
    question = ["preflight", "self-forcing", "--size", "96x64", "--device", "cuda", "--memory"]
    assert main([*question, "80"]) == 0
    assert main([*question, "12"]) == 1
    assert "does not fit. With the text encoder on the CPU" in capsys.readouterr().out
    assert main([*question, "80", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["fits"] and figures["total_bytes"] > 12 * GB
    assert main(["preflight", "self-forcer"]) == 2
    assert "did you mean self-forcing" in capsys.readouterr().err


def test_this_machine_has_memory():
    assert available_memory("cpu") > 10**8


@pytest.mark.parametrize(
    ("sampler", "changes", "caches"),
    [
        ("recompute", {"window": 6}, 1),
        ("rolling", {"window": 18, "sink": 3}, 1),
        ("history", {"window": 6, "sink": 3}, 4),
    ],
)
def test_samplers_are_counted_with_their_passes_and_caches(sampler, changes, caches):
    preset = PRESETS["self-forcing"]
    usual = dataclasses.replace(preset.generation, **changes)
    other = dataclasses.replace(usual, sampler=sampler)
    plain = check(dataclasses.replace(preset, published=usual), decoder="tiny")
    result = check(dataclasses.replace(preset, published=other), decoder="tiny")
    model, grid = empty_models(preset).transformer, LatentGrid(64, 96)
    config = model.config
    dim = config.num_attention_heads * config.attention_head_dim
    one = 2 * 2 * config.num_layers * usual.window * grid.tokens_per_frame * dim
    assert result.cache_bytes - plain.cache_bytes >= (caches - 1) * one

    def work(name, config):
        passes = SAMPLERS[name].passes(config, 20)
        return sum(transformer_flops(model, grid, *cost) for cost in passes)

    expected = work(sampler, other) - work("chunk", usual)
    assert result.flops_per_chunk - plain.flops_per_chunk == expected


def test_what_fits_has_a_window_that_suits_the_sampler():
    generation = dataclasses.replace(
        PRESETS["self-forcing"].generation, sampler="rolling", window=30, sink=3
    )
    preset = dataclasses.replace(PRESETS["self-forcing"], published=generation)
    room = check(preset, text_encoder_on_cpu=True, decoder="tiny")
    tight = check(preset, memory=room.total_bytes - 1)
    assert tight.nearest.setting.window >= 18
    with pytest.raises(ValueError, match="use a window of at least 15"):
        check(preset, window=14)
