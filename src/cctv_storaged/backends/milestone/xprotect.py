"""One XProtect site, as `base.Vms`: puts the parts together and knows which recorder a camera is on."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from uuid import UUID

import aiohttp

from cctv_storaged.backends.milestone.base import (
    Gop,
    Mark,
    Site,
    TaskProgress,
    VmsCamera,
    VmsRecorder,
    VmsStorage,
)
from cctv_storaged.backends.milestone.discovery import Discovered, discover
from cctv_storaged.backends.milestone.flight import SingleFlight
from cctv_storaged.backends.milestone.httpwire import HttpWire, open_session, plain_refused
from cctv_storaged.backends.milestone.identity import Identity
from cctv_storaged.backends.milestone.imageserver import Door, ImageServer, Patience
from cctv_storaged.backends.milestone.inventory import UNSEEN, Inventory
from cctv_storaged.backends.milestone.management import BasicUser, Management
from cctv_storaged.backends.milestone.marks import Marks
from cctv_storaged.backends.milestone.recordercommands import RecorderCommands
from cctv_storaged.backends.milestone.rest import Rest
from cctv_storaged.backends.milestone.retrievals import Retrievals
from cctv_storaged.backends.milestone.sequences import RestSequences
from cctv_storaged.backends.milestone.sequencesapi import Sequences
from cctv_storaged.backends.milestone.soap import SoapClient
from cctv_storaged.backends.milestone.target import MilestoneTarget
from cctv_storaged.backends.milestone.tasks import Tasks
from cctv_storaged.backends.milestone.tls import Trust, management_trust, recorder_trust
from cctv_storaged.clock import Clock
from cctv_storaged.errors import BackendUnavailable
from cctv_storaged.model import TimeSpan


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """What lives on the connections to one site."""

    session: aiohttp.ClientSession
    wire: HttpWire
    identity: Identity
    rest: Rest
    tasks: Tasks
    inventory: Inventory
    sequences: Sequences
    retrievals: Retrievals
    marks: Marks
    management: Management
    images: ImageServer


class XProtect:
    """Connects when it is first asked something. One event loop only."""

    def __init__(self, target: MilestoneTarget, clock: Clock) -> None:
        """ConfigError where the certificates that it is given cannot be used."""
        self._target = target
        self._clock = clock
        self._management_trust = management_trust(target)
        self._recorder_trust = recorder_trust(target, self._management_trust)
        self._opened: _Parts | None = None
        self._closed = False
        self._discovered: Discovered | None = None
        self._discover = SingleFlight(self._discovered_now)

    @property
    def location(self) -> str:
        return self._target.url

    async def site(self) -> Site:
        parts = self._parts
        discovered = await self._discover()
        sites = await parts.rest.collection("sites")
        if not sites or (site_id := sites[0].guid("id")) is None:
            raise BackendUnavailable(
                f"{self.location}: user {self._target.username} may see no site (check its role)",
                reason="auth",
            )
        skew = parts.rest.clock_skew
        return Site(
            id=site_id,
            name=sites[0].text("name") or sites[0].text("displayName"),
            version=discovered.version or sites[0].text("version"),
            clock_skew=parts.management.clock_skew if skew is None else skew,
        )

    async def cameras(self) -> Sequence[VmsCamera]:
        return tuple((await self._parts.inventory.snapshot()).cameras.values())

    async def recorders(self) -> Sequence[VmsRecorder]:
        return tuple((await self._parts.inventory.snapshot()).recorders.values())

    async def storage(self, storage_id: UUID) -> VmsStorage:
        return await self._parts.inventory.storage(storage_id)

    async def reach(self, camera: UUID) -> None:
        await self._parts.images.reach(await self._door(camera), camera)

    async def recorded(self, camera: UUID, span: TimeSpan) -> Sequence[TimeSpan]:
        return tuple(await self._parts.sequences.recorded(camera, span, partial(self._door, camera)))

    async def retrieve(self, camera: UUID, span: TimeSpan, identifier: UUID) -> str:
        return await self._parts.retrievals.start(
            await self._parts.inventory.camera(camera), span, identifier
        )

    async def task(self, task_id: str) -> TaskProgress:
        return await self._parts.tasks.progress(task_id)

    async def clean_up(self, task_id: str) -> None:
        await self._parts.tasks.clean_up(task_id)

    async def send_event(self, event_id: UUID, camera: UUID) -> None:
        """The camera is not told: which fields an event may have besides its type is not published."""
        del camera
        await self._parts.marks.send_event(event_id)

    async def raise_alarm(self, camera: UUID, name: str, message: str) -> None:
        await self._parts.marks.raise_alarm(camera, name, message)

    async def bookmark(self, mark: Mark) -> UUID:
        return await self._parts.marks.bookmark(mark)

    async def remove_bookmark(self, bookmark_id: UUID) -> None:
        await self._parts.marks.remove_bookmark(bookmark_id)

    async def lock(self, mark: Mark) -> UUID:
        return await self._parts.marks.lock(mark)

    async def unlock(self, lock_id: UUID) -> None:
        await self._parts.marks.unlock(lock_id)

    @contextlib.asynccontextmanager
    async def footage(
        self, camera: UUID, span: TimeSpan, stream: UUID | None = None
    ) -> AsyncIterator[AsyncIterator[Gop]]:
        door = await self._door(camera)
        async with self._parts.images.footage(door, camera, span, stream) as gops:
            yield gops

    async def close(self) -> None:
        self._closed = True
        parts, self._opened = self._opened, None
        if parts is None:
            return
        try:
            await parts.management.log_out()
        finally:
            await self._discover.cancel()
            await parts.inventory.close()
            await parts.identity.close()
            await parts.session.close()

    @property
    def _parts(self) -> _Parts:
        if self._closed:
            raise BackendUnavailable(f"the connections to {self.location} are closed", reason="network")
        if self._opened is None:
            self._opened = self._open()
        return self._opened

    def _open(self) -> _Parts:
        """Within the loop: a session belongs to one."""
        target, clock = self._target, self._clock
        session = open_session(target, self._management_trust)
        wire = HttpWire(session, target, clock)
        identity = Identity(wire, target, clock, self._addresses)
        rest = Rest(wire, identity, self._addresses)
        tasks = Tasks(rest)
        management = Management(
            self._soap(session, self._management_trust),
            target.url,
            identity,
            basic=BasicUser(username=target.username, password=target.password),
            clock=clock,
        )
        commands = RecorderCommands(self._soap(session, self._recorder_trust), management)
        return _Parts(
            session=session,
            wire=wire,
            identity=identity,
            rest=rest,
            tasks=tasks,
            inventory=Inventory(rest, clock, target.recorder_host_override),
            sequences=Sequences(RestSequences(tasks), commands, target.sequences_api, clock),
            retrievals=Retrievals(rest, tasks),
            marks=Marks(rest, self._addresses),
            management=management,
            images=ImageServer(
                management, patience=Patience(connect_s=target.connect_s, read_s=target.read_s)
            ),
        )

    def _soap(self, session: aiohttp.ClientSession, trust: Trust) -> SoapClient:
        return SoapClient(
            session,
            tls=trust.context,
            server_hostname=trust.server_name,
            request_s=self._target.request_s,
        )

    async def _addresses(self) -> Discovered:
        """What the site told before; asked for anew by `site`."""
        return self._discovered or await self._discover()

    async def _discovered_now(self) -> Discovered:
        self._discovered = await discover(self._parts.wire, self._target.url)
        return self._discovered

    async def _door(self, camera_id: UUID) -> Door:
        """Where the camera's footage is read. Without TLS only where that is allowed."""
        camera = await self._parts.inventory.camera(camera_id)
        recorder = (await self._parts.inventory.snapshot()).recorders.get(camera.recorder_id)
        if recorder is None:
            why = "its hardware" if camera.recorder_id == UNSEEN else f"recording server {camera.recorder_id}"
            raise BackendUnavailable(
                f"camera {camera.name}: user {self._target.username} may not see {why}", reason="auth"
            )
        if not recorder.host:
            raise BackendUnavailable(f"recording server {recorder.name} has no address", reason="server")
        if not recorder.tls and not self._target.allow_plain_http:
            raise plain_refused(f"recording server {recorder.name}")
        return Door(
            host=recorder.host,
            port=recorder.port,
            tls=self._recorder_trust.context if recorder.tls else None,
            server_hostname=self._recorder_trust.server_name,
        )
