"""What the benchmark measures is what it says: no timing is tested, only that it is honest."""

import copy
import dataclasses
import json
import shutil

import pytest
import torch

from causvid.__main__ import main
from causvid.benchmark import counts, headline
from causvid.benchmark.counts import OperatorCounter, count, full_size
from causvid.benchmark.headline import load_teacher, race
from causvid.benchmark.pieces import measure_pieces, measure_stream, profile_chunk
from causvid.benchmark.timing import Stopwatch, measure
from causvid.benchmark.untrained import untrained_pipeline
from causvid.generation.config import GenerationConfig
from causvid.generation.generator import Generator, Memory, seeded_noise
from causvid.generation.geometry import ChunkPattern, LatentGrid
from causvid.model.cpu import arithmetic_of
from causvid.model.transformer import CausalWanTransformer
from causvid.presets.catalogue import POCKET, SELF_FORCING
from causvid.presets.costs import modulation_flops, transformer_flops
from causvid.presets.loading import load_preset
from causvid.presets.preset import Preset, PresetError, TransformerSize
from causvid.presets.registry import get_preset
from causvid.training.models import export
from causvid.training.teacher_model import TeacherModel
from tests.benchmark.baseline import PlainBaseline, count_baseline
from tests.conftest import randomise

CPU = torch.device("cpu")


def shallow(layers: int) -> Preset:
    """All of 1.3B but its depth: the layers are equal, and thirty take a while to count."""
    return dataclasses.replace(SELF_FORCING, transformer=TransformerSize(num_layers=layers))


@pytest.fixture(scope="module")
def generator() -> Generator:
    """A window of three chunks, with a sink that stays in place, as in published models."""
    model = CausalWanTransformer(
        num_attention_heads=2,
        attention_head_dim=16,
        text_dim=16,
        freq_dim=32,
        ffn_dim=64,
        num_layers=2,
        text_length=12,
    )
    randomise(model, seed=5)
    config = GenerationConfig(window=9, sink=1, sink_rotation="absolute")
    return Generator(model.eval().requires_grad_(False), config, LatentGrid(32, 48))


def prompt_embeds(generator: Generator, batch: int = 1) -> torch.Tensor:
    config = generator.transformer.config
    return torch.randn(batch, config.text_length, config.text_dim)


@torch.inference_mode()
def test_the_baseline_makes_the_same_video(generator):
    batch, chunks = 2, generator.config.chunks
    embeds = prompt_embeds(generator, batch)
    ours = Memory(generator.new_cache(batch), generator.encode_text(embeds))
    baseline = PlainBaseline(generator)
    theirs = baseline.new_cache(batch)
    for chunk in range(6):  # the window is full after three
        levels = generator.config.levels(chunk)
        shape = generator.chunk_shape(chunk, batch)

        def noise(step, chunk=chunk, shape=shape):
            return seeded_noise(0, chunk, step, shape, CPU)

        ours.cache.open(chunks.frames(chunk))
        expected = generator.denoise(levels, noise, ours)
        ours.cache.advance()
        actual = baseline.denoise(levels, noise, embeds, theirs, chunks.start(chunk))
        torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)


@pytest.fixture(scope="module")
def costs():
    generator = full_size(shallow(4))
    return generator, count(generator), count_baseline(generator)


def test_a_chunk_needs_no_synchronisation(costs):
    _, ours, baseline = costs
    assert ours.syncs_per_chunk == 0
    assert baseline.syncs_per_chunk > 0  # the counter does notice them


def test_a_chunk_launches_at_most_half_of_the_baseline(costs):
    _, ours, baseline = costs
    assert 2 * ours.launches_per_chunk <= baseline.launches_per_chunk


def test_operations_agree_with_the_formula_of_preflight(costs):
    generator, ours, baseline = costs
    model = generator.transformer
    one_pass = transformer_flops(model, generator.grid, frames=3, visible=21)
    passes = len(generator.config.timesteps) + 1
    assert ours.flops_per_chunk == passes * (one_pass - modulation_flops(model, frames=3))
    assert baseline.flops_per_chunk > ours.flops_per_chunk  # it projects the prompt every time


