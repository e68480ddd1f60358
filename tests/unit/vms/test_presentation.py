"""When XProtect's pictures are shown: true times out of bunched ones, and of hostile ones times that play."""

from datetime import UTC, datetime
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cctv_storaged.backends.milestone.base import Picture
from cctv_storaged.vms.presentation import MOST_REORDERED, Timeline
from tests.fakes.xprotect.pictures import Group, grouped, pictures_of_ts
from tests.footage import Recipe, cached_ts

T0 = datetime(2026, 1, 1, 10, tzinfo=UTC)
RECIPES: dict[str, Recipe] = {
    "no reordering": {"seconds": 3},
    "B-frames": {"seconds": 3, "bframes": 2},
    "B-frames in open groups": {"seconds": 3, "bframes": 3, "open_gop": True},
    "H.265, B-frames": {"seconds": 3, "codec": "hevc", "bframes": 3},
    "H.265, open groups": {"seconds": 3, "codec": "hevc", "bframes": 4, "open_gop": True},
}
FFMPEGS = {"h264": "h264", "h265": "hevc"}


@cache
def groups(name: str) -> list[Group]:
    return list(grouped(*pictures_of_ts(cached_ts(**RECIPES[name]), T0)))


def pictures(group: Group, times_ms: tuple[int, ...]) -> list[Picture]:
    return [
        Picture(time_ms=time_ms, key=picture.key, codec=group.codec, data=picture.data)
        for time_ms, picture in zip(times_ms, group.pictures, strict=True)
    ]


@pytest.mark.parametrize("bunched", [False, True], ids=["own times", "bunched"])
@pytest.mark.parametrize("name", RECIPES)
def test_times_are_those_of_recording_whatever_the_recorder_told(name: str, bunched: bool) -> None:
    film = groups(name)
    timeline = Timeline(FFMPEGS[film[0].codec])
    decoded: list[int] = []
    for group in film:
        own = tuple(picture.time_ms for picture in group.pictures)
        timed = timeline.timed(pictures(group, group.arrivals_ms() if bunched else own))
        assert len(timed) == len(own), "the first group is closed here"
        for found, time_ms in zip(timed, own, strict=True):
            assert abs(found.shown_us - 1000 * time_ms) <= (2_000 if bunched else 0)
            assert found.decoded_us <= found.shown_us
        decoded += [found.decoded_us for found in timed]
    assert all(a < b for a, b in pairwise(decoded))


def test_what_refers_to_an_earlier_group_is_left_out_of_the_first() -> None:
    group = groups("H.265, open groups")[1]
    own = tuple(picture.time_ms for picture in group.pictures)
    leading = [time_ms for time_ms in own if time_ms < own[0]]
    assert leading
    timed = Timeline("hevc").timed(pictures(group, own))
    assert [found.shown_us for found in timed] == [1000 * each for each in own if each not in leading]


def test_a_hole_between_groups_is_no_long_picture() -> None:
    """What is decoded behind it is decoded then, and not a minute before it is shown."""
    first, second, *_ = groups("B-frames")
    timeline = Timeline("h264")
    timeline.timed(pictures(first, tuple(picture.time_ms for picture in first.pictures)))
    later = tuple(picture.time_ms + 60_000 for picture in second.pictures)
    timed = timeline.timed(pictures(second, later))
    assert [found.shown_us // 1000 for found in timed] == list(later)
    assert max(found.shown_us - found.decoded_us for found in timed) < 1_000_000


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("back_ms", [1, 500, 60_000])
def test_a_clock_that_was_set_back_shows_no_two_pictures_at_once_and_is_told(name: str, back_ms: int) -> None:
    film = groups(name)
    timeline = Timeline(FFMPEGS[film[0].codec])
    found = []
    for number, group in enumerate(film[:3]):
        back = back_ms if number else 0
        found += timeline.timed(pictures(group, tuple(picture.time_ms - back for picture in group.pictures)))
    shown = [each.shown_us for each in found]
    assert len(set(shown)) == len(shown)
    assert all(each.decoded_us <= each.shown_us for each in found)
    assert all(a.decoded_us < b.decoded_us for a, b in pairwise(found))
    assert (timeline.set_back_us > 0) == (back_ms > 1000)


@settings(max_examples=150, deadline=None)
@given(
    times=st.lists(st.lists(st.integers(0, 2**41), min_size=1, max_size=25), min_size=1, max_size=4),
    name=st.sampled_from(list(RECIPES)),
    blind=st.booleans(),
)
def test_times_of_any_kind_are_made_to_play(times: list[list[int]], name: str, blind: bool) -> None:
    """Decoding times increase, nothing is shown before it is decoded, and no two at the same time."""
    film = groups(name)
    timeline = Timeline(FFMPEGS[film[0].codec])
    found = []
    for number, told in enumerate(times):
        group = film[number % len(film)]
        some = pictures(group, tuple(picture.time_ms for picture in group.pictures))[: len(told)]
        found += timeline.timed(
            [
                Picture(time_ms=time_ms, key=each.key, codec=each.codec, data=b"" if blind else each.data)
                for time_ms, each in zip(told, some, strict=False)
            ]
        )
    assert all(each.decoded_us <= each.shown_us for each in found)
    assert all(a.decoded_us < b.decoded_us for a, b in pairwise(found))
    assert len({each.shown_us * 9 // 100 for each in found}) == len(found), "in ticks"


def test_an_order_that_no_decoder_could_show_is_not_believed() -> None:
    (group, *_) = groups("no reordering")
    own = tuple(picture.time_ms for picture in group.pictures)
    assert len(own) > MOST_REORDERED + 1
    blind = [Picture(time_ms=time_ms, key=False, codec="h264", data=b"") for time_ms in (own[-1], *own[:-1])]
    timed = Timeline("h264").timed(blind)
    shown = [found.shown_us for found in timed]
    assert shown == sorted(shown), "as they are decoded"
