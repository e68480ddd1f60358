"""Deleting segments: tombstone → bytes everywhere → source → row. Resumed until it is done.

"Everywhere" is also where a put had begun and nobody wrote it down: the object's name follows from the bytes,
so it is found from the source while that is there. The source goes last for that reason.

The segment's thumbnail goes after all of them: a shelf that does not delete it holds up no footage, and the
row with its tombstone, which nobody sees any more, stays for the thumbnail to be tried again.

A copy at MILESTONE is nothing of ours: XProtect's own retention decides about its recordings, whoever asks
here, and no call of this program deletes any. The row goes all the same, and the ledger's line says so.

What a backend keeps by a lock, and what lies at a former store that is away or not named any more, holds
up nothing else of the segment: all other bytes go, the source too, and it is tried again once a day.
"""

import logging
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from datetime import datetime, timedelta
from itertools import islice
from typing import TypeVar
from uuid import UUID

from cctv_storaged.backends.base import Backend
from cctv_storaged.breaker import retry_delay
from cctv_storaged.bringing import Clearing
from cctv_storaged.clock import Clock
from cctv_storaged.errors import (
    BackendError,
    BackendUnavailable,
    Conflict,
    JournalError,
    ObjectLocked,
    ObjectRejected,
)
from cctv_storaged.events import Event, EventHub, EventKind
from cctv_storaged.formerstores import FormerStore, patiently
from cctv_storaged.journal.deletions import Cause, Gone
from cctv_storaged.journal.journal import Journal
from cctv_storaged.losses import tell_loss
from cctv_storaged.metrics import Metrics
from cctv_storaged.model import BackendKind, CopyState, Segment
from cctv_storaged.pins import Pins
from cctv_storaged.removing import Elsewhere, Failures, hashed, reason_of, remove_sources
from cctv_storaged.unlinking import Opened

log = logging.getLogger(__name__)

BEING_PUT = timedelta(seconds=2)
KEPT_WAIT = timedelta(days=1)
T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
Forget = Callable[[Sequence[Segment]], Awaitable[Mapping[UUID, BackendError]]]


async def no_pictures(segments: Sequence[Segment]) -> Mapping[UUID, BackendError]:
    """Where nothing is drawn of segments."""
    return {}


