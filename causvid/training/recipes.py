"""The recipes: settings of every stage for the pocket model and for Wan 2.1 1.3B, or from a file.

One table to read and to compare; nothing here runs anything or loads torch. `batch` counts the
clips of one process in one micro-batch: `python -m causvid train plan` says what that means in all.
A file states what it changes of another recipe, as `--show` of a stage prints it:

    {"recipe": "wan-1.3b", "generation": {"window": 12, "sink": 3}, "dmd": {"steps": 600}}
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from causvid.generation.config import GenerationConfig
from causvid.generation.geometry import ChunkPattern, Size
from causvid.training.changes import changed
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
    Lessons,
    OdeConfig,
    OptimiserConfig,
    Phase,
    SegmenterConfig,
    TrajectoryConfig,
    WorldConfig,
)


@dataclass(frozen=True)
class TransformerShape:
    """Constructor arguments of `CausalWanTransformer` that differ between sizes."""

    patch_size: tuple[int, int, int]
    num_attention_heads: int
    attention_head_dim: int
    in_channels: int
    out_channels: int
    text_dim: int
    freq_dim: int
    ffn_dim: int
    num_layers: int
    text_length: int
    position_features: int


@dataclass(frozen=True)
class Recipe:
    """Everything that distinguishes one model's training from another's.

    Args:
        generation: what the student will generate.
        preset: the preset whose base (teacher, codec, text encoder) training starts from, unless
            another folder or repository is given; `None` where they are trained, too.
        transformer: its shape where it is trained from nothing.
        codec, decoder: `None` where the base's codec is used.
        checkpointing: whether activations of the transformer's layers are computed again in the
            backward pass instead of being kept.
    """

    generation: GenerationConfig
    data: DataConfig
    teacher: FlowConfig
    causal: CausalConfig
    consistency: ConsistencyConfig
    trajectories: TrajectoryConfig
    ode: OdeConfig
    forcing: ForcingConfig
    dmd: DmdConfig
    preset: str | None = None
    transformer: TransformerShape | None = None
    codec: CodecConfig | None = None
    decoder: DecoderConfig | None = None
    checkpointing: bool = False

    @property
    def sizes(self) -> tuple[Size, ...]:
        """Of the pictures that are trained, the recipe's own first."""
        return (Size(self.generation.height, self.generation.width), *self.data.more_sizes)


def is_wide(recipe: Recipe) -> bool:
    """Whether its clips are of the wide world."""
    return recipe.data.world is not None and recipe.data.world.name == "wide"


def vocabulary(recipe: Recipe) -> tuple[str, ...]:
    """The words of a recipe whose text encoder is trained, too."""
    if is_wide(recipe):
        from causvid.world.wide import VOCABULARY as words
    else:
        from causvid.world import VOCABULARY as words
    return words


def aliases(recipe: Recipe) -> dict[str, tuple[str, ...]]:
    """Words of that vocabulary and others that are read as them."""
    if not is_wide(recipe):
        return {}
    from causvid.world.wide import ALIASES

    return ALIASES


