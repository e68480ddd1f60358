"""Random histories of a host with two backends: what a recorder closed is never lost, whatever happens when.

Real files, a real journal and the real services; only the backends are in memory, and time jumps. A kill
drops everything but the files, the objects and the journal as it lies on the disk between two commits.

CCTV_HISTORIES=2000 CCTV_HISTORY_STEPS=50 pytest -n 0 --timeout 0 tests/integration/test_delivery_machine.py
"""

import asyncio
import contextlib
import hashlib
import os
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from cctv_storaged import prune, removing
from cctv_storaged.backends.base import Payload, StoredObject
from cctv_storaged.delivery.failing import ATTEMPTS
from cctv_storaged.errors import BackendError, Conflict, JournalError, NotFound, SourceChanged
from cctv_storaged.model import FileIdentity, Segment, SourceFile, identity_of, segment_id_for
from cctv_storaged.pacing import ByteBudget
from cctv_storaged.prune import unlink_source
from cctv_storaged.unlinking import IsIt, Opened, unlink_sources
from tests.fakes.scripted_backend import (
    Forgets,
    Hold,
    LostAnswer,
    Mismatch,
    Odd,
    Op,
    Outcome,
    Rejected,
    ScriptedBackend,
    Spoils,
    Throttled,
    Unavailable,
)
from tests.services.jumping import MIDNIGHT, JumpingLoop, LoopClock, eventually
from tests.services.kill import left_behind
from tests.services.rig import DAY, HOST, Rig, opened

T = TypeVar("T")

HISTORIES = int(os.environ.get("CCTV_HISTORIES", "20"))
STEPS = int(os.environ.get("CCTV_HISTORY_STEPS", "40"))
PATIENCE_S = 0.002
"""Thousands of waits are jumped over; a thread that is slower than this is only thought to be slow."""
GRACE = DAY
NAMES = ("FILESYSTEM", "S3")
QUIET_S = 0.05
ROUNDS = 20
"""Of a day, in which everything has to be well again."""

NUMBERS = 2
QUIET = -1
numbers = st.integers(0, NUMBERS - 1)
backends = st.sampled_from((0, 1))
second_root = st.sampled_from((False, False, True))
progress = st.sampled_from([0, 3, 15, 60, 1.0, 35.0, QUIET, QUIET])
"""How far things get before the next step: so many turns of the loop, so many seconds, or all the way."""
failures = st.sampled_from(
    [
        *(
            (Op.PUT, each)
            for each in (LostAnswer(), LostAnswer(), Forgets(), Spoils(), Rejected(), Mismatch())
        ),
        *((Op.VERIFY, each) for each in (Unavailable(), Unavailable("auth"), Throttled(), Mismatch(), Odd())),
        *((Op.PUT, each) for each in (Unavailable(), Unavailable("space"), Throttled(), Odd())),
        *((Op.DELETE, each) for each in (Unavailable(), LostAnswer(), Rejected(), Odd())),
        (Op.PROBE, Odd()),
    ]
)


@dataclass(eq=False)
class Version:
    """What a recorder once closed under a name."""

    source: SourceFile
    data: bytes
    destroyed: bool = False  # by the recorder, while the file was there
    deletion_asked: bool = False
    deletion_begun: bool = False  # the request was answered: there is no way back
    known: bool = False  # the journal had it at some time
    unrecorded: bool = False  # a process ended that alone may have known what it had put of it

    @property
    def id(self) -> UUID:
        return segment_id_for(HOST, self.source)

    @property
    def sha256(self) -> bytes:
        return hashlib.sha256(self.data).digest()


