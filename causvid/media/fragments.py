"""Chunks of video that play while the next is being made: fragmented MP4 (ISO 14496-12).

`FragmentMuxer` encodes every chunk by itself, as one key frame and what depends on it, into one
media fragment. A player (MediaSource in a browser) takes the initialisation segment once and then
the fragments; so does a file: the segment and all fragments, one after the other, are a valid
video. The finished MP4 is the fragments copied, not encoded again.

Each chunk gets an encoder of its own, so a fragment depends on nothing but its frames and their
position, and equal chunks are equal bytes. What has been made is kept in a temporary file; memory
does not grow.
"""

import copy
import io
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from causvid.media.clock import Rate, as_rate
from causvid.media.writer import add_h264, as_clip, copy_mp4, open_mp4, to_yuv

# One fragment per container, and its decode time is that of its first frame. Without an edit list
# and shifting, the muxer takes that time from the frame instead of beginning at 0.
_FRAGMENT = {
    "movflags": "empty_moov+default_base_moof+frag_keyframe+frag_discont+skip_trailer",
    "use_editlist": "0",
    "avoid_negative_ts": "disabled",
}
# Ceiling of the bit rate, reached by noise but not by pictures: 3.2 Mbit/s at 480x832, 16 fps.
_BITS_PER_PIXEL = 0.5


@dataclass(frozen=True)
class Fragment:
    """One chunk as a media fragment (moof + mdat): frames `first_frame …` of the video."""

    index: int
    first_frame: int
    frame_count: int
    data: bytes


class FragmentMuxer:
    """Turn chunks of frames into media fragments and, at the end, into one MP4.

        with FragmentMuxer(fps=16, height=480, width=832) as muxer:
            player.open(muxer.mime, muxer.init)
            for chunk in stream:
                player.append(muxer.append(chunk.frames).data)
            muxer.finish("out.mp4")

    Attributes:
        init: the initialisation segment (ftyp + moov), the same for every fragment.
        mime: the type a player has to support, with the exact profile and level.
        frame_count: frames so far, in all chunks, `begin` included.
    """

    def __init__(self, fps: Rate, height: int, width: int, *, crf: int = 21, begin: int = 0):
        """Open the temporary file, and encode one black frame to learn `init`.

        Args:
            crf: x264's constant quality, 0 (best) to 51.
            begin: frames that the player has already, from elsewhere.

        Raises:
            ValueError: if the rate or the size cannot be used.
        """
        if height < 2 or width < 2:
            raise ValueError(f"picture size is {width}x{height}; expected at least 2x2")
        self.frame_count = begin
        self._chunk_count = 0
        self._rate = as_rate(fps)
        self._size = (height, width)
        ceiling = str(max(100_000, int(_BITS_PER_PIXEL * height * width * self._rate)))
        self._options = {
            "preset": "superfast",
            "tune": "zerolatency",  # no frame waits for a later one, so none is displayed late
            "crf": str(crf),
            "maxrate": ceiling,
            "bufsize": ceiling,
            "g": "9999",  # the chunk's first frame is its only key frame
            "sc_threshold": "0",
            # Marks where pictures begin: encoders that start anew number all their key frames 0,
            # and a chunk of one frame would look like a part of the chunk after it.
            "aud": "1",
            "threads": "1",
        }
        self.init, _ = self._encode(np.zeros((1, height, width, 3), np.uint8))
        # avcC: box type, version, then profile, compatibility and level (ISO 14496-15).
        codec = self.init.index(b"avcC") + 5
        self.mime = f'video/mp4; codecs="avc1.{self.init[codec : codec + 3].hex()}"'
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`)
        self._file.write(self.init)

    def append(self, frames: np.ndarray) -> Fragment:
        """Encode one chunk, uint8 `[t, h, w, 3]`.

        Raises:
            ValueError: if there is no frame, or they are of another size or type.
        """
        clip = as_clip(frames, self._size)
        if not len(clip):
            raise ValueError("got a chunk without frames; expected at least one")
        init, data = self._encode(clip)
        assert init == self.init, "the encoder's parameters changed between chunks"
        fragment = Fragment(self._chunk_count, self.frame_count, len(clip), data)
        self._file.seek(0, io.SEEK_END)
        self._file.write(data)
        self._chunk_count += 1
        self.frame_count += len(clip)
        return fragment

    def save_chunk(self, fragment: Fragment, path: str | Path) -> int:
        """Write one fragment as an MP4 that plays by itself, from 0 s. Returns its frame count."""
        return copy_mp4(io.BytesIO(self.init + fragment.data), path, self._rate)

    def finish(self, path: str | Path) -> int:
        """Write everything so far as one MP4, index in front. Returns its frame count.

        More chunks may follow, and another `finish`: that is how a video is extended.

        Raises:
            ValueError: if there is no chunk yet, or the path cannot be used.
        """
        if not self.frame_count:
            raise ValueError(f"there are no frames to write to {Path(path).name}")
        self._file.seek(0)
        return copy_mp4(self._file, path, self._rate)

    def copy(self) -> "FragmentMuxer":
        """Another muxer that goes on from here: two videos with the same beginning."""
        twin = copy.copy(self)
        twin._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`)
        self._file.seek(0)
        shutil.copyfileobj(self._file, twin._file)
        return twin

    def close(self) -> None:
        """Delete the temporary file. Fragments already handed out stay valid."""
        self._file.close()

    def __enter__(self) -> "FragmentMuxer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _encode(self, clip: np.ndarray) -> tuple[bytes, bytes]:
        """The initialisation segment and the media fragment of one chunk."""
        buffer = io.BytesIO()
        options = {**_FRAGMENT, "fragment_index": str(self._chunk_count + 1)}
        with open_mp4(buffer, options, self._rate) as container:
            stream = add_h264(container, self._rate, *self._size, self._options)
            for index, frame in enumerate(clip, start=self.frame_count):
                container.mux(stream.encode(to_yuv(frame, index, self._rate)))
            container.mux(stream.encode())
        init, data = bytearray(), bytearray()
        for kind, box in _boxes(buffer.getvalue()):
            (init if kind in (b"ftyp", b"moov") else data).extend(box)
        return bytes(init), bytes(data)


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Top-level boxes, each with its type (ISO 14496-12, 4.2; sizes here fit 32 bits)."""
    position = 0
    while position < len(data):
        size = int.from_bytes(data[position : position + 4], "big")
        yield data[position + 4 : position + 8], data[position : position + size]
        position += size
