"""The losses reproduce one generator step, one critic step and one regression of the reference."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from causvid.generation.geometry import ChunkPattern
from causvid.generation.schedule import FlowSchedule, add_noise
from causvid.training.losses import (
    distribution_matching_gradient,
    distribution_matching_loss,
    flicker_loss,
    flow_matching_loss,
    from_data,
    from_trajectory,
    guided,
    in_flicker_metric,
    per_frame,
    regression_loss,
    same_within_chunks,
    score_timesteps,
    table_sigmas,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "training"
SCHEDULE = FlowSchedule(8.0)
CHUNKS = ChunkPattern(3, 3)


@pytest.fixture(scope="module")
def dmd():
    return load_file(GOLDEN / "dmd_unwarped.safetensors")


@pytest.fixture(scope="module")
def ode():
    return load_file(GOLDEN / "ode_regression.safetensors")


@pytest.mark.parametrize("part", ["gen", "critic"])
def test_noisy_data_are_the_references(dmd, part):
    steps = dmd["denoising_step_list"]
    noises = torch.stack([dmd[f"{part}.draw{i:02d}"] for i in range(len(steps))])
    choice = same_within_chunks(dmd[f"{part}.draw{len(steps):02d}"], CHUNKS)
    noisy, timesteps = from_data(
        dmd["clean_latent"], noises, steps, choice, table_sigmas(steps, SCHEDULE)
    )
    assert_close(timesteps, dmd[f"{part}.input_timestep"].to(timesteps))
    assert_close(noisy, dmd[f"{part}.input_noisy"])


@pytest.mark.parametrize(("part", "name"), [("gen", "score_timestep"), ("critic", "timestep")])
def test_score_timesteps_are_shifted_and_clamped(dmd, part, name):
    drawn = dmd[f"{part}.draw05"][:, :1]
    assert_close(score_timesteps(drawn, 8.0).expand(1, 6), dmd[f"{part}.{name}"])


def test_flicker_is_error_that_changes_between_frames_that_count():
    draw = torch.Generator().manual_seed(0)
    clean, noise = torch.randn((2, 2, 4, 3, 2, 2), generator=draw)
    error = torch.zeros_like(clean)
    counted = torch.ones(2, 4, dtype=torch.bool)
    steady = error + 3.0
    assert flicker_loss(noise - clean + steady, clean, noise, counted) < 1e-10
    error[:, 2] = 3.0  # appears, and goes: two of three changes
    assert_close(flicker_loss(noise - clean + error, clean, noise, counted), torch.tensor(6.0))
    counted[:, 2] = False
    assert flicker_loss(noise - clean + error, clean, noise, counted) < 1e-10


def test_the_flicker_metric_is_that_of_the_loss():
    """Half the gradient of |e|² + λ |Δe|² by the error is the error in that metric."""
    error = torch.randn(2, 4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    error.requires_grad_()
    (error.square().sum() + 0.7 * error.diff(dim=1).square().sum()).backward()
    assert_close(in_flicker_metric(error.detach(), 0.7), error.grad / 2)
    assert_close(in_flicker_metric(error.detach(), 0.0), error.detach())


def test_score_timesteps_stay_within_two_percent_of_the_ends():
    ends = score_timesteps(torch.tensor([0, 999]), 8.0)
    assert_close(ends, torch.tensor([20.0, 980.0]))


def test_renoised_output_is_the_references(dmd):
    sigma = table_sigmas(dmd["gen.score_timestep"], SCHEDULE)
    noisy = add_noise(dmd["gen.pred_x0"], dmd["gen.draw06"], per_frame(sigma))
    assert_close(noisy, dmd["gen.score_noisy"])


def test_generator_gradient_and_loss_are_the_references(dmd):
    generated = dmd["gen.pred_x0"].clone().requires_grad_()
    gradient = distribution_matching_gradient(
        generated.detach(), dmd["gen.pred_real"], dmd["gen.pred_fake"]
    )
    assert_close(gradient, dmd["gen.grad"])
    assert_close(gradient.abs().mean(), dmd["gen.grad_abs_mean"])
    loss = distribution_matching_loss(generated, gradient)
    assert_close(loss, dmd["gen.loss"])
    loss.backward()
    assert_close(generated.grad, gradient / generated.numel())


def test_generator_gradient_is_zero_where_teacher_and_student_agree_exactly():
    same = torch.ones(2, 1, 1, 2, 2)
    assert_close(distribution_matching_gradient(same, same, same), torch.zeros_like(same))


def test_critic_loss_is_the_references(dmd):
    noisy, noise = dmd["critic.noisy"], dmd["critic.draw06"]
    sigma = per_frame(table_sigmas(dmd["critic.timestep"], SCHEDULE))
    velocity = (noisy - dmd["critic.pred_x0"]) / sigma
    assert_close(
        flow_matching_loss(velocity, dmd["critic.generated"], noise),
        dmd["critic.loss"],
        rtol=1e-4,
        atol=0,
    )


def test_regression_input_and_loss_are_the_references(ode):
    steps = torch.tensor([1000, 757, 522, 0])
    choice = same_within_chunks(ode["draw00"], CHUNKS)
    noisy, timesteps = from_trajectory(ode["ode_latent"], steps, choice)
    assert_close(timesteps, ode["timestep"])
    assert_close(noisy, ode["noisy_input"], rtol=0, atol=0)
    loss = regression_loss(ode["pred_x0"], ode["ode_latent"][:, -1], timesteps)
    assert_close(loss, ode["loss"])


def test_guidance_of_one_is_the_conditional_prediction():
    conditional, unconditional = torch.tensor([2.0]), torch.tensor([1.0])
    assert_close(guided(conditional, unconditional, 1.0), conditional)
    assert_close(guided(conditional, unconditional, 3.0), torch.tensor([4.0]))


def test_chunks_of_one_and_three_share_their_first_frames_draw():
    drawn = torch.arange(7)[None]
    assert same_within_chunks(drawn, ChunkPattern(1, 3)).tolist() == [[0, 1, 1, 1, 4, 4, 4]]
