"""Stores that `backend:` named before: read and deleted from while their settings are kept, never put to.

Which they are, the journal's counters say. One that cannot be opened stops nothing: the alarm `former_store`
tells what is missing, and so is told whoever asks for its footage.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from cctv_storaged.alarms import AlarmName, Alarms
from cctv_storaged.backends.base import Backend, StoredObject
from cctv_storaged.backends.shelf import Shelf
from cctv_storaged.clock import Clock
from cctv_storaged.config import Settings
from cctv_storaged.delivery.putting import SPARE_KEYS
from cctv_storaged.errors import (
    BackendError,
    BackendUnavailable,
    ConfigError,
    Fault,
    ObjectMismatch,
    ObjectMissing,
)
from cctv_storaged.events import EventHub
from cctv_storaged.guarding.place import Place, PlaceKind
from cctv_storaged.guarding.places import Places
from cctv_storaged.journal.copies import COPY_FAILED, Copies, Proof
from cctv_storaged.losses import tell_loss
from cctv_storaged.metrics import Metrics
from cctv_storaged.model import BackendKind, CopyState, Segment, key_family, spare_key
from cctv_storaged.removing import Elsewhere
from cctv_storaged.thumbnailshelf import ThumbnailShelf

log = logging.getLogger(__name__)
T = TypeVar("T")

Opening = Callable[[Settings], Backend]
"""The store that the settings' `backend:` names, opened."""
OpeningShelf = Callable[[Settings], Shelf]
"""The shelf for thumbnails beside that store."""
STORES = (BackendKind.FILESYSTEM, BackendKind.MINIO, BackendKind.S3)
EMBEDDED = "store"
"""The folder below data_dir that FILESYSTEM has where the settings name none."""


@dataclass(frozen=True, slots=True)
class FormerStore:
    """A former store, as whoever deletes asks it: nothing is in hand there, as nothing is ever put."""

    backend: Backend

    @property
    def name(self) -> str:
        return self.backend.name

    def withheld(self, segment_id: UUID) -> AbstractContextManager[bool]:
        return nullcontext(True)

    def exclusive(self, *keys: str) -> AbstractAsyncContextManager[None]:
        return nullcontext()

    def possible_keys(self, segment: Segment) -> tuple[str, ...]:
        """Where the journal knows it, and the names beside that delivery may have tried."""
        copy = segment.copy_at(self.name)
        if copy is None or copy.path is None:
            return ()
        return key_family(spare_key(key_family(copy.path)[0], SPARE_KEYS))


def former_kinds(settings: Settings, delivered: frozenset[str]) -> tuple[BackendKind, ...]:
    """Stores with copies of this host's, besides the one of `backend:`; `delivered` by the journal."""
    return tuple(kind for kind in STORES if kind in delivered and kind is not settings.backend)


def name_former_places(settings: Settings, places: Places) -> None:
    """The places of former stores, before places are looked at: one that is wrong is told with the others."""
    for kind in former_kinds(settings, places.delivered):
        place = _place(settings, kind, places)
        if place is not None:
            place.former = True


def open_former_stores(
    settings: Settings, places: Places, alarms: Alarms, opening: Opening
) -> tuple[Backend, ...]:
    """Those whose settings are there, asked nothing yet. Settings that are wrong are an alarm, no error."""
    opened: list[Backend] = []
    for kind in former_kinds(settings, places.delivered):
        if _place(settings, kind, places) is None:
            log.warning("copies lie at %s, a former store: not to be read while its settings are gone", kind)
            continue
        try:
            opened.append(_opened(settings, kind, opening))
        except ConfigError as exc:
            missing = "; ".join(map(str, exc.faults))
            text = f"copies of before a change of `backend:` cannot be read or deleted there: {missing}"
            alarms.sound(AlarmName.FORMER_STORE, kind, text)
        else:
            log.info("former store %s at %s: read and deleted from, not put to", kind, opened[-1].location)
    return tuple(opened)


def open_former_thumbnails(
    settings: Settings, former: Sequence[Backend], places: Places, opening: OpeningShelf
) -> dict[str, Shelf]:
    """Where pictures lie beside the former stores, by their names; opened by the first deletion there."""
    known = set(places.all())
    shelves = {
        each.name: opening(settings.model_copy(update={"backend": BackendKind(each.name)})) for each in former
    }
    for place in set(places.all()) - known:
        place.former = True
    return shelves


