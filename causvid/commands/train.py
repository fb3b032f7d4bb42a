"""`python -m causvid train STAGE`: run one stage of the recipe, or go on with it.

    codec         the autoencoder in closed form; its latents are fixed from here on
    decoder       the autoencoder's decoder, whenever there is time for it
    data          render and encode captioned clips
    teacher       flow matching, bidirectional, text encoder included
    causal        the teacher's weights under the block-causal mask, on data (diffusion forcing)
    trajectories  what the teacher makes on its way from noise, for the next stage
    ode           causal regression on the trajectories
    forcing       the next chunk of real clips from their true past (teacher forcing)
    dmd           asymmetric distribution matching on the student's own rollouts
    reader        the attribute reader of `python -m causvid evaluate`; needs no other stage
    export        a diffusers folder with student, teacher, codec, text encoder
    plan          no stage: memory and operations of every stage, found without running it
    curves        no stage: draw the logs of finished or running ones

Every stage reads what the ones before it left in the run folder and continues where it stopped.
The same command runs in one process, in several (`accelerate launch --multi_gpu --num_processes 2
-m causvid train …`, on a CPU, too: `--cpu` would start one) and on GPUs with sharded models
(`accelerate launch --config_file examples/fsdp.yaml -m causvid train …`).

On a CPU set OMP_NUM_THREADS=1: two processes of one thread do more work than one of two. With
glibc, MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592 saves another fifth:
activations are then taken from memory that the process already holds.
"""

import argparse
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypeVar

import torch
from accelerate import Accelerator, PartialState
from transformers import PreTrainedTokenizerFast

from causvid.generation.generator import Generator
from causvid.generation.geometry import LatentGrid
from causvid.model.codec import codec_for
from causvid.model.tiny_autoencoder import TinyAutoencoder
from causvid.training.assembly import (
    add_difference,
    average_with,
    export,
    load_exported,
    new_model,
)
from causvid.training.codec import fit_codec
from causvid.training.data import LatentCache
from causvid.training.decoder import DecoderConfig, DecoderStage
from causvid.training.dmd import DmdConfig, DmdStage
from causvid.training.forcing import ForcingConfig, ForcingStage
from causvid.training.ode import OdeConfig, OdeStage, write_trajectories
from causvid.training.plan import plan, plan_table
from causvid.training.precision import mixed_precision, training_attention
from causvid.training.prompted import PromptedTransformer
from causvid.training.reader import ReaderStage, new_reader
from causvid.training.recipes import POCKET, READER, RECIPES
from causvid.training.remaking import Remaker
from causvid.training.teacher import CausalStage, FlowConfig, Phase, TeacherStage
from causvid.training.trainer import LoopConfig, Stage, finished_average, latest_checkpoint, train
from causvid.training.world import render_shard
from causvid.world import VOCABULARY
from causvid.world.judge import Judge
from causvid.world.tokenizer import word_tokenizer

