"""The API on its address: started, and stopped within a bounded time whoever still listens.

aiohttp's own sites cannot be told how to answer what is no HTTP, so the listening socket is opened here.
"""

import asyncio
import errno
import logging
import socket
import ssl
from http import HTTPStatus

from aiohttp import web
from aiohttp.web_request import BaseRequest

from cctv_storaged.api.app import build_app
from cctv_storaged.api.certificates import Renewal, loaded
from cctv_storaged.api.guests import Guests
from cctv_storaged.api.listening import Listening
from cctv_storaged.api.observing import ID_HEADER, brand, new_id
from cctv_storaged.api.problems import BAD_REQUEST, INTERNAL, Problem, problem_of, response_to
from cctv_storaged.api.services import Services
from cctv_storaged.config import Api as ApiSettings
from cctv_storaged.errors import ConfigError, Fault

log = logging.getLogger(__name__)

STOP_TIMEOUT_S = 2.0
"""Answers under way get this to finish, and as much again to be broken off."""
KEEPALIVE_S = 75.0
"""A connection that asks nothing for so long is closed; so is one that never gets a request together."""
LINGER_S = 2.0
MAY_PASS = frozenset({errno.EADDRINUSE, errno.EADDRNOTAVAIL})
"""An address that DHCP has yet to give, a port that another program still has: tried again later."""


class ApiServer:
    """One listening API."""

    def __init__(self, services: Services) -> None:
        self._settings: ApiSettings = services.settings.api
        self._runner = web.AppRunner(build_app(services), shutdown_timeout=STOP_TIMEOUT_S)
        self._listening = Listening(self._connection)
        self._renewal = Renewal(self._settings, self._listening.speak, services.upkeep.alarms, services.clock)
        self._renewing: asyncio.Task[None] | None = None
        self._connections = Guests()

    @property
    def app(self) -> web.Application:
        """The application it serves."""
        return self._runner.app

    @property
    def port(self) -> int:
        """The port it listens on; the one of the settings before it does."""
        return self._listening.port or self._settings.port

    @property
    def url(self) -> str:
        """Where it is, for people."""
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        return f"{'http' if self._settings.tls_cert is None else 'https'}://{host}:{self.port}"

    async def start(self) -> None:
        """Listens. Raises ConfigError where address or certificate cannot be used, OSError for an address
        that may be there, or free, another time.
        """
        served = await asyncio.to_thread(self._renewal.begin)
        context = None if served is None else served.context
        await self._runner.setup()
        try:
            await self._listening.open(self._settings.host, self._settings.port, context)
        except OSError as exc:
            await self._runner.cleanup()
            fault = _address_fault(self._settings, exc)
            if isinstance(exc, socket.gaierror) or exc.errno in MAY_PASS:
                raise OSError(str(fault)) from exc
            raise ConfigError([fault]) from exc
        self._renewing = asyncio.create_task(self._renewal.run())

    async def renew_certificate(self) -> None:
        """Certificate, key and clients' CAs are read anew, for connections that are made from now on."""
        if self._listening:
            await self._renewal.look(anew=True)

    def _connection(self) -> "_Connection":
        server = self._runner.server
        assert server is not None
        return _Connection(server, asyncio.get_running_loop(), self._connections)

    async def stop(self) -> None:
        """Takes no more, ends what has no end, waits for the rest, and breaks off what does not finish."""
        renewing, self._renewing = self._renewing, None
        if renewing is not None:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
        if not self._listening:
            return
        await self._listening.close()
        await self._runner.cleanup()
        self.break_off()

    def break_off(self) -> None:
        """Waits for no client any more: a stop under way has then next to nothing to wait for."""
        for connection in self._connections:
            connection.abort()


class _Connection(web.RequestHandler):
    """One client's connection; answers with a problem also where aiohttp would answer by itself."""

    def __init__(self, manager: web.Server, loop: asyncio.AbstractEventLoop, guests: Guests) -> None:
        super().__init__(
            manager,
            loop=loop,
            keepalive_timeout=KEEPALIVE_S,
            lingering_time=LINGER_S,
            auto_decompress=False,
        )
        self._guests = guests
        self._raw: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._raw = transport
        self._guests.came(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._guests.left(self)
        super().connection_lost(exc)

    @property
    def address(self) -> str | None:
        """Of the client."""
        peer = None if self._raw is None else self._raw.get_extra_info("peername")
        return str(peer[0]) if isinstance(peer, tuple) and peer else None

    @property
    def idle(self) -> bool:
        """Whether no request of it is being answered."""
        return self._current_request is None

    def abort(self) -> None:
        """Closes without waiting for what the client has not taken."""
        if isinstance(self._raw, asyncio.WriteTransport):
            self._raw.abort()

    def handle_error(
        self,
        request: BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What is no HTTP, and what failed outside the application. A client that has left is neither."""
        if isinstance(exc, ConnectionError) or request.writer.output_size > 0:
            raise ConnectionError("nobody is there to be answered, or an answer was begun")
        request_id = new_id()
        if status < HTTPStatus.INTERNAL_SERVER_ERROR:
            problem = Problem(kind=BAD_REQUEST, detail="the request is not HTTP that is understood here")
        else:
            fields = {"request_id": request_id}
            log.error("request failed outside the application", exc_info=exc, extra=fields)
            problem = Problem(kind=INTERNAL, detail="the log says more under this X-Request-Id")
        response = response_to(problem, request_id)
        response.headers[ID_HEADER] = request_id
        response.force_close()
        brand(response)
        return response

    async def finish_response(
        self, request: BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """An expectation that cannot be met is refused by aiohttp before any middleware."""
        if isinstance(resp, web.HTTPException):
            request_id = new_id()
            resp = response_to(problem_of(resp), request_id)
            resp.headers[ID_HEADER] = request_id
        return await super().finish_response(request, resp, start_time)


def tls_context(settings: ApiSettings) -> ssl.SSLContext | None:
    """What TLS is spoken with; None for plain HTTP. Raises ConfigError."""
    served = loaded(settings)
    return None if served is None else served.context


def _address_fault(settings: ApiSettings, error: OSError) -> Fault:
    hint = "an address of this machine, and a port this user may take"
    if error.errno == errno.EADDRINUSE:
        hint = "another program listens there: stop it or take another port"
    return Fault("api.port", f"cannot listen on {settings.host}:{settings.port}: {error}", hint)
