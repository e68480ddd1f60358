"""Heads of the ledger, kept where the host's disk is not: made daily and at a clean stop, compared at start.

The newest one is remembered in the journal too. A ledger that contradicts either sounds an alarm, and says so
itself. A store that is away is tried again by the schedule.
"""

import asyncio
import json
import logging
from dataclasses import dataclass, replace
from datetime import datetime

from cctv_storaged.alarms import AlarmName, Alarms
from cctv_storaged.auditing.earlier import parsed_chains
from cctv_storaged.auditing.heads import (
    MOST_HEAD_BYTES,
    Head,
    SignedHead,
    head_key,
    heads_below,
    newest_of,
    read_head,
    same_day,
    signed_document,
)
from cctv_storaged.auditing.proof import trouble_with
from cctv_storaged.auditing.reading import LedgerReader
from cctv_storaged.backends.base import Backend, Listing
from cctv_storaged.clock import Clock
from cctv_storaged.errors import (
    JournalFull,
    LedgerError,
    NotLookedAt,
    ObjectMismatch,
    ObjectMissing,
    StoragedError,
)
from cctv_storaged.evidence.keys import HostKey
from cctv_storaged.exporting.work import in_thread
from cctv_storaged.journal.ledgerlines import CONTRADICTION, EARLIER, HEAD, LedgerLines
from cctv_storaged.shelving import shelve_bytes

log = logging.getLogger(__name__)

