"""A form for the arguments of a task function, made from its signature, and what was typed into it as arguments.

Pure. Numbers, lists and mappings are typed as JSON; text, days and durations as they are.
"""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import inspect
import json
import pathlib
import types
import typing
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scheduler.rules.task.arguments import check_arguments, describe, hints_of
from scheduler.rules.task.masking import MASK, mask_arguments

MORE = "**"  # the name of the field for arguments that the signature does not name
LINE, LINES, CHOICE = "line", "lines", "choice"
_AS_TYPED = (str, bytes, pathlib.PurePath, dt.date, dt.time, dt.timedelta, uuid.UUID)
_ABSENT = inspect.Parameter.empty
_UNIONS = (typing.Union, types.UnionType)


@dataclass(frozen=True)
class Field:
    """One argument in a form."""

    name: str
    wanted: str  # in words, such as «a list of whole numbers»; "" when nothing is known
    control: str  # LINE, LINES or CHOICE
    shown: str  # what the form holds at first; secrets masked
    required: bool = False  # neither the function nor the schedule has a value for it
    choices: tuple[str, ...] = ()  # of a CHOICE, "" among them when nothing need be chosen
    as_typed: bool = False  # its text is the value; else it is read as JSON where it is some
    may_be_none: bool = False


@dataclass(frozen=True)
class Filled:
    """What was typed: the arguments that differ from what the form held, and what is wrong with them."""

    args: dict[str, Any]
    faults: dict[str, str]  # by field; "" for what belongs to none


def argument_fields(function: Callable[..., Any] | None, args: Mapping[str, Any]) -> list[Field]:
    """The fields for a call of `function` with the schedule's `args`. Of an unknown function all that can be offered is
    a field for a JSON mapping."""
    masked = mask_arguments(dict(args))
    if function is None:
        return [_more(masked)]
    hints = hints_of(function)
    fields, takes_more = [], False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            takes_more = True
        elif parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            fields.append(_field(parameter, hints.get(parameter.name, Any), masked))
    if takes_more:
        named = {field.name for field in fields}
        fields.append(_more({name: value for name, value in masked.items() if name not in named}))
    return fields


def read_form(
    function: Callable[..., Any] | None, fields: Sequence[Field], args: Mapping[str, Any], typed: Mapping[str, str]
) -> Filled:
    """What `typed` (by the names of the fields) changes about the schedule's `args`. A field left as it was changes
    nothing: so a secret that is shown masked stays what it is."""
    changed: dict[str, Any] = {}
    faults: dict[str, str] = {}
    for field in fields:
        text = typed.get(field.name, field.shown).replace("\r\n", "\n")
        if text == field.shown:
            continue
        if field.name == MORE:
            more, fault = _mapping(text)
            changed.update(more)
            faults.update({MORE: fault} if fault else {})
        elif text or field.as_typed:
            changed[field.name] = _value(field, text)
        elif field.shown:
            faults[field.name] = f'"{field.name}" cannot be empty: give {field.wanted or "a value"}'
    for name, value in changed.items():
        if MASK in json.dumps(value, ensure_ascii=False, default=str):
            faults[name] = f'"{name}" holds {MASK}, which stands for a secret: give the whole value'
    if function is not None and not faults:
        faults = _misfits(function, {**args, **changed}, {field.name for field in fields})
    return Filled(changed, faults)


def _misfits(function: Callable[..., Any], args: Mapping[str, Any], fields: set[str]) -> dict[str, str]:
    faults: dict[str, list[str]] = {}
    for problem in check_arguments(function, args):
        name = problem.argument or next((one for one in fields if f'"{one}"' in problem.message), "")
        told = f"{problem.message}. {problem.hint}" if problem.hint and problem.argument else problem.message
        faults.setdefault(name if name in fields else MORE if MORE in fields else "", []).append(told)
    return {name: "; ".join(told) for name, told in faults.items()}


def _field(parameter: inspect.Parameter, hint: Any, args: Mapping[str, Any]) -> Field:
    given = args.get(parameter.name, parameter.default)
    as_typed, may_be_none = _is_as_typed(hint), type(None) in typing.get_args(hint)
    choices = _choices(hint)
    shown = "" if given is _ABSENT or given is None else _as_text(given, as_typed or bool(choices))
    if choices and (given is _ABSENT or may_be_none):
        choices = ("", *choices)
    control = CHOICE if choices else LINES if _is_long(hint, shown) else LINE
    return Field(
        parameter.name, describe(hint), control, shown, given is _ABSENT, choices, as_typed and not choices, may_be_none
    )


def _more(args: Mapping[str, Any]) -> Field:
    shown = json.dumps(args, ensure_ascii=False, indent=2, default=str) if args else ""
    return Field(MORE, "further arguments, as a JSON mapping", LINES, shown)


def _is_as_typed(hint: Any) -> bool:
    if typing.get_origin(hint) is typing.Annotated:
        return _is_as_typed(typing.get_args(hint)[0])
    if typing.get_origin(hint) in _UNIONS:
        return all(arm is type(None) or _is_as_typed(arm) for arm in typing.get_args(hint))
    return isinstance(hint, type) and issubclass(hint, _AS_TYPED)


def _choices(hint: Any) -> tuple[str, ...]:
    """What can be chosen from, as text; () when anything may be typed."""
    if typing.get_origin(hint) in _UNIONS:
        arms = [arm for arm in typing.get_args(hint) if arm is not type(None)]
        return _choices(arms[0]) if len(arms) == 1 else ()
    if hint is bool:
        return ("true", "false")
    if typing.get_origin(hint) is typing.Literal:
        return tuple(_as_text(one, True) for one in typing.get_args(hint) if one is not None)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return tuple(_as_text(one.value, True) for one in hint)
    return ()


def _is_long(hint: Any, shown: str) -> bool:
    """Whether it wants more than a line: lists, mappings, long texts."""
    if isinstance(hint, type) and issubclass(hint, (int, float, decimal.Decimal)):
        return False
    return (
        "\n" in shown or len(shown) > 80 or typing.get_origin(hint) in (list, dict, tuple, set) or hint in (list, dict)
    )


def _as_text(value: Any, as_typed: bool) -> str:
    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, str) and as_typed:
        return value
    if isinstance(value, (pathlib.PurePath, uuid.UUID)):
        return str(value)
    if isinstance(value, (dt.date, dt.time)):
        return value.isoformat()
    return json.dumps(value, ensure_ascii=False, default=str)


def _value(field: Field, text: str) -> Any:
    if field.as_typed:
        return None if not text and field.may_be_none else text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if not field.choices or _as_text(value, True) == text else text


def _mapping(text: str) -> tuple[dict[str, Any], str]:
    if not text.strip():
        return {}, ""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        return {}, f"this is no JSON: {error}"
    if not isinstance(found, dict):
        return {}, 'give a JSON mapping, such as {"top": 5}'
    return found, ""
