"""A segment's SHA-256, taken from its source before XProtect is asked: what was recorded stays known.

Needs nothing of XProtect, so it goes on while that is away. Whose fault a failure is decides what follows,
as in `Delivery`; no path here deletes bytes. Footage whose source vanishes before it was hashed is told lost,
as it is with a store. If XProtect does hold it, the review finds it, and its own hash is never known.
"""

import errno
import logging
from collections.abc import Callable
from datetime import timedelta

from cctv_storaged.breaker import retry_delay
from cctv_storaged.errors import JournalError, NotASegment, SegmentError, SourceChanged
from cctv_storaged.losses import tell_loss
from cctv_storaged.marking import Marking
from cctv_storaged.model import Copy, Segment, SourceState
from cctv_storaged.payloads import Payloads
from cctv_storaged.vms.attendance import NAME
from cctv_storaged.vms.ground import Ground
from cctv_storaged.vms.keeping import kept
from cctv_storaged.whereabouts import Whereabouts, whereabouts

log = logging.getLogger(__name__)

ATTEMPTS = 20
"""Failures of its own after which a copy waits for a human."""
AWAY_PAUSE = timedelta(seconds=60)
SECOND_LOOK = timedelta(seconds=30)
NOT_FOUND = "the source is not there; it is looked for once more"
PASSING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT})
"""Errors of reading a source that say nothing about the file."""


class Hashing:
    """Hashes sources, `threads` at a time."""

    def __init__(self, ground: Ground, threads: int, alert: Callable[[str], None]) -> None:
        self._ground = ground
        self._journal = ground.journal
        self._clock = ground.clock
        self._marking = Marking(NAME, ground.journal.copies, ground.clock)
        self._payloads = Payloads(threads, ground.journal.host_id)
        self._alert = alert
        self._away_until: dict[tuple[str, int], float] = {}  # disks that are not there, by root and device

    def close(self) -> None:
        self._payloads.close()

    async def hash(self, segment: Segment) -> bool:
        """Whether the journal knows the hash now. Raises JournalBroken."""
        copy = segment.copy_at(NAME)
        if copy is None or segment.sha256 is not None:
            return segment.sha256 is not None
        try:
            await self._take(segment)
        except (SourceChanged, NotASegment) as exc:
            await self._changed(segment, copy, str(exc))
        except SegmentError as exc:
            await self._failed(segment, copy, str(exc))
        except OSError as exc:
            await self._unreadable(segment, copy, exc)
        except JournalError:
            raise
        except Exception as exc:  # the item boundary: one odd segment must not end the others' proving
            log.exception("hashing %s", segment.id, extra={"segment_id": str(segment.id)})
            await self._failed(segment, copy, f"{type(exc).__name__}: {exc}")
        else:
            return True
        return False

    async def _take(self, segment: Segment) -> None:
        async with self._payloads.of(segment) as (_, known):
            assert known.sha256 is not None
            sha256 = known.sha256
        await kept(lambda: self._journal.vouched.hashed(NAME, segment.id, sha256))

    # Whose fault it is

    async def _failed(self, segment: Segment, copy: Copy, error: str) -> None:
        self._ground.metrics.errors.labels("put", NAME).inc()
        if copy.attempts + 1 >= ATTEMPTS:
            self._tell_if_lost(await self._marking.failed(segment.id, error))
            self._alert(f"segment {segment.id} cannot be proven at {NAME}: {error}")
            return
        log.warning("%s cannot be hashed: %s", segment.id, error, extra={"segment_id": str(segment.id)})
        await self._marking.postpone(segment.id, error, retry_delay(copy.attempts + 1))

    async def _unreadable(self, segment: Segment, copy: Copy, error: OSError) -> None:
        if error.errno in PASSING:
            await self._marking.postpone(segment.id, str(error), retry_delay(5), counts=False)
        else:
            await self._failed(segment, copy, f"source cannot be read: {error}")

    async def _changed(self, segment: Segment, copy: Copy, error: str) -> None:
        """Gone, rewritten, or on a disk that is not there. What is there now is registered first."""
        where = await self._payloads.run(lambda: whereabouts(segment, self._ground.roots))
        if where is Whereabouts.AWAY:
            await self._disk_away(segment)
        elif where is Whereabouts.GONE and copy.error == NOT_FOUND:
            await self._gone(segment, SourceState.MISSING, "source_vanished")
        elif where is Whereabouts.GONE:  # once may be the moment in which somebody moves a folder back
            await self._marking.postpone(segment.id, NOT_FOUND, SECOND_LOOK, counts=False)
        else:
            await self._another(segment, copy, where, error)

    async def _another(self, segment: Segment, copy: Copy, where: Whereabouts, error: str) -> None:
        await kept(lambda: self._ground.look_again(segment))
        if where is Whereabouts.ANOTHER and copy.attempts + 1 >= ATTEMPTS:
            # Nobody registers what stands there: it lies outside all roots, or is never closed.
            await self._gone(segment, SourceState.REPLACED, "overwritten_by_recorder")
        else:
            await self._marking.postpone(segment.id, error, retry_delay(copy.attempts + 1))

    async def _disk_away(self, segment: Segment) -> None:
        """All that wait for this disk wait a while: asked once, not by each of a hundred thousand."""
        root, device = segment.source.root, segment.source.identity.device
        now = self._clock.monotonic()
        if self._away_until.get((root, device), 0.0) > now:
            return
        self._away_until = {disk: until for disk, until in self._away_until.items() if until > now}
        self._away_until[root, device] = now + AWAY_PAUSE.total_seconds() / 2
        error = f"{root} or its disk is not there; its segments wait for it"
        log.warning("%s", error)
        await self._marking.postpone_disk(root, device, error, AWAY_PAUSE)

    async def _gone(self, segment: Segment, state: SourceState, cause: str) -> None:
        self._tell_if_lost(await self._marking.source_gone(segment.id, state, cause), cause)

    def _tell_if_lost(self, lost: Segment | None, cause: str = "copy_failed_without_source") -> None:
        if lost is not None:
            tell_loss(self._ground.metrics, self._ground.hub, lost, lost.span, cause, self._clock.now())
