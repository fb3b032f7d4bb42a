"""Everything that is worth knowing of a machine, measured by itself: what is run first wherever
there is a GPU, however short.

Parts come in the order of their worth for their time, each with a limit. They run in a process of
their own: one that hangs, aborts, or leaves the GPU unusable is ended and costs its own row, and
another process goes on with those that are left. After every part the results so far are in the
folder, as JSON and as a table.
"""

import json
import multiprocessing
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

BUDGET_SECONDS, CPU_BUDGET_SECONDS = 540.0, 120.0
START_SECONDS = 120.0
"""How long a process may take to load the model."""


@dataclass(frozen=True)
class Plan:
    """What is to be measured.

    Attributes:
        model: a preset's name, a folder or a Hub id; by default what suits the device.
        device: as for `Execution`.
        only: names of the parts to run, all of the device's by default.
    """

    model: str | None = None
    device: str = ""
    only: tuple[str, ...] = ()


Work = Callable[[Connection, Plan, Sequence[str]], None]


@dataclass
class Result:
    """What came of one part.

    Attributes:
        seconds: how long it took.
        figures: what it measured; empty if it failed or was skipped.
        note: why it failed or was skipped.
        trace: of a failure, where.
    """

    name: str
    seconds: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    trace: str = ""


class Report:
    """The results so far, in a folder."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.about: dict[str, Any] = {
            "started": datetime.now(timezone.utc).isoformat(timespec="seconds")
        }
        self.results: list[Result] = []
        self.planned: tuple[str, ...] = ()

    @property
    def done(self) -> tuple[str, ...]:
        """Names of the parts that need no process any more."""
        return tuple(result.name for result in self.results)

    @property
    def left(self) -> list[str]:
        """Names of the parts without a result."""
        return [name for name in self.planned if name not in self.done]

    def add(self, result: Result) -> None:
        """Write it down, and say it."""
        self.results.append(result)
        print(f"{result.name}: {_sentence(result)}", flush=True)
        self.write()

    def write(self) -> None:
        data = {**self.about, "parts": [vars(result) for result in self.results]}
        self._replace("suite.json", json.dumps(data, indent=2) + "\n")
        self._replace("suite.md", self.markdown())

    def markdown(self) -> str:
        """Versions, then a table with a row for every part."""
        lines = [f"{name}: {value}  " for name, value in self.about.items() if value != ""]
        lines += ["", "| part | seconds | figures |", "|---|--:|---|"]
        for result in self.results:
            cell = _sentence(result).replace("|", "\\|")
            lines.append(f"| {result.name} | {result.seconds:.1f} | {cell} |")
        return "\n".join(lines) + "\n"

    def _replace(self, name: str, text: str) -> None:
        beside = self.folder / f".{name}"
        beside.write_text(text)
        beside.replace(self.folder / name)


def run(
    plan: Plan, folder: Path, budget_seconds: float = BUDGET_SECONDS, work: Work | None = None
) -> Report:
    """Measure, and leave `suite.json` and `suite.md` in `folder`.

    Args:
        work: what the other process does; `_work` by default.

    Raises:
        ValueError: if the time is none, or a part unknown.
    """
    if not budget_seconds > 0:
        raise ValueError(f"--budget-seconds must be above 0, got {budget_seconds:g}")
    report, deadline = Report(folder), time.monotonic() + budget_seconds
    while _measure(work or _work, plan, report, deadline):
        pass
    for name in report.left:
        report.add(Result(name, note="skipped: no time left"))
    return report


def _measure(work: Work, plan: Plan, report: Report, deadline: float) -> bool:
    """Run parts in one process until all are done or it ends; whether another should go on."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    worker = context.Process(target=work, args=(theirs, plan, report.done))
    started, before = time.monotonic(), len(report.results)
    worker.start()
    theirs.close()
    running, limit = "start", min(deadline, started + START_SECONDS)
    try:
        while True:
            message = _next(ours, limit)
            if message is None:  # too late, or gone
                late = worker.is_alive() and time.monotonic() >= limit
                worker.join(0 if late else 10)
                why = "it took too long" if late else f"its process ended ({worker.exitcode})"
                seconds = time.monotonic() - started
                report.add(Result(running, seconds, note=f"failed: {why}"))
                return running != "start" and time.monotonic() < deadline
            kind, content = message
            if kind == "about":
                report.about |= content
                report.about["start_seconds"] = round(time.monotonic() - started, 1)
                report.write()
            elif kind == "parts":
                report.planned = content
            elif kind == "next":
                name, expected, longest = content
                remaining = deadline - time.monotonic()
                started = time.monotonic()
                if remaining < expected:
                    note = f"skipped: takes about {expected:.0f} s, {max(remaining, 0):.0f} s left"
                    report.add(Result(name, note=note))
                    ours.send(False)
                    continue
                running, limit = name, min(deadline, started + longest)
                ours.send(True)
            elif kind == "result":
                report.add(Result(**content))
                running, limit = "between two parts", deadline + 1
            else:  # the worker says whether the device is still of use
                worker.join(10)
                again = content == "restart" and len(report.results) > before
                return again and time.monotonic() < deadline
    finally:
        if worker.is_alive():
            worker.kill()
        worker.join()
        ours.close()


def _next(connection: Connection, limit: float) -> tuple[str, Any] | None:
    try:
        if connection.poll(max(limit - time.monotonic(), 0)):
            return connection.recv()
    except (EOFError, ConnectionError):
        pass
    return None


def _work(connection: Connection, plan: Plan, done: Sequence[str]) -> None:
    """The other process."""
    from causvid.benchmark.parts import measure_parts
    from causvid.log import set_up_logging, silence_loading_bars

    set_up_logging()
    silence_loading_bars()
    for message in measure_parts(plan, done, connection.recv):
        connection.send(message)


def _sentence(result: Result) -> str:
    if result.note:
        return result.note
    return ", ".join(f"{name} {_number(value)}" for name, value in result.figures.items())


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return "(" + ", ".join(f"{name} {_number(it)}" for name, it in value.items()) + ")"
    return "in suite.json" if "\n" in str(value) else str(value)
