"""The laws of streams and of training, on a CUDA device; what only a GPU can show, too.

python -m pytest -m gpu
"""

import copy
import dataclasses
import json

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState

from causvid.__main__ import main
from causvid.benchmark.untrained import untrained_pipeline
from causvid.generation.generator import Memory
from causvid.generation.source import to_frames
from causvid.model.static import static_pass
from causvid.pipeline import CausVidPipeline
from causvid.presets.catalogue import POCKET, SELF_FORCING
from causvid.presets.execution import compile_layers
from causvid.presets.loading import load_preset
from causvid.presets.preflight import RESERVE, preflight
from causvid.presets.preset import TransformerSize

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]

CUDA = torch.device("cuda")
PROMPT = "a red car drives through a meadow, by day"


@pytest.fixture(autouse=True)
def whole_precision():
    """Convolutions in float32, not in TF32, so that devices can be compared."""
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = allowed


@pytest.fixture(scope="module")
def pocket() -> CausVidPipeline:
    return load_preset(POCKET, device=CUDA, dtype=torch.float32)


@pytest.fixture(scope="module")
def wan() -> CausVidPipeline:
    """All of 1.3B but its depth, in bfloat16, untrained."""
    preset = dataclasses.replace(SELF_FORCING, transformer=TransformerSize(num_layers=2))
    return untrained_pipeline(preset, device=CUDA)


def frames(pipe: CausVidPipeline, prompt: str = PROMPT, seconds: float = 4.0, **options):
    with pipe.stream(prompt, seconds=seconds, **options) as stream:
        return np.concatenate([chunk.frames for chunk in stream])


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = np.mean((a.astype(float) - b.astype(float)) ** 2)
    return float("inf") if error == 0 else 10 * np.log10(255**2 / error)


def test_the_same_seed_gives_the_same_video_on_every_device(pocket):
    on_cpu = load_preset(POCKET, device="cpu", dtype=torch.float32)
    assert psnr(frames(pocket), frames(on_cpu)) > 45


def test_half_precision_shows_the_same_scene(pocket):
    half = load_preset(POCKET, device=CUDA)
    assert half.transformer.dtype == torch.bfloat16
    assert psnr(frames(half, seconds=1), frames(pocket, seconds=1)) > 24


@pytest.mark.parametrize("name", ["pocket", "wan"])
def test_the_same_seed_gives_the_same_frames_and_another_others(name, request):
    pipe = request.getfixturevalue(name)
    first = frames(pipe, seconds=3, seed=5)
    assert np.array_equal(first, frames(pipe, seconds=3, seed=5))
    assert not np.array_equal(first, frames(pipe, seconds=3, seed=6))


def test_two_streams_do_not_touch_each_other(pocket):
    prompts = (PROMPT, "a blue boat on the sea at night")
    alone = [frames(pocket, prompt) for prompt in prompts]
    streams = [pocket.stream(prompt, seconds=4) for prompt in prompts]
    parts = list(zip(*streams, strict=True))
    for index, stream in enumerate(streams):
        stream.close()
        together = np.concatenate([pair[index].frames for pair in parts])
        assert np.array_equal(together, alone[index])


def test_the_future_never_changes_the_past(pocket):
    plain = frames(pocket)
    for handover in ("swap", "recache", "flush", "blend:2"):
        with pocket.stream(PROMPT, seconds=4) as stream:
            parts = [stream.step().frames for _ in range(3)]
            stream.steer("a yellow balloon over the sea at sunset", handover)
            parts += [chunk.frames for chunk in stream]
        steered = np.concatenate(parts)
        kept = sum(len(part) for part in parts[:3])
        assert np.array_equal(steered[:kept], plain[:kept])
        assert not np.array_equal(steered[kept:], plain[kept:]), handover


def test_a_snapshot_goes_on_as_if_nothing_had_happened(pocket):
    whole = frames(pocket)
    with pocket.stream(PROMPT, seconds=4) as stream:
        parts = [stream.step().frames for _ in range(3)]
        data = stream.snapshot()
    with pocket.resume(data) as stream:
        parts += [chunk.frames for chunk in stream]
    assert np.array_equal(np.concatenate(parts), whole)


def test_pictures_and_videos_are_taken_in(pocket):
    source = frames(pocket, seconds=2)
    first = frames(pocket, image=source[0], seconds=1)[0]
    assert psnr(first, source[0]) > 25
    gentle, bold = (frames(pocket, video=source, strength=s, seed=1) for s in (0.3, 1.0))
    assert gentle.shape == bold.shape == source.shape
    assert psnr(gentle, source) > psnr(bold, source)


@pytest.mark.parametrize("decoder", ["full", "tiny"])
def test_decoding_chunks_equals_decoding_all_at_once(wan, decoder):
    codec = wan.codec(decoder)
    latents = torch.randn(1, 7, 16, 30, 52, generator=torch.Generator().manual_seed(0)).to(CUDA)
    whole = to_frames(codec.decode(latents, codec.start()))
    state = codec.start()
    parts = [codec.decode(part, state) for part in latents.split([1, 3, 3], dim=1)]
    assert psnr(to_frames(torch.cat(parts, dim=1)), whole) > 40  # bfloat16, other kernels


