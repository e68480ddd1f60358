"""What a segment tells of its camera: that it records now, and whether its clock is right."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from cctv_storaged.model import FileIdentity, Segment, SegmentFlag, SourceFile, SourceState, TimeSpan
from cctv_storaged.watchkeeping.hearing import AHEAD, FRESH, IN_A_ROW, Hearing, time_doubt

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
CAMERA = UUID(int=7)
LENGTH = timedelta(seconds=10)


@dataclass
class Stopped:
    """A clock that stands where it was set."""

    at: datetime = NOW

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return 0.0


def segment(
    start: datetime, *, closed: datetime | None = None, flags: frozenset[SegmentFlag] = frozenset()
) -> Segment:
    """As registered; closed when it ends unless told otherwise."""
    mtime = closed or start + LENGTH
    identity = FileIdentity(device=1, inode=1, size_bytes=1, mtime_ns=int(mtime.timestamp() * 1e9))
    return Segment(
        id=UUID(int=1),
        camera_id=CAMERA,
        span=TimeSpan(start, start + LENGTH),
        source=SourceFile(root="/r", path="gate/a.ts", identity=identity),
        source_state=SourceState.PRESENT,
        flags=flags,
        codec=None,
        sha256=None,
        created_at=NOW,
    )


def hearing(distrust: str | None = None) -> Hearing:
    found = Hearing(Stopped(), lambda: distrust)
    found.of(CAMERA).silent_s = 500.0
    return found


def silent_s(found: Hearing) -> float:
    return found.of(CAMERA).silent_s


def test_a_file_written_just_now_breaks_the_silence_whatever_its_name_says() -> None:
    for start in (NOW - LENGTH, NOW - timedelta(days=400), NOW + timedelta(days=400)):
        found = hearing()
        found.hear(segment(start, closed=NOW))
        assert silent_s(found) == 0.0


def test_footage_of_another_day_that_is_brought_in_does_not() -> None:
    found = hearing()
    found.hear(segment(NOW - timedelta(days=3)))
    assert silent_s(found) == 500.0
    found.hear(segment(NOW - LENGTH))
    found.of(CAMERA).silent_s = 500.0
    found.hear(segment(NOW - timedelta(days=2)))
    assert silent_s(found) == 500.0


def test_late_files_that_go_on_from_the_last_do() -> None:
    """A server whose clock is behind by an hour stamps the files of a network mount."""
    found = hearing()
    found.hear(segment(NOW - LENGTH))
    found.of(CAMERA).silent_s = 500.0
    found.hear(segment(NOW, closed=NOW - FRESH - timedelta(hours=1)))
    assert silent_s(found) == 0.0


def test_a_clock_set_back_is_no_silence() -> None:
    """What is recorded from then on is named, and stamped, before what was heard last."""
    found = hearing()
    found.hear(segment(NOW - LENGTH))
    found.of(CAMERA).silent_s = 500.0
    found.clock = Stopped(NOW - timedelta(hours=1))
    found.hear(segment(NOW - timedelta(hours=1) - LENGTH))
    assert silent_s(found) == 0.0


def test_the_time_is_in_doubt_where_name_and_file_differ_or_the_future_is_named() -> None:
    assert time_doubt(segment(NOW - LENGTH), NOW) is None
    assert time_doubt(segment(NOW + AHEAD), NOW) is None
    late = segment(NOW - timedelta(hours=1), closed=NOW, flags=frozenset({SegmentFlag.TIME_SUSPECT}))
    assert time_doubt(late, NOW) == "was closed 0:59:50 later than its name says"
    assert time_doubt(replace(late, flags=frozenset({SegmentFlag.PARTIAL})), NOW) is None
    ahead = segment(NOW + timedelta(hours=2), closed=NOW)
    assert time_doubt(ahead, NOW) == "begins 2:00:00 from now by its name"


def test_three_in_a_row_are_needed_for_a_doubt_and_for_its_end() -> None:
    found, bad = hearing(), frozenset({SegmentFlag.TIME_SUSPECT})
    heard = found.of(CAMERA)
    for number in range(IN_A_ROW):
        assert heard.doubtful == number
        found.hear(segment(NOW - timedelta(hours=1), closed=NOW, flags=bad))
    found.hear(segment(NOW - LENGTH))
    assert (heard.doubtful, heard.trusty) == (0, 1)
    found.hear(segment(NOW - timedelta(hours=1), closed=NOW, flags=bad))
    assert (heard.doubtful, heard.trusty) == (1, 0)


def test_while_the_hosts_own_clock_is_in_doubt_no_cameras_is() -> None:
    found = hearing("it was set back")
    for _ in range(IN_A_ROW):
        found.hear(segment(NOW + timedelta(hours=2), closed=NOW))
    assert (found.of(CAMERA).doubtful, silent_s(found)) == (0, 0.0)


def test_a_camera_of_which_nothing_is_left_is_forgotten() -> None:
    found = hearing()
    found.keep_only(frozenset())
    assert silent_s(found) == 0.0
