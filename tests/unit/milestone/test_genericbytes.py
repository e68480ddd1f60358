"""Packets of pictures: taken when every length is true, else refused by its name."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cctv_storaged.backends.milestone.answers import Unreadable
from cctv_storaged.backends.milestone.base import Picture
from cctv_storaged.backends.milestone.genericbytes import pictures_of
from cctv_storaged.errors import BackendError, Unsupported
from tests.fakes.recorderbytes import H265, packet, several

KEY = packet(1_790_000_000_000, b"key")
OTHER = packet(1_790_000_000_040, b"other", key=False)
PICTURES = [
    Picture(time_ms=1_790_000_000_000, key=True, codec="h264", data=b"key"),
    Picture(time_ms=1_790_000_000_040, key=False, codec="h264", data=b"other"),
]


def test_a_picture_is_what_its_header_says_and_the_rest() -> None:
    """Byte for byte as vendor samples read it."""
    written = bytes.fromhex("0010 00000023 000e 0007 0001 000001a0c5e8f800 000001a0c5e8f828 00000000 616263")
    assert list(pictures_of(written)) == [Picture(time_ms=0x1A0C5E8F828, key=True, codec="h265", data=b"abc")]


@pytest.mark.parametrize(
    "body", [KEY + OTHER, several(KEY, OTHER), several(KEY) + OTHER, KEY + several(OTHER)]
)
def test_several_packets_come_one_after_the_other_or_in_a_wrapper(body: bytes) -> None:
    assert list(pictures_of(body)) == PICTURES


@pytest.mark.parametrize("off_by", [-33, -3, -1, 1, 2**31])
def test_the_length_with_the_header_must_be_true(off_by: int) -> None:
    with pytest.raises(Unreadable):
        list(pictures_of(packet(1, b"abc", length_off_by=off_by)))


def test_nothing_may_be_missing_or_left_over() -> None:
    for body in (KEY + OTHER, several(KEY, OTHER)):
        whole_packets = {len(KEY)} if body.startswith(KEY) else set()
        for length in set(range(1, len(body))) - whole_packets:
            with pytest.raises(Unreadable):
                list(pictures_of(body[:length]))
        with pytest.raises(BackendError):
            list(pictures_of(body + b"\0"))


UNFIT = {
    "a wrapper in a wrapper": several(several(KEY)),
    "an empty wrapper": several(),
    "a picture of no bytes": packet(1, b""),
    "a time before all": packet(0),
    "a time after all": packet(2**63),
}
OTHERS = {
    "JPEG": packet(1, codec=0x0001),
    "MPEG-4": packet(1, codec=0x0004),
    "AV1": packet(1, codec=0x000F),
    "MxPEG": packet(1, codec=0x0080),
    "codec 0x1234": packet(1, codec=0x1234),
    "audio": packet(1, kind=0x0020),
    "metadata": packet(1, kind=0x0030),
    "data of kind 0x0040": packet(1, kind=0x0040),
    "video block": packet(1, kind=0x000A),
}


@pytest.mark.parametrize("case", UNFIT)
def test_what_makes_no_sense_is_unreadable(case: str) -> None:
    with pytest.raises(Unreadable):
        list(pictures_of(UNFIT[case]))


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_not_read_here_is_named(name: str) -> None:
    with pytest.raises(Unsupported, match=name):
        list(pictures_of(OTHERS[name]))
    with pytest.raises(Unsupported, match=name):
        list(pictures_of(several(OTHERS[name])))


@given(
    st.lists(st.tuples(st.integers(1, 2**40), st.binary(min_size=1, max_size=9), st.booleans()), max_size=5)
)
def test_what_is_written_is_read(pictures: list[tuple[int, bytes, bool]]) -> None:
    packets = [packet(time_ms, data, key=key, codec=H265) for time_ms, data, key in pictures]
    read = list(pictures_of(b"".join(packets)))
    assert [(each.time_ms, each.data, each.key) for each in read] == pictures


@given(
    st.one_of(
        st.binary(max_size=120),
        st.builds(
            lambda at, new: (KEY + several(OTHER))[:at] + new + (KEY + several(OTHER))[at + len(new) :],
            st.integers(0, 100),
            st.binary(min_size=1, max_size=4),
        ),
    )
)
@settings(max_examples=200)
def test_garbage_ends_in_one_of_our_errors(body: bytes) -> None:
    try:
        read = list(pictures_of(body))
    except BackendError:
        return
    assert sum(32 + len(each.data) for each in read) <= len(body)
