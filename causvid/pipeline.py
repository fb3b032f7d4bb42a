"""`CausVidPipeline`: the causal generator as an ordinary diffusers pipeline.

`from_pretrained`, `save_pretrained`, offloading, LoRA and progress bars are diffusers'. Load a
folder by this class or by `causvid.load`: `DiffusionPipeline` finds diffusers' own classes only.
`pipe.stream(prompt, …)` opens a `Stream`; `pipe(prompt, …).frames` is a fold over it.
"""

import dataclasses
import difflib
import inspect
import math
from collections.abc import Iterable, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL.Image
import torch
from diffusers import AutoencoderKLWan, DiffusionPipeline
from diffusers.utils import BaseOutput
from torch import Tensor
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

import causvid.autoencoder_tiny  # diffusers loads components from imported modules only, and
import causvid.transformer  # noqa: F401  pipelines saved by version 0.1 name these
from causvid.generation.config import GenerationConfig
from causvid.generation.generator import Generator
from causvid.generation.geometry import LatentGrid
from causvid.generation.live import LiveFeed, LiveSource
from causvid.generation.parameters import DEFAULT_SECONDS, Decoder, check_decoder, check_seed
from causvid.generation.prompts import PromptSchedule
from causvid.generation.snapshot import unpack
from causvid.generation.source import VideoSource
from causvid.generation.stream import Stream
from causvid.media import fit, read_image
from causvid.model.codec import VideoCodec, codec_for
from causvid.model.cpu import use_onednn
from causvid.model.lora import LoraLoader
from causvid.model.text import PromptEncoder
from causvid.model.tiny_autoencoder import TinyAutoencoder
from causvid.model.transformer import CausalWanTransformer
from causvid.model.weight_files import write_checksums

_ELSEWHERE = {  # habits from other pipelines → what to do here
    "num_frames": "use seconds, frames divided by pipe.generation.fps",
    "num_inference_steps": "use steps",
    "generator": "use seed, a whole number: noise depends on nothing else",
    "guidance_scale": "leave it out, as guidance was distilled into the weights",
    "negative_prompt": "leave it out, as guidance was distilled into the weights",
    "num_videos_per_prompt": "call once for every seed",
    "num_images_per_prompt": "call once for every seed",
    "frames": "use seconds, frames divided by pipe.generation.fps",
    "fps": "leave it out: a model has a rate, pipe.generation.fps",
    "latents": "use seed: noise depends on nothing else",
    "callback": "iterate over stream(), which gives every chunk as it is made",
    "callback_on_step_end": "iterate over stream(), which gives every chunk as it is made",
}

ImageInput = str | Path | bytes | PIL.Image.Image | np.ndarray
Recorded = str | Path | bytes | Iterable[PIL.Image.Image | np.ndarray]
VideoInput = Recorded | LiveFeed


@dataclass
class CausVidPipelineOutput(BaseOutput):
    """A video, in a batch of one as `output_type` says, and the prompts that held."""

    frames: Any
    schedule: PromptSchedule