@torch.inference_mode()
def test_a_chunk_never_makes_the_host_wait(wan):
    generator = wan.generator()
    config = generator.config
    memory = Memory(generator.new_cache(), generator.encode_text(wan.prompt_encoder(PROMPT)))

    def make(chunk: int) -> None:
        noise = torch.randn(generator.chunk_shape(chunk), device=CUDA)
        memory.cache.open(config.chunks.frames(chunk))
        generator.denoise(config.levels(chunk), lambda step: noise, memory)
        memory.cache.advance()

    steady = config.chunks.covering(config.window) + 1
    for chunk in range(steady):
        make(chunk)
    torch.cuda.set_sync_debug_mode("error")
    try:
        make(steady)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_compiled_layers_make_the_same_video(wan):
    compiled = CausVidPipeline(
        **{**wan.components, "transformer": copy.deepcopy(wan.transformer)},
        generation=wan.generation,
    )
    compile_layers(compiled)
    assert psnr(frames(compiled, seconds=2), frames(wan, seconds=2)) > 20


@pytest.fixture
def captured(wan) -> CausVidPipeline:
    pipe = CausVidPipeline(
        **{**wan.components, "transformer": copy.deepcopy(wan.transformer)},
        generation=wan.generation,
    )
    pipe.transformer.passes = "captured"
    return pipe


def test_captured_passes_make_the_same_frames_for_one_viewer_after_the_other(wan, captured):
    for seed, prompt in enumerate((PROMPT, "a blue boat on the sea at night")):
        made = frames(captured, prompt, seed=seed, window=6)
        assert np.array_equal(made, frames(wan, prompt, seed=seed, window=6))
    found = static_pass(captured.transformer).captured
    assert found.refused is None and found.count == 2  # three frames are seen, then six


def test_captured_passes_are_steered_kept_and_resumed(wan, captured):
    def told(pipe, resumed_by):
        with pipe.stream(PROMPT, seconds=4, window=6, sink=3) as stream:
            parts = [stream.step().frames for _ in range(3)]
            stream.steer("a yellow balloon over the sea at sunset", "recache")
            parts.append(stream.step().frames)
            data = stream.snapshot()
        with resumed_by.resume(data) as stream:
            return np.concatenate([*parts, *(chunk.frames for chunk in stream)])

    expected = told(wan, wan)
    assert np.array_equal(told(captured, captured), expected)
    assert np.array_equal(told(captured, wan), expected)


def test_weights_of_eight_bits_make_nearly_the_same_video(pocket):
    lowered = load_preset(POCKET, device=CUDA)
    plain = frames(lowered, seconds=1)
    lowered.transformer.enable_layerwise_casting(
        storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.bfloat16
    )
    assert psnr(frames(lowered, seconds=1), plain) > 15


@pytest.mark.parametrize("decoder", ["full", "tiny"])
def test_no_stream_takes_more_memory_than_preflight_says(decoder):
    """At full size. The estimate is to be safe, yet no more than half too high."""
    torch.cuda.empty_cache()
    pipe = untrained_pipeline(SELF_FORCING, device=CUDA)
    held = torch.cuda.memory_allocated()
    estimate = preflight(SELF_FORCING, device=CUDA, seconds=8, decoder=decoder)
    torch.cuda.reset_peak_memory_stats()
    frames(pipe, seconds=8, decoder=decoder)
    working = torch.cuda.max_memory_allocated() - held
    allowed = estimate.total_bytes - estimate.weights_bytes - estimate.text_encoder_bytes - RESERVE
    assert working <= allowed + RESERVE
    assert allowed <= 1.5 * working + RESERVE


@pytest.mark.usefixtures("forget_the_accelerator")
@pytest.mark.parametrize("stage", ["teacher", "causal", "ode", "forcing", "dmd", "decoder"])
def test_a_stage_runs_on_and_resumes(stage, tmp_path):
    shipped = str(POCKET.folder)
    arguments = ["--run", str(tmp_path), "--start-from", shipped]
    data = [*arguments, "--shards", "1", "--clips", "12"]
    assert main(["train", "data", *data]) == 0
    if stage == "ode":
        assert main(["train", "trajectories", *data]) == 0
    steps = "4" if stage == "dmd" else "20"
    command = ["train", stage, *arguments, "--checkpoint-seconds", "0"]
    if stage in ("teacher", "causal"):
        command += ["--phases", f"4x4x{steps}"]
    else:
        command += ["--steps", steps]
    if stage in ("forcing", "dmd"):
        command += ["--student", "ode"]
    if stage == "ode":
        command += ["--student", "teacher"]
    for stop in (int(steps) // 2, int(steps)):
        AcceleratorState._reset_state(reset_partial_state=True)
        assert main([*command, "--stop", str(stop)]) == 0
    lines = [json.loads(line) for line in (tmp_path / stage / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines][-1] == int(steps)
    assert all(np.isfinite(line["loss"]) for line in lines)