Timed = TypeVar("Timed", DecoderConfig, OdeConfig, ForcingConfig, DmdConfig)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m causvid train`."""
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--run", type=Path, default=Path("runs/pocket"), help="the run's folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", choices=("auto", "no", "bf16"), default="auto")
    parser.add_argument("--shards", type=int, default=12, help="data, trajectories: how many")
    parser.add_argument("--clips", type=int, default=POCKET.data.clips, help="data: per shard")
    parser.add_argument("--checkpoint-seconds", type=float, default=300.0)
    parser.add_argument(
        "--steps",
        type=int,
        help="decoder, ode, forcing, dmd: how many, if not as many as in the recipe",
    )
    parser.add_argument("--stop", type=int, help="pause before this step")
    parser.add_argument(
        "--student-input",
        choices=("rollout", "data"),
        default="rollout",
        help="dmd: the student's own rollouts, or noisy data as in the paper",
    )
    parser.add_argument(
        "--teacher",
        choices=("bidirectional", "causal"),
        default="bidirectional",
        help="dmd: which teacher judges; the causal one is what the stage `causal` has left",
    )
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="FOLDER",
        help="forcing, dmd: an exported folder whose student's first chunks are kept, "
        "instead of those of the student that is trained",
    )
    parser.add_argument(
        "--teacher-forcing",
        type=float,
        metavar="WEIGHT",
        help="dmd: of the loss on real clips; 0 is distribution matching alone",
    )
    parser.add_argument(
        "--student",
        metavar="NAME",
        help="the stage (or --name) whose student is taken: by ode (teacher), forcing (ode), "
        "dmd (forcing), export (dmd); by decoder, to learn to see past that student's errors "
        "(none)",
    )
    parser.add_argument(
        "--name", help="the stage's folder in the run, its own name if not given: for comparisons"
    )
    parser.add_argument(
        "--start-from",
        type=Path,
        help="an exported folder that stands in for stages which the run folder does not have; "
        "the teacher stage starts from its teacher instead of from nothing",
    )
    parser.add_argument(
        "--phases",
        type=_phases,
        help="teacher, causal: windows other than the recipe's, as FRAMESxBATCHxSTEPS,…, for a "
        "run that starts from weights: 1x24x500,7x6x4000",
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="export (assets/pocket), reader (assets/report/reader), curves of --logs "
        "(curves.png): where to",
    )
    parser.add_argument(
        "--taught-since",
        type=Path,
        metavar="FOLDER",
        help="export: add to the student what the run's teacher has learned since it was that of "
        "this exported folder",
    )
    parser.add_argument(
        "--mean-with",
        type=Path,
        metavar="FOLDER",
        help="export: the student is the mean of the run's and of this exported folder's",
    )
    parser.add_argument(
        "--logs",
        type=Path,
        nargs="+",
        metavar="FOLDER",
        help="curves: stage folders to draw together, such as those of several runs; without, "
        "every stage of --run is drawn by itself",
    )
    parser.add_argument(
        "--recipe", choices=RECIPES, default="wan-1.3b", help="plan: of which model"
    )
    parser.add_argument("--processes", type=int, default=64, help="plan: on how many devices")
    parser.add_argument("--json", action="store_true", help="plan: one JSON object")
    parser.add_argument("--against", choices=("step", "cpu_seconds"), default="step")


def _phases(text: str) -> tuple[Phase, ...]:
    try:
        return tuple(Phase(*map(int, part.split("x"))) for part in text.split(","))
    except (TypeError, ValueError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a list of FRAMESxBATCHxSTEPS such as 1x24x500,7x6x4000"
        ) from None


def _flow(config: FlowConfig, args: argparse.Namespace) -> FlowConfig:
    return config if args.phases is None else replace(config, phases=args.phases)


def _lasting(config: Timed, args: argparse.Namespace) -> Timed:
    return config if args.steps is None else replace(config, steps=args.steps)


def main(args: argparse.Namespace) -> None:
    """Run the stage that `args` names.

    Raises:
        ValueError: if what an earlier stage leaves is not there.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    STAGES[args.stage](args)


def _accelerator(args: argparse.Namespace) -> Accelerator:
    cpu = not torch.cuda.is_available()
    precision = args.precision
    if precision == "auto":
        precision = mixed_precision(torch.device("cpu" if cpu else "cuda"))
    return Accelerator(cpu=cpu, mixed_precision=precision)


def _run(stage: Stage, args: argparse.Namespace) -> None:
    loop = LoopConfig(
        args.run / (args.name or args.stage), checkpoint_seconds=args.checkpoint_seconds
    )
    train(stage, loop, _accelerator(args), stop=args.stop)


def _tokenizer() -> PreTrainedTokenizerFast:
    return word_tokenizer(VOCABULARY, POCKET.transformer.text_length)


def _cache(folder: Path) -> LatentCache:
    cache = LatentCache(folder)
    cache.open()
    return cache


def _stage_model(args: argparse.Namespace, stage: str) -> PromptedTransformer:
    """The weights that a stage has left, or those of the exported folder."""
    if args.start_from is None or latest_checkpoint(args.run / stage / "checkpoints"):
        return PromptedTransformer.load(finished_average(args.run / stage))
    return load_exported(args.start_from, teacher=stage == "teacher")


def _autoencoder(args: argparse.Namespace) -> TinyAutoencoder:
    folder = args.run / "vae"
    if args.start_from is not None and not folder.exists():
        folder = args.start_from / "vae"
    if not folder.exists():
        raise ValueError(f"no codec in {folder}: run `python -m causvid train codec` first")
    return TinyAutoencoder.from_pretrained(folder, torch_dtype=torch.float32).eval()


def _student(model: PromptedTransformer) -> PromptedTransformer:
    """The teacher's heir: its text encoder is the teacher's for good."""
    model.text_encoder.requires_grad_(False)
    return model


def _generator(student: PromptedTransformer) -> Generator:
    config = POCKET.generator
    grid = LatentGrid(
        config.height, config.width, spatial_stride=16, patch=POCKET.transformer.patch_size[1]
    )
    return Generator(student.transformer, config, grid)


def _codec(args: argparse.Namespace) -> None:
    folder = args.run / "vae"
    if folder.exists():
        raise ValueError(f"{folder} exists and its latents may be in use; fit into another --run")
    fit_codec(POCKET.codec, seed=args.seed).save_pretrained(folder)


def _decoder(args: argparse.Namespace) -> None:
    config = _lasting(POCKET.decoder, args)
    remake = None
    if args.student is not None:
        student = _stage_model(args, args.student)
        remake = Remaker(_generator(student), student, _tokenizer())
    _run(DecoderStage(_autoencoder(args), config, remake=remake, seed=args.seed), args)
    trained = TinyAutoencoder.from_pretrained(finished_average(args.run / "decoder"))
    trained.save_pretrained(args.run / "vae")


def _data(args: argparse.Namespace) -> None:
    codec = codec_for(_autoencoder(args))
    config = replace(POCKET.data, clips=args.clips)
    place = PartialState(cpu=not torch.cuda.is_available())
    for index in range(place.process_index, args.shards, place.num_processes):
        render_shard(codec, args.run / "latents", index, config)


def _teacher(args: argparse.Namespace) -> None:
    tokenizer = _tokenizer()
    if args.start_from is None:
        model = new_model(POCKET.transformer, len(tokenizer), args.seed)
    else:
        model = load_exported(args.start_from, teacher=True)
    data = _cache(args.run / "latents")
    config = _flow(POCKET.teacher, args)
    _run(TeacherStage(model, tokenizer, data, config, seed=args.seed), args)


def _causal(args: argparse.Namespace) -> None:
    model = _student(_stage_model(args, "teacher"))
    data = _cache(args.run / "latents")
    chunks = POCKET.generator.chunks
    config = _flow(POCKET.causal, args)
    stage = CausalStage(model, _tokenizer(), data, config, chunks=chunks, seed=args.seed)
    _run(stage, args)


def _trajectories(args: argparse.Namespace) -> None:
    teacher = _stage_model(args, "teacher").eval()
    data = _cache(args.run / "latents")
    accelerator = _accelerator(args)
    device, tokenizer = accelerator.device, _tokenizer()
    teacher.to(device)
    with accelerator.autocast(), training_attention(device, accelerator.mixed_precision):
        for index in range(accelerator.process_index, args.shards, accelerator.num_processes):
            write_trajectories(
                teacher,
                tokenizer,
                data,
                args.run / "trajectories",
                index,
                POCKET.trajectories,
                POCKET.generator,
                seed=args.seed,
            )


def _ode(args: argparse.Namespace) -> None:
    model = _student(_stage_model(args, args.student or "teacher"))
    trajectories = _cache(args.run / "trajectories")
    config, generator = _lasting(POCKET.ode, args), POCKET.generator
    stage = OdeStage(model, _tokenizer(), trajectories, config, generator, seed=args.seed)
    _run(stage, args)


def _forcing(args: argparse.Namespace) -> None:
    begun = args.student or "ode"
    model = _student(_stage_model(args, begun))
    known = _known(args, begun)
    data = _cache(args.run / "latents")
    config, generation = _lasting(POCKET.forcing, args), POCKET.generator
    stage = ForcingStage(model, _tokenizer(), data, config, generation, known=known, seed=args.seed)
    _run(stage, args)


def _known(args: argparse.Namespace, begun: str) -> PromptedTransformer:
    """Whose first chunks are kept."""
    return load_exported(args.keep, teacher=False) if args.keep else _stage_model(args, begun)


def _dmd(args: argparse.Namespace) -> None:
    judge = "teacher" if args.teacher == "bidirectional" else "causal"
    teacher = _stage_model(args, judge)
    critic = _stage_model(args, judge).transformer
    begun = args.student or "forcing"
    student = _stage_model(args, begun)
    config = replace(
        _lasting(POCKET.dmd, args), student_input=args.student_input, teacher=args.teacher
    )
    if args.teacher_forcing is not None:
        config = replace(config, teacher_forcing_weight=args.teacher_forcing)
    stage = DmdStage(
        _generator(student),
        teacher,
        critic,
        _tokenizer(),
        _cache(args.run / "latents"),
        config,
        known=_known(args, begun).transformer if config.teacher_forcing_weight else None,
        seed=args.seed,
    )
    _run(stage, args)


def _reader(args: argparse.Namespace) -> None:
    _run(ReaderStage(new_reader(args.seed), READER, seed=args.seed), args)
    trained = Judge.from_pretrained(finished_average(args.run / "reader"))
    trained.half().save_pretrained(args.out or Path("assets/report/reader"))


def _export(args: argparse.Namespace) -> None:
    student, teacher = _stage_model(args, args.student or "dmd"), _stage_model(args, "teacher")
    if args.taught_since is not None:
        former = load_exported(args.taught_since, teacher=True)
        add_difference(student.transformer, teacher.transformer, former.transformer)
        student.text_encoder = teacher.text_encoder
    if args.mean_with is not None:
        other = load_exported(args.mean_with, teacher=False)
        average_with(student.transformer, other.transformer)
    export(
        args.out or Path("assets/pocket"),
        student,
        teacher,
        _autoencoder(args),
        _tokenizer(),
        POCKET.generator,
    )


def _curves(args: argparse.Namespace) -> None:
    from causvid.training.curves import draw_curves  # loads matplotlib, which takes a second

    if args.logs:
        logs = {str(folder): folder / "log.jsonl" for folder in args.logs}
        draw_curves(logs, args.out or Path("curves.png"), against=args.against)
        return
    found = sorted(args.run.glob("*/log.jsonl"))
    if not found:
        raise ValueError(f"no stage in {args.run} has a log: pass --run with a trained run")
    for log in found:
        draw_curves({log.parent.name: log}, log.with_name("curves.png"), against=args.against)


def _plan(args: argparse.Namespace) -> None:
    stages = list(plan(RECIPES[args.recipe], processes=args.processes))
    if args.json:
        figures = [{**asdict(stage), "total_bytes": stage.total_bytes} for stage in stages]
        print(json.dumps({"recipe": args.recipe, "stages": figures}, indent=2))
        return
    table = plan_table(args.recipe, stages)
    print(f"{table.title}\n{table.to_text()}")


STAGES: dict[str, Callable[[argparse.Namespace], None]] = {
    "codec": _codec,
    "decoder": _decoder,
    "data": _data,
    "teacher": _teacher,
    "causal": _causal,
    "trajectories": _trajectories,
    "ode": _ode,
    "forcing": _forcing,
    "dmd": _dmd,
    "reader": _reader,
    "export": _export,
    "plan": _plan,
    "curves": _curves,
}
