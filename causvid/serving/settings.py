"""How a server is set up: environment variables, each checked, in one frozen record.

Variables are called `CAUSVID_` and the field's name in capitals, but for `HF_TOKEN`, which other
programs read, too; `variables()` lists them with their defaults, which is the table in
`docs/settings.md`. A value that cannot be used stops the start with one sentence. This module does
not load models; it chooses the device they will be loaded to.
"""

import dataclasses
import difflib
import math
import os
from collections.abc import Mapping
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from typing_extensions import Self

from causvid.generation.parameters import Mode
from causvid.presets.execution import Execution, ExecutionError
from causvid.presets.preset import Preset, PresetError
from causvid.presets.registry import FILE, default_preset, get_preset
from causvid.serving.request import refusal

PREFIX = "CAUSVID_"
TOKEN = "HF_TOKEN"
CLIENT = "CAUSVID_SERVER"  # tells the client scripts in `examples/` where to go; not for us

_OF_EXECUTION = {item.name: item for item in dataclasses.fields(Execution)}


class SettingsError(ValueError):
    """A variable that cannot be used; the message names it, what it holds and what it may hold."""


def _setting(default: Any, text: str, **limits: Any) -> Any:
    return Field(default, description=text, **limits)


def _of_execution(name: str) -> Any:
    item = _OF_EXECUTION[name]
    return _setting(item.default, item.metadata["help"])


