"""What a stage's weights draw, as a picture: written at every checkpoint, to be looked at.

A loss says little about pictures. Students stream as they will in use; the teacher, which knows no
chunks, integrates its flow.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase, UMT5EncoderModel

from causvid.generation.config import GenerationConfig
from causvid.generation.geometry import LatentGrid
from causvid.generation.schedule import FlowSchedule
from causvid.generation.source import to_bytes
from causvid.model.codec import codec_for
from causvid.model.text import PromptEncoder
from causvid.model.transformer import CausalWanTransformer
from causvid.pipeline import CausVidPipeline
from causvid.training.models import load_codec, load_text_encoder, load_transformer
from causvid.training.teacher_model import sample
from causvid.world.samples import SheetRow, contact_sheet

_SEED = 1
_LATENTS = 7  # of a row: two seconds
_STEPS, _GUIDANCE = 24, 2.0  # of the teacher


@dataclass(frozen=True)
class Sheet:
    """Prompts that are drawn again and again, with one seed.

    Args:
        prompts: a row each.
        tokenizer, generation, grid: of the model.
        codec: its folder.
        text_encoder: the folder that has it, unless it lies beside the weights.
        bidirectional: whether the weights are a teacher's.
    """

    prompts: tuple[str, ...]
    tokenizer: PreTrainedTokenizerBase
    generation: GenerationConfig
    grid: LatentGrid
    codec: Path
    text_encoder: Path | None
    bidirectional: bool

    def draw(self, average: Path, out: Path) -> None:
        """Draw the weights in `average`: four pictures of every prompt, the first to the last."""
        transformer = load_transformer(average / "transformer")
        own = (average / "text_encoder").is_dir()
        encoder = load_text_encoder(average if own else self.text_encoder or average)
        make = self._integrate if self.bidirectional else self._stream
        rows = []
        for prompt, frames in zip(self.prompts, make(transformer, encoder), strict=True):
            shown = np.linspace(0, len(frames) - 1, 4).round().astype(int)
            rows.append(SheetRow(prompt, frames[shown]))
        contact_sheet(rows, columns=2).save(out)

    def _stream(
        self, transformer: CausalWanTransformer, encoder: UMT5EncoderModel
    ) -> Iterator[np.ndarray]:
        pipe = CausVidPipeline(
            self.tokenizer,
            encoder,
            transformer,
            load_codec(self.codec),
            generation=self.generation,
        )
        pipe.set_progress_bar_config(disable=True)
        seconds = self.grid.pixel_start(_LATENTS) / self.generation.fps
        for prompt in self.prompts:
            yield pipe(prompt, seconds=seconds, seed=_SEED, output_type="uint8").frames[0]

    @torch.no_grad()
    def _integrate(
        self, transformer: CausalWanTransformer, encoder: UMT5EncoderModel
    ) -> Iterator[np.ndarray]:
        embed = PromptEncoder(self.tokenizer, encoder, transformer.config.text_length)
        texts = [list(self.prompts), [""] * len(self.prompts)]
        words, empty = (embed(text, dtype=torch.float32) for text in texts)
        shape = (_LATENTS, transformer.config.in_channels)
        picture = (self.grid.latent_height, self.grid.latent_width)
        noise = torch.randn(
            len(self.prompts), *shape, *picture, generator=torch.Generator().manual_seed(_SEED)
        )
        sigmas = FlowSchedule(self.generation.shift).shifted(torch.linspace(1, 0, _STEPS + 1))
        made = sample(transformer, noise, words, empty, sigmas, guidance=_GUIDANCE)[-1]
        codec = codec_for(load_codec(self.codec))
        for latents in made:
            yield to_bytes(codec.decode(latents[None], codec.start())).numpy()
