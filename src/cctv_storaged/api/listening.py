"""The API's listening sockets, which stay while what is spoken on them changes."""

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence

BACKLOG = 256


class Listening:
    """The sockets of one address (a name may stand for several), once they are open."""

    def __init__(self, connection: Callable[[], asyncio.BaseProtocol]) -> None:
        self._connection = connection
        self._servers: list[asyncio.Server] = []  # one for each socket after a change, one for all before

    def __bool__(self) -> bool:
        return bool(self._servers)

    @property
    def port(self) -> int | None:
        """The first socket's; None: none is open."""
        return next((int(each.getsockname()[1]) for each in _sockets(self._servers)), None)

    async def open(self, host: str, port: int, context: ssl.SSLContext | None) -> None:
        """Port 0 takes a free one. Raises OSError."""
        loop = asyncio.get_running_loop()
        self._servers = [await loop.create_server(self._connection, host, port, ssl=context, backlog=BACKLOG)]

    async def speak(self, context: ssl.SSLContext) -> None:
        """To new connections, from now on; those that are there stay as they are. Raises OSError.

        The sockets are the same, and so there is no moment without one.
        """
        loop = asyncio.get_running_loop()
        after: list[asyncio.Server] = []
        leaving = after  # nothing half done stays if this is broken off
        try:
            for each in _sockets(self._servers):
                server = await loop.create_server(
                    self._connection, sock=each.dup(), ssl=context, backlog=BACKLOG, start_serving=False
                )
                after.append(server)
                await server.start_serving()
            leaving, self._servers = self._servers, after
        finally:
            await _retire(leaving)

    async def close(self) -> None:
        """Takes no more connections. Twice is once."""
        leaving, self._servers = self._servers, []
        await _retire(leaving)


async def _retire(servers: Sequence[asyncio.Server]) -> None:
    """Closes them, and leaves no client hanging.

    What asyncio accepts in one turn of the loop gets its transport in the next, and is forgotten where its
    server is closed by then (Server._attach asserts that it is not). So they first accept no more.
    """
    loop = asyncio.get_running_loop()
    try:
        for each in _sockets(servers):
            loop.remove_reader(each.fileno())
        await asyncio.sleep(0)
    finally:
        for server in servers:
            server.close()


def _sockets(servers: Sequence[asyncio.Server]) -> Iterator[socket.socket]:
    for server in servers:
        yield from server.sockets
