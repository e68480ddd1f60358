"""One recorder root, watched: hints at once, and scans as the guarantee.

Order matters: watch first, then scan. A file closed in between is seen twice, which does no harm; the
other way round it would be missed. A watcher that dies, overflows or cannot be started costs nothing but
time: the scan goes on, and more often.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections import deque
from collections.abc import Collection, Container, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import PurePath

from cctv_storaged.clock import Clock
from cctv_storaged.errors import AnothersDisk, JournalFull
from cctv_storaged.events import Event, EventHub, EventKind
from cctv_storaged.guarding.roots import UNGUARDED, Roots
from cctv_storaged.ingest import FINAL, LET_US_READ, Ingest, Outcome
from cctv_storaged.journal.journal import Journal
from cctv_storaged.journal.segments import KnownFile
from cctv_storaged.lookout import Doubt, Lookout
from cctv_storaged.metrics import Metrics
from cctv_storaged.model import FileIdentity, SourceFile
from cctv_storaged.recorder.admission import Root
from cctv_storaged.recorder.scanner import Listing, Scanner
from cctv_storaged.recorder.settling import Settling
from cctv_storaged.recorder.watcher import Hint, Sign
from cctv_storaged.supervision import FolderCensus, WatcherSupervisor

log = logging.getLogger(__name__)

POLL_S = 5.0
"""The longest pause between scans of a root whose events do not arrive."""
FULL_SCAN_S = 3600.0
"""How often every folder is read, changed or not: a file rewritten in place does not touch its folder."""
DUTY = 0.02
"""Scanning takes at most this share of the time: the recorder comes first."""
BURST_S = 0.2
"""A burst of new folders is one scan."""
LONGEST_REST_S = 30.0
"""A scan that is wanted at once rests as long as the last one took, but not longer."""
MOST_HINTS = 50_000
"""Hints that may wait; more are dropped for one full scan, so that memory is bounded."""
CONCURRENT_LOOKS = 16
MOST_FORGOTTEN = 500
"""Files in one commit that are set aside no longer: others wait that long for the journal."""
HINT_FOLLOWERS = 4
NOT_RECORDED = frozenset({"lost+found"})
"""Folders that refuse on most disks, and that no recorder writes to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchContext:
    """What watching a root needs besides the root."""

    ingest: Ingest
    journal: Journal
    clock: Clock
    metrics: Metrics
    hub: EventHub
    census: FolderCensus
    scan_interval: timedelta
    events: bool  # whether inotify is to be tried at all
    doubt: Doubt | None = None  # whether a root was what it was, when that was looked at last
    roots: Roots = UNGUARDED  # which of them are, by a look of this moment


@dataclass(frozen=True, slots=True)
class Compared:
    """What a folder held that the journal did not know."""

    registered: int
    settling_s: float  # spent on files that no later scan looks at: the recorder's pace, not the scan's


