"""One XProtect site: what it is made of, over one media database. Every listener is handed the same `Site`.

How the parts meet (the recorder's side is in media, imageserver, recorderport, recordercommands, onvifpull):

    site.media                     the media database; ids of cameras are `UUID`
    site.camera(id)                a camera that is there and may be seen, None otherwise
    site.tokens.corporate_is_good  what port 7563 asks of a token
    site.faults, site.assumptions  read at every request
    site.calls.count("imageserver:goto")
    site.now()                     the site's clock, skew and all
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal
from uuid import UUID, uuid5

from tests.fakes.xprotect.assumptions import Assumptions
from tests.fakes.xprotect.calls import Calls
from tests.fakes.xprotect.faults import Faults
from tests.fakes.xprotect.media import MediaDatabase
from tests.fakes.xprotect.tokens import Tokens

NAMESPACE = UUID("6f1d5c0e-3f0a-4b7c-9a53-7f0c5a1e2d10")


def guid(name: str) -> UUID:
    """The same id for the same name in every run."""
    return uuid5(NAMESPACE, name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """One channel of one piece of hardware."""

    id: UUID
    name: str
    enabled: bool = True
    recording_enabled: bool = True
    edge_storage_enabled: bool = True
    address: str = "http://127.0.0.1:8083/"
    """Of its device: where `pull` retrieves from, over ONVIF."""
    device_user: str = ""
    device_password: str = field(default="", repr=False)
    device_channel: str = ""
    """The device's own word for it (source token), where it has more than one. Empty: the camera's name."""

    @property
    def hardware_id(self) -> UUID:
        return guid(f"hardware of {self.id}")


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeFile:
    """A `.ts` file that a camera keeps, and when its first picture was recorded."""

    path: Path
    start: datetime


@dataclass(slots=True, kw_only=True)
class Retention:
    """Of the recording storage and its archive, one behind the other."""

    storage_minutes: int = 7 * 24 * 60
    archive_minutes: int = 30 * 24 * 60
    max_size_mb: int = 102_400


@dataclass(slots=True, kw_only=True)
class Site:
    """What all listeners share."""

    cameras: Sequence[Camera]
    faults: Faults
    assumptions: Assumptions
    media: MediaDatabase
    tokens: Tokens
    name: str = "Simulated site"
    user: str = "storaged"
    password: str = field(default="simulated password", repr=False)
    client_id: str = "GrantValidatorClient"
    host: str = "127.0.0.1"
    tls: bool = False
    gateway_port: int = 0
    recorder_port: int = 0
    retention: Retention = field(default_factory=Retention)
    retrieval: Literal["instant", "pull"] = "instant"
    """From `edge`, or from the camera's device over ONVIF."""
    edge: dict[UUID, list[EdgeFile]] = field(default_factory=dict)
    """What the cameras hold themselves ("edge storage")."""
    edge_look: Callable[[], None] | None = None
    """Brings `edge` up to date; runs in a thread."""
    rule_retrieves: timedelta | None = None
    """How far back a rule retrieves when the event for it is triggered. None: there is no such rule."""
    calls: Calls = field(default_factory=Calls)

    @property
    def id(self) -> UUID:
        return guid(self.name)

    @property
    def recorder_id(self) -> UUID:
        return guid(f"recorder of {self.name}")

    @property
    def storage_id(self) -> UUID:
        return guid(f"storage of {self.name}")

    @property
    def archive_id(self) -> UUID:
        return guid(f"archive of {self.name}")

    @property
    def scheme(self) -> str:
        return "https" if self.tls else "http"

    @property
    def url(self) -> str:
        """The management server, as a client is told it."""
        return f"{self.scheme}://{self.host}:{self.gateway_port}"

    @property
    def web_server_uri(self) -> str:
        """The recorder, as the site tells it."""
        return f"{self.scheme}://{self.faults.web_server_host or self.host}:{self.recorder_port}/"

    def now(self) -> datetime:
        """By the site's clock, which may be wrong."""
        return datetime.now(UTC) + timedelta(seconds=self.faults.clock_skew_s)

    def known(self) -> Sequence[Camera]:
        """All cameras that were not deleted, disabled ones too."""
        gone = _ids(self.faults.deleted_cameras)
        return [camera for camera in self.cameras if camera.id not in gone]

    def camera(self, camera_id: UUID) -> Camera | None:
        """One that was not deleted."""
        return next((camera for camera in self.known() if camera.id == camera_id), None)

    def is_enabled(self, camera: Camera) -> bool:
        return camera.enabled and camera.id not in _ids(self.faults.disabled_cameras)

    def is_recording(self, camera: Camera) -> bool:
        return camera.recording_enabled and camera.id not in _ids(self.faults.not_recording_cameras)

    def has_edge_storage(self, camera: Camera) -> bool:
        return camera.edge_storage_enabled and camera.id not in _ids(self.faults.not_edge_cameras)


def _ids(guids: Sequence[str]) -> set[UUID]:
    return {UUID(each) for each in guids}


def make_site(
    cameras: Sequence[Camera],
    *,
    faults: Faults | None = None,
    assumptions: Assumptions | None = None,
    **settings: object,
) -> Site:
    """A site with nothing recorded."""
    faults, assumptions = faults or Faults(), assumptions or Assumptions()
    return Site(
        cameras=tuple(cameras),
        faults=faults,
        assumptions=assumptions,
        media=MediaDatabase(faults, assumptions),
        tokens=Tokens(faults, assumptions),
        **settings,  # type: ignore[arg-type]
    )
