"""What a client and the server say to each other over the socket, as records with a JSON schema.

A text message is one JSON object whose `type` names its record here. A binary message from the
server is a piece of fragmented MP4. One from the client is a piece of the picture or video that
`session.start` announced, or a picture of a live session: its time stamp, see `read_frame`, and a
JPEG, PNG or WebP file.
"""

import math
import struct
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import Field, TypeAdapter, WithJsonSchema, create_model
from pydantic_core import from_json

from causvid.generation.parameters import DEFAULT_SECONDS, STRENGTH
from causvid.serving.record import ChunkInfo, Manifest
from causvid.serving.request import PARAMETERS, Number, Parameter, Positive, Record

HANDOVER = "recache"
Id: TypeAlias = Annotated[str, Field(max_length=100)] | Annotated[int, Field(ge=0, lt=2**53)] | None
Ahead = Annotated[
    Annotated[Number, Field(gt=0)] | None,
    Field(
        description="seconds that the video may be ahead of `session.played`; null: as fast as it "
        "is made and read"
    ),
]
_NAME = "the client's own name for this message, which answers repeat"


class Update(Record):
    """Change the prompt, or how far the source is left, from the next chunk on."""

    type: Literal["session.prompt_update"] = "session.prompt_update"
    prompt: str | None = Field(None, description="What to show from now on.")
    handover: str = Field(HANDOVER, description="swap, recache, flush or blend:N")
    strength: Annotated[Number, STRENGTH] | None = Field(
        None, description="of a video or a camera, from now on; null: as before"
    )
    adaptive_strength: bool | None = Field(None, description="likewise")
    id: Id = Field(None, description=_NAME)


class Played(Record):
    """How far the client is: the video is made no further than `ahead` seconds past this."""

    type: Literal["session.played"] = "session.played"
    seconds: Number = Field(ge=0, description="of the video, from its beginning")


class Stop(Record):
    """End the run soon; what was made stays, and `session.done` tells of it."""

    type: Literal["session.stop"] = "session.stop"
    id: Id = Field(None, description=_NAME)


class Snapshot(Record):
    """Keep the state before the next chunk, while the run goes on: `session.extend` goes on from
    there, too. Of a connection, the newest four are kept."""

    type: Literal["session.snapshot"] = "session.snapshot"
    id: Id = Field(None, description=_NAME)


class Extend(Record):
    """Go on from where a run ended. It can be done more than once: from one run, many branches."""

    type: Literal["session.extend"] = "session.extend"
    run: str | None = Field(None, description="its id; by default the last of this connection")
    seconds: Number = Field(DEFAULT_SECONDS, gt=0, description="how much longer")
    prompt: str | None = Field(None, description="another prompt from here on")
    handover: str = Field(HANDOVER, description="swap, recache, flush or blend:N")
    ahead: Ahead = None
    id: Id = Field(None, description=_NAME)


def _field(parameter: Parameter) -> Any:
    """A parameter of `Request`, which is validated there."""
    schema = parameter.schema
    if parameter.default is None:
        schema = {"anyOf": [schema, {"type": "null"}]}
    return (
        Annotated[Any, WithJsonSchema(schema)],
        Field(parameter.default, description=parameter.sentence),
    )


class _Start(Record):
    type: Literal["session.start"] = "session.start"
    mode: Literal["text", "image", "video", "live"] = Field(
        "text", description="what the video starts from; live: pictures that come meanwhile"
    )
    prompt: str | None = Field(None, description="What to show.")
    schedule: str | dict[str, Any] | list[Any] | None = Field(
        None, description="timed prompts in place of the prompt: lines, or the JSON form"
    )
    input_bytes: Positive | None = Field(
        None,
        description="size of the picture or video file, which follows in binary messages",
    )
    ahead: Ahead = None
    id: Id = Field(None, description=_NAME)


_PARAMETERS = {
    **PARAMETERS,
    "seconds": PARAMETERS["seconds"]._replace(
        sentence="Length in seconds, 0 for endless, up to the server's limit; by default "
        f"{DEFAULT_SECONDS:g}, the whole source, or of a camera endless.",
        schema={"type": "number", "minimum": 0},
    ),
}
Start: Any = create_model(
    "Start",
    __base__=_Start,
    __doc__="Make a video. The parameters are those of the endpoints.",
    **{name: _field(parameter) for name, parameter in _PARAMETERS.items()},
)

FromClient = Annotated[
    Start | Update | Played | Snapshot | Stop | Extend,
    Field(discriminator="type"),
]


class Started(Record):
    """A run was accepted, and waits for its place or begins."""

    type: Literal["session.started"] = "session.started"
    run: str = Field(description="its id, to extend it by, on other connections, too")
    mode: str
    model: str
    id: Id = Field(None, description="of the message that asked for it")


class Queued(Record):
    """The run waits."""

    type: Literal["session.queued"] = "session.queued"
    run: str
    place: int = Field(description="1 is the next")


class VideoStart(Record):
    """What the binary messages from now on are."""

    type: Literal["video.start"] = "video.start"
    run: str
    mime: str = Field(description="for MediaSource.isTypeSupported and addSourceBuffer")
    codec: str = Field(description="the exact profile and level, such as avc1.42c00d")
    width: int
    height: int
    fps: int
    seconds: float | None = Field(description="length that the video is to have; null: unknown")
    continues: str | None = Field(None, description="the run that this one goes on from")
    init: bool = Field(
        description="whether an initialisation segment is the next binary message. False: the "
        "fragments go on from those that this connection has had."
    )


