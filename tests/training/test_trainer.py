"""The loop of a stage under a budget of time, with a stage and a clock that cost nothing."""

import json

import pytest
import torch
from accelerate import Accelerator

from causvid.training import trainer
from causvid.training.trainer import LoopConfig, train


class Clock:
    def __init__(self):
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    process_time = monotonic


class FakeStage:
    """Steps of `pace` seconds after a first one of `first`, which remember how many were wanted."""

    def __init__(self, clock: Clock, pace: float, *, first: float = 0.0):
        self.clock, self.pace, self.first = clock, pace, first
        self.steps = 7
        self.wanted: list[int] = []

    def prepare(self, accelerator: Accelerator) -> None:
        return

    def update(self, step: int):
        self.clock.now += self.pace if step else self.first or self.pace
        self.wanted.append(self.steps)
        return {"loss": torch.tensor(1.0)}

    def save_average(self, folder) -> None:
        folder.mkdir(parents=True)

    def refresh(self) -> None:
        return


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(trainer, "time", clock)
    return clock


@pytest.mark.parametrize(("pace", "first"), [(0.5, 0.0), (0.5, 30.0), (2.0, 0.0)])
def test_a_budget_of_seconds_replaces_the_steps(clock, tmp_path, pace, first):
    stage = FakeStage(clock, pace, first=first)
    progress = train(stage, LoopConfig(tmp_path, seconds=120.0), Accelerator(cpu=True))
    assert progress.seconds == pytest.approx(120.0, abs=2 * pace)
    assert stage.wanted[-1] == progress.step  # the learning rate has come to its end
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["seconds"] == pytest.approx(progress.seconds)


def test_a_budget_counts_what_was_spent_before(clock, tmp_path):
    loop = LoopConfig(tmp_path, seconds=60.0)
    paused = train(FakeStage(clock, 0.5), loop, Accelerator(cpu=True), stop=40)
    assert paused.step == 40
    resumed = train(FakeStage(clock, 0.5), loop, Accelerator(cpu=True))
    assert resumed.seconds == pytest.approx(60.0, abs=1.0)
    assert resumed.step == pytest.approx(120, abs=3)


def test_a_spent_budget_ends_at_once(clock, tmp_path):
    stage = FakeStage(clock, 50.0)
    progress = train(stage, LoopConfig(tmp_path, seconds=20.0, log_steps=1), Accelerator(cpu=True))
    assert progress.step == 1


def test_without_a_budget_a_stage_takes_its_steps(clock, tmp_path):
    assert train(FakeStage(clock, 9.0), LoopConfig(tmp_path), Accelerator(cpu=True)).step == 7
