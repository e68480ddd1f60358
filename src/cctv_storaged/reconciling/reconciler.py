"""The reconcile of a daemon: one run at a time, begun by the API, the clock or a journal that forgot.

A run finds first and acts, where it was asked to, in a second pass: so that the brake knows how much is gone
before anything is done about it, and nothing is remembered but numbers. Its account is in the journal, with
how far it is, and the next process goes on with it.
"""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from cctv_storaged.alarms import AlarmName, Alarms
from cctv_storaged.clock import Clock
from cctv_storaged.config import Settings
from cctv_storaged.errors import (
    BackendError,
    BackendUnavailable,
    CatalogUnavailable,
    Conflict,
    JournalError,
    JournalFull,
    NotFound,
)
from cctv_storaged.journal.journal import Journal
from cctv_storaged.reconciling.acting import Acting
from cctv_storaged.reconciling.brake import braked, may_act_once_more
from cctv_storaged.reconciling.differences import (
    GONE,
    Difference,
    Mending,
    SectionAccount,
    SectionKind,
    Step,
)
from cctv_storaged.reconciling.pace import Pace
from cctv_storaged.reconciling.run import Outcome, Phase, Run, read, written

log = logging.getLogger(__name__)

SUBJECT = "reconcile"
"""Of its alarm."""
SAVED_S = 1.0
"""How often the account is written down: a run that is killed does so much again."""
FIRST_S = 300.0
"""No run by the clock so soon after a start: all would be work under way."""
PATIENCE_S = (5.0, 15.0, 60.0)
"""Pauses before what is away is tried again; after the last it is left out of the run."""


class Section(Protocol):
    """One thing that is compared with the journal, for one pass."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> SectionKind: ...

    def steps(self, cursor: str | None) -> AsyncIterator[Step]:
        """All that lies behind the cursor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcilerParts:
    """What a reconciler works with."""

    journal: Journal
    clock: Clock
    alarms: Alarms
    acting: Acting
    sections: Callable[[], Sequence[Section]]  # made anew for each pass
    wrong_place: Callable[[Section], str | None]  # why nothing can be said of a section, by its identity
    scanned: Callable[[], bool]  # whether every root was looked at since the start


