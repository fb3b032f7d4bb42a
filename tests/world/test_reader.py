"""The judge reads rendered clips, and movement rather than the way something faces."""

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch.testing import assert_close

from causvid.training.reader import (
    ReaderConfig,
    ReaderStage,
    labelled_clips,
    mirrored,
    new_reader,
    worsened,
)
from causvid.training.stage import OptimiserConfig, seeded
from causvid.training.trainer import LoopConfig, train
from causvid.world import ATTRIBUTES, Scene, render
from causvid.world.judge import SHIPPED, AttributeReader, read

SMALL = ReaderConfig(
    OptimiserConfig(learning_rate=3e-3, warmup_steps=1), steps=6, pool=6, pool_steps=3, batch=4
)


@pytest.fixture(scope="module")
def reader() -> AttributeReader:
    return AttributeReader.load()


def test_the_shipped_weights_are_small():
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 10**6


def test_held_out_scenes_are_read_right(reader):
    rng = np.random.default_rng(1)
    wrong = dict.fromkeys(ATTRIBUTES, 0)
    for index in range(20):
        scene = Scene.sample(rng, "held_out")
        values = read(reader, render(scene, frames=16, start=12 * index, seed=index)).values
        for name, value in values.items():
            wrong[name] += value != getattr(scene, name)
    assert max(wrong.values()) <= 1
    assert sum(wrong.values()) <= 2


@pytest.mark.parametrize(
    "change",
    [
        {"object": "rocket"},
        {"colour": "purple"},
        {"ground": "desert"},
        {"time": "night"},
        {"weather": "snowfall"},
        {"motion": "bounce"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_is_changed_is_read_and_nothing_else(reader, change):
    scene = Scene(object="ball", colour="green", ground="snow", time="day", motion="left")
    other = Scene.nearest(**{**scene.to_dict(), **change})
    assert read(reader, render(scene, frames=16)).values == scene.to_dict()
    assert read(reader, render(other, frames=16)).values == other.to_dict()


def test_a_motion_is_read_from_movement_not_from_the_way_something_faces(reader):
    frames = render(Scene(object="car", colour="red", motion="right"), frames=16)
    assert read(reader, frames).values["motion"] == "right"
    assert read(reader, frames[::-1].copy()).values["motion"] == "left"
    assert read(reader, np.repeat(frames[:1], 16, axis=0)).values["motion"] == "still"


def test_a_change_is_seen_in_the_windows_where_it_happens(reader):
    day, night = (
        Scene(object="boat", ground="sea"),
        Scene(object="boat", ground="sea", time="night"),
    )
    frames = np.concatenate([render(day, frames=16), render(night, frames=16)])
    reading = read(reader, frames, stride=8)
    assert reading.starts == (0, 8, 16, 24)
    assert reading.matches(day)["time"].tolist() == [True, True, False, False]
    assert reading.matches(night)["time"].tolist() == [False, False, True, True]


def test_windows_can_be_read_together(reader):
    scene = Scene.sample(np.random.default_rng(2))
    reading = read(reader, render(scene, frames=17, seed=2))
    for name, scores in reading.log_probabilities.items():
        assert torch.equal(reading.trailing(1).log_probabilities[name], scores)
        together = reading.trailing(len(scores)).log_probabilities[name]
        torch.testing.assert_close(together[-1], scores.mean(0))
        torch.testing.assert_close(together[1], scores[:2].mean(0))


def test_the_size_of_the_picture_does_not_matter(reader):
    scene = Scene(object="balloon", colour="blue", time="sunset", motion="rise")
    large = render(scene, frames=12, height=192, width=336)
    assert read(reader, large).values == scene.to_dict()


def test_a_clip_shorter_than_a_window_is_refused(reader):
    with pytest.raises(ValueError, match="from 8 frames or more, got 7"):
        read(reader, render(Scene(), frames=7))


def test_a_missing_reader_says_how_to_make_one(tmp_path):
    with pytest.raises(ValueError, match="train reader"):
        AttributeReader.load(tmp_path)


def test_a_mirrored_clip_moves_the_other_way(reader):
    clips = labelled_clips(reader, np.random.default_rng(3), 8)
    everything = torch.ones(8, dtype=torch.bool)
    turned, labels = mirrored(clips.pixels, clips.labels, everything)
    assert_close(turned, clips.pixels.flip(-1), rtol=0, atol=0)
    opposite = {"left": "right", "right": "left"}
    for before, after in zip(clips.labels[:, -1], labels[:, -1], strict=True):
        motion = ATTRIBUTES["motion"][before]
        assert ATTRIBUTES["motion"][after] == opposite.get(motion, motion)
    assert_close(labels[:, :-1], clips.labels[:, :-1])
    same, _ = mirrored(clips.pixels, clips.labels, ~everything)
    assert_close(same, clips.pixels, rtol=0, atol=0)


def test_worsened_clips_stay_in_range_and_close_to_what_they_were(reader):
    clips = labelled_clips(reader, np.random.default_rng(4), 4).pixels.float() / 127.5 - 1
    worse = worsened(clips, SMALL, seeded(5))
    assert worse.shape == clips.shape and worse.abs().max() <= 1
    assert 0 < (worse - clips).abs().mean() < 0.3
    assert_close(worse, worsened(clips, SMALL, seeded(5)))


def test_training_lowers_the_loss_and_never_meets_a_held_out_scene(tmp_path):
    def losses(folder):
        stage = ReaderStage(new_reader(0), SMALL)
        train(stage, LoopConfig(folder, log_steps=1), Accelerator(cpu=True))
        return [stage.loss(0, (0, 0, 0)).item() for _ in range(2)]

    before = ReaderStage(new_reader(0), SMALL)
    before.accelerator = Accelerator(cpu=True)
    after, again = losses(tmp_path / "run")
    assert after == again < before.loss(0, (0, 0, 0)).item()
    held_out = labelled_clips(new_reader(0), np.random.default_rng(0), 5, split="held_out")
    assert held_out.labels.shape == (5, len(ATTRIBUTES))
