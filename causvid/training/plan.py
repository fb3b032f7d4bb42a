"""What every stage of a recipe costs, by formulas: no weights, no memory, no data.

Operations (a multiply-add as two) are those of `causvid.presets.costs`, three times as many where
gradients are taken, four times with activation checkpointing. Tests hold them against real steps.

Assumed, as on a GPU: bfloat16 arithmetic over float32 weights; frozen models in bfloat16, whole on
every device; trained ones sharded over all devices, with gradients, optimiser and average (FSDP).
Not known here: speed, the codec, and activations, which a step on one device tells.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import accumulate

import torch
from tabulate import tabulate

from causvid.generation.geometry import LatentGrid
from causvid.model.transformer import CausalWanTransformer
from causvid.presets.catalogue import PRESETS
from causvid.presets.costs import empty_models, prompt_flops, transformer_flops
from causvid.training.config import FlowConfig, Lessons
from causvid.training.recipes import Recipe, vocabulary
from causvid.world.tokenizer import tiny_text_encoder

_MASTER, _LOWERED = 4, 2  # bytes of a float32 weight, gradient or average, and of a bfloat16 one


@dataclass(frozen=True)
class StagePlan:
    """One stage: memory of each device, work of all together.

    Attributes:
        clips: seen in a step.
        trained, averaged, frozen: parameters; the averaged ones are among the trained.
        model_bytes: weights, gradients, optimiser (two numbers a weight) and average.
    """

    name: str
    steps: int
    clips: int
    trained: int
    averaged: int
    frozen: int
    model_bytes: int
    step_flops: int
    total_flops: int


class _Costs:
    """Operations of one process's passes through a recipe's models."""

    def __init__(self, recipe: Recipe):
        self.recipe, self.chunks = recipe, recipe.generation.chunks
        if recipe.preset is not None:
            self.transformer, vae, _, encoder = empty_models(PRESETS[recipe.preset])
            stride = vae.config.scale_factor_spatial
        elif recipe.transformer is not None and recipe.codec is not None:
            with torch.device("meta"):
                self.transformer = CausalWanTransformer(**asdict(recipe.transformer))
                words = len(vocabulary(recipe)) + 3  # padding, end and the unknown word
                encoder = tiny_text_encoder(words, width=recipe.transformer.text_dim)
            stride = recipe.codec.spatial_stride
        else:
            raise ValueError("a recipe without a base needs a transformer and a codec")
        config, picture = self.transformer.config, recipe.generation
        self.grid = LatentGrid(picture.height, picture.width, stride, patch=config.patch_size[1])
        self.size, self.text_size = (
            sum(weight.numel() for weight in model.parameters())
            for model in (self.transformer, encoder)
        )
        looked_up = encoder.get_input_embeddings().weight.numel()
        self.prompt = 2 * config.text_length * (self.text_size - looked_up)
        self.gradient = 4 if recipe.checkpointing else 3  # over the forward pass alone

    def forward(self, *sizes: int) -> int:
        """A pass over runs of frames that each see themselves and those before them."""
        seen = zip(sizes, accumulate(sizes), strict=True)
        runs = (transformer_flops(self.transformer, self.grid, size, end) for size, end in seen)
        return prompt_flops(self.transformer) + sum(runs)

    def causal(self, frames: int) -> int:
        return self.forward(*self.chunks.sizes(frames))

    def forced(self, sizes: tuple[int, ...], given: int) -> int:
        """A pass over the chunks after the `given` ones, each of which sees the clean past."""
        ends = list(accumulate(sizes))
        made = zip(sizes[given:], ends[given:], strict=True)
        work = sum(transformer_flops(self.transformer, self.grid, *run) for run in made)
        return work + self.forward(*sizes[:-1])

    def learned(self, frames: int) -> float:
        """A pass over what the causal stages learn from, the mean of its two kinds."""
        beginnings = self.forced(self.chunks.sizes(frames), 0)
        if not self.recipe.generation.sink:
            return beginnings
        sizes = self.chunks.runs(frames)
        return (beginnings + self.forced(sizes, len(sizes) - 1)) / 2

    def learned_from_remakes(self, frames: int) -> float:
        """The same with pasts that are made again, half as often as at most; no gradients."""
        kinds = [self.chunks.sizes(frames)]
        kinds += [self.chunks.runs(frames)] if self.recipe.generation.sink else []
        again = sum(self.forced(sizes[:-1], 1) for sizes in kinds) / len(kinds)
        remakes = self.recipe.causal.past_remakes / 2
        return self.learned(frames) + remakes * again / self.gradient

    def lessons(self, lessons: Lessons) -> float:
        """Operations of a step of teacher forcing."""
        chunks, window = self.chunks, self.recipe.generation.window
        work = self.gradient * self.forward(*chunks.runs(window))
        flops = lessons.batch * (work + self.prompt)
        beginnings = [chunks.start(end) for end in range(2, chunks.covering(window))]
        if beginnings:
            mean = sum(map(self.causal, beginnings)) / len(beginnings)
            flops += lessons.batch * (self.gradient * mean + self.prompt)
        if lessons.first_weight:
            levels = len(self.recipe.generation.timesteps)  # of the student before, and its prompt
            work = (self.gradient + levels) * self.forward(chunks.first) + 2 * self.prompt
            flops += lessons.first_batch * work
        return flops

    def distribution_matching(self) -> float:
        """Operations for one video: its rollout, three opinions of it, the critic's updates."""
        config, generation = self.recipe.dmd, self.recipe.generation
        work = (1.0 + self.gradient) * prompt_flops(self.transformer) + 2 * self.prompt
        for length in config.rollout_chunks:
            for chunk in range(length):
                live = self.chunks.start(chunk) >= self.chunks.start(length) - config.window
                # Steps before the exit step, which is drawn; that step; the clean pass.
                passes = (len(generation.timesteps) - 1) / 2 + (self.gradient if live else 1) + 1
                seen = min(self.chunks.start(chunk + 1), generation.window)
                frames = self.chunks.frames(chunk)
                cost = transformer_flops(self.transformer, self.grid, frames, seen)
                work += passes * cost / len(config.rollout_chunks)
        judged = self.causal if config.teacher == "causal" else self.forward
        opinions = 2 if config.guidance == 1 else 3
        return work + (opinions + config.critic_updates * self.gradient) * judged(config.window)


