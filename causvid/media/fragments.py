"""Chunks of video that play while the next is being made: fragmented MP4 (ISO 14496-12).

`FragmentMuxer` encodes every chunk by itself, as one key frame and what depends on it, into one
media fragment. A player (MediaSource in a browser) takes the initialisation segment once and then
the fragments; so does a file: the segment and all fragments, one after the other, are a valid
video. The finished MP4 is the fragments copied, not encoded again.

Each chunk gets an encoder of its own, so a fragment depends on nothing but its frames and their
position, and equal chunks are equal bytes. What has been made is kept in a temporary file; memory
does not grow.
"""

import contextlib
import copy
import io
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from causvid.media.clock import Rate, as_rate
from causvid.media.place import NoRoomError, lacks_room
from causvid.media.writer import add_h264, as_clip, boxes, copy_mp4, open_mp4, to_yuv

# One fragment per container, and its decode time is that of its first frame. Without an edit list
# and shifting, the muxer takes that time from the frame instead of beginning at 0.
_FRAGMENT = {
    "movflags": "empty_moov+default_base_moof+frag_keyframe+frag_discont+skip_trailer",
    "use_editlist": "0",
    "avoid_negative_ts": "disabled",
}
# Ceiling of the bit rate, reached by noise but not by pictures: 3.2 Mbit/s at 480x832, 16 fps.
_BITS_PER_PIXEL = 0.5

WithRoom = Callable[[Callable[[], Any]], Any]
"""Does what it is given, and returns what that returns."""


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
        kept_count: those of them that `finish` can write: fewer, once the disk was full.
    """

    def __init__(
        self,
        fps: Rate,
        height: int,
        width: int,
        *,
        crf: int = 21,
        begin: int = 0,
        with_room: WithRoom = lambda act: act(),
    ):
        """Open the temporary file, and encode one black frame to learn `init`.

        Args:
            crf: x264's constant quality, 0 (best) to 51.
            begin: frames that the player has already, from elsewhere.
            with_room: does what it is given, after making room on the disk if there is none.

        Raises:
            ValueError: if the rate or the size cannot be used.
            NoRoomError: if the disk is full.
        """
        if height < 2 or width < 2:
            raise ValueError(f"picture size is {width}x{height}; expected at least 2x2")
        self.frame_count = self.kept_count = begin
        self._with_room = with_room
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
        self._file = _temporary_file()
        try:
            with_room(lambda: self._keep(self.init))
        except BaseException:
            self.close()
            raise

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return os.fstat(self._file.fileno()).st_size

    def append(self, frames: np.ndarray) -> Fragment:
        """Encode one chunk, uint8 `[t, h, w, 3]`.

        On a full disk it is still encoded; the video that `finish` writes ends before it.

        Raises:
            ValueError: if there is no frame, or they are of another size or type.
        """
        clip = as_clip(frames, self._size)
        if not len(clip):
            raise ValueError("got a chunk without frames; expected at least one")
        init, data = self._encode(clip)
        assert init == self.init, "the encoder's parameters changed between chunks"
        fragment = Fragment(self._chunk_count, self.frame_count, len(clip), data)
        if self.kept_count == self.frame_count:
            with contextlib.suppress(NoRoomError):
                self._with_room(lambda: self._keep(data))
                self.kept_count += len(clip)
        self._chunk_count += 1
        self.frame_count += len(clip)
        return fragment

    def save_chunk(self, fragment: Fragment, path: str | Path) -> int:
        """Write one fragment as an MP4 that plays by itself, from 0 s. Returns its frame count.

        Raises:
            NoRoomError: if the disk is full.
        """
        data = io.BytesIO(self.init + fragment.data)
        return self._with_room(lambda: copy_mp4(data, path, self._rate))

    def finish(self, path: str | Path) -> int:
        """Write everything so far as one MP4, index in front. Returns its frame count.

        More chunks may follow, and another `finish`: that is how a video is extended. Where there
        is no room for the file, it is another name of the temporary one, which plays, too.

        Raises:
            ValueError: if there is no chunk yet, or the path cannot be used.
            NoRoomError: if the disk is full.
        """
        if not self.kept_count:
            raise ValueError(f"there are no frames to write to {Path(path).name}")
        self._file.seek(0)
        try:
            return self._with_room(lambda: copy_mp4(self._file, path, self._rate))
        except NoRoomError:
            try:
                os.link(self._file.name, path)
            except OSError:  # another disk, or one that has no links
                raise NoRoomError(f"there is no room left for {Path(path).name}") from None
            return self.kept_count

    def copy(self) -> "FragmentMuxer":
        """Another muxer that goes on from here: two videos with the same beginning.

        Raises:
            NoRoomError: if the disk is full.
        """
        twin = copy.copy(self)
        twin._file = _temporary_file()

        def fill() -> None:
            self._file.seek(0)
            twin._file.truncate(0)
            while part := self._file.read(1 << 20):
                twin._keep(part)

        try:
            self._with_room(fill)
        except BaseException:
            twin.close()
            raise
        return twin

    def close(self) -> None:
        """Delete the temporary file. Fragments already handed out stay valid."""
        self._file.close()

    def __enter__(self) -> "FragmentMuxer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _keep(self, data: bytes) -> None:
        """Write all of it at the end of the file, or nothing."""
        end = self._file.seek(0, io.SEEK_END)
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self._file.truncate(end)
            if lacks_room(error):
                raise NoRoomError("there is no room left for the video") from None
            raise

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
        encoded = buffer.getvalue()
        for kind, begin, end in boxes(buffer):
            (init if kind in (b"ftyp", b"moov") else data).extend(encoded[begin:end])
        return bytes(init), bytes(data)


def _temporary_file() -> Any:
    """One with a name, so that it can become the result, and without a buffer that may not fit."""
    return tempfile.NamedTemporaryFile(prefix="causvid-", suffix=".mp4", buffering=0)
