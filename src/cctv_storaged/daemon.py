"""The daemon at work: every duty in one task group, signals, and a stop that follows the flow.

Start: journal, backends, catalog, API (assembly/) → what the last process left unfinished → watching and
delivering → READY once scanning has begun.
Stop: word to the service manager → the API takes no more → deliveries in hand get a deadline (the journal
has the rest) → all other duties → rooms in the reverse order of opening, the journal last. A second signal
skips the deadline.
"""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

from cctv_storaged.assembly import Parts, assembled
from cctv_storaged.clock import SystemClock
from cctv_storaged.config import ReloadPlan, Settings, reloadable_difference
from cctv_storaged.errors import ConfigError
from cctv_storaged.foundation import with_pinned_host
from cctv_storaged.holding.successors import follow_folders
from cctv_storaged.logs import set_level
from cctv_storaged.schedule import Schedule, passing
from cctv_storaged.systemd import ServiceManager
from cctv_storaged.upkeep import Job
from cctv_storaged.wiring import configured_cameras, prune_rules

log = logging.getLogger(__name__)

STOP_DEADLINE_S = 20.0
"""Deliveries in hand may finish within this; the unit's TimeoutStopSec is longer."""
ABANDONED_S = 24 * 3600.0
"""An upload begun so long ago and not finished was left by a process that died."""
STATUS_S = 10.0
START_SIGN_S, START_GRANT_S = 20.0, 120.0
"""A busy start (a large journal that was not closed is read whole) says so this often, and for so long."""