def _opened(settings: Settings, kind: BackendKind, opening: Opening) -> Backend:
    faults = [Fault(key, "is needed", f"{kind} has copies") for key in _lacking(settings, kind)]
    if faults:
        raise ConfigError(faults)
    try:
        return opening(settings.model_copy(update={"backend": kind}))
    except (BackendError, OSError, ValueError) as exc:  # a CA file or an address that no client takes
        raise ConfigError([Fault(kind.lower(), str(exc))]) from exc


def _lacking(settings: Settings, kind: BackendKind) -> Iterator[str]:
    """What settings that are there do not say. S3 finds keys as the AWS tools find them."""
    if kind is BackendKind.MINIO:
        for name in ("access_key", "secret_key"):
            if not getattr(settings.minio, name).get_secret_value():
                yield f"minio.{name}"


def _place(settings: Settings, kind: BackendKind, places: Places) -> Place | None:
    """Where the settings say that it is; None where they say nothing of it.

    The folder that FILESYSTEM has without any settings counts where it was the store.
    """
    if kind is BackendKind.FILESYSTEM:
        path = settings.filesystem.path
        said = path != settings.data_dir / EMBEDDED or places.was_store(str(path))
        return places.store(str(path)) if said else None
    block = settings.minio if kind is BackendKind.MINIO else settings.s3
    said = bool(settings.minio.endpoint if kind is BackendKind.MINIO else settings.s3.bucket_recordings)
    return places.bucket(PlaceKind.STORE, kind, block.bucket_recordings, block.prefix) if said else None


@dataclass(frozen=True, slots=True)
class FormerPictures:
    """What was drawn before the change goes with its segment."""

    shelves: Mapping[str, ThumbnailShelf]

    async def forget_many(self, segments: Sequence[Segment]) -> Mapping[UUID, BackendError]:
        """Of which they are not gone, and why; only of segments that the former store knew."""
        failures: dict[UUID, BackendError] = {}
        for name, shelf in self.shelves.items():
            concerned = [each for each in segments if each.copy_at(name) is not None]
            if concerned:
                failures |= patiently(name, await shelf.delete_many(concerned))
        return failures


def patiently(name: str, failed: Mapping[T, BackendError]) -> dict[T, BackendError]:
    """A former store that is away, or whose key may not delete, holds up nothing that lies elsewhere."""
    return {
        each: Elsewhere(f"the former store {name} does not delete it: {error}")
        if isinstance(error, BackendUnavailable)
        else error
        for each, error in failed.items()
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class FormerDoubts:
    """Nobody delivers to a former store, so what a reader did not get there is proven again at once."""

    stores: Sequence[Backend]
    copies: Copies
    clock: Clock
    metrics: Metrics
    hub: EventHub

    def __contains__(self, name: object) -> bool:
        return any(each.name == name for each in self.stores)

    async def prove(self, segment: Segment, name: str) -> None:
        """The copy is given up where it is not there: a loss where it was the last, and told as one.

        While the store cannot be asked the copy stays what it was: nobody would come back to prove it.
        """
        copy, store = segment.copy_at(name), next(each for each in self.stores if each.name == name)
        if copy is None or copy.path is None or segment.sha256 is None:
            return
        held = StoredObject(
            path=copy.path, size_bytes=segment.size_bytes, sha256=segment.sha256, etag=copy.etag, doubted=True
        )
        now = self.clock.now()
        try:
            await store.verify(held)
        except (ObjectMissing, ObjectMismatch) as exc:
            log.error("former store %s: %s", name, exc, extra={"segment_id": str(segment.id)})
            await self.copies.doubt(segment.id, name, str(exc))
            lost = await self.copies.failed(segment.id, name, str(exc))
            if lost is not None:
                tell_loss(self.metrics, self.hub, lost, lost.span, COPY_FAILED, now)
        except BackendError as exc:
            log.warning("former store %s cannot say now whether it has %s: %s", name, segment.id, exc)
        else:
            if copy.state is CopyState.STORED:  # as delivery left it before the change
                proof = Proof(path=copy.path, sha256=segment.sha256, etag=copy.etag)
                await self.copies.verified(segment.id, name, proof, now)
