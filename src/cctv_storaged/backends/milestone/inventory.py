"""What a site consists of: recorders, hardware, cameras, storages, archives. Asked for once a minute at most.

A camera's parent is a piece of hardware, whose parent is a recording server (`relations.parent`; MIP VMS
Config API). Disabled ones are left out unless `disabled` is asked for.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit
from uuid import UUID

from cctv_storaged.backends.milestone.answers import Unreadable
from cctv_storaged.backends.milestone.base import VmsCamera, VmsRecorder, VmsStorage
from cctv_storaged.backends.milestone.flight import SingleFlight
from cctv_storaged.backends.milestone.jsontree import Fields
from cctv_storaged.backends.milestone.refusals import NotThere
from cctv_storaged.backends.milestone.rest import Rest, path_of
from cctv_storaged.clock import Clock
from cctv_storaged.errors import ObjectMissing

FRESH_S = 60.0
_NEW_S = 5.0
STORAGES_MAX = 1000
ARCHIVES_MAX = 50
UNSEEN = UUID(int=0)
"""The recorder of a camera whose hardware the user may not see."""

_UNSIGNED = frozenset({"", "false", "none"})  # it is a boolean; a method's name would not surprise
_MEGABYTE = 1024 * 1024
_PORT = 7563
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9_])?|[0-9A-Fa-f:.]{2,45}")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All cameras and recorders, as of one moment."""

    cameras: Mapping[UUID, VmsCamera]
    recorders: Mapping[UUID, VmsRecorder]


class Inventory:
    """One site's."""

    def __init__(self, rest: Rest, clock: Clock, host_override: Mapping[str, str]) -> None:
        self._rest = rest
        self._clock = clock
        self._override = {name.lower(): host for name, host in host_override.items()}
        self._snapshot: tuple[float, Snapshot] | None = None
        self._storages: dict[UUID, tuple[float, VmsStorage]] = {}
        self._load = SingleFlight(self._loaded)

    async def snapshot(self, *, newest_s: float = FRESH_S) -> Snapshot:
        """At most so many seconds old."""
        kept = self._snapshot
        if kept is None or self._clock.monotonic() - kept[0] >= newest_s:
            return await self._load()
        return kept[1]

    async def camera(self, camera_id: UUID) -> VmsCamera:
        """ObjectMissing where the site does not know it now."""
        for newest in (FRESH_S, _NEW_S):  # it may have been added since
            found = (await self.snapshot(newest_s=newest)).cameras.get(camera_id)
            if found is not None:
                return found
        raise ObjectMissing(f"XProtect has no camera {camera_id} that its user may see")

    async def storage(self, storage_id: UUID) -> VmsStorage:
        """ObjectMissing where the site does not know it."""
        kept = self._storages.get(storage_id)
        if kept is None or self._clock.monotonic() - kept[0] >= FRESH_S:
            asked_at = self._clock.monotonic()
            if len(self._storages) >= STORAGES_MAX:
                self._storages.clear()
            kept = self._storages[storage_id] = (asked_at, await self._storage(storage_id))
        return kept[1]

    async def close(self) -> None:
        """Ends what is under way."""
        await self._load.cancel()

    async def _loaded(self) -> Snapshot:
        asked_at = self._clock.monotonic()
        recorders = await self._rest.collection("recordingServers", "disabled")
        hardware = await self._rest.collection("hardware", "disabled")
        cameras = await self._rest.collection("cameras", "disabled")
        parents = {_id(each): each for each in hardware}
        snapshot = Snapshot(
            cameras={_id(each): _camera(each, parents) for each in cameras},
            recorders={_id(each): self._recorder(each) for each in recorders},
        )
        self._snapshot = (asked_at, snapshot)
        return snapshot

    def _recorder(self, told: Fields) -> VmsRecorder:
        """Its address is the one in use now, or the one that it was set up with, or the deprecated pair."""
        name = told.text("name") or told.text("displayName")
        host, port, tls = next(
            (found for key in ("activeWebServerUri", "webServerUri") if (found := _address(told.text(key)))),
            (told.text("hostName"), int(told.number("portNumber") or _PORT), False),
        )
        host = self._override.get(name.lower()) or self._override.get(host.lower()) or host
        usable = _HOST.fullmatch(host) is not None and 0 < port < 65536
        return VmsRecorder(
            id=_id(told),
            name=name,
            host=host if usable else "",  # one that never started has none, and is no fault of the others
            port=port,
            tls=tls,
            enabled=told.flag("enabled", True),
            version=told.text("version") or None,
        )

    async def _storage(self, storage_id: UUID) -> VmsStorage:
        told = await self._rest.one(path_of("storages", storage_id))
        archives = await self._children(path_of("storages", storage_id, "archiveStorages"))
        information = [
            await self._information("storageInformation", storage_id),
            *[
                await self._information("archiveStorageInformation", _id(archive))
                for archive in archives[:ARCHIVES_MAX]
            ],
        ]
        whole = [told, *archives]
        return VmsStorage(
            id=storage_id,
            name=told.text("name") or told.text("displayName"),
            retention=_longest(whole),
            size_bytes=_sum(whole, "maxSize"),
            used_bytes=_sum([each for each in information if each is not None], "usedSpace"),
            available=_all_available(archives, information),
            signed=told.text("signing").lower() not in _UNSIGNED if told.has("signing") else None,
        )

    async def _children(self, path: str) -> Sequence[Fields]:
        try:
            return await self._rest.collection(path)
        except NotThere:
            return ()

    async def _information(self, kind: str, of: UUID) -> Fields | None:
        """None where the site does not tell."""
        try:
            return await self._rest.one(path_of(kind, of))
        except NotThere:
            return None


