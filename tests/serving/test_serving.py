"""Runs share a device fairly, end at once when told to, and leave nothing behind."""

import asyncio
import contextlib
import itertools
import json
import math
import pickle
import threading
import time
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from causvid.generation.stream import Stream
from causvid.presets.loading import load_preset
from causvid.serving.device import MAX_UNREAD, SharedDevice
from causvid.serving.job import Change, Ended, Failed, Job, Made
from causvid.serving.models import Models
from causvid.serving.record import Manifest
from causvid.serving.request import Request
from causvid.serving.run import Results, RunError
from causvid.serving.service import Service
from causvid.serving.settings import Settings
from causvid.serving.zero import LentDevice, carry_out, lent_seconds
from tests.standin import save_standin
from tests.videos import write_video


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    return save_standin(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def pipeline(preset):
    return load_preset(preset, device="cpu")


@pytest.fixture
def service(preset):
    settings = Settings(
        model=str(preset.folder), device="cpu", viewers=2, waiting=1, max_seconds=20
    )
    models = Models(settings)
    models.open(settings.model)
    device = SharedDevice(models.open, viewers=2, waiting=1, lead=4)
    service = Service(settings, models, device)
    yield service
    service.close()


def ask(prompt="a red car", **changes) -> Request:
    values = {"model": "standin", "seconds": 1.0, "height": 64, "width": 96, **changes}
    return Request(prompts=prompt, **values)


async def watch(run) -> tuple[list[Made], Ended]:
    chunks = []
    async for event in run.events():
        if isinstance(event, Ended):
            return chunks, event
        run.muxer.append(event.chunk.frames)
        chunks.append(event)
    raise AssertionError("a run ends with its manifest")


def frames_of(chunks: list[Made]) -> np.ndarray:
    return np.concatenate([made.chunk.frames for made in chunks])


class Recorder:
    """Collects the events of one job on a bare device."""

    def __init__(self, log: list, name: str):
        self.log, self.name, self.over = log, name, threading.Event()
        self.events = []
        self.ticket = None

    def __call__(self, event):
        self.events.append(event)
        if isinstance(event, Made):
            self.log.append(self.name)
            if self.ticket is not None:
                self.ticket.taken()
        else:
            self.over.set()


@pytest.fixture
def device(pipeline, preset):
    device = SharedDevice(lambda _: (pipeline, preset), viewers=2, waiting=2, lead=4)
    yield device
    device.close()


def submit(device, tmp_path: Path, log: list, name: str, **job) -> Recorder:
    recorder = Recorder(log, name)
    folder = tmp_path / name
    folder.mkdir()
    request = job.pop("request", None) or ask()
    recorder.ticket = device.submit(Job(name, request, folder, **job), recorder)
    return recorder


def test_two_runs_take_turns_chunk_by_chunk(device, tmp_path):
    log: list[str] = []
    runs = [
        submit(device, tmp_path, log, name, request=ask(seconds=4.0)) for name in ("left", "right")
    ]
    assert all(run.over.wait(30) for run in runs)
    both = log[log.index("right") :]
    pairs = min(both.count("left"), both.count("right"))
    assert all(set(both[2 * i : 2 * i + 2]) == {"left", "right"} for i in range(pairs))


def test_later_runs_wait_know_their_place_and_begin_when_one_ends(device, tmp_path):
    log: list[str] = []
    endless = [
        submit(device, tmp_path, log, name, request=ask(seconds=1000.0)) for name in ("a", "b")
    ]
    third, fourth = (submit(device, tmp_path, log, name) for name in ("c", "d"))
    assert (third.ticket.place(), fourth.ticket.place()) == (1, 2)
    with pytest.raises(ValueError, match="try again"):
        submit(device, tmp_path, log, "e")
    endless[0].ticket.cancel()
    assert third.over.wait(30)
    assert fourth.over.wait(30), "and so on"
    endless[1].ticket.cancel()


@pytest.mark.parametrize("each", [1, 2])
def test_the_runs_of_one_client_leave_a_place_to_a_newcomer(pipeline, preset, tmp_path, each):
    """Runs of `crowd` come first and have no end; then one of somebody else."""
    device = SharedDevice(
        lambda _: (pipeline, preset), viewers=each + 1, waiting=4, lead=4, each=each
    )
    log: list[str] = []
    crowd = [
        submit(device, tmp_path, log, f"crowd {n}", request=ask(seconds=1000.0), client="crowd")
        for n in range(each + 2)
    ]
    assert device.load == (each, 2), "the last ones wait, though a place is free"
    newcomer = submit(device, tmp_path, log, "new", client="else")
    assert newcomer.ticket.place() == 0 and newcomer.over.wait(60)
    assert [made for made in log if made == "new"]
    crowd[0].ticket.cancel()
    deadline = time.monotonic() + 60
    while crowd[each].ticket.place() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [run.ticket.place() for run in crowd] == [*[0] * (each + 1), 1], "and they move up"
    nobody = [submit(device, tmp_path, log, f"unknown {n}") for n in range(2)]
    assert device.load[0] == each + 1, "those of nobody in particular are not held back"
    for run in (*crowd, *nobody):
        run.ticket.cancel()
    device.close()


def test_a_run_that_nobody_reads_makes_no_more_than_a_few_chunks(device, tmp_path):
    log: list[str] = []
    run = submit(device, tmp_path, log, "slow", request=ask(seconds=1000.0))
    run.ticket.taken = lambda: None
    deadline = time.monotonic() + 30
    while len(run.events) < MAX_UNREAD and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(1.0)
    assert MAX_UNREAD <= len(run.events) <= MAX_UNREAD + 1
    run.ticket.cancel()


def test_stop_keeps_what_was_made_and_cancel_tells_nothing(device, tmp_path):
    log: list[str] = []
    stopped = submit(device, tmp_path, log, "s", request=ask(seconds=1000.0), snapshot_bytes=10**9)
    cancelled = submit(device, tmp_path, log, "c", request=ask(seconds=1000.0))
    while len(log) < 6:
        time.sleep(0.01)
    stopped.ticket.stop()
    cancelled.ticket.cancel()
    assert stopped.over.wait(10)
    end = stopped.events[-1]
    assert isinstance(end, Ended) and end.manifest.stopped_by == "viewer" and end.continuable
    assert end.manifest.video.frames == sum(
        len(event.chunk.frames) for event in stopped.events[:-1]
    )
    assert not cancelled.over.wait(0.3)
    assert device.load == (0, 0)


def test_a_run_that_breaks_leaves_the_others_alone(device, tmp_path):
    log: list[str] = []
    good = submit(device, tmp_path, log, "good", request=ask(seconds=2.0))
    bad = submit(device, tmp_path, log, "bad", request=ask(window=1))
    assert bad.over.wait(10) and isinstance(bad.events[-1], Failed)
    assert good.over.wait(30) and isinstance(good.events[-1], Ended)


def test_steering_shows_in_the_frames_and_in_the_manifest(service):
    async def scenario():
        run = service.start(ask(seconds=4.0))
        chunks = []
        async for event in run.events():
            if isinstance(event, Ended):
                return chunks, event
            chunks.append(event)
            if len(chunks) == 1:
                service.steer(run.id, Change("a blue boat", "swap"))

    chunks, end = asyncio.run(scenario())
    prompts = [made.info.prompt for made in chunks]
    assert prompts[0] == "a red car" and prompts[-1] == "a blue boat"
    assert len(end.manifest.request.prompts) == 2

    async def again():
        request = Request.read(end.manifest.request.model_dump(mode="json"))
        return await watch(service.start(request))

    repeated, _ = asyncio.run(again())
    np.testing.assert_array_equal(frames_of(repeated), frames_of(chunks))


def test_an_extended_run_is_the_longer_run(service):
    async def scenario():
        first = service.start(ask(seconds=1.0))
        beginning, _ = await watch(first)
        second = service.extend(first.id, 1.5)
        rest, whole = await watch(second)
        assert second.muxer.frame_count == whole.manifest.video.frames
        at_once, _ = await watch(service.start(whole.manifest.request))
        return frames_of(beginning + rest), frames_of(at_once)

    pieces, at_once = asyncio.run(scenario())
    np.testing.assert_array_equal(pieces, at_once)


def test_an_endless_run_ends_at_the_servers_limit(service):
    async def scenario():
        run = service.start(ask(seconds=math.inf))
        service.stop(run.id)
        await watch(run)
        return run

    run = asyncio.run(scenario())
    assert run.expected_seconds is None
    assert run.job.limit == service.settings.endless_seconds


def test_a_waiting_run_is_told_its_place(service):
    async def scenario():
        first, second = (service.start(ask(seconds=20.0)) for _ in range(2))
        third = service.start(ask())
        places = third.places(interval=0.01)
        assert await anext(places) == 1
        first.ticket.cancel()
        assert [place async for place in places] == []
        await watch(third)
        second.ticket.cancel()

    asyncio.run(scenario())


def test_branches_share_their_beginning_only(service):
    async def scenario():
        first = service.start(ask(seconds=1.0))
        await watch(first)
        ways = []
        for prompt in ("a green ball", "a blue boat"):
            run = service.extend(first.id, 1.0, prompt=prompt, handover="flush")
            chunks, _ = await watch(run)
            ways.append(frames_of(chunks))
        return ways

    left, right = asyncio.run(scenario())
    assert left.shape == right.shape and not np.array_equal(left, right)


def test_a_stopped_run_can_be_extended(service):
    async def scenario():
        first = service.start(ask(seconds=20.0))
        beginning = []
        async for event in first.events():
            if isinstance(event, Ended):
                break
            beginning.append(event)
            if len(beginning) == 2:
                service.stop(first.id)
        rest, whole = await watch(service.extend(first.id, 1.0))
        at_once, _ = await watch(service.start(whole.manifest.request))
        return frames_of(beginning + rest), frames_of(at_once)

    pieces, at_once = asyncio.run(scenario())
    np.testing.assert_array_equal(pieces, at_once)


def test_a_broken_run_is_logged_under_the_id_that_its_viewer_sees(service, monkeypatch, caplog):
    def broken(*_):
        raise RuntimeError("out of tea")

    monkeypatch.setattr("causvid.serving.job.Recorder", broken)

    async def scenario():
        run = service.start(ask())
        with pytest.raises(RunError, match=run.id):
            await watch(run)
        return run.id

    run = asyncio.run(scenario())
    assert any(run in record.message and record.exc_info for record in caplog.records)


@pytest.mark.parametrize("where", ["shared", "lent"])
@pytest.mark.parametrize("error", [RuntimeError("out of memory"), ValueError("a broken frame")])
def test_a_run_that_breaks_keeps_what_was_made(
    service, pipeline, preset, monkeypatch, error, where
):
    if where == "lent":
        service.device = lend(pipeline, preset)
    step = Stream.step

    def breaks(stream):
        if stream.position == 2:
            raise error
        return step(stream)

    monkeypatch.setattr(Stream, "step", breaks)

    sent, results = asyncio.run(asyncio.wait_for(broken(service), 60))
    assert len(sent) == 2
    check_kept(sent, results)


async def broken(service) -> tuple[list[np.ndarray], Results | None]:
    """What was sent of a run before it broke, and what is kept."""
    run, sent = service.start(ask(seconds=20)), []
    with pytest.raises((RunError, ValueError)):
        async for event in run.events():
            run.save_chunk(event)
            sent.append(event.chunk.frames)
    return sent, run.save()


def check_kept(sent: list[np.ndarray], results: Results | None) -> None:
    assert len(iio.imread(results.video, plugin="pyav")) == sum(map(len, sent))
    manifest = results.manifest
    assert manifest.stopped and manifest.stopped_by == "failure"
    assert len(manifest.chunks) == len(sent) and manifest.video.frames == sum(map(len, sent))
    assert Manifest.model_validate_json(results.record.read_text()).request == manifest.request


@pytest.mark.parametrize("chunks", [0, 1, 3])
@pytest.mark.parametrize("told", [None, "GPU task aborted", "Connection reset by peer"])
def test_of_a_lent_device_that_is_taken_away_what_was_made_is_kept(
    service, pipeline, preset, chunks, told
):
    """The process that had it is killed: it ends without a word, or with one of the platform's."""
    whole = lend(pipeline, preset)._call

    def taken_away(job: Job):
        with contextlib.closing(whole(job)) as events:
            yield from itertools.islice(events, chunks)
        if told is not None:
            raise RuntimeError(told)

    service.device = LentDevice(taken_away)
    sent, results = asyncio.run(asyncio.wait_for(broken(service), 60))
    assert len(sent) == chunks
    if not chunks:
        assert results is None
    else:
        check_kept(sent, results)


def test_the_log_has_no_prompts_unless_asked(service, preset, caplog):
    caplog.set_level("INFO", logger="causvid.runs")
    asyncio.run(asyncio.wait_for(_one(service), 30))
    line = caplog.records[-1].message
    assert '"outcome": "finished"' in line and "red car" not in line
    assert {"run", "model", "seconds", "chunks", "first_frame_seconds", "frames_per_second"} <= set(
        json.loads(line)
    )
    service.settings = Settings(model=str(preset.folder), device="cpu", log_prompts=True)
    asyncio.run(asyncio.wait_for(_one(service), 30))
    prompts = json.loads(caplog.records[-1].message)["prompts"]
    assert prompts["cues"][0]["prompt"] == "a red car"


async def _one(service):
    await watch(service.start(ask()))


@pytest.mark.slow
def test_many_runs_leave_no_files_and_no_threads(service):
    async def scenario():
        for number in range(30):
            run = service.start(ask(seconds=20.0), owner="visitor")
            events = run.events()
            await anext(events)
            if number % 2:
                await events.aclose()
            else:
                service.stop(run.id)
                async for _ in events:
                    pass
        service.leave("visitor")
        assert len(service._runs) == 15, "what is finished is kept, and what was broken off is not"
        for kept in list(service._runs):
            service.forget(kept)
        await asyncio.sleep(0.3)

    asyncio.run(scenario())
    threads = threading.active_count()
    asyncio.run(scenario())
    assert list(service._folder.glob("*/*")) == []
    assert service.device.load == (0, 0)
    assert threading.active_count() == threads


def lend(pipeline, preset, seconds: float = 60.0) -> LentDevice:
    """A stand-in for the platform: what goes there and what comes back is pickled."""

    def carry_out_elsewhere(job: Job):
        copy = pickle.loads(pickle.dumps(job))
        for event in carry_out(lambda _: (pipeline, preset), copy, seconds):
            yield pickle.loads(pickle.dumps(event))

    return LentDevice(carry_out_elsewhere)


def test_a_lent_device_gives_the_same_events(pipeline, preset, tmp_path, device):
    log: list[str] = []
    shared = submit(device, tmp_path, log, "shared")
    lent = lend(pipeline, preset)
    other = submit(lent, tmp_path, log, "lent")
    assert shared.over.wait(30) and other.over.wait(30)
    np.testing.assert_array_equal(frames_of(shared.events[:-1]), frames_of(other.events[:-1]))
    assert all(made.chunk.frames.dtype == np.uint8 for made in other.events[:-1])


def test_a_lent_device_stops_through_its_folder(pipeline, preset, tmp_path):
    log: list[str] = []
    run = submit(lend(pipeline, preset), tmp_path, log, "lent", request=ask(seconds=1000.0))
    while not log:
        time.sleep(0.01)
    run.ticket.stop()
    assert run.over.wait(10) and run.events[-1].manifest.stopped_by == "viewer"


def test_when_the_device_has_to_be_given_back_what_was_made_stays(pipeline, preset, tmp_path):
    lent = lend(pipeline, preset, seconds=2.0)
    request = ask(seconds=math.inf)
    run = submit(lent, tmp_path, [], "lent", request=request, snapshot_bytes=10**9)
    assert run.over.wait(30)
    *chunks, end = run.events
    assert isinstance(end, Ended) and end.manifest.stopped_by == "time" and end.continuable
    made = sum(len(made.chunk.frames) for made in chunks)
    assert chunks and end.manifest.video.frames == made


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        ("ZeroGPU quota exceeded (requested 60s)", "log in"),
        ("ZeroGPU illegal duration", "ask for a shorter one"),
        ("ZeroGPU queue timeout", "try again in a minute"),
        ("GPU task aborted", "was taken away while the video was made"),
    ],
)
def test_refusals_of_the_platform_are_explained(tmp_path, refusal, said):
    def refuse(_):
        raise RuntimeError(refusal)
        yield

    run = submit(LentDevice(refuse), tmp_path, [], "refused")
    assert run.over.wait(5)
    error = run.events[-1].error
    assert isinstance(error, ValueError) and said in str(error)


