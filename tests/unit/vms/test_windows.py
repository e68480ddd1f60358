"""Which questions are asked, in which order."""

from collections import Counter
from datetime import timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from cctv_storaged.journal.vouched import Waiting
from cctv_storaged.vms.windows import NEIGHBOURS, Window, in_turn, ripe, ripens_in, windows
from tests.unit.vms.waiting import START, waiting

LONGEST = timedelta(seconds=300)
SETTLE = timedelta(seconds=15)

some = st.lists(
    st.tuples(st.integers(0, 3), st.floats(0, 4000), st.floats(0.04, 400)).map(
        lambda facts: facts  # camera, start, length in seconds
    ),
    max_size=30,
).map(
    lambda found: [
        waiting(no, camera, start=start, seconds=seconds) for no, (camera, start, seconds) in enumerate(found)
    ]
)


@given(some)
def test_each_segment_is_in_one_window_of_its_camera(found: list[Waiting]) -> None:
    made = windows(found, LONGEST)
    assert Counter(each.id for window in made for each in window.segments) == Counter(e.id for e in found)
    assert all(each.camera_id == window.camera_id for window in made for each in window.segments)


@given(some)
def test_a_window_is_no_longer_than_it_may_be_and_has_no_large_hole(found: list[Waiting]) -> None:
    for window in windows(found, LONGEST):
        if len(window.segments) > 1:
            assert window.span.duration <= LONGEST
        until = window.segments[0].span.end
        for each in window.segments[1:]:
            assert each.span.start - until <= NEIGHBOURS
            until = max(until, each.span.end)


def test_neighbours_are_one_question() -> None:
    (window,) = windows([waiting(number) for number in range(30)], LONGEST)
    assert window.span.duration == LONGEST
    assert len(windows([waiting(number) for number in range(31)], LONGEST)) == 2


def test_a_camera_is_asked_for_when_one_of_its_segments_waited_long_enough_for_neighbours() -> None:
    found, end = [waiting(0), waiting(1)], waiting(0).span.end
    assert ripe(found, SETTLE, LONGEST, end + SETTLE - timedelta(seconds=1)) == []
    assert ripe(found, SETTLE, LONGEST, end + SETTLE + timedelta(seconds=59)) == []
    assert ripe(found, SETTLE, LONGEST, end + SETTLE + timedelta(seconds=60)) == found


def test_nothing_is_asked_for_before_it_settled_whoever_waits_beside_it() -> None:
    old, fresh = waiting(0), waiting(100)
    assert ripe([old, fresh], SETTLE, LONGEST, fresh.span.end + SETTLE / 2) == [old]


def test_what_is_urgent_waits_for_no_neighbours() -> None:
    found = [waiting(0, urgent=True), waiting(1), waiting(2, camera=1)]
    assert ripe(found, SETTLE, LONGEST, waiting(0).span.end + SETTLE) == [found[0]]


def test_a_full_window_waits_for_no_neighbours() -> None:
    found = [waiting(0, start=0, seconds=300)]
    assert ripe(found, SETTLE, LONGEST, found[0].span.end + SETTLE) == found


@given(some, st.floats(0, 5000))
def test_what_is_not_ripe_is_so_when_it_says(found: list[Waiting], at: float) -> None:
    now = START + timedelta(seconds=at)
    waits = ripens_in(found, SETTLE, now)
    if waits is not None:
        assert ripe(found, SETTLE, LONGEST, now + waits)


@given(some)
def test_cameras_take_turns(found: list[Waiting]) -> None:
    """At no moment is a camera two questions ahead of another that has some left."""
    ordered = in_turn(windows(found, LONGEST), 0.3)
    left = Counter(window.camera_id for window in ordered)
    asked: Counter[UUID] = Counter()
    for window in ordered:
        asked[window.camera_id] += 1
        left[window.camera_id] -= 1
        waiting_still = [camera for camera, count in left.items() if count]
        assert all(asked[window.camera_id] - asked[camera] <= 1 for camera in waiting_still)


def test_urgent_windows_come_first_and_failing_cameras_last() -> None:
    found = [waiting(0, 1), waiting(0, 2), waiting(9, 3, urgent=True), waiting(100, 2)]
    ordered = in_turn(windows(found, LONGEST), last={UUID(int=1)})
    assert [window.camera_id.int for window in ordered] == [3, 2, 2, 1]


def test_a_share_is_taken_from_the_new_end() -> None:
    made = windows([waiting(number * 100) for number in range(10)], LONGEST)
    starts = [window.segments[0].no // 100 for window in in_turn(made, 0.5)]
    assert starts == [0, 9, 1, 8, 2, 7, 3, 6, 4, 5]
    assert [window.segments[0].no // 100 for window in in_turn(made)] == list(range(10))


def test_urgency_of_one_segment_is_that_of_its_window() -> None:
    window = Window(camera_id=UUID(int=0), segments=(waiting(0), waiting(1, urgent=True)))
    assert window.urgent
