"""Unlinking sources, under invariant 2 only.

1. The journal offers segments whose copies were all verified long enough ago.
2. The source is looked for: what is gone already is marked as such, what cannot be reached is left alone.
3. The backends are asked once more whether they hold them (a store may have forgotten what it acknowledged).
4. Tombstone in the journal, which checks in the same commit that every required copy is verified and
   nothing holds the segment.
5. The file is opened: it must be the very file that was registered (device, inode, size, mtime).
6. unlink, fsync of the folder, then the tombstone becomes a fact.

A kill between 4 and 6 leaves a tombstone. The next pass goes back to the check with it, never straight to the
unlink. Any doubt leaves the file where it is.
"""

import asyncio
import errno
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from uuid import UUID

from cctv_storaged.backends.base import Backend, StoredObject
from cctv_storaged.clock import Clock
from cctv_storaged.errors import (
    BackendError,
    BackendUnavailable,
    JournalError,
    JournalFull,
    PartAway,
    SegmentError,
)
from cctv_storaged.events import EventHub
from cctv_storaged.guarding.roots import UNGUARDED, Roots
from cctv_storaged.journal.copies import COPY_FAILED
from cctv_storaged.journal.journal import Journal
from cctv_storaged.losses import tell_loss
from cctv_storaged.metrics import Metrics
from cctv_storaged.model import Copy, CopyState, FileIdentity, Segment, SourceState
from cctv_storaged.pins import Pins
from cctv_storaged.unlinking import IsIt, unlink_sources
from cctv_storaged.whereabouts import Whereabouts, whereabouts

log = logging.getLogger(__name__)

BATCH = 200
AT_ONCE = 8
"""Sources looked after at the same time: a commit and a question to a backend cost waiting, not work."""
AT_A_TIME = 100
"""Segments whose copies are changed in one commit."""
WHOLE_S = 3600.0
"""How often sources that were left alone are considered again."""
VANISHED = "source_vanished"


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneRules:
    """When a source may go; `enabled` False: never."""

    enabled: bool
    grace: timedelta  # after the last copy was verified
    keep: timedelta  # footage younger than this stays in any case
    required: tuple[str, ...]  # backends whose copy must be verified, or have had its time there


def may_prune(segment: Segment, rules: PruneRules, now: datetime) -> bool:
    """Whether the source may go, by everything the journal knows. Pure."""
    if not rules.enabled or not rules.required or segment.held or segment.sha256 is None:
        return False
    if segment.source_state not in (SourceState.PRESENT, SourceState.PRUNING):
        return False
    if segment.span.end > now - rules.keep:
        return False
    copies = [segment.copy_at(backend) for backend in rules.required]
    proven = [copy for copy in copies if _long_verified(copy, now - rules.grace)]
    return bool(proven) and all(copy in proven or _had_its_time(copy) for copy in copies)


def _had_its_time(copy: Copy | None) -> bool:
    """Whether it was verified, and went by its backend's own retention."""
    return copy is not None and copy.state is CopyState.GONE and copy.verified_at is not None


