"""A procedural captioned world: the training and test data of the pocket model.

`Scene` holds the attributes, `caption` and `read_prompt` translate to and from words, `render` and
`render_switch` draw, `sample_clip` does all three. Every attribute of every frame is known.
Importing this package does not import torch; `causvid.world.judge`, `.pixels` and `.tokenizer` do.
"""

from causvid.world.captions import (
    VOCABULARY,
    canonical_caption,
    caption,
    impossible,
    read_prompt,
    scene_of,
    unknown_words,
)
from causvid.world.motion import LOOPING
from causvid.world.render import (
    FPS,
    HEIGHT,
    SWITCH_FRAMES,
    WIDTH,
    render,
    render_switch,
    return_frame,
)
from causvid.world.samples import sample_clip, sample_clips, write_clips
from causvid.world.scene import ATTRIBUTES, HELD_OUT, Scene, Split

__all__ = [
    "ATTRIBUTES",
    "FPS",
    "HEIGHT",
    "HELD_OUT",
    "LOOPING",
    "SWITCH_FRAMES",
    "VOCABULARY",
    "WIDTH",
    "Scene",
    "Split",
    "canonical_caption",
    "caption",
    "impossible",
    "read_prompt",
    "render",
    "render_switch",
    "return_frame",
    "sample_clip",
    "sample_clips",
    "scene_of",
    "unknown_words",
    "write_clips",
]