CONTRADICTED = "head_contradicted"
"""Cause of the `noted` line."""
STOP_S = 5.0
"""A head at a stop has so long; the next start makes one as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadParts:
    """What keeping heads needs."""

    lines: LedgerLines
    reader: LedgerReader
    store: Backend
    prefix: str  # of the store's keys
    host_id: str
    key: HostKey
    alarms: Alarms
    clock: Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """The newest head that this ledger had."""

    path: str
    place: str
    document: str
    stored: bool

    @property
    def head(self) -> Head:
        """Raises LedgerError."""
        return read_head(self.document.encode()).head


class HeadKeeper:
    """Makes, stores and compares heads."""

    def __init__(self, parts: HeadParts) -> None:
        self._parts = parts
        self._compared = False
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Compares at the start, and makes the last head when it is cancelled."""
        try:
            await self._begin()
            await asyncio.Event().wait()
        finally:
            await self._last()

    async def _begin(self) -> None:
        try:
            await self.compare_remembered()
            await self.run_once()
        except NotLookedAt as exc:
            log.info("the ledger's head waits for the schedule: %s", exc)
        except (StoragedError, OSError) as exc:
            log.warning("the ledger's head waits for the schedule: %s", exc)

    async def run_once(self) -> None:
        """What the schedule does. Raises BackendError while the store is away, JournalFull, OSError."""
        async with self._turn:  # the start and the schedule may meet
            if not self._compared:
                await self.compare_stored()
                self._compared = True
            await self.keep()

    async def put_again(self) -> None:
        """Another store, or an emptied one, was accepted: the last head is put there, and one of now.

        What else is there is compared anew. Raises as `run_once`, after which the schedule goes on with it.
        """
        async with self._turn:
            known = await self.remembered()
            if known is not None and known.stored:
                await self._remember(replace(known, stored=False))
            self._compared = False
            await self.compare_stored()
            self._compared = True
            await self.keep(last=True)

    # Keeping

    async def keep(self, *, last: bool = False) -> None:
        """Stores a head, once a day; `last`: whenever lines were added since."""
        known, end = await self.remembered(), await self._parts.lines.end()
        if known is not None and not known.stored:
            await self._put(known)
        now = self._parts.clock.now()
        if end is None or (known is not None and _suffices(known, end.no, now, last=last)):
            return
        head = Head(no=end.no, hash=end.hash, at=now, host=self._parts.host_id, chain=end.chain)
        key = await in_thread(self._parts.key.current)
        made = Remembered(
            path=head_key(self._parts.prefix, head),
            place=self._place,
            document=signed_document(head, key).decode(),
            stored=False,
        )
        await self._remember(made)
        await self._put(made)

    async def remembered(self) -> Remembered | None:
        """The newest head as the journal has it; None where there is none."""
        text = await self._parts.lines.recall(HEAD)
        return None if text is None else parsed_memory(text)

    async def _put(self, made: Remembered) -> None:
        """Under a name that it alone can have, but for a head of the same line on the same day."""
        if made.place != self._place:
            return  # of a store that the settings no longer name
        try:
            metadata = {"ledger": "head", "host": self._parts.host_id}
            await shelve_bytes(self._parts.store, made.document.encode(), made.path, metadata)
        except ObjectMismatch:  # it stays; tomorrow's has another name
            if not await self._is_earlier(made.path):
                await self._judge(
                    made.path, "another head has that name: two ledgers of this host are kept there"
                )
        await self._remember(replace(made, stored=True))
        log.info("ledger: head stored as %s", made.path)

    async def _remember(self, made: Remembered) -> None:
        facts = {"path": made.path, "place": made.place, "document": made.document, "stored": made.stored}
        await self._parts.lines.remember(HEAD, json.dumps(facts))

    async def _last(self) -> None:
        try:
            async with asyncio.timeout(STOP_S):
                if not self._compared:  # a head of now would hide from the next start what contradicts it
                    await self.compare_stored()
                await self.keep(last=True)
        except (StoragedError, OSError, TimeoutError) as exc:
            log.warning("the ledger's last head was not stored: %s", exc)

    # Comparing

    async def compare_remembered(self) -> None:
        """The head in the journal with the ledger in the journal."""
        known = await self.remembered()
        if known is not None:
            await self._judge(known.path, await self._trouble(known.document.encode()))

    async def compare_stored(self) -> None:
        """The newest head in the store with the ledger. Raises BackendError.

        Those of a chain that a rebuild knew of say nothing about this one, and are passed over.
        """
        known = await self.remembered()
        mine = known.path if known is not None and known.stored and known.place == self._place else None
        paths, today = await self._paths(mine), self._parts.clock.now().date()
        path = newest_of(paths, today)
        while path is not None and await self._is_earlier(path):
            log.info("ledger: %s is of the chain before the journal was rebuilt", path)
            paths = [each for each in paths if each != path and same_day(each, path)]  # older ones are too
            path = newest_of(paths, today)
        if path is None:
            return
        try:
            trouble = await self._trouble(await self._read(path))
        except ObjectMissing:
            trouble = f"the head that was stored as {path} is gone from {self._place}"
        await self._judge(path, trouble)

    async def _paths(self, mine: str | None) -> list[str]:
        """Those of the heads in the store, as far as they can be known."""
        store, found = self._parts.store, [] if mine is None else [mine]
        if isinstance(store, Listing):
            below = heads_below(self._parts.prefix, self._parts.host_id)
            found += [each.path async for page in store.listed(below) for each in page]
        return found

    async def _is_earlier(self, path: str) -> bool:
        """Whether a head is of a chain that a rebuild of this journal knew of."""
        chains = parsed_chains(await self._parts.lines.recall(EARLIER))
        if not chains:
            return False
        try:
            found = read_head(await self._read(path))
        except (LedgerError, ObjectMissing):
            return False
        return any(each.has(found) for each in chains)

    async def _read(self, path: str) -> bytes:
        return await fetched(self._parts.store, path)

    async def _trouble(self, document: bytes) -> str | None:
        """How the ledger contradicts a head, None where it does not."""
        try:
            found = read_head(document)
        except LedgerError as exc:
            return f"it cannot be read as one: {exc}"
        return self._stranger(found) or await self._contradiction(found.head)

    def _stranger(self, found: SignedHead) -> str | None:
        if found.key.fingerprint == self._parts.key.current().public.fingerprint:
            return None
        return f"the {found.head} is signed by another key than this host's, {found.key.fingerprint}"

    async def _contradiction(self, head: Head) -> str | None:
        end = await self._parts.lines.end()
        if end is None:
            return trouble_with(head, "", 0, None)
        try:
            line = await self._parts.reader.line(head.no) if head.no <= end.no else None
        except LedgerError as exc:
            return f"the {head} cannot be compared: {exc}"
        return trouble_with(head, end.chain, end.no, None if line is None else line.hash)

    async def _judge(self, path: str, trouble: str | None) -> None:
        """Sounds the alarm, and writes it into the ledger, once for each head."""
        if trouble is None:
            return
        self._parts.alarms.sound(AlarmName.LEDGER, path, f"{trouble}; see cctv-storaged verify --ledger")
        if await self._parts.lines.recall(CONTRADICTION) == path:
            return
        detail = json.dumps({"head": path, "trouble": trouble})
        try:
            await self._parts.lines.note(CONTRADICTED, self._parts.clock.now(), detail)
            await self._parts.lines.remember(CONTRADICTION, path)
        except JournalFull as exc:
            log.warning("the ledger cannot say that it was contradicted, the alarm does: %s", exc)

    @property
    def _place(self) -> str:
        return f"{self._parts.store.name}:{self._parts.store.location}"


def parsed_memory(text: str) -> Remembered | None:
    """What `HeadKeeper` remembers; None for what a salvage left unreadable."""
    try:
        facts = json.loads(text)
        return Remembered(
            path=str(facts["path"]),
            place=str(facts["place"]),
            document=str(facts["document"]),
            stored=bool(facts["stored"]),
        )
    except (ValueError, KeyError, TypeError):
        return None


async def fetched(store: Backend, path: str) -> bytes:
    """The document of a head, as far as it can be one. Raises BackendError."""
    async with store.open(path, 0, MOST_HEAD_BYTES + 1) as blocks:
        return b"".join([block async for block in blocks])


def _suffices(known: Remembered, no: int, now: datetime, *, last: bool) -> bool:
    try:
        head = known.head
    except LedgerError:
        return False
    return head.no == no or (not last and head.at.date() == now.date())