class RootWatch:
    """Keeps one recorder root and the journal in step until it is cancelled."""

    def __init__(self, root: Root, context: WatchContext) -> None:
        self._root = root
        self._context = context
        self._scanner = Scanner(root.path, root.layout.extension)
        self._settling = Settling()
        self._lookout = Lookout(root.path, context.journal, context.clock, context.doubt)
        self._hints: deque[Hint] = deque()
        self._queued: set[tuple[str, Sign]] = set()
        self._hint_arrived = asyncio.Event()
        self._new_folders: set[str] = set()
        self._folder_arrived = asyncio.Event()
        self._unscanned: set[str] = set()  # folders looked into that no scan has met yet
        self._owed: set[str] = set()  # folders with files that were put off
        self._plan_changed = asyncio.Event()
        self._soon = False
        self._full_wanted = True
        self._last_full_at = 0.0
        self._away: OSError | None = None
        self._unreadable: frozenset[str] = frozenset()
        self._refused: dict[str, set[str]] = {}  # files that may not be read, by folder
        self._refusal_told = False
        self._put_off = False  # whether the scan met a file that it could not deal with
        self._anothers = False  # whether the root had another place's disk when a scan began
        self.scans = 0
        """Scans finished so far."""
        self.scanned_at = time.monotonic()
        """Monotonic time of the last sign of life of the scan, for the watchdog."""
        self.pause_s = 0.0
        """The pause between the last scan and the next."""
        self._supervisor = WatcherSupervisor(
            root.path, context.census, self._take_hint, self._watcher_changed, self.rescan
        )

    @property
    def root(self) -> Root:
        return self._root

    @property
    def away(self) -> bool:
        """Whether the root could not be read at the last try."""
        return self._away is not None

    @property
    def trouble(self) -> str | None:
        """What keeps segments of this root from being registered, and what to do; None while nothing does."""
        if self._away is not None:
            return _told_away(self._away)
        refusing = ((len(self._unreadable), "folders"), (self._files_refused, "files"))
        refused = " and ".join(f"{count} of its {what}" for count, what in refusing if count)
        if refused:
            return f"{refused} cannot be read (the log says which, and why): {LET_US_READ}"
        return None if self.scans else "first scan not finished"

    @property
    def _files_refused(self) -> int:
        return sum(map(len, self._refused.values()))

    @property
    def polling(self) -> bool:
        """Whether scans alone have to find segments here."""
        return not self._supervisor.reliable

    def rescan(self) -> None:
        """A full scan as soon as possible."""
        self._full_wanted = self._soon = True
        self._plan_changed.set()

    async def run(self) -> None:
        """Watches and scans until cancelled."""
        if self._context.events:
            await self._supervisor.check()
        async with asyncio.TaskGroup() as tasks:
            if self._context.events:
                tasks.create_task(self._supervisor.run())
            tasks.create_task(self._scan_for_ever())
            tasks.create_task(self._follow_folders())
            for _ in range(HINT_FOLLOWERS):
                tasks.create_task(self._follow_hints())

    def _watcher_changed(self, text: str) -> None:
        self._alert(text)
        self._plan_changed.set()  # where events fail, scans come more often from now on

    # Hints

    def _take_hint(self, hint: Hint) -> None:
        if hint.sign is Sign.LOST:
            self._context.metrics.watcher_overflows.inc()
            self._alert(f"inotify events below {self._root.path} were lost; scanning everything")
            self.rescan()
        elif hint.sign is Sign.FOLDER:
            self._new_folders.add(hint.path)
            self._folder_arrived.set()
        elif hint.path.endswith(self._root.layout.extension) and (hint.path, hint.sign) not in self._queued:
            self._queue(hint)

    def _queue(self, hint: Hint) -> None:
        if len(self._hints) >= MOST_HINTS:
            self._hints.clear()
            self._queued.clear()
            self.rescan()
        self._queued.add((hint.path, hint.sign))
        self._hints.append(hint)
        self._hint_arrived.set()

    async def _follow_hints(self) -> None:
        while True:
            hint = await self._next_hint()
            closed = _believed if hint.sign is Sign.CLOSED else self._quiet
            outcome = await self._context.ingest.consider(self._root, hint.path, closed)
            folder, name = os.path.split(hint.path)
            if outcome in (Outcome.POSTPONED, Outcome.CHANGED, Outcome.UNREADABLE):
                self._owe(folder)
            self._note_refusal(folder, name, refused=outcome is Outcome.UNREADABLE)
            self._tell_refused(hint.path)

    def _owe(self, folder: str) -> None:
        """A folder is to be looked at again by a scan that comes sooner, even if it does not change."""
        self._owed.add(folder)
        self._plan_changed.set()

    async def _next_hint(self) -> Hint:
        while not self._hints:
            self._hint_arrived.clear()
            await self._hint_arrived.wait()
        hint = self._hints.popleft()
        self._queued.discard((hint.path, hint.sign))
        return hint

    async def _follow_folders(self) -> None:
        """Looks into new folders: what was put into one before it was watched gave no event."""
        while True:
            await self._folder_arrived.wait()
            await asyncio.sleep(BURST_S)
            self._folder_arrived.clear()
            folders, self._new_folders = self._new_folders, set()
            for folder in _outermost(folders):
                try:
                    await self._register_below(folder)
                except JournalFull:
                    self._owe(folder)

    async def _register_below(self, folder: str) -> None:
        listings = self._scanner.below(folder)
        found = 0
        while (listing := await asyncio.to_thread(next, listings, None)) is not None:
            self._unscanned.add(listing.folder)
            found += (await self._compare(listing)).registered
        self._count_folders()
        self._count_found(found)
        self._tell_refused()

    # Scans

    async def _scan_for_ever(self) -> None:
        while True:
            started = time.monotonic()
            settling_s = await self._scan()
            await self._pause(time.monotonic() - started, settling_s)

    async def _pause(self, scan_took_s: float, settling_s: float) -> None:
        """Until a scan is wanted or due; what changes meanwhile may bring it forward."""
        ended = time.monotonic()
        while True:
            self._plan_changed.clear()
            self.pause_s = self._rest_s(scan_took_s, settling_s)
            left = self.pause_s - (time.monotonic() - ended)
            if left <= 0:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):  # before 3.12 wait_for may lose a cancellation
                    await self._plan_changed.wait()

    def _rest_s(self, scan_took_s: float, settling_s: float) -> float:
        """How long to rest after a scan: never so short that scanning takes more than its share.

        What it took to settle new files is none of that: a backlog of hours would be rested from for days,
        and where events do not arrive nothing new would be seen meanwhile.
        """
        if self._soon:
            return max(BURST_S, min(scan_took_s, LONGEST_REST_S))
        interval = self._context.scan_interval.total_seconds()
        if self.polling or self._owed or self._anothers:
            interval = min(interval, POLL_S)
        return max(interval, (scan_took_s - settling_s) / DUTY)

    async def _scan(self) -> float:
        """Returns how many of its seconds went into files that were new."""
        started = time.monotonic()
        full = self._full_wanted or started - self._last_full_at >= FULL_SCAN_S
        self._full_wanted = self._soon = self._put_off = False
        look, whole = self._lookout.begins(), False
        wrong = await asyncio.to_thread(self._context.roots.wrong, self._root.path)
        self._anothers = isinstance(wrong, AnothersDisk)
        if self._anothers:  # all that is there is that one's: what is new here is found once it is right
            self._full_wanted = True
            self._finish(started, 0)
            await self._lookout.broken()
            return 0.0
        owed, self._owed = self._owed, set()
        refusing = frozenset(self._refused)
        self._scanner.unsettle(owed)
        found, settling_s = 0, 0.0
        try:
            listings = self._scanner.changed(full=full)
            while (listing := await asyncio.to_thread(next, listings, None)) is not None:
                compared = await self._compare(listing)
                found, settling_s = found + compared.registered, settling_s + compared.settling_s
                self.scanned_at = time.monotonic()
            if full:
                await self._forget_gone_folders()
        except OSError as exc:
            self._root_is_away(exc)
        except JournalFull:
            self._full_wanted = self._full_wanted or full  # the journal has said it; look again
        else:
            self._root_is_there()
            self._tell_unreadable()
            self._forget_refusals(refusing)
            if self._scanner.remounted:
                self._supervisor.renew(f"a disk was mounted below {self._root.path}, or went away")
            self._last_full_at = started if full else self._last_full_at
            whole = self._saw_all
        self._finish(started, found)
        await (self._lookout.saw_all(look) if whole else self._lookout.broken())
        return settling_s

    @property
    def _saw_all(self) -> bool:
        """Whether the scan that just ended met all there is, on the disk that was there before."""
        refusing = self._unreadable - NOT_RECORDED or self._files_refused
        return not (refusing or self._put_off or self._scanner.remounted)

    def _finish(self, started: float, found: int) -> None:
        self.scanned_at = time.monotonic()
        self._settling.forget_older_than(self.scanned_at - FULL_SCAN_S)
        self._count_folders()
        metrics = self._context.metrics
        metrics.scan_seconds.labels(self._root.path).set(self.scanned_at - started)
        metrics.watcher_up.labels(self._root.path).set(0 if self.polling else 1)
        self._count_found(found)
        self.scans += 1

    def _count_folders(self) -> None:
        self._unscanned = {folder for folder in self._unscanned if not self._scanner.knows(folder)}
        folders = self._scanner.folders + len(self._unscanned)
        self._context.census.count(self._root.path, folders if self._supervisor.watching else 0)

    def _count_found(self, found: int) -> None:
        if found:
            self._context.metrics.scan_found.inc(found)
            log.info("scan of %s registered %d files", self._root.path, found)

    async def _compare(self, listing: Listing) -> Compared:
        """Looks at what the journal does not know of a folder."""
        known = await self._context.journal.segments.known_in(self._root.path, listing.folder)
        await self._follow_disk(listing, known)
        await self._forget_gone(listing.folder, known, listing.files)
        unknown = sorted(
            name for name, identity in listing.files.items() if not _same(known.get(name), identity)
        )
        registered, settling_s, settled = 0, 0.0, True
        for name in self._refused.get(listing.folder, set()) - set(unknown):
            self._note_refusal(listing.folder, name, refused=False)  # gone, or registered
        for names in _chunks(unknown, CONCURRENT_LOOKS):
            began = time.monotonic()
            outcomes = await asyncio.gather(*(self._look(listing, name) for name in names))
            registered += outcomes.count(Outcome.REGISTERED)
            settling_s += (time.monotonic() - began) * _settled_share(outcomes)
            settled = settled and FINAL.issuperset(outcomes)
            self._put_off = self._put_off or Outcome.POSTPONED in outcomes
            self.scanned_at = time.monotonic()
        if settled and listing.folder not in self._owed:
            self._scanner.settle(listing)
        return Compared(registered, settling_s)

    async def _follow_disk(self, listing: Listing, known: dict[str, KnownFile]) -> None:
        """A reboot may number devices anew: the same files on the same disk, so only the number is noted."""
        for name, identity in listing.files.items():
            entry = known.get(name)
            if entry is not None and entry.identity.device != identity.device and _same(entry, identity):
                if await self._on_another_disk():
                    return  # a copy of the disk, perhaps
                await self._context.journal.segments.renumber_device(
                    self._root.path, listing.folder, entry.identity.device, identity.device
                )
                return

    async def _forget_gone(
        self, folder: str, known: Mapping[str, KnownFile], there: Container[str] = ()
    ) -> None:
        """What was set aside and is not there any more is listed no longer."""
        aside = {name: file.identity for name, file in known.items() if file.reason and name not in there}
        for names in _chunks(sorted(aside), MOST_FORGOTTEN):
            gone = await asyncio.to_thread(self._scanner.absent, folder, names)
            if gone and await self._on_another_disk():
                return  # they may be there still
            files = {name: aside[name] for name in gone}
            if files:
                await self._context.journal.segments.forget_set_aside(self._root.path, folder, files)

    async def _on_another_disk(self) -> bool:
        return await asyncio.to_thread(self._context.roots.doubt, self._root.path) is not None

    async def _forget_gone_folders(self) -> None:
        """No listing tells of a folder that went with all its files."""
        segments, after = self._context.journal.segments, 0
        while folders := await segments.set_aside_folders(after):
            for folder in folders:
                if folder.root == self._root.path and not self._scanner.knows(folder.path):
                    known = await segments.known_in(folder.root, folder.path)
                    await self._forget_gone(folder.path, known)
            after = folders[-1].no
            self.scanned_at = time.monotonic()

    async def _look(self, listing: Listing, name: str) -> Outcome:
        path = os.path.join(listing.folder, name)
        seen, remote = listing.files[name], self._root.remote
        # Nobody will know better who opens another host's file, which costs something each time.
        if remote and not self._settling.quiet(path, seen, time.monotonic()):
            return Outcome.UNSETTLED
        closed = (lambda source: source.identity == seen) if remote else self._quiet
        outcome = await self._context.ingest.consider(self._root, path, closed)
        refused = outcome is Outcome.UNREADABLE
        if refused:
            self._settling.note(path, seen, time.monotonic(), settled=remote)
        self._note_refusal(listing.folder, name, refused=refused)
        return outcome

    def _quiet(self, source: SourceFile) -> bool:
        return self._settling.quiet(source.path, source.identity, time.monotonic())

    # What people are told

    def _root_is_away(self, error: OSError) -> None:
        if self._away is None or type(self._away) is not type(error):
            self._alert(f"recorder root {self._root.path} {_told_away(error)} ({error})")
        self._away = error
        self._context.metrics.root_up.labels(self._root.path).set(0)

    def _tell_unreadable(self) -> None:
        """Each folder once, when it begins to refuse and when it no longer does."""
        now = self._scanner.unreadable
        for folder in sorted(now.keys() - self._unreadable):
            self._alert(
                f"folder {folder!r} of {self._root.path} cannot be read, its segments are NOT registered: "
                f"{now[folder]}; {LET_US_READ}"
            )
        for folder in sorted(self._unreadable - now.keys()):
            self._alert(f"folder {folder!r} of {self._root.path} can be read again")
        self._unreadable = frozenset(now)
        self._context.metrics.folders_unreadable.labels(self._root.path).set(len(now))

    def _note_refusal(self, folder: str, name: str, *, refused: bool) -> None:
        if refused:
            self._refused.setdefault(folder, set()).add(name)
        elif (names := self._refused.get(folder)) is not None:
            names.discard(name)
            if not names:
                del self._refused[folder]

    def _forget_refusals(self, before: Container[str]) -> None:
        """After a whole scan: of folders that are gone, or refuse as a whole, no file refuses any more.

        `before`: those that had such files when it began. Of one that came meanwhile it tells nothing.
        """
        there = {*self._unscanned, *filter(self._scanner.knows, self._refused)}
        self._refused = {
            folder: names
            for folder, names in self._refused.items()
            if folder in there or folder not in before
        }
        self._tell_refused()

    def _tell_refused(self, path: str | None = None) -> None:
        """Once, when files begin to refuse and when none does any more; each one is told by the ingest."""
        count = self._files_refused
        self._context.metrics.files_unreadable.labels(self._root.path).set(count)
        if count and not self._refusal_told:
            self._alert(
                f"files of {self._root.path} cannot be read and are NOT registered, such as "
                f"{path or self._a_refused_file()!r}; {LET_US_READ}; every scan tries them again"
            )
        elif self._refusal_told and not count:
            self._alert(f"no file of {self._root.path} refuses to be read any more")
        self._refusal_told = count > 0

    def _a_refused_file(self) -> str:
        folder, names = next(iter(self._refused.items()))
        return os.path.join(folder, next(iter(names)))

    def _root_is_there(self) -> None:
        if self._away is not None:
            self._alert(f"recorder root {self._root.path} is back")
            self.rescan()  # what was rewritten while it was away does not show in its folders
        self._away = None
        self._context.metrics.root_up.labels(self._root.path).set(1)

    def _alert(self, text: str) -> None:
        log.warning("%s", text)
        self._context.hub.publish(Event(kind=EventKind.ALERT, at=self._context.clock.now(), detail=text))


