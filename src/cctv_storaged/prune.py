"""Unlinking sources, under invariant 2 only.

1. The journal offers segments whose copies were all verified long enough ago.
2. The backends are asked once more whether they hold them (a store may have forgotten what it acknowledged).
3. Tombstone in the journal, which checks in the same commit that every required copy is verified and
   nothing holds the segment.
4. The file is opened: it must be the very file that was registered (device, inode, size, mtime).
5. unlink, fsync of the folder, then the tombstone becomes a fact.

A kill between 3 and 5 leaves a tombstone. Start-up goes back to the check with it, never straight to the
unlink. Any doubt leaves the file where it is.
"""

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from cctv_storaged.backends.base import Backend, StoredObject
from cctv_storaged.clock import Clock
from cctv_storaged.errors import BackendError, BackendUnavailable, NotASegment, SourceChanged
from cctv_storaged.journal.journal import Journal
from cctv_storaged.metrics import Metrics
from cctv_storaged.model import CopyState, FileIdentity, Segment, SourceState
from cctv_storaged.recorder.source import identity_of, open_folder, open_source

log = logging.getLogger(__name__)

BATCH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneRules:
    """When a source may go; `enabled` False: never."""

    enabled: bool
    grace: timedelta  # after the last copy was verified
    keep: timedelta  # footage younger than this stays in any case
    required: tuple[str, ...]  # backends whose copy must be verified


def may_prune(segment: Segment, rules: PruneRules, now: datetime) -> bool:
    """Whether the source may go, by everything the journal knows. Pure."""
    if not rules.enabled or not rules.required or segment.held or segment.sha256 is None:
        return False
    if segment.source_state not in (SourceState.PRESENT, SourceState.PRUNING):
        return False
    if segment.span.end > now - rules.keep:
        return False
    return all(_long_verified(segment, backend, now - rules.grace) for backend in rules.required)


def _long_verified(segment: Segment, backend: str, moment: datetime) -> bool:
    copy = segment.copy_at(backend)
    return (
        copy is not None
        and copy.state is CopyState.VERIFIED
        and copy.path is not None
        and copy.verified_at is not None
        and copy.verified_at <= moment
    )


class Pruner:
    """Prunes sources, some at a time; readers can pin a segment meanwhile."""

    def __init__(
        self, journal: Journal, backends: Sequence[Backend], clock: Clock, metrics: Metrics, rules: PruneRules
    ) -> None:
        self._journal = journal
        self._backends = {backend.name: backend for backend in backends}
        self._clock = clock
        self._metrics = metrics
        self.rules = rules
        self.pinned: Counter[UUID] = Counter()
        """Segments whose source somebody is reading, and how many do."""

    async def recover(self) -> None:
        """Decides anew about every tombstone the last process left."""
        for segment in await self._journal.sources.unfinished():
            if await asyncio.to_thread(_is_gone, segment):
                await self._journal.sources.pruned(segment, self._clock.now())
            else:
                await self._journal.sources.keep(segment.id)

    async def run_once(self) -> int:
        """One pass over everything that may go now; how many sources went."""
        pruned, after = 0, None
        while self.rules.enabled:
            now = self._clock.now()
            candidates = await self._journal.sources.settled_before(now - self.rules.grace, BATCH, after)
            if not candidates:
                break
            for segment in candidates:
                if not self.pinned[segment.id] and may_prune(segment, self.rules, now):
                    pruned += await self._prune(segment)
            after = _last_settled(candidates)
        if pruned:
            log.info("%d sources pruned", pruned)
        return pruned

    async def _prune(self, segment: Segment) -> bool:
        if not await self._still_held_everywhere(segment):
            return False
        if not await self._journal.sources.begin_pruning(segment.id, self.rules.required):
            return False
        try:
            await asyncio.to_thread(unlink_source, segment)
        except (SourceChanged, NotASegment, OSError) as exc:
            log.warning("source of %s stays: %s", segment.id, exc, extra={"segment_id": str(segment.id)})
            await self._journal.sources.keep(segment.id)
            return False
        await self._journal.sources.pruned(segment, self._clock.now())
        self._metrics.sources_pruned.inc()
        return True

    async def _still_held_everywhere(self, segment: Segment) -> bool:
        assert segment.sha256 is not None
        for name in self.rules.required:
            copy, backend = segment.copy_at(name), self._backends.get(name)
            if copy is None or copy.path is None or backend is None:
                return False
            held = StoredObject(
                path=copy.path, size_bytes=segment.size_bytes, sha256=segment.sha256, etag=copy.etag
            )
            try:
                await backend.verify(held)
            except BackendUnavailable:
                return False
            except BackendError as exc:
                await self._forgotten(segment, name, str(exc))
                return False
        return True

    async def _forgotten(self, segment: Segment, backend: str, error: str) -> None:
        """The store lost what it had acknowledged: the source is here, so it is delivered again."""
        log.error(
            "%s has lost segment %s: %s", backend, segment.id, error, extra={"segment_id": str(segment.id)}
        )
        self._metrics.errors.labels("verify", backend).inc()
        await self._journal.copies.redeliver(segment.id, backend, error)


def unlink_source(segment: Segment) -> None:
    """Removes the source of a segment; the only unlink(2) of a recorder's file in this program.

    Raises SourceChanged unless it is the very file that was registered, and OSError.
    """
    folder, name = os.path.split(segment.source.path)
    with (
        open_source(segment.source.root, segment.source.path) as opened,
        open_folder(segment.source.root, folder) as parent,
    ):
        _require_same(segment.source.identity, opened.identity)
        _require_same(opened.identity, identity_of(os.stat(name, dir_fd=parent, follow_symlinks=False)))
        os.unlink(name, dir_fd=parent)
    _sync_folder(os.path.join(segment.source.root, folder))


def _sync_folder(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _require_same(expected: FileIdentity, found: FileIdentity) -> None:
    if expected != found:
        raise SourceChanged(f"the file is not the one that was registered ({expected} is now {found})")


def _is_gone(segment: Segment) -> bool:
    source = segment.source
    return os.path.isdir(source.root) and not os.path.lexists(os.path.join(source.root, source.path))


def _last_settled(candidates: Sequence[Segment]) -> datetime:
    """Where the next batch begins: the latest moment at which one of these became verified everywhere."""
    moments = [copy.verified_at for copy in candidates[-1].copies if copy.verified_at is not None]
    return max(moments)
