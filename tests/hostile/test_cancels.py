"""How long a device works on for a run that is cancelled: two hundred times, at any moment.

Counted in passes of the transformer and in processor time of the device's thread, which does not
depend on what else the machine does.
"""

import statistics
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from causvid.generation.generator import Generator
from causvid.presets.loading import load_preset
from causvid.presets.registry import get_preset
from causvid.serving.device import SharedDevice
from causvid.serving.job import Continuation, Ended, Job, Made
from causvid.serving.request import Request
from tests.videos import write_video

pytestmark = [
    pytest.mark.hostile,
    pytest.mark.skipif(sys.platform != "linux", reason="threads have clocks on Linux"),
]

EACH = 50
MOST = 1.5  # passes


@pytest.fixture(scope="module")
def pocket():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # all work of a device is done by its thread
    preset = get_preset("pocket")
    yield load_preset(preset, device="cpu"), preset
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def a_pass(pocket) -> float:
    """Processor seconds of one pass over a chunk, in the middle of a video."""
    pipeline, _ = pocket
    taken, predict = [], Generator.predict_clean

    def timed(*arguments):
        start = time.thread_time()
        result = predict(*arguments)
        taken.append(time.thread_time() - start)
        return result

    with pytest.MonkeyPatch.context() as patch, pipeline.stream("a car", seconds=60.0) as stream:
        for _ in range(5):
            stream.step()
        patch.setattr(Generator, "predict_clean", timed)
        for _ in range(4):
            stream.step()
    return statistics.median(taken)


class Run:
    def __init__(self, device: SharedDevice, job: Job):
        self.made, self.over = threading.Semaphore(0), threading.Event()
        self.last, self.ticket = None, None
        self.ticket = device.submit(job, self)

    def __call__(self, event) -> None:
        self.last = event
        if self.ticket is not None:
            self.ticket.taken()
        if not isinstance(event, Made):
            self.over.set()
        self.made.release()

    def wait_for(self, chunks: int) -> None:
        """Until so many are made, or there will be no more."""
        for _ in range(chunks):
            if not self.over.is_set():
                assert self.made.acquire(timeout=600)


def job(folder: Path, name: str, **changes) -> Job:
    ask = {"seconds": 60.0, "prompts": "a red car", "model": "pocket", **changes.pop("ask", {})}
    (folder / name).mkdir()
    return Job(name, Request(**ask), folder / name, **changes)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("source") / "clip.mp4"
    rng = np.random.default_rng(0)
    small = rng.integers(0, 255, (60, 9, 16, 3), np.uint8)
    large = (np.kron(picture, np.ones((120, 120, 1), np.uint8)) for picture in small)
    write_video(path, (picture for picture in large for _ in range(2)), 30)  # 1080p, 4 s
    return path


def jobs(kind: str, folder: Path, device: SharedDevice, source: Path):
    """Jobs without end of one kind."""
    begun = None
    if kind == "extended":
        # Short, for each extension reads its source from the beginning.
        first = job(folder, "first", ask={"seconds": 0.5, "mode": "video"}, video=source)
        run = Run(device, Job(**{**vars(first), "snapshot_bytes": 10**9}))
        assert run.over.wait(1800) and isinstance(run.last, Ended)
        begun = Continuation(first.snapshot_path, run.last.manifest, 60.0, "a boat", "recache")
    for number in range(EACH):
        name = f"{kind}{number}"
        if kind == "text":
            yield job(folder, name, ask={"prompts": f"0s: a car\n0.8s [recache]: a {number} boat"})
        elif kind == "image":
            picture = np.full((128, 224, 3), number, np.uint8)
            yield job(folder, name, ask={"mode": "image"}, image=picture)
        else:
            ask = {"mode": "video", "seconds": None}
            yield job(folder, name, ask=ask, video=source, continuation=begun)


@pytest.mark.parametrize("kind", ["text", "image", "video", "extended"])
def test_a_cancelled_run_keeps_the_device_for_no_longer_than_a_pass_and_a_half(
    pocket, a_pass, source, tmp_path, tell, kind
):
    device = SharedDevice(lambda _: pocket, viewers=1, waiting=1, lead=4)
    clock = time.pthread_getcpuclockid(device._thread.ident)
    rng, waits, cut_short = np.random.default_rng(len(kind)), [], 0
    for each in jobs(kind, tmp_path, device, source):
        run = Run(device, each)
        run.wait_for(rng.integers(0, 3))
        moment = time.clock_gettime(clock) + rng.uniform(0, 6) * a_pass
        patience = time.monotonic() + 10
        while time.clock_gettime(clock) < moment and time.monotonic() < patience:
            if run.over.is_set():
                break
            time.sleep(0.0005)
        cut_short += not run.over.is_set()
        before = time.clock_gettime(clock)
        run.ticket.cancel()
        while device.load != (0, 0):
            time.sleep(0.001)
        waits.append((time.clock_gettime(clock) - before) / a_pass)
    device.close()
    found = f"median {statistics.median(waits):.2f}, most {max(waits):.2f} passes"
    tell(f"{EACH} cancels, {kind}", found)
    assert len(waits) == EACH and max(waits) <= MOST
    assert cut_short > EACH / 2, "most were in the making"
