"""The loop around every stage: steps, log, checkpoints, resumption. Knows no loss and no model.

A stage's randomness is a function of (seed, step, rank), so nothing random has to be stored: a run
that was stopped continues from its last checkpoint bit for bit.
"""

import json
import logging
import math
import shutil
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

Metrics = dict[str, float | Tensor]
"""Numbers, or scalars on the device: nothing waits for those before they are logged."""

_UNTIMED = 1_000  # steps of a budget before a pace is known
AVERAGE = "average"  # the folder inside a checkpoint that holds the weights to keep


class Stage(Protocol):
    """One stage of the recipe: what is trained, and one step of it."""

    steps: int

    def prepare(self, accelerator: Accelerator) -> None:
        """Hand modules and optimisers to `accelerator`, register what else must be stored."""
        ...

    def update(self, step: int) -> Metrics:
        """Train one step, counted from 0; returns what to log, `"loss"` among it."""
        ...

    def save_average(self, folder: Path) -> None:
        """Write the weights to keep, as ordinary model folders. Every process has to call it: the
        main one writes, the others may hold a part of what is written."""
        ...

    def refresh(self) -> None:
        """Take in data that came meanwhile. Called before a checkpoint and at no other time, so
        that a run which is resumed sees what one that was never stopped saw."""
        ...


@dataclass(frozen=True)
class LoopConfig:
    """How a run is kept.

    Args:
        folder: log, its curves, and checkpoints; `checkpoints/step-…` hold everything to continue.
        checkpoint_seconds: wall time between checkpoints.
        keep: checkpoints kept, the newest ones.
        log_steps: log line every so many steps, metrics averaged in between.
        companions: frozen models that belong to the weights, saved beside them by name.
        draw: draws the weights of a checkpoint, a folder, into a picture, a file.
        seconds: a budget of wall time in place of the stage's steps, which become what fits into
            it. Where that leads to depends on the machine.
    """

    folder: Path
    checkpoint_seconds: float = 300.0
    keep: int = 2
    log_steps: int = 10
    companions: Mapping[str, PreTrainedModel] = field(default_factory=dict)
    draw: Callable[[Path, Path], None] | None = None
    seconds: float | None = None

    def __post_init__(self):
        if self.keep < 1 or self.log_steps < 1:
            raise ValueError(f"keep and log_steps must be at least 1, got {self}")

    @property
    def checkpoints(self) -> Path:
        return Path(self.folder) / "checkpoints"

    @property
    def log(self) -> Path:
        return Path(self.folder) / "log.jsonl"

    @property
    def curves(self) -> Path:
        """The log as a picture, drawn anew at every checkpoint."""
        return Path(self.folder) / "curves.png"

    @property
    def sheet(self) -> Path:
        """What the weights draw, anew at every checkpoint."""
        return Path(self.folder) / "sheet.png"


class Progress:
    """Counters that belong to a checkpoint."""

    def __init__(self):
        self.step = 0
        self.seconds = 0.0
        self.cpu_seconds = 0.0

    def state_dict(self) -> dict[str, float]:
        return {"step": self.step, "seconds": self.seconds, "cpu_seconds": self.cpu_seconds}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.step = int(state["step"])
        self.seconds = float(state.get("seconds", 0.0))
        self.cpu_seconds = float(state["cpu_seconds"])


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint below a run's `checkpoints` folder."""
    found = sorted(Path(folder).glob("step-*"))
    return found[-1] if found else None


def finished_average(run: Path) -> Path:
    """The averaged weights of the newest checkpoint of a stage's folder.

    Raises:
        ValueError: if the stage has left none.
    """
    newest = latest_checkpoint(Path(run) / "checkpoints")
    if newest is None or not (newest / AVERAGE).is_dir():
        raise ValueError(f"{run} holds no checkpoint: train that stage first")
    return newest / AVERAGE


