"""Loaded pipelines by preset name: loaded once, shared by all runs."""

import logging
import math
import threading
import time

from causvid.generation.generator import Generator
from causvid.generation.geometry import Timeline
from causvid.generation.parameters import Mode, check_decoder
from causvid.model.codec import codec_for
from causvid.pipeline import CausVidPipeline, make_generator
from causvid.presets.costs import empty_models
from causvid.presets.execution import in_force
from causvid.presets.loading import check_files, load
from causvid.presets.preset import Preset
from causvid.serving.request import Request
from causvid.serving.settings import Settings

log = logging.getLogger(__name__)


class Models:
    """The models that a server offers.

    Each is loaded when it is first asked for. Where there is no room for it, it takes the place of
    the one loaded longest ago: runs that still use that one keep it alive until they end.

    Args:
        room: how many can be loaded at once.
    """

    def __init__(self, settings: Settings, room: int = 1):
        self._settings = settings
        self._room = room
        self._loaded: dict[str, tuple[CausVidPipeline, Preset]] = {}  # the longest loaded first
        self._loading = threading.Lock()
        self.presets = settings.presets

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

    def able(self, mode: Mode) -> list[str]:
        """The models offered that have a mode."""
        return [name for name, preset in self.presets.items() if mode in preset.modes]

    def open(self, name: str) -> tuple[CausVidPipeline, Preset]:
        """The pipeline of an offered model, loaded if need be.

        Raises:
            ValueError: if it is not offered, or cannot be had.
        """
        preset = self.preset(name)
        if (loaded := self._loaded.get(name)) is not None:  # while another may be loading
            return loaded
        with self._loading:
            if name not in self._loaded:
                if len(self._loaded) == self._room:  # before the next is loaded
                    check_files(preset)  # or a damaged one would cost a whole one its place
                    del self._loaded[next(iter(self._loaded))]
                settings, started = self._settings, time.perf_counter()
                pipeline = load(
                    preset,
                    settings.execution,
                    tiny_decoder=settings.tiny_decoder and preset.has_tiny_decoder,
                    token=settings.token or None,
                )
                self._loaded[name] = (pipeline, preset)
                seconds = time.perf_counter() - started
                log.info("loaded %s in %.1f s: %s", name, seconds, in_force(pipeline))
            return self._loaded[name]

    def execution(self, name: str) -> str:
        """How a model is computed, for people; of one that is not loaded, on which device."""
        loaded = self._loaded.get(name)
        return in_force(loaded[0]) if loaded else self._settings.device

    def timeline(self, name: str) -> Timeline:
        """Chunks on the clock, of a model that need not be loaded."""
        return generator_of(self.preset(name)).timeline


def generator_of(preset: Preset, **changes: int | None) -> Generator:
    """How a model would generate, found without its weights; see `make_generator`."""
    models = empty_models(preset)
    return make_generator(models.transformer, codec_for(models.vae), preset.generation, **changes)


def check_fit(
    request: Request, preset: Preset, *, tiny_decoder: bool = True, longest: float = math.inf
) -> None:
    """Whether mode, size, settings and cues fit a model, without its weights.

    Args:
        tiny_decoder: whether it is loaded where there is one.
        longest: seconds after which an endless run ends.

    Raises:
        ValueError: says what came and what was expected.
    """
    if request.mode not in preset.modes:
        raise ValueError(f"{preset.title} makes no {request.mode}-to-video")
    names = ("height", "width", "steps", "window", "sink")
    timeline = generator_of(preset, **{name: getattr(request, name) for name in names}).timeline
    check_decoder(request.decoder, has_tiny=tiny_decoder and preset.has_tiny_decoder)
    seconds = min(request.seconds or math.inf, longest)
    chunks = timeline.chunk_count(seconds) if seconds < math.inf and request.seconds else None
    request.prompts.snapped(timeline, chunks)
