"""Groups of pictures of a span: in order, none twice, none that is not in it; and recorders that misbehave.

What well-behaved ones answer is compared picture by picture in tests/contract/test_milestone_footage.py.
"""

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from uuid import UUID
from xml.sax.saxutils import escape

import pytest

from cctv_storaged.backends.milestone import imagesession
from cctv_storaged.backends.milestone.answers import TokenRefused, Unreadable, unreachable
from cctv_storaged.backends.milestone.base import Gop
from cctv_storaged.backends.milestone.course import gop_of
from cctv_storaged.backends.milestone.imageserver import Door, ImageServer, Patience
from cctv_storaged.backends.milestone.imagewire import AnswerTooLarge, ImageResponse, Room
from cctv_storaged.backends.milestone.tokens import Token
from cctv_storaged.clock import EPOCH
from cctv_storaged.errors import BackendError, BackendUnavailable, ObjectMissing, ObjectRejected, Unsupported
from cctv_storaged.model import TimeSpan
from tests.fakes.recorderbytes import LIVE_PACKAGE, connected, multipart, packet, single
from tests.fakes.scriptedrecorder import Peer, Script, ScriptedRecorder, group, holding, scripted_recorder
from tests.services.ports import kept_port

CAMERA = UUID(int=0xCA3)
T = 1_790_000_000_000
SECONDS = [T + 1000 * number for number in range(10)]


def ms(start: float, end: float) -> TimeSpan:
    """In ms after T."""
    return TimeSpan(
        *(EPOCH + timedelta(milliseconds=T) + timedelta(milliseconds=offset) for offset in (start, end))
    )


@dataclass
class Tokens:
    """Another one whenever one was refused, or when it is told."""

    number: int = 1
    refused: list[str] = field(default_factory=list)

    async def __call__(self, refused: str | None = None) -> Token:
        if refused is not None:
            self.refused.append(refused)
            if refused == self.value:
                self.number += 1
        return Token(self.value, float("inf"))

    @property
    def value(self) -> str:
        return f"TOKEN#{self.number}#<&>//ServerConnector#"


@dataclass
class Rig:
    recorder: ScriptedRecorder
    tokens: Tokens
    images: ImageServer

    @property
    def door(self) -> Door:
        return Door(host="127.0.0.1", port=self.recorder.port)

    async def read(self, span: TimeSpan) -> list[Gop]:
        async with self.images.footage(self.door, CAMERA, span) as gops:
            return [gop async for gop in gops]

    async def times(self, span: TimeSpan) -> list[int]:
        """In ms after T."""
        return [gop.current_ms - T for gop in await self.read(span)]


@asynccontextmanager
async def rig(
    *scripts: Script, patience: Patience | None = None, largest_answer: int = 2**28
) -> AsyncIterator[Rig]:
    tokens = Tokens()
    images = ImageServer(
        tokens,
        patience=patience or Patience(connect_s=30, read_s=30),
        largest_answer=largest_answer,
    )
    async with scripted_recorder(*scripts) as recorder:
        yield Rig(recorder, tokens, images)


def after_letting_in(*answers: Callable[[int], bytes]) -> Script:
    """Answers so many calls, each with its number; then waits for its end."""

    async def script(peer: Peer) -> None:
        await peer.let_in()
        for answer in answers:
            await peer.send(answer((await peer.call()).number))
        await peer.reader.read()

    return script


def shown(current_ms: int, next_ms: int | None = None) -> Callable[[int], bytes]:
    def answer(number: int) -> bytes:
        following = current_ms + 1000 if next_ms is None else next_ms
        body = packet(T + current_ms, b"key")
        return multipart([body], RequestId=number, Prev=T, Current=T + current_ms, Next=T + following)

    return answer


# What is asked.


