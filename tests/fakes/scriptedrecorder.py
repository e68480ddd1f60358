"""A recorder's port 7563 that does what a test tells it to, call by call, however wrong."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from defusedxml import ElementTree

from tests.fakes.recorderbytes import END, connected, multipart, packet


@dataclass(frozen=True, slots=True)
class Call:
    """One document that came."""

    number: int
    method: str
    token: str  # of connect and connectupdate
    parameters: str
    time_ms: int  # of goto
    document: str


@dataclass(slots=True)
class Peer:
    """One connection, from the recorder's side."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    calls: list[Call]

    async def call(self) -> Call:
        """The next one, whatever it is."""
        call = read_call(await self.reader.readuntil(END))
        self.calls.append(call)
        return call

    async def let_in(self) -> Call:
        """Takes `connect`."""
        call = await self.call()
        await self.send(connected(call.number))
        return call

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()


Script = Callable[[Peer], Awaitable[None]]


@dataclass(slots=True)
class ScriptedRecorder:
    """One script a connection; the last of them for all that follow."""

    scripts: Sequence[Script]
    port: int = 0
    connections: int = 0
    calls: list[Call] = field(default_factory=list)
    _serving: dict[asyncio.Task[None], asyncio.StreamWriter] = field(default_factory=dict)

    @property
    def methods(self) -> list[str]:
        return [call.method for call in self.calls]

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        script = self.scripts[min(self.connections, len(self.scripts) - 1)]
        self.connections += 1
        self._serving[asyncio.create_task(self._serve(script, reader, writer))] = writer

    async def stop(self) -> None:
        """Whatever a script waits for, its connection is gone."""
        for writer in self._serving.values():
            writer.transport.abort()
        await asyncio.gather(*self._serving)

    async def _serve(
        self, script: Script, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await script(Peer(reader, writer, self.calls))
        writer.close()


@contextlib.asynccontextmanager
async def scripted_recorder(*scripts: Script) -> AsyncIterator[ScriptedRecorder]:
    """On a free port of this host. A connection is closed when its script ends."""
    recorder = ScriptedRecorder(scripts)
    server = await asyncio.start_server(recorder.accept, "127.0.0.1", 0)
    recorder.port = server.sockets[0].getsockname()[1]
    try:
        yield recorder
    finally:
        server.close()
        await recorder.stop()
        await server.wait_closed()


def read_call(document: bytes) -> Call:
    root = ElementTree.fromstring(document.removesuffix(END))
    parameters = root.findtext("connectparam") or ""
    return Call(
        number=int(root.findtext("requestid") or -1),
        method=root.findtext("methodname") or "",
        token=parameters.partition("&connectiontoken=")[2],
        parameters=parameters,
        time_ms=int(root.findtext("time") or -1),
        document=document.decode(),
    )


def group(
    call: Call,
    current_ms: int,
    *offsets_ms: int,
    previous_ms: int | None = None,
    next_ms: int | None = None,
) -> bytes:
    """A group: a key picture at `current_ms`, others so much later."""
    bodies = [packet(current_ms, b"key")]
    bodies += [packet(current_ms + offset, b"other", key=False) for offset in offsets_ms]
    return multipart(
        bodies,
        RequestId=call.number,
        Prev=current_ms if previous_ms is None else previous_ms,
        Current=current_ms,
        Next=current_ms + 1000 if next_ms is None else next_ms,
    )


def holding(*times_ms: int, offsets_ms: Sequence[int] = (400, 800)) -> Script:
    """A well-behaved recorder that holds groups at these times."""

    async def script(peer: Peer) -> None:
        await peer.let_in()
        at = 0
        while True:
            call = await peer.call()
            if call.method == "connectupdate":
                await peer.send(connected(call.number, method=call.method))
                continue
            if call.method == "goto":
                at = max(sum(time_ms <= call.time_ms for time_ms in times_ms) - 1, 0)
            elif call.method == "next":
                at = min(at + 1, len(times_ms) - 1)
            following = times_ms[min(at + 1, len(times_ms) - 1)]
            await peer.send(group(call, times_ms[at], *offsets_ms, next_ms=following))

    return script
