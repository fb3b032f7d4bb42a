"""Every stage runs, lowers its loss and resumes bit for bit; rollouts are the stream's own loop."""

import copy
import json
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors import safe_open
from safetensors.torch import load_file
from torch.testing import assert_close

from causvid.generation.config import GenerationConfig
from causvid.generation.cues import Handover
from causvid.generation.generator import Generator, Memory, seeded_noise
from causvid.generation.geometry import ChunkPattern, LatentGrid, Size
from causvid.generation.schedule import Level, clean_from_velocity
from causvid.generation.snapshot import unpack
from causvid.model.attention import CausalAttnProcessor
from causvid.model.codec import codec_for
from causvid.model.text import PromptEncoder
from causvid.model.tiny_autoencoder import TinyAutoencoder
from causvid.pipeline import CausVidPipeline
from causvid.presets.loading import load
from causvid.training import clips as clips_module
from causvid.training import dmd as dmd_module
from causvid.training.causal import CausalStage, ConsistencyStage, draw_lesson
from causvid.training.clips import render_clip, render_shard, render_shards
from causvid.training.config import (
    CausalConfig,
    ConsistencyConfig,
    DataConfig,
    DmdConfig,
    FlowConfig,
    ForcingConfig,
    Lessons,
    OdeConfig,
    OptimiserConfig,
    Phase,
    TrajectoryConfig,
    WorldConfig,
)
from causvid.training.data import Clip, LatentCache, shard_path, write_shard
from causvid.training.dmd import DmdStage
from causvid.training.forcing import ForcingStage, first_chunk_loss, forcing_loss
from causvid.training.models import export, load_codec, load_exported, new_model
from causvid.training.ode import OdeStage, write_trajectories
from causvid.training.precision import PlainAttention, mixed_precision, use_training_attention
from causvid.training.recipes import TransformerShape
from causvid.training.rollout import RolloutPlan, Switch, roll_out
from causvid.training.teacher import TeacherStage
from causvid.training.teacher_model import TeacherModel, embeddings_of, tokenise, tokens_of
from causvid.training.trainer import LoopConfig, finished_average, train
from causvid.world import render, return_frame
from causvid.world.tokenizer import word_tokenizer
from tests.world.reading import read_prompt

SMALL = {"height": 32, "width": 48}
WORDS = ("red", "blue", "car", "boat")
SHAPE = TransformerShape(
    patch_size=(1, 1, 1),
    num_attention_heads=2,
    attention_head_dim=8,
    in_channels=4,
    out_channels=4,
    text_dim=16,
    freq_dim=16,
    ffn_dim=32,
    num_layers=2,
    text_length=6,
    position_features=6,
)
GENERATION = GenerationConfig(
    timesteps=(1000.0, 500.0),
    shift=3.0,
    chunks=ChunkPattern(1, 2),
    window=5,
    sink=1,
    height=32,
    width=48,
)
GRID = LatentGrid(32, 48, 16, patch=1)
pytestmark = pytest.mark.usefixtures("forget_the_accelerator")

OPTIMISER = OptimiserConfig(learning_rate=3e-3, warmup_steps=2, ema_decay=0.5)


@pytest.fixture(scope="module")
def tokenizer():
    return word_tokenizer(WORDS, SHAPE.text_length)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> LatentCache:
    """Clips whose latents say their caption: constant, and different for every colour."""
    folder = tmp_path_factory.mktemp("latents")
    clips = [
        Clip(torch.full((5, 4, 2, 3), value), (f"{colour} car", f"{colour} boat"))
        for colour, value in (("red", 1.0), ("blue", -1.0))
    ]
    write_shard(shard_path(folder, 0), clips)
    cache = LatentCache(folder)
    cache.open()
    return cache


@pytest.fixture(scope="module")
def teacher(tokenizer) -> TeacherModel:
    model = new_model(SHAPE, len(tokenizer), 0)
    draw = torch.Generator().manual_seed(1)
    torch.nn.init.normal_(model.transformer.proj_out.weight, std=0.1, generator=draw)
    return model


@pytest.fixture(scope="module")
def condition(tokenizer, teacher):
    """Captions as a transformer gets them, by the teacher's text encoder."""
    encoder = copy.deepcopy(teacher.text_encoder).requires_grad_(False).eval()
    return embeddings_of(PromptEncoder(tokenizer, encoder, SHAPE.text_length))


def losses(folder) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


