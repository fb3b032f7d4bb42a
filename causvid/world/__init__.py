"""A procedural captioned world: the training and test data of the pocket model.

`Scene` holds the attributes, `caption` says them, `render` and `render_switch` draw them,
`sample_clips` does both. Every attribute of every frame is known.
Importing this package does not import torch; `causvid.world.judge`, `.pixels` and `.tokenizer` do.
"""

from causvid.world.captions import VOCABULARY, caption
from causvid.world.motion import LOOPING, return_frame
from causvid.world.render import render, render_switch
from causvid.world.samples import sample_clips, write_clips
from causvid.world.scene import ATTRIBUTES, FPS, HEIGHT, WIDTH, Scene, Split

__all__ = [
    "ATTRIBUTES",
    "FPS",
    "HEIGHT",
    "LOOPING",
    "VOCABULARY",
    "WIDTH",
    "Scene",
    "Split",
    "caption",
    "render",
    "render_switch",
    "return_frame",
    "sample_clips",
    "write_clips",
]
