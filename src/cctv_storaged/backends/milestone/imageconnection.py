"""One connection to a recording server's port 7563: bytes out, whole messages in, everything timed."""

import asyncio
import contextlib
import ssl
from collections.abc import Iterator
from dataclasses import dataclass

from cctv_storaged.backends.milestone.answers import trouble, unreachable
from cctv_storaged.backends.milestone.imagewire import ImageWire, Message, Room, WireLimits
from cctv_storaged.errors import BackendUnavailable

_READ_BYTES = 256 * 1024
_CLOSE_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """Where a recording server is reached: ImageServer and RecorderCommandService share the port."""

    host: str
    port: int = 7563
    tls: ssl.SSLContext | None = None  # None: in clear
    server_hostname: str | None = None  # expected in the certificate; None: `host`

    @property
    def url(self) -> str:
        """As the recorder's webServerUri, with a slash at the end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Seconds."""

    connect_s: float = 5.0
    read_s: float = 15.0  # without a byte
    answer_s: float = 120.0  # for one whole answer, however slowly it trickles


class ConnectionEnded(BackendUnavailable):
    """The recorder is gone. `at_rest`: between two answers, so that nothing was cut."""

    def __init__(self, message: str, *, at_rest: bool) -> None:
        self.at_rest = at_rest
        super().__init__(message, reason="network")


class ImageConnection:
    """Made by `opened`; whoever has it closes it."""

    def __init__(
        self,
        door: Door,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        patience: Patience,
        limits: WireLimits,
        room: Room | None = None,
    ) -> None:
        self._where = f"{door.host}:{door.port}"
        self._reader = reader
        self._writer = writer
        self._patience = patience
        self._wire = ImageWire(limits, room)
        self._messages: Iterator[Message] = iter(())

    @classmethod
    async def opened(
        cls, door: Door, *, patience: Patience, limits: WireLimits, room: Room | None = None
    ) -> "ImageConnection":
        """BackendUnavailable(network): no such name, nobody there, or a certificate that is not trusted."""
        try:
            async with asyncio.timeout(patience.connect_s):
                reader, writer = await _stream(door)
        except (OSError, ValueError, OverflowError) as exc:  # a host that is no name, a port that is none
            raise unreachable(f"connect to the recording server {door.host}:{door.port}", exc) from exc
        return cls(door, reader, writer, patience=patience, limits=limits, room=room)

    async def send(self, data: bytes) -> None:
        """ConnectionEnded where nobody takes it."""
        try:
            async with asyncio.timeout(self._patience.read_s):
                self._writer.write(data)
                await self._writer.drain()
        except OSError as exc:
            raise self._ended(trouble(exc), at_rest=self._wire.at_rest) from exc

    async def receive(self) -> Message:
        """The next message. ConnectionEnded, Unreadable, AnswerTooLarge; BackendUnavailable: too slow."""
        try:
            async with asyncio.timeout(self._patience.answer_s):
                while (message := next(self._messages, None)) is None:
                    self._messages = self._wire.feed(await self._more())
                return message
        except TimeoutError as exc:
            text = f"the recording server {self._where} takes too long to answer"
            raise BackendUnavailable(text, reason="network") from exc

    async def close(self) -> None:
        """Returns soon, whatever the other side does."""
        self._wire.let_go()
        try:
            self._writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_CLOSE_S):
                    await self._writer.wait_closed()
        finally:
            self._writer.transport.abort()

    async def _more(self) -> bytes:
        try:
            async with asyncio.timeout(self._patience.read_s):
                data = await self._reader.read(_READ_BYTES)
        except OSError as exc:
            if isinstance(exc, TimeoutError):
                raise
            raise self._ended(trouble(exc), at_rest=self._wire.at_rest) from exc
        if not data:
            raise self._ended("it closed the connection", at_rest=self._wire.at_rest)
        return data

    def _ended(self, why: str, *, at_rest: bool) -> ConnectionEnded:
        when = "" if at_rest else " in the middle of an answer"
        return ConnectionEnded(f"the recording server {self._where} is gone{when}: {why}", at_rest=at_rest)


async def _stream(door: Door) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if door.tls is None:
        return await asyncio.open_connection(door.host, door.port, limit=_READ_BYTES)
    return await asyncio.open_connection(
        door.host,
        door.port,
        limit=_READ_BYTES,
        ssl=door.tls,
        server_hostname=door.server_hostname or door.host,
        ssl_shutdown_timeout=_CLOSE_S,
    )