class Store(ScriptedBackend):
    """Remembers since when it has held what it holds."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.since: dict[str, datetime] = {}
        self.forgotten: dict[str, bytes] = {}  # after it had been told that they were there
        self.ever_forgotten: set[bytes] = set()
        self.now: Callable[[], datetime] = lambda: MIDNIGHT

    async def put(self, path: str, payload: Payload, budget: ByteBudget) -> StoredObject:
        before = self.objects.get(path)
        try:
            return await super().put(path, payload, budget)
        finally:
            if before is not None:
                self.objects[path] = before  # a twin's: what is there is not written, and so not spoiled
            elif path in self.objects:
                self.since[path] = self.now()
                if self.forgotten.get(path) == self.objects[path]:
                    del self.forgotten[path]


class Dead(Exception):
    """The thread belonged to a process that was killed."""


class Gate:
    """Where unlinks may be made to wait, so that a kill comes before them or right after."""

    def __init__(self) -> None:
        self.before, self.after = threading.Event(), threading.Event()
        self.dead = False
        self.open()

    def close(self, *, before: bool) -> None:
        (self.before if before else self.after).clear()

    def open(self) -> None:
        self.before.set()
        self.after.set()

    def die(self) -> None:
        self.dead = True
        self.open()

    def passed(self, event: threading.Event) -> None:
        event.wait()
        if self.dead:
            raise Dead


@dataclass(slots=True)
class Row:
    """A segment as the journal has it."""

    state: str
    sha256: bytes | None
    held: bool
    deleting: bool
    copies: dict[str, tuple[str, str | None, int, str | None]] = field(default_factory=dict)


class Process:
    """One life of the services, on a loop of its own."""

    def __init__(self, folder: Path, data: str, stores: tuple[Store, ...], now: datetime) -> None:
        self.folder = folder
        self.data = data
        self.stores = stores
        self.gate = Gate()
        self.runner = asyncio.Runner(loop_factory=lambda: JumpingLoop(PATIENCE_S))
        self.stack = contextlib.AsyncExitStack()
        self.jobs: dict[str, asyncio.Task[Any]] = {}
        self.requests: list[asyncio.Task[Any]] = []
        self.runner.run(self._start(now))

    async def _start(self, now: datetime) -> None:
        self.clock = LoopClock(now)
        self.clock.monotonic()
        for store in self.stores:
            store.now = self.clock.now
        self.rig: Rig = await self.stack.enter_async_context(
            opened(self.folder, *self.stores, clock=self.clock, data=self.data)
        )
        self.second = self.rig.beside(self.folder / "second")
        self.pruner = self.rig.pruner(GRACE)
        self.reader = self.rig.reader(self.pruner)
        self.deliveries = [self.rig.delivery(store) for store in self.stores]
        self.remover = self.rig.remover()
        await self.pruner.recover()
        self.running = [asyncio.create_task(delivery.run()) for delivery in self.deliveries]

    def begin(self, name: str, job: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """A job of the schedule: never twice at the same time."""
        if name not in self.jobs:
            self.jobs[name] = self.runner.get_loop().create_task(job())

    def request(self, work: Coroutine[Any, Any, Any]) -> None:
        self.requests.append(self.runner.get_loop().create_task(work))

    def require_sound(self) -> None:
        """What ended has ended in a way that the daemon lives with."""
        for task in self.running:
            if task.done():
                task.result()
                raise AssertionError("a delivery ended")
        for name, job in list(self.jobs.items()):
            if job.done():
                del self.jobs[name]
                with contextlib.suppress(BackendError, JournalError, OSError):
                    job.result()
        for request in [each for each in self.requests if each.done()]:
            self.requests.remove(request)
            request.result()

    def stop(self) -> None:
        """As SIGTERM does."""
        self.gate.open()
        self.runner.run(self._end())
        self.runner.close()

    async def _end(self) -> None:
        for delivery in self.deliveries:
            await delivery.drain(5)
        await self._cancel()
        await self.stack.aclose()

    def kill(self, data: str) -> None:
        """Leaves the journal's files as they are this moment, in another folder: what follows is lost."""
        self.runner.run(self._die(self.folder / data))
        self.runner.close()

    async def _die(self, into: Path) -> None:
        copied, let_go, loop = asyncio.Event(), threading.Event(), asyncio.get_running_loop()

        def copy(db: sqlite3.Connection) -> None:
            left_behind(self.folder / self.data, into)
            loop.call_soon_threadsafe(copied.set)
            let_go.wait()  # nobody reaches the journal any more

        reading = asyncio.create_task(self.rig.journal._store.read(copy))
        await copied.wait()
        self.gate.die()
        await self._cancel()
        let_go.set()
        await reading
        await self.stack.aclose()

    async def _cancel(self) -> None:
        tasks = [*self.running, *self.jobs.values(), *self.requests]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Deliveries(RuleBasedStateMachine):
    """The outer world in the order of its rules, and what must hold between them."""

    @initialize(how_far=progress)
    def begin(self, how_far: float) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="delivery-machine-"))
        (self.folder / "second").mkdir()
        self.away = False
        self.stores = tuple(Store(name) for name in NAMES)
        self.holds: list[Hold] = []
        self.versions: list[Version] = []
        self.held: set[UUID] = set()
        self.held_before_the_pass: set[UUID] = set()
        self.wrong: list[str] = []
        self.lives = 0
        self.sound = True
        self.recorder = threading.Lock()  # no rewrite between the last look at a file and its unlink
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(prune, "unlink_source", self._unlinked_by_pruning)
        self.patch.setattr(removing, "unlink_sources", self._unlinked)
        self.process = Process(self.folder, "data-0", self.stores, MIDNIGHT + DAY)
        for number, second in ((0, False), (1, False), (0, True)):
            self._close_file(number, second, told=True)
        self.go_on(how_far)

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.process.runner.run(work)

    @property
    def rig(self) -> Rig:
        return self.process.rig

    def now(self) -> datetime:
        return self.process.clock.now()

    def go_on(self, how_far: float) -> None:
        if how_far == QUIET:
            self.do(self._quiet())
        elif isinstance(how_far, float):
            self.do(asyncio.sleep(how_far))
        else:
            self.do(self._turns(how_far))

    async def _turns(self, count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    async def _quiet(self) -> None:
        """Until nobody is at work, or whoever is waits for something that does not happen by itself."""
        deadline = time.monotonic() + QUIET_S
        while self._is_at_work() and time.monotonic() < deadline:
            await asyncio.sleep(1.0)

    def _is_at_work(self) -> bool:
        process = self.process
        lanes = [delivery._lanes for delivery in process.deliveries]
        if not all(each.exhausted and each.idle.is_set() for each in lanes):
            return True
        return not all(task.done() for task in (*process.jobs.values(), *process.requests))

    # The recorder

    def view(self, second: bool) -> Rig:
        return self.process.second if second else self.rig

    def folder_of(self, version: Version) -> Path:
        """Where its root is now, mounted or not."""
        root = Path(version.source.root)
        return self.folder / "unmounted" if self.away and root.name == "second" else root

    def file_of(self, version: Version) -> bytes | None:
        """What stands under its name."""
        try:
            return (self.folder_of(version) / version.source.path).read_bytes()
        except FileNotFoundError:
            return None

    def versions_of(self, number: int, second: bool) -> list[Version]:
        view = self.view(second)
        root, path = view.root.path, view.path_of(number)
        return [each for each in self.versions if (each.source.root, each.source.path) == (root, path)]

    def _destroys(self, number: int, second: bool) -> None:
        for version in self.versions_of(number, second):
            if self.file_of(version) == version.data:
                version.destroyed = True

    @rule(number=numbers, second=second_root, how_far=progress)
    def a_file_is_closed_and_seen_at_once(self, number: int, second: bool, how_far: float) -> None:
        self._close_file(number, second, told=True)
        self.go_on(how_far)

    @rule(number=numbers, second=second_root, how_far=progress)
    def a_file_is_closed_and_nobody_is_told(self, number: int, second: bool, how_far: float) -> None:
        self._close_file(number, second, told=False)
        self.go_on(how_far)

    def _close_file(self, number: int, second: bool, *, told: bool) -> None:
        """A new one, or one that was there is written anew."""
        if second and self.away:
            return
        view, turn = self.view(second), len(self.versions_of(number, second))
        with self.recorder:
            self._destroys(number, second)
            data = view.write(number, version=turn)
            status = (view.recordings / view.path_of(number)).stat()
        source = SourceFile(root=view.root.path, path=view.path_of(number), identity=identity_of(status))
        self.versions.append(Version(source, data))
        if told:
            self.look(view, number)

    @rule(number=numbers, second=second_root, told=st.booleans(), how_far=progress)
    def a_recorder_writes_rubbish_over_a_file(
        self, number: int, second: bool, told: bool, how_far: float
    ) -> None:
        self._spoil_file(number, second)
        if told:
            self.look(self.view(second), number)
        self.go_on(how_far)

    def _spoil_file(self, number: int, second: bool) -> None:
        view = self.view(second)
        if self.versions_of(number, second) and not (second and self.away):
            with self.recorder:
                self._destroys(number, second)
                (view.recordings / view.path_of(number)).write_bytes(b"no footage" * 20)

    @rule(number=numbers, second=second_root, how_far=progress)
    def a_recorder_removes_a_file(self, number: int, second: bool, how_far: float) -> None:
        if second and self.away:
            return
        view = self.view(second)
        with self.recorder:
            self._destroys(number, second)
            (view.recordings / view.path_of(number)).unlink(missing_ok=True)
        self.go_on(how_far)

    @rule(number=numbers, second=second_root, how_far=progress)
    def a_file_is_put_back(self, number: int, second: bool, how_far: float) -> None:
        """From a backup, under another inode."""
        versions = self.versions_of(number, second)
        if not versions or self.file_of(versions[-1]) is not None or (second and self.away):
            return
        version = versions[-1]
        if version.deletion_asked and (self.process.requests or self._is_known(version)):
            return  # it would be deleted, as was asked for
        path = Path(version.source.root, version.source.path)
        draft = path.with_name("back.tmp")
        draft.write_bytes(version.data)
        os.utime(draft, ns=(0, version.source.identity.mtime_ns))
        draft.rename(path)
        version.destroyed = version.known = False
        version.deletion_asked = version.deletion_begun = False
        self.go_on(how_far)

    def _is_known(self, version: Version) -> bool:
        return self.do(self.rig.journal.segments.by_id(version.id)) is not None

    @rule(how_far=progress)
    def the_second_disk_is_unmounted_or_mounted(self, how_far: float) -> None:
        second, elsewhere = self.folder / "second", self.folder / "unmounted"
        with self.recorder:
            if self.away:
                elsewhere.rename(second)
            else:
                second.rename(elsewhere)
            self.away = not self.away
        self.go_on(how_far)

    @rule(how_far=progress)
    def a_scan_passes(self, how_far: float) -> None:
        self.scan()
        self.go_on(how_far)

    def scan(self) -> None:
        for view in (self.rig, self.process.second):
            self.do(self._scan(view))

    async def _scan(self, view: Rig) -> None:
        """As the daemon's: only what the journal does not know is looked at."""
        for number in range(NUMBERS):
            path = Path(view.path_of(number))
            known = await self.rig.journal.segments.known_in(view.root.path, str(path.parent))
            try:
                found = identity_of((view.recordings / path).stat())
            except FileNotFoundError:
                continue
            if path.name not in known or known[path.name].identity != found:
                await view.ingest.consider(view.root, str(path), lambda found: True)

    def look(self, view: Rig, number: int) -> None:
        self.do(view.ingest.consider(view.root, view.path_of(number), lambda found: True))

    # The backends

    @rule(which=backends, failure=failures, times=st.integers(0, 4), how_far=progress)
    def a_backend_fails(self, which: int, failure: tuple[Op, Outcome], times: int, how_far: float) -> None:
        """So many times, or from now on."""
        op, outcome = failure
        if times:
            self.stores[which].then(op, *[outcome] * times)
        else:
            self.stores[which].always(outcome, op)
        self.go_on(how_far)

    @rule(
        which=backends,
        failure=failures,
        number=numbers,
        second=second_root,
        before=progress,
        how_far=progress,
    )
    def a_backend_fails_when_a_file_comes(
        self,
        which: int,
        failure: tuple[Op, Outcome],
        number: int,
        second: bool,
        before: float,
        how_far: float,
    ) -> None:
        self.go_on(before)
        op, outcome = failure
        self.stores[which].then(op, outcome)
        self._close_file(number, second, told=True)
        self.go_on(how_far)

    @rule(which=backends, how_far=progress)
    def a_backend_is_away(self, which: int, how_far: float) -> None:
        self.stores[which].always(Unavailable())
        self.go_on(how_far)

    @rule(which=backends, how_far=progress)
    def a_backend_is_well_again(self, which: int, how_far: float) -> None:
        self.stores[which].recover()
        self.go_on(how_far)

    @rule(which=backends, op=st.sampled_from([Op.PUT, Op.VERIFY, Op.DELETE]), how_far=progress)
    def a_backend_takes_its_time(self, which: int, op: Op, how_far: float) -> None:
        self.holds.append(self.stores[which].hold(op))
        self.go_on(how_far)

    @rule(how_far=progress)
    def what_took_its_time_goes_on(self, how_far: float) -> None:
        self._let_go()
        self.go_on(how_far)

    def _let_go(self) -> None:
        for hold in self.holds:
            hold.release()
        self.holds.clear()
        self.process.gate.open()

    @rule(which=backends, number=numbers, second=second_root, how_far=progress)
    def a_store_forgets_what_it_had(self, which: int, number: int, second: bool, how_far: float) -> None:
        """While the sources are there: without one nobody could help."""
        for version in self.versions_of(number, second):
            twins = [each for each in self.versions if each.data == version.data]
            if any(self.file_of(each) != each.data for each in twins) or "pruning" in self.process.jobs:
                continue
            store = self.stores[which]
            for path in [path for path, data in store.objects.items() if data == version.data]:
                store.forgotten[path] = store.objects.pop(path)
                store.ever_forgotten.add(version.data)
        self.go_on(how_far)

    # Time, housekeeping and people

    @rule(how_far=progress)
    def time_passes(self, how_far: float) -> None:
        self.go_on(how_far)

    @rule(minutes=st.sampled_from([-10, -1, 5, 30]), how_far=progress)
    def the_clock_is_set(self, minutes: int, how_far: float) -> None:
        self.process.clock.advance(timedelta(minutes=minutes))
        self.go_on(how_far)

    @rule(grace_is_over=st.booleans(), how_far=progress)
    def pruning_is_due(self, grace_is_over: bool, how_far: float) -> None:
        if grace_is_over:
            self.process.clock.advance(GRACE)
        self._prune()
        self.go_on(how_far)

    def _prune(self) -> None:
        self.process.require_sound()
        if "pruning" not in self.process.jobs:
            self.held_before_the_pass = set(self.held)
            self.process.begin("pruning", self.process.pruner.run_once)

    @rule(before=st.booleans(), how_far=progress)
    def unlinking_takes_its_time(self, before: bool, how_far: float) -> None:
        self._prune_slowly(before=before)
        self.go_on(how_far)

    def _prune_slowly(self, *, before: bool) -> None:
        self.process.gate.close(before=before)
        self.process.clock.advance(GRACE)
        self._prune()

    @rule(number=numbers, second=second_root, anew=st.booleans(), how_far=progress)
    def a_file_changes_when_it_is_about_to_be_unlinked(
        self, number: int, second: bool, anew: bool, how_far: float
    ) -> None:
        self.go_on(QUIET)
        self._prune_slowly(before=True)
        self.go_on(QUIET)
        if anew:
            self._close_file(number, second, told=False)
        else:
            self._spoil_file(number, second)
        self._let_go()
        self.go_on(how_far)

    @rule(how_far=progress)
    def deleting_is_due(self, how_far: float) -> None:
        self.process.begin("deleting", self.process.remover.run_once)
        self.go_on(how_far)

    @rule(number=numbers, second=second_root, how_far=progress)
    def somebody_deletes(self, number: int, second: bool, how_far: float) -> None:
        for version in self.versions_of(number, second)[-1:]:
            self.process.request(self._delete(version))
        self.go_on(how_far)

    async def _delete(self, version: Version) -> None:
        held = version.id in self.held
        version.deletion_asked = version.deletion_asked or not held
        try:
            await self.process.remover.delete(version.id)
        except (NotFound, Conflict, JournalError):
            return
        assert not held
        version.deletion_begun = True

    @rule(number=numbers, second=second_root, how_far=progress)
    def somebody_holds_or_releases(self, number: int, second: bool, how_far: float) -> None:
        for version in self.versions_of(number, second)[-1:]:
            if version.deletion_asked:
                continue
            if version.id in self.held:
                self.held.discard(version.id)
                self.do(self.rig.release(version.id))
            elif (segment := self.do(self.rig.journal.segments.by_id(version.id))) is not None:
                self.held.add(version.id)
                self.do(self.rig.hold(segment))
        self.go_on(how_far)

    @rule(number=numbers, second=second_root, how_far=progress)
    def somebody_reads(self, number: int, second: bool, how_far: float) -> None:
        for version in self.versions_of(number, second):
            self.process.request(self._read(version))
        self.go_on(how_far)

    async def _read(self, version: Version) -> None:
        segment = await self.rig.journal.segments.by_id(version.id)
        if segment is None:
            return
        try:
            async with self.process.reader.open(segment) as blocks:
                found = b"".join([block async for block in blocks])
        except (NotFound, BackendError, SourceChanged):
            return
        assert found == version.data, f"a reader was given other bytes of {version.source.path}"

    @rule(which=st.none() | backends)
    def somebody_asks_for_another_try(self, which: int | None) -> None:
        self.do(self.rig.journal.copies.retry_failed(None if which is None else NAMES[which]))
        for delivery in self.process.deliveries:
            delivery.reopen()

    @rule(how_far=progress)
    def the_process_is_killed(self, how_far: float) -> None:
        self.lives += 1
        data, before = f"data-{self.lives}", self.now()
        self.process.kill(data)
        self._start_anew(data, before)
        self.go_on(how_far)

    @rule(how_far=progress)
    def the_process_is_restarted(self, how_far: float) -> None:
        data, before = self.process.data, self.now()
        self._let_go()
        self.process.stop()
        self._start_anew(data, before)
        self.go_on(how_far)

    def _start_anew(self, data: str, now: datetime) -> None:
        for version in self.versions:
            version.unrecorded = True
        self._let_go()
        for old in self.folder.glob("data-*"):
            if old.name != data:
                shutil.rmtree(old)
        self.held_before_the_pass = set()
        self.process = Process(self.folder, data, self.stores, now)

    # What is seen at every unlink

    def _unlinked(self, segments: Sequence[Segment], is_it: IsIt, opened: Opened) -> Mapping[UUID, Exception]:
        gate = self.process.gate
        gate.passed(gate.before)
        with self.recorder:
            failures = unlink_sources(segments, is_it, opened)
        gate.passed(gate.after)
        return failures

    def _unlinked_by_pruning(
        self, segment: Segment, is_it: Callable[[FileIdentity, FileIdentity], bool]
    ) -> None:
        gate = self.process.gate
        gate.passed(gate.before)
        with self.recorder:
            data = Path(segment.source.root, segment.source.path).read_bytes()
            unlink_source(segment, is_it)
        self._require_it_was_allowed(segment, data)
        gate.passed(gate.after)

    def _require_it_was_allowed(self, segment: Segment, data: bytes) -> None:
        """What a store forgot may have been put there again for a twin, within the grace of that one only.

        Half of the grace will do: the clock is set now and then.
        """
        name = f"{segment.source.path} of {segment.source.root}"
        if any(version.id == segment.id and version.deletion_asked for version in self.versions):
            return  # it goes everywhere, whoever comes first
        if segment.id in self.held & self.held_before_the_pass:
            self.wrong.append(f"{name} was unlinked and is held")
        for store in self.stores:
            copy = segment.copy_at(store.name)
            path = "" if copy is None else str(copy.path)
            if store.objects.get(path) != data:
                self.wrong.append(f"{name} was unlinked, and {store.name} does not have it")
            elif self.now() - store.since[path] < GRACE / 2 and data not in store.ever_forgotten:
                self.wrong.append(f"{name} was unlinked within its grace")

    # What holds between any two steps

    @invariant()
    def no_bytes_are_lost(self) -> None:
        if not hasattr(self, "process"):
            return
        for version in self.versions:
            if version.destroyed or version.deletion_asked:
                continue
            held = any(version.data in store.objects.values() for store in self.stores)
            assert held or self.file_of(version) == version.data, f"{version.source.path}: nowhere"

    @invariant()
    def no_unlink_was_wrong(self) -> None:
        assert not getattr(self, "wrong", []), self.wrong

    @invariant()
    def nothing_has_ended(self) -> None:
        if hasattr(self, "process"):
            self.process.require_sound()

    @invariant()
    def the_journal_says_what_is_true(self) -> None:
        """What is said wrongly for a moment, as between the tombstone and this question, is asked twice."""
        if not hasattr(self, "process"):
            return
        for last in (False, False, True):
            faults = self.faults(self.do(self.rows()))
            if not faults:
                return
            assert not last, faults

    async def rows(self) -> dict[UUID, Row]:
        def read(db: sqlite3.Connection) -> dict[UUID, Row]:
            found = {
                UUID(bytes=id_): Row(state, sha256, bool(held), due is not None)
                for id_, state, sha256, held, due in db.execute(
                    "SELECT id, source_state, sha256, held, deletion_due_us FROM segment"
                )
            }
            for id_, backend, state, path, attempts, error in db.execute(
                "SELECT id, backend, state, path, attempts, error FROM copy JOIN segment ON no = segment_no"
            ):
                found[UUID(bytes=id_)].copies[backend] = (state, path, attempts, error)
            return found

        return await self.rig.journal._store.read(read)

    def faults(self, rows: dict[UUID, Row]) -> list[str]:
        versions = {version.id: version for version in self.versions}
        assert len(versions) == len(self.versions)
        wrong = [f"{id_} is a segment of no file" for id_ in rows if id_ not in versions]
        for id_, row in rows.items():
            version = versions[id_]
            version.known = True
            if row.sha256 not in (None, version.sha256):
                wrong.append(f"{version.source.path} is known by another hash")
            for store in self.stores:
                state, path, _, _ = row.copies[store.name]
                held = (store.objects.get(str(path)), store.forgotten.get(str(path)))
                if state == "verified" and version.data not in held:
                    wrong.append(f"{version.source.path} is verified at {store.name}, and is not there")
        return wrong

    # In the end all is well

    def teardown(self) -> None:
        if not hasattr(self, "process"):
            return
        try:
            if self.sound:
                self.everything_heals()
        finally:
            self._let_go()
            self.process.stop()
            self.patch.undo()
            shutil.rmtree(self.folder)

    def everything_heals(self) -> None:
        if self.away:
            self.the_second_disk_is_unmounted_or_mounted(0)
        footage = {version.data for version in self.versions}
        for store in self.stores:
            store.recover()
            for path in [path for path, data in store.objects.items() if data not in footage]:
                del store.objects[path]  # as an operator must, once all the spare names are taken
        self._let_go()
        for id_ in self.held:
            self.do(self.rig.release(id_))
        self.held.clear()
        self.process.clock.advance(timedelta(hours=1))
        self.scan()
        self._require_that_only_the_hopeless_failed()
        self.do(self.rig.journal.copies.retry_failed(None))
        self.do(eventually(self._all_is_delivered, "all is delivered without another start"))
        self.the_process_is_restarted(0)
        for _ in range(ROUNDS):
            self._one_round()
            rows = self.do(self.rows())
            if all(self._is_over(row) for row in rows.values()):
                break
        else:
            raise AssertionError(f"never well: {[row for row in rows.values() if not self._is_over(row)]}")
        self.require_a_good_end(rows)

    async def _all_is_delivered(self) -> bool:
        return all(
            state == "verified" or (state == "failed" and row.state not in ("present", "pruning"))
            for row in (await self.rows()).values()
            for state, *_ in row.copies.values()
            if not row.deleting
        )

    def _one_round(self) -> None:
        self.scan()
        self._require_that_only_the_hopeless_failed()
        self.do(self.rig.journal.copies.retry_failed(None))
        for delivery in self.process.deliveries:
            delivery.reopen()
        self.do(eventually(lambda: not self._is_at_work(), "all is done that can be"))
        self.process.clock.advance(GRACE)
        self._prune()
        self.process.begin("deleting", self.process.remover.run_once)
        self.do(eventually(lambda: not self._is_at_work(), "all is done that can be"))
        self.nothing_has_ended()
        self.no_unlink_was_wrong()
        self.no_bytes_are_lost()

    def _is_over(self, row: Row) -> bool:
        states = {state for state, _, _, _ in row.copies.values()}
        without_source = row.state not in ("present", "pruning")
        return without_source and states <= {"verified", "failed"}

    def _require_that_only_the_hopeless_failed(self) -> None:
        """Given up is what was tried for hours, or what has no source."""
        for id_, row in self.do(self.rows()).items():
            for name, (state, _, attempts, error) in row.copies.items():
                if state == "failed" and row.state == "present":
                    assert attempts >= ATTEMPTS - 1, f"{id_} was given up at {name}: {error}"

    def require_a_good_end(self, rows: dict[UUID, Row]) -> None:
        told = self.do(self.last_told())
        objects = [{*store.objects.values(), *store.forgotten.values()} for store in self.stores]
        for version in self.versions:
            row, last = rows.get(version.id), told.get(version.id)
            everywhere = all(version.data in each for each in objects)
            name = f"{version.source.path} of {version.source.root}"
            if row is None and version.deletion_asked:
                assert self.file_of(version) != version.data, f"{name} was deleted and is there"
                twins = [each for each in self.versions if each.data == version.data]
                excused = version.destroyed and version.unrecorded
                excused = excused or any(each.id in rows or not each.deletion_asked for each in twins)
                stay = any(version.data in store.objects.values() for store in self.stores)
                assert excused or not stay, f"{name}: bytes stay"
            elif row is not None and all(copy[0] == "verified" for copy in row.copies.values()):
                assert everywhere, f"{name} is not everywhere"
                assert last != "lost", f"{name} is told lost and is not"
            else:
                forgotten = any(version.data in store.ever_forgotten for store in self.stores)
                assert version.destroyed or forgotten, f"{name} should be delivered: {row}"
                somewhere = row is not None and any(copy[0] == "verified" for copy in row.copies.values())
                told_of = last in ("lost", "replaced") or version.deletion_asked
                assert somewhere or told_of or not version.known, f"{name} is lost, and nobody was told"
            assert not version.deletion_begun or row is None, f"{name} was to be deleted"

    async def last_told(self) -> dict[UUID, str]:
        query = """SELECT segment_id, kind FROM ledger
                    WHERE kind NOT IN ('pruned', 'registered', 'verified') ORDER BY no"""
        rows = await self.rig.journal._store.read(lambda db: db.execute(query).fetchall())
        return {UUID(bytes=id_): kind for id_, kind in rows}


TestDeliveries = Deliveries.TestCase
TestDeliveries.settings = settings(
    max_examples=HISTORIES,
    stateful_step_count=STEPS,
    deadline=None,
    database=None,
    derandomize="CCTV_HISTORIES" not in os.environ,
    phases=[Phase.generate],  # a thread's pace is not in the example: it may not fail again while it shrinks
    suppress_health_check=list(HealthCheck),
)
