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

from causvid.media.animation import write_animation
from causvid.media.fragments import Fragment, FragmentMuxer
from causvid.media.images import ImageSource, fit, read_image
from causvid.media.place import NoRoomError, check_place, lacks_room
from causvid.media.reader import MAX_VIDEO_PIXELS, VideoReader, probe
from causvid.media.sound import add_sound
from causvid.media.videofile import VideoInfo, VideoSource
from causvid.media.writer import VideoWriter, write_video

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
