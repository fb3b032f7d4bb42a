"""What training costs is known before it is paid: counted on `meta`, with the stages' own code."""

import json
from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from causvid.__main__ import main
from causvid.model.attention import block_causal_mask
from causvid.training.assembly import new_model
from causvid.training.plan import StagePlan, plan, plan_table
from causvid.training.recipes import POCKET, RECIPES, WAN_1_3B

WAN_TRANSFORMER = 1_418_996_800
"""Parameters of Wan 2.1 T2V 1.3B's transformer."""


def planned(recipe, *names, **options):
    """The first stages of a recipe, by name."""
    stages = {}
    for stage in plan(recipe, **options):
        stages[stage.name] = stage
        if stages.keys() >= set(names):
            return [stages[name] for name in names]
    raise AssertionError(f"{names} are not all among {list(stages)}")


def test_the_cluster_recipe_is_planned_whole(capsys):
    assert main(["train", "plan", "--recipe", "wan-1.3b", "--processes", "64", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    stages = {stage["name"]: stage for stage in made["stages"]}
    assert list(stages) == ["causal", "trajectories", "ode", "dmd"]
    for stage in stages.values():
        assert 0 < stage["step_flops"] <= stage["total_flops"]
        assert stage["total_bytes"] < 80 * 2**30, "a device of the kind that clusters have"
    trained = {m["name"]: m for m in stages["dmd"]["models"] if m["trained"]}
    assert trained.keys() == {"student", "critic"}
    assert all(model["parameters"] == WAN_TRANSFORMER for model in trained.values())
    # Adam: two numbers of four bytes for every weight, spread over the devices.
    assert stages["dmd"]["optimiser_bytes"] == 2 * 4 * 2 * WAN_TRANSFORMER // 64


def test_the_plan_is_printed_as_a_table():
    text = plan_table("pocket", planned(POCKET, "causal", processes=8)).to_markdown()
    assert "pocket on 8 devices" in text and "GiB" in text and "TFLOP" in text
    assert "with checkpointing" in text, "what it would change is told, too"


def test_operations_are_those_that_a_real_step_does():
    shape, phase = POCKET.transformer, POCKET.causal.phases[0]
    (stage,) = planned(POCKET, "causal")
    model = new_model(shape, 150, 0).transformer
    latents = torch.randn(phase.batch, phase.frames, shape.in_channels, 8, 14)
    text = torch.randn(phase.batch, shape.text_length, shape.text_dim)
    mask = block_causal_mask(POCKET.generator.chunks.sizes(phase.frames))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(latents, torch.rand(latents.shape[:2]), text, frame_mask=mask).sum().backward()
    # The fused kernel that is planned with computes its scores again on the way back.
    assert 1 < stage.step_flops / counter.get_total_flops() < 1.1


def test_more_devices_hold_less_each_and_do_more_together():
    (few,), (many,) = (planned(WAN_1_3B, "causal", processes=n) for n in (8, 64))
    assert many.total_bytes < few.total_bytes
    assert many.activation_bytes == few.activation_bytes
    assert many.step_flops == 8 * few.step_flops
    assert many.clips == 8 * few.clips


def test_checkpointing_trades_memory_for_work():
    (kept,) = planned(replace(POCKET, checkpointing=False), "causal")
    (again,) = planned(replace(POCKET, checkpointing=True), "causal")
    assert again.activation_bytes < kept.activation_bytes / 2
    assert again.step_flops > 1.2 * kept.step_flops
    assert again.activation_bytes == kept.alternative_bytes


def test_a_plan_needs_a_device():
    with pytest.raises(ValueError, match="at least one process, got 0"):
        next(plan(RECIPES["pocket"], processes=0))


def test_stages_that_a_recipe_has_are_planned():
    short = replace(POCKET, dmd=replace(POCKET.dmd, rollout_chunks=(3,)))
    names = [stage.name for stage in plan(short)]
    assert names == ["teacher", "causal", "trajectories", "ode", "forcing", "dmd"]


def test_first_chunks_that_teacher_forcing_keeps_are_planned():
    """Each takes as much as any other, and the student before is held for them."""

    def forcing(**settings: float) -> StagePlan:
        lessons = replace(POCKET.forcing.lessons, **settings)
        recipe = replace(POCKET, forcing=replace(POCKET.forcing, lessons=lessons))
        (stage,) = planned(recipe, "forcing")
        return stage

    none = forcing(first_weight=0.0)
    few, many = (forcing(first_batch=clips).step_flops - none.step_flops for clips in (8, 24))
    assert few > 0
    assert many == pytest.approx(3 * few, rel=0.01)
    assert [model.name for model in none.models] == ["student", "text encoder"]
    assert "student before" in [model.name for model in forcing().models]
