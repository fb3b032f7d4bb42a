"""The gate: each function is open by the doors that it should be, to whom it should be."""

import json
import uuid

import httpx
import pytest
from gradio_client import Client

from causvid.ui.endpoints import ENDPOINTS
from causvid.ui.gate import doors
from tests.appserver import running

NAMED = ("call", "call/v2", "run", "api")
OWN = (("queue", "queue/join"), ("run", "run/predict"), ("run", "api/predict"))
NOBODY = (None, "", " ", "me", "null", 0, ["visitor-1"], {"a": 1}, "x" * 500, "half \ud83d")


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    folder = tmp_path_factory.mktemp("standin")
    with running(folder, viewers=2, waiting=2, endless_seconds=1e5, mcp=True) as app:
        yield app


@pytest.fixture
def post(app, capfd):
    """Post JSON to one of Gradio's routes; whatever comes, nothing is logged."""
    with httpx.Client(base_url=f"{app.url}/gradio_api/", timeout=60) as web:

        def post(route: str, body) -> httpx.Response:
            answer = web.post(route, content=json.dumps(body), headers={"content-type": "app/json"})
            assert "error" not in answer.text or "null" not in answer.text
            return answer

        yield post
    said = capfd.readouterr()
    assert "Traceback" not in said.out + said.err


@pytest.fixture
def told(app, capfd):
    """Call an endpoint over plain HTTP; the sentence of its error, or its last result."""
    with httpx.Client(base_url=f"{app.url}/gradio_api/call/v2/", timeout=60) as web:

        def told(name: str, parameters: dict, result: str = "error") -> str:
            event = web.post(name, content=json.dumps(parameters)).json()["event_id"]
            *_, kind, data = web.get(f"{name}/{event}").text.strip().splitlines()
            assert kind == f"event: {result}", data
            data = data.removeprefix("data: ")
            return json.loads(data)["error"] if result == "error" else data

        yield told
    assert "Traceback" not in "".join(capfd.readouterr())


def private(app):
    return [fn for fn in app.page.fns.values() if fn.api_visibility != "public"]


def refused(answer: httpx.Response) -> bool:
    """With a sentence and the status of the caller's mistakes."""
    return answer.status_code in (404, 405, 413, 422) and len(answer.json()["detail"]) > 10


def test_what_is_private_is_closed_at_every_door_but_the_pages_own(app, post):
    assert len(private(app)) > 20
    public = {endpoint.name for endpoint in ENDPOINTS}
    for fn in private(app):
        session = uuid.uuid4().hex
        body = {"data": [None] * len(fn.inputs), "session_hash": session, "fn_index": fn._id}
        for door in NAMED:
            names = {str(fn.api_name), str(fn.name), str(fn._id)} - public
            for name in names | ({"predict"} if "call" in door else set()):
                answer = post(f"{door}/{name}", body)
                assert refused(answer), (fn.name, door, name, answer.text)
        for door, route in (
            ("queue", "queue/join"),
            ("run", "run/predict"),
            ("run", "api/predict"),
        ):
            if door not in doors(fn):
                assert refused(post(route, body)), (fn.name, route)


def test_a_public_name_leads_to_no_private_number(app, post):
    told = post("run/models", {"data": []}).json()["data"]
    for fn in private(app)[:5]:
        answer = post("run/models", {"data": [], "fn_index": fn._id, "session_hash": "visitor-1"})
        assert answer.json()["data"] == told


def test_what_is_private_is_for_a_session_that_can_own_something(app, post):
    for fn in private(app):
        for door in doors(fn):
            route = {"queue": "queue/join", "run": "run/predict"}[door]
            for nobody in NOBODY:
                body = {"data": [None] * len(fn.inputs), "fn_index": fn._id}
                answer = post(route, {**body, "session_hash": nobody})
                assert refused(answer), (fn.name, nobody, answer.text)
            assert refused(post(route, body)), fn.name


def test_what_ends_the_runs_of_a_browser_that_left_has_no_door(app):
    (leave,) = (fn for fn in private(app) if any(event == "unload" for _, event in fn.targets))
    assert doors(leave) == frozenset()


