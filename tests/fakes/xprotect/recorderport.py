"""The recorder's port, 7563: ImageServer and SOAP on one listener, told apart by the first byte."""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from tests.fakes.xprotect.imageserver import ImageServer
from tests.fakes.xprotect.imagewire import END
from tests.fakes.xprotect.recordercommands import RecorderCommands
from tests.fakes.xprotect.sender import Cut, Sender
from tests.fakes.xprotect.site import Site

_MOST_BODY = 1 << 20
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 500: "Internal Server Error"}


@dataclass(slots=True)
class RecorderPort:
    """`async with RecorderPort(site) as port`; the port is 0 in the site for any free one, and set there."""

    site: Site
    tls: ssl.SSLContext | None = None
    images: ImageServer = field(init=False)
    commands: RecorderCommands = field(init=False)
    _server: asyncio.Server | None = None
    _open: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.images, self.commands = ImageServer(self.site), RecorderCommands(self.site)

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._open)

    async def start(self) -> None:
        """Listens, and writes down the port in the site."""
        self._server = await asyncio.start_server(
            self._accept, self.site.host, self.site.recorder_port, ssl=self.tls
        )
        self.site.recorder_port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Ends every connection. The port is remembered, for the next start."""
        if self._server:
            self._server.close()
            await self.cut()
            await self._server.wait_closed()
            self._server = None

    async def cut(self) -> None:
        """Ends the connections that are open, as a recorder that is started anew."""
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            away = self.site.faults.recorder
            if away == "silent":
                await reader.read()  # until the client gives up
            elif away == "no":
                await self._answer(await reader.readexactly(1), reader, writer)
        except (Cut, ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the client's end, or a fault
        finally:
            # Refused ends in a reset: the nearest to a closed port that a listener can do.
            writer.transport.abort() if self.site.faults.recorder == "refused" else writer.close()

    async def _answer(self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if first == b"<":
            await self.images.serve(first, reader, writer)
            return
        while await self._answer_http(first, reader, Sender(writer, self.site.faults)):
            first = await reader.readexactly(1)

    async def _answer_http(self, first: bytes, reader: asyncio.StreamReader, sender: Sender) -> bool:
        """One request of HTTP/1.1; whether another may follow."""
        head = first + await reader.readuntil(END)
        if self.site.faults.recorder != "no":
            raise Cut
        request, headers = _read_head(head)
        method, path = request.split(" ")[:2]
        length = int(headers.get("content-length", "0"))
        if method not in {"GET", "POST"} or length > _MOST_BODY or "transfer-encoding" in headers:
            await sender.send(_response(400, ""))
            return False
        body = await reader.readexactly(length)
        status, document = self.commands.answer(path, headers, body) if method == "POST" else (404, "")
        await sender.send(_response(status, document))
        return headers.get("connection", "").lower() != "close"


def _read_head(head: bytes) -> tuple[str, Mapping[str, str]]:
    request, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    named = (line.partition(":") for line in lines)
    return request + "  ", {name.strip().lower(): value.strip() for name, _, value in named}


def _response(status: int, document: str) -> bytes:
    body = document.encode()
    head = f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: text/xml; charset=utf-8\r\n"
    return head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body
