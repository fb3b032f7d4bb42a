"""A run: one folder of stages, the recipe they follow, and what each is made from.

    RUN/vae                        the codec, where it is trained
    RUN/words.txt                  the words of its own videos' captions, if it has such
    RUN/latents, RUN/trajectories  shards of clips, and of the teacher's trajectories
    RUN/STAGE                      log, curves and checkpoints of a stage (`trainer`)

What the folder does not have comes from an exported folder (`start_from`) or from the recipe's
base, a text-to-video model in diffusers' layout.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from diffusers import AutoencoderKLWan
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase, UMT5EncoderModel

from causvid.generation.generator import Generator
from causvid.generation.geometry import LatentGrid
from causvid.model.text import PromptEncoder
from causvid.model.transformer import CausalWanTransformer
from causvid.presets.catalogue import PRESETS
from causvid.training.data import LatentCache, PromptFile
from causvid.training.footage import WORLDS, Footage, Videos
from causvid.training.models import (
    base_folder,
    exported_folder,
    load_text_encoder,
    load_transformer,
)
from causvid.training.precision import mixed_precision
from causvid.training.recipes import Recipe, TransformerShape, aliases, vocabulary
from causvid.training.sheet import Sheet
from causvid.training.teacher_model import Conditioning, embeddings_of
from causvid.training.trainer import LoopConfig, Stage, finished_average, latest_checkpoint, train
from causvid.world.tokenizer import word_tokenizer, words_of

logger = logging.getLogger(__name__)

_REMEMBERED = 1024  # prompts whose embeddings are kept; one of Wan's takes up to 8 MB

STUDENTS = {
    "ode": ("teacher",),
    "forcing": ("consistency", "ode", "causal"),
    "dmd": ("forcing", "consistency", "ode", "causal"),
    "export": ("dmd",),
}
"""Stage → the stages whose student it goes on with: the first of them that the run has."""


@dataclass(frozen=True)
class Run:
    """One folder, and how its stages are trained.

    Args:
        base: a folder or a Hub repository in place of the recipe's base.
        start_from: an exported model that stands in for stages which the run does not have.
        precision: `"no"`, `"bf16"`, or `"auto"` for what the device computes natively.
        name: the stage's folder in place of its own name.
        stop: a step before which a stage pauses.
        tracker: a tracker of Accelerate's that is sent what the log is.
        sheet: a file of prompts that are drawn at every checkpoint.
        seconds: of training, in place of the recipe's steps.
        compile: whether layers that see whole clips are compiled.
    """

    folder: Path
    recipe: Recipe
    base: str | None = None
    start_from: str | None = None
    seed: int = 0
    precision: str = "auto"
    checkpoint_seconds: float = 300.0
    name: str | None = None
    stop: int | None = None
    tracker: str | None = None
    sheet: Path | None = None
    seconds: float | None = None
    compile: bool = False

    @cached_property
    def accelerator(self) -> Accelerator:
        cpu = not torch.cuda.is_available()
        precision = self.precision
        if precision == "auto":
            precision = mixed_precision(torch.device("cpu" if cpu else "cuda"))
        if self.tracker is None:
            return Accelerator(cpu=cpu, mixed_precision=precision)
        if self.tracker not in map(str, get_available_trackers()):
            raise ValueError(f"--tracker {self.tracker} needs its package: pip install it first")
        return Accelerator(
            cpu=cpu,
            mixed_precision=precision,
            log_with=self.tracker,
            project_dir=self.folder,
        )

    @cached_property
    def base_folder(self) -> Path | None:
        """The base in diffusers' layout, downloaded if need be; `None` if all is trained here."""
        if self.recipe.preset is None:
            return None
        return base_folder(self.base, PRESETS[self.recipe.preset])

    @cached_property
    def start_folder(self) -> Path | None:
        return None if self.start_from is None else exported_folder(self.start_from)

    def train(
        self, name: str, stage: Stage, companions: dict[str, PreTrainedModel] | None = None
    ) -> Path:
        """Run `stage` to its end, or on from its newest checkpoint; returns its folder."""
        folder = self.folder / (self.name or name)
        loop = LoopConfig(
            folder,
            checkpoint_seconds=self.checkpoint_seconds,
            companions=companions or {},
            draw=None if self.sheet is None else self._drawing(name, self.sheet),
            seconds=self.seconds,
        )
        train(stage, loop, self.accelerator, stop=self.stop)
        return folder

    def _drawing(self, stage: str, prompts: Path) -> Callable[[Path, Path], None]:
        """What draws the sheet of a stage that trains a transformer."""
        rows = tuple(PromptFile(prompts).prompts)

        def draw(average: Path, out: Path) -> None:  # by then there is a transformer
            Sheet(
                prompts=rows,
                tokenizer=self.tokenizer,
                generation=self.recipe.generation,
                grid=self.grids[0],
                codec=self.codec_folder,
                text_encoder=self.base_folder,
                bidirectional=stage == "teacher",
            ).draw(average, out)

        return draw

    def shards(self, count: int) -> range:
        """The indices of this process's share of `count` shards."""
        return range(self.accelerator.process_index, count, self.accelerator.num_processes)

    # Models

    def has(self, stage: str) -> bool:
        return latest_checkpoint(self.folder / stage / "checkpoints") is not None

    def transformer_folder(self, stage: str) -> Path:
        """Where the transformer of a stage is, or of what stands in for it.

        Raises:
            ValueError: if there is neither.
        """
        if self.has(stage):
            return finished_average(self.folder / stage) / "transformer"
        if self.start_folder is not None and stage != "teacher":
            return self.start_folder / "transformer"
        if self.start_folder is not None and (self.start_folder / "teacher").is_dir():
            return self.start_folder / "teacher"
        if stage == "teacher" and self.base_folder is not None:
            return self.base_folder / "transformer"
        return finished_average(self.folder / stage)  # says what is missing

    def transformer(self, stage: str, *, trained: bool = True) -> CausalWanTransformer:
        """A transformer; one that is not trained has lowered weights if it is a published one."""
        folder = self.transformer_folder(stage)
        logger.info("%s: %s", "trained" if trained else "frozen", folder)
        if not trained:
            return load_transformer(folder, self.frozen_dtype).requires_grad_(False).eval()
        model = load_transformer(folder)
        if self.recipe.checkpointing:
            model.enable_gradient_checkpointing()
        return model

    def compiled(self, model: CausalWanTransformer) -> CausalWanTransformer:
        """The same model, its layers compiled where that is asked for."""
        if self.compile:
            # One graph for every picture size, and for every mask that a stage's lessons have.
            torch._dynamo.config.recompile_limit = 64
            model.compile_repeated_blocks()
        return model

    @property
    def frozen_dtype(self) -> torch.dtype:
        lowered = self.recipe.preset is not None and self.accelerator.mixed_precision == "bf16"
        return torch.bfloat16 if lowered else torch.float32

    def student_of(self, stage: str, student: str | None) -> str:
        """The stage whose student `stage` goes on with: `student`, or the first that there is."""
        options = STUDENTS[stage]
        return student or next(filter(self.has, options), options[0])

    @property
    def shape(self) -> TransformerShape:
        """Of a transformer that is trained from nothing."""
        if self.recipe.transformer is None:
            raise ValueError("a recipe without a base needs the shape of a transformer")
        return self.recipe.transformer

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Of the model that training starts from; else of the words of the run's own videos, or of
        the recipe's world."""
        given = self.base_folder or self.start_folder
        if given is not None:
            return AutoTokenizer.from_pretrained(given / "tokenizer")
        words, others = vocabulary(self.recipe), aliases(self.recipe)
        if self.words_file.exists():
            words, others = tuple(self.words_file.read_text(encoding="utf-8").split()), {}
        return word_tokenizer(words, self.shape.text_length, others)

    @property
    def words_file(self) -> Path:
        """The words of the captions that `train data --videos` has found."""
        return self.folder / "words.txt"

    def learn_words(self, captions: Iterable[str]) -> None:
        """Take the words of `captions` for the text encoder that is trained in this run.

        Raises:
            ValueError: if a teacher has been trained with others.
        """
        if self.base_folder is not None or self.start_folder is not None:
            return
        words = sorted({word for caption in captions for word in words_of(caption)})
        text = "\n".join(words) + "\n"
        known = self.words_file.read_text(encoding="utf-8") if self.words_file.exists() else None
        if self.has("teacher") and text != known:
            raise ValueError(
                f"the teacher in {self.folder} reads other words than these captions have: take "
                "another --run, or the captions that it was trained with"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        self.words_file.write_text(text, encoding="utf-8")

    def text_encoder(self, stage: str = "teacher") -> UMT5EncoderModel:
        """The text encoder that a stage's weights were trained with."""
        folder = self.transformer_folder(stage).parent
        if not (folder / "text_encoder").is_dir():
            folder = self.base_folder or self.transformer_folder("teacher").parent
        return load_text_encoder(folder, self.frozen_dtype).requires_grad_(False).eval()

    def prompts(self, encoder: UMT5EncoderModel, length: int) -> Conditioning:
        """Conditioning on the frozen `encoder`, where this process computes."""
        encoder.to(self.accelerator.device)
        return embeddings_of(PromptEncoder(self.tokenizer, encoder, length, remembered=_REMEMBERED))

    def companions(self, encoder: UMT5EncoderModel) -> dict[str, PreTrainedModel]:
        """What is saved beside a student: its text encoder, unless that is the base's."""
        return {} if self.base_folder is not None else {"text_encoder": encoder}

    # Codec and data

    def footage(self, videos: Path | None) -> Footage:
        """The clips of a folder, or of the recipe's world.

        Raises:
            ValueError: if there is neither.
        """
        if videos is not None:
            return Videos(videos, self.recipe.generation.fps)
        if self.recipe.data.world is None:
            raise ValueError("this recipe renders no clips: pass a folder of them with --videos")
        return WORLDS[self.recipe.data.world.name]

    @property
    def codec_folder(self) -> Path:
        """
        Raises:
            ValueError: if there is no codec.
        """
        own = [self.folder / "vae"]
        own += [self.start_folder / "vae"] if self.start_folder is not None else []
        own += [self.base_folder / "vae"] if self.base_folder is not None else []
        for folder in own:
            if folder.exists():
                return folder
        raise ValueError(f"no codec in {own[0]}: run `python -m causvid train codec` first")

    @cached_property
    def grids(self) -> list[LatentGrid]:
        """Of every size that is trained, the recipe's own first."""
        stride = 8
        if self.recipe.codec is not None:
            stride = self.recipe.codec.spatial_stride
        elif self.base_folder is not None:
            vae = AutoencoderKLWan.load_config(self.base_folder / "vae")
            stride = vae.get("scale_factor_spatial", stride)  # published folders do not say
        patch = CausalWanTransformer.load_config(self.transformer_folder("teacher"))["patch_size"]
        return [
            LatentGrid(size.height, size.width, spatial_stride=stride, patch=patch[1])
            for size in self.recipe.sizes
        ]

    def generator(self, student: CausalWanTransformer) -> Generator:
        """
        Raises:
            ValueError: if the student is to generate in an order that rollouts have not.
        """
        if self.recipe.generation.sampler != "chunk":
            raise ValueError(
                f"a student is trained to generate chunk after chunk (sampler 'chunk'), the recipe "
                f"asks for {self.recipe.generation.sampler!r}"
            )
        return Generator(student, self.recipe.generation, self.grids[0])

    def cache(self, kind: str = "latents") -> LatentCache:
        cache = LatentCache(self.folder / kind, device=self.accelerator.device)
        cache.open()
        return cache

    def captions(self, prompts: Path | None) -> LatentCache | PromptFile:
        """The lines of a file, or what is said of the clips."""
        return self.cache() if prompts is None else PromptFile(prompts)
