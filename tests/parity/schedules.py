"""The case of the noise schedule: its tables, and the algebra of noisy, clean and velocity."""

import re

import torch
from torch import Tensor

from causvid.generation.schedule import (
    TABLE_SIZE,
    FlowSchedule,
    add_noise,
    clean_from_velocity,
    velocity_from_clean,
)
from causvid.training.losses import table_sigmas
from tests.parity.case import Case
from tests.parity.folder import ReferenceFolder


def flow_match(case: Case, folder: ReferenceFolder) -> None:
    """Tables of noise levels, warped step lists, and the algebra of noisy, clean and velocity."""
    sample, noise, timesteps, flow = case["x0"], case["noise"], case["t"], case["flow"]
    shifts = {match[1] for match in case.matching(r"shift(\d+(?:\.\d+)?)\..+")}
    for shift in shifts:
        schedule, name = FlowSchedule(float(shift)), f"shift{shift}"
        sigma = table_sigmas(timesteps, schedule)
        sigmas = sigma[:, None, None, None]
        case.check(f"{name}.sigmas", torch.as_tensor(schedule.table))
        case.check(f"{name}.timesteps", torch.as_tensor(schedule.table) * TABLE_SIZE)
        case.check(f"{name}.training_weights", _bell(schedule.sigmas(TABLE_SIZE) * TABLE_SIZE))
        case.check(f"{name}.sigma_of_t", sigma)
        case.check(f"{name}.add_noise", add_noise(sample, noise, sigmas))
        case.check(f"{name}.flow_to_x0", clean_from_velocity(sample, flow, sigmas))
        case.check(f"{name}.x0_to_flow", velocity_from_clean(sample, flow, sigmas))
        for match in case.matching(re.escape(name) + r"\.warped_([\d_]+)"):
            steps = [schedule.warp(float(step)) for step in match[1].split("_")]
            case.check(match.string, torch.tensor(steps))
        for match in case.matching(re.escape(name) + r"\.timesteps(\d+)"):
            _check_euler(case, name, schedule, int(match[1]), sample, flow)


def _bell(timesteps: Tensor) -> Tensor:
    """The weights by which the reference's schedule counts timesteps in training.

    exp(-2 ((t - n/2) / n)²), shifted to start from 0 and scaled to average 1. Ours weights all
    levels alike, as its published recipes do, so this exists for comparison only.
    """
    count = len(timesteps)
    bell = torch.exp(-2 * ((timesteps - count / 2) / count) ** 2)
    bell = bell - bell.min()
    return bell * (count / bell.sum())


def _check_euler(
    case: Case, name: str, schedule: FlowSchedule, steps: int, sample: Tensor, flow: Tensor
) -> None:
    """Euler steps of a sampler with few levels, the last of which ends at 0."""
    levels = schedule.sigmas(steps)
    case.check(f"{name}.timesteps{steps}", levels * TABLE_SIZE)
    case.check(f"{name}.sigmas{steps}", levels)
    row = (case[f"{name}.step{steps}_t"][:, None] - levels * TABLE_SIZE).abs().argmin(dim=1)
    following = torch.cat([levels, levels.new_zeros(1)])[1:]
    change = (following - levels)[:, None, None, None]
    case.check(f"{name}.step{steps}", sample + flow * change[row])
    last = f"{name}.step{steps}_last"
    count = len(case[last])
    case.check(last, sample[:count] + flow[:count] * change[-1])
