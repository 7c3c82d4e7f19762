"""What every table of the database is made of: the declarative base, names of constraints, ids."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any

from sqlalchemy import BigInteger, Integer, MetaData, Text
from sqlalchemy.orm import DeclarativeBase

from scheduler.store.types import Instant, Json, JsonDict

# Names for constraints and indexes, so that migrations can speak of them on both databases.
NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}

BigId = BigInteger().with_variant(Integer(), "sqlite")
"""Ids of rows that come by the million. SQLite counts up an INTEGER only, which has 64 bits there anyway."""


def one_of(column: str, words: Iterable[str]) -> str:
    """The condition of a CHECK that `column` is one of `words`."""
    return f"{column} IN ({', '.join(repr(word) for word in sorted(words))})"


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it as a plain class attribute
        dt.datetime: Instant(),
        dict[str, Any]: JsonDict.as_mutable(Json),
        str: Text(),
    }