async def test_connect_says_what_is_read_and_escapes_the_token() -> None:
    async with rig(holding(*SECONDS)) as site:
        stream = UUID(int=5)
        async with site.images.footage(site.door, CAMERA, ms(0, 1), stream):
            pass
        await site.images.reach(site.door, CAMERA)
        first, second = (call for call in site.recorder.calls if call.method == "connect")
        assert first.parameters == f"id={CAMERA}&streamid={stream}&connectiontoken={site.tokens.value}"
        assert second.parameters == f"id={CAMERA}&connectiontoken={site.tokens.value}"
        assert "&amp;connectiontoken=TOKEN#1#&lt;&amp;&gt;//" in first.document
        for wanted in (
            f"<cameraid>{CAMERA}</cameraid>",
            "<alwaysstdjpeg>no</alwaysstdjpeg>",
            "<privacymask>no</privacymask><multipartdata>yes</multipartdata>",
            "<username>",
            "<password>",
        ):
            assert wanted in first.document
        assert not any(end in first.document.removesuffix("\r\n\r\n") for end in "\r\n")


async def test_three_calls_are_in_flight_before_the_first_of_them_is_answered() -> None:
    counted = []

    async def script(peer: Peer) -> None:
        await peer.let_in()
        await peer.send(group(await peer.call(), T))
        calls = [await peer.call() for _ in range(3)]  # none is answered before all are there
        counted.append(len(calls))
        for number, call in enumerate(calls, start=1):
            await peer.send(group(call, T + 1000 * number))
        await peer.reader.read()

    async with rig(script) as site:
        assert await site.times(ms(0, 2500)) == [0, 1000, 2000]
        assert counted == [3]
        assert site.recorder.methods[:5] == ["connect", "goto", "next", "next", "next"]


# Which groups are given.


@pytest.mark.parametrize(
    ("start", "end", "given"),
    [
        (0, 10_000, range(10)),
        (2000, 5000, [2, 3, 4]),
        (2000, 5001, [2, 3, 4, 5]),
        (2000, 5000.5, [2, 3, 4, 5]),
        (2799, 4000, [2, 3]),
        (2800, 4000, [2, 3]),
        (2800.999, 4000, [2, 3]),  # XProtect counts whole ms: what we call .0009 it calls .000
        (2801, 4000, [3]),  # after the last picture of a group, before the next one's first
        (-5000, 1, [0]),
        (9800, 20_000, [9]),
    ],
)
async def test_a_group_is_given_when_one_of_its_pictures_is_in_the_span(
    start: float, end: float, given: Sequence[int]
) -> None:
    async with rig(holding(*SECONDS)) as site:
        assert await site.times(ms(start, end)) == [1000 * number for number in given]


async def test_the_group_before_a_gap_is_passed_over() -> None:
    async with rig(holding(T, T + 1000, T + 60_000, T + 61_000)) as site:
        assert await site.times(ms(30_000, 60_500)) == [60_000]
        with pytest.raises(ObjectMissing, match="no pictures"):
            await site.read(ms(30_000, 50_000))
        with pytest.raises(ObjectMissing):
            await site.read(ms(90_000, 99_000))


async def test_a_group_says_where_it_stands() -> None:
    async with rig(holding(*SECONDS)) as site:
        [gop] = await site.read(ms(3000, 4000))
        assert (gop.previous_ms, gop.current_ms, gop.next_ms) == (T + 3000, T + 3000, T + 4000)
        assert [(each.time_ms - T, each.key, each.data) for each in gop.pictures] == [
            (3000, True, b"key"),
            (3400, False, b"other"),
            (3800, False, b"other"),
        ]


def nothing(number: int) -> bytes:
    return single(b"", RequestId=number, Prev=0, Current=0, Next=0)


async def test_the_end_of_the_database_ends_the_reading_however_it_is_told() -> None:
    repeats = [shown(0), shown(1000), shown(1000)]
    empty = [shown(0), bodiless(0, 0)]
    for ending, given in ((repeats, 2), ([shown(0), shown(1000, 1000)], 2), (empty, 1)):
        async with rig(after_letting_in(*ending)) as site:
            assert len(await site.read(ms(0, 99_000))) == given


