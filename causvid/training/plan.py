"""What every stage of a recipe costs, found on the `meta` device: no weights, no memory, no data.

`python -m causvid train plan` builds all models of each stage without storage and runs its step,
forwards and backwards, through the recipe's own rollout, masks and losses. Parameters are counted;
operations (a multiply-add as two) and the bytes of live activations are observed. Layers are equal,
so runs with one layer and with two tell what any number of them costs.

Assumed, as on a GPU: bfloat16 arithmetic over float32 weights and a fused attention kernel; frozen
models in bfloat16, whole on every device; trained ones sharded over all devices, with gradients,
optimiser and average (FSDP). Not known here: speed, the codec, how well an allocator packs.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.fx.experimental import _config as fx_config
from torch.utils.flop_counter import flop_registry
from transformers import UMT5EncoderModel

from causvid.generation.generator import Generator
from causvid.generation.geometry import LatentGrid
from causvid.model.attention import CausalAttnProcessor, block_causal_mask
from causvid.model.transformer import CausalWanTransformer
from causvid.presets.catalogue import SELF_FORCING
from causvid.presets.costs import LiveBytes, empty_models
from causvid.table import Table
from causvid.training.data import Batch
from causvid.training.dmd import DmdStage
from causvid.training.forcing import Lessons, Told, Velocity
from causvid.training.losses import flow_matching_loss, per_frame
from causvid.training.prompted import PromptedTransformer, integrate, parameter_count
from causvid.training.recipes import Recipe
from causvid.training.rollout import RolloutPlan, roll_out
from causvid.training.stage import seeded
from causvid.world.tokenizer import tiny_text_encoder

META = torch.device("meta")
COMPUTE = torch.bfloat16
_MASTER = torch.float32.itemsize  # of a weight, gradient or average; Adam keeps two more numbers
_LOWERED = COMPUTE.itemsize
_VOCABULARY = 150  # words of the pocket model's world, near enough


@dataclass(frozen=True)
class ModelCost:
    """One model of a stage; the average is of its weights."""

    name: str
    parameters: int
    trained: bool = False
    averaged: bool = False


@dataclass(frozen=True)
class StepCost:
    """What one process does for its clips of one step.

    Attributes:
        flops: operations.
        activation_bytes: most bytes alive at once besides weights and their gradients.
    """

    flops: float
    activation_bytes: float


@dataclass(frozen=True)
class StagePlan:
    """One stage on `processes` devices.

    Attributes:
        clips: seen in a step by all processes together.
        weights_bytes, gradient_bytes, optimiser_bytes, average_bytes: of what is trained, on every
            device.
        frozen_bytes: of what is not.
        gathered_bytes: lowered copies of the layers at work, and their gradients; of all layers
            on a single device.
        activation_bytes: at the peak, as the recipe has it; `alternative_bytes` with checkpointing
            where it has none, and without where it has.
        step_flops, total_flops: of all processes, for one step and for the stage.
    """

    name: str
    models: tuple[ModelCost, ...]
    processes: int
    checkpointing: bool
    steps: int
    clips: int
    weights_bytes: int
    gradient_bytes: int
    optimiser_bytes: int
    average_bytes: int
    frozen_bytes: int
    gathered_bytes: int
    activation_bytes: int
    alternative_bytes: int
    step_flops: int
    total_flops: int

    @property
    def total_bytes(self) -> int:
        return (
            self.weights_bytes
            + self.gradient_bytes
            + self.optimiser_bytes
            + self.average_bytes
            + self.frozen_bytes
            + self.gathered_bytes
            + self.activation_bytes
        )


class _Part(NamedTuple):
    """Something that a step does `times` times, on average."""

    times: float
    run: Callable[[], None]


class _Models(NamedTuple):
    """What the parts of a step are run with."""

    new_transformer: Callable[[], CausalWanTransformer]
    text_encoder: UMT5EncoderModel


_Program = Callable[[_Models], list[_Part]]
"""The parts of a step, given models."""


def plan(recipe: Recipe, *, processes: int = 1) -> Iterator[StagePlan]:
    """The stages that run the transformer, in order; those that a recipe leaves out are left out.

    Raises:
        ValueError: if there is no process.
    """
    if processes < 1:
        raise ValueError(f"a plan needs at least one process, got {processes}")
    transformer = _transformer(recipe, recipe.transformer.num_layers)
    text = _text_encoder(recipe)
    block = parameter_count(transformer.blocks[0])
    size, text_size = parameter_count(transformer), parameter_count(text)
    frozen_text = ModelCost("text encoder", text_size)
    student = ModelCost("student", size, trained=True, averaged=True)

    def stage(name: str, models: tuple[ModelCost, ...], *phases: tuple[int, int, _Program]):
        """`phases`: steps, clips of one process in a step, and what it does with them."""
        trained = [model for model in models if model.trained]
        sharded = _MASTER * sum(model.parameters for model in trained) // processes
        at_work = size if processes == 1 else size - (len(transformer.blocks) - 3) * block
        costs = [
            {kept: _cost(recipe, program, text, checkpointing=not kept) for kept in (True, False)}
            for _, _, program in phases
        ]
        chosen = not recipe.checkpointing
        step_flops = [processes * cost[chosen].flops for cost in costs]
        return StagePlan(
            name=name,
            models=models,
            processes=processes,
            checkpointing=recipe.checkpointing,
            steps=sum(steps for steps, _, _ in phases),
            clips=processes * phases[-1][1],
            weights_bytes=sharded,
            gradient_bytes=sharded,
            optimiser_bytes=2 * sharded,
            average_bytes=_MASTER * sum(m.parameters for m in trained if m.averaged) // processes,
            frozen_bytes=_LOWERED * sum(m.parameters for m in models if not m.trained),
            gathered_bytes=_LOWERED * at_work if trained else 0,
            activation_bytes=round(max(cost[chosen].activation_bytes for cost in costs)),
            alternative_bytes=round(max(cost[not chosen].activation_bytes for cost in costs)),
            step_flops=round(step_flops[-1]),
            total_flops=round(
                sum(steps * flops for (steps, _, _), flops in zip(phases, step_flops, strict=True))
            ),
        )

    if recipe.teacher is not None:
        yield stage(
            "teacher",
            (
                ModelCost("transformer", size, trained=True, averaged=True),
                replace(frozen_text, trained=True, averaged=True),
            ),
            *(
                (phase.steps, phase.batch, _flow(recipe, phase.frames, phase.batch, words=True))
                for phase in recipe.teacher.phases
            ),
        )
    yield stage(
        "causal",
        (student, frozen_text),
        *(
            (phase.steps, phase.batch, _flow(recipe, phase.frames, phase.batch, causal=True))
            for phase in recipe.causal.phases
        ),
    )
    made = recipe.trajectories
    yield stage(
        "trajectories",
        (ModelCost("teacher", size), frozen_text),
        (made.count // made.batch, made.batch, _trajectories(recipe)),
    )
    ode = recipe.ode
    yield stage(
        "ode",
        (student, frozen_text),
        (ode.steps, ode.batch, _flow(recipe, made.frames, ode.batch, causal=True)),
    )
    if recipe.forcing is not None:
        forcing = recipe.forcing
        lessons = forcing.lessons
        yield stage(
            "forcing",
            (student, *_kept(lessons, size), frozen_text),
            (forcing.steps, lessons.batch, _forcing(recipe, lessons)),
        )
    yield stage(
        "dmd",
        (
            student,
            ModelCost("critic", size, trained=True),
            ModelCost("teacher", size),
            *(_kept(recipe.dmd.lessons, size) if recipe.dmd.teacher_forcing_weight else ()),
            frozen_text,
        ),
        (recipe.dmd.steps, recipe.dmd.batch, _dmd(recipe)),
    )


def plan_table(size: str, stages: Sequence[StagePlan]) -> Table:
    """What there is to know before a cluster is rented: memory of a device, work of all."""
    header = ("stage", "steps", "clips a step", "weights and optimiser", "activations", "in all")
    rows = tuple(
        (
            stage.name,
            f"{stage.steps:,}",
            str(stage.clips),
            _gibibytes(stage.total_bytes - stage.activation_bytes),
            _gibibytes(stage.activation_bytes),
            _gibibytes(stage.total_bytes),
            _gibibytes(stage.total_bytes - stage.activation_bytes + stage.alternative_bytes),
            f"{stage.step_flops / 1e12:,.3g} TFLOP",
            f"{stage.total_flops / 1e18:,.3g} EFLOP",
        )
        for stage in stages
    )
    first = stages[0]
    other = "without checkpointing" if first.checkpointing else "with checkpointing"
    note = (
        "Memory of each device, as bfloat16 arithmetic over float32 weights needs it; work of a "
        "step and of the stage, all devices together, a multiply-add counted as two."
    )
    title = f"Training {size} on {first.processes} devices, found without weights or memory"
    return Table(title, (*header, other, "a step", "the stage"), rows, note)


def _gibibytes(count: int) -> str:
    return f"{count / 2**30:.2f} GiB"


def _transformer(recipe: Recipe, layers: int) -> CausalWanTransformer:
    with META:
        model = CausalWanTransformer(**asdict(replace(recipe.transformer, num_layers=layers)))
    model.set_attn_processor(_FusedAttention())
    return nn.Module.to(model, COMPUTE)


def _text_encoder(recipe: Recipe) -> UMT5EncoderModel:
    with META:
        if recipe.published is None:
            encoder = tiny_text_encoder(_VOCABULARY, width=recipe.transformer.text_dim)
        else:  # every Wan 2.1 model's
            encoder = UMT5EncoderModel(empty_models(SELF_FORCING).text_encoder.config)
    return nn.Module.to(encoder, COMPUTE)


def _cost(
    recipe: Recipe, program: _Program, text: UMT5EncoderModel, *, checkpointing: bool
) -> StepCost:
    def with_layers(layers: int) -> StepCost:
        def new() -> CausalWanTransformer:
            model = _transformer(recipe, layers)
            if checkpointing:
                model.enable_gradient_checkpointing()
            return model

        observed = [(part.times, _observe(part.run)) for part in program(_Models(new, text))]
        return StepCost(
            sum(times * cost.flops for times, cost in observed),
            max(cost.activation_bytes for _, cost in observed),
        )

    one, two, more = with_layers(1), with_layers(2), recipe.transformer.num_layers - 1
    return StepCost(
        one.flops + more * (two.flops - one.flops),
        one.activation_bytes + more * (two.activation_bytes - one.activation_bytes),
    )


def _observe(run: Callable[[], None]) -> StepCost:
    # What a mask selects is not known without data: everything, as the most that it can be.
    everything = fx_config.patch(meta_nonzero_assume_all_nonzero=True)
    with everything, _Observer([]) as observer:
        run()
    return StepCost(observer.flops, observer.peak)


class _Observer(LiveBytes):
    """Counts operations as well.

    torch's own counter would do, but for its module tracker, which keeps what checkpointing drops.
    """

    def __init__(self, held: Iterable[Tensor]) -> None:
        super().__init__(held)
        self.flops = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        result = super().__torch_dispatch__(func, types, args, kwargs)
        formula = flop_registry.get(func.overloadpacket)
        if formula is not None:
            self.flops += formula(*args, **(kwargs or {}), out_val=result)
        return result


class _FusedAttention(CausalAttnProcessor):
    """Calls the fused kernel, which `meta` would not choose and which never holds all scores."""

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, parallel: Any) -> Tensor:
        heads_first = (tensor.transpose(1, 2) for tensor in (query, keys, values))
        mixed = torch.ops.aten._scaled_dot_product_flash_attention(*heads_first)[0]
        return mixed.transpose(1, 2)


def _backward(loss: Tensor, *models: nn.Module) -> None:
    """Gradients of weights are counted apart, so they are dropped as they come."""
    hooks = [
        parameter.register_post_accumulate_grad_hook(_drop)
        for model in models
        for parameter in model.parameters()
        if parameter.requires_grad
    ]
    loss.backward()
    for hook in hooks:
        hook.remove()


def _drop(parameter: nn.Parameter) -> None:
    parameter.grad = None


def _latents(recipe: Recipe, batch: int, frames: int) -> Tensor:
    grid = _grid(recipe)
    return torch.empty(
        (batch, frames, recipe.transformer.in_channels, grid.latent_height, grid.latent_width),
        device=META,
    )


def _grid(recipe: Recipe) -> LatentGrid:
    config = recipe.generator
    codec = recipe.codec
    stride = 8 if codec is None else codec.patch_size * math.prod(codec.space_scales)
    return LatentGrid(
        config.height,
        config.width,
        spatial_stride=stride,
        patch=recipe.transformer.patch_size[1],
    )


def _embed(recipe: Recipe, encoder: UMT5EncoderModel, batch: int) -> Tensor:
    length = recipe.transformer.text_length
    ids = torch.zeros(batch, length, dtype=torch.long, device=META)
    # One mask value for every pair of words: a shorter one would be looked at, and has no values.
    mask = torch.zeros(batch, 1, length, length, dtype=COMPUTE, device=META)
    return encoder(input_ids=ids, attention_mask=mask).last_hidden_state


def _embeds(recipe: Recipe, batch: int) -> Tensor:
    shape = (batch, recipe.transformer.text_length, recipe.transformer.text_dim)
    return torch.empty(shape, dtype=COMPUTE, device=META)


def _flow(
    recipe: Recipe, frames: int, batch: int, *, causal: bool = False, words: bool = False
) -> _Program:
    """Flow matching and regression on trajectories, which differ in the target alone."""

    def program(models: _Models) -> list[_Part]:
        transformer, encoder = models.new_transformer(), models.text_encoder
        mask = None
        if causal:
            mask = block_causal_mask(recipe.generator.chunks.sizes(frames))

        def run() -> None:
            clean = _latents(recipe, batch, frames)
            noise, times = torch.randn_like(clean), torch.rand(batch, frames, device=META)
            noisy = torch.lerp(clean, noise, per_frame(times))
            with torch.set_grad_enabled(words):
                text = _embed(recipe, encoder, batch)
            velocity = transformer(noisy, times, text, frame_mask=mask)
            _backward(flow_matching_loss(velocity, clean, noise), transformer, encoder)

        return [_Part(1, run)]

    return program


class _Clips:
    """Stands in for a `LatentCache`: clips of any length, without words or values."""

    def __init__(self, recipe: Recipe):
        self.recipe = recipe

    def batch(self, key: tuple[int, ...], *, frames: int, size: int, **where: Any) -> Batch:
        return Batch(_latents(self.recipe, size, frames), [""] * size, torch.zeros(size))


def _forcing(recipe: Recipe, lessons: Lessons) -> _Program:
    def program(models: _Models) -> list[_Part]:
        student = models.new_transformer()
        before = models.new_transformer() if lessons.first_weight else None

        def told(transformer: CausalWanTransformer) -> Told:
            def by(captions: list[str]) -> Velocity:
                with torch.no_grad():
                    text = _embed(recipe, models.text_encoder, len(captions))
                return lambda noisy, times, mask: transformer(noisy, times, text, frame_mask=mask)

            return by

        def run() -> None:
            clips, generation = _Clips(recipe), recipe.generator
            voices = told(student), told(before)
            _backward(lessons.loss(*voices, clips, (0,), generation, seeded(0), META), student)

        return [_Part(1, run)]

    return program


def _kept(lessons: Lessons, parameters: int) -> list[ModelCost]:
    """The student before, if its first chunks are kept."""
    return [ModelCost("student before", parameters)] if lessons.first_weight else []


def _trajectories(recipe: Recipe) -> _Program:
    config = recipe.trajectories
    guided = 1 if config.guidance == 1 else 2

    def program(models: _Models) -> list[_Part]:
        transformer = models.new_transformer()

        @torch.no_grad()
        def words() -> None:
            transformer.encode_text(_embed(recipe, models.text_encoder, guided * config.batch))

        with torch.no_grad():
            text = transformer.encode_text(_embeds(recipe, guided * config.batch))

        def step() -> None:
            noise = _latents(recipe, config.batch, config.frames)
            levels = torch.tensor([1.0, 0.5])
            for _ in integrate(transformer, noise, text, levels, guidance=config.guidance):
                pass

        return [_Part(1, words), _Part(config.steps, step)]

    return program


def _dmd(recipe: Recipe) -> _Program:
    config = recipe.dmd
    chunks = recipe.generator.chunks

    def program(models: _Models) -> list[_Part]:
        stage = DmdStage(
            Generator(models.new_transformer(), recipe.generator, _grid(recipe)),
            PromptedTransformer(models.new_transformer(), models.text_encoder),
            models.new_transformer(),
            tokenizer=None,  # neither words nor clips are drawn here
            data=None,
            config=replace(config, teacher_forcing_weight=0.0),  # it is counted by itself
        )
        stage.accelerator = SimpleNamespace(device=META, mixed_precision="no", autocast=nullcontext)

        def learn(length: int, exit_step: int) -> None:
            with torch.no_grad():
                text, empty = (_embed(recipe, models.text_encoder, config.batch) for _ in range(2))
            first_judged = chunks.start(length) - config.window
            live = sum(chunks.start(chunk) >= first_judged for chunk in range(length))
            made = roll_out(
                stage.generator,
                text,
                RolloutPlan(length, live, exit_step),
                lambda chunk, step, shape: torch.empty(shape, device=META),
            )
            loss, _ = stage.student_loss(made[:, first_judged:], text, empty, seeded(0))
            _backward(loss, stage.student)

        def criticise() -> None:
            made = _latents(recipe, config.batch, config.window)
            text = _embeds(recipe, config.batch)
            _backward(stage.critic_loss(made, text, seeded(0)), stage.critic)

        # Work grows evenly with the exit step, so the first and the last tell the mean.
        ends = (0, len(recipe.generator.timesteps) - 1)
        share = 1 / (2 * len(config.rollout_chunks))
        lengths = Counter(config.rollout_chunks)
        forced = []
        if config.teacher_forcing_weight:
            forced = _forcing(recipe, config.lessons)(models)
        return [
            *(
                _Part(share * count, lambda length=length, end=end: learn(length, end))
                for length, count in lengths.items()
                for end in ends
            ),
            _Part(config.critic_updates, criticise),
            *forced,
        ]

    return program
