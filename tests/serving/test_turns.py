"""A turn is passes of the model: what takes its time beside them delays nobody else."""

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import causvid.pipeline
from causvid.generation.stream import Stream
from causvid.presets.loading import load_preset
from causvid.serving.device import SharedDevice
from causvid.serving.job import Ended, Event, Failed, Job, Made
from causvid.serving.request import Request
from tests.standin import save_standin

PATIENCE = 60


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    preset = save_standin(tmp_path_factory.mktemp("weights"))
    return load_preset(preset, device="cpu"), preset


class Gate:
    """Something that takes as long as a test wants."""

    def __init__(self):
        self.reached, self.open = threading.Event(), threading.Event()

    def wait(self):
        self.reached.set()
        assert self.open.wait(PATIENCE)


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.open.set()


class Viewer:
    """Takes every chunk at once."""

    def __init__(self, device: SharedDevice, folder: Path, name: str, **job):
        self.events: list[Event] = []
        self.made, self.over = threading.Event(), threading.Event()
        folder = folder / name
        folder.mkdir()
        values = {"model": "standin", "seconds": 1.0, "height": 64, "width": 96}
        request = Request(prompts="a red car", **{**values, **job.pop("ask", {})})
        self.ticket = device.submit(Job(name, request, folder, **job), self)

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, Made):
            self.made.set()
            if hasattr(self, "ticket"):
                self.ticket.taken()
        else:
            self.over.set()

    @property
    def finished(self) -> bool:
        return self.over.wait(PATIENCE) and isinstance(self.events[-1], Ended)


@pytest.fixture
def serve(loaded):
    devices = []

    def serve(open_model: Callable = lambda _: loaded) -> SharedDevice:
        devices.append(SharedDevice(open_model, viewers=2, waiting=1, lead=4))
        return devices[-1]

    yield serve
    for device in devices:
        device.close()


def source(monkeypatch, pictures):
    """Make every source these pictures, whatever its file."""
    monkeypatch.setattr(causvid.pipeline, "_frames", lambda *_: pictures())


VIDEO = {"ask": {"mode": "video", "seconds": None}, "video": Path("any.mp4")}


def still(shade: int = 0) -> np.ndarray:
    return np.full((64, 96, 3), shade, np.uint8)


def test_a_source_that_is_slow_to_open_delays_nobody_else(serve, monkeypatch, tmp_path, gate):
    monkeypatch.setattr(causvid.pipeline, "_frames", lambda *_: (gate.wait(), iter([still()]))[1])
    device = serve()
    slow = Viewer(device, tmp_path, "slow", **VIDEO)
    assert gate.reached.wait(PATIENCE)
    assert Viewer(device, tmp_path, "other").finished
    assert not slow.events
    gate.open.set()
    assert slow.finished


@pytest.mark.parametrize("after", [0, 1, 7, 40])
def test_a_source_that_is_slow_to_read_delays_nobody_else(
    serve, monkeypatch, tmp_path, gate, after
):
    def pictures():
        for number in range(after + 9):
            if number == after:
                gate.wait()
            yield still(number)

    source(monkeypatch, pictures)
    device = serve()
    slow = Viewer(device, tmp_path, "slow", **VIDEO)
    assert gate.reached.wait(PATIENCE)
    assert Viewer(device, tmp_path, "other").finished
    assert not slow.over.is_set()
    gate.open.set()
    assert slow.finished
    assert slow.events[-1].manifest.video.frames == after + 9


def test_a_source_is_read_only_so_far_ahead(serve, monkeypatch, tmp_path):
    read = []

    def pictures():
        while True:
            read.append(1)
            yield still()

    source(monkeypatch, pictures)
    viewer = Viewer(serve(), tmp_path, "endless", **VIDEO)
    viewer.ticket.taken = lambda: None  # it stops after a few chunks
    assert viewer.made.wait(PATIENCE)
    count = -1
    while count != len(read):
        count = len(read)
        threading.Event().wait(0.3)
    assert count <= 1 + 12 * 3 + 2 * 12 + 2
    viewer.ticket.cancel()


def test_a_source_that_stands_still_can_be_left_and_stopped(serve, monkeypatch, tmp_path, gate):
    def pictures():
        yield from [still()] * 5
        gate.wait()

    source(monkeypatch, pictures)
    device = serve()
    left, stopped = (Viewer(device, tmp_path, name, **VIDEO) for name in ("left", "stopped"))
    waiting = Viewer(device, tmp_path, "waiting")
    assert left.made.wait(PATIENCE) and stopped.made.wait(PATIENCE)
    left.ticket.cancel()
    assert waiting.finished
    stopped.ticket.stop()
    assert stopped.finished
    assert stopped.events[-1].manifest.stopped_by == "viewer"


def test_a_source_that_breaks_ends_its_own_run_only(serve, monkeypatch, tmp_path):
    def pictures():
        yield from [still()] * 40
        raise ValueError("any.mp4 is broken here")

    source(monkeypatch, pictures)
    device = serve()
    broken = Viewer(device, tmp_path, "broken", **VIDEO)
    assert Viewer(device, tmp_path, "other").finished
    assert broken.over.wait(PATIENCE) and isinstance(broken.events[-1], Failed)
    assert "broken here" in str(broken.events[-1].error)
    assert Viewer(device, tmp_path, "next").finished


def test_a_model_that_is_loaded_delays_only_those_who_want_it(serve, tmp_path, gate, loaded):
    def open_model(name: str):
        if name == "large":
            gate.wait()
        return loaded

    device = serve(open_model)
    slow = Viewer(device, tmp_path, "slow", ask={"model": "large"})
    assert gate.reached.wait(PATIENCE)
    assert Viewer(device, tmp_path, "other").finished
    gate.open.set()
    assert slow.finished


def test_a_snapshot_that_is_slow_to_write_delays_nobody_else(serve, monkeypatch, tmp_path, gate):
    snapshot = Stream.snapshot

    def slow_snapshot(stream):
        gate.wait()
        return snapshot(stream)

    monkeypatch.setattr(Stream, "snapshot", slow_snapshot)
    device = serve()
    slow = Viewer(device, tmp_path, "slow", snapshot_bytes=10**9)
    assert gate.reached.wait(PATIENCE)
    assert Viewer(device, tmp_path, "other").finished
    assert not slow.over.is_set()
    gate.open.set()
    assert slow.finished and slow.events[-1].continuable


def test_a_device_closes_although_a_source_stands_still(serve, monkeypatch, tmp_path, gate):
    def pictures():
        yield from [still()] * 5
        gate.wait()

    source(monkeypatch, pictures)
    device = serve()
    assert Viewer(device, tmp_path, "viewer", **VIDEO).made.wait(PATIENCE)
    device.close()
    assert not device._thread.is_alive()