class Reconciler:
    """Everything about reconciling but its answers."""

    def __init__(self, parts: ReconcilerParts, every: timedelta) -> None:
        self._parts = parts
        self._every = every
        self._run: Run | None = None
        self._loaded = False
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._saved_at = 0.0
        self._started_at = parts.clock.monotonic()

    def change(self, every: timedelta) -> None:
        """Another interval from now on (SIGHUP)."""
        self._every = every

    # Asking

    async def last(self) -> Run | None:
        """The run under way, or the last one."""
        await self._load()
        return self._run

    async def begin(self, *, apply: bool, force: bool, why: str) -> Run:
        """A new run. Raises Conflict while there is one, JournalFull."""
        await self._load()
        if self._run is not None and not self._run.ended:
            raise Conflict(f"a reconcile is under way since {self._run.started_at:%Y-%m-%dT%H:%M:%SZ}")
        now = self._parts.clock.now()
        run = Run(id=uuid.uuid4(), apply=apply, force=force, why=why, started_at=now)
        earlier, self._run = self._run, run
        try:
            if force:
                detail = f"reconcile {run.id} was to act in spite of the brake, asked for by {why}"
                await self._parts.journal.reconcile.note_force(detail, now)
            await self._save(run)
        except JournalFull:
            self._run = earlier
            raise
        log.info("reconcile begins (%s)%s", why, ", to act" if apply else "")
        self._wake.set()
        return run

    async def cancel(self) -> None:
        """Ends the run under way where it is. Raises NotFound."""
        await self._load()
        run = self._run
        if run is None or run.ended:
            raise NotFound("no reconcile is under way")
        if self._task is not None:
            self._task.cancel()  # first: it must not go on to the next phase meanwhile
        await self._end(run, Outcome.CANCELLED)

    # Working

    async def run_due(self) -> None:
        """By the clock: a dry run where the last one ended too long ago, or none ever did."""
        await self._load()
        run, now = self._run, self._parts.clock.now()
        if (run is not None and not run.ended) or not self._may_begin():
            return
        ended = None if run is None else run.finished_at
        if ended is None or not now - self._every < ended <= now:
            await self.begin(apply=False, force=False, why="schedule" if run is not None else "new journal")

    def _may_begin(self) -> bool:
        quiet = self._parts.clock.monotonic() - self._started_at >= FIRST_S
        return quiet and self._parts.scanned()

    async def run(self) -> None:
        """Works on runs until cancelled; begins with the one that the last process left."""
        await self._load()
        if self._run is not None and not self._run.ended:
            self._run.resumed += 1
            log.info("the reconcile begun at %s goes on", self._run.started_at)
            self._wake.set()
        elif self._run is not None:
            self._sound(self._run)  # what it found may still be so
        while True:
            await self._wake.wait()
            self._wake.clear()
            run = self._run
            if run is not None and not run.ended:
                await self._worked_off(run)

    async def _worked_off(self, run: Run) -> None:
        """In a task of its own, which `cancel` can end without ending this duty."""
        self._task = asyncio.create_task(self._work(run))
        try:
            await asyncio.wait([self._task])
        except asyncio.CancelledError:
            self._task.cancel()
            await asyncio.wait([self._task])
            raise
        finally:
            task, self._task = self._task, None
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error

    async def _work(self, run: Run) -> None:
        try:
            await self._passes(run)
        except JournalFull as exc:
            await self._end(run, Outcome.FAILED, str(exc))
        except JournalError:
            raise  # the process must end
        except Exception as exc:  # the item boundary: one odd run must not end the daemon
            log.exception("reconcile")
            await self._end(run, Outcome.FAILED, f"{type(exc).__name__}: {exc}")

    async def _passes(self, run: Run) -> None:
        if run.phase is Phase.FINDING:
            await self._pass(run, self._find)
            run.braked = [stop for account in run.sections for stop in braked(account)]
            if run.force:
                run.braked = []
            run.phase, run.section, run.cursor = Phase.ACTING, None, None
        if run.apply and run.findings.total:
            await self._pass(run, self._act)
        await self._end(run, Outcome.INCOMPLETE if run.troubles else Outcome.COMPLETED)

    async def _pass(self, run: Run, take: "Take") -> None:
        """Over all sections, from where the run is."""
        sections = self._parts.sections()
        if run.section is not None and run.section not in {section.name for section in sections}:
            run.start_over()  # the settings are others than those it was begun under
        behind = run.section is not None
        for section in sections:
            if behind and section.name != run.section:
                continue
            if not behind:
                run.section, run.cursor = section.name, None
            behind = False
            account = _account(run, section)
            await self._section(run, section, account, take)
            account.done = run.phase is Phase.FINDING or account.done
            await self._save(run)

    async def _section(self, run: Run, section: Section, account: SectionAccount, take: "Take") -> None:
        if run.phase is Phase.ACTING and account.trouble is not None:
            return
        for pause_s in (*PATIENCE_S, None):
            try:
                await self._steps(run, section, account, take)
            except (BackendUnavailable, CatalogUnavailable, OSError) as exc:
                account.trouble = str(exc)
            except BackendError as exc:
                account.trouble = str(exc)
                return
            else:
                return
            if pause_s is None:
                log.warning("reconcile leaves %s out: %s", section.name, account.trouble)
                return
            await asyncio.sleep(pause_s)

    async def _steps(self, run: Run, section: Section, account: SectionAccount, take: "Take") -> None:
        account.trouble = self._parts.wrong_place(section)
        if account.trouble is not None:
            return
        async for step in section.steps(run.cursor):
            account.trouble = self._parts.wrong_place(section)
            if account.trouble is not None:
                return  # what was found meanwhile may be of another disk
            await take(run, account, step)
            run.cursor = step.cursor
            if self._parts.clock.monotonic() - self._saved_at >= SAVED_S:
                await self._save(run)

    async def _find(self, run: Run, account: SectionAccount, step: Step) -> None:
        account.looked += step.looked
        account.elsewhere += step.elsewhere
        account.young += step.young
        account.under_way += step.under_way
        for camera_id, rows in step.compared.items():
            account.share(camera_id).compared += rows
        for difference in step.differences:
            run.findings.note(difference)
            if difference.kind in GONE and difference.camera_id is not None:
                account.share(difference.camera_id).gone += 1

    async def _act(self, run: Run, account: SectionAccount, step: Step) -> None:
        lost = 0
        for difference in step.differences:
            if not self._may_act(run, account, difference):
                continue
            mended = await self._parts.acting.mend(difference)
            if mended.how is Mending.LEFT:
                continue
            if mended.how is Mending.LOST:
                lost += 1
                run.findings.lost(difference, held=mended.held)
            else:
                run.findings.applied(difference.kind)
            if difference.kind in GONE and difference.camera_id is not None:
                account.share(difference.camera_id).acted += 1
        if lost:
            await self._save(run)  # no later run finds it again

    def _may_act(self, run: Run, account: SectionAccount, difference: Difference) -> bool:
        if run.is_braked(account.name, difference.camera_id):
            return False
        if run.force or difference.kind not in GONE or difference.camera_id is None:
            return True
        return may_act_once_more(account, account.share(difference.camera_id))

    # The account

    async def _load(self) -> None:
        if not self._loaded:
            run = read(await self._parts.journal.reconcile.noted())
            if not self._loaded:
                self._run, self._loaded = run, True

    async def _save(self, run: Run) -> None:
        await self._parts.journal.reconcile.note(written(run))
        self._saved_at = self._parts.clock.monotonic()

    async def _end(self, run: Run, outcome: Outcome, error: str | None = None) -> None:
        if run.ended:
            return
        run.phase, run.outcome, run.error = Phase.ENDED, outcome, error
        run.finished_at = self._parts.clock.now()
        log.info("reconcile %s: %s", outcome, _outcome(run) or "no difference")
        self._sound(run)
        with contextlib.suppress(JournalFull):  # then the next process goes on with it
            await self._save(run)

    def _sound(self, run: Run) -> None:
        alarms = self._parts.alarms
        if run.outcome not in (Outcome.COMPLETED, Outcome.INCOMPLETE):
            return
        if run.findings.left:
            alarms.sound(AlarmName.RECONCILE, SUBJECT, _told(run))
        elif run.outcome is Outcome.COMPLETED:
            alarms.end(AlarmName.RECONCILE, SUBJECT)