def _long_verified(copy: Copy | None, moment: datetime) -> bool:
    return (
        copy is not None
        and copy.state is CopyState.VERIFIED
        and copy.path is not None
        and copy.verified_at is not None
        and copy.verified_at <= moment
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyPruned:
    """What came of pruning for room."""

    pruned: tuple[Segment, ...]
    refused: tuple[Segment, ...]  # the disk did not let them go
    why: str | None  # why it ended before all were considered


class _Fate(Enum):
    """What came of considering a source."""

    PRUNED = "pruned"
    STAYS = "stays"
    REFUSED = "refused"  # the disk did not let it go; it stays
    UNASKED = "unasked"  # a backend could not be asked; it stays, in this hour
    UNREACHED = "unreached"  # the same of a part of a backend: others may go
    UNDECIDED = "undecided"  # the journal has no room


class Pruner:
    """Prunes sources, some at a time; readers can pin a segment meanwhile."""

    def __init__(
        self,
        journal: Journal,
        backends: Sequence[Backend],
        clock: Clock,
        metrics: Metrics,
        rules: PruneRules,
        hub: EventHub,
        roots: Roots = UNGUARDED,
        doubt: Callable[[timedelta], str | None] = lambda grace: None,
    ) -> None:
        """`doubt` says why a grace of that length may not be over although the clock says so."""
        self._roots = roots
        self._doubt = doubt
        self._journal = journal
        self._backends = {backend.name: backend for backend in backends}
        self._clock = clock
        self._metrics = metrics
        self._hub = hub
        self.rules = rules
        self.pins = Pins()
        """Segments that somebody is using."""
        self._considered: datetime | None = None  # all that had settled by then were, in this hour
        self._whole_at = -WHOLE_S  # when the last pass began that considered all
        self._under_way: set[UUID] = set()  # whose tombstone somebody here is seeing through
        self._barred: set[str] = set()  # folders in which nothing can be removed, in this hour
        self._told_away: set[tuple[str, str]] = set()  # parts of backends, in this hour
        self.holds_unknown: Callable[[], str | None] = lambda: None
        """Why there may be holds that the journal does not know: a source that one needs stays."""
        self.holds_unknown_on_full: Callable[[], str | None] | None = None
        """The same where room is short; None: no other answer."""

    async def recover(self) -> None:
        """Decides anew about every tombstone that a pass before this one left."""
        for segment in await self._journal.sources.unfinished():
            if segment.id in self._under_way:
                continue  # pruned for room, this very moment
            where = await asyncio.to_thread(whereabouts, segment, self._roots)
            if where is Whereabouts.GONE:
                await self._pruned(segment)
            elif where in (Whereabouts.HERE, Whereabouts.ANOTHER):
                await self._journal.sources.keep(segment.id)
            # else nobody can tell today: the tombstone keeps everybody else away from it

    async def run_once(self) -> int:
        """One pass over what may go now; how many sources went."""
        await self.recover()
        self._begin_anew_at_times()
        await self._bring_back_to_now()
        pruned = 0
        while self.rules.enabled and (self._doubt(self.rules.grace) or self.holds_unknown()) is None:
            # What `keep` protects is not even read: nothing has settled before it was recorded.
            moment = self._clock.now() - max(self.rules.grace, self.rules.keep)
            candidates = await self._journal.sources.settled_before(moment, BATCH, self._considered)
            fates = await self._consider_all(candidates)
            pruned += fates.count(_Fate.PRUNED)
            if not fates or _Fate.UNDECIDED in fates:
                break
            self._considered = _settled_at(candidates[len(fates) - 1])
            if len(fates) < len(candidates):
                break
        if pruned:
            log.info("%d sources pruned", pruned)
        return pruned

    async def _bring_back_to_now(self) -> None:
        """What was verified while the clock was ahead would have no grace that ends, and be none for room."""
        with suppress(JournalFull):  # what may go all the same makes room for it
            while self.rules.enabled and self._doubt(timedelta(0)) is None:
                if not await self._journal.sources.verified_ahead(self._clock.now(), AT_A_TIME):
                    break

    def _begin_anew_at_times(self) -> None:
        """What was left alone is not read again with every pass: it may be a million segments."""
        now = self._clock.monotonic()
        if now - self._whole_at >= WHOLE_S:
            self._whole_at, self._considered = now, None
            self._barred.clear()
            self._told_away.clear()

    async def prune_early(self, segment_ids: Sequence[UUID]) -> EarlyPruned:
        """Prunes these for room: without grace and `keep`, and with every other question asked as ever.

        Asks them in order and stops where a backend cannot be asked; what is left alone stays.
        """
        if not self.rules.enabled:
            return EarlyPruned(pruned=(), refused=(), why="source.prune is never")
        unknown = (self.holds_unknown_on_full or self.holds_unknown)()
        if unknown is not None:
            return EarlyPruned(pruned=(), refused=(), why=unknown)
        rules = replace(self.rules, grace=timedelta(0), keep=timedelta(0))
        found = [await self._journal.segments.by_id(each) for each in segment_ids]
        segments = [each for each in found if each is not None]
        fates = await self._consider_all(segments, rules)
        by_fate = list(zip(segments, fates, strict=False))
        pruned = tuple(each for each, fate in by_fate if fate is _Fate.PRUNED)
        refused = tuple(each for each, fate in by_fate if fate is _Fate.REFUSED)
        why = None
        if _Fate.UNDECIDED in fates:
            why = "the journal's disk is full"
        elif _is_away(fates):
            why = f"{' and '.join(rules.required)} cannot be asked whether the copies are there"
        return EarlyPruned(pruned=pruned, refused=refused, why=why)

    def try_folders_again(self) -> None:
        """Folders in which nothing could be removed may be others now: a disk was mounted anew."""
        self._barred.clear()

    async def _consider_all(
        self, candidates: Sequence[Segment], rules: PruneRules | None = None
    ) -> list[_Fate]:
        """What became of them, as far as they were considered; by these rules, or those in force."""
        fates: list[_Fate] = []
        for first in range(0, len(candidates), AT_ONCE):
            async with asyncio.TaskGroup() as tasks:
                some = candidates[first : first + AT_ONCE]
                tries = [tasks.create_task(self._fate_of(segment, rules)) for segment in some]
            decided = [each.result() for each in tries]
            fates += decided
            if _Fate.UNDECIDED in decided or _is_away(decided):
                break  # the next would wait for the same
        return fates

    async def _fate_of(self, segment: Segment, rules: PruneRules | None) -> _Fate:
        try:
            return await self._consider(segment, rules)
        except JournalFull:
            return _Fate.UNDECIDED  # a tombstone that stays behind is decided about in the next pass
        except JournalError:
            raise  # the process must end
        except Exception:  # the item boundary: behind one odd segment no other would ever be pruned
            log.exception("pruning the source of %s", segment.id, extra={"segment_id": str(segment.id)})
            return _Fate.STAYS

    async def _consider(self, segment: Segment, rules: PruneRules | None) -> _Fate:
        folder = _folder_of(segment)
        if folder in self._barred:
            return _Fate.REFUSED
        if not self._may_go(segment, rules):
            return _Fate.STAYS
        where = await asyncio.to_thread(whereabouts, segment, self._roots)
        if where is Whereabouts.GONE:
            await self._vanished(segment)
        if where is not Whereabouts.HERE:
            return _Fate.STAYS  # another version is registered by the scan
        fate = await self._fate_by_asking(segment)
        if fate is not None:
            return fate
        now = await self._journal.segments.by_id(segment.id)
        # Asking took its time: a copy that was put anew meanwhile has a grace of its own.
        return await self._prune(now) if now is not None and self._may_go(now, rules) else _Fate.STAYS

    def _may_go(self, segment: Segment, rules: PruneRules | None) -> bool:
        if self.pins.pinned(segment.id):
            return False
        if rules is None and self._doubt(self.rules.grace) is not None:
            return False  # the clock jumped while a backend was asked
        return may_prune(segment, rules or self.rules, self._clock.now())

    async def _vanished(self, segment: Segment) -> None:
        """Somebody else removed it, the recorder's own clean-up for one."""
        now = self._clock.now()
        gone = self._journal.copies.source_gone
        self._tell_if_lost(await gone(segment.id, SourceState.MISSING, VANISHED, now), VANISHED)

    async def _prune(self, segment: Segment) -> _Fate:
        if segment.id in self._under_way:
            return _Fate.STAYS
        self._under_way.add(segment.id)
        try:
            return await self._see_through(segment)
        finally:
            self._under_way.discard(segment.id)

    async def _see_through(self, segment: Segment) -> _Fate:
        if not await self._journal.sources.begin_pruning(segment.id, self.rules.required):
            return _Fate.STAYS
        try:
            await asyncio.to_thread(self._unlink, segment)
        except (SegmentError, OSError) as exc:
            self._bar_where_it_is_no_use(segment, exc)
            log.warning("source of %s stays: %s", segment.id, exc, extra={"segment_id": str(segment.id)})
            await self._journal.sources.keep(segment.id)
            return _Fate.REFUSED
        await self._pruned(segment)
        self._metrics.sources_pruned.inc()
        fields = {"segment_id": str(segment.id), "camera_id": str(segment.camera_id)}
        log.info("source pruned, every copy is verified: %s", segment.source.path, extra=fields)
        return _Fate.PRUNED

    async def _pruned(self, segment: Segment) -> None:
        """Behind a tombstone the last copy may have been found to be lost."""
        lost = await self._journal.sources.pruned(segment, self._clock.now())
        self._tell_if_lost(lost, COPY_FAILED)

    def _unlink(self, segment: Segment) -> None:
        """Blocking; on the very mount whose identity was found to be right."""
        with self._roots.opened(segment.source.root) as root:
            source = replace(segment.source, root=root)
            unlink_source(replace(segment, source=source), is_the_very_file)

    def _bar_where_it_is_no_use(self, segment: Segment, error: Exception) -> None:
        if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            self._barred.add(_folder_of(segment))

    async def _fate_by_asking(self, segment: Segment) -> _Fate | None:
        """None: every backend that should still holds it."""
        assert segment.sha256 is not None
        for name in self.rules.required:
            copy, backend = segment.copy_at(name), self._backends.get(name)
            if _had_its_time(copy):
                continue
            if copy is None or copy.path is None or backend is None:
                return _Fate.STAYS
            held = StoredObject(
                path=copy.path,
                size_bytes=segment.size_bytes,
                sha256=segment.sha256,
                etag=copy.etag,
                camera_id=segment.camera_id,
            )
            try:
                await backend.verify(held)
            except PartAway as exc:
                self._tell_away(name, exc)
                return _Fate.UNREACHED
            except BackendUnavailable as exc:
                log.warning("no source is pruned while %s cannot be asked: %s", name, exc)
                return _Fate.UNASKED
            except BackendError as exc:
                await self._forgotten(segment, name, str(exc))
                return _Fate.STAYS
        return None

    def _tell_away(self, backend: str, error: PartAway) -> None:
        """Once an hour: it may be many thousand segments."""
        if (backend, error.part) not in self._told_away:
            self._told_away.add((backend, error.part))
            log.warning("sources stay while %s cannot be asked for %s: %s", backend, error.part, error)

    async def _forgotten(self, segment: Segment, backend: str, error: str) -> None:
        """The store lost what it had acknowledged: the source is here, so it is delivered again."""
        log.error(
            "%s has lost segment %s: %s", backend, segment.id, error, extra={"segment_id": str(segment.id)}
        )
        self._metrics.errors.labels("verify", backend).inc()
        lost = await self._journal.copies.redeliver(segment.id, backend, error)
        self._tell_if_lost(lost, COPY_FAILED)

    def _tell_if_lost(self, lost: Segment | None, cause: str) -> None:
        if lost is not None:
            tell_loss(self._metrics, self._hub, lost, lost.span, cause, self._clock.now())


def _is_away(fates: Sequence[_Fate]) -> bool:
    """Whether it must be the backend that nobody could ask, and not a few objects that are out of reach."""
    return _Fate.UNASKED in fates and _Fate.PRUNED not in fates


def is_the_very_file(registered: FileIdentity, found: FileIdentity) -> bool:
    """Device, inode, size and mtime: no other file may be taken for one that is safe elsewhere."""
    return registered == found


def unlink_source(segment: Segment, is_it: IsIt) -> None:
    """Removes the source of one segment.

    Raises SourceChanged unless what is there is the file that was registered, by `is_it`, NotASegment with
    a link on the way, and OSError.
    """
    failures = unlink_sources([segment], is_it, nullcontext)
    if segment.id in failures:
        raise failures[segment.id]


def _folder_of(segment: Segment) -> str:
    return os.path.join(segment.source.root, os.path.dirname(segment.source.path))


def _settled_at(segment: Segment) -> datetime:
    """When the last of its copies was verified: the journal's order of candidates."""
    moments = [
        copy.verified_at
        for copy in segment.copies
        if copy.verified_at is not None and copy.state is not CopyState.GONE
    ]
    return max(moments)
