"""Messages: every one that is read is valid by the schema, and what is not says what it may be."""

import json
import struct

import pytest
from jsonschema import Draft202012Validator

from causvid.realtime.messages import Misread, read, read_frame, schemas, write_frame
from causvid.serving.request import PARAMETERS

SAID = [
    {"type": "session.start", "prompt": "a red car"},
    {"type": "session.start", "schedule": "0s: a car", "mode": "live", "ahead": 2, "seconds": 0},
    {"type": "session.start", "schedule": [{"start": 0, "prompt": "a"}], "id": "x"},
    {"type": "session.start", "prompt": "a", "mode": "image", "input_bytes": 5, "size": "64x96"},
    {"type": "session.prompt_update", "prompt": "a", "handover": "blend:3", "id": 7},
    {"type": "session.played", "seconds": 1.5},
    {"type": "session.stop"},
    {"type": "session.extend", "seconds": 3, "run": "abc"},
]
WRONG = [
    ({"type": "session.start", "mode": "film"}, "the mode is 'film'; expected text, image"),
    ({"type": "session.start", "input_bytes": 0}, "more than 0"),
    ({"type": "session.start", "input_bytes": True}, "whole number"),
    ({"type": "session.start", "ahead": "2"}, "a number"),
    ({"type": "session.start", "fps": 30}, "unknown start parameters: fps"),
    ({"type": "session.played"}, "missing played parameters: seconds"),
    ({"type": "session.played", "seconds": None}, "seconds"),
    ({"type": "session.stop", "id": [1]}, "id"),
    ({"type": "session.stop", "id": -1}, "id"),
    ({"type": "session.stop", "id": "x" * 101}, "id"),
    ({"type": ["session.stop"]}, "expected one of session.start"),
]


@pytest.fixture(scope="module")
def schema():
    client = schemas()["client"]
    Draft202012Validator.check_schema(client)
    return Draft202012Validator(client)


@pytest.mark.parametrize("message", SAID)
def test_what_is_read_is_valid(schema, message):
    schema.validate(message)
    assert read(json.dumps(message)).type == message["type"]


@pytest.mark.parametrize(("message", "said"), WRONG)
def test_what_is_not_read_is_not_valid_and_is_explained(schema, message, said):
    assert not schema.is_valid(message)
    with pytest.raises(Misread) as misread:
        read(json.dumps(message))
    assert said in str(misread.value)


def test_an_error_names_the_message(schema):
    for name in (5, "it"):
        with pytest.raises(Misread) as misread:
            read(json.dumps({"type": "session.stop", "id": name, "now": 1}))
        assert (misread.value.of, misread.value.id) == ("session.stop", name)


@pytest.mark.parametrize(
    "text", ["", "session.stop", "[" * 10**5, '{"type": NaN}', '"\\ud83d"', '{"a": 1e999}']
)
def test_what_is_no_json_is_said_to_be_none(text):
    with pytest.raises(Misread, match=r"is no JSON|expected"):
        read(text)


def test_a_session_takes_every_parameter_of_a_request(schema):
    start = schemas()["client"]["$defs"]["Start"]["properties"]
    assert set(PARAMETERS) <= set(start)
    for name, parameter in PARAMETERS.items():
        assert name == "seconds" or start[name]["description"] == parameter.sentence


@pytest.mark.parametrize("time", [0.0, -1.5, 1e300])
def test_a_picture_has_its_time(time):
    assert read_frame(write_frame(time, b"picture")) == (time, b"picture")
    assert write_frame(time, b"") == struct.pack(">d", time)
