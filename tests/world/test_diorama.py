"""The diorama is deterministic, the same at every size, and says what it shows."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from causvid.world import (
    ATTRIBUTES,
    LOOPING,
    VOCABULARY,
    Scene,
    caption,
    render,
    render_switch,
    return_frame,
    sample_clips,
    write_clips,
)
from causvid.world.actors import PAINT
from causvid.world.captions import words_of
from causvid.world.render import SWITCH_FRAMES
from causvid.world.scene import CHOICES_OF
from tests.world.reading import (
    canonical_caption,
    impossible,
    read_prompt,
    scene_of,
    unknown_words,
)

GROUNDS_OF, MOTIONS_OF = CHOICES_OF["ground"], CHOICES_OF["motion"]
SMALL = {"height": 48, "width": 84}


def scenes(count: int, split: str = "train", seed: int = 0) -> list[Scene]:
    rng = np.random.default_rng(seed)
    return [Scene.sample(rng, split) for _ in range(count)]


def object_row(scene: Scene, start: int, **size: int) -> float:
    """The mean row of the object: where its colour changes the picture."""
    other = replace(scene, colour="blue" if scene.colour == "red" else "red")
    ours, theirs = (
        render(s, frames=1, start=start, **size)[0].astype(np.float32) for s in (scene, other)
    )
    weight = np.abs(ours - theirs).sum(axis=(1, 2))
    return float((weight * np.arange(len(weight))).sum() / weight.sum())


def sideways_shift(first: np.ndarray, second: np.ndarray) -> int:
    """By how many columns to the right the second band is the first one moved."""
    a, b = (band.astype(np.float32).mean(axis=2) for band in (first, second))
    shifts = range(-8, 9)
    errors = [np.abs(a[:, 8:-8] - np.roll(b, -s, axis=1)[:, 8:-8]).mean() for s in shifts]
    return shifts[int(np.argmin(errors))]


# Scenes and the held-out split


def test_the_splits_never_share_a_combination_of_object_colour_ground_and_time():
    def combination(scene: Scene) -> tuple[str, str, str, str]:
        return scene.object, scene.colour, scene.ground, scene.time

    train = {combination(scene) for scene in scenes(3000)}
    held = {combination(scene) for scene in scenes(500, "held_out")}
    assert not train & held


def test_about_a_tenth_is_held_out_and_every_pair_of_values_remains_for_training():
    every = [
        Scene(kind, colour, ground, time).split
        for kind, grounds in GROUNDS_OF.items()
        for colour, ground, time in itertools.product(
            ATTRIBUTES["colour"], grounds, ATTRIBUTES["time"]
        )
    ]
    assert 0.07 < every.count("held_out") / len(every) < 0.15
    train = scenes(4000)
    assert {(s.object, s.colour) for s in train} == {
        (kind, colour) for kind in ATTRIBUTES["object"] for colour in ATTRIBUTES["colour"]
    }
    assert {(s.object, s.motion) for s in train} == {
        (kind, motion) for kind, motions in MOTIONS_OF.items() for motion in motions
    }


def test_a_changed_scene_differs_and_stays_in_its_split():
    rng = np.random.default_rng(1)
    for scene in scenes(100):
        other = scene.changed(rng)
        assert other != scene
        assert other.split == "train"


def test_impossible_scenes_are_refused_and_have_a_nearest_possible_one():
    with pytest.raises(ValueError, match="boat cannot have ground 'desert'"):
        Scene(object="boat", ground="desert")
    with pytest.raises(ValueError, match="colour is 'pink', expected one of red"):
        Scene(colour="pink")
    with pytest.raises(ValueError, match="unknown attributes"):
        Scene.nearest(size="large")
    with pytest.raises(ValueError, match="split is 'test'"):
        Scene.sample(np.random.default_rng(0), "test")
    nearest = Scene.nearest(object="boat", ground="desert", motion="rise", colour="blue")
    assert (nearest.ground, nearest.motion, nearest.colour) == ("sea", "still", "blue")


def test_labels_index_the_attributes():
    for scene in scenes(20):
        values = [ATTRIBUTES[n][i] for n, i in zip(ATTRIBUTES, scene.labels(), strict=True)]
        assert values == list(scene.to_dict().values())


# Captions


def test_every_caption_means_its_scene_whatever_it_leaves_out():
    rng = np.random.default_rng(2)
    for scene in scenes(3000, seed=2):
        text = caption(scene, rng)
        assert scene_of(text) == scene, text
        assert scene_of(canonical_caption(scene)) == scene
        assert read_prompt(canonical_caption(scene)) == scene.to_dict()


def test_captions_use_the_vocabulary_all_of_it_and_fit_the_text_length():
    rng = np.random.default_rng(3)
    texts = [caption(scene, rng) for scene in scenes(12000, seed=3)]
    used = {word for text in texts for word in words_of(text)}
    assert used == set(VOCABULARY)
    assert 100 <= len(VOCABULARY) <= 150
    assert max(len(words_of(text)) for text in texts) <= 30


def test_the_headline_prompt_is_understood():
    assert read_prompt("a red balloon rises over the sea at sunset") == {
        "object": "balloon",
        "colour": "red",
        "ground": "sea",
        "time": "sunset",
        "motion": "rise",
    }


@pytest.mark.parametrize(
    ("prompt", "meaning"),
    [
        ("red car, night", Scene("car", "red", time="night")),
        ("BLUE boat", Scene("boat", "blue", ground="sea")),
        ("the ball goes up and down", Scene(motion="bounce")),
        ("a balloon floats left", Scene("balloon", motion="left")),
        ("a green balloon floats", Scene("balloon", "green")),
        ("a car drives through the snow", Scene("car", ground="snow", motion="right")),
        ("a bird flies up", Scene("bird", motion="rise")),
        ("", Scene()),
    ],
)
def test_short_prompts_mean_the_defaults_for_what_they_leave_out(prompt: str, meaning: Scene):
    assert scene_of(prompt) == meaning


def test_unknown_words_are_named_once_in_order():
    prompt = "A red Dragon flies over the sea, dragon!"
    assert unknown_words(prompt) == ["dragon"]


def test_what_an_object_cannot_do_is_named():
    assert impossible("a boat rises in the desert") == ["ground desert", "motion rise"]
    assert impossible("a red balloon rises") == []


# Pictures


def test_a_clip_is_a_function_of_its_scene_and_seed():
    for scene in scenes(6, seed=4):
        clip = render(scene, frames=3, seed=5, **SMALL)
        assert clip.dtype == np.uint8
        assert clip.shape == (3, 48, 84, 3)
        np.testing.assert_array_equal(clip, render(scene, frames=3, seed=5, **SMALL))
        assert (clip != render(scene, frames=3, seed=6, **SMALL)).any()


def test_any_part_of_a_clip_can_be_drawn_by_itself():
    for scene in scenes(8, seed=5):
        whole = render(scene, frames=12, seed=1, **SMALL)
        part = render(scene, frames=5, start=7, seed=1, **SMALL)
        np.testing.assert_array_equal(whole[7:], part)


def test_the_same_picture_appears_at_every_size():
    for scene in scenes(12, seed=6):
        scene = replace(scene, weather="clear")
        large = render(scene, frames=1, height=192, width=336, seed=2)[0].astype(np.float32)
        small = render(scene, frames=1, height=96, width=168, seed=2)[0].astype(np.float32)
        halved = large.reshape(96, 2, 168, 2, 3).mean(axis=(1, 3))
        assert np.abs(halved - small).mean() < 3


@pytest.mark.parametrize(("height", "width"), [(64, 112), (80, 80), (112, 64), (17, 90)])
def test_objects_fit_into_every_shape_of_picture(height: int, width: int):
    car = Scene("car", "red", motion="still")
    red, blue = (
        render(s, frames=1, height=height, width=width)[0].astype(int)
        for s in (car, replace(car, colour="blue"))
    )
    changed = np.abs(red - blue).sum(axis=(0, 2)) > 0
    assert changed.any()
    assert not changed[0]
    assert not changed[-1]


def test_every_attribute_can_be_seen():
    base = Scene("ball", "red", motion="still")
    first = render(base, frames=1, **SMALL).astype(int)
    for name, values in ATTRIBUTES.items():
        for value in values:
            other = Scene.nearest(**{**base.to_dict(), name: value})
            if other != base and name != "motion":
                picture = render(other, frames=1, **SMALL)
                assert np.abs(first - picture).mean() > 0.3, other


@pytest.mark.parametrize("time", ATTRIBUTES["time"])
@pytest.mark.parametrize("weather", ATTRIBUTES["weather"])
def test_the_object_is_nearest_to_its_own_colour_at_any_time(time: str, weather: str):
    for colour in ATTRIBUTES["colour"]:
        scene = Scene("ball", colour, time=time, weather=weather, motion="still")
        picture = render(scene, frames=1, height=96, width=168)[0] / 255
        patch = picture[68:76, 78:84].reshape(-1, 3)
        patch = patch / np.linalg.norm(patch, axis=1, keepdims=True)
        paints = np.array([PAINT[name] for name in ATTRIBUTES["colour"]])
        paints = paints / np.linalg.norm(paints, axis=1, keepdims=True)
        nearest = np.bincount((patch @ paints.T).argmax(axis=1), minlength=6).argmax()
        assert ATTRIBUTES["colour"][nearest] == colour


def test_objects_rise_and_fall_as_named():
    for kind, motions in MOTIONS_OF.items():
        for motion, sign in (("rise", -1), ("fall", 1)):
            if motion in motions:
                scene = Scene.nearest(object=kind, motion=motion)
                rows = [object_row(scene, start, **SMALL) for start in (0, 8, 16)]
                assert sign * (rows[1] - rows[0]) > 1
                assert sign * (rows[2] - rows[1]) > 1


def test_objects_bounce_and_come_down_again():
    for kind in ("ball", "car"):
        scene = Scene.nearest(object=kind, motion="bounce")
        rows = [object_row(scene, start, **SMALL) for start in range(0, 28, 2)]
        assert max(rows) - min(rows) > 4
        assert np.sign(np.diff(rows)).tolist().count(1) > 2


@pytest.mark.parametrize("kind", ATTRIBUTES["object"])
def test_the_world_scrolls_against_the_direction_of_travel(kind: str):
    for motion, sign in (("left", 1), ("right", -1)):
        scene = Scene.nearest(object=kind, motion=motion)
        clip = render(scene, frames=3, height=96, width=168)
        # Beside the object and below the horizon, where the ground is near.
        bands = clip[[0, 2], 66:, 118:]
        assert sign * sideways_shift(bands[0], bands[1]) > 0


@pytest.mark.parametrize("ground", ATTRIBUTES["ground"])
def test_landmarks_at_the_horizon_tell_which_way_one_travels(ground):
    scene = Scene("balloon", ground=ground, motion="right")
    first, later = render(scene, frames=6, height=96, width=168)[[0, 5], 44:58]
    assert sideways_shift(first, later) < 0
    still = render(replace(scene, motion="still"), frames=6, height=96, width=168)[[0, 5], 44:58]
    assert sideways_shift(*still) == 0


def test_objects_are_never_out_of_sight_however_long_the_stream():
    for kind, motions in MOTIONS_OF.items():
        for motion in motions:
            scene = Scene.nearest(object=kind, motion=motion)
            for start in [*range(0, 160, 9), 9600 + 37]:
                ours, theirs = (
                    render(s, frames=1, start=start, **SMALL)[0].astype(int)
                    for s in (scene, replace(scene, colour="blue"))
                )
                assert (np.abs(ours - theirs).sum(axis=2) > 60).sum() > 25, (scene, start)


@pytest.mark.parametrize("motion", LOOPING)
@pytest.mark.parametrize("time", [1, 2])
def test_rising_and_falling_objects_come_back_on_the_other_side(motion, time):
    scene = Scene.nearest(object="balloon" if motion == "rise" else "ball", motion=motion)
    at = return_frame(scene, time, **SMALL)
    leaving, back = (object_row(scene, at + frames, **SMALL) for frames in (-16, 16))
    low, high = SMALL["height"] * 0.65, SMALL["height"] * 0.35
    assert (leaving < high and back > low) if motion == "rise" else (leaving > low and back < high)
    with pytest.raises(ValueError, match="first time or a later one, got 0"):
        return_frame(scene, 0)
    with pytest.raises(ValueError, match="not what does this: 'still'"):
        return_frame(replace(scene, motion="still"), 1)


def test_an_object_can_be_absent_until_it_appears():
    scene = Scene.nearest(object="balloon", motion="rise")
    options = {"frames": 6, "start": 40, **SMALL}
    whole, late = render(scene, **options), render(scene, appears=43, **options)
    never = render(scene, appears=100, **options)
    assert np.array_equal(late[3:], whole[3:])
    assert np.array_equal(late[:3], never[:3])
    other = render(replace(scene, colour="blue"), appears=100, **options)
    assert np.array_equal(never, other), "nothing of it is left"
    assert not np.array_equal(never[:3], whole[:3])


# Changes of scene


def test_a_clip_that_changes_equals_its_first_scene_before_and_settles_after():
    first, then = Scene("ball", "red"), Scene("ball", "blue", time="night", weather="snowfall")
    clip = render_switch(first, then, at=6, frames=24, seed=3, **SMALL)
    np.testing.assert_array_equal(clip[:6], render(first, frames=6, seed=3, **SMALL))
    after = render(then, frames=24, seed=3, **SMALL)
    settled = 6 + SWITCH_FRAMES - 1
    np.testing.assert_array_equal(clip[settled:], after[settled:])
    assert (clip[6] != render(first, frames=1, start=6, seed=3, **SMALL)[0]).any()


def test_a_hard_cut_has_no_mixed_frame():
    first, then = Scene("ball", "red"), Scene("ball", "blue")
    clip = render_switch(first, then, at=4, frames=8, dissolve=0, **SMALL)
    np.testing.assert_array_equal(clip[:4], render(first, frames=4, **SMALL))
    np.testing.assert_array_equal(clip[4:], render(then, frames=4, start=4, **SMALL))


@pytest.mark.parametrize("start", [0, 3, 9, 13, 30])
def test_any_part_of_a_changing_clip_can_be_drawn_by_itself(start: int):
    first, then = Scene("bird", motion="rise"), Scene("bird", motion="left", time="sunset")
    whole = render_switch(first, then, at=8, frames=40, **SMALL)
    part = render_switch(first, then, at=8, frames=10, start=start, **SMALL)
    np.testing.assert_array_equal(part, whole[start : start + 10])


def test_neither_the_world_nor_the_object_jumps_when_the_motion_changes():
    pairs = [
        (Scene("car", motion="left"), Scene("car", motion="still")),
        (Scene("bird", motion="rise"), Scene("bird", motion="still")),
        (Scene("ball", motion="bounce"), Scene("ball", motion="right")),
    ]
    for first, then in pairs:
        clip = render_switch(first, then, at=40, frames=60, dissolve=0, **SMALL).astype(int)
        steps = np.abs(np.diff(clip, axis=0)).mean(axis=(1, 2, 3))
        assert steps[39] < 2.5 * steps[:38].max()


def test_sizes_and_counts_out_of_range_are_refused():
    with pytest.raises(ValueError, match="at least 16x16, got 8x100"):
        render(Scene(), frames=1, height=8, width=100)
    with pytest.raises(ValueError, match="must not be negative"):
        render(Scene(), frames=1, start=-1)
    with pytest.raises(ValueError, match="fps must be above 0"):
        render(Scene(), frames=1, fps=0)
    with pytest.raises(ValueError, match="at and dissolve"):
        render_switch(Scene(), Scene(), at=-1, frames=3)


# Sample files


def test_clips_know_what_each_frame_shows():
    clips = sample_clips(4, seconds=0.5, seed=7, **SMALL)
    assert clips[3].frames.shape == (8, 48, 84, 3)
    assert [[shot.frame for shot in clip.shots] for clip in clips] == [[0], [0], [0], [0, 4]]
    assert all(scene_of(shot.caption) == shot.scene for clip in clips for shot in clip.shots)


@pytest.mark.slow
def test_samples_are_written_with_their_captions(tmp_path: Path):
    paths = write_clips(tmp_path / "new", sample_clips(4, seconds=0.5, **SMALL))
    assert sorted(path.name for path in paths) == [
        "captions.jsonl",
        "clip_000.mp4",
        "clip_001.mp4",
        "clip_002.mp4",
        "clip_003.mp4",
        "sheet.png",
    ]
    lines = (tmp_path / "new" / "captions.jsonl").read_text().splitlines()
    assert [len(json.loads(line)["shots"]) for line in lines] == [1, 1, 1, 2]
    assert iio.imread(paths[0], plugin="pyav").shape == (8, 48, 84, 3)
    with pytest.raises(ValueError, match="must be even"):
        write_clips(tmp_path, sample_clips(1, seconds=0.5, height=49, width=84))
    with pytest.raises(ValueError, match="at least one clip"):
        sample_clips(0)