async def test_an_empty_database_holds_nothing() -> None:
    async with rig(after_letting_in(nothing, nothing)) as site:
        with pytest.raises(ObjectMissing):
            await site.read(ms(0, 1000))
        assert site.recorder.methods == ["connect", "goto", "begin"]


def bodiless(current_ms: int, next_ms: int) -> Callable[[int], bytes]:
    return lambda number: single(b"", RequestId=number, Prev=T, Current=T + current_ms, Next=T + next_ms)


WITHOUT_PICTURES: dict[str, Callable[[int], bytes]] = {
    "another place": bodiless(2000, 3000),
    "where it stands, with more behind": bodiless(1000, 2000),
    "an empty database": nothing,
    "no parts": lambda number: multipart([], RequestId=number, Current=T + 2000, Next=T + 3000),
    "a part of no bytes": lambda number: multipart([b""], RequestId=number, Current=T + 2000, Next=T + 3000),
}


@pytest.mark.parametrize("case", WITHOUT_PICTURES)
async def test_an_answer_without_pictures_before_the_end_is_asked_for_anew_and_no_end(case: str) -> None:
    """A reading that ended with it would be short, and nobody would know."""
    broken = after_letting_in(shown(0), shown(1000), WITHOUT_PICTURES[case])
    async with rig(broken, holding(*SECONDS)) as site:
        assert await site.times(ms(0, 9000)) == [1000 * number for number in range(9)]
        assert site.recorder.connections == 2
        assert site.tokens.refused == []
    again = after_letting_in(*[WITHOUT_PICTURES[case]] * 2)
    async with rig(broken, again) as site:
        with pytest.raises(Unreadable, match=r"no pictures|no bytes"):
            await site.read(ms(0, 9000))
    async with rig(again) as site:  # to the first `goto`
        with pytest.raises(ObjectMissing if case == "an empty database" else Unreadable):
            await site.read(ms(0, 9000))


async def test_none_comes_twice_and_going_back_is_an_error() -> None:
    """A reading that ended there would be short, and nobody would know."""
    async with rig(after_letting_in(shown(0), shown(1000), shown(500))) as site:
        with pytest.raises(Unreadable, match="goes back"):
            await site.read(ms(0, 9000))


async def test_a_recorder_that_never_comes_to_the_span_is_given_up() -> None:
    async def script(peer: Peer) -> None:
        await peer.let_in()
        for number in itertools.count():
            await peer.send(group(await peer.call(), T + number))

    async with rig(script) as site:
        with pytest.raises(Unreadable, match="does not come to"):
            await site.read(ms(9_000_000, 9_100_000))


async def test_an_endless_recorder_is_read_to_the_end_of_the_span() -> None:
    async def script(peer: Peer) -> None:
        await peer.let_in()
        for number in itertools.count():
            await peer.send(group(await peer.call(), T + 10 * number))

    async with rig(script) as site:
        assert await site.times(ms(0, 1000)) == list(range(0, 1000, 10))


async def test_whoever_leaves_early_leaves_no_connection() -> None:
    ended = asyncio.Event()

    async def script(peer: Peer) -> None:
        try:
            await holding(*SECONDS)(peer)
        finally:
            ended.set()

    async with rig(script) as site:
        async with site.images.footage(site.door, CAMERA, ms(0, 9000)) as gops:
            assert (await anext(gops)).current_ms == T
        async with asyncio.timeout(30):
            await ended.wait()


async def test_whoever_is_cancelled_leaves_no_connection() -> None:
    asked, ended = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.let_in()
        await peer.call()
        asked.set()
        await peer.reader.read()
        ended.set()

    async with rig(script) as site:
        reading = asyncio.create_task(site.read(ms(0, 9000)))
        async with asyncio.timeout(30):
            await asked.wait()
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            await ended.wait()


# Tokens that end under way.


