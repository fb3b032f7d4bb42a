"""CausVid Live: causal few-step video diffusion that streams while it generates.

The names below are the public API, loaded when they are first used: importing `causvid` loads
neither torch nor Gradio.
"""

import importlib
import os
import sys
import warnings

__version__ = "0.2.0"

# How torch's threads wait for each other, which OpenMP reads once, when torch is loaded. Threads
# that sleep at once cost a quarter of the speed of a small model; threads that spin take the cores
# from other processes, and a chunk takes many times as long on a busy machine. So they spin for
# some microseconds, then sleep.
_torch = sys.modules.get("torch")
if _torch is not None and "OMP_WAIT_POLICY" not in os.environ and not _torch.cuda.is_available():
    warnings.warn(
        "torch was imported before causvid, so its threads spin: on a busy machine a chunk takes "
        "ten times as long. Import causvid first, or set OMP_WAIT_POLICY=PASSIVE",
        stacklevel=2,
    )
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

_HOMES = {
    "CausVidPipeline": "causvid.pipeline",
    "CausalWanTransformer": "causvid.model.transformer",
    "FrameChunk": "causvid.generation.chunk",
    "Handover": "causvid.generation.cues",
    "PRESETS": "causvid.presets.catalogue",
    "Preset": "causvid.presets.preset",
    "PromptSchedule": "causvid.generation.prompts",
    "Stream": "causvid.generation.stream",
    "TinyAutoencoder": "causvid.model.tiny_autoencoder",
    "load": "causvid.presets.loading",
    "load_preset": "causvid.presets.loading",
    "write_video": "causvid.media",
}

# diffusers loads a component of a saved pipeline from the module that is named there, and looks
# there for the base class that tells how.
_BASES = {"ModelMixin": "diffusers"}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str):
    homes = _HOMES | _BASES
    if name not in homes:
        raise AttributeError(f"module 'causvid' has no attribute {name!r}")
    value = getattr(importlib.import_module(homes[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
