"""Column types that mean the same on SQLite and PostgreSQL: moments, and JSON that notices changes inside it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from typing import Any, SupportsIndex

from sqlalchemy import JSON, BigInteger, ColumnElement, Dialect, literal
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator

from scheduler.clock import from_micros, to_micros


class Instant(TypeDecorator[dt.datetime]):
    """A moment, kept as whole microseconds since 1970, UTC.

    A number, since SQLite compares dates as text and takes three spellings of one moment for three moments. Refuses
    a datetime without a zone; gives back UTC.
    """

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: dt.datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else to_micros(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> dt.datetime | None:
        return None if value is None else from_micros(value)


class sql_now(FunctionElement[dt.datetime]):  # noqa: N801 - reads as the SQL function that it is
    """The database's clock: what leases are measured by, so that hosts need not agree on the time.

    On PostgreSQL the moment of the call, not of the transaction's begin; on SQLite to the millisecond.
    """

    type = Instant()
    inherit_cache = True


@compiles(sql_now, "postgresql")
def _postgresql_now(element: sql_now, compiler: Any, **options: Any) -> str:
    return "(extract(epoch from clock_timestamp()) * 1000000)::bigint"


@compiles(sql_now, "sqlite")
def _sqlite_now(element: sql_now, compiler: Any, **options: Any) -> str:
    # julianday is a double: good to 40 microseconds in this century. 2440587.5 is 1970-01-01T00:00Z.
    return "CAST(round((julianday('now') - 2440587.5) * 86400000) * 1000 AS INTEGER)"


def micros(duration: dt.timedelta) -> ColumnElement[Any]:
    """A duration to add to an Instant inside SQL, where instants are numbers."""
    return literal(duration // dt.timedelta(microseconds=1), BigInteger)


# --- JSON -----------------------------------------------------------------------------------------------------------

Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")

FixedJson = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
"""For a value that is replaced whole, never changed inside: nothing is watched, which ten thousand specs would feel."""


class JsonDict(MutableDict[str, Any]):
    """A dict column whose row is written again when anything inside it changes, at whatever depth.

    SQLAlchemy's own MutableDict sees changes of the first level only.
    """

    @classmethod
    def coerce(cls, key: str, value: Any) -> Any:
        if isinstance(value, Mapping) and not isinstance(value, cls):
            tracked = cls()
            dict.update(tracked, {name: _tracked(inner, tracked.changed) for name, inner in value.items()})
            return tracked
        return super().coerce(key, value)

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, _tracked(value, self.changed))

    def setdefault(self, key: str, value: Any = None) -> Any:
        if key not in self:
            self[key] = value
        return self[key]

    def update(self, *others: Any, **values: Any) -> None:
        for key, value in dict(*others, **values).items():
            self[key] = value

    def __ior__(self, other: Any) -> JsonDict:  # type: ignore[override,misc]
        self.update(other)
        return self


def _tracked(value: Any, changed: Callable[[], None]) -> Any:
    """The value with every dict and list in it replaced by one that calls `changed`."""
    if value is None or isinstance(value, str | int | float):
        return value  # nearly all are; to ask what a Mapping is takes ten times as long
    if isinstance(value, Mapping):
        return _TrackedDict(value, changed)
    if isinstance(value, list | tuple):
        return _TrackedList(value, changed)
    return value


class _TrackedDict(dict[str, Any]):
    def __init__(self, values: Mapping[str, Any], changed: Callable[[], None]) -> None:
        self._changed = changed
        super().__init__({key: _tracked(value, changed) for key, value in values.items()})

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, _tracked(value, self._changed))
        self._changed()

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        self._changed()

    def setdefault(self, key: str, value: Any = None) -> Any:
        if key not in self:
            self[key] = value
        return self[key]

    def update(self, *others: Any, **values: Any) -> None:
        for key, value in dict(*others, **values).items():
            self[key] = value

    def __ior__(self, other: Any) -> _TrackedDict:  # type: ignore[override,misc]
        self.update(other)
        return self

    def pop(self, *arguments: Any) -> Any:
        value = super().pop(*arguments)
        self._changed()
        return value

    def popitem(self) -> tuple[str, Any]:
        item = super().popitem()
        self._changed()
        return item

    def clear(self) -> None:
        super().clear()
        self._changed()

    def __reduce__(self) -> Any:  # a copy leaves the row behind
        return dict, (dict(self),)


class _TrackedList(list[Any]):
    def __init__(self, values: Iterable[Any], changed: Callable[[], None]) -> None:
        self._changed = changed
        super().__init__(_tracked(value, changed) for value in values)

    def __setitem__(self, place: Any, value: Any) -> None:
        if isinstance(place, slice):
            super().__setitem__(place, [_tracked(inner, self._changed) for inner in value])
        else:
            super().__setitem__(place, _tracked(value, self._changed))
        self._changed()

    def __delitem__(self, place: SupportsIndex | slice) -> None:
        super().__delitem__(place)
        self._changed()

    def append(self, value: Any) -> None:
        super().append(_tracked(value, self._changed))
        self._changed()

    def extend(self, values: Iterable[Any]) -> None:
        super().extend(_tracked(value, self._changed) for value in values)
        self._changed()

    def __iadd__(self, values: Iterable[Any]) -> _TrackedList:  # type: ignore[misc]
        self.extend(values)
        return self

    def __imul__(self, times: SupportsIndex) -> _TrackedList:
        super().__imul__(times)
        self._changed()
        return self

    def insert(self, place: SupportsIndex, value: Any) -> None:
        super().insert(place, _tracked(value, self._changed))
        self._changed()

    def pop(self, place: SupportsIndex = -1) -> Any:
        value = super().pop(place)
        self._changed()
        return value

    def remove(self, value: Any) -> None:
        super().remove(value)
        self._changed()

    def clear(self) -> None:
        super().clear()
        self._changed()

    def sort(self, **options: Any) -> None:
        super().sort(**options)
        self._changed()

    def reverse(self) -> None:
        super().reverse()
        self._changed()

    def __reduce__(self) -> Any:
        return list, (list(self),)
