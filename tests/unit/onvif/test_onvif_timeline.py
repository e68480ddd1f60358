"""When pictures were recorded: decided from segments' spans and stamps, without any file."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from cctv_storaged.mpegts.track import WRAP
from cctv_storaged.mpegts.units import AccessUnit
from cctv_storaged.onvif.timeline import Timeline

SECOND = 1_000_000
FRAME = 3600  # 25 pictures a second


def unit(pts: int, *, dts: int | None = None, key: bool = False) -> AccessUnit:
    return AccessUnit(
        codec="h264", pts=pts % WRAP, dts=(pts if dts is None else dts) % WRAP, key=key, data=b""
    )


def second_from(ticks: int) -> list[AccessUnit]:
    """A second of pictures, the first of which is a key picture."""
    return [unit(ticks + at * FRAME, key=at == 0) for at in range(25)]


def placed(timeline: Timeline, units: list[AccessUnit]) -> list[int]:
    return [found.time_us for each in units if (found := timeline.place(each)) is not None]


@given(ticks=st.integers(0, WRAP - 1), start=st.integers(0, 2**50))
def test_a_picture_was_recorded_as_long_after_its_segments_start_as_its_stamp_says(
    ticks: int, start: int
) -> None:
    timeline = Timeline()
    timeline.enter(start, start + SECOND, ticks)
    assert placed(timeline, second_from(ticks)) == [start + at * 40_000 for at in range(25)]


def test_a_gap_is_marked_on_the_picture_after_it() -> None:
    timeline = Timeline()
    found = []
    for start, ticks in ((0, 0), (SECOND, 90_000), (60 * SECOND, 180_000)):
        timeline.enter(start, start + SECOND, ticks)
        found += [each for one in second_from(ticks) if (each := timeline.place(one)) is not None]
    assert [at for at, each in enumerate(found) if each.after_gap] == [50]


def test_names_in_whole_seconds_make_no_picture_go_backwards() -> None:
    """Segments of 1.04 s named by their second: 0, 1, 2 …, and every 25th leaves one out."""
    timeline, times = Timeline(), list[int]()
    for at in range(60):
        ticks = at * 26 * FRAME
        timeline.enter(at * 1_040_000 // SECOND * SECOND, 0, ticks)
        times += placed(timeline, [unit(ticks + n * FRAME, key=n == 0) for n in range(26)])
    assert len(times) == 60 * 26
    assert {later - earlier for earlier, later in pairwise(times)} <= {*range(40_000, 80_001)}
    assert all(abs(time - at * 40_000) <= SECOND for at, time in enumerate(times))


def test_what_was_recorded_twice_is_sent_once_from_a_key_picture_on() -> None:
    timeline = Timeline()
    timeline.enter(0, 3 * SECOND, 0)
    first = placed(timeline, [*second_from(0), *second_from(90_000), *second_from(180_000)])
    timeline.enter(1_500_000, 4_500_000, 500_000)  # another recorder's clock
    again = placed(timeline, [*second_from(500_000), *second_from(590_000), *second_from(680_000)])
    assert (len(first), len(again), again[0]) == (75, 25, 3_500_000)
    assert [*first, *again] == sorted({*first, *again})


def test_pictures_that_need_what_is_not_sent_are_left_out() -> None:
    timeline = Timeline()
    timeline.enter(0, SECOND, 0)
    open_group = [
        unit(0),
        unit(FRAME),
        unit(5 * FRAME, dts=2 * FRAME, key=True),
        unit(3 * FRAME),
        unit(4 * FRAME),
        unit(6 * FRAME, dts=5 * FRAME),
    ]
    assert placed(timeline, open_group) == [200_000, 240_000]


def test_a_segment_whose_clock_goes_on_may_begin_without_a_key_picture_and_another_may_not() -> None:
    rest = [unit(90_000 + at * FRAME) for at in range(3)]
    for ticks, kept in ((90_000, 3), (900_000, 0)):
        timeline = Timeline()
        timeline.enter(0, SECOND, 0)
        placed(timeline, second_from(0))
        timeline.enter(SECOND, 2 * SECOND, ticks)
        moved = [unit(each.pts + ticks - 90_000) for each in rest]
        assert len(placed(timeline, moved)) == kept


def test_after_something_that_could_not_be_read_it_begins_anew() -> None:
    timeline = Timeline()
    timeline.enter(0, 2 * SECOND, 0)
    placed(timeline, second_from(0))
    timeline.lost()
    assert timeline.place(unit(26 * FRAME)) is None
    found = timeline.place(unit(30 * FRAME, key=True))
    assert found is not None and found.after_gap


def test_a_clock_that_jumps_within_a_segment_goes_on_where_it_was() -> None:
    for jump in (-50_000_000, 900_000_000, 20 * 90_000):
        timeline = Timeline()
        timeline.enter(0, 2 * SECOND, 0)
        times = placed(timeline, [*second_from(0), *second_from(90_000 + jump)])
        assert times == [at * 40_000 for at in range(50)]


@given(st.lists(st.tuples(st.integers(0, WRAP - 1), st.integers(0, WRAP - 1), st.booleans()), max_size=30))
def test_no_stamps_whatever_break_it(stamps: list[tuple[int, int, bool]]) -> None:
    timeline = Timeline()
    timeline.enter(0, SECOND, 0)
    for pts, dts, key in stamps:
        timeline.place(unit(pts, dts=dts, key=key))
