from __future__ import annotations

import datetime as dt
import enum
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from scheduler.rules.task.arguments import ArgumentProblem, BadArguments, bind_arguments, check_arguments


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Size:
    width: int
    height: int


class Socket:
    pass


def everything(
    text: str = "",
    count: int = 0,
    share: float = 0.0,
    sure: bool = False,
    path: Path = Path("a"),
    day: dt.date | None = None,
    wait: dt.timedelta | None = None,
    sizes: list[int] | None = None,
    names: dict[str, int] | None = None,
    mode: Literal["fast", "slow"] = "fast",
    colour: Colour = Colour.RED,
    size: Size | None = None,
    share_of: Annotated[int, Field(ge=1, le=9)] = 1,
    socket: Socket | None = None,
    whatever: Any = None,
) -> None:
    """A function with one parameter of each sort."""


FITS: dict[str, tuple[str, object, object]] = {
    "text": ("text", "a", "a"),
    "a whole number": ("count", 3, 3),
    "a whole number for a number": ("share", 3, 3.0),
    "true": ("sure", True, True),
    "a path of text": ("path", "b/c", Path("b/c")),
    "a day of text": ("day", "2026-12-25", dt.date(2026, 12, 25)),
    "a duration as elsewhere": ("wait", "1h30m", dt.timedelta(minutes=90)),
    "a list": ("sizes", [1, 2], [1, 2]),
    "nothing where it is allowed": ("sizes", None, None),
    "a mapping": ("names", {"a": 1}, {"a": 1}),
    "a word of a choice": ("mode", "slow", "slow"),
    "a member of an enumeration": ("colour", "blue", Colour.BLUE),
    "a dataclass": ("size", {"width": 1, "height": 2}, Size(1, 2)),
    "anything": ("whatever", [1, {"a": None}], [1, {"a": None}]),
}

MISFITS: dict[str, tuple[str, object, str, str]] = {
    "text for a list": ("sizes", "big", '"sizes": expected a list of whole numbers, got "big"', ""),
    "a wrong item": ("sizes", [1, "x"], '"sizes": expected a list of whole numbers, got "x" as item 2', ""),
    "a number for text": ("text", 5, '"text": expected text, got 5', 'Put it in quotes: "5".'),
    "text for a number": ("count", "many", '"count": expected a whole number, got "many"', ""),
    "a fraction for a whole number": ("count", 1.5, '"count": expected a whole number, got 1.5', ""),
    "text for true": ("sure", "perhaps", '"sure": expected true or false, got "perhaps"', ""),
    "a number for a path": ("path", 5, '"path": expected a path, got 5', ""),
    "a day that is none": ("day", "soon", '"day": expected a day such as 2026-12-25, got "soon"', ""),
    "a duration without a unit": ("wait", 90, '"wait": 90 has no unit', "Write 90s for seconds or 90m for minutes."),
    "a wrong value of a mapping": ("names", {"a": "x"}, '"names": expected a mapping, got "x" at "a"', ""),
    "a word outside a choice": ("mode", "fats", '"mode": expected one of "fast", "slow", got "fats"', ""),
    "no member": ("colour", "green", '"colour": expected one of "red", "blue", got "green"', ""),
    "a dataclass without a part": ("size", {"width": 1}, '"size": "height" is missing', ""),
    "a number out of bounds": (
        "share_of",
        10,
        '"share_of": 10 does not fit: input should be less than or equal to 9',
        "",
    ),
    "a class that no file can hold": ("socket", "x", '"socket": expected Socket, got "x"', ""),
}


@pytest.mark.parametrize(("name", "value", "handed"), FITS.values(), ids=FITS)
def test_a_value_that_fits_is_made_into_what_the_hint_asks_for(name: str, value: object, handed: object) -> None:
    assert check_arguments(everything, {name: value}) == []
    assert bind_arguments(everything, {name: value}) == {name: handed}


@pytest.mark.parametrize(("name", "value", "message", "hint"), MISFITS.values(), ids=MISFITS)
def test_a_value_that_does_not_fit_is_named_with_what_was_expected(
    name: str, value: object, message: str, hint: str
) -> None:
    problems = check_arguments(everything, {name: value})

    assert [(problem.argument, problem.message, problem.hint) for problem in problems] == [(name, message, hint)]


def test_a_missing_argument_says_what_it_should_be() -> None:
    def resize(source: Path, sizes: list[int]) -> None: ...

    assert check_arguments(resize, {"source": "a.png"}) == [
        ArgumentProblem(None, 'the argument "sizes" is missing', "Add it under args: a list of whole numbers.")
    ]


def test_an_unknown_argument_names_the_nearest() -> None:
    assert check_arguments(everything, {"colur": "red"}) == [
        ArgumentProblem("colur", 'there is no argument "colur"; did you mean "colour"?', unknown=True)
    ]


def test_a_function_without_arguments_says_so() -> None:
    def tick() -> None: ...

    assert check_arguments(tick, {"speed": 1}) == [
        ArgumentProblem("speed", 'there is no argument "speed"', "It takes no arguments.", unknown=True)
    ]


def test_a_function_that_takes_any_keyword_is_given_it_as_it_is() -> None:
    def relay(target: str, **more: int) -> None: ...

    assert bind_arguments(relay, {"target": "x", "port": "80"}) == {"target": "x", "port": "80"}


def test_what_can_be_given_by_position_alone_cannot_be_scheduled() -> None:
    def old(source: str, /) -> None: ...

    problems = check_arguments(old, {"source": "x"})

    assert [problem.message for problem in problems] == ['there is no argument "source"']


def test_a_hint_that_names_nothing_is_no_obstacle() -> None:
    def loose(source: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    assert bind_arguments(loose, {"source": [1]}) == {"source": [1]}


def test_a_parameter_without_a_hint_takes_anything() -> None:
    def bare(source, times=1):  # type: ignore[no-untyped-def]
        return source * times

    assert bind_arguments(bare, {"source": "x", "times": 3}) == {"source": "x", "times": 3}


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(BadArguments) as caught:
        bind_arguments(everything, {"count": "x", "sure": "perhaps", "z": 1})

    assert isinstance(caught.value, ValueError)
    assert [problem.argument for problem in caught.value.problems] == ["count", "sure", "z"]
