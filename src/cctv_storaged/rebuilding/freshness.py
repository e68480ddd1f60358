"""A new journal beside a store that has footage of this host already: it was lost, and nobody made it anew.

The daemon works on, and deletes nothing that it does not know. Somebody has to be told.
"""

from collections.abc import Sequence
from contextlib import suppress

from cctv_storaged.alarms import AlarmName, Alarms
from cctv_storaged.backends.base import Backend, Describing, Listing
from cctv_storaged.errors import ObjectMissing
from cctv_storaged.journal.gaps import KNOWN_SINCE
from cctv_storaged.journal.journal import Journal
from cctv_storaged.labels import understood
from cctv_storaged.rebuilding.adopting import named

MARK = "fresh_beside_footage"
"""Key of `meta`: footage was found that this journal does not know. Empty: no longer."""
MOST_CAMERAS = 2000
REMEDY = (
    "the journal was lost, or put back from long ago: stop the daemon and run"
    " `cctv-storaged rebuild --replace`, or let `cctv-storaged reconcile --apply` adopt it"
)


class Freshness:
    """Looks once after each start with a new journal, and every hour where something was found."""

    def __init__(self, journal: Journal, backends: Sequence[Backend], prefix: str, alarms: Alarms) -> None:
        self._journal = journal
        self._backends = backends
        self._prefix = prefix
        self._alarms = alarms
        self._fresh = journal.opening.created or journal.opening.recovered_from is not None

    async def run_once(self) -> None:
        """Raises BackendError where a store is away: tried again."""
        marked = bool(await self._journal.ledger_lines.recall(MARK))
        if not self._fresh and not marked:
            return
        found = [path for backend in self._backends if (path := await self._unknown(backend)) is not None]
        self._fresh = False
        if bool(found) is not marked:
            await self._journal.ledger_lines.remember(MARK, found[0] if found else "")
        if found and self._journal.opening.created:
            await self._forget_what_was_before()
        if found:
            text = f"the store has footage of this host that its journal does not know ({found[0]}); {REMEDY}"
            self._alarms.sound(AlarmName.FRESH_JOURNAL, "journal", text)
        else:
            self._alarms.end(AlarmName.FRESH_JOURNAL, "journal")

    async def _forget_what_was_before(self) -> None:
        """That there was no footage before the first which this journal knows is not known."""
        lines = self._journal.ledger_lines
        begun = await lines.line(1)
        if begun is not None and await lines.recall(KNOWN_SINCE) is None:
            await lines.remember(KNOWN_SINCE, str(begun.line.at_us))

    async def _unknown(self, backend: Backend) -> str | None:
        """The first object of any camera, if it is this host's and not in the journal."""
        if not isinstance(backend, Listing) or not isinstance(backend, Describing):
            return None
        after = ""
        for _ in range(MOST_CAMERAS):
            path = await self._first_behind(backend, after)
            if path is None:
                return None
            if not await self._journal.adoption.holding(backend.name, path):
                with suppress(ObjectMissing):
                    if understood((await backend.stat(path)).metadata).host == self._journal.host_id:
                        return path
            after = _behind(self._prefix, path)
        return None

    async def _first_behind(self, backend: Listing, after: str) -> str | None:
        """The first segment's key behind a key."""
        async for page in backend.listed(self._prefix, after):
            for each in page:
                if named(self._prefix, each.path) is not None:
                    return each.path
        return None


def _behind(prefix: str, path: str) -> str:
    """Behind every key of the same camera."""
    camera = path.removeprefix(prefix).partition("/")[0]
    return f"{prefix}{camera}/9999/99/99/99/99999999T999999.999999Z_9_ffffffffffff.ts"