@pytest.fixture(autouse=True)
def time_to_look_at_a_fresh_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no recorder that looks at no token: that one would be connected to anew."""
    monkeypatch.setattr(imagesession, "_REFRESH_S", 30)


async def test_a_fresh_token_is_shown_before_the_old_one_ends() -> None:
    async with rig(holding(*SECONDS)) as site:
        given = []
        async with site.images.footage(site.door, CAMERA, ms(0, 9000)) as gops:
            async for gop in gops:
                given.append(gop.current_ms)
                if len(given) == 4:
                    site.tokens.number += 1
        assert given == SECONDS[:9]
        [update] = [call for call in site.recorder.calls if call.method == "connectupdate"]
        assert update.token == site.tokens.value
        assert site.recorder.connections == 1


def refusing_after(served: int, *, hangs_up: bool) -> Script:
    """Serves so many calls, then no more with this token."""

    async def script(peer: Peer) -> None:
        token, left = (await peer.let_in()).token, served
        at = 0
        while True:
            call = await peer.call()
            if call.method == "connectupdate":
                if call.token != token:
                    left = 10**6
                await peer.send(connected(call.number, method=call.method))
            elif left == 0:
                if hangs_up:
                    return
                await peer.send(connected(call.number, "no", "Token expired", call.method))
            else:
                left -= 1
                at = (call.time_ms - T) // 1000 if call.method == "goto" else min(at + 1, 9)
                await peer.send(group(call, SECONDS[at], 400, 800))

    return script


@pytest.mark.parametrize("served", [0, 1, 3, 7])
async def test_a_refusal_in_mid_session_is_answered_with_a_fresh_token(served: int) -> None:
    async with rig(refusing_after(served, hangs_up=False)) as site:
        assert await site.times(ms(0, 9000)) == [1000 * number for number in range(9)]
        assert site.recorder.connections == 1
        assert site.tokens.refused == ["TOKEN#1#<&>//ServerConnector#"]


@pytest.mark.parametrize("served", [0, 1, 3, 7])
async def test_a_recorder_that_hangs_up_is_connected_to_with_a_fresh_token(served: int) -> None:
    async with rig(refusing_after(served, hangs_up=True), holding(*SECONDS)) as site:
        assert await site.times(ms(0, 9000)) == [1000 * number for number in range(9)]
        assert site.recorder.connections == 2
        assert site.tokens.refused == ["TOKEN#1#<&>//ServerConnector#"]


async def test_what_went_between_two_connections_is_not_missed_as_an_error() -> None:
    """Retention ate the group where it stood: `goto` answers one before or after it."""
    later = holding(T, T + 5000, T + 6000, offsets_ms=())
    async with rig(refusing_after(3, hangs_up=True), later) as site:
        assert await site.times(ms(0, 9000)) == [0, 1000, 2000, 5000, 6000]


async def test_a_recorder_that_refuses_one_call_and_drops_those_behind_it_costs_nothing() -> None:
    async def script(peer: Peer) -> None:
        await peer.let_in()
        at, served, refused = 0, 0, False
        while True:
            call = await peer.call()
            if call.method == "connectupdate":
                served, refused = -100, False
                await peer.send(connected(call.number, method=call.method))
            elif served < 2:
                served += 1
                at = (call.time_ms - T) // 1000 if call.method == "goto" else min(at + 1, 9)
                await peer.send(group(call, SECONDS[at], 400, 800))
            elif not refused:
                refused = True
                await peer.send(connected(call.number, "no", "Token expired", call.method))

    async with rig(script) as site:
        assert await site.times(ms(0, 9000)) == [1000 * number for number in range(9)]
        assert site.recorder.connections == 1


async def test_a_recorder_that_looks_at_no_fresh_token_is_connected_to_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(imagesession, "_REFRESH_S", 0.05)

    async def script(peer: Peer) -> None:
        await peer.let_in()
        await peer.send(group(await peer.call(), T))
        call = await peer.call()
        await peer.send(connected(call.number, "no", "Token expired", call.method))
        await peer.reader.read()

    async with rig(script, holding(*SECONDS)) as site:
        assert await site.times(ms(0, 9000)) == [1000 * number for number in range(9)]
        assert site.recorder.connections == 2


@pytest.mark.parametrize("hangs_up", [False, True])
async def test_a_recorder_that_refuses_every_token_is_given_up(hangs_up: bool) -> None:
    async def script(peer: Peer) -> None:
        await peer.let_in()
        while True:
            call = await peer.call()
            if call.method == "goto" and not site.tokens.refused:
                await peer.send(group(call, T))
            elif hangs_up:
                return
            else:
                await peer.send(connected(call.number, "no", "Token invalid", call.method))

    async with rig(script) as site:
        with pytest.raises(BackendUnavailable) as told:
            await site.read(ms(0, 9000))
        assert "TOKEN#" not in str(told.value)
        assert site.recorder.connections == 2


async def test_a_connect_that_is_refused_is_tried_once_more_with_a_fresh_token() -> None:
    async def no(peer: Peer) -> None:
        await peer.send(connected((await peer.call()).number, "no", "Token invalid"))

    async with rig(no, holding(*SECONDS)) as site:
        await site.images.reach(site.door, CAMERA)
        assert [call.token[:8] for call in site.recorder.calls] == ["TOKEN#1#", "TOKEN#2#"]
        site.recorder.scripts = [no]
        with pytest.raises(TokenRefused, match="Token invalid"):
            await site.images.reach(site.door, CAMERA)
        assert site.recorder.connections == 4


async def test_a_refusal_of_the_camera_is_its_own_matter() -> None:
    async def no(peer: Peer) -> None:
        call = await peer.call()
        await peer.send(connected(call.number, "no", escape(f"Disabled, {call.token} or not")))

    async with rig(no) as site:
        with pytest.raises(ObjectRejected, match=r"Disabled, \*\*\* or not"):
            await site.images.reach(site.door, CAMERA)


# Recorders that misbehave.


def cut_in_a_part(number: int) -> bytes:
    return shown(1000)(number)[:-40]


async def test_a_connection_cut_in_the_middle_of_a_part_is_an_error_and_what_came_before_is_given() -> None:
    async def script(peer: Peer) -> None:
        await peer.let_in()
        await peer.send(shown(0)((await peer.call()).number))
        await peer.send(cut_in_a_part((await peer.call()).number))

    async with rig(script) as site:
        given = []
        with pytest.raises(BackendUnavailable, match="in the middle of an answer") as told:
            async with site.images.footage(site.door, CAMERA, ms(0, 9000)) as gops:
                async for gop in gops:
                    given.append(gop.current_ms)  # noqa: PERF401 - what came before the error counts
        assert given == [T]
        assert told.value.reason == "network"
        assert site.recorder.connections == 1


def wrong_length(number: int) -> bytes:
    return shown(0)(number).replace(b"Content-length: 35", b"Content-length: 34")


def no_key(number: int) -> bytes:
    return multipart([packet(T, b"x", key=False)], RequestId=number, Prev=T, Current=T, Next=T)


LEGACY = b"\0\x0a" + bytes(40)
MISBEHAVIOUR: dict[str, tuple[Callable[[int], bytes], type[BackendError], str]] = {
    "a wrong length": (wrong_length, Unreadable, "Content-length is not true"),
    "no key picture": (no_key, ObjectRejected, "key picture"),
    "JPEG": (lambda n: single(b"\xff\xd8\xff\xe0", RequestId=n, Current=T), Unsupported, "JPEG"),
    "JPEG in parts": (lambda n: multipart([b"\xff\xd8"], RequestId=n, Current=T), Unsupported, "JPEG"),
    "the legacy form": (lambda n: single(LEGACY, RequestId=n, Current=T), Unsupported, "video block"),
    "another request's answer": (lambda n: shown(0)(n + 7), Unreadable, "answers request"),
    "HTTP": (lambda _: b"HTTP/1.1 400 Bad Request\r\n\r\n", Unreadable, "in place of"),
    "a connection in place of pictures": (connected, Unreadable, "with a connection"),
    "hostile XML": (lambda _: b'<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>\r\n\r\n', Unreadable, "not XML"),
    "status without end": (lambda _: LIVE_PACKAGE * 100, Unreadable, "no answer"),
    "too large a group": (lambda n: single(bytes(2000), RequestId=n), AnswerTooLarge, "2000 bytes"),
}


@pytest.mark.parametrize("case", MISBEHAVIOUR)
async def test_what_a_recorder_does_wrong_is_told(case: str) -> None:
    answer, error, words = MISBEHAVIOUR[case]
    async with rig(after_letting_in(*[answer] * 9), largest_answer=1500) as site:
        with pytest.raises(error, match=words):
            await site.read(ms(0, 9000))


async def test_readings_at_the_same_time_share_the_room_and_give_it_back() -> None:
    def large(number: int) -> bytes:
        return single(packet(T, bytes(1000)), RequestId=number, Prev=T, Current=T, Next=T + 1000)

    async with rig(after_letting_in(large), largest_answer=1500) as site:
        site.images._room = Room(1500)
        async with site.images.footage(site.door, CAMERA, ms(0, 500)):
            with pytest.raises(BackendUnavailable, match="at the same time"):
                async with site.images.footage(site.door, CAMERA, ms(0, 500)):
                    pass
        async with site.images.footage(site.door, CAMERA, ms(0, 500)):
            pass
        assert site.images._room.taken_bytes == 0


@pytest.mark.parametrize("sent", [b"", b"ImageResponse\r\nRequ"])
async def test_silence_is_not_waited_for_longer_than_is_said(sent: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.let_in()
        await peer.call()
        await peer.send(sent)
        await peer.reader.read()

    async with rig(script, patience=Patience(connect_s=30, read_s=0.1)) as site:
        with pytest.raises(BackendUnavailable, match="too long") as told:
            await site.read(ms(0, 9000))
        assert told.value.reason == "network"


async def test_an_answer_that_trickles_is_not_waited_for_without_end() -> None:
    async def script(peer: Peer) -> None:
        await peer.let_in()
        await peer.call()
        await peer.send(b"<")
        while True:
            await peer.send(b"x")
            await asyncio.sleep(0.01)

    async with rig(script, patience=Patience(connect_s=30, read_s=30, answer_s=0.3)) as site:
        with pytest.raises(BackendUnavailable, match="too long"):
            await site.read(ms(0, 9000))


async def test_a_half_closed_socket_is_an_end() -> None:
    async def script(peer: Peer) -> None:
        await peer.let_in()
        await peer.call()
        peer.writer.write_eof()
        await peer.reader.read()

    async with rig(script) as site:
        with pytest.raises(BackendUnavailable, match="closed the connection"):
            await site.read(ms(0, 9000))
        assert site.recorder.connections == 2


def test_a_group_has_no_more_pictures_than_are_taken() -> None:
    pictures = packet(T, b"x")
    response = ImageResponse(
        request_id=1, previous_ms=T, current_ms=T, next_ms=T, bodies=(pictures * 4095, pictures)
    )
    assert len(gop_of(response).pictures) == 4096
    with pytest.raises(AnswerTooLarge, match="4096 pictures"):
        gop_of(replace(response, bodies=(pictures * 4095, pictures * 2)))


@pytest.mark.parametrize(("host", "port"), [("a..b", 7563), ("x" * 70, 7563), ("127.0.0.1", 70_000)])
async def test_a_place_that_can_be_none_is_told_as_one_that_is_not_there(host: str, port: int) -> None:
    with pytest.raises(BackendUnavailable, match="connect to the recording server"):
        await ImageServer(Tokens()).reach(Door(host=host, port=port), CAMERA)


def test_a_name_that_does_not_resolve_is_told_with_its_remedy() -> None:
    told = unreachable("connect to RECORDER-1", socket.gaierror(-2, "Name or service not known"))
    assert "recorder_host_override" in str(told)


async def test_nobody_there_is_told() -> None:
    with kept_port() as port:
        door = Door(host="127.0.0.1", port=port)
        with pytest.raises(BackendUnavailable, match="connect to the recording server") as told:
            await ImageServer(Tokens()).reach(door, CAMERA)
    assert told.value.reason == "network"
