"""Transformer and text encoder as one trainable module, from captions to velocity.

At inference both halves are used apart (`causvid.text`, `causvid.generator`); in training they
share one forward pass, so that gradients reach the words and data parallelism sees one module.
"""

from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, UMT5EncoderModel

from causvid.transformer import CausalWanTransformer


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

    def save(self, folder: Path) -> None:
        """Write both halves as ordinary model folders."""
        self.transformer.save_pretrained(folder / "transformer")
        self.text_encoder.save_pretrained(folder / "text_encoder")

    def embed(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Prompt embeddings `[b, n, d]`, zero behind each prompt's end (see `causvid.text`)."""
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
def sample(
    model: PromptedTransformer,
    noise: Tensor,
    tokens: Tokens,
    empty: Tokens,
    sigmas: Tensor,
    *,
    guidance: float,
) -> Tensor:
    """Euler integration of the velocity with classifier-free guidance, all frames at one level.

    Args:
        noise: `[b, f, c, h, w]`.
        tokens, empty: the prompts, and the empty prompt, each of batch b.
        sigmas: levels from 1 to 0, both included `[s + 1]`.
        guidance: usual scale, 1 for none.

    Returns:
        The trajectory `[s + 1, b, f, c, h, w]`, noise first, clean latents last.
    """
    both = Tokens(torch.cat([tokens.ids, empty.ids]), torch.cat([tokens.mask, empty.mask]))
    text = model.embed(*(both if guidance != 1 else tokens))
    x, states = noise, [noise]
    for sigma, following in pairwise(sigmas):
        doubled = torch.cat([x, x]) if guidance != 1 else x
        times = sigma.expand(doubled.shape[:2])
        velocity = model.transformer(doubled, times, text).float()
        if guidance != 1:
            conditional, unconditional = velocity.chunk(2)
            velocity = unconditional + guidance * (conditional - unconditional)
        x = x + (following - sigma) * velocity
        states.append(x)
    return torch.stack(states)
