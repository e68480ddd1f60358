"""What exports that have not ended need: nobody deletes it before they have.

Asked of the table within the commit that deletes, so that it holds while an export only waits, for its turn
or for a store, and after a restart. Sources still go once they are verified elsewhere: the export reads the
copy. What a full disk makes the daemon give up is given up all the same.
"""

import contextlib
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from cctv_storaged.clock import to_us
from cctv_storaged.journal.exportrows import UNENDED, ExportRequest, request_from
from cctv_storaged.model import Segment


@dataclass(frozen=True, slots=True)
class Need:
    """An export, and the footage that it is of."""

    export_id: UUID
    request: ExportRequest

    def includes(self, segment: Segment) -> bool:
        request = self.request
        return segment.camera_id in request.camera_ids and segment.span.overlaps(request.span)


def needs(db: sqlite3.Connection) -> list[Need]:
    """Of every export that waits or is worked on: no more than the queue has places."""
    found = []
    for id_, request in db.execute(f"SELECT id, request FROM export WHERE {UNENDED} ORDER BY no").fetchall():
        with contextlib.suppress(KeyError, TypeError, ValueError):  # a damaged row is no export to be made
            found.append(Need(UUID(bytes=id_), request_from(request)))
    return found


def under_export(db: sqlite3.Connection, camera_no: int) -> str:
    """Whether an export that has not ended needs the segment `s` of this camera, as a condition in SQL."""
    row = db.execute("SELECT id FROM camera WHERE no = ?", (camera_no,)).fetchone()
    camera_id = None if row is None else UUID(bytes=row[0])
    spans = {each.request.span for each in needs(db) if camera_id in each.request.camera_ids}
    touched = [f"s.start_us < {to_us(span.end)} AND s.end_us > {to_us(span.start)}" for span in spans]
    return f"({' OR '.join(touched) or '0'})"


def export_needing(needed: Sequence[Need], segment: Segment) -> UUID | None:
    """The first export that needs the segment."""
    return next((each.export_id for each in needed if each.includes(segment)), None)