class CausVidPipeline(DiffusionPipeline, LoraLoader):
    """Text-, image- and video-to-video with a causal few-step transformer, streaming.

    Args:
        tokenizer, text_encoder: UMT5 and its fast tokenizer.
        transformer: the causal transformer.
        vae: the codec's weights, `AutoencoderKLWan` or `TinyAutoencoder`.
        tiny_vae: a small autoencoder of the same latent space, the fast option for decoding.
        generation: what is generated, a `GenerationConfig` or its dict; saved with the pipeline.
    """

    model_cpu_offload_seq = "text_encoder->transformer->vae"
    _optional_components = ["tiny_vae"]  # noqa: RUF012 (diffusers' interface)

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        text_encoder: UMT5EncoderModel,
        transformer: CausalWanTransformer,
        vae: AutoencoderKLWan | TinyAutoencoder,
        tiny_vae: TinyAutoencoder | None = None,
        generation: GenerationConfig | dict[str, Any] | None = None,
    ):
        super().__init__()
        self.register_modules(
            tokenizer=tokenizer,
            text_encoder=text_encoder,
            transformer=transformer,
            vae=vae,
            tiny_vae=tiny_vae,
        )
        if not isinstance(generation, GenerationConfig):
            generation = GenerationConfig.from_dict(generation or {})
        self.register_to_config(generation=generation.to_dict())
        use_onednn(transformer)
        self._encoder: PromptEncoder | None = None

    @property
    def generation(self) -> GenerationConfig:
        """What is generated unless a call says otherwise."""
        return GenerationConfig.from_dict(self.config.generation)

    @property
    def prompt_encoder(self) -> PromptEncoder:
        """Prompts to embeddings, with a memo of recent prompts shared by all streams."""
        if self._encoder is None or self._encoder.text_encoder is not self.text_encoder:
            self._encoder = PromptEncoder(
                self.tokenizer, self.text_encoder, self.transformer.config.text_length
            )
        return self._encoder

    def codec(self, decoder: Decoder = "full") -> VideoCodec:
        """The codec over the full or the tiny autoencoder.

        Raises:
            ValueError: if there is no tiny one.
        """
        check_decoder(decoder, has_tiny=self.tiny_vae is not None)
        return codec_for(self.tiny_vae if decoder == "tiny" else self.vae)

    def generator(self, **changes: Any) -> Generator:
        """The shared generator, with some settings changed as in `make_generator`."""
        return make_generator(self.transformer, self.codec(), self.generation, **changes)

    def stream(
        self,
        prompt: str | PromptSchedule,
        *,
        image: ImageInput | None = None,
        video: VideoInput | None = None,
        seconds: float | None = None,
        seed: int = 0,
        height: int | None = None,
        width: int | None = None,
        strength: float = 0.7,
        adaptive_strength: bool = False,
        steps: int | None = None,
        window: int | None = None,
        sink: int | None = None,
        decoder: Decoder = "full",
        **foreign: Any,
    ) -> Stream:
        """Open a stream: an iterator of `FrameChunk`, to be closed after use.

        Args:
            prompt: what to show, or a schedule of prompts.
            image: image-to-video: a file, its bytes, or a picture; cropped to the video's shape.
            video: video-to-video: a file, pictures at the model's rate, or a `LiveFeed` of pictures
                that come meanwhile; cropped likewise.
            seconds: length, rounded up to whole chunks; `math.inf` for no end. By default 5, or
                the whole source of video-to-video, which ends its stream in any case.
            seed: of the noise, 0 … 2**63 - 1.
            height, width: pixels; the trained size by default.
            strength: video-to-video: how far to leave the source, in (0, 1].
            adaptive_strength: video-to-video: less of it where the source moves fast.
            steps: denoising steps per chunk.
            window, sink: latent frames that a chunk can see, and those of them that stay for ever.
            decoder: `"full"`, or the faster `"tiny"` where the model has one.
            foreign: nothing; arguments of other pipelines are answered with what to use.

        Raises:
            ValueError: says what came, what was expected and what to do.
            TypeError: for an argument that there is not; says which one to use instead.
        """
        if foreign:
            raise TypeError(_unknown_argument("stream", next(iter(foreign)), self._arguments()))
        if not isinstance(prompt, str | PromptSchedule):
            raise ValueError(
                f"got a {type(prompt).__name__} as the prompt; expected a text, or for several "
                f"over time a PromptSchedule (a call makes one video)"
            )
        seed = check_seed(seed)
        if image is not None and video is not None:
            raise ValueError("a stream starts from an image or from a video: pass only one")
        generator = self.generator(
            height=height, width=width, steps=steps, window=window, sink=sink
        )
        schedule = prompt if isinstance(prompt, PromptSchedule) else PromptSchedule.constant(prompt)
        if seconds is None:
            seconds = DEFAULT_SECONDS if video is None else math.inf
        chunk_count = None if seconds == math.inf else generator.timeline.chunk_count(seconds)
        schedule.snapped(generator.timeline, chunk_count)  # refuses cues after the end
        size = (generator.grid.height, generator.grid.width)
        source = None
        if video is not None:
            source = _source(video, generator, strength=strength, adaptive=adaptive_strength)
        return Stream(
            generator,
            self.codec(decoder),
            self._encode_prompts,
            schedule,
            seed=seed,
            chunk_count=chunk_count,
            image=None if image is None else fit(read_image(image, to_fit=size), *size),
            source=source,
        )

    def resume(
        self,
        snapshot: bytes | str | Path,
        *,
        video: VideoInput | None = None,
        decoder: Decoder = "full",
    ) -> Stream:
        """Go on from `Stream.snapshot()`.

        Args:
            snapshot: the snapshot, or a file that holds it.
            video: the source of a video-to-video stream, from its beginning unless it is live.

        Raises:
            ValueError: if it is no snapshot of this model.
        """
        data = snapshot if isinstance(snapshot, bytes) else Path(snapshot).read_bytes()
        settings, _ = unpack(data)
        generator = self.generator(height=settings.height, width=settings.width)
        generator = dataclasses.replace(generator, config=settings.generation)
        source = None if video is None else _source(video, generator)
        return Stream.resume(
            data, generator, self.codec(decoder), self._encode_prompts, source=source
        )

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | PromptSchedule,
        *,
        output_type: Literal["np", "pil", "pt", "uint8"] = "np",
        **options: Any,
    ) -> CausVidPipelineOutput:
        """Make a whole video: the chunks of `stream(prompt, **options)`, joined.

        Args:
            output_type: `"np"` float32 `[1, t, h, w, 3]` in [0, 1]; `"pt"` a tensor
                `[1, t, 3, h, w]` in [0, 1]; `"pil"` a list with one list of pictures;
                `"uint8"` `[1, t, h, w, 3]`.

        Raises:
            ValueError: as `stream`; also for a video without end.
            TypeError: for an argument that there is not; says which one to use instead.
        """
        known = ["output_type", *self._arguments()]
        if unknown := [name for name in options if name not in known]:
            raise TypeError(_unknown_argument("__call__", unknown[0], known))
        if options.get("seconds") == math.inf and options.get("video") is None:
            raise ValueError("a video without end cannot be returned whole: use stream()")
        if output_type not in ("np", "pil", "pt", "uint8"):
            raise ValueError(f"output_type is np, pil, pt or uint8, got {output_type!r}")
        with self.stream(prompt, **options) as stream:
            parts = []
            # infinity is tqdm's word for a number that is not known
            with self.progress_bar(total=stream.chunk_count or math.inf) as bar:
                for chunk in stream:
                    parts.append(chunk.frames)
                    bar.update()
            schedule = stream.schedule
        if not parts:
            raise ValueError("the source video has no pictures")
        frames: Any = np.concatenate(parts)[None]
        if output_type == "np":
            frames = frames.astype(np.float32) / 255
        elif output_type == "pt":
            frames = torch.from_numpy(frames).permute(0, 1, 4, 2, 3).float() / 255
        elif output_type == "pil":
            frames = [[PIL.Image.fromarray(frame) for frame in frames[0]]]
        return CausVidPipelineOutput(frames=frames, schedule=schedule)

    def save_pretrained(self, save_directory: str | Path, *args: Any, **options: Any) -> None:
        """diffusers' own, and checksums of what was written, which `causvid.load` verifies."""
        super().save_pretrained(save_directory, *args, **options)
        write_checksums(Path(save_directory))

    def _arguments(self) -> list[str]:
        """Names of the arguments of `stream`."""
        return [name for name in inspect.signature(self.stream).parameters if name != "foreign"]

    def _encode_prompts(self, prompts: list[str]) -> Tensor:
        return self.prompt_encoder(prompts, device=self._execution_device)


