"""What names say, above all in the hours in which clocks on walls lie."""

import os
import string
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cctv_storaged.errors import ConfigError, NotASegment
from cctv_storaged.model import SegmentFlag
from cctv_storaged.recorder.layout import Layout, PathMatch, resolve_start

BERLIN = ZoneInfo("Europe/Berlin")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")  # its clocks go back by half an hour
UTC_ZONE = ZoneInfo("UTC")
USUAL = "{camera}/%Y-%m-%d/%H-%M-%S.ts"
TEN_SECONDS = timedelta(seconds=10)


def matched(pattern: str, path: str, zone: ZoneInfo = UTC_ZONE) -> PathMatch:
    match = Layout.parse(pattern, zone).match(path)
    assert match is not None
    return match


def start_of(pattern: str, path: str, zone: ZoneInfo = UTC_ZONE) -> datetime:
    """The start of a segment closed when it should be."""
    match = matched(pattern, path, zone)
    around = match.instant or match.wall
    assert around is not None
    around = around if around.tzinfo else around.replace(tzinfo=zone)
    return resolve_start(match, closed_at=around + TEN_SECONDS, duration=TEN_SECONDS).start


def utc(
    year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0, us: int = 0
) -> datetime:
    return datetime(year, month, day, hour, minute, second, us, tzinfo=UTC)


# What recorders write


@pytest.mark.parametrize(
    ("pattern", "path", "camera", "start"),
    [
        (USUAL, "gate/2026-01-31/23-59-58.ts", "gate", utc(2026, 1, 31, 23, 59, 58)),
        ("{camera}/%s.ts", "gate/1750000000.ts", "gate", utc(2025, 6, 15, 15, 6, 40)),
        ("{camera}/%s.%f.ts", "gate/1750000000.25.ts", "gate", utc(2025, 6, 15, 15, 6, 40, 250_000)),
        (
            "{camera}/%Y-%m-%d_%H-%M-%S-%f.ts",
            "a/2026-02-03_04-05-06-007008.ts",
            "a",
            utc(2026, 2, 3, 4, 5, 6, 7008),
        ),
        ("{camera}/%F/%T.ts", "a/2026-02-03/04:05:06.ts", "a", utc(2026, 2, 3, 4, 5, 6)),
        ("{camera}@%Y%m%d%H%M%S%z.ts", "yard@20260203040506+0200.ts", "yard", utc(2026, 2, 3, 2, 5, 6)),
        ("{camera}/%Y%m%dT%H%M%S%z.ts", "a/20260203T040506-03:30.ts", "a", utc(2026, 2, 3, 7, 35, 6)),
        ("{camera}/%Y%m%dT%H%M%S%z.ts", "a/20260203T040506Z.ts", "a", utc(2026, 2, 3, 4, 5, 6)),
        ("%Y-%m-%d/%H/{camera}/%M.%S.ts", "2026-02-03/04/front/05.06.ts", "front", utc(2026, 2, 3, 4, 5, 6)),
        ("{camera}/%Y/%j/%H%M%S.ts", "a/2024/366/120000.ts", "a", utc(2024, 12, 31, 12)),
        ("{camera}/%y%m%d-%I%M%S%p.ts", "a/260203-120506AM.ts", "a", utc(2026, 2, 3, 0, 5, 6)),
        ("{camera}/%y%m%d-%I%M%S%p.ts", "a/260203-120506pm.ts", "a", utc(2026, 2, 3, 12, 5, 6)),
        ("{camera}/%y%m%d-%I%M%S%p.ts", "a/260203-110506PM.ts", "a", utc(2026, 2, 3, 23, 5, 6)),
        ("{camera}_%Y%m%d_%H%M%S_*.ts", "a_b_20260203_040506_0001.ts", "a_b", utc(2026, 2, 3, 4, 5, 6)),
        ("nvr/{camera}/**/%Y%m%d%H%M.ts", "nvr/a/20260203 x/y/202602030405.ts", "a", utc(2026, 2, 3, 4, 5)),
        ("nvr/{camera}/**/%Y%m%d%H%M.ts", "nvr/a/202602030405.ts", "a", utc(2026, 2, 3, 4, 5)),
        ("**/{camera}/%Y-%m-%d_%H.ts", "x/y/z/2026-02-03_04.ts", "z", utc(2026, 2, 3, 4)),
        ("*/{camera}/*-%s.ts", "any/a/-1750000000.ts", "a", utc(2025, 6, 15, 15, 6, 40)),
        ("100%%/{camera}/%s.ts", "100%/a/1750000000.ts", "a", utc(2025, 6, 15, 15, 6, 40)),
        (
            "{camera}/%Y-%m-%d/%Y-%m-%d %H.%M.%S.ts",
            "a/2026-02-03/2026-02-03 04.05.06.ts",
            "a",
            utc(2026, 2, 3, 4, 5, 6),
        ),
        ("{camera}/{camera}_%s.ts", "a_b/a_b_1750000000.ts", "a_b", utc(2025, 6, 15, 15, 6, 40)),
        ("%Y-%m-%d/{camera}/%s.ts", "2025-06-14/a/1750000000.ts", "a", utc(2025, 6, 15, 15, 6, 40)),
        ("{camera}/[%Y]?(%m)+%d %H.ts", "a/[2026]?(02)+03 04.ts", "a", utc(2026, 2, 3, 4)),
    ],
)
def test_a_name_says_camera_and_start(pattern: str, path: str, camera: str, start: datetime) -> None:
    assert matched(pattern, path).camera_folder == camera
    assert start_of(pattern, path) == start
    assert start_of(pattern, path).tzinfo is UTC