def _told_away(error: OSError) -> str:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "is not there: mount it, or correct its `path` in the settings"
    return f"cannot be read: {LET_US_READ if isinstance(error, PermissionError) else error.strerror}"


def _believed(source: SourceFile) -> bool:
    """A close event is the best word there is where the kernel tells nobody but a file's owner."""
    return True


def _same(known: KnownFile | None, identity: FileIdentity) -> bool:
    """Whether a file needs no second look; device numbers change with a reboot and tell nothing."""
    return (
        known is not None
        and known.identity.inode == identity.inode
        and known.identity.size_bytes == identity.size_bytes
        and known.identity.mtime_ns == identity.mtime_ns
    )


def _outermost(folders: set[str]) -> list[str]:
    """Without those that lie in another one of them."""
    return [
        folder for folder in folders if not any(str(outer) in folders for outer in PurePath(folder).parents)
    ]


def _chunks(names: list[str], size: int) -> Iterator[list[str]]:
    for first in range(0, len(names), size):
        yield names[first : first + size]


def _settled_share(outcomes: Collection[Outcome]) -> float:
    """How much of looking at these files was for those that the journal knows from now on, 0 to 1."""
    return sum(outcome in (Outcome.REGISTERED, Outcome.SET_ASIDE) for outcome in outcomes) / len(outcomes)
