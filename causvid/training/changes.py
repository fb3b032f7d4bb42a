"""Changes of frozen settings, from a recipe file or from options: names and types are checked.

A value is what JSON has, or its written form as in an option: `3,4,5` for a tuple, `7x6x4000` for a
phase, `none` for nothing.
"""

import re
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from functools import cache
from inspect import cleandoc
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

Settings = TypeVar("Settings")

hints = cache(get_type_hints)


def optional(hint: Any) -> Any:
    """`X` of `X | None`; any other type as it is."""
    if get_origin(hint) in (Union, types.UnionType):
        (hint,) = (arm for arm in get_args(hint) if arm is not type(None))
    return hint


def is_group(hint: Any) -> bool:
    """Whether a field has fields of its own; a dataclass with a written form is a value."""
    kind = optional(hint)
    return is_dataclass(kind) and not hasattr(kind, "parse")


@cache
def descriptions(kind: type) -> dict[str, str]:
    """Field → its text in the docstring's `Args:`, or in that of the class that has the field."""
    docs = [cleandoc(base.__doc__ or "") for base in reversed(kind.__mro__)]
    args = "\n\n".join(doc.partition("Args:\n")[2] for doc in docs)
    found = re.findall(r"^    (\w+): ((?:.|\n(?=     ))+)", args, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def changed(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """`settings` with some fields replaced, those of nested settings by nested mappings.

    Raises:
        ValueError: on unknown fields, or values of another type.
    """
    kind: Any = type(settings)
    _refuse_unknown(kind, changes)
    values = {}
    for name, value in changes.items():
        current, hint = getattr(settings, name), hints(kind)[name]
        if is_group(hint) and isinstance(value, Mapping) and current is not None:
            values[name] = changed(current, value)
        else:
            try:
                values[name] = read(hint, value)
            except ValueError as error:
                raise ValueError(f"{kind.__name__}.{name}: {error}") from None
    return replace(cast(Any, settings), **values)


def read(hint: Any, value: Any) -> Any:
    """`value` as the type `hint`.

    Raises:
        ValueError: if it is none.
    """
    try:
        return TypeAdapter(hint).validate_python(_parsed(hint, value))
    except ValidationError as error:
        said = error.errors()[0]["msg"]
        raise ValueError(f"{said[0].lower()}{said[1:]}, got {value!r}") from None


def _parsed(hint: Any, value: Any) -> Any:
    """`value`, but what types cannot read of written forms is read."""
    kind = optional(hint)
    if kind is not hint and value == "none":
        return None
    if get_origin(kind) is tuple:
        parts = value.split(",") if isinstance(value, str) else value
        listed = isinstance(parts, list | tuple)
        return [_parsed(get_args(kind)[0], part) for part in parts] if listed else parts
    if is_dataclass(kind) and isinstance(value, Mapping):
        _refuse_unknown(kind, value)
    return kind.parse(value) if isinstance(value, str) and hasattr(kind, "parse") else value


def _refuse_unknown(kind: Any, values: Mapping[str, Any]) -> None:
    names = [field.name for field in fields(kind)]
    unknown = sorted(values.keys() - set(names))
    if unknown:
        raise ValueError(
            f"{kind.__name__} has no setting {', '.join(unknown)}; it has {', '.join(names)}"
        )


def written(value: Any) -> str:
    """A value as an option takes it, `read`'s inverse."""
    if isinstance(value, tuple) and not hasattr(value, "parse"):
        return ",".join(map(written, value))
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
