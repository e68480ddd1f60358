"""Playlists by the letter of RFC 8216, whatever the rows are: what is shown, and where players begin anew."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import accumulate, pairwise
from math import ceil
from uuid import NAMESPACE_OID, UUID, uuid4, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cctv_storaged.clock import from_us as from_microseconds
from cctv_storaged.clock import to_us
from cctv_storaged.media.playlist import Piece, of_tuple, shown, written
from cctv_storaged.media.playlist import chosen as chosen_of
from cctv_storaged.model import TimeSpan
from cctv_storaged.playback import LONGEST_LIFE, lifetime
from tests.hls import BadPlaylist, ReadPlaylist, read_playlist

T0 = datetime(2026, 1, 1, tzinfo=UTC)
T0_US = to_us(T0)
S = 1_000_000
WRAP = 2**33


def piece(
    start_s: float,
    end_s: float,
    ticks: int | None = None,
    *,
    name: bytes | None = None,
    fingerprint: bytes = b"h264",
    flags: str = "",
) -> Piece:
    start_us, end_us = T0_US + round(start_s * S), T0_US + round(end_s * S)
    id_ = name or f"{start_s}-{end_s}".encode()
    return start_us, end_us, flags, ticks, None if ticks is None else fingerprint, id_


def stream(*cuts_s: float, ticks: int = 126_000) -> list[Piece]:
    """Segments of one recorder whose clock goes on, cut at these times."""
    return [
        piece(start, end, (ticks + round((start - cuts_s[0]) * 90_000)) % WRAP)
        for start, end in pairwise(cuts_s)
    ]


def chosen(pieces: Sequence[Piece]) -> list[Piece]:
    return list(shown(sorted(pieces, key=lambda each: each[0]), of_tuple))


def playlist(pieces: Sequence[Piece], from_s: float = 0) -> ReadPlaylist:
    return read_playlist(text_of(pieces, from_s).encode())


def text_of(pieces: Sequence[Piece], from_s: float) -> str:
    return written(pieces, {each[5]: each[5].decode() for each in pieces}, T0_US + round(from_s * S))


def names(pieces: Sequence[Piece]) -> list[str]:
    return [each[5].decode() for each in pieces]


def breaks(*pieces: Piece) -> list[int]:
    return playlist(pieces).breaks


# The text


def test_a_playlist_to_the_letter() -> None:
    pieces = [*stream(0, 10, 19.96), piece(30, 40.04, 126_000, flags="no_keyframe")]
    assert text_of(pieces, 2.5) == (
        "#EXTM3U\n"
        "#EXT-X-VERSION:3\n"
        "#EXT-X-TARGETDURATION:11\n"
        "#EXT-X-MEDIA-SEQUENCE:0\n"
        "#EXT-X-PLAYLIST-TYPE:VOD\n"
        "#EXT-X-START:TIME-OFFSET=2.500000,PRECISE=YES\n"
        "#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:00.000Z\n"
        "#EXTINF:10.000000,\n"
        "0-10\n"
        "#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:10.000Z\n"
        "#EXTINF:9.960000,\n"
        "10-19.96\n"
        "#EXT-X-DISCONTINUITY\n"
        "#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:30.000Z\n"
        "#EXTINF:10.040000,\n"
        "30-40.04\n"
        "#EXT-X-ENDLIST\n"
    )


def test_a_segment_is_at_the_api_unless_it_is_elsewhere() -> None:
    here, there = uuid4(), uuid4()
    pieces = [piece(0, 10, name=here.bytes), piece(10, 20, name=there.bytes)]
    read = read_playlist(written(pieces, {there.bytes: "https://store/key.ts?signed"}, T0_US).encode())
    assert read.uris == [f"{here}/content.ts", "https://store/key.ts?signed"]


def test_segments_are_independent_only_if_all_begin_with_a_key_frame() -> None:
    first, second = stream(0, 10, 20)
    cut_anywhere = (*second[:2], "no_keyframe partial", *second[3:])
    assert playlist([first, second]).independent
    assert not playlist([first, cut_anywhere]).independent


def test_a_player_begins_at_the_moment_asked_for() -> None:
    pieces = stream(0, 10, 20)
    assert playlist(pieces, 2.5).begin_s == Fraction("2.5")
    assert playlist(pieces, 0).begin_s is None
    assert playlist(pieces, -60).begin_s is None  # the footage begins later


@pytest.mark.parametrize(
    "spoiled",
    [
        ("#EXTM3U\n", ""),
        ("#EXT-X-TARGETDURATION:10\n", ""),
        ("TARGETDURATION:10", "TARGETDURATION:9"),
        ("VERSION:3", "VERSION:2"),
        ("#EXTINF:10.000000,\n", ""),
        ("#EXTINF:10.000000,\n", "#EXTINF:10.000000\n"),
        ("10.000000,\n", "-1,\n"),
        ("00:00.000Z", "00:00.000"),
        ("#EXT-X-ENDLIST\n", ""),
        ("#EXT-X-ENDLIST", "#EXT-X-DISCONTINUITY"),
        ("2.500000,PRECISE=YES", "99.5,PRECISE=YES"),
        ("2.500000,PRECISE=YES", "2.5,PRECISE=MAYBE"),
        ("\n0-10\n", "\n0 10\n"),
        ("\n0-10\n", "\n0\x0710\n"),
        ("#EXT-X-MEDIA-SEQUENCE:0\n", "#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-MEDIA-SEQUENCE:0\n"),
    ],
)
def test_the_strict_reader_is_strict(spoiled: tuple[str, str]) -> None:
    text = text_of(stream(0, 10, 20)[:1] + stream(0, 10, 19.5)[1:], 2.5)
    read_playlist(text.encode())
    changed = text.replace(*spoiled)
    assert changed != text
    with pytest.raises(BadPlaylist):
        read_playlist(changed.encode())


# Where a player begins anew


def test_one_stream_plays_through() -> None:
    assert breaks(*stream(0, 10, 20, 30.04)) == []


def test_the_clock_wraps_within_a_stream() -> None:
    assert breaks(*stream(0, 10, 20, 30, ticks=WRAP - 15 * 90_000)) == []


def test_a_lost_segment_is_a_break() -> None:
    first, _, third = stream(0, 10, 20, 30)
    assert breaks(first, third) == [1]


def test_a_pause_is_a_break_though_the_clock_did_not_run() -> None:
    assert breaks(piece(0, 10, 0), piece(60, 70, 900_000)) == [1]


def test_a_clock_that_begins_anew_is_a_break_each_time() -> None:
    assert breaks(*(piece(10 * n, 10 * n + 10, 126_000) for n in range(4))) == [1, 2, 3]


def test_a_clock_that_nobody_knows_is_a_break() -> None:
    assert breaks(piece(0, 10, 0), piece(10, 20), piece(20, 30), piece(30, 40, 0)) == [1, 2, 3]


def test_another_codec_or_size_is_a_break() -> None:
    first, second = stream(0, 10, 20)
    assert breaks(first, (*second[:4], b"hevc", second[5])) == [1]


def test_a_step_of_the_wall_clock_is_a_break() -> None:
    """The footage goes on, and the time that stands beside it does not."""
    first, second = stream(0, 10, 20)
    ahead = (second[0] + 5 * S, second[1] + 5 * S, *second[2:])
    assert breaks(first, ahead) == [1]


@pytest.mark.parametrize(("late_s", "breaks_at"), [(-0.6, [1]), (-0.4, []), (0.4, []), (0.6, [1])])
def test_a_last_frame_of_unknown_length_is_no_break(late_s: float, breaks_at: list[int]) -> None:
    assert breaks(piece(0, 10, 0), piece(10, 20, round((10 + late_s) * 90_000) % WRAP)) == breaks_at


# What is shown


def test_the_same_file_twice_is_shown_once() -> None:
    twin = piece(0, 10, 126_000, name=b"twin", flags="duplicate")
    assert names(chosen([*stream(0, 10, 20), twin])) == ["0-10", "10-20"]


def test_of_two_versions_of_a_file_the_longer_is_shown() -> None:
    whole = piece(0, 10, 126_000, name=b"whole", flags="rewritten")
    assert names(chosen([piece(0, 4, 126_000), whole, *stream(0, 10, 20)[1:]])) == ["whole", "10-20"]


def test_what_others_cover_is_not_shown() -> None:
    assert names(chosen([*stream(0, 10, 20), piece(3, 8, 7)])) == ["0-10", "10-20"]


def test_of_two_recorders_one_is_followed() -> None:
    other = stream(5, 15, 25, 35, ticks=5_000_000)
    assert names(chosen([*stream(0, 10, 20, 30), *other])) == ["0-10", "10-20", "20-30", "25-35"]


def test_a_second_recorder_fills_the_first_ones_gap() -> None:
    first, _, third = stream(0, 10, 20, 30)
    other = stream(5, 15, 25, 35, ticks=5_000_000)
    assert names(chosen([first, third, *other])) == ["0-10", "5-15", "15-25", "25-35"]


def test_one_length_measured_in_two_ways_is_not_shown_twice() -> None:
    again = piece(0.02, 10.04, None, name=b"again")
    assert names(chosen([*stream(0, 10), again, *stream(10.02, 20)])) == ["0-10", "10.02-20"]


def test_where_the_clock_goes_on_footage_is_new_whatever_its_name_says() -> None:
    """Named by whole seconds, a short segment can seem to lie wholly within the one before."""
    first, second, third = piece(0, 1.9, 0), piece(1, 1.8, 171_000), piece(2, 4, 243_000)
    assert names(chosen([first, second, third])) == ["0-1.9", "1-1.8", "2-4"]


def test_what_has_no_length_is_not_shown() -> None:
    assert names(chosen([piece(0, 0), piece(0, 10), piece(5, 5), piece(12, 11), piece(12, 20)])) == [
        "0-10",
        "12-20",
    ]


# Whatever the rows are

anything = st.lists(
    st.builds(
        lambda start, length, ticks, kind, flags: piece(
            start / 1000, (start + length) / 1000, ticks, fingerprint=kind, flags=flags
        ),
        st.integers(-5_000, 60_000),
        st.integers(-10, 20_000),
        st.none() | st.integers(0, WRAP - 1) | st.integers(0, 60).map(lambda second: second * 90_000),
        st.sampled_from([b"h264", b"hevc"]),
        st.sampled_from(["", "duplicate", "no_keyframe partial"]),
    ),
    max_size=12,
    unique_by=lambda each: each[5],
)
lengths = st.lists(st.integers(1_000, 20_000), min_size=1, max_size=20)
starts = st.integers(0, 10_000)


def uncovered_us(whole: Piece, others: Sequence[Piece]) -> int:
    missing, at = 0, whole[0]
    for start, end in sorted((other[0], other[1]) for other in others):
        missing += max(0, min(start, whole[1]) - at)
        at = max(at, min(end, whole[1]))
    return missing + max(0, whole[1] - at)


def goes_on(before: Piece, after: Piece) -> bool:
    """The same rule said in another way: seconds, and the clock's next turn."""
    if before[3] is None or after[3] is None or before[4] != after[4]:
        return False
    due = Fraction(before[3], 90_000) + Fraction(before[1] - before[0], S)
    turns = [Fraction(after[3] + turn * WRAP, 90_000) for turn in (-1, 0, 1, 2)]
    in_time = abs(after[0] - before[1]) <= S
    return in_time and min(abs(turn - due) for turn in turns) <= Fraction(1, 2) + Fraction(1, 90_000)


