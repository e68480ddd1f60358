"""What is spoken on the API's sockets changes, and no client of that moment is left hanging."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cctv_storaged.api.listening import Listening
from tests.services.pki import Authority

HANG_S = 20.0
"""A handshake takes milliseconds; one that nobody answers is given up after a minute."""
MOMENTS = 12


class _Greeting(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(b"hello\n")
        transport.close()


@asynccontextmanager
async def _listening(context: ssl.SSLContext) -> AsyncIterator[Listening]:
    listening = Listening(_Greeting)
    await listening.open("127.0.0.1", 0, context)
    try:
        yield listening
    finally:
        await listening.close()


@pytest.fixture
def authority() -> Authority:
    return Authority("the site's")


def _speaking(authority: Authority, name: str, folder: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue(name).write(folder / "tls.crt", folder / "tls.key")
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    return context


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def _greeting(listening: Listening, authority: Authority) -> bytes:
    """The whole answer to a client that the kernel has let in before the loop could see it."""
    trusting = ssl.create_default_context(cadata=authority.certificate.decode())
    client = socket.create_connection(("127.0.0.1", listening.port))
    async with asyncio.timeout(HANG_S):
        reader, writer = await asyncio.open_connection(sock=client, ssl=trusting, server_hostname="localhost")
        line = await reader.readline()
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)
    return line


async def _later(action: Coroutine[None, None, None], turns: int) -> None:
    await _turns(turns)
    await action


@pytest.mark.parametrize("moment", range(MOMENTS))
async def test_a_client_that_comes_while_the_certificate_changes_is_answered(
    tmp_path: Path, authority: Authority, moment: int
) -> None:
    """In each turn of the loop about that moment, also right after it was accepted for the former server."""
    async with _listening(_speaking(authority, "first", tmp_path)) as listening:
        second = _speaking(authority, "second", tmp_path)
        changing = asyncio.create_task(_later(listening.speak(second), turns=MOMENTS // 2))
        await _turns(moment)
        assert await _greeting(listening, authority) == b"hello\n"
        await changing


@pytest.mark.parametrize("moment", range(MOMENTS // 2 + 1))
async def test_a_client_that_comes_while_it_closes_is_answered_or_sent_away(
    tmp_path: Path, authority: Authority, moment: int
) -> None:
    async with _listening(_speaking(authority, "first", tmp_path)) as listening:
        closing = asyncio.create_task(_later(listening.close(), turns=MOMENTS // 2))
        await _turns(moment)
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            assert await _greeting(listening, authority) == b"hello\n"
        await closing


async def test_a_change_that_is_broken_off_leaves_the_former_sockets_as_they_were(
    tmp_path: Path, authority: Authority
) -> None:
    """In each turn of it, and no socket besides them."""
    first, second = (_speaking(authority, name, tmp_path) for name in ("first", "second"))
    trusting = ssl.create_default_context(cadata=authority.certificate.decode())
    for turns in range(4):
        async with _listening(first) as listening:
            port = listening.port
            changing = asyncio.create_task(listening.speak(second))
            await _turns(turns)
            changing.cancel()
            await asyncio.gather(changing, return_exceptions=True)
            assert listening.port == port
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
            assert await reader.readline() == b"hello\n"
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
