import io
import math
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file

import causvid
from causvid.generation import generator as generators
from causvid.generation.generator import Generator
from causvid.generation.prompts import PromptSchedule
from causvid.model.transformer import CausalWanTransformer
from causvid.pipeline import CausVidPipeline
from tests.videos import write_video


def noise_pictures(count, size=(40, 70), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *size, 3), dtype=np.uint8)


def test_the_batch_call_is_a_fold_over_the_stream(pipeline):
    whole = pipeline("a red car", seconds=2, seed=3, output_type="uint8").frames
    with pipeline.stream("a red car", seconds=2, seed=3) as stream:
        parts = [chunk.frames for chunk in stream]
    assert np.array_equal(whole[0], np.concatenate(parts))


def test_output_types_hold_the_same_video(pipeline):
    def make(kind):
        return pipeline("a car", seconds=1, output_type=kind).frames

    raw = make("uint8")
    assert make("np").shape == raw.shape and make("np").dtype == np.float32
    np.testing.assert_allclose(make("np"), raw / 255, atol=1e-6)
    assert make("pt").shape == (1, raw.shape[1], 3, 32, 48)
    assert np.array_equal(np.asarray(make("pil")[0][2]), raw[0, 2])


def test_saving_and_loading_keeps_the_video(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    again = CausVidPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    assert again.generation == pipeline.generation
    ours, theirs = (
        p("a blue ball", seconds=2, output_type="uint8").frames for p in (pipeline, again)
    )
    assert np.array_equal(ours, theirs)


def test_an_image_is_cropped_and_starts_the_video(pipeline, tmp_path):
    picture = noise_pictures(1)[0]
    path = tmp_path / "picture.png"
    PIL.Image.fromarray(picture).save(path)
    buffer = io.BytesIO(path.read_bytes())
    videos = [
        pipeline("a car", image=image, seconds=1, output_type="uint8").frames
        for image in (path, str(path), buffer.getvalue(), picture, PIL.Image.fromarray(picture))
    ]
    for video in videos[1:]:
        assert np.array_equal(video, videos[0])
    without = pipeline("a car", seconds=1, output_type="uint8").frames
    assert not np.array_equal(without, videos[0])


def test_a_video_file_sets_length_and_start(pipeline, tmp_path):
    path = tmp_path / "clip.mp4"
    write_video(path, noise_pictures(20), fps=8)
    video = pipeline("a car", video=path, strength=0.5, output_type="uint8").frames
    assert video.shape[1] == 20
    shorter = pipeline("a car", video=path, strength=0.5, seconds=1, output_type="uint8").frames
    assert np.array_equal(shorter, video[:, : shorter.shape[1]])


def as_video(pipeline, pictures) -> np.ndarray:
    return pipeline("a car", video=pictures, strength=0.3, output_type="uint8").frames


def test_pictures_of_any_size_and_kind_are_a_source(pipeline):
    fitting = noise_pictures(9, (32, 48))
    expected = as_video(pipeline, list(fitting))
    assert expected.shape == (1, 9, 32, 48, 3)
    opaque = np.full((9, 32, 48, 1), 255, np.uint8)
    for same in (
        fitting,
        iter(fitting),
        [PIL.Image.fromarray(it) for it in fitting],
        fitting.astype(np.float32) / 255,
        np.concatenate([fitting, opaque], axis=-1),
    ):
        assert np.array_equal(as_video(pipeline, same), expected)
    for other in (noise_pictures(9, (384, 384)), [*fitting[:4], *noise_pictures(5, (20, 90))]):
        assert as_video(pipeline, other).shape == expected.shape
    grey = np.full((64, 96), 0.5)
    shown = pipeline.stream("a car", video=[grey] * 3).step().source
    assert (shown == 128).all()


@pytest.mark.parametrize(
    ("pictures", "said"),
    [
        ([], "the source video has no pictures"),
        (iter([]), "the source video has no pictures"),
        (
            [np.full((32, 48, 3), 7.0)],
            r"float64 .* or floats from 0 to 1",
        ),
        ([np.zeros((32, 48, 7), np.uint8)], "got 7 channels"),
        ([torch.zeros(3, 32, 48)], "got Tensor; expected"),
        (
            [np.zeros((2, 32, 48, 3), np.uint8)],
            r"uint8 \[2, 32, 48, 3\]",
        ),
    ],
)
def test_what_is_no_source_is_told(pipeline, pictures, said):
    with pytest.raises(ValueError, match=said):
        as_video(pipeline, pictures)


def test_portrait_and_square_need_no_other_weights(pipeline):
    for height, width in ((48, 32), (40, 40)):
        frames = pipeline(
            "a car", seconds=1, height=height, width=width, output_type="uint8"
        ).frames
        assert frames.shape[2:4] == (height, width)


def test_steps_window_and_sink_can_be_changed(pipeline):
    base = pipeline("a car", seconds=6, output_type="uint8").frames
    for change in ({"steps": 3}, {"window": 5}, {"sink": 0}):
        assert not np.array_equal(
            base, pipeline("a car", seconds=6, output_type="uint8", **change).frames
        )


def test_resuming_goes_on_where_the_stream_was(pipeline, tmp_path):
    options = {"seconds": 6, "height": 48, "width": 32, "seed": 4, "window": 6}
    whole = pipeline("a car", output_type="uint8", **options).frames[0]
    stream = pipeline.stream("a car", **options)
    parts = [stream.step().frames, stream.step().frames]
    path = tmp_path / "stream.safetensors"
    path.write_bytes(stream.snapshot())
    parts += [chunk.frames for chunk in pipeline.resume(path)]
    assert np.array_equal(np.concatenate(parts), whole)


def test_endless_streams_stream_and_are_not_returned_whole(pipeline):
    with pipeline.stream("a car", seconds=math.inf) as stream:
        assert stream.chunk_count is None
        assert len(stream.step().frames) == 1
    with pytest.raises(ValueError, match="use stream"):
        pipeline("a car", seconds=math.inf)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seconds": 0}, "more than 0 seconds"),
        ({"seed": -1}, r"a whole number from 0 to 2\*\*63 - 1, got -1"),
        ({"height": 33}, "multiple of 8"),
        ({"steps": 0}, "1 … 50"),
        ({"sink": 9}, "cannot hold a sink"),
        ({"decoder": "tiny"}, "no tiny decoder"),
        ({"image": b"x", "video": "y"}, "only one"),
        ({"image": b"not a picture"}, "picture|image"),
    ],
)
def test_bad_options_are_refused_before_any_work(pipeline, monkeypatch, options, message):
    def forbidden(*_args, **_kwargs):
        raise AssertionError("the transformer was run")

    monkeypatch.setattr(Generator, "predict_clean", forbidden)
    with pytest.raises(ValueError, match=message):
        pipeline.stream("a car", **options)


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("num_frames", "use seconds"),
        ("num_inference_steps", "use steps"),
        ("generator", "use seed"),
        ("guidance_scale", "leave it out"),
        ("heigth", r"did you mean height\?"),
        ("zzz", "there are output_type, prompt"),
    ],
)
def test_unknown_arguments_are_answered_with_what_to_use(pipeline, name, cure):
    with pytest.raises(TypeError, match=rf"__call__\(\) has no argument '{name}': {cure}"):
        pipeline("a car", **{name: 1})
    cure = cure.replace("output_type, ", "")
    with pytest.raises(TypeError, match=rf"stream\(\) has no argument '{name}': {cure}"):
        pipeline.stream("a car", **{name: 1})


