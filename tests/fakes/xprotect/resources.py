"""The objects of the Config API that the site has, as REST tells them (1.4 of the paper)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from tests.fakes.xprotect.envelope import NOT_SET
from tests.fakes.xprotect.site import Camera, Site, guid

CAMERA_TASKS = ("GetSequences", "RetrieveEdgeStorage", "TruncateStorage")
MEGABYTE = 1024 * 1024
_SET_UP = datetime(2026, 1, 5, 8, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One object, under `/{kind}/{id}`."""

    kind: str
    id: UUID
    properties: dict[str, object]
    parent: tuple[str, UUID] | None = None
    enabled: bool = True
    tasks: Sequence[str] = ()
    children: Sequence[str] = field(default=())
    listed: bool = True
    """Whether `/{kind}` answers all of them."""

    def told(self) -> dict[str, object]:
        relations: dict[str, object] = {"self": {"type": self.kind, "id": self.id}}
        if self.parent is not None:
            kind, parent = self.parent
            relations["parent"] = {"type": kind, "id": parent}
        return {"id": self.id, **self.properties, "relations": relations}


def all_resources(site: Site) -> Iterator[Resource]:
    """Made anew for each request, as faults and footage change them."""
    yield _site(site)
    yield _recorder(site)
    yield from _storages(site)
    for camera in site.known():
        yield _hardware(site, camera)
        yield _camera(site, camera)
    if site.faults.edition == "Corporate":
        yield _lock_profile(site)


def _site(site: Site) -> Resource:
    properties: dict[str, object] = {
        "name": site.name,
        "displayName": site.name,
        "version": site.faults.version,
        "computerName": site.host.upper(),
        "description": "simulated",
        "lastModified": _SET_UP,
        "masterSiteAddress": f"{site.url}/",
        "platform": "[Not Available]",
        "timeZone": "UTC",
    }
    return Resource(kind="sites", id=site.id, properties=properties, children=("recordingServers",))


def _recorder(site: Site) -> Resource:
    properties: dict[str, object] = {
        "name": f"Recorder of {site.name}",
        "displayName": f"Recorder of {site.name}",
        "description": "",
        "enabled": not site.faults.recorder_disabled,
        "hostName": site.host,
        "portNumber": site.recorder_port,
        "webServerUri": site.web_server_uri,
        "activeWebServerUri": site.web_server_uri,
        "version": site.faults.version,
        "timeZoneName": "Etc/UTC",
        "lastModified": _SET_UP,
        "publicAccessEnabled": False,
    }
    return Resource(
        kind="recordingServers",
        id=site.recorder_id,
        properties=properties,
        parent=("sites", site.id),
        enabled=not site.faults.recorder_disabled,
        tasks=("AddHardware", "HardwareScan"),
        children=("storages", "hardware"),
    )


def _storages(site: Site) -> Iterator[Resource]:
    kept, told = site.retention, site.faults.retain_minutes
    storage: dict[str, object] = {
        "name": "Local default",
        "displayName": "Local default",
        "description": "",
        "retainMinutes": kept.storage_minutes if told is None else told,
        "maxSize": kept.max_size_mb,
        "diskPath": "C:\\MediaDatabase",
        "encryptionMethod": "None",
        "signing": False,
        "isDefault": True,
        "lastModified": _SET_UP,
    }
    yield Resource(
        kind="storages",
        id=site.storage_id,
        properties=storage,
        parent=("recordingServers", site.recorder_id),
        children=("archiveStorages",),
        listed=False,
    )
    archive: dict[str, object] = {
        "name": "Archive",
        "displayName": "Archive",
        "description": "",
        "retainMinutes": kept.archive_minutes if told is None else told,
        "maxSize": kept.max_size_mb,
        "diskPath": "D:\\Archive",
        "mounted": site.faults.storage_available,
        "lastModified": _SET_UP,
    }
    parent = ("storages", site.storage_id)
    yield Resource(
        kind="archiveStorages", id=site.archive_id, properties=archive, parent=parent, listed=False
    )
    for kind, owner in (("storages", site.storage_id), ("archiveStorages", site.archive_id)):
        yield _storage_information(site, kind, owner)


def _storage_information(site: Site, kind: str, owner: UUID) -> Resource:
    """Live use, under the id of the storage itself. All footage lies in the storage, none in the archive."""
    live, faults = kind == "storages", site.faults
    used = -(-site.media.used_bytes // MEGABYTE) if live else 0
    properties: dict[str, object] = {
        "name": "Local default" if live else "Archive",
        "usedSpace": site.retention.max_size_mb if live and faults.storage_full else used,
        "lockedUsedSpace": -(-site.media.locked_bytes // MEGABYTE) if live else 0,
        "isAvailable": faults.storage_available,
        "isMounted": faults.storage_available,
        "lastUpdated": site.now() if live else NOT_SET,
        "anyTablesWithData": used > 0,
    }
    named = "storageInformation" if live else "archiveStorageInformation"
    return Resource(kind=named, id=owner, properties=properties, parent=(kind, owner), listed=False)


def _hardware(site: Site, camera: Camera) -> Resource:
    properties: dict[str, object] = {
        "name": f"Hardware of {camera.name}",
        "displayName": f"Hardware of {camera.name}",
        "address": camera.address,
        "model": "ONVIF",
        "enabled": not site.faults.hardware_disabled,
        "userName": camera.device_user,
        "description": "",
        "lastModified": _SET_UP,
    }
    return Resource(
        kind="hardware",
        id=camera.hardware_id,
        properties=properties,
        parent=("recordingServers", site.recorder_id),
        enabled=not site.faults.hardware_disabled,
        children=("cameras",),
    )


def _camera(site: Site, camera: Camera) -> Resource:
    enabled = site.is_enabled(camera)
    properties: dict[str, object] = {
        "name": camera.name,
        "displayName": camera.name,
        "shortName": "",
        "description": "",
        "enabled": enabled,
        "channel": 0,
        "recordingEnabled": site.is_recording(camera),
        "recordingStorage": {"type": "storages", "id": site.storage_id},
        "recordingFramerate": 5,
        "recordKeyframesOnly": False,
        "prebufferEnabled": True,
        "prebufferSeconds": 3,
        "edgeStorageEnabled": site.has_edge_storage(camera),
        "edgeStoragePlaybackEnabled": False,
        "lastModified": _SET_UP,
    }
    return Resource(
        kind="cameras",
        id=camera.id,
        properties=properties,
        parent=("hardware", camera.hardware_id),
        enabled=enabled,
        tasks=CAMERA_TASKS,
    )


def _lock_profile(site: Site) -> Resource:
    name = "Default evidence lock profile"
    properties: dict[str, object] = {
        "name": name,
        "displayName": name,
        "evidenceLockRetentionTimeOptions": "Indefinite",
        "lastModified": _SET_UP,
    }
    profile = guid(f"lock profile of {site.name}")
    return Resource(kind="evidenceLockProfiles", id=profile, properties=properties, parent=("sites", site.id))
