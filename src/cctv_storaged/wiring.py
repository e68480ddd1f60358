"""Settings into the values that each room asks for. No I/O but what opening a room itself does."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from operator import methodcaller
from pathlib import Path
from zoneinfo import ZoneInfo

from cctv_storaged.backends.base import Backend, Presigning
from cctv_storaged.backends.milestone.base import Vms
from cctv_storaged.backends.milestone.target import MilestoneTarget, SequencesApi
from cctv_storaged.backends.milestone.tls import recorder_trust
from cctv_storaged.backends.objectstore import StoreSettings
from cctv_storaged.backends.shelf import PresigningShelf, Shelf, ShelfBackend, ShelfPlace
from cctv_storaged.catalog.connections import PostgresTarget, SslMode
from cctv_storaged.clock import Clock
from cctv_storaged.config import S3, Milestone, Minio, Recorder, Settings
from cctv_storaged.delivery import DeliverySettings
from cctv_storaged.errors import ConfigError, Fault
from cctv_storaged.guarding.buckets import BucketPlace
from cctv_storaged.guarding.guarded import GuardedBackend
from cctv_storaged.guarding.place import PlaceKind
from cctv_storaged.guarding.places import Places
from cctv_storaged.model import BackendKind, Camera, camera_id_for, is_object_key
from cctv_storaged.playback import Signing
from cctv_storaged.prune import PruneRules
from cctv_storaged.recorder.admission import CameraBook, Root
from cctv_storaged.recorder.layout import Layout
from cctv_storaged.recorder.mounts import NETWORK_TYPES, mount_of

SPARE_THREADS = 2
"""A backend's threads besides one per worker: for probes, readers and deletions."""
SHELF_THREADS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelves:
    """Where what this program makes itself is kept."""

    exports: Shelf
    thumbnails: Shelf


def layout_faults(settings: Settings) -> Iterator[Fault]:
    """What is wrong with the recorders' layouts; an extra check for `load_settings`."""
    for number, recorder in enumerate(settings.recorders):
        try:
            Layout.parse(recorder.layout, ZoneInfo(recorder.timezone))
        except ConfigError as exc:
            for fault in exc.faults:
                yield Fault(f"recorders[{number}].layout", fault.message, fault.hint)


def data_dir_faults(settings: Settings) -> Iterator[Fault]:
    """SQLite's locks and its shared memory do not work across hosts (sqlite.org, "How To Corrupt")."""
    ways = (settings.data_dir, *settings.data_dir.parents)
    in_the_way = next((path for path in ways if os.path.isfile(path)), None)
    if in_the_way is not None:
        yield Fault(
            "data_dir", f"{in_the_way} is a file, not a folder", "move it away or name another folder"
        )
    mount = mount_of(str(settings.data_dir))
    if mount.type in NETWORK_TYPES:
        message = f"{settings.data_dir} lies on {mount.point}, a network file system ({mount.type})"
        yield Fault("data_dir", message, "the journal needs a local disk")


def certificate_faults(settings: Settings) -> Iterator[Fault]:
    """A certificate and key that the API could not be started with."""
    if settings.api.tls_cert is None:
        return
    from cctv_storaged.api.server import tls_context  # noqa: PLC0415 - only where used

    try:
        tls_context(settings.api)
    except ConfigError as exc:
        yield from exc.faults


def vms_faults(settings: Settings) -> Iterator[Fault]:
    """CA files that XProtect's servers could not be verified by."""
    block = settings.milestone
    if block is None or not block.verify_tls:
        return
    try:
        recorder_trust(_milestone_target(block, block.username or ""))
    except ConfigError as exc:
        yield from exc.faults


def configured_cameras(settings: Settings) -> tuple[Camera, ...]:
    """The cameras that have a name or an id of their own."""
    return tuple(
        Camera(
            id=camera.id or camera_id_for(settings.host_id, camera.folder),
            name=camera.name or camera.folder,
            folder=camera.folder,
        )
        for camera in settings.cameras
    )


def recorder_root(recorder: Recorder, cameras: CameraBook) -> Root:
    """A recorder root as the recorder room understands it."""
    return Root(
        path=str(recorder.path),
        layout=Layout.parse(recorder.layout, ZoneInfo(recorder.timezone)),
        cameras=cameras,
        remote=recorder.watch == "poll" or (recorder.watch == "auto" and mount_of(str(recorder.path)).remote),
    )


