"""A cross-fade shows two scenes at once; a cut, a thing that grows, and nightfall do not."""

import numpy as np
import pytest

from causvid.evaluate.mixtures import Sides, double_frames
from causvid.world.wide import Scene, Shot, Thing, film, render

LEAD, LENGTH = 17, 58
SIZE = {"height": 96, "width": 160}
BEFORE = Scene("desert", (Thing("car", "red"),), seed=3)
AFTER = Scene("forest", (Thing("ball", "blue"),), seed=8)


def counted(frames: np.ndarray) -> int:
    return int(double_frames(frames[:LEAD], frames[LEAD:], 16).sum())


def changed(after: Scene) -> np.ndarray:
    return film([Shot(0, BEFORE), Shot(LEAD, after)], frames=LEAD + LENGTH, **SIZE)


def faded(length: int) -> np.ndarray:
    """A cross-fade over so many frames."""
    both = [render(scene, frames=LEAD + LENGTH, **SIZE) for scene in (BEFORE, AFTER)]
    share = ((np.arange(LEAD + LENGTH) - LEAD + 1) / (length + 1)).clip(0, 1)
    share = share[:, None, None, None]
    return (both[0] * (1 - share) + both[1] * share).round().astype(np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize(
    "after",
    [
        Scene("forest", (Thing("ball", "blue"),), seed=3),  # a cut
        Scene("desert", (Thing("ball", "blue", "big"),), seed=3),  # one shrinks, another grows
        Scene("desert", (Thing("car", "red"),), weather="snowfall", seed=3),
    ],
)
def test_what_the_world_does_behind_a_change_mixes_nothing(after):
    assert counted(changed(after)) <= 1


@pytest.mark.slow
def test_a_cross_fade_is_seen_for_as_long_as_it_lasts():
    assert counted(faded(0)) == 0
    assert 2 <= counted(faded(5)) <= 6
    assert counted(faded(14)) > counted(faded(5))


def test_a_frame_of_either_scene_is_no_mixture_and_their_mean_is():
    old, new = (render(scene, frames=9, **SIZE) for scene in (BEFORE, AFTER))
    sides = Sides(old[::2], new[::2])
    assert not sides.mixed(old[3]) and not sides.mixed(new[3])
    mean = ((old[3].astype(int) + new[3]) // 2).astype(np.uint8)
    assert sides.mixed(mean)
    assert sides.mixture(mean)[1] > 0.1


def test_a_camera_that_pans_does_not_hide_a_double_exposure():
    old = render(Scene("city", camera="right", seed=3), frames=25, **SIZE)
    new = render(Scene("leaves", camera="right", seed=8), frames=25, **SIZE)
    sides = Sides(old[:12:2], new[13::2])
    assert not sides.mixed(old[14])
    assert sides.mixed(((old[14].astype(int) + new[10]) // 2).astype(np.uint8))
