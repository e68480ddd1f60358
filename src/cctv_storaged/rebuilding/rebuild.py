"""Filling a new journal: holds first, then every object of this host, then what the catalog knows besides.

It may be cut short anywhere and begun again: what is in the journal already is not looked at twice. Folders
are not its business: the first start scans them, and gives the segments that have a source theirs.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID, uuid5

from cctv_storaged.auditing.earlier import chains_of, text_of
from cctv_storaged.auditing.headkeeping import fetched
from cctv_storaged.auditing.heads import SignedHead, heads_below, newest_of, read_head, same_day
from cctv_storaged.backends.base import Backend, Describing, LegalHolding, ListedObject, Listing
from cctv_storaged.catalog.base import Catalog, CatalogCopy, CatalogRow
from cctv_storaged.clock import Clock, to_us
from cctv_storaged.errors import (
    BackendError,
    BackendUnavailable,
    ConfigError,
    Fault,
    LedgerError,
    ObjectMissing,
)
from cctv_storaged.journal.adoption import FoundCopy, FoundSegment, Verdict
from cctv_storaged.journal.gaps import KNOWN_SINCE
from cctv_storaged.journal.heldback import KeptHold
from cctv_storaged.journal.journal import Journal
from cctv_storaged.journal.ledgerlines import EARLIER
from cctv_storaged.model import NAMESPACE, CopyState, Segment, SegmentFlag, TimeSpan, is_object_key
from cctv_storaged.rebuilding.adopting import Adopting
from cctv_storaged.rebuilding.keeping import HoldKeeper
from cctv_storaged.recorder.admission import CameraBook

log = logging.getLogger(__name__)

AT_ONCE = 32
"""Objects asked about at the same time."""
CATALOG_ROWS = 200
"""Rows taken in in one commit."""
TRIES, PAUSE_S = 5, 2.0
"""A store that is away for a moment must not end hours of work."""
JOIN = timedelta(seconds=2)
"""Held segments no further apart are one span."""
MOST_TOLD = 100
REBUILT = "journal_rebuilt"
"""Cause of the ledger's line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remains:
    """What a journal is made of."""

    backends: Sequence[Backend]
    catalog: Catalog | None
    prefix: str  # of object keys
    adopting: Adopting
    cameras: CameraBook


@dataclass(slots=True)
class Tally:
    """What came of it so far."""

    objects: Counter[str] = field(default_factory=Counter)  # by Verdict or Left, or "unreadable"
    rows: Counter[str] = field(default_factory=Counter)  # of the catalog, by Verdict or "nothing_left"
    holds: int = 0  # that the store told of and the journal before did not
    holds_before: int = 0  # in force, and taken over from the journal before
    holds_in_force: int = 0  # in the end
    told: list[str] = field(default_factory=list)  # what was left alone and is odd; the first of it

    @property
    def looked_at(self) -> int:
        return sum(self.objects.values()) + sum(self.rows.values())

    @property
    def wrong(self) -> int:
        """How much somebody has to look at."""
        odd = ("contradictory", "unreadable", "nobodys")
        return sum(self.objects[word] for word in odd) + self.rows["contradictory"]

    @property
    def holds_told(self) -> str:
        return (
            f"{self.holds_in_force} in force; {self.holds_before} of them taken over from the journal before;"
            f" {self.holds} holds, in force or over, taken from the store"
        )

    def tell(self, line: str) -> None:
        if len(self.told) < MOST_TOLD:
            self.told.append(line)


