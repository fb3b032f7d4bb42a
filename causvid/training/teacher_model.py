"""The teacher: text encoder and transformer as one trainable module, and sampling from it.

A transformer is conditioned on captions in one of two ways: on the embeddings of a frozen text
encoder, or on tokens where the text encoder is trained with it. In the latter case both share one
forward pass, so that gradients reach the words and data parallelism sees one module.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
from diffusers import ModelMixin
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, UMT5EncoderModel

from causvid.model.cache import TextCache
from causvid.model.text import PromptEncoder, encode_tokens
from causvid.model.transformer import CausalWanTransformer
from causvid.training.losses import guided

Conditioning = Callable[[list[str], torch.device], tuple[Tensor, ...]]
"""Captions → what a model's forward pass takes after latents and times, on a device."""


def embeddings_of(encoder: PromptEncoder) -> Conditioning:
    """Conditioning of a `CausalWanTransformer`: embeddings `[b, n, d]` of a frozen text encoder."""

    def embed(captions: list[str], device: torch.device) -> tuple[Tensor]:
        return (encoder(captions, device=device, dtype=torch.float32),)

    return embed


def tokens_of(tokenizer: PreTrainedTokenizerBase, length: int) -> Conditioning:
    """Conditioning of a `TeacherModel`: token ids and their mask `[b, length]`."""

    def tokens(captions: list[str], device: torch.device) -> tuple[Tensor, Tensor]:
        ids, mask = tokenise(tokenizer, captions, length)
        return ids.to(device), mask.to(device)

    return tokens


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


class TeacherModel(nn.Module):
    """`(noisy latents, times, tokens) → velocity`, differentiable down to the word embeddings."""

    _no_split_modules = ("TransformerBlock", "UMT5Block")  # units of sharding

    def __init__(self, transformer: CausalWanTransformer, text_encoder: UMT5EncoderModel):
        super().__init__()
        self.transformer = transformer
        self.text_encoder = text_encoder

    def embed(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Prompt embeddings `[b, n, d]`, zero behind each prompt's end."""
        return encode_tokens(self.text_encoder, ids, mask)

    def forward(
        self,
        latents: Tensor,
        times: Tensor,
        ids: Tensor,
        mask: Tensor,
        *,
        frame_mask: Tensor | None = None,
    ) -> Tensor:
        """Velocity `[b, f, c, h, w]`; `times` `[b, f]` in [0, 1]."""
        return self.transformer(latents, times, self.embed(ids, mask), frame_mask=frame_mask)


def save_model(model: nn.Module, state: dict[str, Tensor], folder: Path) -> None:
    """Write weights as ordinary model folders: of a `TeacherModel` both of its parts, of a student
    its `transformer`, of any other model `folder` itself.

    Args:
        model: whose weights they are; it may hold but a shard of them.
        state: the weights, by name.
    """
    if isinstance(model, TeacherModel):
        save_model(model.transformer, _part(state, "transformer."), folder)
        with torch.device("meta"):
            encoder = UMT5EncoderModel(model.text_encoder.config)
        encoder.load_state_dict(_part(state, "text_encoder."), assign=True)
        encoder.save_pretrained(folder / "text_encoder")
    elif isinstance(model, CausalWanTransformer):
        with torch.device("meta"):
            whole = CausalWanTransformer.from_config(model.config)
        whole.load_state_dict(state, assign=True)
        whole.save_pretrained(folder / "transformer")
    else:
        assert isinstance(model, ModelMixin)
        model.save_pretrained(folder)


def _part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


@torch.no_grad()
def integrate(
    transformer: Callable[[Tensor, Tensor, TextCache], Tensor],
    noise: Tensor,
    text: TextCache,
    sigmas: Tensor,
    *,
    guidance: float,
) -> Iterator[Tensor]:
    """Euler integration of the velocity with classifier-free guidance, all frames at one level.

    Args:
        transformer: latents, times and text → velocity.
        noise: `[b, f, c, h, w]`.
        text: what to show, of batch b; if guided of batch 2 b, the empty prompts last.
        sigmas: levels from 1 to 0, both included `[s + 1]`.
        guidance: 1 for none.

    Yields:
        Latents `[b, f, c, h, w]` after each of the s steps; the last ones are clean.
    """
    x = noise
    for sigma, lower in pairwise(sigmas.to(noise.device)):
        doubled = torch.cat([x, x]) if guidance != 1 else x
        times = sigma.expand(doubled.shape[:2])
        velocity = transformer(doubled, times, text).float()
        if guidance != 1:
            velocity = guided(velocity[: len(x)], velocity[len(x) :], guidance)
        x = x + (lower - sigma) * velocity
        yield x


@torch.no_grad()
def sample(
    transformer: CausalWanTransformer,
    noise: Tensor,
    text: Tensor,
    empty: Tensor,
    sigmas: Tensor,
    *,
    guidance: float,
) -> Tensor:
    """The teacher's trajectory from `noise`, see `integrate`.

    Args:
        text, empty: embeddings `[b, n, d]` of the prompts, and of the empty prompt.

    Returns:
        `[s + 1, b, f, c, h, w]` on the CPU: noise first, clean latents last.
    """
    device = transformer.device
    both = torch.cat([text, empty]) if guidance != 1 else text
    cache = transformer.encode_text(both.to(device))
    states = integrate(transformer, noise.to(device), cache, sigmas, guidance=guidance)
    return torch.stack([noise.cpu(), *(state.cpu() for state in states)])
