"""Both sides of the device on their addresses: SOAP over HTTP, and RTSP.

A port that cannot be had is told and tried again: whatever becomes of retrieval, recording goes on.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from aiohttp import web

from cctv_storaged.backends.base import Backend
from cctv_storaged.clock import Clock
from cctv_storaged.config.milestone import Milestone, MilestoneOnvif
from cctv_storaged.gathering import Gathering
from cctv_storaged.journal.journal import Journal
from cctv_storaged.metrics import Metrics
from cctv_storaged.model import BackendKind, Segment
from cctv_storaged.onvif.auth import account_of
from cctv_storaged.onvif.codecs import Codecs
from cctv_storaged.onvif.crowd import Crowd
from cctv_storaged.onvif.device import DeviceService, Identity
from cctv_storaged.onvif.guesses import Guesses
from cctv_storaged.onvif.inventory import Inventory
from cctv_storaged.onvif.mediaservice import MediaService
from cctv_storaged.onvif.recording import RecordingService
from cctv_storaged.onvif.replay import ReplayService
from cctv_storaged.onvif.rtsp import MOST_LINE_BYTES
from cctv_storaged.onvif.search import SearchService
from cctv_storaged.onvif.searching import Searches
from cctv_storaged.onvif.sending import WRITE_AHEAD_BYTES
from cctv_storaged.onvif.session import Connection, Replaying, Slots
from cctv_storaged.onvif.streaming import Footage
from cctv_storaged.onvif.web import Door, SoapSide
from cctv_storaged.pacing import ByteBudget
from cctv_storaged.pins import Pins
from cctv_storaged.reading import Reader

log = logging.getLogger(__name__)

MOST_HTTP, MOST_RTSP = 64, 320
"""Connections: a recording server may keep a live stream open for each camera, silent as it is."""
MOST_HTTP_STRANGERS, MOST_RTSP_STRANGERS = 32, 128
"""Of one address, before they log in: a recording server that starts opens all its streams at once."""
LEAST_REPLAYS = 4
"""At the same time; more where more retrievals may run: XProtect retrieves on its own account as well."""
MOST_BYTES_PER_S = 16 * 2**20
"""Of all replays together: faster, packing them would keep the daemon from the recorder's files."""
RETRY_S = 30.0
KEEPALIVE_S = 30.0
STOP_S = 2.0