class VideoChunk(Record):
    """The next binary message is the media fragment of this chunk."""

    type: Literal["video.chunk"] = "video.chunk"
    info: ChunkInfo
    size: int = Field(description="bytes of the fragment")


class _Change(Record):
    run: str
    change: int = Field(description="its number in the run, from 1")
    prompt: str | None
    handover: str | None
    strength: float | None
    adaptive_strength: bool | None
    id: Id = Field(None, description="of the message that asked for it")


class PromptReceived(_Change):
    """A `session.prompt_update` has arrived, and will be in force from some chunk on."""

    type: Literal["prompt.received"] = "prompt.received"


class PromptInForce(_Change):
    """The next chunk is the first that is made under a change.

    Its info says so, too (`change`), and so do the manifest's chunks.
    """

    type: Literal["prompt.in_force"] = "prompt.in_force"
    chunk: int = Field(description="number of that chunk")
    seconds: float = Field(description="when it begins in the video")


class PromptReplaced(_Change):
    """A change will never be in force, as newer ones took its place."""

    type: Literal["prompt.replaced"] = "prompt.replaced"
    by: int | None = Field(description="number of the newer one; null: the run ended first")


class SnapshotKept(Record):
    """The answer to `session.snapshot`."""

    type: Literal["snapshot.kept"] = "snapshot.kept"
    run: str
    snapshot: str = Field(description="the id to name as the `run` of `session.extend`")
    chunk: int = Field(description="number of the chunk that comes next there")
    seconds: float = Field(description="length of the video up to there")
    id: Id = Field(None, description="of the message that asked for it")


class Done(Record):
    """A session that was begun is over; another one may begin."""

    type: Literal["session.done"] = "session.done"
    run: str | None = Field(description="null: it was over before there was a run")
    manifest: Manifest | None = Field(description="null: nothing was made")
    extendable: bool = Field(description="whether `session.extend` can go on from it")


Code = Literal[
    "invalid_message",
    "invalid_request",
    "invalid_frame",
    "unexpected_message",
    "too_large",
    "no_room",
    "failed",
]


class Error(Record):
    """What was asked for is not done. It ends nothing but what it answers."""

    type: Literal["error"] = "error"
    code: Code = Field(
        description="`invalid_message`: it could not be read; `invalid_request`: it is beyond a "
        "limit, or does not fit; `invalid_frame`: a live picture was left out; "
        "`unexpected_message`: not now; `too_large`; `no_room`: on the server's disk; `failed`: "
        "something broke here"
    )
    message: str = Field(description="what came, what was expected, what to do")
    of: str | None = Field(None, description="the type of the message that it answers")
    id: Id = None


FromServer = Annotated[
    Started
    | Queued
    | VideoStart
    | VideoChunk
    | PromptReceived
    | PromptInForce
    | PromptReplaced
    | SnapshotKept
    | Done
    | Error,
    Field(discriminator="type"),
]

_KINDS: dict[str, type[Record]] = {
    kind.model_fields["type"].default: kind for kind in get_args(get_args(FromClient)[0])
}


class Misread(ValueError):
    """A message that cannot be read.

    Attributes:
        of, id: its type and the client's name for it, as far as they could be read.
    """

    def __init__(self, sentence: str, of: str | None = None, id: Any = None):
        super().__init__(sentence)
        self.of, self.id = of, id


def read(text: str) -> Any:
    """The record of a text message.

    Raises:
        Misread: says what came and what was expected.
    """
    try:
        values = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise Misread(f"the message is no JSON: {error!s:.100}") from None
    if not isinstance(values, dict):
        raise Misread(f"the message is a {type(values).__name__}; expected a JSON object")
    of = values.get("type")
    if not isinstance(of, str) or of not in _KINDS:
        raise Misread(f"the type is {of!r:.60}; expected one of {', '.join(_KINDS)}")
    try:
        return _KINDS[of].read(values)
    except ValueError as error:
        name = values.get("id")
        is_name = isinstance(name, int | str) and TypeAdapter(Id).validator.isinstance_python(name)
        raise Misread(str(error), of, name if is_name else None) from None


_STAMP = struct.Struct(">d")


def write_frame(time: float, picture: bytes) -> bytes:
    """A binary message of a live session: the time stamp, seconds on the client's own clock, as a
    big-endian float64, and after it the file."""
    return _STAMP.pack(time) + picture


def read_frame(message: bytes) -> tuple[float, bytes]:
    """The inverse.

    Raises:
        ValueError: if there is no usable time stamp.
    """
    if len(message) <= _STAMP.size:
        raise ValueError(
            f"the message has {len(message)} bytes; expected a time stamp of {_STAMP.size} and a "
            "picture"
        )
    (time,) = _STAMP.unpack_from(message)
    if not math.isfinite(time):
        raise ValueError(f"the time stamp is {time}; expected seconds as a big-endian float64")
    return time, message[_STAMP.size :]


def schemas() -> dict[str, dict[str, Any]]:
    """JSON schema of what a client may say, and of what the server says."""
    return {
        "client": TypeAdapter(FromClient).json_schema(),
        "server": TypeAdapter(FromServer).json_schema(mode="serialization"),
    }