def _told(run: Run) -> str:
    stopped = f"; the brake stopped it at {len(run.braked)} places" if run.apply and run.braked else ""
    return f"{_outcome(run)}{stopped} (cctv-storaged reconcile shows them)"


def _outcome(run: Run) -> str:
    findings = run.findings
    lost, held = findings.gone
    under_hold = f" ({held} of it under a hold)" if held else ""
    gone = f", {lost} gone for good, told as lost{under_hold}" if lost else ""
    mended = f", {findings.total - findings.left} mended" if run.apply and findings.total else ""
    return f"{findings.told()}{mended}{gone}"


class Take(Protocol):
    """What a pass does with a step."""

    async def __call__(self, run: Run, account: SectionAccount, step: Step) -> None: ...


def _account(run: Run, section: Section) -> SectionAccount:
    known = next((each for each in run.sections if each.name == section.name), None)
    if known is None:
        known = SectionAccount(name=section.name, kind=section.kind)
        run.sections.append(known)
    return known


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciling:
    """The reconciler, and how fast it goes."""

    reconciler: Reconciler
    pace: Pace

    def apply(self, settings: Settings) -> None:
        """Takes over settings that a reload changed."""
        self.pace.change(settings.reconcile.rate)
        self.reconciler.change(settings.reconcile.every)
