"""Pictures and video, in and out: everything that touches Pillow and PyAV.

    images     read_image, fit
    videofile  VideoInfo; opening and decoding files that strangers made
    webp       the same for animated WebP
    reader     probe, VideoReader: any video, lazily, at a constant rate and size
    writer     write_video, VideoWriter: MP4 files
    animation  write_animation: WebP and GIF
    fragments  FragmentMuxer: chunks that a browser plays while the next is being made
    display    decoded frames as people see them: HDR, wide gamuts, transparency
    sound      add_sound: the sound of a source beside what was made from it
    clock      frame rates, time stamps and resampling in time

Pictures are uint8 `[h, w, 3]` and clips uint8 `[t, h, w, 3]`, always RGB in sRGB. Unusable input is
a `ValueError` that names the file without its folder. No ffmpeg binary is needed.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from causvid.media.animation import write_animation
    from causvid.media.fragments import Fragment, FragmentMuxer
    from causvid.media.images import ImageSource, fit, read_image
    from causvid.media.place import NoRoomError, check_place, lacks_room
    from causvid.media.reader import MAX_VIDEO_PIXELS, VideoReader, probe
    from causvid.media.sound import add_sound
    from causvid.media.videofile import VideoInfo, VideoSource
    from causvid.media.writer import VideoWriter, write_video

# Loaded when they are first used: a model makes pictures without PyAV.
_HOMES = {
    "Fragment": "fragments",
    "FragmentMuxer": "fragments",
    "ImageSource": "images",
    "MAX_VIDEO_PIXELS": "reader",
    "NoRoomError": "place",
    "VideoInfo": "videofile",
    "VideoReader": "reader",
    "VideoSource": "videofile",
    "VideoWriter": "writer",
    "add_sound": "sound",
    "check_place": "place",
    "fit": "images",
    "lacks_room": "place",
    "probe": "reader",
    "read_image": "images",
    "write_animation": "animation",
    "write_video": "writer",
}

__all__ = [
    "MAX_VIDEO_PIXELS",
    "Fragment",
    "FragmentMuxer",
    "ImageSource",
    "NoRoomError",
    "VideoInfo",
    "VideoReader",
    "VideoSource",
    "VideoWriter",
    "add_sound",
    "check_place",
    "fit",
    "lacks_room",
    "probe",
    "read_image",
    "write_animation",
    "write_video",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'causvid.media' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"causvid.media.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