class Daemon:
    """Runs the parts until a signal, or until one fails that nothing works without."""

    def __init__(
        self,
        parts: Parts,
        reload_asked: asyncio.Event,
        reload_settings: Callable[[], Settings],
        config: Path | None,
        manager: ServiceManager,
    ) -> None:
        self._parts = parts
        self._settings = parts.foundation.settings  # with the host_id that the journal pinned
        self._reload_asked = reload_asked
        self._reload_settings = reload_settings
        self._config = config
        self._manager = manager
        self._stop_asked = asyncio.Event()
        self._hurry_asked = asyncio.Event()
        self._cameras_changed = asyncio.Event()

    async def run(self) -> None:
        """Returns after a stop that was asked for; raises what made a part fail."""
        with self._signals():
            try:
                async with asyncio.TaskGroup() as duties:
                    await self._parts.pruner.recover()
                    await self._parts.api.start()
                    working = [duties.create_task(duty) for duty in self._duties()]
                    self._say_ready()
                    await self._stop_asked.wait()
                    await self._stop(working)
            finally:
                self._manager.stopping()
                await self._parts.api.stop()
        log.info("stopped")

    def _duties(self) -> Iterator[Coroutine[object, object, None]]:
        parts = self._parts
        yield parts.foundation.journal.broken()
        yield self._by_the_clock()
        yield self._watchdog()
        yield self._reload_when_asked()
        yield parts.gauges.run()
        yield self._name_cameras()
        for watch in parts.watches:
            yield watch.run()
        for delivery in parts.deliveries:
            yield delivery.run()
        yield parts.requiring.run()
        if parts.onvif is not None:
            yield parts.onvif.run()
        yield parts.thumbnailing.run()
        yield parts.exporting.run()
        yield from parts.upkeep.duties()
        if parts.cataloguing is not None:
            yield parts.cataloguing.run()
        if parts.fleet is not None:
            yield parts.fleet.run()

    def _say_ready(self) -> None:
        """The journal is open and scanning begins: whatever is closed from now on is found."""
        self._manager.ready(self._status())
        log.info("ready: API at %s", self._parts.api.url)

    async def _stop(self, working: list[asyncio.Task[None]]) -> None:
        log.info("stopping: deliveries in hand get %g s", STOP_DEADLINE_S)
        self._manager.stopping()
        hurry = asyncio.create_task(self._hurry_asked.wait())
        api = asyncio.create_task(self._parts.api.stop())
        await asyncio.wait([api, hurry], return_when=asyncio.FIRST_COMPLETED)
        self._parts.api.break_off()
        await api
        draining = asyncio.create_task(self._drain())
        await asyncio.wait([draining, hurry], return_when=asyncio.FIRST_COMPLETED)
        for task in (draining, hurry, *working):
            task.cancel()
        await asyncio.gather(draining, hurry, return_exceptions=True)

    async def _drain(self) -> None:
        await asyncio.gather(*(each.drain(STOP_DEADLINE_S) for each in self._parts.deliveries))

    async def _by_the_clock(self) -> None:
        """Pruning, deletions left unfinished, exports past their day, leftovers of interrupted uploads."""
        parts = self._parts
        jobs = (
            Job(name="pruning", run=parts.pruner.run_once, every_s=60),
            Job(name="deleting", run=parts.remover.run_once, every_s=30),
            Job(name="removing exports", run=parts.exporting.run_once, every_s=30),
            Job(name="removing abandoned uploads", run=self._sweep, every_s=6 * 3600),
            *parts.upkeep.jobs(),
        )
        await Schedule(jobs, parts.foundation.clock).run()

    async def _sweep(self) -> None:
        foundation = self._parts.foundation
        if foundation.clock_guard.distrust() is not None:
            return  # by their stamps, uploads of this very moment may be a day old
        shelves = (foundation.exports_store, foundation.thumbnails_store)
        for backend in (*foundation.backends, *shelves):
            removed = await backend.sweep(ABANDONED_S)
            if removed:
                log.info("%d abandoned uploads removed at %s", removed, backend.name)

    async def _name_cameras(self) -> None:
        """Cameras named by a reload are told to the journal at once, not with their next segment."""
        while True:
            await self._cameras_changed.wait()
            self._cameras_changed.clear()
            cameras = self._parts.foundation.journal.cameras
            await passing("naming cameras", partial(follow_folders, cameras, self._parts.cameras))
            if self._parts.upkeep.vms is not None:
                await passing("matching cameras", self._parts.upkeep.vms.mapping.rematch)

    async def _watchdog(self) -> None:
        """A sign of life only when it is earned; silence makes the service manager restart us."""
        interval_s = self._manager.watchdog_interval_s or STATUS_S
        while True:
            if await self._parts.health.earned():
                self._manager.watchdog()
            else:
                log.error("a scan hangs: no sign of life for the service manager")
            self._manager.status(self._status())
            await asyncio.sleep(interval_s)

    def _status(self) -> str:
        parts = self._parts.health.readiness().parts
        troubles = [f"{part.name}: {part.trouble}" for part in parts if part.trouble]
        return "; ".join(troubles) or f"watching {len(self._parts.watches)} recorder root(s), all well"

    # Signals

    @contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGTERM, signal.SIGINT)
        for number in numbers:
            loop.add_signal_handler(number, self._ask_to_stop)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)
                signal.signal(number, signal.SIG_IGN)  # a late one would end us before the journal is

    def _ask_to_stop(self) -> None:
        if self._stop_asked.is_set():
            self._hurry_asked.set()
        self._stop_asked.set()

    async def _reload_when_asked(self) -> None:
        """SIGHUP: what can change in a running daemon does; a bad file changes nothing."""
        while True:
            await self._reload_asked.wait()
            self._reload_asked.clear()
            self._manager.reloading()
            await self._reload()
            self._manager.ready(self._status())

    async def _reload(self) -> None:
        try:
            await self._parts.api.renew_certificate()
        except Exception:  # whatever is wrong with the new one, the old one works
            log.exception("certificate not taken over, the former one is still served")
        try:  # in a thread: a file of faults takes its time, and the loop must turn
            read = await asyncio.to_thread(self._reload_settings)
        except ConfigError as exc:
            for fault in exc.faults:
                log.error("settings not reloaded, the old ones stay in force: %s", fault)
        except Exception:  # whatever is wrong with the new ones, the old ones work
            log.exception("settings not reloaded, the old ones stay in force")
        else:
            foundation = self._parts.foundation
            pinned = with_pinned_host(read, foundation.journal.host_id, foundation.alarms)
            self._apply(reloadable_difference(self._settings, pinned))

    def _apply(self, plan: ReloadPlan) -> None:
        settings, parts = plan.settings, self._parts
        self._settings = settings
        set_level(settings.log_level)
        parts.configuration.change(settings, plan.restart)
        parts.cameras.change(configured_cameras(settings))
        self._cameras_changed.set()
        parts.budget.change(settings.delivery.rate_limit)
        parts.pruner.rules = prune_rules(settings, parts.pruner.rules.required)
        parts.upkeep.apply(settings)
        parts.exporting.change(reserve_share=settings.capacity.emergency_free)
        for delivery in parts.deliveries:
            delivery.change(
                window=settings.delivery.window, newest_share=settings.delivery.backlog_newest_share
            )
        for watch in parts.watches:
            watch.rescan()
        news = ", ".join(sorted(plan.now)) or "nothing changed"
        if self._config is None:
            news += "; there is no settings file (--config FILE), and the environment is that of the start"
        log.info("settings reloaded: %s", news)
        if plan.restart:
            log.warning("these wait for a restart: %s", ", ".join(sorted(plan.restart)))


async def run(settings: Settings, reload_settings: Callable[[], Settings], config: Path | None) -> None:
    """The daemon, from nothing to nothing. Raises StoragedError where it cannot work.

    `config` is the settings file, if there is one, and `reload_settings` reads it anew.
    """
    signal.signal(signal.SIGIO, signal.SIG_IGN)  # a lease that is broken would end us: recorder/source.py
    reload_asked = asyncio.Event()  # heard from the start: left alone, the signal would end us
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload_asked.set)
    manager = ServiceManager()
    manager.status("opening the journal")
    async with AsyncExitStack() as stack:
        async with _time_to_start(manager):
            parts = await stack.enter_async_context(assembled(settings, SystemClock()))
        await Daemon(parts, reload_asked, reload_settings, config, manager).run()


@asynccontextmanager
async def _time_to_start(manager: ServiceManager) -> AsyncIterator[None]:
    """The service manager's limit of a start moves on as long as the block lasts and the loop turns."""

    async def ask() -> None:
        while True:
            manager.extend_timeout(START_GRANT_S)
            await asyncio.sleep(START_SIGN_S)

    asking = asyncio.create_task(ask())
    try:
        yield
    finally:
        asking.cancel()
