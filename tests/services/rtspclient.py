"""A client that speaks RTSP request by request, for what no player does."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.fakes.xprotect.digest import DigestAuth
from tests.fakes.xprotect.rtpunits import Packet, read_packet

PATIENCE_S = 20.0
OVER_TCP = {"Transport": "RTP/AVP/TCP;unicast;interleaved=0-1"}
AT_ONCE = {"Rate-Control": "no", "Require": "onvif-replay"}


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class RtspClient:
    """One connection; packets that come before an answer wait to be read."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    uri: str
    auth: DigestAuth | None = None
    session: str = ""
    cseq: int = 0
    packets: list[tuple[int, bytes]] = field(default_factory=list)

    async def ask(self, method: str, uri: str = "", **headers: str) -> Answer:
        """Logs in where that is asked for."""
        answer = await self.ask_once(method, uri, headers)
        challenge = answer.headers.get("www-authenticate")
        if answer.status == 401 and challenge and self.auth is not None and self.auth.challenged([challenge]):
            answer = await self.ask_once(method, uri, headers)
        return answer

    async def ask_once(self, method: str, uri: str, headers: Mapping[str, str]) -> Answer:
        self.send(method, uri, headers)
        async with asyncio.timeout(PATIENCE_S):
            return await self.answer()

    def send(self, method: str, uri: str = "", headers: Mapping[str, str] | None = None) -> None:
        self.cseq += 1
        to = uri or self.uri
        written = {"CSeq": str(self.cseq)} | ({"Session": self.session} if self.session else {})
        written |= self.auth.header(method, to) if self.auth is not None else {}
        written |= {name.replace("_", "-"): value for name, value in (headers or {}).items()}
        lines = [f"{method} {to} RTSP/1.0", *(f"{name}: {value}" for name, value in written.items())]
        self.writer.write("\r\n".join([*lines, "", ""]).encode())

    async def answer(self) -> Answer:
        while (first := await self.reader.readexactly(1)) == b"$":
            self.packets.append(await self._packet())
        head = (first + await self.reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head[1:] if line)
        }
        body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return Answer(int(head[0].split()[1]), headers, body)

    async def set_up(self) -> None:
        told = await self.ask("SETUP", f"{self.uri}/video", **OVER_TCP)
        assert told.status == 200, told
        self.session = told.headers["session"].partition(";")[0]

    async def play(self, **headers: str) -> Answer:
        """Sets up what is not, and plays."""
        if not self.session:
            await self.set_up()
        return await self.ask("PLAY", **headers)

    async def pictures(self) -> list[Packet]:
        """The first packet of every picture, up to the terminal one."""
        first: list[Packet] = []
        async with asyncio.timeout(PATIENCE_S):
            while not (first and first[-1].stamp is not None and first[-1].stamp.terminal):
                packet = await self.packet()
                if packet is not None and packet.stamp is not None:
                    first.append(packet)
        return first

    async def packet(self) -> Packet | None:
        """The next of RTP; None for one of RTCP."""
        if self.packets:
            channel, data = self.packets.pop(0)
        else:
            assert await self.reader.readexactly(1) == b"$"
            channel, data = await self._packet()
        return read_packet(data) if channel == 0 else None

    async def _packet(self) -> tuple[int, bytes]:
        channel, high, low = await self.reader.readexactly(3)
        return channel, await self.reader.readexactly(high << 8 | low)


@asynccontextmanager
async def rtsp_client(uri: str, user: str = "", password: str = "") -> AsyncIterator[RtspClient]:
    parts = urlsplit(uri)
    assert parts.hostname and parts.port
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    auth = DigestAuth(user, password) if user else None
    try:
        yield RtspClient(reader, writer, uri, auth)
    finally:
        writer.close()
