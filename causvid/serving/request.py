"""What a viewer asks for: every parameter of a run, with its type, default, range and sentence.

A field of `Request` is the one home of a parameter. The endpoints' signatures and descriptions, the
page's choices, the flags of `generate` and the manifest are made from it. This module loads no
torch, so that a command line can be made from it at once.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from annotated_types import Ge, Gt
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    PlainSerializer,
    Strict,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import ErrorDetails, from_json
from typing_extensions import Self

from causvid.generation.cues import ScheduleError
from causvid.generation.parameters import (
    DEFAULT_SECONDS,
    STRENGTH,
    Decoder,
    Mode,
    as_whole,
    parse_size,
)
from causvid.generation.prompts import PromptSchedule

if TYPE_CHECKING:
    from causvid.generation.stream import Stream
    from causvid.pipeline import CausVidPipeline, ImageInput, VideoInput

ENDLESS = "endless"  # how JSON says infinite


class Record(BaseModel):
    """Something that is written as JSON and read again. Unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=True)

    @classmethod
    def read(cls, source: Mapping[str, Any] | Path) -> Self:
        """From decoded JSON, or from a file.

        Raises:
            ValueError: a sentence; of a file, it names the file.
        """
        try:
            values = from_json(source.read_bytes()) if isinstance(source, Path) else source
            return cls.model_validate(values)
        except ValidationError as error:
            said = sentence(error, cls)
        except ValueError as error:
            said = f"it is no JSON: {error}"
        raise ValueError(f"{source.name}: {said}" if isinstance(source, Path) else said) from None


def _schedule(value: Any) -> Any:
    try:
        return value if isinstance(value, PromptSchedule) else PromptSchedule.parse(value)
    except TypeError as error:
        raise ScheduleError(str(error)) from None


def _object(required: list[str], **properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required}


Whole = Annotated[int, Strict(), BeforeValidator(as_whole)]
Positive = Annotated[int, Strict(), Gt(0), BeforeValidator(as_whole)]
Number = Annotated[float, Strict()]
Seconds = Annotated[
    float,
    Strict(),
    Gt(0),
    BeforeValidator(lambda value: math.inf if value == ENDLESS else value),
    PlainSerializer(lambda value: ENDLESS if value == math.inf else value, when_used="json"),
    WithJsonSchema({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"const": ENDLESS}]}),
]
Prompts = Annotated[
    InstanceOf[PromptSchedule],
    BeforeValidator(_schedule),
    PlainSerializer(PromptSchedule.to_dict, when_used="json"),
    WithJsonSchema(
        _object(
            ["cues"],
            version={"const": 1},
            cues={
                "type": "array",
                "minItems": 1,
                "items": _object(
                    ["start", "prompt"],
                    start={"type": "number", "minimum": 0, "description": "seconds"},
                    prompt={"type": "string"},
                    handover={"type": "string", "description": "swap, recache, flush or blend:N"},
                ),
            },
        )
    ),
]


