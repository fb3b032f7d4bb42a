"""A procedural captioned world: the training and test data of the pocket model.

`Scene` holds the attributes, `caption` and `read_prompt` translate to and from words, `render` and
`render_switch` draw, `sample_clip` does all three. Everything that a prompt can say is known for
every frame.
"""

from causvid.world.captions import (
    VOCABULARY,
    canonical_caption,
    caption,
    impossible,
    known_words,
    read_prompt,
    scene_of,
    unknown_words,
    vocabulary,
)
from causvid.world.clips import Clip, Take, contact_sheet, sample_clip, sample_clips, write_clips
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
    "Clip",
    "Scene",
    "Split",
    "Take",
    "canonical_caption",
    "caption",
    "contact_sheet",
    "impossible",
    "known_words",
    "read_prompt",
    "render",
    "render_switch",
    "return_frame",
    "sample_clip",
    "sample_clips",
    "scene_of",
    "unknown_words",
    "vocabulary",
    "write_clips",
]
