"""Requests and manifests: what is written can be read, and what they promise is written down."""

import dataclasses
import inspect
import json
import math
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from causvid.commands.schema import schemas
from causvid.generation.config import GenerationConfig
from causvid.generation.prompts import ScheduleError
from causvid.pipeline import CausVidPipeline
from causvid.presets.catalogue import PRESETS
from causvid.serving.record import ChunkInfo, Manifest, Recorder
from causvid.serving.request import Request

EXAMPLES = Path(__file__).parents[2] / "examples"


def ask(**values) -> Request:
    return Request.read({"model": "pocket", "prompts": "a red car", **values})


def frames_of(stream) -> np.ndarray:
    return np.concatenate([chunk.frames for chunk in stream])


def test_a_request_survives_json_and_opens_the_same_stream(pipeline):
    request = ask(prompts=pipeline.stream("a car").schedule, seconds=2.0, seed=9, steps=3)
    again = Request.read(json.loads(request.model_dump_json()))
    assert again == request
    first, second = (frames_of(it.open(pipeline)) for it in (request, again))
    assert np.array_equal(first, second)


def test_an_endless_request_is_written_as_such():
    endless = ask(seconds="endless")
    assert endless.seconds == math.inf
    assert endless.model_dump(mode="json")["seconds"] == "endless"


def test_only_a_video_to_follow_gives_a_length():
    assert ask().seconds == 5
    assert ask(mode="video").seconds is None


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"sead": 1}, "unknown request parameters: sead"),
        ({"prompts": "0s: a car\na boat"}, "line 2: 'a boat' is not a cue"),
        ({"seconds": -1}, "the length is -1; expected more than 0"),
        ({"seconds": math.nan}, "the length is nan; expected more than 0"),
        ({"strength": 2}, "the strength is 2; expected at most 1"),
        ({"steps": 0}, "the number of steps is 0; expected more than 0"),
        ({"seed": 2**63}, "expected less than 9223372036854775808"),
        ({"seed": True}, "the seed is True; expected a whole number"),
        ({"mode": "audio"}, "the mode is 'audio'; expected text, image or video"),
    ],
)
def test_a_request_says_in_a_sentence_what_it_does_not_take(values, said):
    with pytest.raises(ValueError) as caught:
        ask(**values)
    assert str(caught.value).partition("\n") == (str(caught.value), "", ""), "one sentence"
    assert said in str(caught.value)


def test_a_request_names_what_it_lacks():
    with pytest.raises(ValueError, match="missing request parameters: prompts"):
        Request.read({"model": "m"})


def test_a_cue_after_the_end_is_refused(pipeline):
    request = ask(prompts="0s: a car\n9s: a ball", seconds=3)
    with pytest.raises(ScheduleError, match="9 s"):
        request.open(pipeline)


@pytest.mark.parametrize("mode", ["image", "video"])
def test_a_mode_needs_its_input(pipeline, mode):
    with pytest.raises(ValueError, match=f"{mode}-to-video takes one {mode}"):
        ask(mode=mode).open(pipeline)


def test_the_pipeline_takes_the_same_parameters_with_the_same_defaults():
    """It lies below, so that it cannot be made from the fields."""
    taken = inspect.signature(CausVidPipeline.stream).parameters
    named = {name: field.default for name, field in Request.model_fields.items()}
    for name in ("prompts", "mode", "model"):
        del named[name]
    assert {
        name: parameter.default
        for name, parameter in taken.items()
        if name not in ("self", "prompt", "image", "video", "foreign")
    } == named


def test_a_manifest_tells_what_happened_and_reproduces_it(pipeline, tmp_path):
    preset = dataclasses.replace(PRESETS["pocket"], published=GenerationConfig())
    request = ask(seconds=5)
    with request.open(pipeline) as stream:
        recorder = Recorder(request, preset, stream)
        parts, infos = [], []
        for chunk in stream:
            parts.append(chunk.frames)
            recorder.add(chunk)
            infos.append(recorder.info("run"))
            if chunk.index == 1:
                stream.steer("a blue ball", "recache")
        manifest = recorder.manifest()
    assert manifest.video.frames == sum(map(len, parts)) == recorder.frames
    assert [c.prompt for c in manifest.chunks] == ["a red car"] * 2 + ["a blue ball"] * (
        len(parts) - 2
    )
    assert 0 < manifest.timings.first_frame_seconds <= manifest.timings.total_seconds
    manifest.save(tmp_path / "manifest.json")
    read = Manifest.read(tmp_path / "manifest.json")
    assert read.model_dump_json() == manifest.model_dump_json()
    assert np.array_equal(frames_of(read.request.open(pipeline)), np.concatenate(parts))
    for record, name in ((manifest, "manifest.json"), (infos[0], "info.json")):
        Draft202012Validator(schemas()[name]).validate(json.loads(record.model_dump_json()))
    assert infos[0] == ChunkInfo.read(json.loads(infos[0].model_dump_json()))


@pytest.mark.parametrize("at", [3, 5, 6])
@pytest.mark.parametrize("handover", ["swap", "recache", "flush"])
def test_words_that_come_late_are_reproduced_where_chunks_are_begun_early(pipeline, at, handover):
    """With the rolling sampler they take over after the end, and are heard before it."""
    rolling = CausVidPipeline(
        **pipeline.components,
        generation=dataclasses.replace(
            pipeline.generation,
            sampler="rolling",
            window=14,
            sink=1,
            timesteps=(1000.0, 750.0, 500.0),
        ),
    )
    request = ask(seconds=rolling.generator().timeline.duration(7))
    plain = frames_of(request.open(rolling))
    with request.open(rolling) as stream:
        recorder, parts = Recorder(request, PRESETS["pocket"], stream), []
        for chunk in stream:
            parts.append(chunk.frames)
            recorder.add(chunk)
            if chunk.index == at:
                stream.steer("a blue ball", handover)
        manifest = recorder.manifest()
    made = np.concatenate(parts)
    assert np.array_equal(made, plain) == (at == 6)  # after the last chunk nobody hears them
    assert len(manifest.request.prompts) == (1 if at == 6 else 2)
    assert np.array_equal(frames_of(manifest.request.open(rolling)), made)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("gallery/*.json")), ids=lambda it: it.stem)
def test_manifests_of_earlier_versions_can_be_read(path):
    """These were written before there were types."""
    assert Manifest.read(path).video.frames > 0


@pytest.mark.parametrize("text", ["no JSON", "[]", '{"version": 2}'])
def test_what_is_no_manifest_is_named(tmp_path, text):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"^other\.json: "):
        Manifest.read(path)


def test_the_written_schemas_are_current():
    for name, schema in schemas().items():
        Draft202012Validator.check_schema(schema)
        written = json.loads((EXAMPLES / "schema" / name).read_text(encoding="utf-8"))
        assert written == schema, "run `python -m causvid schema`"


def test_every_field_has_a_sentence():
    for record in (Request, ChunkInfo, Manifest):
        for name, field in record.model_fields.items():
            kind = getattr(field.annotation, "__doc__", None)
            assert field.description or kind or name in ("version", "done"), name