class Rebuild:
    """Fills one journal."""

    def __init__(
        self, journal: Journal, remains: Remains, clock: Clock, progress: Callable[[Tally], None]
    ) -> None:
        self._journal = journal
        self._remains = remains
        self._clock = clock
        self._progress = progress
        self._held: dict[UUID, list[TimeSpan]] = {}  # legal holds that no known hold covers, by camera
        self.tally = Tally()

    async def run(self) -> Tally:
        """Everything. Raises BackendError or CatalogUnavailable where one stays away; then begin again."""
        await self._note_heads()
        lines = self._journal.ledger_lines
        await lines.remember(KNOWN_SINCE, str(to_us(self._clock.now())))
        self.tally.holds_before = await self._holds_in_force()
        for camera in self._remains.cameras.configured.values():
            await self._journal.cameras.ensure(camera)
        for backend in self._remains.backends:
            keeper = HoldKeeper(self._journal, backend, self._remains.prefix, self._clock)
            self.tally.holds += await keeper.recover()
        for backend in self._remains.backends:
            await self._take_objects(backend)
        if self._remains.catalog is not None:
            await self._take_rows(self._remains.catalog)
        self.tally.holds += await self._journal.held_back.recover(self._legal_holds(), self._clock.now())
        self.tally.holds_in_force = await self._holds_in_force()
        await lines.note(REBUILT, self._clock.now(), self._summary())
        return self.tally

    async def _holds_in_force(self) -> int:
        return sum(each.in_force for each in await self._journal.held_back.all())

    # The ledger

    async def _note_heads(self) -> None:
        """The chain begins anew; which head the store has last ties it to the one before.

        The keeper of heads must know that chain: it finds the new one's heads among the old one's.
        """
        heads: list[SignedHead] = []
        for backend in self._remains.backends:
            paths: list[str] = []
            if isinstance(backend, Listing):
                below = heads_below(self._remains.prefix, self._journal.host_id)
                paths = [each.path async for page in backend.listed(below) for each in page]
            last = newest_of(paths, self._clock.now().date())
            told = "none" if last is None else last
            if last is not None:  # a stop and a rebuild earlier that day left heads of other chains
                heads += [found async for found in _heads_in(backend, paths, last)]
            await self._journal.ledger_lines.note(
                REBUILT, self._clock.now(), f"begun; last signed head of the ledger at {backend.name}: {told}"
            )
        await self._journal.ledger_lines.remember(EARLIER, text_of(chains_of(heads)))

    def _summary(self) -> str:
        objects = ", ".join(f"{count} {word}" for word, count in sorted(self.tally.objects.items()))
        rows = ", ".join(f"{count} {word}" for word, count in sorted(self.tally.rows.items()))
        return f"objects: {objects or 'none'}; catalog: {rows or 'none'}; holds: {self.tally.holds_told}"

    # Objects

    async def _take_objects(self, backend: Backend) -> None:
        if not isinstance(backend, Listing):
            raise ConfigError([Fault("backend", f"{backend.name} cannot list what it holds")])
        after = ""
        while True:
            try:
                async for page in backend.listed(self._remains.prefix, after):
                    await self._take_page(backend, page)
                    after = page[-1].path
                    self._progress(self.tally)
                return
            except BackendUnavailable as exc:
                if not await self._is_back(backend, exc):
                    raise

    async def _is_back(self, backend: Backend, error: BackendError) -> bool:
        for _ in range(TRIES):
            log.warning("%s is away, tried again: %s", backend.name, error)
            await asyncio.sleep(PAUSE_S)
            try:
                await backend.probe()
            except BackendError as exc:
                error = exc
            else:
                return True
        return False

    async def _take_page(self, backend: Backend, page: Sequence[ListedObject]) -> None:
        keys = [each.path for each in page if is_object_key(self._remains.prefix, each.path)]
        for first in range(0, len(keys), AT_ONCE):
            some = keys[first : first + AT_ONCE]
            ends = await asyncio.gather(*(self._take(backend, key) for key in some), return_exceptions=True)
            for end in ends:
                if end is not None:
                    raise end

    async def _take(self, backend: Backend, path: str) -> None:
        if await self._journal.adoption.holding(backend.name, path):
            self.tally.objects[Verdict.KNOWN] += 1
            return
        assert isinstance(backend, Describing)
        try:
            facts = await backend.stat(path)
            considered = await self._remains.adopting.consider(backend, facts)
            if considered.adopted is not None and considered.adopted.segment is not None:
                await self._mind_legal_hold(backend, path, considered.adopted.segment)
        except BackendUnavailable:
            raise
        except ObjectMissing:
            return  # gone since it was listed
        except BackendError as exc:
            self.tally.objects["unreadable"] += 1
            self.tally.tell(f"{path}: {exc}")
            return
        self.tally.objects[considered.word] += 1
        if considered.why:
            self.tally.tell(f"{path}: left alone: {considered.why}")

    async def _mind_legal_hold(self, backend: Backend, path: str, segment: Segment) -> None:
        """The bucket may know of a hold that no snapshot tells of."""
        if segment.held or not isinstance(backend, LegalHolding):
            return
        if await backend.legal_hold(path):
            self._held.setdefault(segment.camera_id, []).append(segment.span)

    def _legal_holds(self) -> list[KeptHold]:
        """One for each camera and span without a gap. They do not expire: nobody knows when they may."""
        now_us = to_us(self._clock.now())
        return [
            KeptHold(
                id=uuid5(NAMESPACE, f"recovered hold {self._journal.host_id} {camera_id} {span}"),
                case_id=None,
                reason="recovered: the bucket has a legal hold on this footage, and nothing tells why",
                created_by=None,
                created_us=now_us,
                start_us=to_us(span.start),
                end_us=to_us(span.end),
                expires_us=None,
                review_us=now_us,
                released_us=None,
                released_by=None,
                release_reason=None,
                cameras=(self._remains.cameras.with_id(camera_id),),
            )
            for camera_id, spans in self._held.items()
            for span in joined(spans)
        ]

    # The catalog

    async def _take_rows(self, catalog: Catalog) -> None:
        after = UUID(int=0)
        while rows := await catalog.of_host(after, CATALOG_ROWS):
            found = [each for row in rows if (each := found_in(row, self._remains.cameras)) is not None]
            self.tally.rows["nothing_left"] += len(rows) - len(found)
            adopted = await self._journal.adoption.complete(found, self._clock.now())
            for segment, outcome in zip(found, adopted, strict=True):
                self.tally.rows[outcome.verdict] += 1
                if outcome.why:
                    self.tally.tell(f"catalog row {segment.id}: left alone: {outcome.why}")
            after = rows[-1].id
            self._progress(self.tally)


