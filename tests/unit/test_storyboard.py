"""A storyboard's arithmetic: parts that cover the span, cues that parse, places that agree with the sheet."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st

from cctv_storaged.api.models import parse_moment
from cctv_storaged.media.picture import COLUMNS, MOST_TILES, TILE_HEIGHT, TILE_WIDTH
from cctv_storaged.model import FileIdentity, Segment, SourceFile, SourceState, TimeSpan
from cctv_storaged.storyboards import LEAST_TILE, LONGEST_SPAN, Tile, parts_of, place_of, vtt_of
from tests.webvtt import cues_of

T0 = datetime(2026, 3, 5, 12, tzinfo=UTC)
spans = st.builds(
    lambda start_us, length_us: TimeSpan(
        T0 + timedelta(microseconds=start_us), T0 + timedelta(microseconds=start_us + length_us)
    ),
    st.integers(0, 10**15),
    st.integers(int(LEAST_TILE.total_seconds() * 1e6), int(LONGEST_SPAN.total_seconds() * 1e6)),
)
counts = st.integers(1, MOST_TILES)


def some_segment(span: TimeSpan) -> Segment:
    identity = FileIdentity(device=1, inode=1, size_bytes=1, mtime_ns=1)
    return Segment(
        id=uuid4(),
        camera_id=uuid4(),
        span=span,
        source=SourceFile(root="/r", path="a.ts", identity=identity),
        source_state=SourceState.PRESENT,
        flags=frozenset(),
        codec="h264",
        sha256=None,
        created_at=T0,
    )


@given(spans, counts)
def test_the_parts_cover_the_span_without_gap_and_none_is_too_short(span: TimeSpan, tiles: int) -> None:
    parts = parts_of(span, tiles)
    assert 1 <= len(parts) <= tiles
    assert (parts[0].start, parts[-1].end) == (span.start, span.end)
    assert all(earlier.end == later.start for earlier, later in pairwise(parts))
    assert len(parts) == 1 or min(part.duration for part in parts) >= LEAST_TILE - timedelta(microseconds=1)
    longest, shortest = max(p.duration for p in parts), min(p.duration for p in parts)
    assert longest - shortest <= timedelta(microseconds=1)


@given(spans, counts)
def test_as_many_parts_as_were_made_are_made_again_for_the_sheet(span: TimeSpan, tiles: int) -> None:
    """The text names the number it was made with."""
    parts = parts_of(span, tiles)
    assert parts_of(span, len(parts)) == parts


@given(spans, counts, st.data())
def test_cues_are_webvtt_relative_to_the_span_and_left_out_in_gaps(
    span: TimeSpan, tiles: int, data: st.DataObject
) -> None:
    parts = parts_of(span, tiles)
    there = data.draw(st.lists(st.booleans(), min_size=len(parts), max_size=len(parts)))
    board = [
        Tile(part, some_segment(part) if has else None, None) for part, has in zip(parts, there, strict=True)
    ]
    cues = cues_of(vtt_of(span, board))
    expected = [(number, part) for number, (part, has) in enumerate(zip(parts, there, strict=True)) if has]
    assert len(cues) == len(expected)
    for cue, (number, part) in zip(cues, expected, strict=True):
        assert abs(cue.start_s - (part.start - span.start).total_seconds()) <= 0.00051
        assert abs(cue.end_s - (part.end - span.start).total_seconds()) <= 0.00051
        assert cue.box == (*place_of(number), TILE_WIDTH, TILE_HEIGHT)
        sheet = urlsplit(cue.sheet)
        query = {name: values[0] for name, values in parse_qs(sheet.query).items()}
        assert sheet.path == "storyboard.jpg"
        assert (parse_moment(query["start"]), parse_moment(query["end"])) == (span.start, span.end)
        assert int(query["tiles"]) == len(parts)


def test_a_hundred_tiles_have_a_hundred_places_ten_to_a_row() -> None:
    places = [place_of(number) for number in range(MOST_TILES)]
    assert len(set(places)) == MOST_TILES
    assert max(x for x, _ in places) == (COLUMNS - 1) * TILE_WIDTH
    assert places[COLUMNS] == (0, TILE_HEIGHT)
