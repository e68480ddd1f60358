"""How often a full pipe into ffmpeg is looked at: soon enough for a viewer, seldom enough to cost nothing."""

from collections.abc import Iterator
from itertools import takewhile

import pytest

from cctv_storaged.media.ffmpeg import pause_after


def looks() -> Iterator[float]:
    """When, in seconds since the pipe took nothing any more."""
    waited_s = 0.0
    while True:
        waited_s += pause_after(waited_s)
        yield waited_s


@pytest.mark.parametrize("begins_s", [0.0005, 0.01, 0.032, 0.045, 0.06, 0.1, 0.3])
def test_a_child_that_begins_to_read_waits_an_eighth_of_its_own_time_at_most(begins_s: float) -> None:
    seen_s = next(at for at in looks() if at >= begins_s)
    assert seen_s - begins_s <= max(0.001, begins_s / 8)


def test_a_child_that_stands_still_is_looked_at_twenty_times_a_second() -> None:
    minute = list(takewhile(lambda at: at < 60, looks()))
    assert len([at for at in minute if at >= 30]) == pytest.approx(600, abs=1)
    assert len([at for at in minute if at < 1]) < 60
