"""Mending one difference. Thin: each is handed to whoever does such things anyway; nothing deletes bytes."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from uuid import UUID

from cctv_storaged.backends.base import ObjectFacts
from cctv_storaged.clock import Clock
from cctv_storaged.errors import BackendError, BackendUnavailable
from cctv_storaged.events import EventHub
from cctv_storaged.journal.copies import COPY_FAILED
from cctv_storaged.journal.journal import Journal
from cctv_storaged.losses import tell_loss
from cctv_storaged.metrics import Metrics
from cctv_storaged.model import Segment, SourceState
from cctv_storaged.rebuilding.adopting import Adopting
from cctv_storaged.reconciling.copies import Held
from cctv_storaged.reconciling.differences import Difference, Kind, Mending

log = logging.getLogger(__name__)

VANISHED = "source_vanished"


@dataclass(frozen=True, slots=True, kw_only=True)
class ActingContext:
    """Who does what a difference asks for."""

    journal: Journal
    backends: Mapping[str, Held]
    adopting: Adopting
    clock: Clock
    metrics: Metrics
    hub: EventHub
    reopen: Callable[[str], None]  # a backend's copies have come due
    rescan: Callable[[str], None]  # a root is to be scanned
    wake_catalog: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Mended:
    """What came of one difference."""

    how: Mending
    held: bool = False  # lost, and under a hold


MENDED = Mended(Mending.MENDED)


class Acting:
    """Mends differences one by one."""

    def __init__(self, context: ActingContext) -> None:
        self._context = context
        self._journal = context.journal

    async def mend(self, difference: Difference) -> Mended:
        """What came of it. Raises BackendUnavailable, JournalError."""
        match difference.kind:
            case Kind.ORPHAN_OBJECT:
                return await self._adopt(difference)
            case Kind.GHOST:
                return await self._redeliver(difference)
            case Kind.MISMATCH:
                return await self._doubt(difference)
            case Kind.UNREGISTERED_FILE:
                self._context.rescan(difference.section)
                return MENDED
            case Kind.MISSING_SOURCE:
                return await self._source_gone(difference)
            case Kind.CATALOG_MISSING | Kind.CATALOG_DIFFERS:
                await self._journal.reconcile.tell_again(_ids(difference))
            case Kind.CATALOG_EXTRA:
                await self._journal.reconcile.uncatalogue(_ids(difference))
        self._context.wake_catalog()
        return MENDED

    async def _adopt(self, difference: Difference) -> Mended:
        backend = self._context.backends[difference.section]
        assert difference.path is not None
        try:
            facts: ObjectFacts = await backend.stat(difference.path)
            adopted = await self._context.adopting.adopt_object(backend, facts)
        except BackendUnavailable:
            raise
        except BackendError as exc:
            log.warning("%s was not adopted: %s", difference.path, exc)
            return Mended(Mending.LEFT)
        self._context.reopen(difference.section)
        return MENDED if adopted is not None else Mended(Mending.LEFT)

    async def _redeliver(self, difference: Difference) -> Mended:
        assert difference.segment_id is not None
        lost = await self._journal.copies.redeliver(
            difference.segment_id, difference.section, f"reconcile: {difference.detail}"
        )
        self._context.metrics.errors.labels("verify", difference.section).inc()
        self._context.reopen(difference.section)
        return self._told(lost, COPY_FAILED)

    async def _doubt(self, difference: Difference) -> Mended:
        assert difference.segment_id is not None
        await self._journal.copies.doubt(
            difference.segment_id, difference.section, f"reconcile: {difference.detail}"
        )
        self._context.reopen(difference.section)
        return MENDED

    async def _source_gone(self, difference: Difference) -> Mended:
        assert difference.segment_id is not None
        now = self._context.clock.now()
        lost = await self._journal.copies.source_gone(
            difference.segment_id, SourceState.MISSING, VANISHED, now
        )
        return self._told(lost, VANISHED)

    def _told(self, lost: Segment | None, cause: str) -> Mended:
        if lost is None:
            return MENDED
        context = self._context
        tell_loss(context.metrics, context.hub, lost, lost.span, cause, context.clock.now())
        return Mended(Mending.LOST, held=lost.held)


def _ids(difference: Difference) -> tuple[UUID, ...]:
    assert difference.segment_id is not None
    return (difference.segment_id,)
