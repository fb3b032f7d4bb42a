"""The public endpoints and Gradio's routes, called with what their schemas allow and with what
they do not: whatever comes, the answer is a result or a sentence, nothing is logged, nothing is
left, and the queue lives. HOSTILE_EXAMPLES says how many calls each long test makes.
"""

import json
import os
import string
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.appserver import App, running
from tests.videos import write_video

UNWRITTEN = settings(
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
FEW = settings(UNWRITTEN, max_examples=15)
MANY = settings(UNWRITTEN, max_examples=int(os.environ.get("HOSTILE_EXAMPLES", "1500")))

SAID = [
    *("", " ", "0", "-1", "1e400", "NaN", "\0", "\ud83d", "\U0001f600", "a red car", "recache"),
    *("blend:2", "blend:-1", "blend:9" + "9" * 400, "0s: a ball\n1s [swap]: sea", "²x²", "96x64"),
    *("9" * 5000 + "x1", "text_to_video", "../../etc/passwd", "<script>alert(1)</script>"),
    *("http://127.0.0.1/x", "http://[::ffff:10.0.0.1]/x", "data:image/png;base64,AAAA", "standin"),
]
TEXTS = st.one_of(st.sampled_from(SAID), st.text(st.characters(exclude_categories=()), max_size=40))
NUMBERS = st.one_of(
    st.integers(),
    st.integers(0, 700).map(lambda digits: 10**digits),
    st.integers(0, 700).map(lambda digits: -(10**digits)),
    st.floats(),
)
ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.sampled_from(["path", "meta", "cues"]), TEXTS), inner),
    ),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    folder = tmp_path_factory.mktemp("standin")
    limits = {"max_seconds": 3.0, "endless_seconds": 3.0, "max_pixels": 96 * 64, "max_cues": 4}
    with running(folder, viewers=2, waiting=6, max_prompt=200, **limits) as app:
        yield app


@pytest.fixture(scope="module")
def files(app, tmp_path_factory) -> dict[str, Any]:
    """A picture and a clip that were uploaded, and what only looks like that."""
    folder = tmp_path_factory.mktemp("inputs")
    Image.new("RGB", (60, 40), "red").save(folder / "picture.png")
    write_video(folder / "clip.mp4", np.zeros((9, 48, 64, 3), np.uint8), fps=16)
    (folder / "text.mp4").write_text("no video")
    uploaded = []
    for path in folder.iterdir():
        upload = httpx.post(f"{app.url}/gradio_api/upload", files={"files": path.read_bytes()})
        uploaded += upload.json()
    meta = {"meta": {"_type": "gradio.FileData"}}
    return [
        *({"path": path, **meta} for path in uploaded),
        *({"path": path, **meta} for path in SAID),
        *({"path": path} for path in uploaded),
        *uploaded,
        {"path": "/etc/passwd", **meta},
        {"path": None, "url": "http://127.0.0.1:1/x", **meta},
        {"path": 5, **meta},
        {"path": uploaded[0], "url": 5, "size": -1, "mime_type": 5, **meta},
        {"path": ["x"], **meta},
        {**meta},
        {"meta": 5, "path": "x"},
    ]


def suiting(schema: dict[str, Any], files: list[Any]) -> st.SearchStrategy:
    """Values that a parameter's schema allows, or nearly."""
    if schema.get("enum"):
        return st.sampled_from(schema["enum"])
    if "anyOf" in schema:
        return st.one_of(*(suiting(it, files) for it in schema["anyOf"]))
    kind = schema.get("type")
    if kind == "boolean":
        return st.booleans()
    if kind == "integer":
        return st.one_of(st.integers(0, 9), st.integers(0, 2**63 - 1))
    if kind == "number":
        return st.one_of(st.floats(0, 1), st.integers(0, 1))
    if kind == "string":
        return TEXTS
    if kind == "array":
        return st.lists(ANYTHING, max_size=3)
    cue = st.fixed_dictionaries(
        {"start": st.one_of(st.just(0), NUMBERS), "prompt": TEXTS}, optional={"handover": TEXTS}
    )
    schedule = st.fixed_dictionaries({"version": st.just(1), "cues": st.lists(cue, max_size=3)})
    return st.one_of(st.sampled_from(files), schedule)


