"""Holds in the store: a snapshot of all of them is put whenever they change, and read when they were lost.

`{prefix}ledger/{host}/holds/{number}_{sha256[:12]}.json`, the highest number counts. Nothing is overwritten;
the last few snapshots stay. A daemon that finds holds in the newest snapshot which its journal does not know
(it is new, or was put back from a backup) takes them in before it puts one of its own. A journal that was put
back says of itself that all is well: so each start asks, and nothing that can wait goes before the answer.
"""

import asyncio
import hashlib
import json
import logging
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from uuid import UUID

from cctv_storaged.backends.base import Backend, Listing
from cctv_storaged.clock import Clock, rfc3339
from cctv_storaged.errors import BackendError, JournalError, JournalFull, ObjectMismatch
from cctv_storaged.journal.heldback import KeptHold
from cctv_storaged.journal.journal import Journal
from cctv_storaged.model import Camera
from cctv_storaged.shelving import shelve_bytes

log = logging.getLogger(__name__)

FORMAT = 1
KEPT = 3
OPENING_S = 3.0
MOST_BYTES = 64 * 2**20
_NAME = re.compile(r"(\d{12})_([0-9a-f]{12})\.json")


def holds_prefix(prefix: str, host_id: str) -> str:
    """Where a host's snapshots are."""
    return f"{prefix}ledger/{host_id}/holds/"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The newest snapshot that could be read."""

    number: int
    holds: tuple[KeptHold, ...]


class HoldKeeper:
    """Keeps one backend's snapshot what the journal says."""

    def __init__(self, journal: Journal, backend: Backend, prefix: str, clock: Clock) -> None:
        self._journal = journal
        self._backend = backend
        self._folder = holds_prefix(prefix, journal.host_id)
        self._clock = clock
        self._turn = asyncio.Lock()
        self._told: bytes | None = None  # of the holds that the newest snapshot tells; None: not asked yet
        self._number = 0
        self._mark = f"holds_asked:{backend.name}"  # key of `meta`
        self._asked = False  # by this journal, ever
        self._heard = False  # since this start
        self._failed = False  # since this start: the store could not answer

    async def open(self) -> "HoldKeeper":
        """Asks the store before anything is deleted; a start waits little for it."""
        if self._journal.opening.damage is not None:  # some may have been forgotten
            with suppress(JournalFull):
                await self._journal.ledger_lines.remember(self._mark, "")
        else:
            self._asked = bool(await self._journal.ledger_lines.recall(self._mark))
        with suppress(BackendError, JournalFull, TimeoutError):  # it is asked again by the schedule
            await self._ask_at_start()
        return self

    async def _ask_at_start(self) -> None:
        try:
            async with asyncio.timeout(OPENING_S):
                await self.recover()
        except (BackendError, JournalError, TimeoutError):
            raise
        except Exception:  # an answer nobody thought of must not end the host's recording
            log.exception("asking %s which holds are in force", self._backend.name)

    def doubt(self) -> str | None:
        """Why nothing may go that can wait: the store may know of holds that the journal does not."""
        if self._heard:
            return None
        why = "may be one of before, put back from a backup" if self._asked else "is new or was damaged"
        return f"this journal {why}, and {self._backend.name} could not be asked yet which holds are in force"

    def doubt_on_full(self) -> str | None:
        """The same where a disk is full: unless the journal is new or was damaged, a store that was asked and
        is away stops no recording.
        """
        return None if self._asked and self._failed else self.doubt()

    async def run_once(self) -> None:
        """Puts a snapshot where the newest is not what the journal says. Raises BackendError."""
        async with self._turn:
            await self._keep()

    async def put_again(self) -> None:
        """Another store, or an emptied one, was accepted: it is asked anew, too. Raises BackendError."""
        async with self._turn:
            self._told = None
            await self._keep()

    async def _keep(self) -> None:
        if self._told is None:
            await self.recover()
        holds = await self._journal.held_back.all()
        if _digest(holds) != self._told:
            await self._put(holds)

    async def recover(self) -> int:
        """Takes in the holds of the newest snapshot that the journal does not know; how many."""
        try:
            newest = await self.newest()
        except Exception:  # whatever it was: the store did not say
            self._failed = True
            raise
        self._number = 0 if newest is None else newest.number
        recovered = 0
        if newest is not None and _digest(newest.holds) != _digest(await self._journal.held_back.all()):
            recovered = await self._journal.held_back.recover(newest.holds, self._clock.now())
            if recovered:
                log.warning("%d holds that this journal did not know taken from %s", recovered, self._folder)
        if not self._asked:
            await self._journal.ledger_lines.remember(self._mark, rfc3339(self._clock.now()))
            self._asked = True
        self._told = _digest(()) if newest is None else _digest(newest.holds)  # last: else it is asked again
        self._heard = True
        return recovered

    async def newest(self) -> Snapshot | None:
        """By its number; one that is damaged is passed over for the one before. Raises BackendError."""
        for number, path in reversed(await self._listed()):
            snapshot = await self._read(number, path)
            if snapshot is not None:
                return snapshot
            log.error("%s at %s is damaged and passed over", path, self._backend.name)
        return None

    async def _put(self, holds: Sequence[KeptHold]) -> None:
        document = {
            "format": FORMAT,
            "host": self._journal.host_id,
            "made": rfc3339(self._clock.now()),
            "holds": [_told(hold) for hold in holds],
        }
        data = json.dumps(document, ensure_ascii=True, indent=1).encode()
        number = self._number + 1
        path = f"{self._folder}{number:012d}_{hashlib.sha256(data).hexdigest()[:12]}.json"
        await shelve_bytes(self._backend, data, path, {"host": self._journal.host_id})
        self._number, self._told = number, _digest(holds)
        with suppress(BackendError):  # a lock, or no right to delete: they harm nobody
            for _, old in (await self._listed())[:-KEPT]:
                await self._backend.delete(old)

    async def _listed(self) -> list[tuple[int, str]]:
        """Numbers and paths in the order of the numbers."""
        if not isinstance(self._backend, Listing):
            return []
        found = []
        async for page in self._backend.listed(self._folder):
            for each in page:
                match = _NAME.fullmatch(each.path.removeprefix(self._folder))
                if match is not None and 0 < each.size_bytes <= MOST_BYTES:
                    found.append((int(match[1]), each.path))
        return sorted(found)

    async def _read(self, number: int, path: str) -> Snapshot | None:
        try:
            async with self._backend.open(path) as blocks:
                data = b"".join([block async for block in blocks])
        except ObjectMismatch:
            return None
        if not path.endswith(f"_{hashlib.sha256(data).hexdigest()[:12]}.json"):
            return None
        try:
            document = json.loads(data)
            holds = tuple(_hold(each) for each in document["holds"])
            return Snapshot(number, holds) if document["host"] == self._journal.host_id else None
        except (ValueError, KeyError, TypeError):
            return None


def _told(hold: KeptHold) -> dict[str, object]:
    facts: dict[str, object] = asdict(hold)
    cameras = [
        {"id": str(camera.id), "name": camera.name, "folder": camera.folder} for camera in hold.cameras
    ]
    return {**facts, "id": str(hold.id), "cameras": cameras}


def _hold(said: dict[str, object]) -> KeptHold:
    """Raises ValueError, KeyError or TypeError for what is no hold."""
    cameras = said["cameras"]
    assert isinstance(cameras, list)
    facts = {name: said[name] for name in KeptHold.__slots__ if name not in ("id", "cameras")}
    return KeptHold(
        id=UUID(str(said["id"])),
        cameras=tuple(
            Camera(id=UUID(each["id"]), name=str(each["name"]), folder=str(each["folder"]))
            for each in cameras
        ),
        **facts,  # type: ignore[arg-type]  # proven by the name's hash to be what `_told` wrote
    )


def _digest(holds: Sequence[KeptHold]) -> bytes:
    return hashlib.sha256(json.dumps([_told(hold) for hold in holds]).encode()).digest()