async def _heads_in(backend: Backend, paths: Sequence[str], last: str) -> AsyncIterator[SignedHead]:
    """The heads of the last day that can be read as such."""
    for path in paths:
        if same_day(path, last):
            try:
                yield read_head(await fetched(backend, path))
            except (LedgerError, ObjectMissing) as exc:
                log.warning("the head %s at %s is of no use: %s", path, backend.name, exc)


def found_in(row: CatalogRow, cameras: CameraBook) -> FoundSegment | None:
    """A catalog row as a segment with the copies that may hold bytes; None without any. Pure."""
    copies = tuple(found for copy in row.copies if (found := _found_copy(copy)) is not None)
    if row.checksum is None or not copies or row.end_time <= row.start_time or row.size_bytes <= 0:
        return None
    known = {str(flag): flag for flag in SegmentFlag}
    return FoundSegment(
        id=row.id,
        camera=cameras.with_id(row.camera_id),
        span=TimeSpan(row.start_time, row.end_time),
        source=None,
        size_bytes=row.size_bytes,
        sha256=bytes.fromhex(row.checksum),
        flags=frozenset(known[word] for word in row.flags if word in known),
        created_at=row.created_at,
        copies=copies,
    )


def joined(spans: Sequence[TimeSpan]) -> list[TimeSpan]:
    """As few spans as there are stretches without a gap. Pure."""
    whole: list[TimeSpan] = []
    for span in sorted(spans):
        if whole and span.start <= whole[-1].end + JOIN:
            whole[-1] = TimeSpan(whole[-1].start, max(whole[-1].end, span.end))
        else:
            whole.append(span)
    return whole


def _found_copy(copy: CatalogCopy) -> FoundCopy | None:
    """What the catalog says was proven then is not proven now."""
    if copy.path is None or copy.state not in (CopyState.STORED, CopyState.VERIFIED):
        return None
    return FoundCopy(backend=copy.backend, path=copy.path, stored_at=copy.stored_at)