def run(make_stage, folder, stop=None, log_steps=1):
    loop = LoopConfig(folder, log_steps=log_steps)
    train(make_stage(), loop, Accelerator(cpu=True), stop=stop)


def flow_config(steps: int) -> FlowConfig:
    return FlowConfig((Phase(1, 4, steps // 2), Phase(3, 4, steps - steps // 2)), OPTIMISER)


@pytest.fixture
def stages(tokenizer, data, teacher, condition, tmp_path):
    """Name → a function that makes that stage anew, for a number of steps."""
    write_trajectories(
        teacher.transformer,
        condition,
        data,
        tmp_path / "trajectories",
        0,
        TrajectoryConfig(frames=3, steps=4, batch=2, count=4),
        GENERATION,
        GRID,
    )
    trajectories = LatentCache(tmp_path / "trajectories")
    trajectories.open()

    def transformer():
        return copy.deepcopy(teacher.transformer)

    def teacher_stage(steps):
        words = tokens_of(tokenizer, SHAPE.text_length)
        return TeacherStage(copy.deepcopy(teacher), words, data, flow_config(steps))

    def causal(steps, past="clean", **options):
        phases = flow_config(steps).phases
        config = CausalConfig(phases, OPTIMISER, past=past, **options)
        return CausalStage(transformer(), condition, data, config, GENERATION)

    def consistency(steps):
        config = ConsistencyConfig(OPTIMISER, steps, batch=4, levels=4)
        shown = transformer(), transformer(), condition, data, config, GENERATION
        return ConsistencyStage(*shown)

    def ode(steps):
        config = OdeConfig(OPTIMISER, steps=steps, batch=4)
        return OdeStage(transformer(), condition, trajectories, config, GENERATION)

    def forcing(steps):
        config = ForcingConfig(OPTIMISER, steps, Lessons(batch=4, first_batch=4))
        model, earlier = transformer(), transformer()
        return ForcingStage(model, condition, data, config, GENERATION, earlier=earlier)

    def dmd(steps, **options):
        config = DmdConfig(
            student_optimiser=replace(OPTIMISER, learning_rate=1e-5),
            critic_optimiser=OPTIMISER,
            steps=steps,
            batch=4,
            window=3,
            rollout_chunks=(2, 3),
            critic_updates=2,
            **({"switch_share": 0.0} | options),
        )
        generator = Generator(transformer(), GENERATION, GRID)
        frozen, critic, earlier = transformer(), transformer(), transformer()
        return DmdStage(generator, frozen, critic, condition, data, config, earlier=earlier)

    return {
        "teacher": teacher_stage,
        "causal": causal,
        "causal, noisy past": lambda steps: causal(steps, "noisy"),
        "causal, remade past": lambda steps: causal(steps, past_remakes=2),
        "consistency": consistency,
        "ode": ode,
        "forcing": forcing,
        "dmd": dmd,
        "dmd with switches": lambda steps: dmd(steps, switch_share=0.5),
        "dmd with teacher forcing": lambda steps: dmd(
            steps, teacher_forcing_weight=1.0, lessons=Lessons(batch=2, first_batch=2)
        ),
        "dmd on data": lambda steps: dmd(steps, student_input="data"),
        "dmd, causal teacher": lambda steps: dmd(steps, teacher="causal"),
        "dmd with switches, causal teacher": lambda steps: dmd(
            steps, teacher="causal", switch_share=1.0
        ),
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "teacher",
        "causal",
        "causal, noisy past",
        "causal, remade past",
        "consistency",
        "ode",
        "forcing",
    ],
)
def test_a_stage_lowers_its_loss(stages, name, tmp_path):
    run(lambda: stages[name](20), tmp_path / "run")
    history = losses(tmp_path / "run")
    assert np.mean(history[-5:]) < 0.9 * np.mean(history[:5])
    assert (tmp_path / "run" / "curves.png").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dmd", "dmd on data", "dmd, causal teacher"])
def test_the_critic_learns_what_the_student_makes(stages, name, tmp_path):
    run(lambda: stages[name](16), tmp_path / "run")
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    history = [json.loads(line)["critic_loss"] for line in lines]
    assert np.mean(history[-4:]) < np.mean(history[:4])


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *("teacher", "causal", "consistency", "ode", "forcing", "dmd", "dmd with teacher forcing"),
        *("dmd with switches", "dmd with switches, causal teacher"),
    ],
)
def test_a_stopped_run_continues_bit_for_bit(stages, name, tmp_path):
    run(lambda: stages[name](4), tmp_path / "whole")
    run(lambda: stages[name](4), tmp_path / "parts", stop=2)
    run(lambda: stages[name](4), tmp_path / "parts")
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")
    file = "transformer/diffusion_pytorch_model.safetensors"
    whole = load_file(finished_average(tmp_path / "whole") / file)
    parts = load_file(finished_average(tmp_path / "parts") / file)
    for key, tensor in whole.items():
        assert_close(parts[key], tensor, rtol=0, atol=0)


