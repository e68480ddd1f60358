"""Bytes of port 7563 become the same messages however they arrive, or an error; never more than allowed."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cctv_storaged.backends.milestone.answers import Unreadable
from cctv_storaged.backends.milestone.imagewire import (
    AnswerTooLarge,
    ImageResponse,
    ImageWire,
    Message,
    Room,
    WireLimits,
    XmlDocument,
)
from cctv_storaged.errors import BackendError, BackendUnavailable
from tests.fakes.recorderbytes import BOUNDARY, END, LIVE_PACKAGE, connected, multipart, part, single

SMALL = WireLimits(part_bytes=64, parts=3, header_lines=8, xml_bytes=200, answer_bytes=120)

STREAM = b"".join(
    [
        connected(1),
        multipart([b"one", b"", b"--B0undary\r\n\r\n"]),
        LIVE_PACKAGE,
        single(b"\xff\xd8jpeg"),
        single(b"", end=b""),  # whether an ending follows no bytes is not published
        single(b""),
        multipart([]),
        multipart([b"last"], end=END + END),
        connected(2, "no", "Token expired"),
    ]
)


def image(*bodies: bytes) -> ImageResponse:
    return ImageResponse(request_id=1, previous_ms=1, current_ms=2, next_ms=3, bodies=bodies)


MESSAGES: list[Message] = [
    XmlDocument(connected(1).removesuffix(END)),
    image(b"one", b"", b"--B0undary\r\n\r\n"),
    XmlDocument(LIVE_PACKAGE.removesuffix(END)),
    image(b"\xff\xd8jpeg"),
    image(),
    image(),
    image(),
    image(b"last"),
    XmlDocument(connected(2, "no", "Token expired").removesuffix(END)),
]


def outcome(
    chunks: Iterable[bytes], limits: WireLimits | None = None
) -> tuple[list[Message], type[BackendError] | None]:
    """What comes of the bytes, up to an error."""
    wire, found = ImageWire(limits), []
    try:
        for chunk in chunks:
            for message in wire.feed(chunk):
                found.append(message)  # noqa: PERF402 - those before an error count
    except BackendError as exc:
        return found, type(exc)
    return found, None


def cut(data: bytes, at: Sequence[int]) -> list[bytes]:
    places = [0, *sorted(place % (len(data) + 1) for place in at), len(data)]
    return [data[start:end] for start, end in pairwise(places)]


def test_a_stream_is_taken_apart() -> None:
    assert outcome([STREAM]) == (MESSAGES, None)


def test_it_makes_no_difference_where_it_is_split() -> None:
    assert outcome(bytes([byte]) for byte in STREAM) == (MESSAGES, None)
    for at in range(len(STREAM) + 1):
        assert outcome([STREAM[:at], STREAM[at:]]) == (MESSAGES, None), at


BODIES = st.binary(max_size=40)
ANY_MESSAGE = st.one_of(
    st.builds(single, BODIES.filter(bool)),
    st.builds(multipart, st.lists(BODIES, max_size=4)),
    st.sampled_from([connected(1), LIVE_PACKAGE, single(b"")]),
)
CUTS = st.lists(st.integers(0, 10_000), max_size=12)


@given(st.lists(ANY_MESSAGE, max_size=5), CUTS)
@settings(max_examples=100, deadline=None)
def test_any_messages_come_out_whole_from_any_chunks(messages: list[bytes], at: list[int]) -> None:
    data = b"".join(messages)
    found, error = outcome(cut(data, at))
    assert error is None
    assert len(found) == len(messages)
    assert (found, None) == outcome([data])


@given(
    st.one_of(
        st.binary(max_size=300),
        st.builds(
            lambda at, gone, new: STREAM[:at] + new + STREAM[at + gone :],
            st.integers(0, len(STREAM)),
            st.integers(0, 5),
            st.binary(max_size=5),
        ),
    ),
    CUTS,
)
@settings(max_examples=150, deadline=None)
def test_garbage_ends_in_one_of_our_errors_and_the_same_from_any_chunks(data: bytes, at: list[int]) -> None:
    assert outcome(cut(data, at), SMALL) == outcome([data], SMALL)
    assert outcome(cut(data, at)) == outcome([data])


def test_only_between_messages_nothing_is_cut() -> None:
    wire, ends, at = ImageWire(), set(), 0
    for message in (connected(1), multipart([b"a", b"b"]), single(b"body"), LIVE_PACKAGE):
        ends.add(at := at + len(message))
    data = connected(1) + multipart([b"a", b"b"]) + single(b"body") + LIVE_PACKAGE
    assert wire.at_rest
    for count, byte in enumerate(data, start=1):
        list(wire.feed(bytes([byte])))
        assert wire.at_rest == (count in ends), count


def test_header_names_are_compared_without_case_and_unknown_ones_passed_over() -> None:
    spelt = single(b"body", PrivacyMask=0)
    for written in (
        spelt,
        spelt.replace(b"Content-length", b"CONTENT-LENGTH").replace(b"Current", b"current"),
    ):
        assert outcome([written]) == ([image(b"body")], None)


def test_a_boundary_may_stand_in_quotes_and_after_a_line_end() -> None:
    quoted = multipart([b"x"]).replace(b"boundary=B0undary", b'boundary="B0undary"')
    assert outcome([quoted]) == ([image(b"x")], None)
    late = quoted.replace(b"\r\n\r\n--B0undary\r\n", b"\r\n\r\n\r\n--B0undary\r\n", 1)
    assert outcome([late]) == ([image(b"x")], None)


def test_a_jpeg_is_known_by_its_first_bytes_whatever_it_is_called() -> None:
    assert image(b"\xff\xd8\xff").is_jpeg
    assert not image(b"\x00\x10").is_jpeg


@pytest.mark.parametrize("off_by", [-4, -1, 1, 4, 100])
def test_a_length_that_is_not_true_is_seen(off_by: int) -> None:
    """By what does not follow: never by waiting for it."""
    body = b"0123456789"
    more = multipart([b"another"]) * 2
    alone = single(body, length=len(body) + off_by) + more
    assert outcome([alone]) == ([], Unreadable)
    inside = multipart([body]).replace(b"length: 10", f"length: {10 + off_by}".encode()) + more
    assert outcome([inside]) == ([], Unreadable)


NOT_TAKEN = {
    "another protocol": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "no length": single(b"body").replace(b"Content-length: 4\r\n", b""),
    "no current": single(b"body").replace(b"Current: 2\r\n", b""),
    "a negative length": single(b"body", length=-1),
    "a signed length": single(b"body", Content_length="+4"),
    "a length with underscores": single(b"body", Content_length="1_0"),
    "other digits": single(b"body").replace(b"length: 4", "length: ٤".encode()),
    "a length without end": single(b"body", Content_length="9" * 30),
    "two lengths": single(b"body").replace(b"Current", b"content-length: 5\r\nCurrent"),
    "a time beyond all years": single(b"body", Current=10**15 - 1),
    "a negative time": single(b"body", Prev=-1),
    "a line that is no header": single(b"body").replace(b"Current", b"nonsense\r\nCurrent"),
    "a header without a name": single(b"body").replace(b"Current", b": 1\r\nCurrent"),
    "no headers": b"ImageResponse\r\n\r\nbody" + END,
    "no boundary": multipart([b"x"]).replace(b"boundary=", b"bound="),
    "a boundary that is too long": multipart([b"x"], boundary="b" * 71),
    "another boundary": multipart([b"x"]).replace(b"--B0undary\r\n", b"--B0undarz\r\n"),
    "a part without a length": multipart([b"x"]).replace(b"Content-length: 1\r\n", b""),
    "no end of the parts": multipart([b"x"], end=b"\r\nmore"),
}


@pytest.mark.parametrize("case", NOT_TAKEN)
def test_what_is_not_the_protocol_is_told(case: str) -> None:
    assert outcome([NOT_TAKEN[case]]) == ([], Unreadable)


def announced(length: int) -> bytes:
    return multipart([]).removesuffix(f"--{BOUNDARY}--".encode() + END) + part(b"", length=length)[:-2]


TOO_MUCH = {
    "a part": (announced(16 * 1024 * 1024 + 1), AnswerTooLarge),
    "a body": (single(b"", length=256 * 1024 * 1024 + 1, end=b""), AnswerTooLarge),
    "parts": (multipart([b""] * 4097), AnswerTooLarge),
    "header lines": (
        b"ImageResponse\r\n" + b"".join(b"H%d: 1\r\n" % n for n in range(65)) + b"\r\n",
        Unreadable,
    ),
    "a header line": (b"ImageResponse\r\nH: " + b"x" * 20_000, Unreadable),
    "header lines of a part": (
        announced(0).removesuffix(b"\r\n") + b"H: " + b"x" * 20_000,
        Unreadable,
    ),
    "XML": (b"<" + b"x" * (1024 * 1024 + 4), Unreadable),
    "XML with an end": (b"<" + b"x" * (1024 * 1024) + END, Unreadable),
}


@pytest.mark.parametrize("case", TOO_MUCH)
def test_too_much_is_refused_before_it_is_taken_in(case: str) -> None:
    data, error = TOO_MUCH[case]
    assert outcome([data]) == ([], error)


def test_as_much_as_is_allowed_is_taken() -> None:
    assert outcome([multipart([b""] * 4096)])[1] is None
    assert outcome([b"<" + b"x" * (1024 * 1024 - 1) + END])[1] is None
    assert outcome([announced(16 * 1024 * 1024)]) == ([], None)


def test_the_parts_of_an_answer_are_limited_together() -> None:
    limits = WireLimits(part_bytes=64, answer_bytes=120)
    assert outcome([multipart([b"x" * 60, b"x" * 60])], limits)[1] is None
    assert outcome([multipart([b"x" * 60, b"x" * 61])], limits) == ([], AnswerTooLarge)
    assert outcome([single(b"x" * 121)], limits) == ([], AnswerTooLarge)


def test_a_large_body_is_whole_and_what_follows_it_as_well() -> None:
    large = bytes(range(256)) * 2**13
    stream = single(large) + multipart([large, b"small"]) + single(b"end")
    for size in (65_536, len(stream)):
        chunks = [stream[at : at + size] for at in range(0, len(stream), size)]
        found, error = outcome(chunks)
        assert error is None
        assert [getattr(each, "bodies", None) for each in found] == [(large,), (large, b"small"), (b"end",)]


def test_all_answers_share_the_room_of_those_in_hand() -> None:
    room = Room(100)
    wires = [ImageWire(room=room) for _ in range(2)]
    first = wires[0].feed(single(b"x" * 60))
    assert next(first)
    with pytest.raises(BackendUnavailable, match="at the same time") as told:
        list(wires[1].feed(single(b"x" * 60)))
    assert told.value.reason == "space"
    assert next(first, None) is None, "the one before was read"
    assert room.taken_bytes == 0
    half = ImageWire(room=room)
    assert not list(half.feed(single(b"x" * 60)[:-30]))
    assert room.taken_bytes == 60
    half.let_go()
    assert room.taken_bytes == 0


def test_what_came_before_an_error_is_still_given() -> None:
    assert outcome([connected(1) + b"nonsense"]) == ([MESSAGES[0]], Unreadable)