def test_both_caches_hold_the_same_window(costs):
    generator, ours, baseline = costs
    tokens = generator.config.window * generator.grid.tokens_per_frame
    expected = 2 * 4 * tokens * 1536 * 2  # keys and values, layers, tokens, width, bytes
    assert ours.cache_bytes == baseline.cache_bytes == expected


def test_renewing_a_sink_needs_no_synchronisation():
    generator = full_size(shallow(1))
    config = dataclasses.replace(generator.config, chunks=ChunkPattern(1, 3), sink=4)
    assert count(dataclasses.replace(generator, config=config)).syncs_per_chunk == 0


@torch.inference_mode()
def counted(run) -> tuple[int, int]:
    with OperatorCounter("meta") as counter:
        run()
    return counter.launches.total(), counter.syncs.total()


def test_views_allocations_and_work_of_the_host_are_free():
    x = torch.empty(4, 6, device="meta")
    assert counted(lambda: x.t()[1:].unflatten(0, (5, 1))) == (0, 0)
    assert counted(lambda: torch.empty_like(x)) == (0, 0)
    assert counted(lambda: torch.ones(3).add(1).sum().item()) == (0, 0)


def test_work_and_writing_in_place_are_launches():
    x = torch.empty(4, 6, device="meta")
    assert counted(lambda: x + 1) == (1, 0)
    assert counted(lambda: x[1:].copy_(x[:-1])) == (1, 0)
    assert counted(lambda: x.t().contiguous()) == (1, 0)


def test_one_fused_kernel_is_one_launch():
    x = torch.empty(1, 2, 8, 16, device="meta")
    norm = torch.nn.RMSNorm(16, device="meta")
    assert counted(lambda: torch.nn.functional.scaled_dot_product_attention(x, x, x)) == (1, 0)
    assert counted(lambda: norm(x)) == (1, 0)


def test_waiting_copies_are_synchronisations():
    host, device = torch.ones(3), torch.empty(3, device="meta")
    assert counted(lambda: host.to("meta")) == (1, 1)
    assert counted(lambda: host.to("meta", non_blocking=True)) == (1, 0)
    assert counted(lambda: device.copy_(host)) == (1, 1)
    assert counted(lambda: device.copy_(device)) == (1, 0)


def test_values_and_shapes_read_back_are_synchronisations():
    stand_in = torch.ones(3)  # `meta` has no values to read
    with torch.inference_mode(), OperatorCounter("cpu") as counter:
        stand_in[0].item()
        stand_in.nonzero()
        stand_in[stand_in > 0]
    assert counter.syncs.total() == 3


def test_meta_prints_exactly_its_figures(monkeypatch, capsys):
    monkeypatch.setattr(counts, "full_size", lambda preset: full_size(shallow(1)))
    assert main(["benchmark", "--meta", "--json"]) == 0
    cost = json.loads(capsys.readouterr().out)["meta"]
    assert cost.pop("model") == "self-forcing"
    assert list(cost) == ["launches_per_chunk", "syncs_per_chunk", "flops_per_chunk", "cache_bytes"]
    assert all(type(value) is int for value in cost.values())


@pytest.mark.slow
def test_every_model_can_be_counted_without_its_weights(capsys):
    assert main(["benchmark", "--meta", "--model", "pocket"]) == 0
    assert "pocket in bfloat16 at 224x128" in capsys.readouterr().out


def test_warm_up_is_not_counted():
    log = []
    seconds = measure(lambda: log.append("run"), CPU, repeats=2)
    assert len(log) == 3
    assert len(seconds.wall) == len(seconds.cpu) == 2
    assert seconds.p95 >= seconds.median >= 0


def test_every_piece_is_measured_in_the_state_a_long_stream_settles_into(pipeline):
    pieces = {piece.name: piece for piece in measure_pieces(pipeline, repeats=2)}
    assert list(pieces) == [
        "prompt",
        "transformer pass",
        "transformer chunk",
        "codec decode",
        "codec encode",
        "mux",
    ]
    assert pieces.pop("prompt").frames_per_second is None
    for piece in pieces.values():
        assert piece.pixel_frames == 12
        assert piece.frames_per_second == 12 / piece.seconds.median


