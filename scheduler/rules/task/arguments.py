"""Whether the arguments of a schedule, or of a person who asks, fit a task function; and as what they are handed to it.

Values come as plain data (text, numbers, lists, mappings); what the function's hints ask for is made of them: a Path
of text, a date, a dataclass, a duration such as "5m".
"""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import inspect
import pathlib
import types
import typing
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    ConfigDict,
    PydanticSchemaGenerationError,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
)

from scheduler.rules.complaints import Complaint, did_you_mean, in_words, nearest, place_in, shown
from scheduler.rules.times.durations import parse_duration

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class ArgumentProblem:
    """One thing wrong with the arguments; `argument` is None when one is missing."""

    argument: str | None
    message: str
    hint: str = ""
    path: Path = ()  # inside the argument's value
    unknown: bool = False  # the function has no such argument


class BadArguments(Complaint):
    """The arguments do not fit the task function."""

    def __init__(self, problems: Sequence[ArgumentProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(problem.message for problem in problems), problems[0].hint, code="bad-argument")


def check_arguments(function: Callable[..., Any], args: Mapping[str, Any]) -> list[ArgumentProblem]:
    """All that is wrong with `args` as the keyword arguments of `function`."""
    return _parameters_of(function).read(args)[1]


def bind_arguments(function: Callable[..., Any], args: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments to call `function` with, made into what its hints ask for; defaults are left to it.

    Raises BadArguments, a ValueError.
    """
    values, problems = _parameters_of(function).read(args)
    if problems:
        raise BadArguments(problems)
    return values


# --- one function's parameters --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Parameter:
    name: str
    hint: Any
    required: bool
    by_name: bool  # False: it can be given by position alone

    @cached_property
    def adapter(self) -> TypeAdapter[Any] | None:
        """None for a hint of which nothing can be known."""
        hint = _with_durations(self.hint)
        # second try: with a class of the author's own only an instance will do, and plain data holds none
        for config in (None, ConfigDict(arbitrary_types_allowed=True)):
            try:
                return TypeAdapter(hint, config=config)
            except PydanticSchemaGenerationError:
                continue
            except (PydanticUserError, TypeError, NameError):
                break
        return None

    def read(self, value: Any) -> Any:
        return value if self.adapter is None else self.adapter.validate_python(value)


class _Parameters:
    def __init__(self, function: Callable[..., Any]) -> None:
        hints = hints_of(function)
        signature = inspect.signature(function)
        kinds = inspect.Parameter
        self.takes_any = any(p.kind is kinds.VAR_KEYWORD for p in signature.parameters.values())
        self.named = {
            p.name: _Parameter(
                p.name, hints.get(p.name, Any), p.default is kinds.empty, p.kind is not kinds.POSITIONAL_ONLY
            )
            for p in signature.parameters.values()
            if p.kind not in (kinds.VAR_KEYWORD, kinds.VAR_POSITIONAL)
        }

    def read(self, args: Mapping[str, Any]) -> tuple[dict[str, Any], list[ArgumentProblem]]:
        values: dict[str, Any] = {}
        problems: list[ArgumentProblem] = []
        for name, value in args.items():
            parameter = self.named.get(name)
            if parameter is None or not parameter.by_name:
                if self.takes_any:
                    values[name] = value
                else:
                    problems.append(self._unknown(name))
                continue
            try:
                values[name] = parameter.read(value)
            except ValidationError as error:
                problems.append(_misfit(parameter, value, error))
            except (RecursionError, TypeError, AttributeError) as error:  # a validator of the hint itself broke
                message = f'"{name}": {shown(value)} cannot be read: {type(error).__name__}: {error}'
                problems.append(ArgumentProblem(name, message))
        for parameter in self.named.values():
            if parameter.required and parameter.name not in args:
                wanted = describe(parameter.hint)
                hint = f"Add it under args: {wanted}." if wanted else "Add it under args."
                if not parameter.by_name:
                    hint = "It can be given by position alone, so no schedule can give it; change the function."
                problems.append(ArgumentProblem(None, f'the argument "{parameter.name}" is missing', hint))
        return values, problems

    def _unknown(self, name: str) -> ArgumentProblem:
        known = [parameter.name for parameter in self.named.values() if parameter.by_name]
        message = f"there is no argument {shown(name)}{did_you_mean(name, known)}"
        hint = f"It takes {in_words(known, 'and')}." if known else "It takes no arguments."
        return ArgumentProblem(name, message, "" if nearest(name, known) else hint, unknown=True)


@lru_cache(maxsize=1024)
def _parameters_of(function: Callable[..., Any]) -> _Parameters:
    return _Parameters(function)


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Its type hints; of those that name what is not there at run time, nothing is asked."""
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception:  # a hint is any expression, and may fail in any way
        plain = getattr(function, "__annotations__", {})
        return {name: hint for name, hint in plain.items() if not isinstance(hint, str)}


def _with_durations(hint: Any) -> Any:
    """A timedelta is written as everywhere in the file."""
    if hint is dt.timedelta:
        return Annotated[dt.timedelta, BeforeValidator(_duration)]
    arms = typing.get_args(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType) and dt.timedelta in arms:
        return typing.Union[tuple(_with_durations(arm) for arm in arms)]  # noqa: UP007  # made at run time
    return hint


def _duration(value: Any) -> Any:
    return value if isinstance(value, dt.timedelta) else parse_duration(value, zero=True)


# --- in words -------------------------------------------------------------------------------------------------------

_WORDS: dict[Any, tuple[str, str]] = {
    str: ("text", "texts"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    decimal.Decimal: ("a number", "numbers"),
    bool: ("true or false", "true or false"),
    bytes: ("text", "texts"),
    dt.date: ("a day such as 2026-12-25", "days"),
    dt.datetime: ("a moment such as 2026-12-05T23:00", "moments"),
    dt.time: ("a time of day", "times of day"),
    dt.timedelta: ("a duration such as 5m", "durations"),
    uuid.UUID: ("a UUID", "UUIDs"),
    dict: ("a mapping", "mappings"),
    list: ("a list", "lists"),
    tuple: ("a list", "lists"),
    set: ("a list", "lists"),
    frozenset: ("a list", "lists"),
    type(None): ("nothing", "nothing"),
}
_LISTS = (list, tuple, set, frozenset, Sequence, Iterable, Set)


def describe(hint: Any, *, many: bool = False) -> str:
    """What a hint asks for: `a list of whole numbers`; "" when there are no words for it."""
    if hint in _WORDS:
        return _WORDS[hint][many]
    origin, arms = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return describe(arms[0], many=many)
    if origin is typing.Literal:
        return f"one of {', '.join(shown(arm) for arm in arms)}"
    if origin in (typing.Union, types.UnionType):
        told = list(dict.fromkeys(describe(arm, many=many) for arm in arms if arm is not type(None)))
        return in_words(told) if all(told) else ""
    if origin in _LISTS:
        items = describe(arms[0], many=True) if arms else ""
        return ("lists" if many else "a list") + (f" of {items}" if items else "")
    if origin in (dict, Mapping):
        return "mappings" if many else "a mapping"
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return f"one of {', '.join(shown(member.value) for member in hint)}"
    if isinstance(hint, type) and issubclass(hint, pathlib.PurePath):
        return "paths" if many else "a path"
    return hint.__name__ if isinstance(hint, type) else ""


def _misfit(parameter: _Parameter, value: Any, error: ValidationError) -> ArgumentProblem:
    first = error.errors(include_url=False)[0]
    name = parameter.name
    path = place_in(value, first["loc"])
    place = ""
    if path and isinstance(path[-1], int):
        place = f" as item {path[-1] + 1}"
    elif path:
        place = f" at {shown('.'.join(str(part) for part in path))}"
    given = shown(first["input"]) if path else shown(value)
    complaint = first.get("ctx", {}).get("error")
    if isinstance(complaint, Complaint):
        return ArgumentProblem(name, f'"{name}": {complaint.message}{place}', complaint.hint, path)
    if first["type"] == "missing":
        return ArgumentProblem(name, f'"{name}": {shown(str(first["loc"][-1]))} is missing', "", path)
    wanted = describe(parameter.hint)
    if not wanted or first["type"] in ("value_error", "assertion_error", "extra_forbidden") or _is_bound(first["type"]):
        reason = first["msg"][:1].lower() + first["msg"][1:]
        return ArgumentProblem(name, f'"{name}": {given}{place} does not fit: {reason}', "", path)
    hint = ""
    if wanted == "text" and isinstance(value, int | float):
        hint = f'Put it in quotes: "{shown(value)}".'
    return ArgumentProblem(name, f'"{name}": expected {wanted}, got {given}{place}', hint, path)


def _is_bound(kind: str) -> bool:
    return kind.startswith(("greater_than", "less_than", "too_", "string_too_", "string_pattern", "multiple_of"))