def _id(told: Fields) -> UUID:
    found = told.guid("id")
    if found is None:
        raise Unreadable("an object of the site has no id")
    return found


def _parent(told: Fields, kind: str) -> UUID | None:
    relations = told.inner("relations")
    parent = relations.inner("parent") if relations is not None else None
    return parent.guid("id") if parent is not None and parent.text("type").lower() == kind.lower() else None


def _camera(told: Fields, hardware: Mapping[UUID, Fields]) -> VmsCamera:
    """Disabled with its hardware."""
    device = hardware.get(_parent(told, "hardware") or UNSEEN)
    storage = told.inner("recordingStorage")
    return VmsCamera(
        id=_id(told),
        name=told.text("name") or told.text("displayName"),
        enabled=told.flag("enabled", True) and (device is None or device.flag("enabled", True)),
        recording_enabled=told.flag("recordingEnabled", True),
        edge_storage_enabled=told.flag("edgeStorageEnabled", False),
        recorder_id=(_parent(device, "recordingServers") if device is not None else None) or UNSEEN,
        storage_id=storage.guid("id") if storage is not None else None,
    )


def _address(uri: str) -> tuple[str, int, bool] | None:
    """Host, port, TLS of a recorder's `https://name:7563/`."""
    try:
        parts = urlsplit(uri)
        if parts.scheme in {"http", "https"} and parts.hostname:
            return parts.hostname, parts.port or _PORT, parts.scheme == "https"
    except ValueError:
        pass
    return None


def _longest(storages: Sequence[Fields]) -> timedelta | None:
    """An archive's time is counted from the recording, as the storage's is: the longest is the whole.

    That is an inference; were they to be added up, this is too short and asks for more than is needed.
    """
    minutes = [number for each in storages if (number := each.number("retainMinutes")) is not None]
    longest = max(minutes, default=0)
    return timedelta(minutes=min(longest, 1e8)) if longest > 0 else None


def _sum(told: Sequence[Fields], name: str) -> int | None:
    """Bytes of what is told in MB; None where nobody tells."""
    numbers = [number for each in told if (number := each.number(name)) is not None and number >= 0]
    return int(sum(numbers) * _MEGABYTE) if numbers else None


def _all_available(archives: Sequence[Fields], information: Sequence[Fields | None]) -> bool | None:
    """No as soon as one part says no; None where none says anything."""
    said = [
        each.flag(name, True)
        for each in information
        if each is not None
        for name in ("isAvailable", "isMounted")
        if each.has(name)
    ]
    said += [archive.flag("mounted", True) for archive in archives if archive.has("mounted")]
    return all(said) if said else None