class OnvifServer:
    """The device: `start` and `stop`, or `run` as a duty that does both."""

    def __init__(
        self, settings: MilestoneOnvif, soap: SoapSide, searches: Searches, replaying: Replaying
    ) -> None:
        self._settings = settings
        self._soap = soap
        self._searches = searches
        self.replaying = replaying
        self._runner: web.AppRunner | None = None
        self._http: asyncio.Server | None = None
        self._rtsp: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self._replayers = Crowd(MOST_RTSP, MOST_RTSP_STRANGERS)
        self._callers = Crowd(MOST_HTTP, MOST_HTTP_STRANGERS)
        self.trouble: str | None = None
        """Why nobody can retrieve anything right now; None while it listens."""

    @property
    def http_port(self) -> int:
        """The port of the SOAP side; the one of the settings before it listens."""
        return _port_of(self._http, self._settings.http_port)

    @property
    def rtsp_port(self) -> int:
        """The port of the RTSP side, likewise."""
        return _port_of(self._rtsp, self._settings.rtsp_port)

    async def start(self) -> None:
        """Listens on both. Raises OSError."""
        loop = asyncio.get_running_loop()
        self._runner = web.AppRunner(self._soap.app(), shutdown_timeout=STOP_S, access_log=None)
        await self._runner.setup()
        server = self._runner.server
        assert server is not None
        try:
            self._rtsp = await asyncio.start_server(
                self._accept, self._settings.bind, self._settings.rtsp_port, limit=MOST_LINE_BYTES
            )
            self._soap.rtsp_port = self.rtsp_port
            self._http = await loop.create_server(
                lambda: _HttpConnection(server, loop, self._callers),
                self._settings.bind,
                self._settings.http_port,
            )
        except OSError:
            await self.stop()
            raise
        self.trouble = None
        log.info("ONVIF device on %s: HTTP %d, RTSP %d", self._settings.bind, self.http_port, self.rtsp_port)

    async def stop(self) -> None:
        """Takes no more, and breaks off what is under way."""
        for listening in (self._rtsp, self._http):
            if listening is not None:
                listening.close()
        self._rtsp = self._http = None
        for task in tuple(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        self._callers.send_away()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()
        await self._searches.close()

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                try:
                    await self.start()
                    await asyncio.Event().wait()
                except OSError as exc:
                    self.trouble = f"cannot listen on {self._settings.bind}: {exc.strerror or exc}"
                    log.error("the ONVIF device %s; tried again in %g s", self.trouble, RETRY_S)
                    await asyncio.sleep(RETRY_S)
        finally:
            await self.stop()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Not a coroutine: before Python 3.12 asyncio takes the end of its task at a stop for a fault."""
        connection = Connection(reader, writer, self.replaying)
        if not self._replayers.admits(connection):
            connection.abort()
            return
        writer.transport.set_write_buffer_limits(high=WRITE_AHEAD_BYTES)
        task = asyncio.create_task(self._serve(connection))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, connection: Connection) -> None:
        try:
            await connection.serve()
        except Exception:  # one client's connection, whatever it meets
            log.exception("an RTSP connection failed")
        finally:
            connection.abort()
            self._replayers.left(connection)


class _HttpConnection(Door):
    """One client's connection."""

    def __init__(self, manager: web.Server, loop: asyncio.AbstractEventLoop, others: Crowd) -> None:
        super().__init__(manager, loop=loop, keepalive_timeout=KEEPALIVE_S)
        self._others = others
        self._raw: asyncio.BaseTransport | None = None
        self.address = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._raw = transport
        self.address = str((transport.get_extra_info("peername") or ("",))[0])
        if not self._others.admits(self):
            self.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._others.left(self)
        super().connection_lost(exc)

    def abort(self) -> None:
        """Without waiting for what the client has not taken."""
        if isinstance(self._raw, asyncio.WriteTransport):
            self._raw.abort()


def open_onvif(
    settings: Milestone,
    *,
    host_id: str,
    journal: Journal,
    backends: Sequence[Backend],
    pins: Pins,
    metrics: Metrics,
    clock: Clock,
    budget: ByteBudget,
    doubt: Callable[[Segment, str, str], Awaitable[None]],
) -> OnvifServer | None:
    """The device as the settings want it, not listening yet; None where they do not.

    `backends` may hold the VMS's own: what it has is never read to be given to it. `budget`: of bytes sent
    out, shared with deliveries. Raises ConfigError for a device that would be open to all.
    """
    onvif = settings.onvif
    if not onvif.enabled:
        return None
    account = account_of(onvif)
    replayable = journal.replayable(BackendKind.MILESTONE)
    stores = [backend for backend in backends if backend.name != BackendKind.MILESTONE]
    reader = Reader(stores, metrics, pins, doubt)
    inventory = Inventory(replayable)
    searches = Searches(clock)
    services = {
        "tds": DeviceService(Identity(host_id), clock).operations,
        "trt": MediaService(inventory).operations,
        "trc": RecordingService(inventory).operations,
        "tse": SearchService(inventory, replayable, searches, clock).operations,
        "trp": ReplayService(inventory).operations,
    }
    guesses = Guesses(clock, metrics)
    soap = SoapSide(services, account, guesses, onvif.rtsp_port, onvif.advertise_host, clock)
    replaying = Replaying(
        account=account,
        guesses=guesses,
        inventory=inventory,
        footage=Footage(replayable, Gathering(journal, reader)),
        codecs=Codecs(replayable),
        slots=Slots(max(LEAST_REPLAYS, 2 * settings.max_retrievals)),
        budgets=(budget, ByteBudget(MOST_BYTES_PER_S)),
        clock=clock,
    )
    return OnvifServer(onvif, soap, searches, replaying)


def _port_of(listening: asyncio.Server | None, configured: int) -> int:
    if listening is None or not listening.sockets:
        return configured
    return int(listening.sockets[0].getsockname()[1])