def test_a_stream_is_measured_from_the_request_on(pipeline):
    run = measure_stream(pipeline, seconds=4.0)
    assert len(run.steps.wall) == pipeline.generator().timeline.chunk_count(4.0) - 1
    assert run.first_frame > 0 and run.peak_memory > 0
    assert run.playback_rate == pipeline.generation.fps


def test_a_single_chunk_is_no_stream_to_measure(pipeline):
    with pytest.raises(ValueError, match="single chunk: measure at least"):
        measure_stream(pipeline, seconds=0.01)


def test_repeats_must_be_positive(capsys):
    assert main(["benchmark", "--repeats", "0"]) == 2
    assert "--repeats must be at least 1, got 0" in capsys.readouterr().err


def test_a_profile_lists_the_operators_of_a_chunk(pipeline):
    table = profile_chunk(pipeline)
    assert "Self CPU" in table and "aten::" in table


@pytest.fixture(scope="module")
def teacher(pipeline) -> TeacherModel:
    """Equal weights will do: time does not depend on them."""
    return TeacherModel(pipeline.transformer, pipeline.text_encoder)


def test_both_racers_make_the_length_asked_for(pipeline, teacher):
    result = race(pipeline, teacher, latent_frames=5, steps=4, guidance=2.0, rounds=2)
    # The student fills its last chunk: 1, 3, 3 latents; each but the first is 4 pictures.
    assert (result.student.latent_frames, result.student.pixel_frames) == (7, 25)
    assert (result.teacher.latent_frames, result.teacher.pixel_frames) == (5, 17)
    assert result.student.passes_per_frame == len(pipeline.generation.timesteps) + 1
    assert result.teacher.passes_per_frame == 8
    assert (result.student.runs, result.teacher.runs) == (2, 1)


def test_the_teachers_first_picture_is_its_whole_clip(pipeline, teacher):
    result = race(pipeline, teacher, latent_frames=4, steps=2, rounds=1)
    assert result.teacher.first_picture == result.teacher.seconds["total"]
    assert 0 < result.student.first_picture < result.student.seconds["total"]
    assert result.latency_ratio == result.teacher.first_picture / result.student.first_picture
    assert result.throughput_ratio == pytest.approx(
        result.student.pixel_frames
        / result.student.seconds["total"]
        * result.teacher.seconds["total"]
        / result.teacher.pixel_frames
    )


def test_the_teacher_takes_every_step_once_however_often_it_pauses(pipeline, teacher, monkeypatch):
    passes = []
    predict = Generator.predict_clean

    def counted(generator, noisy, *args):
        if generator.config.window == 1:  # the teacher's whole clip
            passes.append(len(noisy))
        return predict(generator, noisy, *args)

    monkeypatch.setattr(Generator, "predict_clean", counted)
    race(pipeline, teacher, latent_frames=1, steps=5, guidance=2.0, rounds=3)
    assert passes == [2] * (1 + 5)  # the warm-up, then the clip; both passes in one batch
    passes.clear()
    race(pipeline, teacher, latent_frames=1, steps=5, guidance=1.0, rounds=3)
    assert passes == [1] * (1 + 5)


@pytest.fixture
def distilled(pipeline, tmp_path):
    """The folder of a model that ships its teacher."""
    folder = tmp_path / "model"
    model = TeacherModel(copy.deepcopy(pipeline.transformer), copy.deepcopy(pipeline.text_encoder))
    export(
        folder,
        model,
        copy.deepcopy(model),
        copy.deepcopy(pipeline.vae),
        pipeline.tokenizer,
        pipeline.generation,
    )
    return folder


