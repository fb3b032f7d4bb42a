"""The wide world is deterministic, and the truth is what its pictures show."""

from dataclasses import replace

import numpy as np
import pytest

from causvid.world.wide import (
    FORMATS,
    Scene,
    Shot,
    Thing,
    film,
    film_with_truth,
    render,
    sample_scene,
    script,
    spread,
)
from causvid.world.wide.catalogue import SPRITES
from causvid.world.wide.sprites import look

SMALL = {"height": 96, "width": 160}
FIRST = [sample_scene(5, index) for index in range(24)]


def difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Largest difference of each pixel's channels, `[t, h, w]`."""
    return np.abs(first.astype(np.int16) - second).max(-1)


@pytest.mark.parametrize("index", range(6))
def test_a_part_of_a_clip_is_what_the_whole_clip_has_there(index):
    clip = script(1, index, turn=9)
    whole = clip.draw(20, **SMALL)
    assert np.array_equal(clip.draw(6, start=11, **SMALL), whole[11:17])
    assert np.array_equal(script(1, index, turn=9).draw(20, **SMALL), whole)


@pytest.mark.parametrize("scene", FIRST, ids=str)
def test_a_mask_covers_what_the_thing_changes_in_the_picture(scene):
    clear = replace(scene, weather="clear", camera="still")
    if not clear.things or clear.cover:
        ball = Thing("ball", "red", motion="bounce")
        clear = replace(clear, things=(ball,), cover="")
    with_things, truth = film_with_truth([Shot(0, clear)], frames=3, start=8, **SMALL)
    without = render(replace(clear, things=()), frames=3, start=8, **SMALL)
    changed = difference(with_things, without)
    mask = truth.masks.max(1)
    strong = mask > 200
    assert strong.any()
    # What is solid hides the background; a few pixels may have its very colour.
    assert (changed[strong] > 2).mean() > 0.9
    # Beside the masks there are only shadows, which darken.
    beside = mask == 0
    assert (with_things.astype(int) - without)[beside].max() <= 1


@pytest.mark.parametrize("index", range(12))
def test_what_is_counted_is_seen(index):
    shots = [Shot(0, sample_scene(7, index))]
    _, truth = film_with_truth(shots, frames=12, **SMALL)
    seen = truth.masks.reshape(12, 2, -1).max(2) > 0
    assert np.array_equal(truth.counts, (truth.visible >= 0.2).sum(1))
    assert (seen.sum(1) >= truth.counts).all()
    still = [thing for thing in shots[0].scene.things if thing.motion in ("still", "bounce")]
    if shots[0].scene.camera == "still" and len(still) == len(shots[0].scene.things):
        assert (truth.counts == len(still)).all()


def test_one_caption_has_many_pictures():
    scene = Scene("meadow", (Thing("cat"),))
    pictures = np.stack([render(one, frames=1, **SMALL)[0] for one in spread(scene, 6)])
    for first in range(6):
        for second in range(first):
            assert difference(pictures[first], pictures[second]).mean() > 8


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_has_its_thing_whole_in_the_picture(name):
    height, width = FORMATS[name]
    for seed in range(4):
        scene = Scene("beach", (Thing("dog", size="big", side="left"),), seed=seed)
        clip, truth = film_with_truth([Shot(0, scene)], frames=1, height=height, width=width)
        assert clip.shape == (1, height, width, 3)
        assert truth.visible[0, 0] > 0.97


def test_a_ball_that_bounces_touches_the_ground_and_is_squashed_there():
    for seed in range(5):
        scene = Scene("meadow", (Thing("ball", "red", motion="bounce"),), seed=seed)
        _, truth = film_with_truth([Shot(0, scene)], frames=48)
        lowest, tall = truth.boxes[:, 0, 3], truth.boxes[:, 0, 3] - truth.boxes[:, 0, 1]
        wide = truth.boxes[:, 0, 2] - truth.boxes[:, 0, 0]
        ground = lowest.max()
        touches = lowest >= ground - 1.5
        assert 2 <= touches.sum() <= 24
        assert np.ptp(lowest) > 0.2 * 192 * 0.8
        assert (wide / tall)[touches].max() > 1.1


def test_the_plain_picture_is_what_time_and_weather_act_on():
    scene = Scene("collage", (Thing("cat"),), time="night", weather="rain", seed=3)
    dark = render(scene, frames=2, **SMALL).astype(float)
    plain = render(scene.plain(), frames=2, **SMALL).astype(float)
    assert dark.mean() < 0.75 * plain.mean()
    shapes = np.corrcoef(dark.mean(-1).ravel(), plain.mean(-1).ravel())[0, 1]
    assert shapes > 0.6


def test_nothing_is_a_mixture_of_two_scenes_when_the_background_changes():
    old, new = (Scene(name, seed=4) for name in ("sea", "city"))
    clip = film([Shot(0, old), Shot(5, new)], frames=10, **SMALL)
    assert np.array_equal(clip[:5], render(old, frames=5, **SMALL))
    assert np.array_equal(clip[5:], render(new, frames=5, start=5, **SMALL))


def test_a_clip_in_which_nothing_moves_is_one_picture():
    scene = Scene("collage", (Thing("apple"),), seed=8)
    clip = render(scene, frames=4, **SMALL)
    assert all(np.array_equal(frame, clip[0]) for frame in clip)


@pytest.mark.parametrize("camera, axis", [("left", 2), ("right", 2), ("up", 1), ("down", 1)])
def test_the_camera_moves_as_the_truth_says(camera, axis):
    scene = Scene("leaves", camera=camera, seed=6)
    clip, truth = film_with_truth([Shot(0, scene)], frames=25, **SMALL)
    moved = truth.cameras[24, :2] - truth.cameras[0, :2]
    step = round(float(moved[2 - axis]))
    assert step and (step > 0) == (camera in ("right", "down"))
    shifts = range(-30, 31)
    first, last = clip[0].mean(-1), clip[24].mean(-1)
    back = [np.abs(np.roll(last, s, axis - 1) - first)[31:-31, 31:-31].mean() for s in shifts]
    assert abs(shifts[int(np.argmin(back))] - step) <= 1


def test_what_passes_behind_something_is_hidden_and_comes_out_again():
    for cover in ("wall", "bush", "rock", "box"):
        scene = Scene("meadow", (Thing("duck", motion="behind"),), cover=cover, seed=2)
        _, truth = film_with_truth([Shot(0, scene)], frames=160, **SMALL)
        seen = truth.visible[:, 0]
        assert seen.min() < 0.25 and seen.max() > 0.95
        assert (truth.counts == (seen >= 0.2)).all() and set(truth.counts) == {0, 1}


@pytest.mark.parametrize("index", range(40))
def test_until_a_motion_has_lasted_it_goes_on(index):
    scene = sample_scene(12, index)
    if not np.isfinite(scene.lasting):
        scene = replace(scene, things=(Thing("cat", motion="in"),), camera="still", cover="")
    last = round(scene.lasting * 16)
    clip = render(replace(scene, weather="clear"), frames=2, start=last - 1, **SMALL)
    assert not np.array_equal(clip[0], clip[1])


def test_the_sprite_file_has_a_picture_for_every_kind():
    for kind in SPRITES:
        picture = np.asarray(look(kind.name, "", 40, np.random.default_rng(0))(0.0, 0.0))
        assert (picture[..., 3] > 128).mean() > 0.08, kind.name
        assert picture[..., :3][picture[..., 3] > 128].std() > 3, kind.name
