"""A source is followed as far as was asked for and is allowed, whatever its length."""

import asyncio

import av
import numpy as np
import pytest

from causvid.generation.stream import Stream
from causvid.serving.device import SharedDevice
from causvid.serving.job import Ended, Made, SourceOver
from causvid.serving.limits import check_video
from causvid.serving.models import Models
from causvid.serving.request import Request
from causvid.serving.service import Service
from causvid.serving.settings import Settings
from tests.media.test_sound import recording
from tests.standin import save_standin
from tests.videos import write_video

FPS = 16
CHUNK = 12  # pictures


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    preset = save_standin(tmp_path_factory.mktemp("weights"))
    models = Models(Settings(model=str(preset.folder), device="cpu"))
    models.open("standin")
    return models, str(preset.folder)


@pytest.fixture
def serve(models):
    services = []

    def serve(**limits) -> Service:
        settings = Settings(model=models[1], device="cpu", **limits)
        device = SharedDevice(models[0].open, viewers=2, waiting=1, lead=4)
        services.append(Service(settings, models[0], device))
        return services[-1]

    yield serve
    for service in services:
        service.close()


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    def clip(seconds: float):
        path = tmp_path_factory.mktemp("clips") / "clip.mp4"
        pictures = [np.full((64, 96, 3), n % 250, np.uint8) for n in range(round(FPS * seconds))]
        write_video(path, pictures, FPS)
        return path

    return clip


def ask(**changes) -> Request:
    values = {"model": "standin", "mode": "video", "height": 64, "width": 96, **changes}
    return Request(prompts="a red car", **values)


async def watch(run) -> tuple[int, Ended]:
    frames = 0
    async for event in run.events():
        if isinstance(event, Made):
            run.muxer.append(event.chunk.frames)
            frames += len(event.chunk.frames)
    return frames, run.ended


@pytest.mark.parametrize("seconds", [0.5, 1.0, 2.5])
def test_of_a_long_source_a_part_is_taken(serve, clip, seconds):
    service, video = serve(max_seconds=3.0), clip(6.0)
    with pytest.raises(ValueError, match=r"is 6\.0 s long; allowed are 3 s: ask for so many sec"):
        check_video(video, ask(), service.settings)
    part = ask(seconds=seconds)
    check_video(video, part, service.settings)

    async def scenario():
        return await watch(service.start(part, video=video))

    frames, ended = asyncio.run(scenario())
    assert (
        16 * seconds <= frames < 16 * seconds + CHUNK and ended.manifest.request.seconds is not None
    )


@pytest.mark.parametrize(
    ("limits", "seconds"),
    [({"max_seconds": 3.0}, 3), ({"max_work": 2.0 * 64 * 96}, 2), ({"max_seconds": 0.5}, 0.5)],
)
def test_a_run_ends_in_order_at_the_limit_whatever_its_source_claimed(serve, clip, limits, seconds):
    service = serve(**limits)

    async def scenario():  # past the check, as if it had been deceived
        return await watch(service.start(ask(), video=clip(8.0)))

    frames, ended = asyncio.run(scenario())
    assert FPS * seconds <= frames <= FPS * (seconds + 0.5) + CHUNK
    assert not ended.manifest.stopped


@pytest.mark.parametrize("seconds", [1.0, 2.0, 1 + 2 * CHUNK / FPS, 0.1])
def test_a_run_that_followed_its_source_to_the_end_cannot_go_on(serve, clip, seconds):
    service = serve()

    async def scenario():
        first = service.start(ask(), video=clip(seconds))
        frames, ended = await watch(first)
        assert frames == round(FPS * seconds) and not ended.continuable
        with pytest.raises(SourceOver, match=r"the source is at its end after .* begin with a lon"):
            service.extend(first.id, 2.0, prompt="a blue boat")

    asyncio.run(scenario())


def test_a_run_that_took_a_part_of_its_source_goes_on_in_it(serve, clip):
    service, video = serve(), clip(4.0)

    async def scenario():
        first = service.start(ask(seconds=1.0), video=video)
        begun, _ = await watch(first)
        second = service.extend(first.id, 1.5)
        more, _ = await watch(second)
        assert begun + more >= 2.5 * FPS
        last = service.extend(second.id, 10.0)
        rest, _ = await watch(last)
        assert begun + more + rest == 4 * FPS
        with pytest.raises(SourceOver):
            service.extend(last.id, 1.0)

    asyncio.run(scenario())


def test_that_a_source_is_at_its_end_may_be_found_by_going_on(serve, clip, monkeypatch):
    """A stopped run does not look whether there is more."""
    service = serve()
    monkeypatch.setattr(Stream, "source_over", False)

    async def scenario():
        first = service.start(ask(), video=clip(1.0))
        _, ended = await watch(first)
        assert ended.continuable
        with pytest.raises(SourceOver, match=r"after 1\.0 s"):
            await watch(service.extend(first.id, 1.0))

    asyncio.run(scenario())


def test_the_sound_of_a_source_goes_along(serve, clip, tmp_path):
    service, video = serve(), tmp_path / "loud.mkv"
    video.write_bytes(recording("matroska", "flac"))

    async def results(source):
        run = service.start(ask(seconds=1.0), video=source)
        async for event in run.events():
            if isinstance(event, Made):
                run.muxer.append(event.chunk.frames)
        return run.save()

    def kinds(path):
        with av.open(str(path)) as container:
            return [stream.type for stream in container.streams]

    loud = asyncio.run(results(video))
    assert kinds(loud.video) == ["video", "audio"] and not loud.silent
    quiet = asyncio.run(results(clip(2.0)))
    assert kinds(quiet.video) == ["video"] and not quiet.silent
    video.write_bytes(recording("mpegts", "mp2", seconds=0.5) * 2)
    lost = asyncio.run(results(video))
    assert kinds(lost.video) == ["video"] and lost.silent
