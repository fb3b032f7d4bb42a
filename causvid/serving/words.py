"""Words that a model of few words does not know, found from its tokenizer alone."""

import difflib
import functools
import re
from collections.abc import Collection

from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from causvid.presets.folder import load_tokenizer
from causvid.presets.preset import Preset

_MOST_NAMED = 8
_ALIKE, _LONG = 0.75, 4
"""Share of letters in common, and letters, from which on a known word may be what was meant."""


def known_words(preset: Preset) -> frozenset[str]:
    """The vocabulary of a model whose tokenizer knows whole words; empty for others."""
    tokenizer = _word_tokenizer(preset)
    vocabulary = () if tokenizer is None else tokenizer.get_vocab()
    return frozenset(word for word in vocabulary if word.isalpha())  # no marks, such as </s>


def remark(preset: Preset, prompt: str) -> str:
    """A sentence on the words that the model cannot know; empty if it knows all."""
    unknown = nearest_words(preset, prompt)
    if not unknown:
        return ""
    words = ", ".join(
        f"“{word}” (like “{near}”?)" if near else f"“{word}”"
        for word, near in list(unknown.items())[:_MOST_NAMED]
    )
    more = " and more" if len(unknown) > _MOST_NAMED else ""
    verb = "is not a word" if len(unknown) == 1 else "are not words"
    return f"{words}{more} {verb} that this small model knows; it will make of it what it can."


def nearest_words(preset: Preset, prompt: str) -> dict[str, str | None]:
    """The words that the model cannot know, in lower case, each with the known one that is spelt
    most like it, if any is."""
    tokenizer = _word_tokenizer(preset)
    if tokenizer is None:
        return {}
    backend, known = tokenizer.backend_tokenizer, tokenizer.get_vocab()
    text = backend.normalizer.normalize_str(prompt)
    used = dict.fromkeys(word for word, _ in backend.pre_tokenizer.pre_tokenize_str(text))
    return {word: _nearest(word, known) for word in used if word not in known}


def replaced(prompt: str, word: str, other: str) -> str:
    """The prompt with `other` wherever `word` stands as a whole word, in any case."""
    return re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", lambda _: other, prompt, flags=re.I)


def _nearest(word: str, known: Collection[str]) -> str | None:
    long = [other for other in known if len(other) >= _LONG] if len(word) >= _LONG else []
    near = difflib.get_close_matches(word, long, n=1, cutoff=_ALIKE)
    return near[0] if near else None


@functools.lru_cache(maxsize=16)
def _word_tokenizer(preset: Preset) -> PreTrainedTokenizerFast | None:
    """Of a model in a folder, loaded or not: those on the Hub know all words."""
    if preset.folder is None:
        return None
    with preset.cured():
        tokenizer = load_tokenizer(preset.folder)
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        return None
    return tokenizer if isinstance(tokenizer.backend_tokenizer.model, WordLevel) else None