def make_generator(
    transformer: CausalWanTransformer,
    codec: VideoCodec,
    config: GenerationConfig,
    *,
    height: int | None = None,
    width: int | None = None,
    steps: int | None = None,
    **changes: Any,
) -> Generator:
    """The generator for a picture size, of models that need not have weights yet.

    Args:
        height, width: pixels; the trained size by default.
        steps: denoising steps per chunk.
        changes: other fields of `GenerationConfig`; `None` leaves a field as it is.

    Raises:
        ValueError: if size or settings do not fit the model.
    """
    if steps is not None:
        config = config.with_steps(steps)
    config = dataclasses.replace(
        config, **{name: value for name, value in changes.items() if value is not None}
    )
    grid = LatentGrid(
        height=config.height if height is None else height,
        width=config.width if width is None else width,
        spatial_stride=codec.spatial_stride,
        temporal_stride=codec.temporal_stride,
        patch=transformer.config.patch_size[1],
    )
    return Generator(transformer, config, grid)


def _unknown_argument(method: str, name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    guess = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
    return f"CausVidPipeline.{method}() has no argument {name!r}: {_ELSEWHERE.get(name, guess)}"


def _source(video: VideoInput, generator: Generator, **options: Any) -> VideoSource:
    grid, fps = generator.grid, generator.config.fps
    if isinstance(video, LiveFeed):
        return LiveSource(video, fps=fps, height=grid.height, width=grid.width, **options)
    return VideoSource(_frames(video, generator), **options)


def _frames(video: Recorded, generator: Generator) -> Iterable[np.ndarray]:
    """The pictures of a file at the generator's rate and size; other pictures at its size."""
    grid = generator.grid
    if not isinstance(video, str | Path | bytes):
        if isinstance(video, Sized) and not len(video):
            raise ValueError("the source video has no pictures")
        return (fit(read_image(picture), grid.height, grid.width) for picture in video)
    from causvid.media import VideoReader  # and with it PyAV, which nothing else needs

    return VideoReader(video, fps=generator.config.fps, height=grid.height, width=grid.width)
