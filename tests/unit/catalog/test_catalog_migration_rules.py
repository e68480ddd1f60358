"""Which migrations a database still needs, and when a program must not touch it. Pure decisions."""

import pytest

from cctv_storaged.catalog.migration import Applied, Migration, outstanding, parsed, shipped
from cctv_storaged.errors import CatalogUnavailable


def known(*versions: int) -> tuple[Migration, ...]:
    return tuple(
        Migration(version=number, name=f"step_{number}", works_with=number, sql=f"SELECT {number}")
        for number in versions
    )


def applied(migration: Migration, works_with: int | None = None) -> Applied:
    return Applied(
        version=migration.version,
        name=migration.name,
        checksum=migration.checksum,
        works_with=migration.works_with if works_with is None else works_with,
    )


def test_an_empty_database_needs_all_in_order() -> None:
    assert outstanding(known(1, 2, 3), ()) == known(1, 2, 3)


def test_what_was_applied_is_not_applied_again() -> None:
    steps = known(1, 2, 3)
    assert outstanding(steps, [applied(steps[0]), applied(steps[1])]) == steps[2:]
    assert outstanding(steps, [applied(step) for step in steps]) == ()


def test_a_newer_schema_that_says_it_still_works_with_us_is_used() -> None:
    one, two = known(1, 2)
    assert outstanding([one], [applied(one), applied(two, works_with=1)]) == ()


def test_a_newer_schema_that_does_not_work_with_us_is_refused_with_the_remedy() -> None:
    one, two = known(1, 2)
    with pytest.raises(
        CatalogUnavailable, match=r"version 2 \(step_2\).*only version 1: update cctv-storaged"
    ):
        outstanding([one], [applied(one), applied(two)])


def test_an_incompatible_step_is_not_hidden_by_a_compatible_one_after_it() -> None:
    one, two, three = known(1, 2, 3)
    with pytest.raises(CatalogUnavailable, match="version 2"):
        outstanding([one], [applied(one), applied(two, works_with=2), applied(three, works_with=1)])


def test_a_step_applied_from_another_text_is_refused() -> None:
    (one,) = known(1)
    other = Migration(version=1, name="step_1", works_with=1, sql="SELECT 'other'")
    with pytest.raises(CatalogUnavailable, match="two builds differ"):
        outstanding([one], [applied(other)])


def test_a_hole_in_the_history_is_refused() -> None:
    steps = known(1, 2, 3)
    with pytest.raises(CatalogUnavailable, match="never got version 2"):
        outstanding(steps, [applied(steps[0]), applied(steps[2])])


def test_the_shipped_files_are_numbered_from_one_without_gaps() -> None:
    versions = [migration.version for migration in shipped()]
    assert versions == list(range(1, len(versions) + 1))
    assert all(migration.works_with <= migration.version for migration in shipped())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("1_x.sql", "-- works-with: 1\n"),
        ("0001_x.txt", "-- works-with: 1\n"),
        ("0001_x.sql", "SELECT 1"),
        ("0001_x.sql", "\n-- works-with: 1\n"),
    ],
)
def test_a_file_that_does_not_say_what_it_is_is_refused(name: str, text: str) -> None:
    with pytest.raises(ValueError, match="works-with"):
        parsed(name, text)