def test_nobody_ends_or_deletes_the_run_of_another(app, post):
    client = Client(app.url, verbose=False)
    job = client.submit("a red car", 0, api_name="/text_to_video")
    assert app.reaches(1)
    _, finished, _ = client.predict("a ball", 0.5, api_name="/text_to_video")
    for session in ("", None, "nobody-I-know"):
        for fn in private(app):
            if fn.name in ("leave", "stop", "steer", "extend"):
                body = {"data": [None] * len(fn.inputs), "session_hash": session}
                for route in (f"run/{fn.api_name}", f"call/{fn.api_name}", f"api/{fn.api_name}"):
                    post(route, body)
                for route in ("run/predict", "api/predict", "queue/join"):
                    post(route, {**body, "fn_index": fn._id})
        post("cancel", {"session_hash": session, "fn_index": 0, "event_id": "x"})
        with httpx.stream("GET", f"{app.url}/gradio_api/heartbeat/{session}"):
            pass
    assert app.reaches(1), "the other's run goes on"
    extended = client.predict(finished["run"], 0.5, api_name="/extend")
    assert extended[1]["video"]["frames"] > finished["video"]["frames"]
    job.cancel()
    assert app.reaches(0)


@pytest.mark.parametrize(
    ("method", "path", "said"),
    [
        ("GET", "upload_progress", "the request has no query.upload_id, which is needed here"),
        ("POST", "reset", "the body is missing; expected a JSON object"),
        ("GET", "upload_progress?upload=x", "has no query.upload_id"),
    ],
)
def test_what_is_missing_is_named_in_a_sentence(app, method, path, said):
    content = "null" if method == "POST" else None
    answer = httpx.request(method, f"{app.url}/gradio_api/{path}", content=content, timeout=60)
    assert said in answer.text


@pytest.mark.parametrize("kind", [None, "application/json", "multipart/form-data", "text/plain"])
def test_an_upload_of_another_type_is_told_the_right_one(app, kind):
    headers = {"content-type": kind} if kind else {}
    url = f"{app.url}/gradio_api/upload"
    answer = httpx.post(url, content=b"x", headers=headers, timeout=60)
    assert answer.status_code == 415 and "multipart/form-data with" in answer.json()["detail"]


