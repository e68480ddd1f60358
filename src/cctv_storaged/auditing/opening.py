"""What keeps the ledger, put together from the daemon's parts."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from cctv_storaged.alarms import Alarms
from cctv_storaged.auditing.archive import FOLDER
from cctv_storaged.auditing.archiving import Archiver
from cctv_storaged.auditing.fetches import Fetches
from cctv_storaged.auditing.headkeeping import HeadKeeper, HeadParts
from cctv_storaged.auditing.reading import LedgerReader
from cctv_storaged.auditing.trail import Trail
from cctv_storaged.backends.base import Backend
from cctv_storaged.clock import Clock
from cctv_storaged.evidence.keys import HostKey
from cctv_storaged.journal.journal import Journal

EVERY_S = 3600.0
"""A store that was away is tried again after so long, and a day's head comes no later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditingNeeds:
    """What the daemon hands over."""

    journal: Journal
    store: Backend
    prefix: str  # of the store's keys
    data_dir: Path
    keep: timedelta
    key: HostKey
    alarms: Alarms
    clock: Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Auditing:
    """Everything about the ledger but its answers."""

    reader: LedgerReader
    heads: HeadKeeper
    archiver: Archiver
    fetches: Fetches
    trail: Trail


def open_auditing(needs: AuditingNeeds) -> Auditing:
    """It touches no disk before it runs."""
    lines, folder = needs.journal.ledger_lines, needs.data_dir / FOLDER
    reader = LedgerReader(lines, folder)
    host_id = needs.journal.host_id
    heads = HeadParts(
        lines=lines,
        reader=reader,
        store=needs.store,
        prefix=needs.prefix,
        host_id=host_id,
        key=needs.key,
        alarms=needs.alarms,
        clock=needs.clock,
    )
    below = f"{needs.prefix}ledger/{host_id}/archive/"
    return Auditing(
        reader=reader,
        heads=HeadKeeper(heads),
        archiver=Archiver(lines, folder, needs.store, below, needs.keep, needs.clock, needs.alarms),
        fetches=Fetches(lines, needs.clock),
        trail=Trail(needs.journal.audit_lines, needs.clock),
    )
