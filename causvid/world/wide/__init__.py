"""The wide procedural world: backgrounds, cameras, named things, time of day and weather.

`Scene` holds what a clip shows, `caption` says it, `render` and `film` draw it, `film_with_truth`
also tells what is where in every frame. `script(seed, index)` is a captioned clip by number, the
same in every process. Importing this package does not import torch.
"""

from causvid.world.wide.captions import VOCABULARY, caption
from causvid.world.wide.film import (
    FPS,
    HEIGHT,
    WIDTH,
    Shot,
    Truth,
    film,
    film_with_truth,
    render,
)
from causvid.world.wide.foreign import ALIASES
from causvid.world.wide.samples import FORMATS, Script, script, spread
from causvid.world.wide.scene import Scene, Split, Thing, sample_scene

__all__ = [
    "ALIASES",
    "FORMATS",
    "FPS",
    "HEIGHT",
    "VOCABULARY",
    "WIDTH",
    "Scene",
    "Script",
    "Shot",
    "Split",
    "Thing",
    "Truth",
    "caption",
    "film",
    "film_with_truth",
    "render",
    "sample_scene",
    "script",
    "spread",
]
