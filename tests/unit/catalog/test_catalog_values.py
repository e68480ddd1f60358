"""Pure parts of the catalog: names of any bytes, whole seconds, and words for failures."""

import os
from datetime import timedelta

import asyncpg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cctv_storaged.catalog.base import CatalogQuery, whole_seconds
from cctv_storaged.catalog.connections import PostgresTarget
from cctv_storaged.catalog.escaping import escaped, unescaped
from cctv_storaged.catalog.failures import BAD_ROWS, FOREIGN, LOST, RowsRefused, reason_of, translated
from cctv_storaged.errors import CatalogUnavailable
from cctv_storaged.model import TimeSpan
from tests.services.catalog import CAMERA, NOON

NEAR_ESCAPES = st.text(alphabet="%0258AFaf\0\udc80\udcff")


@given(st.binary())
def test_any_file_name_survives_the_round_trip(name: bytes) -> None:
    text = os.fsdecode(name)
    stored = escaped(text)
    assert "\0" not in stored
    assert stored.encode("utf-8").decode("utf-8") == stored
    assert os.fsencode(unescaped(stored)) == name


@given(NEAR_ESCAPES)
@example("%2525%00")
@example("%\0")
@example("%2\x35")
def test_text_that_looks_like_an_escape_survives_the_round_trip(text: str) -> None:
    assert unescaped(escaped(text)) == text


@given(st.tuples(NEAR_ESCAPES, NEAR_ESCAPES).filter(lambda pair: pair[0] != pair[1]))
def test_two_names_are_never_stored_as_one(pair: tuple[str, str]) -> None:
    assert escaped(pair[0]) != escaped(pair[1])


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("gate/2026-03-05/12-00-00.ts", "gate/2026-03-05/12-00-00.ts"),
        ("100% of %zz %7F", "100% of %zz %7F"),
        (os.fsdecode(b"caf\xe9"), "caf%E9"),
        ("café", "café"),
        ("a\0b", "a%00b"),
        ("a%00b", "a%2500b"),
    ],
)
def test_ordinary_names_are_stored_as_they_read(text: str, stored: str) -> None:
    assert escaped(text) == stored


@pytest.mark.parametrize(
    ("length", "seconds"),
    [
        (timedelta(microseconds=1), 0),
        (timedelta(milliseconds=499), 0),
        (timedelta(milliseconds=500), 1),
        (timedelta(milliseconds=2500), 3),
        (timedelta(seconds=3600, milliseconds=40), 3600),
    ],
)
def test_a_length_is_rounded_to_the_nearest_second(length: timedelta, seconds: int) -> None:
    assert whole_seconds(TimeSpan(NOON, NOON + length)) == seconds


def test_a_page_of_nothing_cannot_be_asked_for() -> None:
    with pytest.raises(ValueError, match="at least one"):
        CatalogQuery(camera_id=CAMERA, span=TimeSpan(NOON, NOON + timedelta(hours=1)), limit=0)


def test_every_error_the_room_tells_apart_is_one_it_catches() -> None:
    assert all(issubclass(kind, FOREIGN) for kind in (*LOST, *BAD_ROWS))
    assert not set(LOST) & set(BAD_ROWS)


def test_a_failure_says_where_what_why_and_what_to_do() -> None:
    error = translated(
        "PostgreSQL x@y:1/z", "store 3 rows", ConnectionRefusedError(111, "Connection refused")
    )
    assert type(error) is CatalogUnavailable
    assert str(error) == (
        "PostgreSQL x@y:1/z: store 3 rows: [Errno 111] Connection refused"
        " (is PostgreSQL running, and listening on this address?)"
    )


def test_a_failure_without_words_still_says_something() -> None:
    assert reason_of(TimeoutError()) == "no answer in time"
    assert reason_of(EOFError()) == "EOFError"


def test_only_what_the_rows_are_to_blame_for_is_refused() -> None:
    refused = translated("here", "store", asyncpg.NumericValueOutOfRangeError("integer out of range"))
    away = translated("here", "store", asyncpg.DiskFullError("could not extend file"))
    assert isinstance(refused, RowsRefused)
    assert refused.reason == "integer out of range"
    assert not isinstance(away, RowsRefused)


def test_a_target_never_shows_its_password() -> None:
    target = PostgresTarget(host="db", database="cctv", user="cctv", password="hunter2")
    assert "hunter2" not in f"{target} {target!r}"
    assert str(target) == "PostgreSQL cctv@db:5432/cctv"