@pytest.mark.parametrize("prompt", [["a car", "a ball"], None, 7])
def test_a_prompt_is_one_text_or_a_schedule(pipeline, prompt):
    with pytest.raises(ValueError, match=rf"got a {type(prompt).__name__} as the prompt"):
        pipeline.stream(prompt)


@pytest.mark.parametrize("output_type", ["np", "pt", "pil", "uint8"])
def test_frames_are_written_to_a_file_as_they_are_returned(pipeline, tmp_path, output_type):
    frames = pipeline("a red car", seconds=0.3, output_type=output_type).frames
    path = tmp_path / "car.mp4"
    causvid.write_video(path, frames[0], fps=pipeline.generation.fps)
    raw = pipeline("a red car", seconds=0.3, output_type="uint8").frames[0]
    write_video(tmp_path / "raw.mp4", raw, fps=8)
    assert path.read_bytes() == (tmp_path / "raw.mp4").read_bytes()


@pytest.mark.parametrize("number", [2.0, -0.5, math.nan])
def test_floats_that_are_no_shares_are_not_written(tmp_path, number):
    with pytest.raises(ValueError, match=r"got frames from .*expected floats from 0 to 1"):
        causvid.write_video(tmp_path / "a.mp4", np.full((2, 8, 8, 3), number), fps=8)