def plan(recipe: Recipe, *, processes: int = 1) -> Iterator[StagePlan]:
    """The stages of a recipe that run transformers, in order.

    Raises:
        ValueError: if there is no process.
    """
    if processes < 1:
        raise ValueError(f"a plan needs at least one process, got {processes}")
    costs = _Costs(recipe)
    text, size = costs.text_size, costs.size

    def stage(
        name: str, work: list[tuple[int, int, float]], *models: int, accumulation: int = 1
    ) -> StagePlan:
        """
        Args:
            work: steps, clips of a micro-batch and their operations, of each phase.
            models: parameters trained, averaged and frozen.
            accumulation: micro-batches in a step, of every process.
        """
        trained, averaged, frozen = models
        sharded = _MASTER * (4 * trained + averaged) // processes
        work = [(steps, accumulation * n, accumulation * flops) for steps, n, flops in work]
        step, total = work[-1][2], sum(steps * flops for steps, _, flops in work)
        return StagePlan(
            name,
            sum(steps for steps, _, _ in work),
            processes * work[-1][1],
            trained,
            averaged,
            frozen,
            sharded + _LOWERED * frozen,
            round(processes * step),
            round(processes * total),
        )

    def flow(
        name: str, config: FlowConfig, through: Callable[[int], float], *, words: bool
    ) -> StagePlan:
        work = []
        for phase in config.phases:
            clip = costs.gradient * through(phase.frames) + (3 if words else 1) * costs.prompt
            work.append((phase.steps, phase.batch, phase.batch * clip))
        trained, frozen = (size + text, 0) if words else (size, text)
        parts = config.optimiser.accumulation
        return stage(name, work, trained, trained, frozen, accumulation=parts)

    yield flow("teacher", recipe.teacher, costs.forward, words=recipe.preset is None)
    through = costs.learned_from_remakes if recipe.causal.past == "clean" else costs.causal
    yield flow("causal", recipe.causal, through, words=False)
    agreed = recipe.consistency
    passes = 2 + (agreed.guidance != 1) + costs.gradient  # teacher, average, student
    clip = passes * costs.learned(recipe.generation.window) + costs.prompt
    work = [(agreed.steps, agreed.batch, agreed.batch * clip)]
    parts = agreed.optimiser.accumulation
    yield stage("consistency", work, size, size, size + text, accumulation=parts)
    made, ode, forcing, dmd = recipe.trajectories, recipe.ode, recipe.forcing, recipe.dmd
    sides = 1 if made.guidance == 1 else 2
    clip = sides * (made.steps * costs.forward(made.frames) + costs.prompt)
    batches = made.count // made.batch
    yield stage("trajectories", [(batches, made.batch, made.batch * clip)], 0, 0, size + text)
    clip = costs.gradient * costs.causal(made.frames) + costs.prompt
    work, parts = [(ode.steps, ode.batch, ode.batch * clip)], ode.optimiser.accumulation
    yield stage("ode", work, size, size, text, accumulation=parts)
    work = [(forcing.steps, forcing.lessons.batch, costs.lessons(forcing.lessons))]
    frozen = text + size * (forcing.lessons.first_weight > 0)
    parts = forcing.optimiser.accumulation
    yield stage("forcing", work, size, size, frozen, accumulation=parts)
    flops, frozen = dmd.batch * costs.distribution_matching(), size + text
    if dmd.teacher_forcing_weight:
        flops += costs.lessons(dmd.lessons)
        frozen += size * (dmd.lessons.first_weight > 0)
    yield stage("dmd", [(dmd.steps, dmd.batch, flops)], 2 * size, size, frozen)


def print_plan(name: str, recipe: Recipe, *, processes: int, as_json: bool) -> None:
    """What there is to know before a cluster is rented: memory of a device, work of all."""
    stages = list(plan(recipe, processes=processes))
    if as_json:
        figures = {"recipe": name, "processes": processes, "stages": list(map(asdict, stages))}
        print(json.dumps(figures, indent=2))
        return
    rows = [
        (
            stage.name,
            f"{stage.steps:,}",
            stage.clips,
            f"{stage.model_bytes / 2**30:.2f} GiB",
            f"{stage.step_flops / 1e12:,.3g} TFLOP",
            f"{stage.total_flops / 1e18:,.3g} EFLOP",
        )
        for stage in stages
    ]
    header = ("stage", "steps", "clips", "models", "a step", "the stage")
    print(f"Training {name} on {processes} devices: memory of each; clips and work of all together")
    print(tabulate(rows, header, colalign=("left", *["right"] * 5), disable_numparse=True))
