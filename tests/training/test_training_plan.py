"""What training costs is known before it is paid: formulas that agree with counted steps."""

import json
from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from causvid.__main__ import main
from causvid.model.attention import block_causal_mask
from causvid.training.changes import changed
from causvid.training.models import new_model
from causvid.training.plan import StagePlan, plan
from causvid.training.recipes import POCKET, RECIPES, WAN_1_3B

WAN_TRANSFORMER = 1_418_996_800
"""Parameters of Wan 2.1 T2V 1.3B's transformer."""
NAMES = ["teacher", "causal", "consistency", "trajectories", "ode", "forcing", "dmd"]


def planned(recipe, name, **options) -> StagePlan:
    return {stage.name: stage for stage in plan(recipe, **options)}[name]


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_stage_of_every_recipe_is_planned(recipe, capsys):
    assert main(["train", "plan", "--recipe", recipe, "--processes", "64", "--json"]) == 0
    stages = json.loads(capsys.readouterr().out)["stages"]
    assert [stage["name"] for stage in stages] == NAMES
    for stage in stages:
        assert 0 < stage["step_flops"] <= stage["total_flops"]
        assert stage["model_bytes"] < 80 * 2**30, "a device of the kind that clusters have"


def test_student_and_critic_are_trained_and_one_of_them_is_averaged():
    stage = planned(WAN_1_3B, "dmd", processes=64)
    assert stage.trained == 2 * WAN_TRANSFORMER
    # A weight, a gradient and Adam's two numbers, four bytes each, spread over the devices.
    sharded = 4 * (4 * stage.trained + WAN_TRANSFORMER) // 64
    assert stage.model_bytes == sharded + 2 * stage.frozen


def test_the_plan_is_printed_as_a_table(capsys):
    assert main(["train", "plan", "--recipe", "pocket", "--processes", "8"]) == 0
    text = capsys.readouterr().out
    assert "pocket on 8 devices" in text and "GiB" in text and "TFLOP" in text


@pytest.mark.slow
@pytest.mark.parametrize("causal", [False, True])
def test_operations_are_those_of_a_real_step(causal):
    shape, phase = POCKET.transformer, POCKET.causal.phases[0]
    model = new_model(shape, 150, 0).transformer
    latents = torch.randn(phase.batch, phase.frames, shape.in_channels, 8, 14)
    text = torch.randn(phase.batch, shape.text_length, shape.text_dim)
    mask = block_causal_mask(POCKET.generation.chunks.sizes(phase.frames)) if causal else None
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(latents, torch.rand(latents.shape[:2]), text, frame_mask=mask).sum().backward()
    recipe = replace(POCKET, teacher=POCKET.causal)
    stage = planned(recipe, "causal" if causal else "teacher")
    assert stage.step_flops == pytest.approx(counter.get_total_flops(), rel=0.05)


def test_more_devices_hold_less_each_and_do_more_together():
    few, many = (planned(WAN_1_3B, "causal", processes=n) for n in (8, 64))
    assert many.model_bytes < few.model_bytes
    assert many.step_flops == 8 * few.step_flops
    assert many.clips == 8 * few.clips


def test_micro_batches_are_clips_of_a_step():
    once, twice = (changed(POCKET, {"causal": {"optimiser": {"accumulation": n}}}) for n in (1, 2))
    one, two = planned(once, "causal"), planned(twice, "causal")
    assert (two.clips, two.step_flops) == (2 * one.clips, 2 * one.step_flops)
    assert two.model_bytes == one.model_bytes


def test_checkpointing_costs_another_pass():
    kept, again = (planned(replace(POCKET, checkpointing=on), "causal") for on in (False, True))
    assert again.step_flops > 1.2 * kept.step_flops


def test_a_plan_needs_a_device():
    with pytest.raises(ValueError, match="at least one process, got 0"):
        next(plan(POCKET, processes=0))


def test_first_chunks_that_teacher_forcing_keeps_are_planned():
    """Each takes as much as any other, and the student before is held for them."""

    def forcing(**settings: float) -> StagePlan:
        lessons = replace(POCKET.forcing.lessons, **settings)
        return planned(replace(POCKET, forcing=replace(POCKET.forcing, lessons=lessons)), "forcing")

    none = forcing(first_weight=0.0)
    few, many = (forcing(first_batch=clips).step_flops - none.step_flops for clips in (8, 24))
    assert few > 0
    assert many == pytest.approx(3 * few, rel=0.01)
    assert forcing().frozen - none.frozen == none.trained


def test_a_past_that_is_made_again_costs_passes_without_gradients():
    recipe = RECIPES["pocket-2"]
    none, two, four = (
        planned(changed(recipe, {"causal": {"past_remakes": n}}), "causal").step_flops
        for n in (0, 2, 4)
    )
    assert four - none == pytest.approx(2 * (two - none), rel=1e-6)
    assert 0 < two - none < none / 3, "one pass on average, over the past alone"
