"""XProtect's simulated recorder by bare sockets: one read strictly by the published tables and examples.

Nothing of the client is used here.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4
from xml.sax.saxutils import escape

from tests.fakes.xprotect.pictures import ms
from tests.fakes.xprotect.recorderport import RecorderPort
from tests.fakes.xprotect.site import Camera, Site, guid, make_site
from tests.footage import Codec, cached_ts

CAMERA = guid("the camera")
START = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
START_MS = ms(START)
GENERIC = "application/x-genericbytedata-octet-stream"
MULTIPART = "<clientcapabilities><multipartdata>yes</multipartdata></clientcapabilities>"
PATIENCE_S = 30
FIELDS = ((0, 2), (2, 4), (6, 2), (8, 2), (10, 2), (12, 8), (20, 8), (28, 4))
"""Of a packet: offset and size."""


@dataclass(frozen=True)
class Image:
    """An image response as it came."""

    headers: Mapping[str, str]
    bodies: Sequence[bytes]

    @property
    def places(self) -> tuple[int, int, int]:
        """Prev, Current and Next, ms after the start of the footage."""
        prev, current, following = (int(self.headers[name]) for name in ("Prev", "Current", "Next"))
        return prev - START_MS, current - START_MS, following - START_MS


@dataclass(frozen=True)
class Packet:
    """GenericByteData, data type 0x0010."""

    kind: int
    length: int
    codec: int
    number: int
    flags: int
    sync_ms: int
    time_ms: int
    payload: bytes


@dataclass
class Socket:
    """One connection, read strictly by the published forms."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    request_id: int = 0

    def ask(self, method: str, inner: str = "") -> None:
        self.request_id += 1
        self.writer.write(
            '<?xml version="1.0" encoding="UTF-8"?><methodcall>'
            f"<requestid>{self.request_id}</requestid><methodname>{method}</methodname>{inner}"
            "</methodcall>\r\n\r\n".encode()
        )

    async def text(self) -> str:
        """A document that ends in CR LF CR LF."""
        return (await self.reader.readuntil(b"\r\n\r\n")).decode().removesuffix("\r\n\r\n")

    async def image(self) -> Image:
        lines = (await self.text()).split("\r\n")
        assert lines[0] == "ImageResponse"
        headers = dict(line.split(": ") for line in lines[1:])
        boundary = re.search("boundary=([^;]+);", headers["Content-type"])
        if boundary is None:
            body = await self.reader.readexactly(int(headers["Content-length"]))
            assert await self.reader.readexactly(4) == b"\r\n\r\n"
            return Image(headers, [body])
        assert "Content-length" not in headers  # a multipart answer has no total
        return Image(headers, [body async for body in self._parts(boundary[1])])

    async def _parts(self, boundary: str) -> AsyncIterator[bytes]:
        while (line := await self.reader.readline()) != f"--{boundary}--\r\n".encode():
            assert line == f"--{boundary}\r\n".encode()
            headers = dict(each.split(": ") for each in (await self.text()).split("\r\n"))
            assert headers["Content-type"] == GENERIC
            yield await self.reader.readexactly(int(headers["Content-length"]))
            assert await self.reader.readexactly(2) == b"\r\n"
        assert await self.reader.readexactly(2) == b"\r\n"

    async def shows(self, method: str, inner: str = "") -> Image:
        self.ask(method, inner)
        image = await self.image()
        assert image.headers["RequestId"] == str(self.request_id)
        return image

    async def goto(self, after_ms: int, inner: str = "") -> Image:
        return await self.shows("goto", f"<time>{START_MS + after_ms}</time>{inner}")


OPENED: list[Socket] = []


def read_packet(data: bytes) -> Packet:
    """By the table of 3.6: offsets 0, 2, 6, 8, 10, 12, 20, 28, 32."""
    numbers = [int.from_bytes(data[at : at + size]) for at, size in FIELDS]
    kind, length, codec, number, flags, sync_ms, time_ms, reserved = numbers
    assert reserved == 0
    packet = Packet(kind, length, codec, number, flags, sync_ms, time_ms, data[32:])
    assert packet.length == len(data)
    return packet


def new_site(*starts: float, codec: Codec = "h264", bframes: int = 0) -> Site:
    """A site whose one camera has two seconds of footage, four groups of five, at each of the times."""
    site = make_site([Camera(id=CAMERA, name="the camera")])
    footage = cached_ts(seconds=2, rate=10, size="64x64", gop=5, bframes=bframes, codec=codec)
    for start in starts:
        site.media.add_ts(CAMERA, footage, START + timedelta(seconds=start))
    return site


def token_of(site: Site) -> str:
    oauth, _ = site.tokens.give_oauth("somebody")
    return site.tokens.give_corporate(oauth, str(uuid4()), "host & name")[0]


@asynccontextmanager
async def port(site: Site) -> AsyncIterator[RecorderPort]:
    """The site's recorder; what was `opened` at it is closed in the end."""
    async with asyncio.timeout(PATIENCE_S), RecorderPort(site) as listening:
        try:
            yield listening
        finally:
            while OPENED:
                writer = OPENED.pop().writer
                writer.close()
                with suppress(ConnectionError):
                    await writer.wait_closed()


async def opened(site: Site) -> Socket:
    OPENED.append(Socket(*await asyncio.open_connection(site.host, site.recorder_port)))
    return OPENED[-1]


def ask_to_connect(
    socket: Socket, token: str, *, camera: UUID = CAMERA, inner: str = MULTIPART, jpeg: str = "no"
) -> None:
    """As in the example of 3.3."""
    parameters = escape(f"id={camera}&connectiontoken={token}")
    socket.ask(
        "connect",
        f"<username>a</username><password>a</password><cameraid>{camera}</cameraid>"
        f"<alwaysstdjpeg>{jpeg}</alwaysstdjpeg>{inner}<connectparam>{parameters}</connectparam>",
    )


async def connect(
    site: Site, *, token: str | None = None, camera: UUID = CAMERA, inner: str = MULTIPART, jpeg: str = "no"
) -> tuple[Socket, str]:
    """A new connection, and the answer to its `connect`."""
    socket = await opened(site)
    ask_to_connect(socket, token_of(site) if token is None else token, camera=camera, inner=inner, jpeg=jpeg)
    return socket, await socket.text()


async def connected(site: Site, *, inner: str = MULTIPART, jpeg: str = "no") -> Socket:
    socket, answer = await connect(site, inner=inner, jpeg=jpeg)
    assert "<connected>yes</connected><errorreason>Success</errorreason>" in answer
    return socket
