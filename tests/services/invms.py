"""Footage that has no bytes but in XProtect, as the journal knows it."""

import sqlite3
from pathlib import Path
from uuid import UUID

from cctv_storaged.clock import to_us
from cctv_storaged.errors import BackendUnavailable
from cctv_storaged.journal.journal import Journal
from cctv_storaged.model import Segment
from cctv_storaged.vms.paths import milestone_path
from tests.fakes.scripted_vms import SITE, ScriptedVms, all_but


def shown_site() -> ScriptedVms:
    """A site of which footage can be had, and nothing else."""
    unasked = BackendUnavailable("this site shows footage, and does nothing else")
    return ScriptedVms(errors=all_but({"recorded", "footage"}, unasked))


async def only_in_vms(journal: Journal, segment_id: UUID, camera: UUID) -> Segment:
    """From now on the segment has no bytes but at MILESTONE."""
    segment = await journal.segments.by_id(segment_id)
    assert segment is not None
    path = milestone_path(SITE, camera, segment.span)
    await journal._store.write(lambda db: _moved(db, segment, path))
    Path(segment.source.root, segment.source.path).unlink(missing_ok=True)
    found = await journal.segments.by_id(segment_id)
    assert found is not None
    return found


def _moved(db: sqlite3.Connection, segment: Segment, path: str) -> None:
    (no,) = db.execute("SELECT no FROM segment WHERE id = ?", (segment.id.bytes,)).fetchone()
    db.execute("UPDATE segment SET source_state = 'pruned' WHERE no = ?", (no,))
    db.execute("DELETE FROM copy WHERE segment_no = ?", (no,))
    now_us, start_us = to_us(segment.span.end), to_us(segment.span.start)
    db.execute(
        """INSERT INTO copy (segment_no, backend, state, path, start_us, size_bytes, stored_us, verified_us)
           VALUES (?, 'MILESTONE', 'verified', ?, ?, ?, ?, ?)""",
        (no, path, start_us, segment.size_bytes, now_us, now_us),
    )
