"""Deleting a segment on request: tombstone → bytes everywhere → source → row. Resumed until it is done.

"Everywhere" is also where a put had begun and nobody wrote it down: the object's name follows from the bytes,
so it is found from the source while that is there. The source goes last for that reason.

The segment's thumbnail goes after all of them: a shelf that does not delete it holds up no footage, and the
row with its tombstone, which nobody sees any more, stays for the thumbnail to be tried again.
"""

import errno
import logging
import os
from asyncio import to_thread
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from cctv_storaged.backends.base import Backend
from cctv_storaged.backends.body import digest_file
from cctv_storaged.breaker import retry_delay
from cctv_storaged.clock import Clock
from cctv_storaged.delivery import Delivery
from cctv_storaged.errors import BackendError, Conflict, JournalError, NotASegment, SourceChanged
from cctv_storaged.events import Event, EventHub, EventKind
from cctv_storaged.journal.journal import Journal
from cctv_storaged.metrics import Metrics
from cctv_storaged.model import Copy, CopyState, Segment, SourceState
from cctv_storaged.pins import Pins
from cctv_storaged.prune import unlink_source
from cctv_storaged.recorder.source import open_source
from cctv_storaged.whereabouts import Whereabouts, same_version, whereabouts

log = logging.getLogger(__name__)

BATCH = 100
BEING_PUT = timedelta(seconds=2)
_MAY_NOT = "give this service's user the right to write to its folder; in a systemd unit, ReadWritePaths= too"
_HINTS = {errno.EACCES: _MAY_NOT, errno.EPERM: _MAY_NOT, errno.EROFS: f"it is mounted read-only: {_MAY_NOT}"}
HAS_SOURCE = (SourceState.PRESENT, SourceState.PRUNING)


class Remover:
    """Carries out deletions; one that a backend cannot do now is tried again."""

    def __init__(
        self,
        journal: Journal,
        backends: Sequence[Backend],
        clock: Clock,
        metrics: Metrics,
        hub: EventHub,
        deliveries: Sequence[Delivery],
        pins: Pins,
        forget_pictures: Callable[[Segment], Awaitable[None]] | None = None,
    ) -> None:
        """`forget_pictures` removes what was drawn of a segment; raises BackendError where it cannot now."""
        self._journal = journal
        self._backends = {backend.name: backend for backend in backends}
        self._deliveries = {delivery.name: delivery for delivery in deliveries}
        self._clock = clock
        self._metrics = metrics
        self._hub = hub
        self._pins = pins
        self._forget_pictures = forget_pictures
        self._under_way: set[UUID] = set()

    async def delete(self, segment_id: UUID) -> None:
        """From here on the segment is gone for everybody; its bytes follow, at once where possible.

        Raises NotFound, and Conflict while it is held or an export needs it. Who is cancelled may be sure of
        the deletion as soon as the tombstone is there.
        """
        export_id = self._pins.export_of(segment_id)
        if export_id is not None:
            raise Conflict(f"export {export_id} needs segment {segment_id}; wait for it, or cancel it first")
        await self._go_on(await self._journal.deletions.begin(segment_id))

    async def run_once(self) -> None:
        """Goes on with every tombstone that is due, those of an earlier process among them."""
        for segment in await self._journal.deletions.unfinished(BATCH, self._clock.now()):
            await self._go_on(segment)

    async def _go_on(self, segment: Segment) -> None:
        if segment.id in self._under_way:
            return
        self._under_way.add(segment.id)
        try:
            with ExitStack() as stack:
                withheld = [
                    stack.enter_context(delivery.withheld(segment.id))
                    for delivery in self._deliveries.values()
                ]
                if all(withheld):
                    await self._try(segment)
                else:
                    await self._postpone(segment, "it is being put right now", BEING_PUT)
        finally:
            self._under_way.discard(segment.id)

    async def _try(self, segment: Segment) -> None:
        try:
            known = await to_thread(_with_hash, segment)
            for copy in segment.copies:
                await self._delete_copy(known, copy)
            await to_thread(_unlink_if_there, segment)
            if self._forget_pictures is not None:
                await self._forget_pictures(segment)
        except (BackendError, SourceChanged, OSError) as exc:
            reason = _reason(segment, exc)
            log.warning("segment %s not deleted yet, tried again: %s", segment.id, reason)
            await self._postpone(segment, reason, retry_delay(4))
            return
        except JournalError:
            raise
        except Exception as exc:  # the item boundary: behind one odd segment no other would ever be deleted
            log.exception("deleting segment %s", segment.id, extra={"segment_id": str(segment.id)})
            await self._postpone(segment, f"{type(exc).__name__}: {exc}", retry_delay(4))
            return
        self._count(segment)
        now = self._clock.now()
        await self._journal.deletions.done(segment, "deleted_on_request", now)
        fields = {"segment_id": str(segment.id), "camera_id": str(segment.camera_id)}
        log.info("deleted on request: %s %s", segment.source.path, segment.span, extra=fields)
        self._hub.publish(
            Event(kind=EventKind.DELETED, at=now, camera_id=segment.camera_id, segment_id=segment.id)
        )

    def _count(self, segment: Segment) -> None:
        for copy in segment.copies:
            if copy.path is not None and copy.state is not CopyState.GONE:
                self._metrics.segments_deleted.labels(copy.backend).inc()

    async def _postpone(self, segment: Segment, error: str, delay: timedelta) -> None:
        await self._journal.deletions.postpone(segment.id, error, self._clock.now() + delay)

    async def _delete_copy(self, segment: Segment, copy: Copy) -> None:
        delivery, backend = self._deliveries.get(copy.backend), self._backends.get(copy.backend)
        if delivery is None or backend is None:
            if copy.path is None:
                return  # nothing was ever put there
            raise BackendError(f"backend {copy.backend} is not configured, its copy cannot be deleted")
        keys = delivery.possible_keys(segment)
        if not keys:
            return  # no source to tell from where it might be
        async with delivery.exclusive(keys[0]):
            for key in keys:
                if not await self._journal.deletions.shared(segment.id, copy.backend, key):
                    await self._delete_object(backend, key)
                # else a twin with the same bytes stands on this very object

    async def _delete_object(self, backend: Backend, key: str) -> None:
        try:
            await backend.delete(key)
        except BackendError:
            self._metrics.errors.labels("delete", backend.name).inc()
            raise