class Remover:
    """Carries out deletions; one that a backend cannot do now is tried again."""

    def __init__(
        self,
        journal: Journal,
        backends: Sequence[Backend],
        clock: Clock,
        metrics: Metrics,
        hub: EventHub,
        deliveries: Sequence[Clearing],
        pins: Pins,
        forget_pictures: Forget = no_pictures,
        opened: Opened = nullcontext,
    ) -> None:
        """`forget_pictures` removes what was drawn of segments, and says of which it could not."""
        self._journal = journal
        self._backends = {backend.name: backend for backend in backends}
        self._deliveries = {delivery.name: delivery for delivery in deliveries}
        self._clock = clock
        self._metrics = metrics
        self._hub = hub
        self._pins = pins
        self._forget_pictures = forget_pictures
        self._opened = opened
        self.holds_unknown: Callable[[], str | None] = lambda: None
        """Why there may be holds that the journal does not know; nobody's request is carried out then."""
        self._under_way: set[UUID] = set()

    async def delete(self, segment_id: UUID) -> None:
        """From here on the segment is gone for everybody; its bytes follow, at once where possible.

        Raises NotFound, and Conflict while it is held, may be, or an export needs it. Who is cancelled may be
        sure of the deletion as soon as the tombstone is there.
        """
        unknown = self.holds_unknown()
        if unknown is not None:
            raise Conflict(f"nothing is deleted for now: {unknown}")
        await self._go_on([await self._journal.deletions.begin(segment_id)])

    async def delete_many(self, segment_ids: Iterable[UUID], cause: Cause) -> list[Segment]:
        """The same of many, for a reason of ours; returns those of which no bytes are left.

        What is held, pinned or on its way out is left out. Who calls has asked before whether ages mean
        anything now, and whether the disks are the right ones.
        """
        free = (each for each in segment_ids if not self._pins.pinned(each))
        gone: list[Segment] = []
        while some := list(islice(free, self._journal.deletions.slice)):
            gone += await self._go_on(await self._journal.deletions.begin_many(some, cause))
        return gone

    async def run_once(self) -> None:
        """Goes on with every tombstone that is due, those of an earlier process among them."""
        tried: set[UUID] = set()
        while batch := await self._journal.deletions.unfinished(
            self._journal.deletions.slice, self._clock.now()
        ):
            news = [segment for segment in batch if segment.id not in tried]
            if not news:
                return
            tried.update(segment.id for segment in news)
            if not await self._go_on(news):
                return  # what keeps all of these will keep the next

    async def _go_on(self, segments: Sequence[Segment]) -> list[Segment]:
        """As far as it comes; those of which nothing is left."""
        with self._taken(segments) as mine, ExitStack() as stack:
            free: list[Segment] = []
            being_put: list[Segment] = []
            for each in mine:
                (free if self._withheld(each, stack) else being_put).append(each)
            if being_put:
                await self._postpone(being_put, "it is being put right now", BEING_PUT)
            return await self._try(free) if free else []

    @contextmanager
    def _taken(self, segments: Sequence[Segment]) -> Iterator[list[Segment]]:
        """Those that nobody else is deleting at this moment."""
        mine = [each for each in segments if each.id not in self._under_way]
        ids = {each.id for each in mine}
        self._under_way |= ids
        try:
            yield mine
        finally:
            self._under_way -= ids

    def _withheld(self, segment: Segment, stack: ExitStack) -> bool:
        withheld = [
            stack.enter_context(delivery.withheld(segment.id)) for delivery in self._deliveries.values()
        ]
        return all(withheld)

    async def _try(self, segments: Sequence[Segment]) -> list[Segment]:
        try:
            failures = await self._remove_bytes(segments)
        except JournalError:
            raise
        except Exception as exc:  # the item boundary: behind one odd segment no other would ever be deleted
            if len(segments) > 1:
                return [gone for each in segments for gone in await self._try([each])]
            log.exception("deleting segment %s", segments[0].id, extra={"segment_id": str(segments[0].id)})
            await self._postpone(segments, f"{type(exc).__name__}: {exc}", retry_delay(4))
            return []
        await self._put_off(segments, failures)
        return await self._done([each for each in segments if each.id not in failures])

    async def _remove_bytes(self, segments: Sequence[Segment]) -> Failures:
        failures = Failures()
        known = await hashed(segments, self._opened, failures)
        for name in sorted({copy.backend for each in known for copy in each.copies}):
            await self._delete_copies(name, known, failures)
        copiless = failures.but_for_kept(segments)
        await remove_sources(copiless, self._opened, failures)
        bare = failures.but_for_kept(copiless)
        failures.add_all(await self._forget_pictures(bare))
        return failures

    async def _delete_copies(self, name: str, segments: Sequence[Segment], failures: Failures) -> None:
        if name == BackendKind.MILESTONE:
            return
        delivery, backend = self._deliveries.get(name), self._backends.get(name)
        concerned = [each for each in segments if each.copy_at(name) is not None]
        if delivery is None or backend is None:
            failures.add_at(name, _elsewhere(name, concerned))
            return
        keys = {each.id: delivery.possible_keys(each) for each in concerned}
        firsts = [found[0] for found in keys.values() if found]  # else: nobody can tell where it might be
        async with delivery.exclusive(*firsts):
            failed = await self._delete_objects(backend, [key for found in keys.values() for key in found])
        if isinstance(delivery, FormerStore):
            failed = patiently(name, failed)
        failures.add_at(name, _by_segment(name, concerned, keys, failed))

    async def _delete_objects(self, backend: Backend, keys: Sequence[str]) -> Mapping[str, BackendError]:
        """All but those on which a twin with the same bytes stands."""
        in_use: set[str] = set()
        for name in self._same_place(backend):
            in_use |= await self._journal.deletions.in_use(name, keys)
        doomed = [key for key in dict.fromkeys(keys) if key not in in_use]
        if not doomed:
            return {}
        try:
            failed = await backend.delete_many(doomed)
        except BackendUnavailable as exc:
            failed = dict.fromkeys(doomed, exc)
        if failed and not all(isinstance(each, ObjectLocked) for each in failed.values()):
            self._metrics.errors.labels("delete", backend.name).inc()
        return failed

    def _same_place(self, backend: Backend) -> list[str]:
        """A bucket may be spoken to by two names, MINIO before a change of `backend:` and S3 after it."""
        return [each.name for each in self._backends.values() if each.location == backend.location]

    # What comes of it

    async def _put_off(self, segments: Sequence[Segment], failures: Failures) -> None:
        stays = [each for each in segments if each.id in failures]
        for reason, some in _alike(stays, lambda each: reason_of(each, failures.worst(each.id))):
            kept = [each for each in some if failures.only_kept(each.id)]
            others = [each for each in some if not failures.only_kept(each.id)]
            if kept:
                log.info("%s kept, tried again tomorrow: %s", _named(kept), reason)
                await self._keep(kept, failures)
            if others:
                log.warning("%s not deleted yet, tried again: %s", _named(others), reason)
                await self._postpone(others, reason, retry_delay(4))

    async def _keep(self, segments: Sequence[Segment], failures: Failures) -> None:
        due = self._clock.now() + KEPT_WAIT
        for errors, some in _alike(segments, lambda each: failures.kept_at(each.id)):
            await self._journal.deletions.keep([each.id for each in some], dict(errors), due)

    async def _postpone(self, segments: Sequence[Segment], error: str, delay: timedelta) -> None:
        ids = [each.id for each in segments]
        await self._journal.deletions.postpone_many(ids, error, self._clock.now() + delay)

    async def _done(self, segments: Sequence[Segment]) -> list[Segment]:
        if not segments:
            return []
        for segment in segments:
            self._count(segment)
        now = self._clock.now()
        details = {each.id: told for each in segments if (told := kept_by_the_vms(each)) is not None}
        gone = await self._journal.deletions.done_many(segments, now, details)
        self._tell(gone, now)
        return [each.segment for each in gone]

    def _count(self, segment: Segment) -> None:
        for copy in segment.copies:
            if copy.backend == BackendKind.MILESTONE:
                continue
            if copy.path is not None and copy.state is not CopyState.GONE:
                self._metrics.segments_deleted.labels(copy.backend).inc()

    def _tell(self, gone: Sequence[Gone], now: datetime) -> None:
        """One line and one event for all that went for one cause; each loss by itself."""
        for cause, some in _alike(gone, lambda each: each.cause):
            if cause == Cause.DISK_FULL:
                for each in some:
                    tell_loss(self._metrics, self._hub, each.segment, each.segment.span, cause, now)
            for camera_id, of_camera in _alike(some, lambda each: each.segment.camera_id):
                self._tell_of_camera(camera_id, cause, [each.segment for each in of_camera], now)

    def _tell_of_camera(self, camera_id: UUID, cause: str, gone: Sequence[Segment], now: datetime) -> None:
        fields: dict[str, str | int] = {"camera_id": str(camera_id), "cause": cause, "count": len(gone)}
        single = gone[0] if len(gone) == 1 else None
        if single is not None:
            fields["segment_id"] = str(single.id)
            log.info("%s: %s %s", _words(cause), single.source.path, single.span, extra=fields)
        else:
            log.debug("%s: %d of them", _words(cause), len(gone), extra=fields)
        self._hub.publish(
            Event(
                kind=EventKind.DELETED,
                at=now,
                camera_id=camera_id,
                segment_id=None if single is None else single.id,
                detail=None if cause == Cause.REQUEST else f"{cause}: {len(gone)} segment(s)",
            )
        )


