"""One client's RTSP connection, with at most one session of one recording (RFC 2326; ONVIF Streaming).

Packets go within the connection. Any request, packet of the client's or picture that it takes keeps the
session alive.
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from cctv_storaged.clock import Clock, from_us
from cctv_storaged.errors import BackendUnavailable, StoragedError
from cctv_storaged.onvif.auth import Account, Digest, Verdict
from cctv_storaged.onvif.codecs import Codecs
from cctv_storaged.onvif.describing import CONTROL, Description, description_of
from cctv_storaged.onvif.guesses import Guesses
from cctv_storaged.onvif.inventory import Channel, Inventory, camera_of
from cctv_storaged.onvif.mediaservice import LIVE_PATH
from cctv_storaged.onvif.replay import REPLAY_PATH, SESSION_TIMEOUT_S
from cctv_storaged.onvif.rtp import Packetiser
from cctv_storaged.onvif.rtsp import (
    Range,
    Refusal,
    Request,
    channels_of,
    clock_of,
    read_range,
    read_request,
    response,
)
from cctv_storaged.onvif.sending import Sending, Track, manner_of
from cctv_storaged.onvif.streaming import Footage, Replay
from cctv_storaged.onvif.timeline import Placed
from cctv_storaged.pacing import ByteBudget

log = logging.getLogger(__name__)

FEATURE = "onvif-replay"
METHODS = "OPTIONS, DESCRIBE, SETUP, PLAY, PAUSE, GET_PARAMETER, SET_PARAMETER, TEARDOWN"
STRANGER_S = 15.0
"""Who has not logged in by then is sent away."""
MOST_ATTEMPTS = 5
MOST_OF_STRANGER = 16
"""Requests before a log-in, of any kind."""
MOST_DESCRIBED = 16
FIRST_PICTURE_S = 20.0
"""A store that has not given one by then is away."""


@dataclass(slots=True)
class Slots:
    """Replays that run at the same time."""

    most: int
    taken: int = 0

    def take(self) -> bool:
        if self.taken >= self.most:
            return False
        self.taken += 1
        return True

    def give_back(self) -> None:
        self.taken -= 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Replaying:
    """What every connection uses."""

    account: Account
    guesses: Guesses
    inventory: Inventory
    footage: Footage
    codecs: Codecs
    slots: Slots
    budgets: tuple[ByteBudget, ...]  # of bytes sent by all replays together
    clock: Clock


class Target(NamedTuple):
    """What an address leads to."""

    camera_id: UUID
    live: bool


@dataclass(slots=True)
class _Session:
    id: str
    target: Target
    track: Track
    task: asyncio.Task[None] | None = None
    pictures: AsyncGenerator[Placed] | None = None
    sending: Sending | None = None

    @property
    def playing(self) -> bool:
        return self.task is not None and not self.task.done()


@dataclass(slots=True, eq=False)
class Connection:
    """Serves one client until it leaves."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    replaying: Replaying
    known: bool = field(default=False, init=False)  # it has logged in, or need not
    address: str = field(init=False)
    _attempts: int = 0
    _asked: int = 0
    _session: _Session | None = None
    _described: dict[UUID, Description] = field(default_factory=dict)
    _digest: Digest = field(init=False)
    _since_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.known = self.replaying.account.open
        self.address = str((self.writer.get_extra_info("peername") or ("",))[0])
        self._digest = Digest(self.replaying.account, life_s=24 * 3600, once=False)
        self._since_s = self.replaying.clock.monotonic()

    async def serve(self) -> None:
        """Returns when the client has left or was sent away."""
        try:
            while (request := await self._next()) is not None and await self._answered(request):
                pass
        except Refusal as refusal:  # of what is no request
            self._write(response(refusal.status, None, refusal.headers))
        except OSError:
            pass  # it has left
        finally:
            await self._stop()

    def abort(self) -> None:
        """Ends it at once, whatever is under way."""
        self.writer.transport.abort()

    async def _next(self) -> Request | None:
        if not self.known:
            return await self._next_of_stranger()
        while True:
            try:
                return await read_request(self.reader, SESSION_TIMEOUT_S)
            except TimeoutError:
                # A replay under way notices itself when nothing is taken.
                if self._session is None or not self._session.playing:
                    return None

    async def _next_of_stranger(self) -> Request | None:
        """None once it had its time, however busy it was."""
        left_s = self._since_s + STRANGER_S - self.replaying.clock.monotonic()
        try:
            async with asyncio.timeout(max(left_s, 0)):
                await asyncio.sleep(0)  # a timeout that is over strikes here, also where all is in the buffer
                return await read_request(self.reader, STRANGER_S)
        except TimeoutError:
            return None

    async def _answered(self, request: Request) -> bool:
        """Whether the client may ask on."""
        cseq: int | None = None
        try:
            cseq = request.cseq
            await self._answer(request, cseq)
        except Refusal as refusal:
            self._write(response(refusal.status, cseq, refusal.headers))
            await self._flushed()
            return not refusal.last
        except StoragedError as exc:  # the journal, or a store
            log.warning("a replay cannot be answered: %s", exc)
            self._write(response(503, cseq, {}))
        await self._flushed()
        return True

    async def _answer(self, request: Request, cseq: int) -> None:
        self._asked += not self.known
        if self._asked > MOST_OF_STRANGER:
            raise Refusal(503, last=True)
        handlers: Mapping[str, Callable[[Request, int], Awaitable[None]]] = {
            "OPTIONS": self._options,
            "DESCRIBE": self._describe,
            "SETUP": self._setup,
            "PLAY": self._play,
            "PAUSE": self._pause,
            "GET_PARAMETER": self._nothing,
            "SET_PARAMETER": self._nothing,
            "TEARDOWN": self._teardown,
        }
        handler = handlers.get(request.method)
        if handler is None:
            raise Refusal(405, {"Allow": METHODS})
        required = [each.strip() for each in request.headers.get("require", "").split(",") if each.strip()]
        unknown = [each for each in required if each.lower() != FEATURE]
        if unknown:
            raise Refusal(551, {"Unsupported": unknown[0][:64]})
        if request.method != "OPTIONS":
            self._authenticate(request)
        await handler(request, cseq)

    def _authenticate(self, request: Request) -> None:
        if self.replaying.account.open:
            return
        header = request.headers.get("authorization", "")
        now_s, guesses = self.replaying.clock.monotonic(), self.replaying.guesses
        wait_s = guesses.wait_s(self.address) if header and not self.known else 0
        if wait_s:
            raise Refusal(503, {"Retry-After": str(wait_s)}, last=True)
        verdict = self._digest.verdict(header, request.method, now_s, *_paths_of(request))
        if verdict is Verdict.GOOD:
            self._log_in()
            return
        if verdict is Verdict.WRONG:
            guesses.wrong(self.address, "rtsp")
        self._attempts += bool(header)
        challenge = {"WWW-Authenticate": self._digest.challenge("MD5", now_s)}
        raise Refusal(401, challenge, last=self._attempts >= MOST_ATTEMPTS)

    def _log_in(self) -> None:
        if not self.known:
            self.replaying.guesses.right(self.address)
        self.known = True

    # Methods

    async def _options(self, request: Request, cseq: int) -> None:
        self._ok(cseq, {"Public": METHODS, "Supported": FEATURE})

    async def _describe(self, request: Request, cseq: int) -> None:
        target = self._target(request)
        described = await self._description(target)
        host = str(self.writer.get_extra_info("sockname")[0])
        headers = {"Content-Type": "application/sdp", "Content-Base": request.uri.rstrip("/") + "/"}
        self._ok(cseq, headers, described.sdp(host))

    async def _setup(self, request: Request, cseq: int) -> None:
        target = self._target(request)
        channels = channels_of(request.headers.get("transport", ""))
        if channels is None:
            raise Refusal(461)
        if self._session is not None:
            if self._session.target != target or self._session.playing:
                raise Refusal(455)
            self._session.track.channels = channels
        else:
            self._session = await self._new_session(target, channels)
        transport = f"RTP/AVP/TCP;unicast;interleaved={channels[0]}-{channels[1]}"
        ssrc = f";ssrc={self._session.track.packetiser.ssrc:08X}"
        self._ok(cseq, {"Transport": transport + ssrc} | self._session_header(timeout=True))

    async def _new_session(self, target: Target, channels: tuple[int, int]) -> _Session:
        described = await self._description(target)
        packetiser = Packetiser(
            ssrc=secrets.randbits(32),
            sequence=secrets.randbits(16),
            payload_types=described.payload_types,
        )
        track = Track(channels=channels, packetiser=packetiser)
        return _Session(secrets.token_hex(8), target, track)

    async def _play(self, request: Request, cseq: int) -> None:
        session = self._same_session(request)
        manner = manner_of(request, cseq)
        if session.target.live:
            self._ok(cseq, {"Range": "npt=now-"} | self._session_header())
            return
        channel = await self._channel(session.target.camera_id)
        start, end = self._span(session, channel, read_range(request.headers.get("range")))
        await self._halt()
        if not self.replaying.slots.take():
            raise Refusal(453)
        try:
            replay = self.replaying.footage.replay(channel.camera.id, start, end)
            pictures = replay.pictures()
            first = await _first(pictures)
            if first is None:
                await pictures.aclose()
                raise Refusal(457)
        except BaseException:
            self.replaying.slots.give_back()
            raise
        track = session.track
        until = "" if end is None else clock_of(end)
        shown = f"clock={clock_of(from_us(first.time_us))}-{until}"
        stream = (
            f"url={request.uri.rstrip('/')}/{CONTROL}"
            if CONTROL not in request.path
            else f"url={request.uri}"
        )
        info = f"{stream};seq={track.packetiser.sequence};rtptime={track.timestamp(first.time_us)}"
        self._ok(cseq, {"Range": shown, "RTP-Info": info, "Scale": "1.0"} | self._session_header())
        session.sending = Sending(track, manner, self.writer, self.replaying.budgets, self.replaying.clock)
        session.pictures = pictures
        session.task = asyncio.create_task(self._sent(session.sending, first, pictures, replay))
        # Not at the end of the task itself: one that is cancelled before its first step never gets there.
        session.task.add_done_callback(lambda _: self.replaying.slots.give_back())

    async def _pause(self, request: Request, cseq: int) -> None:
        session = self._same_session(request)
        await self._halt()
        last_us = session.track.last_us
        told = {} if last_us is None else {"Range": f"clock={clock_of(from_us(last_us))}-"}
        self._ok(cseq, told | self._session_header())

    async def _nothing(self, request: Request, cseq: int) -> None:
        """Keeps alive."""
        if "session" in request.headers:
            self._same_session(request)
        self._ok(cseq, self._session_header())

    async def _teardown(self, request: Request, cseq: int) -> None:
        self._same_session(request)
        header = self._session_header()
        await self._halt()
        self._session = None
        self._ok(cseq, header)

    # What they need

    async def _sent(
        self, sending: Sending, first: Placed, pictures: AsyncGenerator[Placed], replay: Replay
    ) -> None:
        """To its end; a replay that cannot go on ends the connection, so that nobody takes it for whole."""
        try:
            await sending.run(first, pictures, replay)
        except (OSError, TimeoutError, StoragedError) as exc:
            log.info("a replay ends before its end: %s", exc or type(exc).__name__)
            self.writer.transport.abort()
        except Exception:  # one client's replay, whatever it meets
            log.exception("a replay failed")
            self.writer.transport.abort()
        finally:
            await pictures.aclose()

    async def _halt(self) -> None:
        """Nothing is sent any more."""
        session = self._session
        if session is None or session.task is None:
            return
        task, session.task = session.task, None
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if session.pictures is not None:
            await session.pictures.aclose()

    async def _stop(self) -> None:
        await self._halt()
        self.writer.close()
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(1):
                await self.writer.wait_closed()
        self.writer.transport.abort()

    def _target(self, request: Request) -> Target:
        for prefix, live in ((REPLAY_PATH, False), (LIVE_PATH, True)):
            if request.path.startswith(prefix):
                name = request.path.removeprefix(prefix).rstrip("/").removesuffix(f"/{CONTROL}")
                camera_id = camera_of(name)
                if camera_id is not None:
                    return Target(camera_id, live)
        raise Refusal(404)

    async def _channel(self, camera_id: UUID) -> Channel:
        channel = await self.replaying.inventory.by_camera(camera_id)
        if channel is None:
            raise Refusal(404)
        return channel

    async def _description(self, target: Target) -> Description:
        """Read once for a connection: what SETUP promises is what DESCRIBE said."""
        known = self._described.get(target.camera_id)
        if known is not None:
            return known
        channel = await self._channel(target.camera_id)
        described = await description_of(channel, self.replaying.footage, self.replaying.codecs)
        if described is None:
            raise Refusal(404)
        if len(self._described) >= MOST_DESCRIBED:
            self._described.clear()
        return self._described.setdefault(target.camera_id, described)

    def _span(self, session: _Session, channel: Channel, asked: Range) -> tuple[datetime, datetime | None]:
        """Where a PLAY begins and ends; without a range it goes on where it stood."""
        if channel.ends is None:
            raise Refusal(457)
        first, last = channel.ends.span.start, channel.ends.span.end
        if asked.now:
            return last - timedelta(seconds=1), None
        start = first + asked.start if isinstance(asked.start, timedelta) else asked.start
        end = first + asked.end if isinstance(asked.end, timedelta) else asked.end
        if start is None:
            start = first if session.track.last_us is None else from_us(session.track.last_us)
        if end is not None and end <= start:
            raise Refusal(457)
        return start, end

    def _same_session(self, request: Request) -> _Session:
        session = self._session
        named = request.headers.get("session", "").partition(";")[0].strip()
        if session is None or named != session.id:
            raise Refusal(454)
        return session

    def _session_header(self, *, timeout: bool = False) -> dict[str, str]:
        if self._session is None:
            return {}
        life = f";timeout={SESSION_TIMEOUT_S}" if timeout else ""
        return {"Session": self._session.id + life}

    def _ok(self, cseq: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        self._write(response(200, cseq, headers, body))

    def _write(self, data: bytes) -> None:
        if not self.writer.is_closing():
            self.writer.write(data)

    async def _flushed(self) -> None:
        """Answers are few; while pictures are sent, those wait for room."""
        if self._session is None or not self._session.playing:
            with suppress(TimeoutError):
                async with asyncio.timeout(STRANGER_S):
                    await self.writer.drain()


def _paths_of(request: Request) -> tuple[str, ...]:
    """What a log-in for this request may name: its path, or that of the whole stream as some clients do."""
    path = request.path
    stream = path.rstrip("/").removesuffix(f"/{CONTROL}")
    return path, stream, f"{stream}/"


async def _first(pictures: AsyncGenerator[Placed]) -> Placed | None:
    try:
        async with asyncio.timeout(FIRST_PICTURE_S):
            return await anext(pictures, None)
    except TimeoutError as exc:
        await pictures.aclose()
        raise BackendUnavailable(f"no picture was read in {FIRST_PICTURE_S:g} s") from exc