def _reason(segment: Segment, error: Exception) -> str:
    """What a client was told 204 for waits for this: the log says what to do about it."""
    if not isinstance(error, OSError):
        return str(error)
    path = os.path.join(segment.source.root, segment.source.path)
    text = f"{path!r} cannot be removed: {error.strerror or error}"
    hint = _HINTS.get(error.errno or 0)
    return f"{text} ({hint})" if hint else text


def _with_hash(segment: Segment) -> Segment:
    """The segment with its SHA-256, from the source if nobody wrote it down; without where that cannot be.

    Raises OSError where the source cannot be read, and SourceChanged where its disk is not there.
    """
    if segment.sha256 is not None or segment.source_state not in HAS_SOURCE:
        return segment
    try:
        with open_source(segment.source.root, segment.source.path) as opened:
            if not same_version(segment.source.identity, opened.identity):
                return segment
            return replace(segment, sha256=digest_file(opened.descriptor, segment.size_bytes).sha256)
    except NotASegment:
        return segment
    except SourceChanged:
        _require_decided(segment)
        return segment


def _unlink_if_there(segment: Segment) -> None:
    """Also where the source was gone: put back and not scanned yet, it would be registered anew."""
    try:
        unlink_source(segment, same_version)  # as its id does: a restored file is the same segment
    except NotASegment:
        return  # a link is in the way; what it leads to is another path
    except SourceChanged:
        _require_decided(segment)  # what is there is not this segment; the scan registers it as what it is
    except OSError:
        if segment.source_state in HAS_SOURCE or whereabouts(segment) is Whereabouts.HERE:
            raise


def _require_decided(segment: Segment) -> None:
    """On a disk that is not there the file may be waiting, and would be registered anew when it is back."""
    if segment.source_state not in HAS_SOURCE:
        return
    where = whereabouts(segment)
    if where not in (Whereabouts.GONE, Whereabouts.ANOTHER):
        raise SourceChanged(f"{segment.source.path!r} cannot be removed now ({where})")
