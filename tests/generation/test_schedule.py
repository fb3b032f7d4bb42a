import pytest
import torch
from torch.testing import assert_close

from causvid.generation.schedule import (
    FlowSchedule,
    add_noise,
    clean_from_velocity,
    velocity_from_clean,
)


def test_clean_to_noisy_to_velocity_to_clean_is_the_identity():
    clean, noise = torch.randn(2, 4, 5, dtype=torch.float64)
    for sigma in (0.01, 0.3, 1.0):
        noisy = add_noise(clean, noise, sigma)
        velocity = velocity_from_clean(noisy, clean, sigma)
        assert_close(velocity, noise - clean)
        assert_close(clean_from_velocity(noisy, velocity, sigma), clean)


def test_level_zero_is_clean_exactly():
    clean, noise = torch.randn(2, 100)
    assert torch.equal(add_noise(clean, noise, 0.0), clean)


@pytest.mark.parametrize(
    ("shift", "warped"),
    [(5.0, [1000, 937.5, 833.333, 625]), (8.0, [1000, 960, 888.889, 727.273])],
)
def test_warped_step_lists_are_the_published_ones(shift, warped):
    levels = FlowSchedule(shift).levels((1000, 750, 500, 250), warp=True)
    assert [level.time * 1000 for level in levels] == pytest.approx(warped, abs=1e-3)
    assert [level.sigma * 1000 for level in levels] == pytest.approx(warped, abs=1e-3)


def test_an_unwarped_time_takes_the_nearest_level_of_the_training_table():
    schedule = FlowSchedule(8.0)
    level = schedule.level(757)
    assert level.time == 0.757
    assert level.sigma in schedule.table
    assert 0 < abs(level.sigma - 0.757) <= abs(schedule.table - 0.757).min() + 1e-7


def test_levels_start_at_pure_noise_and_fall():
    sigmas = FlowSchedule(3.0).sigmas(50)
    assert sigmas[0] == 1
    assert (sigmas.diff() < 0).all()
    assert sigmas[-1] > 0


@pytest.mark.parametrize("timestep", [-1, 1000.5])
def test_a_time_off_the_scale_is_refused(timestep):
    with pytest.raises(ValueError, match="0 … 1000"):
        FlowSchedule(5.0).level(timestep)


def test_a_shift_must_be_positive():
    with pytest.raises(ValueError, match="positive, got 0"):
        FlowSchedule(0)