def test_lowered_precision_leaves_the_students_gradients_whole(stages):
    """Autocast caches the weights it lowers; if a pass without gradients filled that cache, the
    gradient pass of the same rollout would silently train nothing."""
    gradients = []
    for precision in ("no", "bf16"):
        AcceleratorState._reset_state(reset_partial_state=True)
        stage = stages["dmd"](4)
        accelerator = Accelerator(cpu=True, mixed_precision=precision)
        stage.prepare(accelerator)
        parameters = list(stage.student.parameters())
        stage.student_optimiser.zero_grad = lambda: None
        stage.update(1)
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in parameters]))
    assert torch.cosine_similarity(*gradients, dim=0) > 0.97


def test_accumulated_micro_batches_are_those_of_several_processes(teacher, tokenizer, data):
    config = flow_config(2)
    config = replace(config, optimiser=replace(OPTIMISER, accumulation=2))
    stage = TeacherStage(teacher, tokens_of(tokenizer, SHAPE.text_length), data, config)
    stage.prepare(Accelerator(cpu=True))
    keys = []
    loss = stage.loss
    stage.loss = lambda step, key: keys.append(key) or loss(step, key)
    stage.update(0)
    assert keys == [(0, 0, 0), (0, 0, 1)]


def test_a_rollout_to_the_last_step_is_what_a_viewer_sees(transformer, generator, config):
    """The same noise through the generator's own loop gives the same latents."""
    text = torch.randn(1, 12, 16, generator=torch.Generator().manual_seed(0))

    def noise(chunk, step, shape):
        return seeded_noise(7, chunk, step, shape, torch.device("cpu"))

    plan = RolloutPlan(chunks=4, live=2, exit_step=len(config.timesteps) - 1)
    rolled = roll_out(generator, text, plan, noise)
    cache, cached_text = generator.new_cache(), transformer.encode_text(text)
    made = []
    for chunk in range(plan.chunks):
        cache.open(config.chunks.frames(chunk))
        shape = generator.chunk_shape(chunk)
        made.append(
            generator.denoise(
                config.levels(chunk),
                lambda step, chunk=chunk, shape=shape: noise(chunk, step, shape),
                Memory(cache, cached_text),
            )
        )
        cache.advance()
    assert_close(rolled, torch.cat(made, dim=1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("handover", ["swap", "recache", "flush", "blend:2"])
def test_words_change_in_a_rollout_as_in_a_viewers_stream(
    generator, config, prompt_encoder, open_stream, handover
):
    at, chunks = 3, 6  # the window has rolled when the words change

    def noise(chunk, step, shape):
        return seeded_noise(7, chunk, step, shape, torch.device("cpu"))

    text, later = prompt_encoder(["a red car", "a blue boat"]).split(1)
    switch = Switch(at, Handover.parse(handover))
    plan = RolloutPlan(chunks, 2, len(config.timesteps) - 1, switch)
    rolled = roll_out(generator, text, plan, noise, later_text=later)
    seconds = generator.timeline.start_time(at)
    with open_stream(f"0s: a red car\n{seconds}s [{handover}]: a blue boat", seed=7) as stream:
        for _ in range(chunks):
            stream.step()
        seen = unpack(stream.snapshot())[1]["history"]
    assert_close(rolled[:, -seen.shape[1] :], seen, rtol=1e-4, atol=1e-4)


def test_a_switch_and_the_later_prompt_belong_together(generator):
    text = torch.zeros(1, 12, 16)
    with pytest.raises(ValueError, match="later prompt"):
        roll_out(generator, text, RolloutPlan(2, 0, 0), lambda *_: None, later_text=text)
    with pytest.raises(ValueError, match="chunks 1 to 1"):
        RolloutPlan(2, 0, 0, Switch(2, Handover("swap")))


def test_gradients_reach_the_live_chunks_only(teacher, tokenizer):
    generator = Generator(teacher.transformer, GENERATION, GRID)
    text = teacher.embed(*tokenise(tokenizer, ["red car"], SHAPE.text_length)).detach()

    def noise(chunk, step, shape):
        return torch.randn(shape, generator=torch.Generator().manual_seed(chunk * 10 + step))

    made = roll_out(generator, text, RolloutPlan(chunks=3, live=1, exit_step=1), noise)
    weight = teacher.transformer.proj_out.weight
    (past,) = torch.autograd.grad(made[:, :3].sum(), weight, retain_graph=True, allow_unused=True)
    (live,) = torch.autograd.grad(made[:, 3:].sum(), weight)
    assert past is None or not past.any()
    assert live.any()


def test_a_given_first_frame_stays_as_it_is(teacher, tokenizer):
    generator = Generator(teacher.transformer, GENERATION, GRID)
    text = teacher.embed(*tokenise(tokenizer, ["red car"], SHAPE.text_length)).detach()
    first = torch.ones(1, 1, 4, 2, 3)
    made = roll_out(
        generator,
        text,
        RolloutPlan(chunks=2, live=0, exit_step=0),
        lambda chunk, step, shape: torch.zeros(shape),
        first=first,
    )
    assert_close(made[:, :1], first, rtol=0, atol=0)


def test_batches_depend_on_their_key_alone_and_survive_new_shards(tmp_path):
    clips = [Clip(torch.full((3, 1, 1, 1), float(i)), (str(i),)) for i in range(5)]
    write_shard(shard_path(tmp_path, 0), clips)
    cache = LatentCache(tmp_path)
    cache.open()
    before = cache.batch((1, 2), frames=2, size=4)
    state = cache.state_dict()
    write_shard(shard_path(tmp_path, 1), clips)
    resumed = LatentCache(tmp_path)
    resumed.open()
    resumed.load_state_dict(state)
    after = resumed.batch((1, 2), frames=2, size=4)
    assert before.captions == after.captions
    assert_close(before.latents, after.latents, rtol=0, atol=0)
    assert [float(x) for x in before.latents[:, 0, 0, 0, 0]] == [float(c) for c in before.captions]


@pytest.mark.parametrize("begin", ["anywhere", "sink"])
def test_a_batch_is_of_one_picture_size_and_all_sizes_come(tmp_path, begin):
    for index, (height, width) in enumerate([(2, 3), (3, 2), (2, 2)]):
        clips = [Clip(torch.zeros(4, 1, height, width), ("",)) for _ in range(3)]
        write_shard(shard_path(tmp_path, index), clips)
    cache = LatentCache(tmp_path)
    cache.open()
    shapes = [
        cache.batch((seed,), frames=3, size=4, begin=begin).latents.shape for seed in range(60)
    ]
    assert all(shape[:3] == (4, 3, 1) for shape in shapes)
    counts = Counter(shape[3:] for shape in shapes)
    assert set(counts) == {(2, 3), (3, 2), (2, 2)}
    assert min(counts.values()) >= 10


@pytest.mark.slow
def test_a_student_is_distilled_at_every_size(stages, tmp_path, monkeypatch):
    grids = [GRID, LatentGrid(48, 32, 16, patch=1)]
    made: Counter = Counter()

    def rolled(generator, *args, **options):
        clips = roll_out(generator, *args, **options)
        made[clips.shape[3:]] += 1
        return clips

    monkeypatch.setattr(dmd_module, "roll_out", rolled)

    def stage():
        built = stages["dmd"](12)
        built.grids = grids
        return built

    run(stage, tmp_path)
    assert set(made) == {(2, 3), (3, 2)}


def test_only_pictures_to_go_on_from_begin_in_the_middle_of_a_scene(tmp_path):
    """Latents count frames of their scene; a late clip starts at 100."""
    numbers = [torch.arange(float(start), start + 4).view(4, 1, 1, 1) for start in (0, 100)]
    clips = [Clip(count, ("",), late=bool(count[0] > 0)) for count in numbers]
    write_shard(shard_path(tmp_path, 0), clips)
    cache = LatentCache(tmp_path)
    cache.open()
    firsts = {}
    for begin in ("scene", "picture", "anywhere"):
        batch = cache.batch((0, 3), frames=2, size=64, begin=begin)
        firsts[begin] = set(batch.latents[:, 0, 0, 0, 0].tolist())
        assert torch.equal(batch.late, batch.latents[:, 0, 0, 0, 0] >= 100)
    assert firsts == {"scene": {0}, "picture": {0, 100}, "anywhere": {0, 1, 2, 101, 102}}
    with pytest.raises(ValueError, match="begin scene"):
        write_shard(shard_path(tmp_path / "late", 0), clips[1:])
        late = LatentCache(tmp_path / "late")
        late.open()
        late.batch((0,), frames=2, size=1, begin="scene")


def test_a_window_with_a_sink_is_the_scenes_first_picture_and_a_run_of_later_ones(tmp_path):
    """Latents count frames of their scene; a late clip starts at 100 and keeps its opening."""
    count = torch.arange(5.0).view(5, 1, 1, 1)
    clips = [Clip(count, ("",)), Clip(100 + count, ("",), late=True, opening=count[0])]
    write_shard(shard_path(tmp_path, 0), clips)
    cache = LatentCache(tmp_path)
    cache.open()
    batch = cache.batch((0,), frames=4, size=64, begin="sink")
    windows = set(map(tuple, batch.latents.flatten(1).int().tolist()))
    assert windows == {(0, 1, 2, 3), (0, 2, 3, 4), (0, 101, 102, 103), (0, 102, 103, 104)}


def test_a_clip_whose_scene_changes_is_drawn_with_the_change_before_what_is_asked_for(tmp_path):
    """Latents count frames of their scene; the other one begins with latent 3, at 203."""
    latents = torch.tensor([100.0, 101, 102, 203, 204, 205]).view(6, 1, 1, 1)
    turned = Clip(latents, ("then",), late=True, opening=torch.zeros(1, 1, 1), turn=3)
    plain = Clip(torch.arange(6.0).view(6, 1, 1, 1), ("now",))
    write_shard(shard_path(tmp_path, 0), [turned])
    cache = LatentCache(tmp_path)
    cache.open()
    batch = cache.batch((0,), frames=4, size=8, begin="sink", last=2)
    assert set(map(tuple, batch.latents.flatten(1).int().tolist())) == {(0, 102, 203, 204)}
    with pytest.raises(ValueError, match="to begin anywhere"):
        cache.batch((0,), frames=4, size=8)
    with pytest.raises(ValueError, match="to begin sink"):
        cache.batch((0,), frames=6, size=8, begin="sink", last=2)  # it begins too late for that
    write_shard(shard_path(tmp_path, 1), [plain])
    cache.open()
    for begin in ("anywhere", "scene", "picture"):
        assert set(cache.batch((0,), frames=4, size=8, begin=begin).captions) == {"now"}
    both = cache.batch((0,), frames=4, size=32, begin="sink", last=2)
    assert set(both.captions) == {"now", "then"}


def test_teacher_forcing_shows_a_student_what_its_cache_would(teacher, tokenizer):
    """A chunk after the sink and one remembered chunk: one masked pass, or through the cache."""
    clean = torch.randn((2, 5, 4, 2, 3), generator=torch.Generator().manual_seed(3))
    words = teacher.embed(*tokenise(tokenizer, ["red car", "blue boat"], SHAPE.text_length))
    seen = {}

    def velocity(noisy, times, mask):
        seen.update(noisy=noisy, times=times)
        return teacher.transformer(noisy, times, words, frame_mask=mask)

    with torch.no_grad():
        loss = forcing_loss(velocity, clean, GENERATION, torch.Generator().manual_seed(4))
        errors = []
        for row in range(2):
            stream = Generator(teacher.transformer, GENERATION, GRID)
            memory = Memory(stream.new_cache(), stream.encode_text(words[row : row + 1]))
            for start, end in ((0, 1), (1, 3)):
                memory.cache.open(end - start)
                stream.remember(clean[row : row + 1, start:end], memory)
                memory.cache.advance()
            memory.cache.open(2)
            level = Level(float(seen["times"][row, -1]), float(seen["times"][row, -1]))
            made = stream.predict_clean(seen["noisy"][row : row + 1, 3:], level, memory)
            errors.append((made - clean[row : row + 1, 3:]).square().mean())
    assert (seen["times"][:, :3] == 0).all() and (seen["times"][:, 3:] > 0).all()
    assert_close(loss, torch.stack(errors).mean(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rolling", [False, True])
def test_a_lesson_shows_a_student_what_its_cache_would(teacher, tokenizer, data, rolling):
    """Every chunk from the clean ones before it: one masked pass, or through the cache."""
    lesson = draw_lesson(data, GENERATION, (3,), frames=5, size=1, rolling=rolling, past_noise=0.0)
    draw = torch.Generator().manual_seed(1)
    clean = torch.randn(lesson.clean.shape, generator=draw)
    lesson = replace(lesson, clean=clean, past=clean[:, : sum(lesson.sizes[:-1])])
    words = teacher.embed(*tokenise(tokenizer, ["red car"], SHAPE.text_length))
    noisy = torch.randn(lesson.made.shape, generator=draw)
    times = lesson.per_chunk(lambda shape: torch.rand(shape, generator=draw))
    stream = Generator(teacher.transformer, GENERATION, GRID)
    with torch.no_grad():
        shown = lesson.velocity(teacher.transformer, noisy, times, words)
        memory = Memory(stream.new_cache(), stream.encode_text(words))
        made = []
        for chunk, past in enumerate(clean.split(lesson.sizes, dim=1)):
            memory.cache.open(past.shape[1])
            if chunk >= lesson.given:
                part = slice(sum(p.shape[1] for p in made), None)
                x, t = (each[:, part][:, : past.shape[1]] for each in (noisy, times))
                made.append(teacher.transformer(x, t, memory.text, memory=memory.cache))
            stream.remember(past, memory)
            memory.cache.advance()
    assert len(made) == (1 if rolling else 3)
    assert_close(shown, torch.cat(made, dim=1), rtol=1e-4, atol=1e-5)


def test_a_noised_past_is_shown_and_never_asked_for(data):
    exact, noised, again = (
        draw_lesson(data, GENERATION, (3,), frames=5, size=8, rolling=False, past_noise=noise)
        for noise in (0.0, 0.5, 0.5)
    )
    assert torch.equal(noised.clean, exact.clean)
    assert torch.equal(exact.past, exact.clean[:, : sum(exact.sizes[:-1])])
    assert (noised.past - exact.past).std() == pytest.approx(0.5, rel=0.1)
    assert torch.equal(noised.past, again.past)


@pytest.mark.parametrize("rolling", [False, True])
def test_a_remade_past_is_what_the_model_makes_of_the_past(stages, data, rolling):
    """All but the first chunk; a model without errors makes the past itself."""
    stage = stages["causal"](2)
    stage.prepare(Accelerator(cpu=True))
    stage.config = replace(stage.config, past_remakes=3)
    lesson = draw_lesson(data, GENERATION, (3,), frames=5, size=2, rolling=rolling, past_noise=0.0)
    first = lesson.sizes[0]
    pasts = [stage.remade_past(lesson, torch.Generator().manual_seed(seed)) for seed in range(8)]
    changed = [not torch.equal(past, lesson.past) for past in pasts]
    assert 2 <= sum(changed) < 8, "from not at all to three times"
    assert all(torch.equal(past[:, :first], lesson.past[:, :first]) for past in pasts)
    again = stage.remade_past(lesson, torch.Generator().manual_seed(0))
    assert torch.equal(again, pasts[0])

    def perfect(latents, times, *words, frame_mask, positions):
        clean = lesson.past[:, positions]
        return (latents - clean) / times.clamp(min=1e-3)[:, :, None, None, None]

    stage.model = perfect
    for seed in range(8):
        past = stage.remade_past(lesson, torch.Generator().manual_seed(seed))
        assert_close(past, lesson.past, atol=1e-5, rtol=0)


def test_a_student_that_is_the_teacher_agrees_with_its_last_step(stages):
    """From the lowest level one step of the teacher leads to the clip itself."""
    stage = stages["consistency"](2)
    stage.prepare(Accelerator(cpu=True))
    assert stage.loss(0, (0, 0, 0)) > 1e-4
    stage.sigmas, stage.config = torch.tensor([0.4, 0.0]), replace(stage.config, levels=1)
    for step in (0, 1):
        assert stage.loss(step, (0, step, 0)) < 1e-9


def test_first_chunks_are_kept_where_sampling_leads(teacher):
    """From pure noise by the student's levels, and nothing to learn for the student before."""
    words = torch.zeros(64, SHAPE.text_length, SHAPE.text_dim)
    clips = torch.zeros(64, 1, 4, 2, 3)
    seen = []

    def before(noisy, times, mask):
        velocity = teacher.transformer(noisy, times, words, frame_mask=mask)
        seen.append((noisy, times[0, 0], clean_from_velocity(noisy, velocity, times[0, 0])))
        return velocity

    with torch.no_grad():
        draw = torch.Generator().manual_seed(5)
        loss = first_chunk_loss(before, before, clips, GENERATION, draw)
    (*way, (looked_at, _, _)) = seen
    assert loss == 0
    levels = [level.sigma for level in GENERATION.levels(1)]
    assert_close(torch.stack([time for _, time, _ in way]), torch.tensor(levels))
    for (_, _, clean), (noisy, sigma, _) in pairwise(way):
        noise = (noisy - (1 - sigma) * clean) / sigma
        assert abs(noise.mean()) < 0.1
        assert abs(noise.std() - 1) < 0.1
    states = torch.stack([noisy for noisy, _, _ in way])
    assert (states == looked_at).flatten(2).all(2).any(0).all(), "each at one of its states"


def test_rendered_shards_hold_scenes_from_their_beginning_and_from_later_on(tmp_path):
    codec = codec_for(TinyAutoencoder(4, 2, (), (8, 8, 8), (0, 0), (0, 0), (2, 4), (2, 2), 1))
    config = DataConfig(clips=6, latents=2, world=WorldConfig(captions=2))
    assert render_shard(codec, tmp_path, 0, config, **SMALL)
    assert not render_shard(codec, tmp_path, 0, config, **SMALL), "what is there stays"
    cache = LatentCache(tmp_path)
    cache.open()
    batch = cache.batch((0,), frames=2, size=32, begin="picture")
    assert batch.latents.shape == (32, 2, 4, 2, 3)
    assert 0 < batch.late.sum() < 32
    opened = cache.batch((0,), frames=2, size=32, begin="sink")
    assert torch.equal(opened.late, batch.late), "the same clips"
    moved = (opened.latents[:, 0] != batch.latents[:, 0]).flatten(1).any(1)
    assert torch.equal(moved, batch.late), "a late clip's first picture is not its scene's"


def test_some_clips_of_every_shard_change_their_scene_but_never_the_first(tmp_path):
    codec = codec_for(TinyAutoencoder(4, 2, (), (8, 8, 8), (0, 0), (0, 0), (2, 4), (2, 2), 1))
    turn = WorldConfig().turn
    for index, (lost, wanted) in enumerate(
        [(0.0, [0, 0, turn, 0, turn]), (0.2, [0, 0, turn, turn, turn])]
    ):
        world = WorldConfig(captions=1, turned_share=0.4, lost_share=lost)
        render_shard(codec, tmp_path, index, DataConfig(5, 6, world), **SMALL)
        with safe_open(shard_path(tmp_path, index), framework="pt") as file:
            assert json.loads(file.metadata()["turns"]) == wanted


def test_a_lost_object_comes_back(monkeypatch):
    """Where it would have come back anyway, with the first picture after the turn."""
    drawn = []

    def spy(scene, **options):
        drawn.append((scene, options))
        return render(scene, **options)

    monkeypatch.setattr(clips_module, "render", spy)
    config = DataConfig(latents=6, world=WorldConfig(captions=2))
    codec = codec_for(TinyAutoencoder(4, 2, (), (8, 8, 8), (0, 0), (0, 0), (2, 4), (2, 2), 1))
    for seed in range(6):
        drawn.clear()
        clip = render_clip(codec, config, np.random.default_rng(seed), event="lost", **SMALL)
        (scene, whole), (_, opening) = drawn
        assert clip.late and clip.turn == config.world.turn
        assert read_prompt(clip.captions[0]).get("motion", scene.motion) == scene.motion
        assert (
            whole["appears"] - whole["start"] == 1 + (config.world.turn - 1) * codec.temporal_stride
        )
        returns = [return_frame(scene, time, height=32, width=48) for time in (1, 2)]
        assert any(-2 <= whole["appears"] - frame < 10 for frame in returns)
        assert opening["start"] == 0 and "appears" not in opening, "the sink shows it"
    short = replace(config, latents=3)
    assert render_clip(codec, short, np.random.default_rng(0), event="lost", **SMALL).turn == 0


def test_missing_data_are_named(tmp_path):
    with pytest.raises(ValueError, match="holds 0 latent shards"):
        LatentCache(tmp_path).open()
    with pytest.raises(ValueError, match="no checkpoint"):
        finished_average(tmp_path)


def test_words_end_with_the_end_token_and_unknown_ones_are_one_token(tokenizer):
    ids = tokenizer("Red, CAR! zeppelin").input_ids
    assert ids[-1] == tokenizer.eos_token_id == 1
    assert ids[2] == tokenizer.unk_token_id
    assert tokenizer.pad_token_id == 0


def test_plain_attention_equals_the_fused_kernel():
    rng = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 7, 3, 8, generator=rng) for _ in range(3))
    plain, fused = (
        kind().attend(query, key, value, None) for kind in (PlainAttention, CausalAttnProcessor)
    )
    assert_close(plain, fused)


def test_training_in_bfloat16_on_a_cpu_uses_plain_attention(teacher):
    model = copy.deepcopy(teacher)
    for precision, kind in (("no", CausalAttnProcessor), ("bf16", PlainAttention)):
        use_training_attention(model, torch.device("cpu"), precision)
        assert {type(each) for each in model.transformer.attn_processors.values()} == {kind}


def test_bfloat16_is_used_only_where_the_processor_has_it(monkeypatch):
    for native, precision in ((False, "no"), (True, "bf16")):
        monkeypatch.setattr("causvid.training.precision.native_bfloat16", lambda it=native: it)
        assert mixed_precision(torch.device("cpu")) == precision


def test_an_exported_student_loads_as_an_ordinary_pipeline(teacher, tokenizer, tmp_path):
    export(
        tmp_path / "model",
        copy.deepcopy(teacher),
        copy.deepcopy(teacher),
        TinyAutoencoder(4, 2, (), (8, 8, 8), (0, 0), (0, 0), (2, 4), (2, 2), 1),
        tokenizer,
        GENERATION,
    )
    pipe = load(str(tmp_path / "model"), device="cpu")
    assert isinstance(pipe, CausVidPipeline) and pipe.generation == GENERATION
    for kind in (True, False):
        again = load_exported(tmp_path / "model", teacher=kind)
        for name, tensor in again.state_dict().items():
            assert_close(tensor, teacher.state_dict()[name], rtol=1e-3, atol=1e-4)


def test_shards_of_the_wide_world_change_some_scenes_and_begin_some_late(tmp_path):
    codec = codec_for(TinyAutoencoder(4, 2, (), (8, 8, 8), (0, 0), (0, 0), (2, 4), (2, 2), 1))
    wide = WorldConfig("wide", captions=2, late_share=0.5, turned_share=0.25, turn=2)
    config = DataConfig(4, 3, wide)
    for index in range(2):
        assert render_shard(codec, tmp_path, index, config, **SMALL)
    with safe_open(shard_path(tmp_path, 1), framework="pt") as file:
        about = {name: json.loads(text) for name, text in file.metadata().items()}
        second = file.get_tensor("latents")
    assert about["turns"] == [0, 0, 0, 2]
    assert all(len(captions) == 2 and all(captions) for captions in about["captions"])
    assert second.shape == (4, 3, 4, 2, 3)
    assert not torch.equal(second, load_file(shard_path(tmp_path, 0))["latents"])
    clips = [
        clips_module.wide_clip(codec, wide, n, 3, size=Size(32, 48), turned=False) for n in range(9)
    ]
    assert 0 < sum(clip.late for clip in clips) < len(clips)
    assert all((clip.opening is not None) == clip.late for clip in clips)
    again = clips_module.wide_clip(codec, wide, 8, 3, size=Size(32, 48), turned=False)
    assert torch.equal(again.latents, clips[8].latents) and again.captions == clips[8].captions


@pytest.mark.slow
def test_shards_that_workers_share_are_those_of_one_process(tmp_path):
    vae = TinyAutoencoder(4, 2, (), (8, 8, 8), (0, 0), (0, 0), (2, 4), (2, 2), 1)
    vae.save_pretrained(tmp_path / "vae")
    config = DataConfig(2, 3, WorldConfig("wide", captions=2))
    sizes = (Size(32, 48), Size(48, 32))
    several, one = tmp_path / "several", tmp_path / "one"

    def read(folder, index):
        with safe_open(shard_path(folder, index), framework="pt") as file:
            return file.get_tensor("latents"), dict(sorted(file.metadata().items()))

    render_shards(tmp_path / "vae", several, range(3), config, sizes, workers=2)
    codec = codec_for(load_codec(tmp_path / "vae"))
    for index in range(3):
        render_shard(codec, one, index, config, **sizes[index % 2]._asdict())
        for made, wanted in zip(read(several, index), read(one, index), strict=True):
            assert made == wanted if isinstance(made, dict) else torch.equal(made, wanted)


def test_a_budget_keeps_the_phases_shares(stages):
    stage = stages["teacher"](5)
    stage.config = replace(stage.config, phases=(Phase(1, 8, 2), Phase(3, 2, 3)))
    stage.steps = 100
    assert [stage.phase_at(step).frames for step in (0, 39, 40, 99)] == [1, 1, 3, 3]