def wants_events(recorder: Recorder) -> bool:
    """Whether inotify is of use for a recorder root."""
    if recorder.watch == "auto":
        return not mount_of(str(recorder.path)).remote
    return recorder.watch == "inotify"


def open_backend(settings: Settings, places: Places | None = None) -> Backend:
    """The object store or file system that segments go to; its client is imported only where it is used.

    Guarded where there are places.
    """
    threads = settings.delivery.workers + SPARE_THREADS
    match settings.backend:
        case BackendKind.FILESYSTEM:
            return _filesystem(settings, threads, places)
        case BackendKind.MINIO:
            place = _recordings_place(settings.backend, settings.minio, places)
            return _at(place, _minio(settings, _recordings_store(settings.minio, threads)))
        case BackendKind.S3:
            place = _recordings_place(settings.backend, settings.s3, places)
            return _at(place, _s3(settings, _recordings_store(settings.s3, threads)))
        case _:
            raise ConfigError([Fault("backend", f"{settings.backend} cannot hold segments by itself")])


def open_shelves(settings: Settings, places: Places | None = None) -> Shelves:
    """Where exports and thumbnails go: beside the recordings. Nothing is opened before its first use."""
    return Shelves(
        exports=_shelf(settings, "exports", places), thumbnails=_shelf(settings, "thumbnails", places)
    )


def _shelf(settings: Settings, word: str, places: Places | None) -> Shelf:
    match settings.backend:
        case BackendKind.MINIO:
            place = _bucket_place(settings.backend, settings.minio, word)
            guard = _shelf_guard(place, settings.minio, word, places)
            return PresigningShelf(place, lambda: _at(guard, _minio(settings, _shelf_store(place))))
        case BackendKind.S3:
            place = _bucket_place(settings.backend, settings.s3, word)
            guard = _shelf_guard(place, settings.s3, word, places)
            return PresigningShelf(place, lambda: _at(guard, _s3(settings, _shelf_store(place))))
        case _:
            folder = str(settings.filesystem.path / word)
            place = ShelfPlace(
                name=settings.backend, location=folder, prefix=f"{word}/", own_bucket=False, swept=False
            )
            return Shelf(place, partial(_filesystem, settings, SHELF_THREADS, places))


def _bucket_place(kind: BackendKind, block: Minio | S3, word: str) -> ShelfPlace:
    """A bucket that serves nothing else; where none is named, a folder of the recordings' one."""
    buckets = {"exports": block.bucket_exports, "thumbnails": block.bucket_thumbnails}
    bucket = buckets.pop(word) or block.bucket_recordings
    own = bucket not in (block.bucket_recordings, *buckets.values())
    prefix = block.prefix if own else f"{block.prefix}{word}/"
    return ShelfPlace(name=kind, location=bucket, prefix=prefix, own_bucket=own, swept=True)


def _recordings_place(kind: BackendKind, block: Minio | S3, places: Places | None) -> BucketPlace | None:
    if places is None:
        return None
    return places.bucket(PlaceKind.STORE, kind, block.bucket_recordings, block.prefix)


def _shelf_guard(
    place: ShelfPlace, block: Minio | S3, word: str, places: Places | None
) -> BucketPlace | None:
    if places is None:
        return None
    return places.bucket(PlaceKind(word), place.name, place.location, block.prefix)


def _at(place: BucketPlace | None, backend: ShelfBackend) -> ShelfBackend:
    """The backend, guarded where its place is."""
    if place is None:
        return backend
    place.reached_by(backend)
    return GuardedBackend(backend, place)


def _shelf_store(place: ShelfPlace) -> StoreSettings:
    ours = None if place.own_bucket else methodcaller("startswith", place.prefix)
    return StoreSettings(
        bucket=place.location, prefix=place.prefix, threads=SHELF_THREADS, readback_share=0.0, ours=ours
    )


def _recordings_store(block: Minio | S3, threads: int) -> StoreSettings:
    return StoreSettings(
        bucket=block.bucket_recordings,
        prefix=block.prefix,
        threads=threads,
        readback_share=block.readback_share,
        ours=partial(is_object_key, block.prefix),
    )


