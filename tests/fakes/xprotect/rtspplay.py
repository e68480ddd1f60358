"""RTSP as the ONVIF driver speaks it to a device that replays: DESCRIBE, SETUP over TCP, PLAY."""

import asyncio
import base64
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import urljoin, urlsplit

from tests.fakes.xprotect.digest import DigestAuth
from tests.fakes.xprotect.pictures import Codec
from tests.fakes.xprotect.rtpunits import BadStream, Depacketiser, Format, Received, read_packet

_AGENT = "CmRtspClient Unknown"
_REPLAY = {"Require": "onvif-replay"}
_CODECS: Mapping[str, Codec] = {"H264": "h264", "H265": "h265"}
_GOODBYE = 203


@dataclass(frozen=True, slots=True)
class Video:
    """The video of an SDP."""

    control: str
    formats: Mapping[int, Format]


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, Sequence[str]]
    body: bytes


@dataclass(slots=True)
class RtspPlayer:
    """One connection, one recording."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    uri: str
    auth: DigestAuth
    patience_s: float
    asked: list[str] = field(default_factory=list)
    _cseq: int = 0
    _session: dict[str, str] = field(default_factory=dict)

    async def pictures(self, start: datetime) -> AsyncGenerator[Received, None]:
        """From the key picture at or before `start` on, as fast as the device gives them, to its end."""
        video = await self._set_up(_REPLAY)
        clock = f"clock={start:%Y%m%dT%H%M%S}.{start.microsecond // 1000:03d}Z-"
        await self._ask("PLAY", self.uri, _REPLAY | {"Range": clock, "Rate-Control": "no"})
        async for picture in self._received(Depacketiser(video.formats, self._cseq)):
            yield picture

    async def open_live(self) -> None:
        """Sets a live stream up and starts it. Whether pictures come is not looked at."""
        await self._set_up({})
        await self._ask("PLAY", self.uri, {"Range": "npt=now-"})

    async def _set_up(self, headers: Mapping[str, str]) -> Video:
        described = await self._ask("DESCRIBE", self.uri, {"Accept": "application/sdp"})
        base = (described.headers.get("content-base") or [self.uri])[0]
        video = read_sdp(described.body.decode(), base)
        transport = {"Transport": "RTP/AVP/TCP;unicast;interleaved=0-1"}
        told = await self._ask("SETUP", video.control, dict(headers) | transport)
        if "interleaved=0-1" not in "".join(told.headers.get("transport", ())):
            raise BadStream(f"SETUP answered Transport {told.headers.get('transport')}")
        session = told.headers.get("session", [""])[0].partition(";")[0]
        self._session = {"Session": session}
        return video

    async def tear_down(self) -> None:
        """Says good-bye, without waiting for what is still on its way."""
        if self._session:
            self.writer.write(self._request("TEARDOWN", self.uri, {}))

    async def _received(self, units: Depacketiser) -> AsyncIterator[Received]:
        while True:
            try:
                async with asyncio.timeout(self.patience_s):
                    first = await self.reader.read(1)
                    if not first:
                        return  # the device's end of what it has
                    channel, data = await self._frame(first)
            except TimeoutError:
                raise BadStream(f"silent for {self.patience_s} s without a terminal picture") from None
            if channel == 1 and len(data) >= 2 and data[1] == _GOODBYE:
                return
            if channel != 0:
                continue
            for received in units.take(read_packet(data)):
                yield received
                if received.stamp.terminal:
                    return

    async def _frame(self, first: bytes) -> tuple[int, bytes]:
        if first != b"$":
            raise BadStream(f"neither a packet nor an answer: {first!r}")
        channel, high, low = await self.reader.readexactly(3)
        return channel, await self.reader.readexactly(high << 8 | low)

    async def _ask(self, method: str, uri: str, headers: Mapping[str, str]) -> _Answer:
        self.asked.append(method)
        async with asyncio.timeout(self.patience_s):
            self.writer.write(self._request(method, uri, headers))
            answer = await self._answer()
            if answer.status == 401 and self.auth.challenged(
                list(answer.headers.get("www-authenticate", ()))
            ):
                self.writer.write(self._request(method, uri, headers))
                answer = await self._answer()
        if answer.status != 200:
            raise BadStream(f"RTSP {method} answers {answer.status}")
        return answer

    def _request(self, method: str, uri: str, headers: Mapping[str, str]) -> bytes:
        self._cseq += 1
        own = {"CSeq": str(self._cseq), "User-Agent": _AGENT}
        written = own | self._session | self.auth.header(method, uri) | dict(headers)
        lines = [f"{method} {uri} RTSP/1.0", *(f"{name}: {value}" for name, value in written.items())]
        return "\r\n".join([*lines, "", ""]).encode()

    async def _answer(self) -> _Answer:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        status, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
        read = re.fullmatch(r"RTSP/1\.0 (\d{3}) .*", status)
        if not read:
            raise BadStream(f"no RTSP answer: {status!r}")
        headers: dict[str, list[str]] = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers.setdefault(name.strip().lower(), []).append(value.strip())
        if headers.get("cseq") != [str(self._cseq)]:
            raise BadStream(f"CSeq {headers.get('cseq')} answers {self._cseq}")
        body = await self.reader.readexactly(int(headers.get("content-length", ["0"])[0]))
        return _Answer(int(read[1]), headers, body)


@asynccontextmanager
async def rtsp_player(uri: str, auth: DigestAuth, patience_s: float) -> AsyncIterator[RtspPlayer]:
    """Connects, and leaves with a TEARDOWN."""
    parts = urlsplit(uri)
    if parts.scheme != "rtsp" or not parts.hostname:
        raise BadStream(f"{uri!r} is no RTSP address")
    async with asyncio.timeout(patience_s):
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 554)
    player = RtspPlayer(reader, writer, uri, auth, patience_s)
    try:
        yield player
    finally:
        await player.tear_down()
        writer.close()


def read_sdp(text: str, base: str) -> Video:
    """RFC 4566; the first video of it."""
    media = re.split(r"\r?\n(?=m=)", text)
    section = next((each for each in media if each.startswith("m=video")), None)
    if section is None:
        raise BadStream("the SDP has no video")
    track = re.search(r"(?m)^a=x-onvif-track:\S+", section)
    control = re.search(r"(?m)^a=control:(\S+)", section)
    formats = dict(_formats(section))
    if track is None or control is None or not formats:
        raise BadStream(
            f"the video has no a=control, no a=x-onvif-track or no format that is known: {section}"
        )
    slashed = base if base.endswith("/") else base + "/"
    return Video(urljoin(slashed, control[1]), formats)


def _formats(section: str) -> Iterator[tuple[int, Format]]:
    """By payload type."""
    parameters = dict(re.findall(r"(?m)^a=fmtp:(\d+) (.*?)\r?$", section))
    for kind, name in re.findall(r"(?m)^a=rtpmap:(\d+) (\w+)/90000\r?$", section):
        sets = re.findall(r"sprop-(?:parameter-sets|vps|sps|pps)=([^;\s]+)", parameters.get(kind, ""))
        units = [base64.b64decode(each) for group in sets for each in group.split(",")]
        if name.upper() in _CODECS:
            yield int(kind), Format(_CODECS[name.upper()], units)