def test_lent_time_follows_the_request(tmp_path):
    def job(seconds):
        return Job("id", ask(seconds=seconds), tmp_path)

    assert lent_seconds(job(2.0), 60) < lent_seconds(job(10.0), 60) < lent_seconds(job(60.0), 60)
    assert lent_seconds(job(math.inf), 60) == 60
    assert lent_seconds(Job("id", ask(mode="video", seconds=None), tmp_path), 60) == 60


@pytest.mark.parametrize("where", ["shared", "lent"])
def test_of_words_before_a_chunk_only_the_newest_are_used_and_only_once(
    pipeline, preset, device, tmp_path, where
):
    steered = device if where == "shared" else lend(pipeline, preset)
    run = submit(steered, tmp_path, [], "run", request=ask(seconds=1000.0))
    run.ticket.steer(Change("a blue boat", "swap"))
    while len(run.events) < 3:
        time.sleep(0.01)
    run.ticket.steer(Change("a green ball", "swap"))
    run.ticket.steer(Change("the sea", "flush"))
    told = len(run.events)
    while len(run.events) < told + 4:
        time.sleep(0.01)
    run.ticket.stop()
    assert run.over.wait(10)
    *chunks, end = run.events
    assert chunks[-1].info.prompt == "the sea" and end.manifest.chunks[-1].prompt == "the sea"
    assert not any(chunk.prompt == "a green ball" for chunk in end.manifest.chunks)
    assert [chunk.handover for chunk in end.manifest.chunks].count("flush") == 1