def test_a_camera_may_be_named_by_its_id() -> None:
    text = "123E4567-e89b-12d3-a456-426614174000"
    match = matched("{camera_id}/%s.ts", f"{text}/1750000000.ts")
    assert (match.camera_id, match.camera_folder) == (UUID(text), text)
    both = matched("{camera}/{camera_id}-%s.ts", f"gate/{text}-1750000000.ts")
    assert (both.camera_id, both.camera_folder) == (UUID(text), "gate")


@pytest.mark.parametrize(
    "path",
    [
        "gate/2026-01-31/23-59-58.ts.tmp",
        "gate/2026-01-31/23-59-58.ts.ts",
        "gate/2026-01-31/23-59-58.TS",
        "gate/2026-01-31/23-59-58.mp4",
        "gate/2026-01-31/23-59-58ts",
        "gate/2026-01-31/x23-59-58.ts",
        "gate/2026-01-31/23-59-5.ts",
        "gate/2026-01-31/23-59-588.ts",
        "gate/2026-01-31/23-59-58.ts\n",
        "gate/2026-01-31/２３-59-58.ts",  # digits, but not ours
        "2026-01-31/23-59-58.ts",
        "a/gate/2026-01-31/23-59-58.ts",
        "/2026-01-31/23-59-58.ts",
        "./gate/2026-01-31/23-59-58.ts",
        "../2026-01-31/23-59-58.ts",
        "./2026-01-31/23-59-58.ts",
        "gate//2026-01-31/23-59-58.ts",
        "ga\0te/2026-01-31/23-59-58.ts",
        "",
        ".ts",
    ],
)
def test_another_shape_is_no_match(path: str) -> None:
    assert Layout.parse(USUAL, UTC_ZONE).match(path) is None


def test_stars_do_not_swallow_slashes_or_leave_the_root() -> None:
    layout = Layout.parse("{camera}/**/*-%s.ts", UTC_ZONE)
    assert layout.match("a/../x-1750000000.ts") is None
    assert layout.match("a/b//x-1750000000.ts") is None
    assert Layout.parse("*/{camera}/%s.ts", UTC_ZONE).match("a/b/c/1750000000.ts") is None


