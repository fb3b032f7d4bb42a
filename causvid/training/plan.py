"""What every stage of a recipe costs, by formulas: no weights, no memory, no data.

Parameters are counted on the `meta` device; operations (a multiply-add as two) are those of
`causvid.presets.costs`, three times as many where gradients are taken, four times with activation
checkpointing. Tests hold them against counted steps.

Assumed, as on a GPU: bfloat16 arithmetic over float32 weights and a fused attention kernel; frozen
models in bfloat16, whole on every device; trained ones sharded over all devices, with gradients,
optimiser and average (FSDP). Not known here: speed, the codec, how well an allocator packs.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import accumulate

import torch
from tabulate import tabulate

from causvid.generation.geometry import LatentGrid
from causvid.model.transformer import CausalWanTransformer
from causvid.presets.catalogue import PRESETS
from causvid.presets.costs import empty_models, prompt_flops, transformer_flops
from causvid.training.config import FlowConfig, Lessons
from causvid.training.recipes import Recipe
from causvid.world import VOCABULARY
from causvid.world.tokenizer import tiny_text_encoder

_MASTER, _LOWERED = 4, 2  # bytes of a float32 weight, gradient or average, and of a bfloat16 one

# Bytes that a layer keeps of a token for its backward pass, for each of the model's width and of
# its feed-forward's: fitted to what was alive in steps of both recipes on `meta`.
_KEPT_OF_WIDTH, _KEPT_OF_FFN = 60, 4


@dataclass(frozen=True)
class StagePlan:
    """One stage on `processes` devices.

    Attributes:
        clips: seen in a step by all processes together.
        trained: parameters that are trained; `averaged` of them have an average.
        frozen: parameters that are not.
        activation_bytes: at the peak of a step.
        step_flops, total_flops: of all processes, for one step and for the stage.
    """

    name: str
    processes: int
    steps: int
    clips: int
    trained: int
    averaged: int
    frozen: int
    activation_bytes: int
    step_flops: int
    total_flops: int

    @property
    def model_bytes(self) -> int:
        """Weights, gradients, optimiser (two numbers a weight) and average, on every device."""
        sharded = _MASTER * (4 * self.trained + self.averaged) // self.processes
        return sharded + _LOWERED * self.frozen

    @property
    def total_bytes(self) -> int:
        return self.model_bytes + self.activation_bytes


class _Model:
    """Operations and activations of one clip's passes through a recipe's models."""

    def __init__(self, recipe: Recipe):
        with torch.device("meta"):
            if recipe.preset is None:
                self.transformer = CausalWanTransformer(**asdict(recipe.transformer))
                vocabulary = len(VOCABULARY) + 3  # padding, end and the unknown word
                self.text = tiny_text_encoder(vocabulary, width=recipe.transformer.text_dim)
                stride = recipe.codec.spatial_stride
            else:
                models = empty_models(PRESETS[recipe.preset])
                self.transformer, self.text = models.transformer, models.text_encoder
                stride = models.vae.config.scale_factor_spatial
        self.recipe = recipe
        self.size = _count(self.transformer)
        generation, patch = recipe.generation, self.transformer.config.patch_size[1]
        self.grid = LatentGrid(generation.height, generation.width, stride, patch=patch)
        embedding = self.text.get_input_embeddings().weight.numel()
        length = self.transformer.config.text_length
        self.text_flops = 2 * length * (_count(self.text) - embedding)
        self.chunks = generation.chunks

    def forward(self, *sizes: int) -> int:
        """A pass over runs of frames that each see themselves and those before them."""
        runs = zip(sizes, accumulate(sizes), strict=True)
        return prompt_flops(self.transformer) + sum(
            transformer_flops(self.transformer, self.grid, size, end) for size, end in runs
        )

    def cached(self, chunk: int) -> int:
        """A pass over one chunk whose past is in the window."""
        frames = self.chunks.frames(chunk)
        visible = min(self.chunks.start(chunk + 1), self.recipe.generation.window)
        return transformer_flops(self.transformer, self.grid, frames, visible)

    def causal(self, frames: int) -> int:
        return self.forward(*self.chunks.sizes(frames))

    @property
    def gradient(self) -> int:
        """Operations with gradients over those of the forward pass."""
        return 4 if self.recipe.checkpointing else 3

    def activations(self, frames: int) -> int:
        """Bytes kept for the backward pass of so many latent frames."""
        config = self.transformer.config
        width = config.num_attention_heads * config.attention_head_dim
        tokens = frames * self.grid.tokens_per_frame
        layer = tokens * (_KEPT_OF_WIDTH * width + _KEPT_OF_FFN * config.ffn_dim)
        if not self.recipe.checkpointing:
            return config.num_layers * layer
        return config.num_layers * tokens * width * _LOWERED + layer


def _count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def plan(recipe: Recipe, *, processes: int = 1) -> Iterator[StagePlan]:
    """The stages of a recipe that run transformers, in order.

    Raises:
        ValueError: if there is no process.
    """
    if processes < 1:
        raise ValueError(f"a plan needs at least one process, got {processes}")
    model = _Model(recipe)
    text, size = _count(model.text), model.size

    def stage(
        name: str,
        phases: list[tuple[int, int, float]],
        *,
        frames: int,
        trained: int,
        frozen: int,
        averaged: int | None = None,
    ) -> StagePlan:
        """Phases are steps, clips of a process, and operations of its step; `frames` are those that
        carry gradients at once."""
        return StagePlan(
            name,
            processes,
            sum(steps for steps, _, _ in phases),
            processes * phases[-1][1],
            trained,
            trained if averaged is None else averaged,
            frozen,
            model.activations(frames) if frames else 0,
            round(processes * phases[-1][2]),
            round(processes * sum(steps * flops for steps, _, flops in phases)),
        )

    def flow(name: str, config: FlowConfig, *, causal: bool, words: bool) -> StagePlan:
        through = model.causal if causal else model.forward
        text_passes = 3 if words else 1
        phases = [
            (
                phase.steps,
                phase.batch,
                phase.batch
                * (model.gradient * through(phase.frames) + text_passes * model.text_flops),
            )
            for phase in config.phases
        ]
        frames = max(phase.batch * phase.frames for phase in config.phases)
        trained, frozen = (size + text, 0) if words else (size, text)
        return stage(name, phases, frames=frames, trained=trained, frozen=frozen)

    yield flow("teacher", recipe.teacher, causal=False, words=recipe.preset is None)
    yield flow("causal", recipe.causal, causal=True, words=False)
    made = recipe.trajectories
    sides = 1 if made.guidance == 1 else 2
    work = made.batch * sides * (made.steps * model.forward(made.frames) + model.text_flops)
    phases = [(made.count // made.batch, made.batch, work)]
    yield stage("trajectories", phases, frames=0, trained=0, frozen=size + text)
    ode = recipe.ode
    work = ode.batch * (model.gradient * model.causal(made.frames) + model.text_flops)
    frames = ode.batch * made.frames
    yield stage("ode", [(ode.steps, ode.batch, work)], frames=frames, trained=size, frozen=text)
    forcing, lessons = recipe.forcing, recipe.forcing.lessons
    phases = [(forcing.steps, lessons.batch, _lessons_flops(model, lessons))]
    frozen = text + (size if lessons.first_weight else 0)
    frames = _lessons_frames(recipe, lessons)
    yield stage("forcing", phases, frames=frames, trained=size, frozen=frozen)
    dmd = recipe.dmd
    work, frames, frozen = dmd.batch * _dmd_flops(model), dmd.batch * dmd.window, size + text
    if dmd.teacher_forcing_weight:
        work += _lessons_flops(model, dmd.lessons)
        frames = max(frames, _lessons_frames(recipe, dmd.lessons))
        frozen += size if dmd.lessons.first_weight else 0
    phases = [(dmd.steps, dmd.batch, work)]
    yield stage("dmd", phases, frames=frames, trained=2 * size, frozen=frozen, averaged=size)


def _beginnings(recipe: Recipe) -> list[int]:
    """Latent frames of the beginnings that fill no window."""
    chunks = recipe.generation.chunks
    return [chunks.start(end) for end in range(2, chunks.covering(recipe.generation.window))]


def _lessons_frames(recipe: Recipe, lessons: Lessons) -> int:
    first = lessons.first_batch * recipe.generation.chunks.first if lessons.first_weight else 0
    largest = max(_beginnings(recipe), default=0)
    return lessons.batch * (recipe.generation.window + largest) + first


def _lessons_flops(model: _Model, lessons: Lessons) -> float:
    generation, first = model.recipe.generation, model.chunks.first
    whole, part = divmod(generation.window, model.chunks.rest)
    sizes = (part,) * (part > 0) + (model.chunks.rest,) * whole
    work = lessons.batch * (model.gradient * model.forward(*sizes) + model.text_flops)
    if beginnings := _beginnings(model.recipe):
        mean = sum(map(model.causal, beginnings)) / len(beginnings)
        work += lessons.batch * (model.gradient * mean + model.text_flops)
    if lessons.first_weight:
        passes = model.gradient + len(generation.timesteps)
        work += lessons.first_batch * (passes * model.forward(first) + 2 * model.text_flops)
    return work


def _dmd_flops(model: _Model) -> float:
    """Operations for one video of a step: rollout, both opinions of it, the critic's lessons."""
    config, steps = model.recipe.dmd, len(model.recipe.generation.timesteps)
    work = 0.0
    for length in config.rollout_chunks:
        judged = model.chunks.start(length) - config.window
        for chunk in range(length):
            live = model.chunks.start(chunk) >= judged
            passes = (steps - 1) / 2 + (model.gradient if live else 1) + 1  # and the clean pass
            work += passes * model.cached(chunk) / len(config.rollout_chunks)
    work += (1 + model.gradient) * prompt_flops(model.transformer)
    opinions = 2 if config.guidance == 1 else 3
    judging = model.forward(config.window)
    if config.teacher == "causal":
        judging = model.causal(config.window)
    lessons = config.critic_updates * model.gradient
    return work + (opinions + lessons) * judging + 2 * model.text_flops


def print_plan(name: str, recipe: Recipe, *, processes: int, as_json: bool) -> None:
    """What there is to know before a cluster is rented: memory of a device, work of all."""
    stages = list(plan(recipe, processes=processes))
    if as_json:
        figures = [{**asdict(stage), "total_bytes": stage.total_bytes} for stage in stages]
        print(json.dumps({"recipe": name, "stages": figures}, indent=2))
        return
    header = ("stage", "steps", "clips a step", "models", "activations", "a step", "the stage")
    rows = [
        (
            stage.name,
            f"{stage.steps:,}",
            stage.clips,
            f"{stage.model_bytes / 2**30:.2f} GiB",
            f"{stage.activation_bytes / 2**30:.2f} GiB",
            f"{stage.step_flops / 1e12:,.3g} TFLOP",
            f"{stage.total_flops / 1e18:,.3g} EFLOP",
        )
        for stage in stages
    ]
    print(f"Training {name} on {processes} devices")
    print(tabulate(rows, header, colalign=("left", *["right"] * 6), disable_numparse=True))
    print(
        "Memory of each device; work of all together, a multiply-add counted as two. Found by "
        "formulas, without weights or memory."
    )
