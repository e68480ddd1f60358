"""Whether the daemon does its work, as /ready, the watchdog and `status` are told."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cctv_storaged.alarms import Alarms
from cctv_storaged.bringing import Bringing
from cctv_storaged.cataloguing import Cataloguing
from cctv_storaged.journal.journal import Journal
from cctv_storaged.vms.conditionwatch import ConditionWatch, parts_of
from cctv_storaged.watching import RootWatch

SCAN_STALL_S = 900.0
"""A scan that showed no sign of life for so long hangs (a dead network mount, say)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part's state. `trouble` None: it works."""

    name: str
    trouble: str | None
    essential: bool  # whether the daemon is not ready without it


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """All parts together."""

    parts: tuple[Part, ...]

    @property
    def ready(self) -> bool:
        return not any(part.trouble and part.essential for part in self.parts)


class Listener(Protocol):
    """Somebody that others retrieve footage from."""

    @property
    def trouble(self) -> str | None:
        """Why nobody can right now."""


class Health:
    """Asks the parts how they are; opens no connection to anything outside."""

    def __init__(
        self,
        journal: Journal,
        watches: Sequence[RootWatch],
        deliveries: Sequence[Bringing],
        cataloguing: Cataloguing | None,
        alarms: Alarms,
        vms: ConditionWatch | None = None,
        onvif: Listener | None = None,
    ) -> None:
        self._journal = journal
        self._watches = watches
        self._deliveries = deliveries
        self._cataloguing = cataloguing
        self._alarms = alarms
        self._vms = vms
        self._onvif = onvif

    def readiness(self) -> Readiness:
        """A missing backend, XProtect or catalog is told and does not make the daemon unready: it is built
        for that.
        """
        parts = [Part(name="journal", trouble=self._journal_trouble(), essential=True)]
        parts += [
            Part(name=f"root {watch.root.path}", trouble=watch.trouble, essential=True)
            for watch in self._watches
        ]
        parts += [
            Part(name=f"backend {delivery.name}", trouble=delivery.trouble, essential=False)
            for delivery in self._deliveries
        ]
        parts += [
            Part(name=f"milestone {part.name}", trouble=part.told(), essential=False)
            for part in parts_of(self._vms)
        ]
        if self._onvif is not None:
            parts.append(Part(name="onvif", trouble=self._onvif.trouble, essential=False))
        if self._cataloguing is not None:
            parts.append(Part(name="catalog", trouble=self._cataloguing.trouble, essential=False))
        parts += [
            Part(name=f"alarm {alarm.name} {alarm.subject}", trouble=alarm.text, essential=False)
            for alarm in self._alarms.standing
        ]
        return Readiness(parts=tuple(parts))

    async def earned(self) -> bool:
        """Whether the watchdog may be told that all is well: the loop turns (we are here), the journal's
        thread answers, and no scan hangs. Backends have no say: an outage is no reason to restart.
        """
        await self._journal.alive()
        return all(
            time.monotonic() - watch.scanned_at < SCAN_STALL_S + watch.pause_s for watch in self._watches
        )

    def _journal_trouble(self) -> str | None:
        return "its disk is full" if self._journal.full else None