@pytest.mark.parametrize("source", ["/nope", "./nope", "nope.safetensors", Path("no/pe")])
def test_an_adapter_that_is_not_there_is_missed_in_a_sentence(pipeline, source):
    with pytest.raises(ValueError, match=r"there is no LoRA .*expected a \.safetensors file"):
        pipeline.load_lora_weights(source)


def lora_file(transformer, folder, scale):
    """A LoRA adapter of the transformer's linear layers, as peft writes it."""
    model = CausalWanTransformer.from_config(transformer.config)
    model.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_v"]))
    state = get_peft_model_state_dict(model)
    generator = torch.Generator().manual_seed(0)
    state = {
        f"transformer.{k}": torch.randn(v.shape, generator=generator) * scale
        for k, v in state.items()
    }
    save_file(state, folder / "adapter.safetensors")
    return folder / "adapter.safetensors"


def test_lora_loads_scales_and_unloads_without_a_restart(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path / "pipe")
    pipe = CausVidPipeline.from_pretrained(tmp_path / "pipe")
    pipe.set_progress_bar_config(disable=True)

    def make():
        return pipe("a car", seconds=2, output_type="uint8").frames.astype(int)

    plain = make()
    pipe.load_lora_weights(lora_file(pipe.transformer, tmp_path, 0.3), adapter_name="style")
    full = make()
    assert np.abs(full - plain).max() > 0
    pipe.set_adapters("style", 0.0)
    assert np.array_equal(make(), plain)
    pipe.set_adapters("style", 1.0)
    assert np.array_equal(make(), full)
    pipe.unload_lora_weights()
    assert np.array_equal(make(), plain)


@pytest.mark.parametrize("how", ["model", "group"])
def test_offloading_changes_no_frame(pipeline, tmp_path, how, monkeypatch):
    """The CPU stands in for the accelerator: hooks move weights and arguments all the same.
    Offloaded models have no static pass, which rounds otherwise, so here neither has."""
    monkeypatch.setattr(generators, "static_pass", lambda model: None)
    pipeline.save_pretrained(tmp_path)
    pipe = CausVidPipeline.from_pretrained(tmp_path)
    pipe.set_progress_bar_config(disable=True)
    if how == "group":
        cpu = torch.device("cpu")
        for module in (pipe.transformer, pipe.vae):
            module.enable_group_offload(cpu, cpu, offload_type="leaf_level")
    else:
        pipe.enable_model_cpu_offload(device="cpu")
    story = PromptSchedule.parse("0s: a red car\n2s [recache]: a blue ball")
    ours, theirs = (
        p(story, seconds=5, image=noise_pictures(1)[0], output_type="uint8").frames
        for p in (pipe, pipeline)
    )
    assert np.array_equal(ours, theirs)