def kept_by_the_vms(segment: Segment) -> str | None:
    """What a deletion leaves in XProtect, for people; None: nothing that we know of."""
    copy = segment.copy_at(BackendKind.MILESTONE)
    if copy is None:
        return None
    where = "whatever it holds of this time" if copy.path is None else copy.path
    return f"XProtect keeps {where} until its own retention deletes it"


def _elsewhere(name: str, segments: Sequence[Segment]) -> dict[UUID, BackendError]:
    """Where nothing was ever put there is nothing to delete."""
    error = Elsewhere(
        f"the former store {name} is not configured, or not so that it can be used: put its settings back, "
        "restart, and its copy is deleted"
    )
    placed = (each.id for each in segments if (copy := each.copy_at(name)) is not None and copy.path)
    return dict.fromkeys(placed, error)


def _by_segment(
    backend: str,
    segments: Sequence[Segment],
    keys: Mapping[UUID, Sequence[str]],
    failed: Mapping[str, BackendError],
) -> dict[UUID, BackendError]:
    """What a segment's objects met; what is worse than a lock counts first.

    A lock on what only the source tells the name of keeps the source as well.
    """
    if not failed:
        return {}
    found: dict[UUID, BackendError] = {}
    for segment in segments:
        copy = segment.copy_at(backend)
        told = copy is not None and copy.path is not None
        for error in (failed[name] for name in keys[segment.id] if name in failed):
            if segment.id not in found or isinstance(found[segment.id], ObjectLocked):
                locked = isinstance(error, ObjectLocked)
                found[segment.id] = ObjectRejected(str(error)) if locked and not told else error
    return found


def _alike(things: Iterable[T], word: Callable[[T], K]) -> Iterable[tuple[K, list[T]]]:
    """The things by what their word is."""
    found: dict[K, list[T]] = {}
    for thing in things:
        found.setdefault(word(thing), []).append(thing)
    return found.items()


def _named(segments: Sequence[Segment]) -> str:
    return f"segment {segments[0].id}" if len(segments) == 1 else f"{len(segments)} segments"


def _words(cause: str) -> str:
    return "deleted on request" if cause == Cause.REQUEST else f"deleted ({cause})"