@pytest.mark.parametrize("where", ["shared", "lent"])
def test_strength_and_words_that_change_before_a_chunk_both_hold(
    pipeline, preset, device, tmp_path, where
):
    clip = tmp_path / "clip.mp4"
    write_video(clip, np.full((400, 64, 96, 3), 90, np.uint8), 16)
    steered = device if where == "shared" else lend(pipeline, preset)
    asked = ask(mode="video", seconds=None, strength=0.4)
    run = submit(steered, tmp_path, [], "run", request=asked, video=clip)
    while len(run.events) < 2:
        time.sleep(0.01)
    run.ticket.steer(Change("a blue boat", "swap"))
    run.ticket.steer(Change(strength=0.9))
    while not run.over.is_set() and run.events[-1].info.strength != 0.9:
        time.sleep(0.01)
    run.ticket.stop()
    assert run.over.wait(30)
    changed = [it for it in run.events[-1].manifest.chunks if it.change == 2]
    assert changed and {(it.prompt, it.strength) for it in changed} == {("a blue boat", 0.9)}
    (record,) = run.events[-1].manifest.strengths
    assert (record.start, record.strength) == (changed[0].start, 0.9)


def test_words_for_a_run_that_waits_are_in_its_first_chunk(device, tmp_path):
    log: list[str] = []
    busy = [submit(device, tmp_path, log, name, request=ask(seconds=1000.0)) for name in ("a", "b")]
    waiting = submit(device, tmp_path, log, "c")
    waiting.ticket.steer(Change("a blue boat", "swap"))
    for run in busy:
        run.ticket.cancel()
    assert waiting.over.wait(30)
    assert {chunk.prompt for chunk in waiting.events[-1].manifest.chunks} == {"a blue boat"}


@pytest.mark.parametrize(
    "how", [{"quantise": "fp8"}, {"attention": "native"}, {"dtype": "bfloat16"}]
)
def test_how_models_are_loaded_is_the_operators_choice(preset, how):
    models = Models(Settings(model=str(preset.folder), device="cpu", **how))
    pipeline, _ = models.open("standin")
    with pipeline.stream("a red car", seconds=0.5) as stream:
        assert stream.step().frames.std() > 0
    if how.get("quantise") == "fp8":
        assert any(p.dtype == torch.float8_e4m3fn for p in pipeline.transformer.parameters())
