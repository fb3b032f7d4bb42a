"""Captions say what the scene shows, in words of the vocabulary, and can be read back."""

import numpy as np
import pytest

from causvid.world.wide import VOCABULARY, Scene, Thing, caption, sample_scene, script
from causvid.world.wide.captions import words_of
from causvid.world.wide.catalogue import KINDS
from causvid.world.wide.reading import Said, SaidThing, read
from causvid.world.wide.scene import HELD_KINDS


def agree(said: SaidThing, thing: Thing) -> bool:
    """Whether nothing that is said of a thing is wrong."""
    pairs = [
        (said.colour, thing.colour),
        (said.size, thing.size),
        (said.side, thing.side),
        (said.motion, thing.motion),
    ]
    kind = thing.kind if thing.kind not in HELD_KINDS else ""
    return said.kind in ("", kind) and all(a is None or a == b for a, b in pairs)


def faults(scene: Scene, said: Said) -> list[str]:
    """What is said that the scene does not show."""
    wrong = [
        name
        for name in ("background", "time", "weather", "camera", "cover")
        if getattr(said, name) not in (None, getattr(scene, name))
    ]
    if said.counted and len(said.things) != len(scene.things):
        wrong.append("count")
    if said.rests and any(thing.motion != "still" for thing in scene.things):
        wrong.append("rests")
    things = list(scene.things)
    orders = [things, things[::-1]]
    if said.things and not any(
        all(agree(a, b) for a, b in zip(said.things, order, strict=False)) for order in orders
    ):
        wrong.append("things")
    return [*wrong, *said.unknown]


@pytest.mark.parametrize("split", ["train", "held_out", "unseen"])
def test_captions_read_back_say_nothing_that_the_scene_does_not_show(split):
    rng = np.random.default_rng(1)
    for index in range(600 if split == "train" else 120):
        scene = sample_scene(3, index, split)
        text = caption(scene, rng)
        assert not faults(scene, read(text)), (text, scene)


def test_the_count_is_said_wherever_things_are_named():
    rng = np.random.default_rng(2)
    for index in range(300):
        scene = sample_scene(4, index)
        said = read(caption(scene, rng))
        named = [thing.kind for thing in scene.things if thing.kind]
        if said.counted and named:
            assert sorted(thing.kind for thing in said.things if thing.kind) == sorted(named)


def test_what_a_prompt_changes_is_said():
    for index in range(300):
        clip = script(6, index, turn=9, captions=1)
        (_, old), (_, new) = clip.shots
        said = read(clip.captions[1][0])
        for name in ("time", "weather", "camera"):
            if getattr(old, name) != getattr(new, name):
                assert getattr(said, name) == getattr(new, name), clip.captions[1][0]


def test_the_vocabulary_has_every_name_and_words_for_a_stranger():
    assert len(VOCABULARY) >= 300
    assert set(HELD_KINDS) < set(KINDS) and not set(HELD_KINDS) & set(VOCABULARY)
    for kind in set(KINDS) - set(HELD_KINDS):
        said = {word for name in KINDS[kind].names for word in words_of(name)}
        assert said <= set(VOCABULARY)
    for text in ("a cat", "night", "red car snow", "two big dogs jump in the rain", "it is still"):
        assert not read(text).unknown


def test_unseen_kinds_are_never_named():
    rng = np.random.default_rng(3)
    for index in range(200):
        scene = sample_scene(8, index, "unseen")
        kinds = {thing.kind for thing in read(caption(scene, rng)).things}
        assert not kinds & set(HELD_KINDS)


def test_the_splits_share_no_combination():
    def combination(scene: Scene) -> tuple[str, str, str]:
        kinds = [thing.kind for thing in scene.things if thing.kind]
        return (kinds or [scene.camera])[0], scene.background, scene.time

    train = {combination(sample_scene(1, index)) for index in range(2000)}
    held = {combination(sample_scene(2, index, "held_out")) for index in range(300)}
    assert not train & held


@pytest.mark.parametrize("values", [{"camera": "follow"}, {"cover": "wall"}, {"time": "noon"}])
def test_an_impossible_scene_is_refused(values):
    with pytest.raises(ValueError, match=r"follow|cover|time"):
        Scene(**values)


def test_a_scene_is_its_dictionary():
    for index in range(50):
        scene = sample_scene(9, index)
        assert Scene.from_dict(scene.to_dict()) == scene


@pytest.mark.parametrize("background", ["space", "underwater", "room"])
def test_a_scene_in_which_something_moves_behind_something_can_change(background):
    things = (Thing("rocket", "red", motion="behind"),)
    scene = Scene(background, things, cover="rock")
    changed = scene.changed(np.random.default_rng(0), scene.split)
    assert changed != scene and changed.cover == "rock"
    assert changed.things[0].motion == "behind"
