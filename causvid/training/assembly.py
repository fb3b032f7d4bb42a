"""Models of the recipe: new ones from settings, finished ones into a diffusers folder."""

import json
from dataclasses import asdict
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from causvid.generation.config import GenerationConfig
from causvid.model.tiny_autoencoder import TinyAutoencoder
from causvid.model.transformer import CausalWanTransformer
from causvid.pipeline import CausVidPipeline
from causvid.training.prompted import PromptedTransformer
from causvid.training.recipes import TransformerShape
from causvid.world.tokenizer import tiny_text_encoder

_SHARD = "9MB"
"""Largest file of an export: what a Git host takes without large-file storage, with room."""


def new_model(shape: TransformerShape, vocabulary: int, seed: int) -> PromptedTransformer:
    """A randomly initialised transformer with its text encoder, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer = CausalWanTransformer(**asdict(shape))
        # Nothing is predicted at first, so the loss starts at that of the mean.
        torch.nn.init.zeros_(transformer.proj_out.weight)
        torch.nn.init.zeros_(transformer.proj_out.bias)
        return PromptedTransformer(transformer, tiny_text_encoder(vocabulary, width=shape.text_dim))


def export(
    folder: Path,
    student: PromptedTransformer,
    teacher: PromptedTransformer,
    vae: TinyAutoencoder,
    tokenizer: PreTrainedTokenizerFast,
    generation: GenerationConfig,
) -> None:
    """Write a pipeline folder in float16, the teacher's transformer beside it in `teacher/`.

    Student and teacher share the text encoder, which is trained with the teacher only.
    """
    CausVidPipeline(
        tokenizer=tokenizer,
        text_encoder=student.text_encoder.half(),
        transformer=student.transformer.half(),
        vae=vae.half(),
        generation=generation,
    ).save_pretrained(folder, max_shard_size=_SHARD)
    teacher.transformer.half().save_pretrained(folder / "teacher")
    for path in folder.glob("*/config.json"):
        config = json.loads(path.read_text(encoding="utf-8"))
        config.pop("_name_or_path", None)  # where weights were loaded from is nobody's business
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


@torch.no_grad()
def average_with(model: CausalWanTransformer, other: CausalWanTransformer) -> None:
    """Make `model` the mean of both, in place.

    Two models that went on from the same weights lie in one basin, and their mean is often better
    than either (model soups, arXiv 2203.05482).
    """
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        mine.lerp_(theirs, 0.5)


@torch.no_grad()
def add_difference(
    model: CausalWanTransformer, newer: CausalWanTransformer, older: CausalWanTransformer
) -> None:
    """Add to `model`, in place, what `newer` has learned since it was `older`.

    What fine-tuning has changed is a vector that does the same to other descendants of the same
    weights (task arithmetic, arXiv 2212.04089): a student knows at once what its teacher has been
    taught. Distribution matching alone does not bring it there, for it seeks modes: of what a
    student never draws it learns next to nothing.
    """
    weights = (model.parameters(), newer.parameters(), older.parameters())
    for mine, after, before in zip(*weights, strict=True):
        mine.add_(after - before)


def load_exported(folder: Path, *, teacher: bool) -> PromptedTransformer:
    """The student or the teacher of an exported folder, in float32, to train on."""
    transformer = folder / ("teacher" if teacher else "transformer")
    return PromptedTransformer(
        CausalWanTransformer.from_pretrained(transformer, torch_dtype=torch.float32),
        UMT5EncoderModel.from_pretrained(folder / "text_encoder", torch_dtype=torch.float32),
    )
