"""A request in a link: all of it goes in and comes back, and nothing else is let in."""

import base64
import json

import gradio as gr
import pytest

from causvid.serving.models import Models
from causvid.serving.request import Request
from causvid.serving.service import Service
from causvid.serving.settings import Settings
from causvid.ui.form import Options
from causvid.ui.gallery import FOLDER
from causvid.ui.links import MOST, link_of, read_request
from causvid.ui.page import build_page
from causvid.ui.remix import _note
from tests.standin import save_standin

CUES = [[0, "a red car", "swap"], [2, "a “blue” boat 🚤", "blend:2"]]


class NoDevice:
    takes_live = True

    def close(self):
        pass


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    model = save_standin(tmp_path_factory.mktemp("standin"))
    settings = Settings(model=str(model.folder), device="cpu", models=("self-forcing",))
    service = Service(settings, Models(settings), NoDevice())
    yield service
    service.close()


def coded(values) -> str:
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")


def request_of(service, **values) -> Request:
    model = service.settings.model
    return service.within_limits(Request.read({"prompts": CUES, "model": model} | values))


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"seed": 2**53 - 1, "steps": 1, "window": 6, "sink": 0, "seconds": 2.5},
        {"seconds": "endless"},
        {"mode": "image", "prompts": "a red car"},
        {"mode": "video", "strength": 0.35, "adaptive_strength": True},
        {"mode": "video", "seconds": 3},
        {"model": "self-forcing", "height": 832, "width": 480},
    ],
)
def test_a_link_holds_the_whole_request(service, values):
    request = request_of(service, **values)
    link = link_of(request)
    assert read_request(link, service) == request
    assert len(link) < 500 and link.isascii() and "=" not in link
    manifest = json.dumps({"version": 1, "request": request.model_dump(mode="json")})
    assert read_request(manifest, service) == request


def test_the_form_gives_back_the_request_it_was_filled_in_with(service):
    """What `write` puts into the inputs, `read` takes out of them."""
    with gr.Blocks():
        options = Options(service, "video", 5.0)
    chosen = {"seconds": 2.5, "seed": 9, "steps": 2, "strength": 0.4, "window": 7, "sink": 2}
    request = request_of(service, mode="video", **chosen)
    values = {component: component.value for component in options.components}
    for part, update in options.write(request).items():
        values[part] = update.get("value") if isinstance(update, dict) else update
    parameters = options.read(values)
    assert service.read("video", request.prompts, parameters) == request
    endless = options.write(request_of(service, seconds="endless"))
    assert endless[options["endless"]] is True and options["seconds"] not in endless


def test_what_was_made_of_the_longest_request_can_be_asked_for_again(service):
    """Whole chunks are longer than what was asked for."""
    most = service.settings.max_seconds
    timeline = service.models.timeline(service.settings.model)
    made = timeline.duration(timeline.chunk_count(most))
    assert made > most, "else this shows nothing"
    values = {"prompts": CUES[:1], "model": service.settings.model}
    link = link_of(Request.read(values | {"seconds": made}))
    assert timeline.chunk_count(read_request(link, service).seconds) == timeline.chunk_count(made)
    with pytest.raises(ValueError, match="the length is"):
        read_request(link_of(Request.read(values | {"seconds": made + 5})), service)


def test_the_gallery_can_be_remixed():
    settings = Settings(model="pocket", device="cpu")
    service = Service(settings, Models(settings), NoDevice())
    manifests = [json.loads(path.read_text()) for path in FOLDER.glob("*.json")]
    for manifest in manifests:
        request = read_request(json.dumps(manifest), service)
        assert request == service.within_limits(Request.read(manifest["request"]))
    assert len(manifests) >= 3
    service.close()


ONE = {"prompts": [[0, "a red car", "swap"]]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "neither a link"),
        ("#!?", "a part of it was lost"),
        (coded(ONE)[:-9], "neither a link"),
        ("{" * 100, "no JSON"),
        ("[" * 5000, "neither"),
        (coded([1]), "its request is \\[1\\]"),
        ('{"request": 3}', "its request is 3"),
        ('{"prompts": "a car", "seed": 1e999}', "too large"),
        ('{"prompts": "a car", "seed": ' + "9" * 2000 + "}", "digits"),
        ('{"prompts": "a car", "seed": -1}', "the seed is -1"),
        ('{"prompts": [[0, "", "swap"]]}', "row 1: the prompt is empty"),
        ('{"prompts": {"cues": 7}}', "cues"),
        ('{"seed": 1}', "missing request parameters: prompts"),
        (coded(ONE | {"onload": "alert(1)"}), "unknown request parameters: onload"),
        (coded(ONE | {"model": "../../etc/passwd"}), "offered are"),
        (coded(ONE | {"seconds": 1e9}), "the length is 1e"),
        (coded(ONE | {"height": 10**6, "width": 10**6}), "pixels"),
        (coded({"prompts": [[0, "x" * 10**5, "swap"]]}), "characters; allowed are"),
        (coded({"prompts": [[i, "x", "swap"] for i in range(10**4)]}), "cues; allowed are"),
        ("A" * (MOST + 1), f"at most {MOST} are read"),
        ("{" + "[" * 70 + "]" * 70, "no JSON|nested"),
    ],
    ids=range(21),
)
def test_a_hostile_link_is_refused_with_a_sentence(service, text, said):
    with pytest.raises(ValueError, match=said) as refusal:
        read_request(text, service)
    assert "\n" not in str(refusal.value)


def test_a_schedule_of_the_editor_is_read_as_well(service):
    schedule = request_of(service).prompts
    assert read_request(schedule.to_json(), service).prompts == schedule


def test_a_size_that_the_page_does_not_offer_is_refused(service):
    with gr.Blocks():
        options = Options(service, "text", 5.0)
    with pytest.raises(ValueError, match="the size is 64x64; this page offers"):
        options.write(request_of(service, height=64, width=64))
    with pytest.raises(ValueError, match="the steps is 9; this page offers 1 to 8"):
        options.write(request_of(service, steps=9))


def test_what_a_link_says_is_never_markup():
    assert "<img" not in _note('unknown: <img src=x onerror="alert(1)">', "alert")


def test_filling_in_is_the_pages_own_affair(service):
    """It is for browsers, makes no stream of answers, and starts nothing."""
    fills = [fn for fn in build_page(service).fns.values() if "remix" in dict(fn.targets).values()]
    assert [(fn.api_visibility, fn.queue) for fn in fills] == [("private", False)]