@given(anything)
def test_no_rows_whatever_make_a_bad_playlist(pieces: list[Piece]) -> None:
    picked = chosen(pieces)
    assert bool(picked) == any(each[1] > each[0] for each in pieces)
    if picked:
        read = playlist(picked)
        assert read.uris == names(picked)
        for at, (before, after) in enumerate(pairwise(picked), start=1):
            slack = abs(abs(after[0] - before[1]) - S) <= 1
            assert slack or (at in read.breaks) == (not goes_on(before, after))


def written_plainly(pieces: Sequence[Piece], elsewhere: Mapping[bytes, str], from_us: int) -> str:
    """A line after the other, each from its own moment: what `written` gives in a third less time."""
    lines = ["#EXTM3U", "#EXT-X-VERSION:3"]
    lines.append(f"#EXT-X-TARGETDURATION:{ceil(max(Fraction(each[1] - each[0], S) for each in pieces))}")
    lines += ["#EXT-X-MEDIA-SEQUENCE:0", "#EXT-X-PLAYLIST-TYPE:VOD"]
    if not any("no_keyframe" in each[2].split() for each in pieces):
        lines.append("#EXT-X-INDEPENDENT-SEGMENTS")
    if pieces[0][0] < from_us < pieces[0][1]:
        lines.append(f"#EXT-X-START:TIME-OFFSET={Decimal(from_us - pieces[0][0]) / S:.6f},PRECISE=YES")
    for before, each in zip([None, *pieces], pieces, strict=False):
        if before is not None and not plays_on(before, each):
            lines.append("#EXT-X-DISCONTINUITY")
        moment = from_microseconds(each[0]).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        lines += [f"#EXT-X-PROGRAM-DATE-TIME:{moment}", f"#EXTINF:{Decimal(each[1] - each[0]) / S:.6f},"]
        lines.append(elsewhere.get(each[5]) or f"{UUID(bytes=each[5])}/content.ts")
    return "".join(f"{line}\n" for line in (*lines, "#EXT-X-ENDLIST"))


