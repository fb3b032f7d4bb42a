"""Prompts → text embeddings, in the form the released Wan models were trained on.

A prompt is cleaned, tokenised to at most `text_length` tokens, encoded, and padded with *zero rows*
to `text_length`. The transformer attends to those rows without a mask, so they are part of the
input format, not an implementation detail.

Every prompt is encoded alone and unpadded: the result is that of the padded, masked batch of the
official code (to 1e-6), costs as many tokens as the prompt has, and does not depend on what else is
in the batch, so the same prompt always gives the same video. Which words hold when is the business
of `prompts`.
"""

import html
import logging
import re
from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock

import ftfy
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase, UMT5EncoderModel

from causvid.model.interruption import pause, pausing
from causvid.model.offload import execution_device

logger = logging.getLogger(__name__)


def clean_prompt(prompt: str) -> str:
    """Mend mis-decoded Unicode, resolve HTML entities, collapse white space, as Wan does."""
    # Twice: captions from the web are often escaped twice ("&amp;lt;").
    text = html.unescape(html.unescape(ftfy.fix_text(prompt)))
    return re.sub(r"\s+", " ", text).strip()


def encode_tokens(encoder: UMT5EncoderModel, ids: Tensor, mask: Tensor) -> Tensor:
    """Embeddings `[b, n, d]` of token `ids` `[b, n]`; rows where `mask` `[b, n]` is 0 are zero."""
    hidden = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    return hidden * mask.to(hidden)[..., None]


class PromptEncoder:
    """Turns prompts into `[b, text_length, d]`, and remembers the most recent ones.

    Shared by all viewers and safe to call from several threads.

    Args:
        text_length: rows of the result; longer prompts are cut, with a warning.
        remembered: how many recent prompts to keep. One costs `n · d` numbers, n its tokens.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        text_encoder: UMT5EncoderModel,
        text_length: int = 512,
        *,
        remembered: int = 64,
    ):
        if text_length < 1:
            raise ValueError(f"text_length must be at least 1, got {text_length}")
        self.tokenizer = tokenizer
        self.text_encoder = text_encoder
        self.text_length = text_length
        self._remembered = remembered
        self._memo: OrderedDict[str, Tensor] = OrderedDict()  # cleaned prompt → [n, d]
        self._lock = Lock()

    def __call__(
        self,
        prompts: str | Sequence[str],
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Embeddings `[b, text_length, d]` of `prompts`, zero after each prompt's last token.

        Args:
            device, dtype: of the result, normally the transformer's; the encoder's by default.
        """
        texts = [clean_prompt(p) for p in ([prompts] if isinstance(prompts, str) else prompts)]
        if not texts:
            raise ValueError("there is no prompt to encode: pass at least one (it may be empty)")
        device = torch.device(device or execution_device(self.text_encoder))
        with self._lock:
            embedded = self._recall(texts)
        padded = embedded[0].new_zeros(len(texts), self.text_length, embedded[0].shape[-1])
        for row, rows in zip(padded, embedded, strict=True):
            row[: len(rows)] = rows
        return padded.to(device=device, dtype=dtype)

    def _recall(self, texts: Sequence[str]) -> list[Tensor]:
        new = [text for text in dict.fromkeys(texts) if text not in self._memo]
        self._memo.update({text: self._encode(text) for text in new})
        embedded = [self._memo[text] for text in texts]
        for text in texts:
            self._memo.move_to_end(text)
        while len(self._memo) > self._remembered:
            self._memo.popitem(last=False)
        return embedded

    def _encode(self, text: str) -> Tensor:
        words = self.tokenizer(text, verbose=False).input_ids
        if (dropped := len(words) - self.text_length) > 0:
            logger.warning(
                "a prompt has %d tokens too many and was cut to %d", dropped, self.text_length
            )  # and not its words, which belong in no log
            # The tokenizer cuts before the end mark; slicing would cut the mark itself.
            words = self.tokenizer(text, truncation=True, max_length=self.text_length).input_ids
        if not words:  # the empty prompt, for a tokenizer without an end mark
            return torch.zeros(0, self.text_encoder.config.d_model, dtype=self.text_encoder.dtype)
        # The encoder may live on the CPU while the transformer is on a GPU.
        ids = torch.tensor([words], device=execution_device(self.text_encoder))
        pause()
        with torch.no_grad(), pausing(self.text_encoder.encoder.block):
            return encode_tokens(self.text_encoder, ids, torch.ones_like(ids))[0]
