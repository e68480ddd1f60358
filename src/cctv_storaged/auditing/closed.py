"""The ledger of a closed journal in the order of its lines: archives, then the table; and both compared."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from cctv_storaged.auditing.archive import archives_in, lines_in
from cctv_storaged.auditing.proof import Finding
from cctv_storaged.journal.chain import BoundLine, Wrong
from cctv_storaged.journal.ledgerfile import ClosedLedger
from cctv_storaged.journal.ledgerlines import KEPT


def lines_of_closed(
    ledger: ClosedLedger, folder: Path, differs: Callable[[Finding], None]
) -> Iterator[BoundLine]:
    """All lines; `differs` hears where the table contradicts an archive in `folder`.

    Raises LedgerError for a damaged journal or archive, OSError.
    """
    archived, last = ledger.archived, 0
    kept = ledger.kept(archived)
    waiting = next(kept, None)
    for bound in _archived(folder, archived):
        while waiting is not None and waiting.line.no < bound.line.no:
            differs(_finding(waiting, Wrong.PUT_IN, "the journal has it, and its archive has not"))
            waiting = next(kept, None)
        if waiting is not None and waiting.line.no == bound.line.no:
            if waiting != bound:
                differs(_finding(bound, Wrong.CHANGED, "the journal has another line than its archive"))
            waiting = next(kept, None)
        elif bound.line.kind in KEPT:
            differs(_finding(bound, Wrong.MISSING, "its archive has it, and the journal has not"))
        last = max(last, bound.line.no)
        yield bound
    ends_here = True
    for bound in ledger.lines(archived):
        ends_here = False
        yield bound
    if archived and ends_here:
        why = f"the last line is never archived, and the journal has none behind {archived}"
        differs(Finding(first=last + 1, last=max(archived, last) + 1, wrong=Wrong.CUT_SHORT, why=why))


def _archived(folder: Path, up_to: int) -> Iterator[BoundLine]:
    for archive in archives_in(folder):
        if archive.first <= up_to:
            with closing(lines_in(archive.path)) as lines:
                yield from lines


def _finding(bound: BoundLine, wrong: Wrong, why: str) -> Finding:
    return Finding(first=bound.line.no, last=bound.line.no, wrong=wrong, why=why)