def _split(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _checked_token(token: str) -> str:
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise ValueError(f"{TOKEN} is no token; expected hf_ and letters")
    return token


Names = Annotated[tuple[str, ...], BeforeValidator(_split)]
Token = Annotated[str, AfterValidator(_checked_token)]
Switch = Annotated[bool, BeforeValidator(lambda value: False if value == "" else value)]


class Settings(BaseModel):
    """Everything that an operator may decide. The defaults serve the pocket model on a CPU.

    `model` and `models` become the names of `presets`, by which visitors choose.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True
    )

    model: str = _setting("", "offered first: a preset, folder or Hub id; by default what suits")
    models: Names = _setting((), "all that are offered, comma-separated")
    device: str = _of_execution("device")
    dtype: str = _of_execution("dtype")
    attention: str = _of_execution("attention")
    compile: Switch = _of_execution("compile")
    quantise: str = _of_execution("quantise")
    tiny_decoder: Switch = _setting(True, "also load the small decoder where a model has one")
    text_encoder_device: str = _of_execution("text_encoder_device")
    max_seconds: float = _setting(60.0, "longest video that can be asked for", gt=0)
    endless_seconds: float = _setting(
        600.0, "where an endless run stops; 0 turns them off", ge=0, allow_inf_nan=True
    )
    max_pixels: int = _setting(832 * 480, "largest generated picture, width × height", gt=0)
    max_work: float = _setting(60.0 * 832 * 480, "largest seconds × width × height of a run", gt=0)
    max_prompt: int = _setting(1000, "longest prompt, characters", gt=0)
    max_cues: int = _setting(100, "longest schedule, cues", gt=0)
    upload_mb: int = _setting(100, "largest uploaded file, megabytes", gt=0)
    upload_pixels: int = _setting(50_000_000, "largest uploaded picture or video frame", gt=0)
    viewers: int = _setting(4, "runs that share the device, chunk by chunk", gt=0)
    waiting: int = _setting(20, "runs that may wait for a place", ge=0)
    lead: float = _setting(4.0, "seconds that a watched video is made ahead of playback", gt=0)
    client_runs: int = _setting(
        0, "runs of one client, in the making and waiting; 0: three quarters of either", ge=0
    )
    uploads_mb: int = _setting(4000, "uploads of all clients that are kept, megabytes", gt=0)
    client_uploads_mb: int = _setting(500, "uploads of one client, megabytes", gt=0)
    proxies: int = _setting(
        0, "proxies before the server whose x-forwarded-for is believed; one on a Space", ge=0
    )
    connections: int = _setting(2000, "connections that browsers and clients may have open", gt=0)
    lost_seconds: float = _setting(
        30.0, "how long a run waits for its page after the connection was lost", ge=0
    )
    keep_minutes: float = _setting(15.0, "how long a finished run can be extended", gt=0)
    snapshot_mb: int = _setting(16384, "room for what extending runs needs, megabytes", ge=0)
    gpu_seconds: int = _setting(60, "ZeroGPU: longest time asked for at once", gt=0)
    mcp: Switch = _setting(False, "also serve the endpoints as MCP tools")
    log_prompts: Switch = _setting(False, "write prompts to the log")
    token: Token = _setting("", "Hugging Face token, for gated or private weights", repr=False)
    _presets: dict[str, Preset] = {}
    _defaults: dict[Mode, str] = {}

    def __init__(self, **values: Any):
        """
        Raises:
            SettingsError: names the variable, what it holds and what it may hold.
        """
        try:
            super().__init__(**values)
        except ValidationError as error:
            first = error.errors()[0]
            name = _variable(str(first["loc"][0]))
            raise SettingsError(refusal(name, first)) from None
        try:
            how = self.execution.resolved()
        except ExecutionError as error:
            name = _variable(error.name)
            raise SettingsError(f"{name} is {error.value!r}; expected {error.expected}") from None
        asked = [("model", self.model)] if self.model else []
        asked += [("models", it) for it in self.models]
        defaults = {mode: default_preset(how.device, mode).name for mode in get_args(Mode)}
        offered = dict.fromkeys(asked or [("model", name) for name in defaults.values()])
        presets: dict[str, Preset] = {}
        for variable, model in offered:
            try:
                preset = get_preset(model, self.token or None)
            except PresetError as error:
                raise SettingsError(f"{_variable(variable)}: {error}") from None
            if presets.setdefault(preset.name, preset) != preset:
                raise SettingsError(
                    f"{_variable(variable)} is {model!r}, but another model is called "
                    f"{preset.name!r}, too: rename the folder"
                )
        self._presets = presets
        self._defaults = {} if asked else defaults
        found = {"device": how.device, "models": tuple(presets), "model": next(iter(presets))}
        for name, value in found.items():
            object.__setattr__(self, name, value)

    @property
    def presets(self) -> dict[str, Preset]:
        """The models offered by name, whatever they were asked for by."""
        return self._presets

    def model_for(self, mode: Mode) -> str:
        """The model that is taken unless another is named: the device's default for the mode, or,
        where models were asked for, the first of them that can."""
        able = (name for name, preset in self._presets.items() if mode in preset.modes)
        return self._defaults.get(mode) or next(able, self.model)

    @property
    def execution(self) -> Execution:
        """How models are computed."""
        return Execution(**{name: getattr(self, name) for name in _OF_EXECUTION})

    @property
    def runs_of_one(self) -> int:
        """Runs that one client may have in the making and waiting."""
        return self.client_runs or max(1, 3 * (self.viewers + self.waiting) // 4)

    @property
    def places_of_one(self) -> int:
        """Runs of one client that share the device at a time; with few places, all of them."""
        return min(self.viewers, self.client_runs or math.ceil(3 * self.viewers / 4))

    @property
    def longest(self) -> float:
        """Seconds that a video can reach by any means."""
        return max(self.max_seconds, self.endless_seconds)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """
        Raises:
            SettingsError: names the variable, what it holds and what it may hold.
        """
        fields = {_variable(name): name for name in cls.model_fields}
        values = {}
        for variable, text in environment.items():
            if variable in fields:
                values[fields[variable]] = text.strip()
            elif variable.startswith(PREFIX) and variable not in (CLIENT, FILE):
                near = difflib.get_close_matches(variable, fields, n=1, cutoff=0.8)
                help_ = f"did you mean {near[0]}?" if near else f"there are {', '.join(fields)}"
                raise SettingsError(f"{variable} is no setting; {help_}")
        return cls(**values)


def variables() -> list[tuple[str, str, str]]:
    """Name, default and meaning of every variable, for documentation."""
    rows = []
    for name, setting in Settings.model_fields.items():
        default = setting.default
        if isinstance(default, bool):
            default = int(default)
        elif isinstance(default, float):
            default = f"{default:.10g}"
        rows.append((_variable(name), str(default or ""), setting.description or ""))
    return rows


def _variable(name: str) -> str:
    return TOKEN if name == "token" else PREFIX + name.upper()