def calls(app: App, files: list[Any]) -> st.SearchStrategy:
    """Names of endpoints with parameters, most of which the schema allows."""
    told = httpx.get(f"{app.url}/gradio_api/info", timeout=60).json()["named_endpoints"]
    kinds = []
    for name, endpoint in told.items():
        needed, optional = {}, {}
        for it in endpoint["parameters"]:
            values = st.one_of(suiting(it["type"], files), suiting(it["type"], files), ANYTHING)
            where = optional if it["parameter_has_default"] else needed
            where[it["parameter_name"]] = values
        given_ = st.fixed_dictionaries(needed, optional=optional)
        kinds.append(st.tuples(st.just(name), given_))
    return st.one_of(kinds)


class Caller:
    """Calls, and judges what is answered; `found` counts it."""

    def __init__(self, app: App, capfd):
        self.app, self.capfd = app, capfd
        self.web = httpx.Client(base_url=f"{app.url}/gradio_api", timeout=120)
        self.found: Counter[str] = Counter()

    def call(self, name: str, parameters: Any) -> None:
        """Over plain HTTP, as far as the first event."""
        answer = self.send("POST", f"/call/v2{name}", parameters)
        if answer.status_code != 200:
            return
        event = answer.json()["event_id"]
        with self.web.stream("GET", f"/call/v2{name}/{event}") as stream:
            kind = data = ""
            for line in stream.iter_lines():
                key, _, value = line.partition(": ")
                if key == "event" and value != "heartbeat":
                    kind = value
                elif key == "data" and kind:
                    data = value
                    break
        self.found[kind] += 1
        if kind == "error":
            self.judge(json.loads(data)["error"])

    def send(self, method: str, path: str, body: Any = None) -> httpx.Response:
        content = None if body is None else json.dumps(body)
        answer = self.web.request(method, path, content=content)
        self.found[str(answer.status_code)] += 1
        if answer.status_code >= 400 and answer.text:
            try:
                self.judge(answer.json()["detail"])
            except ValueError:
                self.judge(answer.text)
        return answer

    def judge(self, sentence: Any) -> None:
        """It explains, in words for people."""
        assert isinstance(sentence, str) and len(sentence.split()) > 3, sentence
        assert "something broke" not in sentence, self.capfd.readouterr()
        assert "4300 digits" not in sentence and "validation error" not in sentence
        assert len(sentence) < 2000

    def is_content(self) -> None:
        """Afterwards, nothing was logged, nothing goes on, and everything works."""
        said = "".join(self.capfd.readouterr())
        assert "Traceback" not in said and "something broke" not in said, said[-5000:]
        assert self.app.reaches(0)
        assert self.web.get(f"{self.app.url}/healthz").status_code == 200
        self.call("/models", {})
        assert self.found["complete"]


@pytest.fixture
def caller(app, capfd, request, tell):
    caller = Caller(app, capfd)
    yield caller
    caller.is_content()
    tell(request.node.name, ", ".join(f"{n} x {what}" for what, n in caller.found.most_common()))


def call_all(app, files, caller, how):
    @how
    @given(calls(app, files))
    def attack(named):
        caller.call(*named)

    attack()


def test_endpoints_answer_whatever_they_are_asked(app, files, caller):
    call_all(app, files, caller, FEW)


@pytest.mark.hostile
def test_endpoints_answer_whatever_they_are_asked_for_minutes(app, files, caller):
    call_all(app, files, caller, MANY)


ROUTES = [
    *("/queue/join", "/run/predict", "/api/predict", "/run/models", "/call/models", "/cancel"),
    *("/call/v2/models", "/reset", "/upload", "/call/text_to_video", "/run/text_to_video", "/mcp/"),
    *("/queue/data?session_hash=visitor-1", "/queue/data", "/call/models/x", "/upload_progress"),
    *("/file=/etc/passwd", "/file=%00", "/file=" + "x" * 5000, "/heartbeat", "/info", "/app_id"),
    *("/queue/status", "/startup-events", "/openapi.json", "/process_recording", "/config"),
]
PARTS = {
    "data": st.one_of(st.lists(ANYTHING, max_size=12), ANYTHING),
    "fn_index": st.one_of(st.integers(-1, 80), ANYTHING),
    "session_hash": st.one_of(st.just("visitor-1"), TEXTS, ANYTHING),
    "event_id": st.one_of(TEXTS, ANYTHING),
    "trigger_id": st.one_of(st.integers(-1, 300), st.none(), ANYTHING),
    "event_data": ANYTHING,
    "simple_format": ANYTHING,
    "batched": ANYTHING,
}
BODIES = st.one_of(st.fixed_dictionaries({}, optional=PARTS), st.none(), ANYTHING)
PATHS = st.one_of(
    st.sampled_from(ROUTES),
    st.text(string.ascii_letters + string.digits + "/=._-%", max_size=30).map("/{}".format),
)