DAMAGES = {
    "a flipped bit": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "cut short": lambda data: data[: len(data) // 2],
    "a pointer": lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7\n",
    "emptied": lambda _: b"",
}


@pytest.mark.parametrize("name", ["config.json", "diffusion_pytorch_model.safetensors"])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_teacher_is_named_and_not_raced(pipeline, distilled, name, damage):
    preset, file = get_preset(distilled), distilled / "teacher" / name
    assert isinstance(load_teacher(preset, pipeline), TeacherModel)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(PresetError, match=f"teacher/{name}"):
        load_teacher(preset, pipeline)


def test_a_teacher_that_is_not_there_or_no_teacher_is_told_without_checksums(pipeline, distilled):
    (distilled / "SHA256SUMS").unlink()
    shutil.copy(distilled / "vae" / "config.json", distilled / "teacher" / "config.json")
    with pytest.raises(PresetError, match=r"teacher/config\.json describes no model"):
        load_teacher(get_preset(distilled), pipeline)
    (distilled / "teacher" / "config.json").unlink()
    with pytest.raises(PresetError, match=r"there is no file .*teacher/config\.json"):
        load_teacher(get_preset(distilled), pipeline)


def test_headline_prints_ratios_and_what_they_are_made_of(pipeline, monkeypatch, capsys, distilled):
    monkeypatch.setattr(headline, "TEACHER_STEPS", 2)
    options = [
        "--headline",
        "--model",
        str(distilled),
        "--seconds",
        "1",
        "--repeats",
        "2",
        "--device",
        "cpu",
    ]
    assert main(["benchmark", *options]) == 0
    assert "throughput x" in capsys.readouterr().out
    assert main(["benchmark", *options, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    found = figures["headline"]
    assert found["throughput_ratio"] == found["asked_length"]["throughput_ratio"]
    assert found["latency_ratio"] == found["asked_length"]["latency_ratio"]
    assert found["seconds_asked"] == 1 and found["fps"] == 8
    assert found["asked_length"]["teacher"]["pixel_frames"] == 9
    trained = found["teacher_trained_latent_frames"]
    assert found["trained_length"]["teacher"]["latent_frames"] == trained
    assert set(found["asked_length"]["student"]["seconds"]) == {
        "text",
        "denoise",
        "decode",
        "other",
        "total",
    }


def test_a_model_without_its_teacher_cannot_be_compared_with_it(pipeline):
    with pytest.raises(ValueError, match="ships no teacher to compare with"):
        load_teacher(SELF_FORCING, pipeline)


def test_a_stopwatch_adds_up_what_it_ran_for():
    watch = Stopwatch(CPU)
    with watch:
        first = watch.lap
    assert watch.wall >= first >= 0
    before = watch.wall
    with watch:
        pass
    assert watch.wall >= before and watch.cpu >= 0


def test_an_untrained_model_has_the_sizes_and_types_of_a_trained_one():
    trained = load_preset(POCKET, device="cpu", dtype=torch.bfloat16)
    model = untrained_pipeline(POCKET, device="cpu", dtype=torch.bfloat16)
    for part in ("transformer", "vae", "text_encoder"):
        expected, found = (
            {name: (it.shape, it.dtype) for name, it in pipe.components[part].state_dict().items()}
            for pipe in (trained, model)
        )
        assert found == expected


@pytest.mark.slow
def test_an_untrained_model_is_timed_without_the_hub(capsys):
    command = ["benchmark", "--model", "pocket", "--untrained", "--seconds", "2", "--repeats", "1"]
    assert main([*command, "--device", "cpu", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["untrained"] is True
    assert figures["stream"]["frames_per_second"] > 0


@pytest.mark.parametrize("other", ["--meta", "--headline", "--player", "--live"])
@pytest.mark.parametrize("option", [["--untrained"], ["--compile"], ["--decoder", "tiny"]])
def test_an_option_that_would_be_ignored_is_refused(other, option, capsys):
    assert main(["benchmark", other, *option]) == 2
    assert "are for the parts and the stream of a model" in capsys.readouterr().err


def test_an_untrained_model_computes_in_what_a_trained_one_does():
    trained, model = load_preset(POCKET, device="cpu"), untrained_pipeline(POCKET, device="cpu")
    assert arithmetic_of(model.transformer) == arithmetic_of(trained.transformer)