def test_a_page_may_open_a_stream_when_all_was_told(app):
    """Gradio's page does where the answer to its second call comes later than the call's result.
    What it hears there is the next call's result, and no error."""
    session = {"session_hash": uuid.uuid4().hex}
    models = next(fn for fn in app.page.fns.values() if fn.api_name == "models")
    with httpx.Client(base_url=f"{app.url}/gradio_api/", timeout=60) as web:

        def joined() -> str:
            answer = web.post("queue/join", json={"data": [], "fn_index": models._id, **session})
            return answer.json()["event_id"]

        def told(lines, event: str) -> bool:
            messages = [json.loads(line.partition(": ")[2]) for line in lines if line]
            assert {message.get("event_id") for message in messages[:-1]} <= {event, None}
            return [message["msg"] for message in messages][-2:] == [
                "process_completed",
                "close_stream",
            ]

        with web.stream("GET", f"heartbeat/{session['session_hash']}"):
            event = joined()
            assert told(web.get("queue/data", params=session).text.splitlines(), event)
            with web.stream("GET", "queue/data", params=session) as stream:
                event = joined()
                assert told(stream.iter_lines(), event)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "gradio_api/process_recording"),
        ("POST", "gradio_api/component_server"),
        ("POST", "gradio_api/vibe-edit"),
        ("GET", "gradio_api/vibe-code"),
        ("GET", "gradio_api/deep_link?session_hash=x"),
        ("GET", "gradio_api/dev/reload"),
        ("GET", "gradio_api/proxy=https://a.hf.space/x"),
        ("GET", "gradio_api/file=http://127.0.0.1/x"),
        ("GET", "gradio_api/file=//https://huggingface.co/robots.txt"),
        ("GET", "monitoring"),
        ("POST", "login"),
        ("PUT", "gradio_api/upload"),
        ("DELETE", ""),
        ("GET", "gradio_api/stream/a/b/1/playlist.m3u8"),
        ("POST", "gradio_api/stream/x/close"),
        ("POST", "GRADIO_API/process_recording"),
        ("POST", "gradio_api//process_recording"),
        ("POST", "gradio_api/process%5Frecording/"),
        ("GET", "no/such/\ud7ff"),
    ],
)
def test_what_the_page_does_not_need_is_not_there(app, method, path, capfd):
    answer = httpx.request(method, f"{app.url}/{path}", timeout=60)
    assert refused(answer), answer.text
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("body", [b"x" * 1_100_000, b'{"data": ["' + b"a" * 2_000_000 + b'"]}'])
@pytest.mark.parametrize("route", ["queue/join", "call/models", "run/predict", "cancel", "mcp/"])
def test_json_is_small(app, route, body):
    answer = httpx.post(f"{app.url}/gradio_api/{route}", content=body, timeout=60)
    assert answer.status_code == 413 and "1 MB" in answer.json()["detail"]
    in_parts = httpx.post(f"{app.url}/gradio_api/{route}", content=iter([body]), timeout=60)
    assert in_parts.status_code == 413


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"\xff\xfe\x00", "no JSON"),
        (b"[" * 100_000, "nested"),
        (b"[" * 200 + b"]" * 200, "nested"),
        (b'{"data": [Infinity]}', "no number"),
        (b'{"data": [NaN]}', "no number"),
        (b'{"data": [1e999]}', "too large"),
        (b'{"data": [' + b"9" * 5000 + b"]}", "5000 digits"),
        (b"[]", "expected a JSON object"),
        (b'"a"', "expected a JSON object"),
        (b"{}", "data is missing; expected a list"),
        (b'{"data": 5}', "data is 5; expected a list"),
        (b'{"data": [], "session_hash": "visitor-1", "fn_index": 1e9}', "no function"),
        (b'{"data": [], "session_hash": "visitor-1", "fn_index": -1}', "no function"),
        (b'{"data": [], "session_hash": "visitor-1", "fn_index": true}', "no function"),
        (b'{"data": [], "session_hash": "visitor-1"}', "no function missing"),
        (b'{"data": [], "session_hash": "visitor-1", "trigger_id": "x"}', "whole number"),
    ],
)
def test_a_body_that_is_no_call_is_refused_with_a_sentence(app, body, said, capfd):
    answer = httpx.post(f"{app.url}/gradio_api/queue/join", content=body, timeout=60)
    assert answer.status_code in (400, 404, 422) and said in answer.json()["detail"]
    assert "Traceback" not in "".join(capfd.readouterr())


WRONG = (None, 5, "x", [], {"a": 1}, 10**400, "half \ud83d", {"path": "/etc/passwd"}, True)


@pytest.mark.parametrize("wrong", WRONG, ids=[repr(it)[:12] for it in WRONG])
def test_a_mistake_in_a_call_of_the_page_is_no_error_of_the_server(app, post, wrong):
    for fn in private(app):
        if "run" not in doors(fn):
            continue
        body = {"data": [wrong] * len(fn.inputs), "session_hash": "visitor-1", "fn_index": fn._id}
        answer = post("run/predict", body)
        if answer.status_code != 200:
            assert answer.status_code == 422, (fn.name, answer.text)
            told = answer.json()
            assert len((told.get("error") or told["detail"]).split()) > 3


@pytest.mark.parametrize("door", ["run", "api"])
def test_a_mistake_in_a_call_that_is_answered_at_once_is_the_callers(app, post, door):
    call = f"{door}/steer"
    answer = post(call, {"data": ["nothing", "a red car", None]})
    assert answer.status_code == 422 and "there is no run" in answer.json()["error"]
    for data in (["nothing", "", None], [5, 5, 5], ["nothing", "a car", "leap"]):
        assert post(call, {"data": data}).status_code == 422