def plays_on(before: Piece, after: Piece) -> bool:
    if before[3] is None or after[3] is None or before[4] != after[4]:
        return False
    late = (after[3] - before[3] - (before[1] - before[0]) * 9 // 100) % WRAP
    return min(late, WRAP - late) <= 45_000 and abs(after[0] - before[1]) <= S


@given(anything, anything, st.integers(-9_000_000, 70_000_000), st.sets(st.integers(0, 23)))
def test_the_quick_way_to_write_is_as_the_plain_one(
    pieces: list[Piece], fine: list[Piece], from_us: int, elsewhere: set[int]
) -> None:
    """Moments to the microsecond, minutes that go back, addresses of both kinds."""
    fine = [(each[0] + 123_457, each[1] + 123_459, *each[2:]) for each in fine]
    named = [
        (*each[:5], uuid5(NAMESPACE_OID, f"{at}").bytes) for at, each in enumerate([*pieces, *fine], start=1)
    ]
    named = [each for each in named if each[1] > each[0]]
    urls = {each[5]: f"https://store/{at}?signed" for at, each in enumerate(named) if at in elsewhere}
    if named:
        assert written(named, urls, T0_US + from_us) == written_plainly(named, urls, T0_US + from_us)


@given(anything)
def test_the_short_way_to_choose_is_as_the_long_one(pieces: list[Piece]) -> None:
    in_order = sorted(pieces, key=lambda each: each[0])
    assert list(chosen_of(in_order)) == list(shown(in_order, of_tuple))


@given(anything)
def test_all_footage_there_is_is_shown(pieces: list[Piece]) -> None:
    picked = chosen(pieces)
    for each in pieces:
        assert uncovered_us(each, picked) * 50 <= max(0, each[1] - each[0])


@given(anything.map(lambda pieces: [(*each[:3], None, None, each[5]) for each in pieces]))
def test_no_moment_is_shown_three_times(pieces: list[Piece]) -> None:
    picked = chosen(pieces)
    assert all(after[0] > before[1] for before, after in zip(picked, picked[2:], strict=False))


def recorded(begin_ms: int, lengths_ms: Sequence[int], ticks: int) -> list[Piece]:
    """As recorders do it: a clock of its own, and names that tell whole seconds."""
    cuts = list(accumulate(lengths_ms, initial=begin_ms))
    return [
        piece(
            start // 1000,
            start // 1000 + (end - start) / 1000,
            (ticks + (start - begin_ms) * 90) % WRAP,
            name=str(number).encode(),
        )
        for number, (start, end) in enumerate(pairwise(cuts))
    ]


@given(starts, lengths, st.integers(0, WRAP - 1))
def test_what_a_recorder_cut_at_whole_seconds_plays_through(
    begin_ms: int, lengths_ms: list[int], ticks: int
) -> None:
    pieces = recorded(begin_ms, lengths_ms, ticks)
    assert chosen(pieces) == pieces
    assert breaks(*pieces) == []


@given(starts, lengths, st.integers(0, WRAP - 1), st.data())
def test_a_break_is_exactly_where_segments_are_missing(
    begin_ms: int, lengths_ms: list[int], ticks: int, data: st.DataObject
) -> None:
    pieces = recorded(begin_ms, lengths_ms, ticks)
    kept = data.draw(st.sets(st.sampled_from(range(len(pieces))), min_size=1).map(sorted))
    expected = [at for at, (before, after) in enumerate(pairwise(kept), start=1) if after - before > 1]
    assert breaks(*chosen([pieces[number] for number in kept])) == expected


# How long signed addresses work


def test_signed_addresses_outlive_the_playing_and_not_the_day() -> None:
    hour = timedelta(hours=1)
    assert lifetime(TimeSpan(T0, T0 + hour)) == 2 * hour
    assert lifetime(TimeSpan(T0, T0 + 24 * hour)) == LONGEST_LIFE == 12 * hour