def send_all(caller, how):
    @how
    @given(st.sampled_from(["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS"]), PATHS, BODIES)
    def attack(method, path, body):
        caller.send(method, path, body)

    attack()


def test_routes_answer_whatever_they_are_sent(caller):
    send_all(caller, FEW)


@pytest.mark.hostile
def test_routes_answer_whatever_they_are_sent_for_minutes(caller):
    send_all(caller, MANY)


def click_all(app, caller, how):
    """Functions of the page, as a browser whose page was changed by hand."""
    page = [fn for fn in app.page.fns.values() if fn.fn is not None]
    clicks = st.sampled_from(page).flatmap(
        lambda fn: st.tuples(
            st.just(fn),
            st.lists(ANYTHING, min_size=len(fn.inputs), max_size=len(fn.inputs)),
            ANYTHING,
        )
    )

    @how
    @given(clicks)
    def attack(click):
        fn, data, event = click
        body = {"fn_index": fn._id, "data": data, "session_hash": "visitor-1", "event_data": event}
        if not fn.queue:
            answer = caller.web.post("/run/predict", content=json.dumps(body))
            caller.found[str(answer.status_code)] += 1
            if answer.status_code != 200:
                assert 400 <= answer.status_code < 500, "it is a mistake of who sent it"
                told = answer.json()
                caller.judge(told.get("error") or told["detail"])
            return
        answer = caller.send("POST", "/queue/join", body)
        if answer.status_code != 200:
            return
        with caller.web.stream("GET", "/queue/data?session_hash=visitor-1") as stream:
            for line in stream.iter_lines():
                message = json.loads(line.removeprefix("data: ") or "{}")
                if message.get("msg") in ("process_completed", "process_generating"):
                    caller.found[message["msg"]] += 1
                    if not message["success"]:
                        caller.judge(message["output"]["error"])
                    break

    attack()


def test_the_pages_own_functions_answer_whatever_they_are_given(app, caller):
    click_all(app, caller, FEW)


@pytest.mark.hostile
def test_the_pages_own_functions_answer_whatever_they_are_given_for_minutes(app, caller):
    click_all(app, caller, MANY)


@pytest.mark.hostile
def test_calls_that_nobody_listens_to_cut_nobody_off(tmp_path, capfd, tell):
    """More of them than Gradio keeps sessions, while somebody watches a run that goes on."""
    calls = 2100
    with running(tmp_path, viewers=1, waiting=2, endless_seconds=1e5) as app:
        caller = Caller(app, capfd)
        endless = {"prompt": "a red car", "seconds": 0}
        event = caller.web.post("/call/v2/text_to_video", json=endless).json()["event_id"]
        address = f"{app.url}/gradio_api/call/v2/text_to_video/{event}"
        with httpx.stream("GET", address, timeout=120) as stream, ThreadPoolExecutor() as threads:
            chunks = (line for line in stream.iter_lines() if '"first_frame"' in line)
            assert next(chunks)
            done = threading.Event()
            viewer = threads.submit(lambda: next(line for line in chunks if done.is_set()))
            for number in range(calls):
                name, parameters = (
                    ("/models", {}),
                    ("/steer", {"run": f"{number}", "prompt": "a ball"}),
                )[number % 2]
                answer = caller.web.post(f"/call/v2{name}", json=parameters)
                caller.found[str(answer.status_code)] += 1
            done.set()
            assert viewer.result(), "one more chunk comes"
        assert caller.found == {"200": calls}
        caller.is_content()
    tell(f"{calls} calls that nobody listens to, beside a viewer", "the viewer's run went on")
