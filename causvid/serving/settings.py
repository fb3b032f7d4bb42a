"""How a server is set up: environment variables, each checked, in one frozen dataclass.

Variables are called `CAUSVID_` and the field's name in capitals, but for `HF_TOKEN`, which other
programs read, too; `variables()` lists them with their defaults, which is the table in the README.
A value that cannot be used stops the start with one sentence. This module does not load models; it
chooses the device they will be loaded to.
"""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from causvid.presets.execution import Execution, ExecutionError, Quantisation
from causvid.presets.preset import Preset, PresetError
from causvid.presets.registry import FILE, default_preset, get_preset

PREFIX = "CAUSVID_"
TOKEN = "HF_TOKEN"
CLIENT = "CAUSVID_SERVER"  # tells the client scripts in `examples/` where to go; not for us

_OF_EXECUTION = {item.name: item for item in dataclasses.fields(Execution)}
_ABOVE_ZERO = (
    "max_seconds",
    "max_pixels",
    "max_work",
    "max_prompt",
    "max_cues",
    "upload_mb",
    "upload_pixels",
    "viewers",
    "lead",
    "keep_minutes",
    "gpu_seconds",
)
_YES, _NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off", "")


class SettingsError(ValueError):
    """A variable that cannot be used; the message names it, what it holds and what it may hold."""


def _documented(default: Any, text: str, **more: Any) -> Any:
    return field(default=default, metadata={"help": text}, **more)


def _of_execution(name: str) -> Any:
    item = _OF_EXECUTION[name]
    return _documented(item.default, item.metadata["help"])


@dataclass(frozen=True)
class Settings:
    """Everything that an operator may decide. The defaults serve the pocket model on a CPU.

    Attributes:
        model, models: once set up, the names of `presets`, by which visitors choose.
        presets: the models offered, whatever they were named by.
    """

    model: str = _documented("", "offered first: a preset, folder or Hub id; by default what suits")
    models: tuple[str, ...] = _documented((), "all that are offered, comma-separated")
    device: str = _of_execution("device")
    dtype: str = _of_execution("dtype")
    attention: str = _of_execution("attention")
    compile: bool = _of_execution("compile")
    quantise: Quantisation = _of_execution("quantise")  # noqa: RUF009 (a field)
    tiny_decoder: bool = _documented(True, "also load the small decoder where a model has one")
    text_encoder_device: str = _of_execution("text_encoder_device")
    max_seconds: float = _documented(60.0, "longest video that can be asked for")
    endless_seconds: float = _documented(600.0, "where an endless run stops; 0 turns them off")
    max_pixels: int = _documented(832 * 480, "largest generated picture, width × height")
    max_work: float = _documented(60.0 * 832 * 480, "largest seconds × width × height of a run")
    max_prompt: int = _documented(1000, "longest prompt, characters")
    max_cues: int = _documented(100, "longest schedule, cues")
    upload_mb: int = _documented(100, "largest uploaded file, megabytes")
    upload_pixels: int = _documented(50_000_000, "largest uploaded picture or video frame")
    viewers: int = _documented(4, "runs that share the device, chunk by chunk")
    waiting: int = _documented(20, "runs that may wait for a place")
    lead: float = _documented(4.0, "seconds that a watched video is made ahead of playback")
    keep_minutes: float = _documented(15.0, "how long a finished run can be extended")
    snapshot_mb: int = _documented(16384, "room for what extending runs needs, megabytes")
    gpu_seconds: int = _documented(60, "ZeroGPU: longest time asked for at once")
    mcp: bool = _documented(False, "also serve the endpoints as MCP tools")
    log_prompts: bool = _documented(False, "write prompts to the log")
    token: str = _documented("", "Hugging Face token, for gated or private weights", repr=False)
    presets: tuple[Preset, ...] = field(default=(), init=False, repr=False)

    def __post_init__(self):
        try:
            object.__setattr__(self, "device", self.execution.resolved().device)
        except ExecutionError as error:
            _check(error.name, error.value, False, error.expected)
        if not self.model:
            chosen = self.models[0] if self.models else default_preset(self.device).name
            object.__setattr__(self, "model", chosen)
        offered = dict.fromkeys([("model", self.model), *(("models", it) for it in self.models)])
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
        object.__setattr__(self, "presets", tuple(presets.values()))
        object.__setattr__(self, "models", tuple(presets))
        object.__setattr__(self, "model", next(iter(presets)))
        if not (self.token.isascii() and self.token.isprintable() and " " not in self.token):
            raise SettingsError(f"{_variable('token')} is no token; expected hf_ and letters")
        for name in ("endless_seconds", "waiting", "snapshot_mb"):
            value = getattr(self, name)
            _check(name, value, value >= 0, "0 or more")
        for name in _ABOVE_ZERO:
            value = getattr(self, name)
            _check(name, value, 0 < value < float("inf"), "a number above 0")

    @property
    def execution(self) -> Execution:
        """How models are computed."""
        return Execution(**{name: getattr(self, name) for name in _OF_EXECUTION})

    @property
    def longest(self) -> float:
        """Seconds that a video can reach by any means."""
        return max(self.max_seconds, self.endless_seconds)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """
        Raises:
            SettingsError: names the variable, what it holds and what it may hold.
        """
        fields = {_variable(f.name): f for f in dataclasses.fields(cls) if f.init}
        given = {
            name: text
            for name, text in environment.items()
            if (name.startswith(PREFIX) and name not in (CLIENT, FILE)) or name == TOKEN
        }
        for name in given:
            if name not in fields:
                raise SettingsError(f"{name} is no setting; there are {', '.join(fields)}")
        values = {
            fields[name].name: _read(name, text, fields[name]) for name, text in given.items()
        }
        return cls(**values)


def variables() -> list[tuple[str, str, str]]:
    """Name, default and meaning of every variable, for documentation."""
    rows = []
    for setting in dataclasses.fields(Settings):
        if not setting.init:
            continue
        default = setting.default
        if isinstance(default, bool):
            default = int(default)
        elif isinstance(default, float):
            default = f"{default:.10g}"
        rows.append((_variable(setting.name), str(default or ""), setting.metadata["help"]))
    return rows


def _variable(name: str) -> str:
    return TOKEN if name == "token" else PREFIX + name.upper()


def _read(name: str, text: str, setting: dataclasses.Field) -> Any:
    text = text.strip()
    default = setting.default
    if isinstance(default, bool):
        if text.lower() not in (*_YES, *_NO):
            raise SettingsError(f"{name} is {text!r}; expected 1 or 0")
        return text.lower() in _YES
    if isinstance(default, tuple):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if isinstance(default, int | float):
        try:
            return type(default)(text)
        except ValueError:
            kind = "a whole number" if isinstance(default, int) else "a number"
            raise SettingsError(f"{name} is {text!r}; expected {kind}") from None
    return text


def _check(name: str, value: Any, passed: bool, expected: str) -> None:
    if not passed:
        raise SettingsError(f"{_variable(name)} is {value!r}; expected {expected}")
