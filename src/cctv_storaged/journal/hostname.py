"""Whose journal this is. Ids of cameras and segments follow from the host's name: it is pinned by first use.

A package starts its service before anybody can name the host, so a name counts for good only when something
followed from it: until there is footage, a hold or an export, the settings may name another.
"""

import json
import logging
import sqlite3
from datetime import datetime

from cctv_storaged.errors import JournalFull
from cctv_storaged.journal.faults import translated
from cctv_storaged.journal.ledger import note
from cctv_storaged.journal.ledgerlines import ARCHIVED, EARLIER, RECOVERED, begin

log = logging.getLogger(__name__)

RENAMED = "host_renamed"
"""Cause of the `noted` line: the chain goes on, its first line names the host as it was."""
_USED = """SELECT EXISTS (SELECT 1 FROM segment) OR EXISTS (SELECT 1 FROM hold)
    OR EXISTS (SELECT 1 FROM export) OR EXISTS (SELECT 1 FROM vms_mark) OR EXISTS (SELECT 1 FROM retrieval)
    OR EXISTS (SELECT 1 FROM uncatalogue) OR EXISTS (SELECT 1 FROM set_aside WHERE camera_id IS NOT NULL)
    OR EXISTS (SELECT 1 FROM token WHERE cameras IS NOT NULL)
    OR EXISTS (SELECT 1 FROM meta WHERE key IN (?, ?))
    OR EXISTS (SELECT 1 FROM ledger WHERE kind <> 'noted' OR cause = ?)"""
"""Whether anything names a camera or segment, or did: what is gone has its line, or was archived; a journal
that was recovered or rebuilt may have forgotten some."""
_OF_CAMERAS = ("covered_day", "retention_day", "camera")


def pinned_host(db: sqlite3.Connection, host_id: str, now: datetime) -> str:
    """The name in force: the settings', or the one under which this journal was used. Blocking.

    The ledger says it as well. Closes the connection where it raises JournalBroken.
    """
    try:
        db.execute("BEGIN IMMEDIATE")
        try:
            pinned = _pin(db, host_id, now)
            db.execute("COMMIT")
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")
    except sqlite3.Error as exc:
        error = translated(exc)
        if not isinstance(error, JournalFull):
            db.close()
            raise error from exc
        return _known(db) or host_id  # the next start pins it
    return pinned


def _pin(db: sqlite3.Connection, host_id: str, now: datetime) -> str:
    known = _known(db)
    if known is None:
        db.execute("INSERT INTO meta VALUES ('host_id', ?)", (host_id,))
    begin(db, known or host_id, now)
    if known is None or known == host_id:
        return host_id
    if db.execute(_USED, (ARCHIVED, EARLIER, RECOVERED)).fetchone()[0]:
        return known
    for table in _OF_CAMERAS:  # named by the settings alone, with ids of the former name
        db.execute(f"DELETE FROM {table}")
    db.execute("UPDATE meta SET value = ? WHERE key = 'host_id'", (host_id,))
    note(db, RENAMED, now, json.dumps({"from": known, "to": host_id}))
    log.warning("this host was called %r and is %r from now on: it has no footage yet", known, host_id)
    return host_id


def _known(db: sqlite3.Connection) -> str | None:
    row = db.execute("SELECT value FROM meta WHERE key = 'host_id'").fetchone()
    return None if row is None else str(row[0])
