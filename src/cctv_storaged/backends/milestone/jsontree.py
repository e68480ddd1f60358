"""JSON that a server sent, read field by field: each is what it must be, or the answer is unreadable.

Names are found in any case. Accepted as published in two forms: booleans and numbers as strings (before
2022 R2), GUIDs in braces or upper case, times with any fraction and offset (MIP VMS Config API).
"""

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import NoReturn
from uuid import UUID

from cctv_storaged.backends.milestone.answers import Unreadable, plain
from cctv_storaged.backends.milestone.vmstime import parse_time
from cctv_storaged.model import TimeSpan

_WORD_MAX = 16 * 1024
_ENVELOPES = ("data", "result")


def parsed(data: bytes, doing: str) -> object:
    """Unreadable where it is no JSON."""
    try:
        return json.loads(data.decode("utf-8-sig"), parse_constant=_no_number)
    except (ValueError, RecursionError) as exc:
        raise Unreadable(f"{doing}: the answer is no JSON ({plain(str(exc))})") from None


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")


def rfc3339_ms(moment: datetime) -> str:
    """A time as the samples write it: milliseconds and Z."""
    return f"{moment.astimezone(UTC).isoformat(timespec='milliseconds').removesuffix('+00:00')}Z"


def whole_ms(span: TimeSpan) -> tuple[str, str]:
    """A span as XProtect is told it: widened to whole milliseconds, for it counts no finer."""
    begin = span.start - timedelta(microseconds=span.start.microsecond % 1000)
    end = span.end + timedelta(microseconds=-span.end.microsecond % 1000)
    return rfc3339_ms(begin), rfc3339_ms(end)


class Fields:
    """One JSON object; `where` names it in messages."""

    def __init__(self, values: Mapping[str, object], where: str) -> None:
        self._values = values
        self._where = where

    @classmethod
    def of(cls, value: object, where: str) -> "Fields":
        """Unreadable where it is no object."""
        if not isinstance(value, Mapping):
            raise Unreadable(f"{where} is no object")
        return cls(value, where)

    def has(self, name: str) -> bool:
        """Whether it is there and not null."""
        return self._value(name) is not None

    def unwrapped(self) -> "Fields":
        """What stands in `data` or `result`; without such a wrapper the object itself."""
        return next((inner for name in _ENVELOPES if (inner := self.inner(name)) is not None), self)

    def text(self, name: str) -> str:
        """Empty where it is not there. Numbers and booleans are written out: ids of tasks may be either."""
        value = self._value(name)
        if value is None or (isinstance(value, str) and len(value) <= _WORD_MAX):
            return value or ""
        if isinstance(value, int):
            return str(value)
        raise self._wrong(name, "no text, or too long")

    def guid(self, name: str) -> UUID | None:
        text = self.text(name)
        if not text:
            return None
        try:
            return UUID(text)
        except ValueError:
            raise self._wrong(name, "no GUID") from None

    def flag(self, name: str, default: bool) -> bool:
        value = self._value(name)
        if value is None or isinstance(value, bool):
            return default if value is None else value
        if isinstance(value, str) and value.lower() in {"true", "false"}:
            return value.lower() == "true"
        raise self._wrong(name, "neither true nor false")

    def number(self, name: str) -> float | None:
        value = self._value(name)
        if value is None or value == "":
            return None
        if isinstance(value, int | float | str) and not isinstance(value, bool):
            number = self._number(name, value)
            if math.isfinite(number) and abs(number) < 1e15:
                return number
        raise self._wrong(name, "no number")

    def moment(self, name: str) -> datetime | None:
        """UTC, to the microsecond; None where it is not set (year 1)."""
        text = self.text(name)
        if not text:
            return None
        found = parse_time(text)
        if found is None and not text.startswith("0001"):
            raise self._wrong(name, "no time")
        return found

    def inner(self, name: str) -> "Fields | None":
        """An object below this one; None where there is none of that name."""
        value = self._value(name)
        return Fields(value, f"{self._where}.{name}") if isinstance(value, Mapping) else None

    def each(self, name: str) -> "tuple[Fields, ...] | None":
        """The objects of a list; None where there is no list of that name."""
        value = self._value(name)
        return objects(value, f"{self._where}.{name}") if isinstance(value, list) else None

    def values(self, name: str) -> tuple[object, ...]:
        """A list as it is, for those that read it leniently; empty where there is none."""
        value = self._value(name)
        return tuple(value) if isinstance(value, list) else ()

    def names(self) -> tuple[str, ...]:
        return tuple(self._values)

    def _value(self, name: str) -> object:
        if name in self._values:
            return self._values[name]
        wanted = name.lower()
        return next((value for key, value in self._values.items() if key.lower() == wanted), None)

    def _number(self, name: str, value: float | str) -> float:
        try:
            return float(value)
        except (ValueError, OverflowError):
            raise self._wrong(name, "no number") from None

    def _wrong(self, name: str, why: str) -> Unreadable:
        return Unreadable(f"{self._where}: {name} is {why}")


def objects(values: list[object], where: str) -> tuple[Fields, ...]:
    """A list's objects. Unreadable where one is none."""
    return tuple(Fields.of(value, f"{where}[{number}]") for number, value in enumerate(values))