def test_an_error_of_the_inside_is_one_of_the_server(app, monkeypatch):
    def broken(*_):
        raise RuntimeError("no")

    monkeypatch.setattr(type(app.service), "steer", broken)
    body = {"data": ["nothing", "a red car", None]}
    answer = httpx.post(f"{app.url}/gradio_api/run/steer", json=body, timeout=60)
    assert answer.status_code == 500 and "something broke here" in answer.json()["error"]


@pytest.mark.parametrize(
    "path",
    [
        "queue/data?session_hash=somebody-else",
        "queue/data?session_hash=",
        "queue/data",
        "call/text_to_video/nothing",
        "call/v2/models/nothing",
        "call/nothing/nothing",
    ],
)
def test_who_asks_for_an_unknown_call_is_told(app, path, capfd):
    answer = httpx.get(f"{app.url}/gradio_api/{path}", timeout=60)
    told = answer.text
    assert "there is no" in told or "session_not_found" in told or answer.status_code == 422
    assert "null" not in told
    assert "Traceback" not in "".join(capfd.readouterr())


HUGE = [10**400, -(10**400), 2**64, 10**999]


@pytest.mark.parametrize("huge", HUGE)
@pytest.mark.parametrize(
    ("name", "call"),
    [
        *(("text_to_video", key) for key in ("seconds", "seed", "steps", "window", "sink", "size")),
        *(("preflight", key) for key in ("seconds", "window", "size")),
        *(("extend", key) for key in ("run", "seconds")),
        *(("steer", key) for key in ("run", "handover")),
    ],
)
def test_a_huge_integer_is_refused_with_the_usual_sentence(app, told, name, call, huge):
    needed = {"text_to_video": ["prompt"], "extend": ["run"], "steer": ["run", "prompt"]}
    said = told(name, {**dict.fromkeys(needed.get(name, []), "a ball"), call: huge})
    assert "something" not in said and len(said) < 300 and len(said.split()) > 4


@pytest.mark.parametrize("half", ["a red car \ud83d", "\ude00 a red car", "a \ud83d\ud83d car"])
def test_half_an_emoji_is_made_into_a_sign_for_what_is_missing(app, told, half):
    whole = half.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    made = told("text_to_video", {"prompt": half, "seconds": 0.5}, result="complete")
    manifest = json.loads(made)[1]
    assert manifest["request"]["prompts"]["cues"][0]["prompt"] == whole
    cues = {"version": 1, "cues": [{"start": 0, "prompt": half}]}
    made = told("scheduled_video", {"schedule": cues, "seconds": 0.5}, result="complete")
    assert json.loads(made)[1]["request"]["prompts"]["cues"][0]["prompt"] == whole
    longer = {"run": manifest["run"], "prompt": half, "seconds": 0.5}
    assert whole in json.dumps(
        json.loads(told("extend", longer, result="complete")), ensure_ascii=False
    )
    assert "there is no run" in told("steer", {"run": half, "prompt": half})


def test_other_pages_of_a_local_machine_are_strangers(app):
    port = httpx.URL(app.url).port
    for origin in ("http://localhost:1", "http://127.0.0.1:1", "https://a.org", "null"):
        for method, more in (("GET", {}), ("OPTIONS", {"access-control-request-method": "POST"})):
            url, headers = f"{app.url}/gradio_api/info", {"origin": origin, **more}
            answer = httpx.request(method, url, headers=headers, timeout=60)
            assert not {it for it in answer.headers if it.startswith("access-control-allow-o")}
            assert "access-control-allow-credentials" not in answer.headers
    own = httpx.get(f"{app.url}/config", headers={"origin": f"http://127.0.0.1:{port}"}, timeout=60)
    assert own.status_code == 200


def test_answers_tell_browsers_what_they_may_do(app):
    for path in ("/", "/healthz", "/gradio_api/info", "/nothing", "/gradio_api/file=nothing"):
        headers = httpx.get(app.url + path, timeout=60).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "content-security-policy" in headers and "referrer-policy" in headers
    assert "sandbox" in headers["content-security-policy"], "an uploaded page cannot run scripts"