@pytest.mark.parametrize(
    "name",
    [
        "line\nbreak",
        'it\'s "quoted"',
        "-rf",
        "🎥",
        "; rm -rf $HOME",
        " ",
        "%s",
        "{camera}",
        "a" * 255,
        b"\xff\xfe\x80",
    ],
)
def test_names_of_any_bytes_survive(name: str | bytes) -> None:
    raw = name if isinstance(name, bytes) else name.encode()
    path = os.fsdecode(raw + b"/2026-01-31/23-59-58.ts")
    assert os.fsencode(matched(USUAL, path).camera_folder) == raw


@pytest.mark.parametrize(
    "path",
    [
        "a/2026-13-01/00-00-00.ts",
        "a/2026-02-29/00-00-00.ts",
        "a/2026-00-10/00-00-00.ts",
        "a/2026-01-01/24-00-00.ts",
        "a/2026-01-01/00-60-00.ts",
        "a/2026-01-01/00-00-60.ts",
        "a/0000-01-01/00-00-00.ts",
        "a/1969-12-31/23-59-59.ts",
        "a/9999-12-31/23-59-59.ts",
    ],
)
def test_an_impossible_time_is_told_apart_from_another_shape(path: str) -> None:
    with pytest.raises(NotASegment) as refused:
        Layout.parse(USUAL, BERLIN).match(path)
    assert refused.value.reason == "impossible_time"


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("{camera}/%Y/%j-%H.ts", "a/2026/366-00.ts"),
        ("{camera}/%Y/%j-%H.ts", "a/2026/000-00.ts"),
        ("{camera}/%Y%m%d-%I%p.ts", "a/20260101-13AM.ts"),
        ("{camera}/%Y%m%d-%I%p.ts", "a/20260101-00PM.ts"),
        ("{camera}/%Y%m%d-%H%z.ts", "a/20260101-00+2400.ts"),
        ("{camera}/%Y%m%d-%H%z.ts", "a/20260101-00+0260.ts"),
        ("{camera}/%s.ts", "a/999999999999.ts"),
    ],
)
def test_other_impossible_times_are_refused_too(pattern: str, path: str) -> None:
    with pytest.raises(NotASegment) as refused:
        Layout.parse(pattern, UTC_ZONE).match(path)
    assert refused.value.reason == "impossible_time"


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("{camera}/%Y-%m-%d/%Y-%m-%d_%H.ts", "a/2026-01-01/2026-01-02_00.ts"),
        ("{camera}/{camera}-%s.ts", "gate/yard-1750000000.ts"),
    ],
)
def test_a_name_that_says_two_things_is_refused(pattern: str, path: str) -> None:
    with pytest.raises(NotASegment) as refused:
        Layout.parse(pattern, UTC_ZONE).match(path)
    assert refused.value.reason == "contradictory_name"


def test_a_scanner_may_skip_what_cannot_match() -> None:
    layout = Layout.parse("srv/nvr 1/{camera}/%Y%m%d/%H.m2ts", UTC_ZONE)
    assert (layout.extension, layout.static_prefix) == (".m2ts", "srv/nvr 1")
    assert Layout.parse(USUAL, UTC_ZONE).static_prefix == ""
    assert Layout.parse("{camera}-%s.ts", UTC_ZONE).static_prefix == ""


