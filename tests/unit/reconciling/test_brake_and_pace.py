"""What may be gone before nothing is believed any more; and how fast a run may look."""

import asyncio
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cctv_storaged.reconciling.brake import allowed, braked, may_act_once_more
from cctv_storaged.reconciling.differences import SectionAccount, SectionKind, Share
from cctv_storaged.reconciling.pace import REQUEST, Pace
from cctv_storaged.reconciling.run import Run, read, written

CAMERAS = [UUID(int=number) for number in range(4)]
shares = st.lists(
    st.tuples(st.integers(0, 2000), st.integers(0, 2000)).map(lambda two: (max(two), min(two))), max_size=4
)


def account(*rows: tuple[int, int]) -> SectionAccount:
    """Cameras with so many rows compared, and so many of them gone."""
    found = SectionAccount(name="S3", kind=SectionKind.BACKEND)
    found.shares = {
        camera: Share(compared=compared, gone=gone)
        for camera, (compared, gone) in zip(CAMERAS, rows, strict=False)
    }
    return found


@pytest.mark.parametrize(
    ("rows", "stopped"),
    [
        ([(100, 10)], []),
        ([(100, 11)], [CAMERAS[0]]),
        ([(3, 1)], []),  # a single one
        ([(3, 2)], [None, CAMERAS[0]]),
        ([(100, 0), (100, 30)], [CAMERAS[1]]),
        ([(100, 100), (100, 1)], [None, CAMERAS[0]]),
        ([(100, 50), (100, 50)], [CAMERAS[0], CAMERAS[1]]),
        ([(0, 0)], []),
    ],
)
def test_above_a_tenth_of_a_camera_or_half_of_a_section_it_stops(
    rows: list[tuple[int, int]], stopped: list[UUID | None]
) -> None:
    assert [stop.camera_id for stop in braked(account(*rows))] == stopped


@given(shares)
def test_acting_never_goes_beyond_what_may_be_gone(rows: list[tuple[int, int]]) -> None:
    """However many are found gone when it acts."""
    section = account(*rows)
    for share in section.shares.values():
        for _ in range(share.compared + 2):
            if may_act_once_more(section, share):
                share.acted += 1
    for share in section.shares.values():
        assert share.acted <= allowed(share.compared, 0.10)
    assert sum(share.acted for share in section.shares.values()) <= allowed(section.compared, 0.50)


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=50))
def test_the_average_rate_is_kept_whatever_the_sizes_of_pages(pages: list[int]) -> None:
    now = 0.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    async def look() -> None:
        pace = Pace(1000, monotonic=lambda: now, sleep=sleep)
        for count in pages:
            await pace.objects(count)

    asyncio.run(look())
    assert now >= (sum(pages) - 1000) / 1000 - 0.01
    assert now <= sum(pages) / 1000 + 0.01


async def test_a_question_weighs_more_than_a_line_of_a_listing() -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    pace = Pace(100, monotonic=lambda: 0.0, sleep=sleep)
    await pace.requests(10)
    assert waits == [(10 * REQUEST - 100) / 100]


def test_an_account_that_is_not_understood_is_begun_anew() -> None:
    assert read(None) is None
    assert read('{"id": 1}') is None
    assert read("no json") is None


def test_an_account_is_read_as_it_was_written() -> None:

    run = Run(id=UUID(int=1), apply=True, force=False, why="x", started_at=datetime(2026, 1, 1, tzinfo=UTC))
    run.sections.append(account((3, 1)))
    assert read(written(run)) == run
