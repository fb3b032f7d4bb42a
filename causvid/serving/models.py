"""Loaded pipelines by preset name: loaded once, shared by all runs."""

import logging
import threading
import time

from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from causvid.generation.generator import Generator
from causvid.generation.geometry import Timeline
from causvid.generation.parameters import check_decoder
from causvid.model.codec import codec_for
from causvid.pipeline import CausVidPipeline, make_generator
from causvid.presets.costs import empty_models
from causvid.presets.execution import in_force
from causvid.presets.loading import load
from causvid.presets.preset import Preset
from causvid.serving.request import Request
from causvid.serving.settings import Settings

log = logging.getLogger(__name__)


class Models:
    """The models that a server offers.

    The first is loaded by `load_first`; another when it is first asked for. Where there is no room
    for it, it takes the place of the one loaded longest ago: runs that still use that one keep it
    alive until they end.

    Args:
        room: how many can be loaded at once.
    """

    def __init__(self, settings: Settings, room: int = 1):
        self._settings = settings
        self._room = room
        self._loaded: dict[str, tuple[CausVidPipeline, Preset]] = {}  # the longest loaded first
        self._tokenizers: dict[str, PreTrainedTokenizerFast] = {}
        self._loading = threading.Lock()
        self.presets: dict[str, Preset] = {preset.name: preset for preset in settings.presets}

    def load_first(self) -> None:
        """
        Raises:
            PresetError: if it cannot be had.
        """
        self.open(self._settings.model)

    @property
    def ready(self) -> bool:
        return bool(self._loaded)

    def preset(self, name: str) -> Preset:
        """
        Raises:
            ValueError: if the model is not offered here.
        """
        if name not in self.presets:
            raise ValueError(f"the model is {name!r:.60}; offered are {', '.join(self.presets)}")
        return self.presets[name]

    def open(self, name: str) -> tuple[CausVidPipeline, Preset]:
        """The pipeline of an offered model, loaded if need be.

        Raises:
            ValueError: if it is not offered, or cannot be had.
        """
        preset = self.preset(name)
        with self._loading:
            if name not in self._loaded:
                if len(self._loaded) == self._room:  # before the next is loaded
                    del self._loaded[next(iter(self._loaded))]
                self._loaded[name] = (self._load(preset), preset)
            return self._loaded[name]

    def timeline(self, name: str) -> Timeline:
        """Chunks on the clock, of a model that need not be loaded."""
        return self._generator(name).timeline

    def check(self, request: Request) -> None:
        """Whether size, settings and cues fit the model, which need not be loaded.

        Raises:
            ValueError: says what came and what was expected.
        """
        generator = self._generator(
            request.model,
            height=request.height,
            width=request.width,
            steps=request.steps,
            window=request.window,
            sink=request.sink,
        )
        preset = self.preset(request.model)
        tiny = self._settings.tiny_decoder and preset.has_tiny_decoder
        check_decoder(request.decoder, has_tiny=tiny)
        if request.seconds is not None:
            timeline = generator.timeline
            seconds = min(request.seconds, self._settings.longest)
            request.prompts.snapped(timeline, timeline.chunk_count(seconds))

    def _generator(self, name: str, **changes: int | None) -> Generator:
        """How a model would generate, found without its weights."""
        preset = self.preset(name)
        models = empty_models(preset)
        codec = codec_for(models.vae)
        return make_generator(models.transformer, codec, preset.generation, **changes)

    def known_words(self, name: str) -> frozenset[str]:
        """The vocabulary of a model whose tokenizer knows whole words; empty for others."""
        tokenizer = self._word_tokenizer(name)
        return frozenset() if tokenizer is None else frozenset(tokenizer.get_vocab())

    def unknown_words(self, name: str, prompt: str) -> list[str]:
        """Words that mean nothing to such a model, in order, each once."""
        tokenizer = self._word_tokenizer(name)
        if tokenizer is None:
            return []
        backend, known = tokenizer.backend_tokenizer, tokenizer.get_vocab()
        text = backend.normalizer.normalize_str(prompt)
        words = [word for word, _ in backend.pre_tokenizer.pre_tokenize_str(text)]
        return list(dict.fromkeys(word for word in words if word not in known))

    def _word_tokenizer(self, name: str) -> PreTrainedTokenizerFast | None:
        """Of a preset in a folder, loaded or not: those on the Hub know all words."""
        folder = self.preset(name).folder
        if folder is None:
            return None
        if name not in self._tokenizers:
            self._tokenizers[name] = PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer")
        tokenizer = self._tokenizers[name]
        return tokenizer if isinstance(tokenizer.backend_tokenizer.model, WordLevel) else None

    def _load(self, preset: Preset) -> CausVidPipeline:
        settings = self._settings
        started = time.perf_counter()
        pipeline = load(
            preset,
            settings.execution,
            tiny_decoder=settings.tiny_decoder and preset.has_tiny_decoder,
            token=settings.token or None,
        )
        seconds = time.perf_counter() - started
        log.info("loaded %s in %.1f s: %s", preset.name, seconds, in_force(pipeline))
        return pipeline