# Patterns that cannot be used


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("%Y-%m-%d/%H.ts", "does not name the camera"),
        ("{camera}/x.ts", "does not say when"),
        ("{camera}/%Y-%m-%d.ts", "does not say when"),
        ("{camera}/%Y-%H.ts", "does not say when"),
        ("{camera}/%m-%d-%H.ts", "does not say when"),
        ("{camera}/%Y%m%d%H%S.ts", "%S without %M"),
        ("{camera}/%Y%m%d%I.ts", "only one of %I and %p"),
        ("{camera}/%Y%m%d%H%p.ts", "only one of %I and %p"),
        ("{camera}/%Y%m%d%H%M-%f.ts", "%f without"),
        ("{camera}/%Y%y%m%d%H.ts", "the year in two ways"),
        ("{camera}/%Y%m%d%H%I%p.ts", "the hour in two ways"),
        ("{camera}/%Y%j%d%H.ts", "the day in two ways"),
        ("{camera}/%Q%s.ts", "unknown placeholder %Q"),
        ("{kamera}/{camera}/%s.ts", "unknown placeholder {kamera}"),
        ("{Y}/{camera}/%s.ts", "unknown placeholder {Y}"),
        ("{camera}/{%s.ts", "unknown placeholder {"),
        ("{camera}/}%s.ts", "unknown placeholder }"),
        ("{}/{camera}/%s.ts", "unknown placeholder {}"),
        ("{camera}/%s", "extension"),
        ("{camera}/%s.", "extension"),
        ("{camera}/ts.%s", "extension"),
        ("{camera}/%s.*", "extension"),
        ("{camera}/%s.ts/", "extension"),
        ("", "extension"),
        ("/{camera}/%s.ts", "empty, . or .. component"),
        ("../{camera}/%s.ts", "empty, . or .. component"),
        ("{camera}//%s.ts", "empty, . or .. component"),
        ("a\0b/{camera}/%s.ts", "NUL"),
        ("{camera}*/%s.ts", "where {camera} ends and * begins"),
        ("*{camera}/%s.ts", "where * ends and {camera} begins"),
        ("{camera}_*/%s.ts", "where {camera} ends and * begins"),
        ("{camera}/*%H%M*%Y%m%d.ts", "where * ends and * begins"),
        ("{camera}%s.ts", "where {camera} ends and %s begins"),
        ("{camera}/%s%f.ts", "where %s ends and %f begins"),
        ("{camera}/%s*.ts", "where %s ends and * begins"),
        ("**/{camera}/**/%s.ts", "more than once"),
        ("{camera}/a**/%s.ts", "beside other text"),
        ("{camera}/***/%s.ts", "beside other text"),
    ],
)
def test_a_bad_pattern_is_refused_with_its_reason(pattern: str, told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Layout.parse(pattern, UTC_ZONE)
    assert told in str(refused.value)
    assert all(fault.where == f"layout {pattern!r}" for fault in refused.value.faults)


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as refused:
        Layout.parse("/%Q/x", UTC_ZONE)
    assert len(refused.value.faults) == 5


# Clocks that are put back and forward


def at_wall(
    zone: ZoneInfo, wall: str, *, closed_at: datetime, duration: timedelta = TEN_SECONDS
) -> tuple[datetime, set[SegmentFlag]]:
    match = matched("{camera}/%Y-%m-%d_%H-%M-%S.ts", f"a/{wall}.ts", zone)
    resolved = resolve_start(match, closed_at=closed_at, duration=duration)
    return resolved.start, set(resolved.flags)


def test_the_repeated_hour_in_berlin_is_told_apart_by_the_file_time() -> None:
    first, second = utc(2026, 10, 25, 0, 30), utc(2026, 10, 25, 1, 30)
    for start in (first, second):
        found = at_wall(BERLIN, "2026-10-25_02-30-00", closed_at=start + TEN_SECONDS)
        assert found == (start, {SegmentFlag.TIME_AMBIGUOUS})


def test_every_segment_of_the_night_clocks_go_back_has_a_time_of_its_own() -> None:
    night, ten_minutes = utc(2026, 10, 24, 23), timedelta(minutes=10)
    starts = [night + index * ten_minutes for index in range(24)]
    found = [
        at_wall(
            BERLIN,
            f"{start.astimezone(BERLIN):%Y-%m-%d_%H-%M-%S}",
            closed_at=start + ten_minutes,
            duration=ten_minutes,
        )
        for start in starts
    ]
    assert [start for start, _ in found] == starts
    doubtful = [start for start, flags in found if flags]
    assert doubtful == [utc(2026, 10, 25, 0) + index * ten_minutes for index in range(12)]


def test_the_edges_of_the_repeated_hour_are_where_they_are() -> None:
    before = at_wall(BERLIN, "2026-10-25_01-59-59", closed_at=utc(2026, 10, 25, 0, 0, 9))
    after = at_wall(BERLIN, "2026-10-25_03-00-00", closed_at=utc(2026, 10, 25, 2, 0, 10))
    assert before == (utc(2026, 10, 24, 23, 59, 59), set())
    assert after == (utc(2026, 10, 25, 2), set())


def test_a_repeated_hour_copied_in_much_later_is_both_ambiguous_and_suspect() -> None:
    _, flags = at_wall(BERLIN, "2026-10-25_02-30-00", closed_at=utc(2026, 11, 1))
    assert flags == {SegmentFlag.TIME_AMBIGUOUS, SegmentFlag.TIME_SUSPECT}


def test_the_hour_that_does_not_exist_is_read_as_before_the_gap_and_suspect() -> None:
    start, flags = at_wall(BERLIN, "2026-03-29_02-30-00", closed_at=utc(2026, 3, 29, 1, 30, 10))
    assert (start, flags) == (utc(2026, 3, 29, 1, 30), {SegmentFlag.TIME_SUSPECT})
    before = at_wall(BERLIN, "2026-03-29_01-59-59", closed_at=utc(2026, 3, 29, 1, 0, 9))
    after = at_wall(BERLIN, "2026-03-29_03-00-00", closed_at=utc(2026, 3, 29, 1, 0, 10))
    assert before == (utc(2026, 3, 29, 0, 59, 59), set())
    assert after == (utc(2026, 3, 29, 1), set())


def test_lord_howe_repeats_and_skips_half_an_hour() -> None:
    # 5 April 2026: 02:00 at +11:00 becomes 01:30 at +10:30. 4 October: 02:00 becomes 02:30 again at +11:00.
    for start in (utc(2026, 4, 4, 14, 45), utc(2026, 4, 4, 15, 15)):
        found = at_wall(LORD_HOWE, "2026-04-05_01-45-00", closed_at=start + TEN_SECONDS)
        assert found == (start, {SegmentFlag.TIME_AMBIGUOUS})
    once = at_wall(LORD_HOWE, "2026-04-05_01-15-00", closed_at=utc(2026, 4, 4, 14, 15, 10))
    assert once == (utc(2026, 4, 4, 14, 15), set())
    gap = at_wall(LORD_HOWE, "2026-10-04_02-15-00", closed_at=utc(2026, 10, 3, 15, 45, 10))
    assert gap == (utc(2026, 10, 3, 15, 45), {SegmentFlag.TIME_SUSPECT})


@pytest.mark.parametrize("hour", range(24))
def test_utc_has_no_doubtful_hour(hour: int) -> None:
    start = utc(2026, 10, 25, hour, 30)
    assert at_wall(UTC_ZONE, f"2026-10-25_{hour:02}-30-00", closed_at=start + TEN_SECONDS) == (start, set())


@pytest.mark.parametrize("name", ["1792891800", "20261025023000+0100", "20261025023000+0200"])
def test_an_exact_time_is_never_ambiguous(name: str) -> None:
    pattern = "{camera}/%s.ts" if len(name) == 10 else "{camera}/%Y%m%d%H%M%S%z.ts"
    match = matched(pattern, f"a/{name}.ts", BERLIN)
    assert match.instant is not None
    other_hour = match.instant + timedelta(hours=1)
    resolved = resolve_start(match, closed_at=other_hour, duration=TEN_SECONDS)
    assert (resolved.start, set(resolved.flags)) == (match.instant, {SegmentFlag.TIME_SUSPECT})


# Names that disagree with the file


@pytest.mark.parametrize(
    ("late_s", "duration_s", "suspect"),
    [
        (0, 10, False),
        (59, 1, False),  # a minute is allowed: segments of one second are not flagged all the time
        (61, 1, True),
        (-61, 1, True),
        (61, 90, False),  # up to one segment
        (91, 90, True),
        (-91, 90, True),
        (86_400, 3600, True),  # copied in a day later
    ],
)
def test_a_name_that_disagrees_by_more_than_a_segment_is_kept_and_suspect(
    late_s: int, duration_s: int, suspect: bool
) -> None:
    start, duration = utc(2026, 1, 31, 12), timedelta(seconds=duration_s)
    closed_at = start + duration + timedelta(seconds=late_s)
    found = at_wall(UTC_ZONE, "2026-01-31_12-00-00", closed_at=closed_at, duration=duration)
    assert found == (start, {SegmentFlag.TIME_SUSPECT} if suspect else set())


def test_a_name_that_gives_only_the_hour_is_not_suspect_within_it() -> None:
    match = matched("{camera}/%Y-%m-%d_%H.ts", "a/2026-01-31_12.ts")
    resolved = resolve_start(match, closed_at=utc(2026, 1, 31, 12, 50), duration=timedelta(minutes=5))
    assert (resolved.start, resolved.flags) == (utc(2026, 1, 31, 12), frozenset())


def test_the_file_time_may_be_of_any_zone() -> None:
    closed_at = utc(2026, 1, 31, 12, 0, 10).astimezone(timezone(timedelta(hours=-7)))
    assert at_wall(UTC_ZONE, "2026-01-31_12-00-00", closed_at=closed_at) == (utc(2026, 1, 31, 12), set())


# There and back


FORMATS = [
    "{camera}/%Y-%m-%d/%H-%M-%S.ts",
    "{camera}/%Y%j%H%M%S_%f.ts",
    "%y/%m/%d/{camera}/%I.%M.%S %p.ts",
    "{camera}@%Y%m%d%H%M%S%z.ts",
    "x/{camera}/%F_%T%z.ts",
    "{camera}/%s.ts",
    "%Y-%m-%d/{camera}/%Y-%m-%d_%H%M%S-%f.ts",
]
cameras = st.text(
    alphabet=string.ascii_letters + string.digits + "_- .é🎥\udcff", min_size=1, max_size=12
).filter(lambda name: name not in {".", ".."})


def written(pattern: str, camera: str, moment: datetime) -> str:
    """The name a recorder would write, by the C library's strftime."""
    name = pattern.replace("%s", str(int(moment.timestamp())))
    name = moment.strftime(name.replace("{camera}", "\x01"))
    return name.replace("\x01", camera)


@given(
    pattern=st.sampled_from(FORMATS),
    camera=cameras,
    start=st.datetimes(datetime(2001, 1, 1), datetime(2068, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001  hypothesis makes them aware
    zone=st.sampled_from(
        [UTC_ZONE, BERLIN, LORD_HOWE, ZoneInfo("America/St_Johns"), ZoneInfo("Asia/Kathmandu")]
    ),
    duration=st.timedeltas(timedelta(seconds=1), timedelta(minutes=5)),
)
def test_a_written_time_is_read_as_the_same_time(
    pattern: str, camera: str, start: datetime, zone: ZoneInfo, duration: timedelta
) -> None:
    start = start if "%f" in pattern else start.replace(microsecond=0)
    match = matched(pattern, written(pattern, camera, start.astimezone(zone)), zone)
    resolved = resolve_start(match, closed_at=start + duration, duration=duration)
    assert resolved.start == start
    assert match.camera_folder == camera
    assert not resolved.flags - {SegmentFlag.TIME_AMBIGUOUS}


@given(
    st.sampled_from([*FORMATS, "{camera}_%Y%m%d_%H%M%S_*.ts", "**/{camera}/*-%s.ts"]), st.text(max_size=60)
)
def test_any_name_at_all_is_matched_refused_or_passed_over(pattern: str, name: str) -> None:
    for path in (name, f"a/{name}.ts", name + "20260101000000+9999.ts", f"{name}/1750000000.ts"):
        try:
            match = Layout.parse(pattern, BERLIN).match(path)
        except NotASegment as exc:
            assert exc.reason in {"impossible_time", "contradictory_name"}
        else:
            assert match is None or "/" not in match.camera_folder
