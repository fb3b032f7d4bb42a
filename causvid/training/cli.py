"""`python -m causvid train STAGE`: run one stage of the recipe, or go on with it.

    data      render and encode captioned clips
    teacher   flow matching, bidirectional, text encoder included
    causal    the teacher's weights under the block-causal mask, on data (diffusion forcing)
    ode       the teacher's trajectories, and causal regression on them
    dmd       asymmetric distribution matching on the student's own rollouts
    export    a diffusers folder with student, teacher, codec, text encoder

Every stage reads what the ones before it left in the run folder and continues where it stopped.
The same command runs on one core, on several processes and on GPUs (`accelerate launch -m causvid
train …`). On a CPU set OMP_NUM_THREADS=1: two processes of one thread do more work than one of
two. With glibc, MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592 saves another
fifth: activations are then taken from memory that the process already holds.
"""

import argparse
import logging
from pathlib import Path

import torch
from accelerate import Accelerator

from causvid.autoencoder_tiny import TinyAutoencoder
from causvid.codec import codec_for
from causvid.diorama import VOCABULARY
from causvid.training.assembly import new_model
from causvid.training.data import LatentCache
from causvid.training.precision import mixed_precision
from causvid.training.stages import POCKET
from causvid.training.teacher import TeacherStage
from causvid.training.trainer import LoopConfig, train
from causvid.training.words import word_tokenizer
from causvid.training.world import render_shard

STAGES = ("data", "teacher", "causal", "ode", "dmd", "export")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--run", type=Path, default=Path("runs/pocket"), help="the run's folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", choices=("auto", "no", "bf16"), default="auto")
    parser.add_argument("--shards", type=int, default=12, help="data: how many shards to render")
    parser.add_argument("--checkpoint-seconds", type=float, default=300.0)
    parser.add_argument("--steps", type=int, help="stop after this many steps of the stage")


def main(args: argparse.Namespace) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if args.stage == "data":
        _render(args)
    elif args.stage == "teacher":
        _teacher(args)


def _accelerator(args: argparse.Namespace) -> Accelerator:
    cpu = not torch.cuda.is_available()
    precision = args.precision
    if precision == "auto":
        precision = mixed_precision(torch.device("cpu" if cpu else "cuda"))
    return Accelerator(cpu=cpu, mixed_precision=precision)


def _render(args: argparse.Namespace) -> None:
    codec = codec_for(TinyAutoencoder.from_pretrained(args.run / "vae").eval())
    for index in range(args.shards):
        render_shard(codec, args.run / "latents", index, POCKET.data)


def _teacher(args: argparse.Namespace) -> None:
    tokenizer = word_tokenizer(VOCABULARY, POCKET.transformer.text_length)
    model = new_model(POCKET.transformer, len(tokenizer), args.seed)
    data = LatentCache(args.run / "latents")
    data.open()
    stage = TeacherStage(model, tokenizer, data, POCKET.teacher, seed=args.seed)
    loop = LoopConfig(args.run / "teacher", checkpoint_seconds=args.checkpoint_seconds)
    train(stage, loop, _accelerator(args), stop=args.steps)
