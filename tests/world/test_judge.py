"""The judge names what rendered clips show, and a motion by movement, not by where things face."""

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch.testing import assert_close

from causvid.generation.generator import seeded
from causvid.training.config import JudgeConfig, OptimiserConfig
from causvid.training.judge import JudgeStage, labelled_clips, mirrored, new_judge, worsened
from causvid.training.trainer import LoopConfig, train
from causvid.world import ATTRIBUTES, Scene, render
from causvid.world.judge import SHIPPED, Judge

SMALL = JudgeConfig(
    OptimiserConfig(learning_rate=3e-3, warmup_steps=1), steps=6, pool=6, pool_steps=3, batch=4
)


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge.load()


def test_the_shipped_weights_are_small():
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 10**6


def test_held_out_scenes_are_read_right(judge):
    rng = np.random.default_rng(1)
    wrong = dict.fromkeys(ATTRIBUTES, 0)
    for index in range(20):
        scene = Scene.sample(rng, "held_out")
        values = judge.assess(render(scene, frames=16, start=12 * index, seed=index)).values
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
def test_what_is_changed_is_read_and_nothing_else(judge, change):
    scene = Scene(object="ball", colour="green", ground="snow", time="day", motion="left")
    other = Scene.nearest(**{**scene.to_dict(), **change})
    assert judge.assess(render(scene, frames=16)).values == scene.to_dict()
    assert judge.assess(render(other, frames=16)).values == other.to_dict()


def test_a_motion_is_read_from_movement_not_from_the_way_something_faces(judge):
    frames = render(Scene(object="car", colour="red", motion="right"), frames=16)
    assert judge.assess(frames).values["motion"] == "right"
    assert judge.assess(frames[::-1].copy()).values["motion"] == "left"
    assert judge.assess(np.repeat(frames[:1], 16, axis=0)).values["motion"] == "still"


def test_a_change_is_seen_in_the_windows_where_it_happens(judge):
    day, night = (
        Scene(object="boat", ground="sea"),
        Scene(object="boat", ground="sea", time="night"),
    )
    frames = np.concatenate([render(day, frames=16), render(night, frames=16)])
    judgement = judge.assess(frames, stride=8)
    assert judgement.starts == (0, 8, 16, 24)
    assert judgement.matches(day)["time"].tolist() == [True, True, False, False]
    assert judgement.matches(night)["time"].tolist() == [False, False, True, True]


def test_windows_can_be_judged_together(judge):
    scene = Scene.sample(np.random.default_rng(2))
    judgement = judge.assess(render(scene, frames=17, seed=2))
    for name, scores in judgement.log_probabilities.items():
        assert torch.equal(judgement.trailing(1).log_probabilities[name], scores)
        together = judgement.trailing(len(scores)).log_probabilities[name]
        torch.testing.assert_close(together[-1], scores.mean(0))
        torch.testing.assert_close(together[1], scores[:2].mean(0))


def test_the_size_of_the_picture_does_not_matter(judge):
    scene = Scene(object="balloon", colour="blue", time="sunset", motion="rise")
    large = render(scene, frames=12, height=192, width=336)
    assert judge.assess(large).values == scene.to_dict()


def test_a_clip_shorter_than_a_window_is_refused(judge):
    with pytest.raises(ValueError, match="from 8 frames or more, got 7"):
        judge.assess(render(Scene(), frames=7))


def test_a_missing_judge_says_how_to_make_one(tmp_path):
    with pytest.raises(ValueError, match="train judge"):
        Judge.load(tmp_path)


def test_a_mirrored_clip_moves_the_other_way(judge):
    clips = labelled_clips(judge, np.random.default_rng(3), 8)
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


def test_worsened_clips_stay_in_range_and_close_to_what_they_were(judge):
    clips = labelled_clips(judge, np.random.default_rng(4), 4).pixels.float() / 127.5 - 1
    worse = worsened(clips, SMALL, seeded(5))
    assert worse.shape == clips.shape and worse.abs().max() <= 1
    assert 0 < (worse - clips).abs().mean() < 0.3
    assert_close(worse, worsened(clips, SMALL, seeded(5)))


def test_training_lowers_the_loss_and_never_meets_a_held_out_scene(tmp_path):
    def losses(folder):
        stage = JudgeStage(new_judge(0), SMALL)
        train(stage, LoopConfig(folder, log_steps=1), Accelerator(cpu=True))
        return [stage.loss(0, (0, 0, 0)).item() for _ in range(2)]

    before = JudgeStage(new_judge(0), SMALL)
    before.accelerator = Accelerator(cpu=True)
    after, again = losses(tmp_path / "run")
    assert after == again < before.loss(0, (0, 0, 0)).item()
    held_out = labelled_clips(new_judge(0), np.random.default_rng(0), 5, split="held_out")
    assert held_out.labels.shape == (5, len(ATTRIBUTES))
