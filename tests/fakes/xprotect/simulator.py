"""The whole simulator on one event loop: the management server, the recorder's port, the control port."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from aiohttp import web

from tests.fakes.xprotect import edge, onvifpull
from tests.fakes.xprotect.certificates import Certificates, make_certificates
from tests.fakes.xprotect.configapi import ConfigApi
from tests.fakes.xprotect.gateway import Gateway
from tests.fakes.xprotect.marks import Marks
from tests.fakes.xprotect.recorderport import RecorderPort
from tests.fakes.xprotect.rest import Rest
from tests.fakes.xprotect.signals import Signals
from tests.fakes.xprotect.site import Site
from tests.fakes.xprotect.tasks import Tasks


@dataclass(slots=True)
class Simulator:
    """Started; `apply` after a change of `site.faults` that concerns listeners or certificates."""

    site: Site
    certificates: Certificates | None = None
    tasks: Tasks = field(init=False)
    marks: Marks = field(init=False)
    signals: Signals = field(init=False)
    recorder: RecorderPort = field(init=False)
    _gateway: web.AppRunner = field(init=False)
    _context: ssl.SSLContext | None = None
    _recorder_context: ssl.SSLContext | None = None
    _listener: web.TCPSite | None = None
    _recorder_listens: bool = False
    _kept: list[socket.socket] = field(default_factory=list)

    def __post_init__(self) -> None:
        site = self.site
        site.tls = self.certificates is not None
        if self.certificates is not None:
            self._context = self.certificates.context()
            self._recorder_context = self.certificates.context()
        self.tasks = Tasks(site, edge.retrieve if site.retrieval == "instant" else onvifpull.pull)
        self.marks = Marks(site)
        self.signals = Signals(site, self.tasks)
        self.recorder = RecorderPort(site, self._recorder_context)
        rest = Rest(site, ConfigApi(site), self.tasks, self.marks, self.signals)
        self._gateway = web.AppRunner(
            Gateway(site, rest).application(), access_log=None, shutdown_timeout=0.5
        )

    async def start(self) -> Self:
        """Listens at the site's ports; at free ones, written down in the site, where they are 0."""
        await self._gateway.setup()
        self.site.gateway_port = self._keep(self.site.gateway_port)
        self.site.recorder_port = self._keep(self.site.recorder_port)
        await self.apply()
        return self

    async def apply(self) -> None:
        """Lets listeners and certificates follow the faults."""
        await self._let_gateway_follow()
        await self._let_recorder_follow()
        if self.certificates and self._context and self._recorder_context:
            self.certificates.use(self._context, self.site.faults.certificate)
            self.certificates.use(self._recorder_context, self.site.faults.recorder_certificate)

    async def set_faults(self, **changes: object) -> None:
        """All of them or none (ValueError), and in force."""
        self.site.faults.set(changes)
        await self.apply()

    async def stop(self) -> None:
        await self.tasks.close()
        await self.recorder.stop()
        await self._gateway.cleanup()
        for kept in self._kept:
            kept.close()

    def _keep(self, port: int) -> int:
        """Binds the port, so that nobody else is given it while the listener is away."""
        kept = socket.socket()
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._kept.append(kept)
        kept.bind((self.site.host, port))
        bound: int = kept.getsockname()[1]
        return bound

    async def _let_gateway_follow(self) -> None:
        away = self.site.faults.management == "refused"
        if away and self._listener is not None:
            await self._listener.stop()
            self._listener = None
            self._cut_connections()
        elif not away and self._listener is None:
            self._listener = web.TCPSite(
                self._gateway,
                self.site.host,
                self.site.gateway_port,
                ssl_context=self._context,
                reuse_address=True,
            )
            await self._listener.start()

    def _cut_connections(self) -> None:
        server = self._gateway.server
        for connection in server.connections if server is not None else ():
            connection.force_close()

    async def _let_recorder_follow(self) -> None:
        away = self.site.faults.recorder == "refused"
        if away and self._recorder_listens:
            await self.recorder.stop()
        elif not away and not self._recorder_listens:
            await self.recorder.start()
        elif self.site.faults.recorder != "no":
            await self.recorder.cut()
        self._recorder_listens = not away


@contextlib.asynccontextmanager
async def running(site: Site, *, tls_folder: Path | None = None) -> AsyncIterator[Simulator]:
    """The site on this loop; with TLS where there is a folder for certificates."""
    certificates = None
    if tls_folder is not None:
        certificates = await asyncio.to_thread(make_certificates, tls_folder, site.host)
    simulator = Simulator(site, certificates)
    try:
        yield await simulator.start()
    finally:
        await simulator.stop()
