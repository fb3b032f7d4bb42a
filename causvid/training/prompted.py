"""Transformer and text encoder as one trainable module, from captions to velocity.

At inference both halves are used apart (`causvid.model.text`, `causvid.generation.generator`); in
training they share one forward pass, so that gradients reach the words and data parallelism sees
one module.
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, UMT5EncoderModel

from causvid.model.cache import TextCache
from causvid.model.transformer import CausalWanTransformer


class Tokens(NamedTuple):
    """Token ids and their mask, both `[b, n]` with n the text length."""

    ids: Tensor
    mask: Tensor


def tokenise(tokenizer: PreTrainedTokenizerBase, prompts: list[str], length: int) -> Tokens:
    """Ids and mask of `prompts`, cut and padded to `length`."""
    encoded = tokenizer(
        prompts, padding="max_length", truncation=True, max_length=length, return_tensors="pt"
    )
    return Tokens(encoded.input_ids, encoded.attention_mask)


class PromptedTransformer(nn.Module):
    """`(noisy latents, times, tokens) → velocity`, differentiable down to the word embeddings."""

    _no_split_modules = ("TransformerBlock", "UMT5Block")  # units of sharding

    def __init__(self, transformer: CausalWanTransformer, text_encoder: UMT5EncoderModel):
        super().__init__()
        self.transformer = transformer
        self.text_encoder = text_encoder

    @classmethod
    def load(cls, folder: Path) -> "PromptedTransformer":
        """Read what `save` wrote, in float32."""
        return cls(
            CausalWanTransformer.from_pretrained(folder / "transformer"),
            UMT5EncoderModel.from_pretrained(folder / "text_encoder"),
        )

    def save(self, folder: Path, state: dict[str, Tensor] | None = None) -> None:
        """Write both halves as ordinary model folders.

        Args:
            state: the weights to write, by name, where this module holds but a shard of them.
        """
        whole = self if state is None else self._with(state)
        whole.transformer.save_pretrained(folder / "transformer")
        whole.text_encoder.save_pretrained(folder / "text_encoder")

    def _with(self, state: dict[str, Tensor]) -> "PromptedTransformer":
        with torch.device("meta"):
            other = PromptedTransformer(
                CausalWanTransformer.from_config(self.transformer.config),
                UMT5EncoderModel(self.text_encoder.config),
            )
        other.load_state_dict(state, assign=True)
        return other

    def embed(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Prompt embeddings `[b, n, d]`, zero behind each prompt's end."""
        hidden = self.text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        return hidden * mask.to(hidden)[..., None]

    def forward(
        self,
        latents: Tensor,
        times: Tensor,
        ids: Tensor,
        mask: Tensor,
        frame_mask: Tensor | None = None,
    ) -> Tensor:
        """Velocity `[b, f, c, h, w]`; `times` `[b, f]` in [0, 1]."""
        return self.transformer(latents, times, self.embed(ids, mask), frame_mask=frame_mask)


def parameter_count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@torch.no_grad()
def integrate(
    transformer: CausalWanTransformer,
    noise: Tensor,
    text: TextCache,
    sigmas: Tensor,
    *,
    guidance: float,
) -> Iterator[Tensor]:
    """Euler integration of the velocity with classifier-free guidance, all frames at one level.

    Args:
        noise: `[b, f, c, h, w]`.
        text: what to show, of batch b; if guided of batch 2 b, the empty prompts last.
        sigmas: levels from 1 to 0, both included `[s + 1]`.
        guidance: usual scale, 1 for none.

    Yields:
        Latents `[b, f, c, h, w]` after each of the s steps; the last ones are clean.
    """
    x = noise
    for sigma, following in pairwise(sigmas.to(noise.device)):
        doubled = torch.cat([x, x]) if guidance != 1 else x
        times = sigma.expand(doubled.shape[:2])
        velocity = transformer(doubled, times, text).float()
        if guidance != 1:
            conditional, unconditional = velocity.chunk(2)
            velocity = unconditional + guidance * (conditional - unconditional)
        x = x + (following - sigma) * velocity
        yield x


@torch.no_grad()
def sample(
    model: PromptedTransformer,
    noise: Tensor,
    tokens: Tokens,
    empty: Tokens,
    sigmas: Tensor,
    *,
    guidance: float,
) -> Tensor:
    """The teacher's trajectory from `noise`, see `integrate`.

    Args:
        tokens, empty: the prompts, and the empty prompt, each of the noise's batch.

    Returns:
        `[s + 1, b, f, c, h, w]` on the CPU: noise first, clean latents last.
    """
    device = model.transformer.device
    both = Tokens(torch.cat([tokens.ids, empty.ids]), torch.cat([tokens.mask, empty.mask]))
    ids, mask = both if guidance != 1 else tokens
    text = model.transformer.encode_text(model.embed(ids.to(device), mask.to(device)))
    states = integrate(model.transformer, noise.to(device), text, sigmas, guidance=guidance)
    return torch.stack([noise.cpu(), *(state.cpu() for state in states)])