POCKET = Recipe(
    # Three wide heads instead of six narrow ones: the same work in matrix products, half of it in
    # softmax, which is what attention spends its time on at this size.
    transformer=TransformerShape(
        patch_size=(1, 1, 1),
        num_attention_heads=3,
        attention_head_dim=64,
        in_channels=64,
        out_channels=64,
        text_dim=128,
        freq_dim=64,
        ffn_dim=768,
        num_layers=6,
        text_length=24,
        position_features=18,
    ),
    generation=GenerationConfig(
        timesteps=(1000.0, 750.0, 500.0, 250.0),
        shift=3.0,
        chunks=ChunkPattern(first=1, rest=3),
        window=7,
        sink=1,
        recache_past="last",
        height=128,
        width=224,
        fps=16,
    ),
    codec=CodecConfig(),
    decoder=DecoderConfig(
        OptimiserConfig(learning_rate=5e-4, warmup_steps=200, weight_decay=0.0, ema_decay=0.999)
    ),
    data=DataConfig(world=WorldConfig()),
    # The first shipped weights are those after 5,900 steps, when this list ended there.
    teacher=FlowConfig(
        phases=(Phase(1, 24, 2400), Phase(4, 8, 900), Phase(7, 6, 9000)),
        optimiser=OptimiserConfig(learning_rate=1e-3, decay_share=0.5, ema_decay=0.998, muon=True),
        flicker_weight=0.5,
    ),
    causal=CausalConfig(
        phases=(Phase(7, 6, 200),),
        optimiser=OptimiserConfig(learning_rate=5e-4, ema_decay=0.98),
        flicker_weight=0.5,
        past="noisy",
    ),
    consistency=ConsistencyConfig(
        optimiser=OptimiserConfig(learning_rate=3e-4, ema_decay=0.95), steps=600, batch=4
    ),
    trajectories=TrajectoryConfig(guidance=1.5),
    ode=OdeConfig(
        optimiser=OptimiserConfig(learning_rate=5e-4, ema_decay=0.98),
        steps=200,
        batch=6,
        first_given=True,
    ),
    forcing=ForcingConfig(
        optimiser=OptimiserConfig(
            learning_rate=7e-4, warmup_steps=10, decay_share=0.3, ema_decay=0.98, muon=True
        ),
        steps=1500,
    ),
    dmd=DmdConfig(
        student_optimiser=OptimiserConfig(
            learning_rate=1e-4, warmup_steps=10, betas=(0.0, 0.999), ema_decay=0.98
        ),
        critic_optimiser=OptimiserConfig(learning_rate=2e-4, warmup_steps=10, betas=(0.0, 0.999)),
        steps=300,
        batch=4,
        # Half of them end with the window, so that first pictures are judged, too.
        rollout_chunks=(3, 3, 3, 4, 5, 7),
        flicker_weight=0.5,
        teacher_forcing_weight=1.0,
        # Every fourth rollout goes on from a picture, which may show any moment of a scene.
        image_share=0.25,
        switch_share=0.35,
        # Guidance raises contrast: after teacher forcing, looks are 60 from rendered clips without
        # it and 173 with 1.3 (Fréchet distance), for the same motions.
        guidance=1.0,
    ),
)

# Steps are what 12 hours of two cores allow by measured seconds a step; the whole has not been run.
# The wide world in landscape, portrait and square. A token is 16x16 pixels as above, but of four
# latents of 8x8 (22 components of aligned frames, and their motion): photographs that stand or pan
# keep 29 dB, with 64 components of 16x16 they kept 27 and 24.
POCKET_2 = replace(
    POCKET,
    transformer=replace(
        cast(TransformerShape, POCKET.transformer),
        patch_size=(1, 2, 2),
        in_channels=24,
        out_channels=24,
        num_attention_heads=4,
        ffn_dim=768,
        num_layers=6,
        text_length=32,
    ),
    generation=replace(POCKET.generation, height=192, width=320),
    codec=CodecConfig(
        latent_channels=24,
        motion=True,
        patch_size=4,
        space_scales=(2,),
        time_scales=(4,),
        shortcut_rank=128,
        decoder_channels=(96, 32),
        decoder_blocks=(2,),
        latent_noise=0.1,
    ),
    # More weight on absolute gradients and changes costs 1 dB of photographs: it blurs texture.
    decoder=replace(
        cast(DecoderConfig, POCKET.decoder),
        steps=4000,
        pool=96,
        pool_steps=150,
        crop=(96, 96),
        latent_noise=0.25,
        square=200.0,
        gradient=1.5,
        change=1.0,
        border=8.0,
    ),
    data=replace(
        POCKET.data,
        clips=200,
        latents=10,
        world=WorldConfig(name="wide", late_share=0.4, turned_share=0.25),
        more_sizes=(Size(320, 192), Size(240, 240)),
    ),
    # Every batch is two halves: accumulated by one process, or one for each of two.
    teacher=replace(
        POCKET.teacher,
        phases=(Phase(1, 8, 8000), Phase(7, 2, 1500)),
        optimiser=replace(POCKET.teacher.optimiser, accumulation=2),
    ),
    causal=replace(
        POCKET.causal,
        phases=(Phase(7, 2, 2800),),
        optimiser=OptimiserConfig(
            learning_rate=7e-4, decay_share=0.5, ema_decay=0.995, muon=True, accumulation=2
        ),
        past="clean",
        past_noise=0.05,
        past_remakes=3,
    ),
    consistency=replace(
        POCKET.consistency,
        past_noise=0.1,
        optimiser=replace(POCKET.consistency.optimiser, accumulation=2),
        steps=600,
        batch=2,
    ),
    dmd=replace(POCKET.dmd, teacher_forcing_weight=0.0, image_share=0.4),
)