def _filesystem(settings: Settings, threads: int, places: Places | None) -> ShelfBackend:
    from cctv_storaged.backends.filesystem import (  # noqa: PLC0415 - only where used
        FilesystemBackend,
        FilesystemSettings,
    )

    block = settings.filesystem
    folder = FilesystemSettings(path=str(block.path), link=block.link, threads=threads)
    if places is None:
        return FilesystemBackend(folder)
    place = places.store(folder.path)
    return GuardedBackend(FilesystemBackend(folder, place.by_descriptor), place)


def _minio(settings: Settings, store: StoreSettings) -> ShelfBackend:
    from cctv_storaged.backends.minio import MinioBackend, MinioTarget  # noqa: PLC0415 - only where used

    block = settings.minio
    target = MinioTarget(
        endpoint=block.endpoint,
        access_key=block.access_key.get_secret_value(),
        secret_key=block.secret_key.get_secret_value(),
        use_ssl=block.use_ssl,
        region=block.region or "us-east-1",
        ca_file=_text(block.ca_file),
    )
    return MinioBackend(target, store)


def _s3(settings: Settings, store: StoreSettings) -> ShelfBackend:
    from cctv_storaged.backends.s3 import S3Backend, S3Target  # noqa: PLC0415 - only where used

    block = settings.s3
    target = S3Target(
        endpoint_url=block.endpoint_url,
        region=block.region,
        access_key=block.access_key.get_secret_value() or None,
        secret_key=block.secret_key.get_secret_value() or None,
        session_token=block.session_token.get_secret_value() or None,
        ca_file=_text(block.ca_file),
    )
    return S3Backend(target, store)


def open_vms(settings: Settings, clock: Clock) -> Vms | None:
    """The XProtect site; None where none is configured. It is asked nothing yet.

    ConfigError where a CA file cannot be used.
    """
    block = settings.milestone
    if block is None or block.username is None:
        return None
    from cctv_storaged.backends.milestone.xprotect import XProtect  # noqa: PLC0415 - only where used

    return XProtect(_milestone_target(block, block.username), clock)


def _milestone_target(block: Milestone, username: str) -> MilestoneTarget:
    return MilestoneTarget(
        url=block.url,
        username=username,
        password=block.password.get_secret_value(),
        client_id=block.client_id,
        ca_file=_text(block.ca_file),
        verify_tls=block.verify_tls,
        allow_plain_http=block.allow_plain_http,
        recorder_host_override=block.recorder_host_override,
        recorder_server_name=block.recorder_server_name,
        recorder_ca_file=_text(block.recorder_ca_file),
        sequences_api=SequencesApi(block.sequences_api),
        connect_s=block.timeout.connect_s,
        request_s=block.timeout.request_s,
        read_s=block.timeout.read_s,
    )


def players_store(settings: Settings, backends: Sequence[Backend]) -> Signing | None:
    """The store that playlists send players to; None: they stay with this API."""
    if settings.playback.segments == "proxied":
        return None
    return next((backend for backend in backends if isinstance(backend, Presigning)), None)


def delivery_settings(settings: Settings) -> DeliverySettings:
    """How the backend is delivered to."""
    prefix = {BackendKind.MINIO: settings.minio.prefix, BackendKind.S3: settings.s3.prefix}
    return DeliverySettings(
        workers=settings.delivery.workers,
        prefix=prefix.get(settings.backend, ""),
        mode=settings.mode,
        window=settings.delivery.window,
        newest_share=settings.delivery.backlog_newest_share,
    )


def prune_rules(settings: Settings, required: tuple[str, ...]) -> PruneRules:
    """When sources may go."""
    return PruneRules(
        enabled=settings.source.prune == "after_verified",
        grace=settings.source.grace,
        keep=settings.source.keep,
        required=required,
    )


def catalog_target(settings: Settings) -> PostgresTarget | None:
    """The PostgreSQL server; None for the embedded default."""
    block = settings.postgres
    if block is None:
        return None
    return PostgresTarget(
        host=block.host,
        port=block.port,
        database=block.db,
        user=block.user,
        password=block.password.get_secret_value(),
        ssl=SslMode(block.ssl),
        ca_file=_text(block.ca_file),
    )


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
