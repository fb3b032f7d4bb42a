"""The call in a manifest is accepted by the server that wrote it, and makes the same frames."""

import asyncio
import math

import numpy as np
import pytest

from causvid.serving.device import SharedDevice
from causvid.serving.models import Models
from causvid.serving.service import Service
from causvid.serving.settings import Settings
from causvid.ui.endpoints import call_of
from tests.serving.test_serving import ask, frames_of, watch
from tests.standin import save_standin

WORK = 64 * 96


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    folder = save_standin(tmp_path_factory.mktemp("weights")).folder
    limits = {"max_seconds": 1.0, "endless_seconds": 2.0, "max_cues": 2}
    settings = Settings(model=str(folder), device="cpu", **limits)
    models = Models(settings)
    device = SharedDevice(models.open, viewers=2, waiting=1, lead=100)
    service = Service(settings, models, device, call_of)
    yield service
    service.close()


async def again(service, call):
    parameters = dict(call.parameters)
    prompts = parameters.pop("prompt", None)
    request = ask(prompts or parameters.pop("schedule")).prompts
    return await watch(service.start(service.read("text", request, parameters)))


@pytest.mark.parametrize("seconds", [1.0, 0.99, 0.1])
def test_the_call_of_a_rounded_length_is_accepted_and_makes_the_same_frames(service, seconds):
    async def scenario():
        chunks, end = await watch(service.start(ask(seconds=seconds)))
        assert end.manifest.video.seconds >= seconds
        return chunks, (await again(service, end.manifest.call))[0]

    first, second = asyncio.run(scenario())
    np.testing.assert_array_equal(frames_of(first), frames_of(second))


def test_the_call_of_a_limit_of_work_is_accepted(service):
    service.settings = service.settings.model_copy(update={"max_work": 0.7 * WORK})

    async def scenario():
        chunks, end = await watch(service.start(ask(seconds=0.7)))
        return chunks, (await again(service, end.manifest.call))[0]

    first, second = asyncio.run(scenario())
    np.testing.assert_array_equal(frames_of(first), frames_of(second))
    service.settings = service.settings.model_copy(update={"max_work": 1e9})


def test_an_extension_beyond_the_limit_says_that_no_call_makes_it(service):
    async def scenario():
        run = service.start(ask(seconds=1.0))
        await watch(run)
        _, end = await watch(service.extend(run.id, 0.3))
        return end.manifest

    manifest = asyncio.run(scenario())
    assert manifest.call is None and "a call may ask for 1, then extend" in manifest.no_call


def test_an_endless_run_that_went_on_for_long_says_so_and_a_short_one_has_a_call(service):
    async def scenario():
        _, long = await watch(service.start(ask(seconds=math.inf)))
        run = service.start(ask(seconds=math.inf))
        async for event in run.events():
            if hasattr(event, "manifest"):
                return long.manifest, event.manifest
            service.stop(run.id)

    long, short = asyncio.run(scenario())
    assert long.call is None and "s; a call may ask for 1" in long.no_call
    assert short.call is not None and short.no_call is None


def test_an_endless_run_that_was_stopped_before_its_first_chunk_ends_in_order(service):
    async def scenario():
        run = service.start(ask(seconds=math.inf))
        service.stop(run.id)
        return await watch(run)

    chunks, end = asyncio.run(scenario())
    assert not chunks and end.manifest.video.frames == 0
    assert end.manifest.call is None and end.manifest.no_call == "nothing was made"


def test_a_run_that_was_steered_too_often_for_a_call_says_so(service):
    request = ask("0s: a red car\n0.3s: a ball\n0.6s: a boat", seconds=1.0)
    assert service._call_again(request) == (None, "it has 3 cues; a call may have 2")