class Request(Record):
    """Every parameter of a run; the same request on the same weights gives the same frames."""

    prompts: Prompts = Field(description="What to show, and from when on.")
    mode: Mode = Field("text", description="What the video starts from.")
    seconds: Seconds | None = Field(
        None,
        title="length",
        description=f"Length in seconds; by default {DEFAULT_SECONDS:g}, or the whole source of "
        "video-to-video.",
    )
    seed: Whole = Field(
        0,
        ge=0,
        lt=2**63,
        description="Of the noise: the same seed and parameters give the same video.",
    )
    strength: Annotated[Number, STRENGTH] = Field(
        0.7,
        description="How far to leave the source, above 0 (not at all) to 1 (ignore it).",
    )
    adaptive_strength: bool = Field(False, description="Less strength where the source moves fast.")
    height: Positive | None = Field(
        None, description="In pixels; by default that of the size the model was trained at."
    )
    width: Positive | None = Field(None, description="As height.")
    steps: Positive | None = Field(
        None,
        title="number of steps",
        description="Denoising steps per chunk; by default the model's own.",
    )
    window: Positive | None = Field(
        None,
        description="Latent frames that a chunk can see; by default the model's own.",
    )
    sink: Annotated[int, Strict(), Ge(0), BeforeValidator(as_whole)] | None = Field(
        None,
        description="Latent frames that are never forgotten; by default the model's own.",
    )
    decoder: Decoder = Field("full", description='"full", or the faster "tiny".')
    model: str = Field(
        description="Which weights: a name from `models`; by default the one for this mode."
    )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, pixels, of a checked request: others may leave them to the model."""
        assert self.height is not None and self.width is not None, "not checked"
        return self.height, self.width

    @model_validator(mode="before")
    @classmethod
    def _fill_length(cls, values: Any) -> Any:
        """Without a source to follow, a video has a length."""
        if not isinstance(values, Mapping) or values.get("mode") == "video":
            return values
        if values.get("seconds") is not None:
            return values
        return {**values, "seconds": DEFAULT_SECONDS}

    @classmethod
    def from_parameters(cls, values: Mapping[str, Any]) -> Self:
        """As `read`, from the parameters of a call, a page or a command line.

        There, `size` is WIDTHxHEIGHT, and a length of 0 means endless.
        """
        values = dict(values)
        values["height"], values["width"] = parse_size(values.pop("size", None)) or (None, None)
        length = values.get("seconds")
        if values.get("mode") != "video" and length == 0 and not isinstance(length, bool):
            values["seconds"] = math.inf
        return cls.read(values)

    def to_parameters(self) -> dict[str, Any]:
        """The inverse, without mode and prompts; of parameters that play a part."""
        values = self.model_dump(mode="json")
        names = [name for name in PARAMETERS if self.mode == "video" or name not in OF_VIDEO]
        size = None if self.height is None else f"{self.width}x{self.height}"
        return {"size": size} | {name: values[name] for name in names if name != "size"}

    def open(
        self,
        pipeline: "CausVidPipeline",
        *,
        image: "ImageInput | None" = None,
        video: "VideoInput | None" = None,
    ) -> "Stream":
        """The stream asked for.

        Raises:
            ValueError: if the input that the mode needs is missing, or a parameter does not fit.
        """
        given = {"text": image is None and video is None, "image": image, "video": video}
        if given[self.mode] is None or given[self.mode] is False:
            wanted = "neither image nor video" if self.mode == "text" else f"one {self.mode}"
            raise ValueError(f"{self.mode}-to-video takes {wanted}")
        names = set(type(self).model_fields) - {"model", "mode", "prompts"}
        options = {name: getattr(self, name) for name in names}
        return pipeline.stream(self.prompts, image=image, video=video, **options)


class Parameter(NamedTuple):
    """A parameter as callers know it.

    Attributes:
        sentence: what it means.
        schema: JSON schema of its values.
        default: `None` where the model, the source or the server decides.
    """

    name: str
    sentence: str
    schema: dict[str, Any]
    default: Any = None


def _parameters() -> Iterator[Parameter]:
    for name, schema in Request.model_json_schema()["properties"].items():
        if name == "height":
            size = "WIDTHxHEIGHT in pixels; by default the size the model was trained at."
            yield Parameter("size", size, {"type": "string"})
        elif name not in ("prompts", "mode", "width"):
            sentence, default = schema["description"], schema.get("default")
            while "anyOf" in schema:
                schema = schema["anyOf"][0]
            unsaid = ("title", "description", "default")
            values = {key: value for key, value in schema.items() if key not in unsaid}
            yield Parameter(name, sentence, values, default)


OF_VIDEO = ("strength", "adaptive_strength")
"""Parameters that play a part in video-to-video only."""

PARAMETERS = {parameter.name: parameter for parameter in _parameters()}
"""What callers may choose besides prompts and inputs: the fields of `Request`, a size for two."""


def checked(name: str, value: Any, kind: Any) -> Any:
    """`value` as the type `kind`, such as `Whole` or `Seconds`.

    Raises:
        ValueError: a sentence about `name`.
    """
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise ValueError(refusal(f"the {name}", error.errors()[0])) from None


def sentence(error: ValidationError, record: type[BaseModel]) -> str:
    """The first thing that is wrong with a record, in one sentence."""
    details = error.errors()
    named = record.__name__.lower()
    for kind, verb in (("extra_forbidden", "unknown"), ("missing", "missing")):
        if names := [_path(it["loc"]) for it in details if it["type"] == kind]:
            return f"{verb} {named} parameters: {', '.join(names)}"
    names = [it for it in details[0]["loc"] if isinstance(it, str)]
    field = record.model_fields.get(names[0]) if len(names) == 1 else None
    return refusal(f"the {field.title if field and field.title else _path(names)}", details[0])


def refusal(name: str, error: ErrorDetails) -> str:
    """One mistake as `NAME is VALUE; expected …`, or as its own sentence if it has one."""
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    value = error["input"]
    shown = "empty" if value is None or value == "" else f"{value!r:.40}"
    return f"{name} is {shown}; expected {_expected(error)}"


def _expected(error: ErrorDetails) -> str:
    limits = {
        "greater_than": "more than {gt:g}",
        "greater_than_equal": "{ge:g} or more",
        "less_than": "less than {lt}",
        "less_than_equal": "at most {le:g}",
        "literal_error": "{expected}",
    }
    kind = error["type"]
    if kind in limits:
        return limits[kind].format(**error["ctx"]).replace("'", "")
    if kind.startswith("int_"):
        return "a whole number"
    if kind.startswith(("float_", "finite_")):
        is_huge = isinstance(error["input"], int) and not isinstance(error["input"], bool)
        return "a smaller number" if is_huge else "a number"
    return {"bool": "1 or 0", "string": "a text"}.get(kind.partition("_")[0], error["msg"])


def _path(location: Iterable[int | str]) -> str:
    return ".".join(map(str, location)).replace("_", " ")