# Wan 2.1 1.3B at 480x832, clips of 81 pictures, for 64 processes: initialisation on trajectories
# as in CausVid (arXiv 2412.07772), distribution matching as in Self-Forcing (arXiv 2506.08009).
# Text encoder and codec stay as published.
_FINE_TUNING = OptimiserConfig(
    learning_rate=5e-6, decay_share=0.0, betas=(0.9, 0.999), clip_norm=10.0, ema_decay=0.99
)
_DISTILLATION = OptimiserConfig(
    learning_rate=2e-6,
    warmup_steps=1,
    decay_share=0.0,
    betas=(0.0, 0.999),
    clip_norm=10.0,
    ema_decay=0.99,
)

WAN_1_3B = Recipe(
    preset="self-forcing",
    generation=GenerationConfig(),
    data=DataConfig(clips=16, latents=21),
    # Not in the papers: the teacher fine-tuned on clips of one's own, before all else.
    teacher=FlowConfig(phases=(Phase(21, 1, 1000),), optimiser=_FINE_TUNING, shift=5.0),
    # Not in the papers: a way to a causal student from clips alone, if no trajectories are wanted.
    causal=CausalConfig(phases=(Phase(21, 1, 3000),), optimiser=_FINE_TUNING, shift=5.0),
    # Causal-Forcing++ (arXiv 2605.15141) in place of trajectories and regression on them.
    consistency=ConsistencyConfig(_FINE_TUNING, steps=2000, batch=1, guidance=6.0),
    # The paper takes 50 steps; of 48, every twelfth is a level of the student.
    trajectories=TrajectoryConfig(frames=21, steps=48, guidance=6.0, batch=1, count=16),
    ode=OdeConfig(optimiser=_FINE_TUNING, steps=3000, batch=1),
    # Not in the papers: for a window smaller than the clips.
    forcing=ForcingConfig(
        optimiser=_FINE_TUNING, steps=1000, lessons=Lessons(batch=1, first_weight=0.0)
    ),
    # 600 iterations there, of which every fifth also updates the student.
    dmd=DmdConfig(
        student_optimiser=_DISTILLATION,
        critic_optimiser=replace(_DISTILLATION, learning_rate=4e-7),
        steps=120,
        batch=1,
        window=21,
        rollout_chunks=(7,),
        critic_updates=5,
        guidance=4.0,  # 3 in the papers' form, conditional + 3 (conditional - unconditional)
        score_shift=5.0,
        image_share=0.0,
        switch_share=0.0,
    ),
    checkpointing=True,
)

RECIPES = {"pocket": POCKET, "pocket-2": POCKET_2, "wan-1.3b": WAN_1_3B}

JUDGE = JudgeConfig(OptimiserConfig(learning_rate=1e-3, warmup_steps=100, decay_share=0.5))
"""The judge of the pocket model's world, whatever model is judged."""

SEGMENTER = SegmenterConfig(OptimiserConfig(learning_rate=1.5e-3, warmup_steps=100))
"""The segmenter of the wide world."""

INSTRUMENTS: dict[str, Any] = {"judge": JUDGE, "segmenter": SEGMENTER}
"""Settings of the stages that train what evaluates, the same for every recipe."""


def load_recipe(name: str) -> Recipe:
    """A recipe by its name or from a file.

    Raises:
        ValueError: if there is none, or the file has settings that a recipe has not.
    """
    if name in RECIPES:
        return RECIPES[name]
    path = Path(name)
    if not path.is_file():
        raise ValueError(f"there is no recipe {name!r}: there are {', '.join(RECIPES)}, or a file")
    try:
        changes = json.loads(path.read_text(encoding="utf-8"))
        base = load_recipe(changes.pop("recipe"))
        return changed(base, changes)
    except (KeyError, AttributeError, TypeError) as error:
        raise ValueError(
            f'{path} is no recipe: expected an object with "recipe" (what it changes) and settings'
        ) from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
