"""What runs each stage: the stage's models, data and settings of a `Run`, put together.

The command line calls the function of a stage's name with a run, the settings and its options.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from causvid.model.codec import codec_for
from causvid.training import models
from causvid.training.causal import CausalStage, ConsistencyStage
from causvid.training.clips import (
    captioned_videos,
    encode_shard,
    render_shard,
    render_shards,
)
from causvid.training.codec import fit_codec
from causvid.training.config import (
    CausalConfig,
    CodecConfig,
    ConsistencyConfig,
    DataConfig,
    DecoderConfig,
    DmdConfig,
    FlowConfig,
    ForcingConfig,
    JudgeConfig,
    OdeConfig,
    SegmenterConfig,
    TrajectoryConfig,
)
from causvid.training.decoder import DecoderStage
from causvid.training.dmd import DmdStage
from causvid.training.forcing import ForcingStage
from causvid.training.judge import JudgeStage, new_judge
from causvid.training.ode import OdeStage, write_trajectories
from causvid.training.precision import use_training_attention
from causvid.training.remakes import Remaker
from causvid.training.run import Run
from causvid.training.segmenter import SegmenterStage, new_segmenter
from causvid.training.teacher import TeacherStage
from causvid.training.teacher_model import TeacherModel, tokens_of
from causvid.training.trainer import finished_average
from causvid.world.judge import Judge
from causvid.world.wide.segmenter import Segmenter

if TYPE_CHECKING:
    from causvid.training.curves import Axis


def codec(run: Run, config: CodecConfig, *, videos: Path | None) -> None:
    folder = run.folder / "vae"
    if folder.exists():
        raise ValueError(f"{folder} exists and its latents may be in use; fit into another --run")
    footage = run.footage(videos)
    fit_codec(config, footage, run.recipe.sizes, seed=run.seed).save_pretrained(folder)


def decoder(run: Run, config: DecoderConfig, *, student: str | None, videos: Path | None) -> None:
    vae = models.load_codec(run.codec_folder)
    remake = None
    if student is not None:
        model = run.transformer(student, trained=False)
        length = model.config.text_length
        remake = Remaker(run.generator(model), run.prompts(run.text_encoder(student), length))
    sizes, footage = run.recipe.sizes, run.footage(videos)
    stage = DecoderStage(vae, config, footage, sizes, remake=remake, seed=run.seed)
    folder = run.train("decoder", stage)
    models.load_codec(finished_average(folder)).save_pretrained(run.folder / "vae")


def data(run: Run, config: DataConfig, *, shards: int, videos: Path | None, workers: int) -> None:
    vae = models.load_codec(run.codec_folder)
    if run.base_folder is not None:
        vae.to(run.accelerator.device)
    codec = codec_for(vae)
    generation, folder = run.recipe.generation, run.folder / "latents"
    if videos is None:
        if config.world is None:
            raise ValueError("this recipe renders no clips: pass a folder of them with --videos")
        sizes = run.recipe.sizes
        if workers > 1:
            indices = run.shards(shards)
            render_shards(run.codec_folder, folder, indices, config, sizes, workers=workers)
            run.accelerator.wait_for_everyone()
            return
        for index in run.shards(shards):
            size = sizes[index % len(sizes)]
            render_shard(codec, folder, index, config, height=size.height, width=size.width)
        run.accelerator.wait_for_everyone()
        return
    found = captioned_videos(videos)
    if run.accelerator.is_main_process:
        run.learn_words(caption for _, captions in found for caption in captions)
    for index in run.shards(-(-len(found) // config.clips)):
        part = found[index * config.clips : (index + 1) * config.clips]
        encode_shard(codec, folder, index, part, config, generation)
    run.accelerator.wait_for_everyone()


def teacher(run: Run, config: FlowConfig) -> None:
    if run.base_folder is None:
        if run.start_folder is None:
            model = models.new_model(run.shape, len(run.tokenizer), run.seed)
        else:
            model = models.load_exported(run.start_folder, teacher=True)
        condition = tokens_of(run.tokenizer, model.transformer.config.text_length)
    else:
        model = run.transformer("teacher")
        condition = run.prompts(run.text_encoder(), model.config.text_length)
    run.compiled(model.transformer if isinstance(model, TeacherModel) else model)
    run.train("teacher", TeacherStage(model, condition, run.cache(), config, seed=run.seed))


def causal(run: Run, config: CausalConfig) -> None:
    model, encoder = run.compiled(run.transformer("teacher")), run.text_encoder()
    condition = run.prompts(encoder, model.config.text_length)
    stage = CausalStage(model, condition, run.cache(), config, run.recipe.generation, seed=run.seed)
    run.train("causal", stage, run.companions(encoder))


def consistency(run: Run, config: ConsistencyConfig) -> None:
    model, encoder = run.compiled(run.transformer("causal")), run.text_encoder("causal")
    stage = ConsistencyStage(
        model,
        run.compiled(run.transformer("causal", trained=False)),
        run.prompts(encoder, model.config.text_length),
        run.cache(),
        config,
        run.recipe.generation,
        seed=run.seed,
    )
    run.train("consistency", stage, run.companions(encoder))


def trajectories(run: Run, config: TrajectoryConfig, *, shards: int, prompts: Path | None) -> None:
    model = run.transformer("teacher", trained=False)
    condition = run.prompts(run.text_encoder(), model.config.text_length)
    captions, accelerator = run.captions(prompts), run.accelerator
    use_training_attention(model, accelerator.device, accelerator.mixed_precision)
    model.to(accelerator.device)
    with accelerator.autocast():
        for index in run.shards(shards):
            write_trajectories(
                model,
                condition,
                captions,
                run.folder / "trajectories",
                index,
                config,
                run.recipe.generation,
                run.grids[index % len(run.grids)],
                seed=run.seed,
            )
    accelerator.wait_for_everyone()


def ode(run: Run, config: OdeConfig, *, student: str | None) -> None:
    begun = run.student_of("ode", student)
    model, encoder = run.transformer(begun), run.text_encoder(begun)
    condition = run.prompts(encoder, model.config.text_length)
    trajectories, generation = run.cache("trajectories"), run.recipe.generation
    stage = OdeStage(model, condition, trajectories, config, generation, seed=run.seed)
    run.train("ode", stage, run.companions(encoder))


def forcing(run: Run, config: ForcingConfig, *, student: str | None) -> None:
    begun = run.student_of("forcing", student)
    model, encoder = run.transformer(begun), run.text_encoder(begun)
    stage = ForcingStage(
        model,
        run.prompts(encoder, model.config.text_length),
        run.cache(),
        config,
        run.recipe.generation,
        earlier=run.transformer(begun, trained=False) if config.lessons.first_weight else None,
        seed=run.seed,
    )
    run.train("forcing", stage, run.companions(encoder))


def dmd(run: Run, config: DmdConfig, *, student: str | None, prompts: Path | None) -> None:
    judging = "teacher" if config.teacher == "bidirectional" else "causal"
    teacher = run.compiled(run.transformer(judging, trained=False))
    critic = run.compiled(run.transformer(judging))
    begun = run.student_of("dmd", student)
    model, encoder = run.transformer(begun), run.text_encoder(judging)
    lessons = config.teacher_forcing_weight and config.lessons.first_weight
    stage = DmdStage(
        run.generator(model),
        teacher,
        critic,
        run.prompts(encoder, model.config.text_length),
        run.captions(prompts),
        config,
        grids=run.grids,
        earlier=run.transformer(begun, trained=False) if lessons else None,
        seed=run.seed,
    )
    run.train("dmd", stage, run.companions(encoder))


def judge(run: Run, config: JudgeConfig, *, out: Path) -> None:
    folder = run.train("judge", JudgeStage(new_judge(run.seed), config, seed=run.seed))
    Judge.from_pretrained(finished_average(folder)).half().save_pretrained(out)


def segmenter(run: Run, config: SegmenterConfig, *, out: Path) -> None:
    model = new_segmenter(run.seed)
    folder = run.train("segmenter", SegmenterStage(model, config, seed=run.seed))
    Segmenter.from_pretrained(finished_average(folder)).half().save_pretrained(out)


def export(run: Run, *, student: str | None, out: Path | None) -> None:
    taken = run.student_of("export", student)
    model = models.load_transformer(run.transformer_folder(taken))
    encoder = run.text_encoder(taken)
    # The base's own teacher is not written again.
    taught, teacher = run.transformer_folder("teacher"), None
    if run.base_folder is None or taught != run.base_folder / "transformer":
        teacher = TeacherModel(models.load_transformer(taught), encoder)
    models.export(
        out or run.folder / "model",
        TeacherModel(model, encoder),
        teacher,
        models.load_codec(run.codec_folder),
        run.tokenizer,
        dataclasses.replace(run.recipe.generation, more_sizes=run.recipe.data.more_sizes),
        published=run.base_folder is not None,
    )


def curves(folder: Path, logs: Sequence[Path] | None, out: Path | None, against: "Axis") -> None:
    # Here, as no other stage needs matplotlib before it has something to draw.
    from causvid.training.curves import draw_curves

    if logs:
        found = {str(stage): stage / "log.jsonl" for stage in logs}
        draw_curves(found, out or Path("curves.png"), against=against)
        return
    stages = sorted(folder.glob("*/log.jsonl"))
    if not stages:
        raise ValueError(f"no stage in {folder} has a log: pass --run with a trained run")
    for log in stages:
        draw_curves({log.parent.name: log}, log.with_name("curves.png"), against=against)