def train(
    stage: Stage, loop: LoopConfig, accelerator: Accelerator, *, stop: int | None = None
) -> Progress:
    """Run `stage` to its end, or on from the newest checkpoint in `loop.folder`.

    Args:
        stop: pause before this step instead; a checkpoint is left.
    """
    progress = Progress()
    accelerator.register_for_checkpointing(progress)
    stage.prepare(accelerator)
    resumed = latest_checkpoint(loop.checkpoints)
    if resumed is not None:
        accelerator.load_state(str(resumed))
        logger.info("continuing from %s", resumed)
        _forget_after(loop.log, progress.step, accelerator)
    elif accelerator.is_main_process:
        loop.checkpoints.mkdir(parents=True, exist_ok=True)
        loop.log.unlink(missing_ok=True)

    accelerator.init_trackers(Path(loop.folder).name)
    saved = begun = time.monotonic()
    before, cpu = progress.seconds, time.process_time()
    sums: Metrics = {}
    counted = 0
    bar = tqdm(
        initial=progress.step,
        total=stage.steps,
        disable=not accelerator.is_local_main_process,
        mininterval=5.0,
    )
    limit = math.inf if stop is None else stop
    pace = None if loop.seconds is None else _Pace(progress, loop.seconds)
    if pace is not None:
        stage.steps = pace.last_step()
    while progress.step < min(limit, stage.steps):
        metrics = _mean_over_processes(stage.update(progress.step), accelerator)
        progress.step += 1
        bar.update()
        now = time.process_time()
        progress.cpu_seconds += now - cpu
        cpu = now
        counted += 1
        for name, value in metrics.items():
            sums[name] = sums.get(name, 0.0) + value
        if progress.step % loop.log_steps == 0 or progress.step == min(limit, stage.steps):
            means = {name: float(value) / counted for name, value in sums.items()}
            progress.seconds = before + time.monotonic() - begun  # the device has caught up
            bar.set_postfix(loss=f"{means['loss']:.4f}")
            _write_log(loop.log, progress, means, accelerator)
            sums, counted = {}, 0
            if pace is not None:
                bar.total = stage.steps = _agreed(pace.last_step(), accelerator)
        due = time.monotonic() - saved >= loop.checkpoint_seconds
        if accelerator.num_processes > 1:  # every process must agree on when to save
            flag = torch.tensor([float(due)], device=accelerator.device)
            due = bool(accelerator.reduce(flag).item() > 0)
        # Sums of an unfinished log interval are not stored, so save on its boundary.
        if (due and counted == 0) or progress.step >= min(limit, stage.steps):
            stage.refresh()
            _save(stage, loop, progress.step, accelerator)
            saved = time.monotonic()
    for tracker in accelerator.trackers:
        tracker.finish()
    return progress


class _Pace:
    """How many steps a budget has room for, by the last ones: the first ones compile and allocate,
    and are soon forgotten."""

    def __init__(self, progress: Progress, seconds: float):
        self.progress, self.seconds = progress, seconds
        self.marks: deque[tuple[int, float]] = deque(maxlen=3)

    def last_step(self) -> int:
        """All steps together, at least one more than now if there is any time left."""
        step, spent = self.progress.step, self.progress.seconds
        self.marks.append((step, spent))
        if spent >= self.seconds:
            return step
        if len(self.marks) < 3:
            return step + _UNTIMED
        earlier, before = self.marks[0]
        pace = max(spent - before, 1e-9) / (step - earlier)
        return step + max(1, int((self.seconds - spent) / pace))


def _agreed(steps: int, accelerator: Accelerator) -> int:
    """What the first process says."""
    if accelerator.num_processes == 1:
        return steps
    return int(broadcast(torch.tensor([steps], device=accelerator.device)).item())


def _mean_over_processes(metrics: Metrics, accelerator: Accelerator) -> Metrics:
    if accelerator.num_processes == 1:
        return metrics
    values = torch.tensor([float(value) for value in metrics.values()], device=accelerator.device)
    return dict(zip(metrics, accelerator.reduce(values, "mean").tolist(), strict=True))


def _save(stage: Stage, loop: LoopConfig, step: int, accelerator: Accelerator) -> None:
    """A checkpoint takes its name only when it is complete; then the oldest ones go."""
    final = loop.checkpoints / f"step-{step:08d}"
    partial = loop.checkpoints / "partial"
    accelerator.save_state(str(partial))
    accelerator.wait_for_everyone()
    stage.save_average(partial / AVERAGE)
    if accelerator.is_main_process:
        for name, model in loop.companions.items():
            model.save_pretrained(partial / AVERAGE / name)
        if final.exists():
            shutil.rmtree(final)
        partial.rename(final)
        for old in sorted(loop.checkpoints.glob("step-*"))[: -loop.keep]:
            shutil.rmtree(old)
        # Here, because matplotlib takes a second to load and most of this package does not need it.
        from causvid.training.curves import draw_curves

        draw_curves({loop.folder.name: loop.log}, loop.curves)
        if loop.draw is not None:
            loop.draw(final / AVERAGE, loop.sheet)
    accelerator.wait_for_everyone()


def _write_log(
    log: Path, progress: Progress, means: Mapping[str, float], accelerator: Accelerator
) -> None:
    if not accelerator.is_main_process:
        return
    accelerator.log(means, step=progress.step)
    times = {"seconds": progress.seconds, "cpu_seconds": progress.cpu_seconds}
    rounded = {name: round(value, 1) for name, value in times.items()}
    line = {"step": progress.step, **rounded, **means}
    with log.open("a") as file:
        file.write(json.dumps(line) + "\n")


def _forget_after(log: Path, step: int, accelerator: Accelerator) -> None:
    """Drop log lines of steps that are about to be repeated."""
    if not accelerator.is_main_process or not log.exists():
        return
    kept = [line for line in log.read_text().splitlines() if json.loads(line)["step"] <= step]
    log.write_text("".join(f"{line}\n" for line in kept))
