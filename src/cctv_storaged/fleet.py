"""A host among others: what it says of itself in the catalog, and what all said. See catalog/hosts.py.

Nothing on this host waits for it. While the catalog is away a host's last word stands there and grows old;
the next one follows when it is back.
"""

import asyncio
import logging
import math
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID, uuid4

from cctv_storaged import __version__
from cctv_storaged.alarms import Alarm, AlarmName, Alarms
from cctv_storaged.bringing import Bringing
from cctv_storaged.capacity.forecasting import Forecasting, days_or_none
from cctv_storaged.catalog.base import Catalog
from cctv_storaged.catalog.hosts import MOST_ALARMS, MOST_HOSTS, Heard, HostAlarm, HostWord, KnownHost
from cctv_storaged.clock import Clock, rfc3339
from cctv_storaged.config import Settings
from cctv_storaged.errors import CatalogUnavailable, JournalError, JournalFull
from cctv_storaged.fleetconfig import ConfigurationInForce
from cctv_storaged.journal.journal import Journal

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

EVERY_S = 30.0
AGAIN_S = 10.0
"""After a word that was not heard."""
STALE_S = 120.0
"""A host that said nothing for so long is cut off, or stands still."""
FORECAST_S = 300.0
ANSWER_S = 10.0
KEPT_S = 2.0
"""So long the fleet is shown as it was read: however many watch it, the catalog is asked no more often."""
DIGITS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetParts:
    """What a host's word is made of."""

    settings: Settings
    configuration: ConfigurationInForce
    journal: Journal
    catalog: Catalog
    deliveries: Sequence[Bringing]
    forecasting: Forecasting
    alarms: Alarms
    clock: Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Twin:
    """Another daemon that said it is this host, and when."""

    at: datetime
    journal_id: str  # ours: a data_dir that was copied


@dataclass(frozen=True, slots=True)
class Said:
    """When this process said its first word and its last one, by the server's clock."""

    first: datetime
    last: datetime


def twin_in(heard: Heard, journal_id: str, run_id: UUID, said: Said | None) -> Twin | None:
    """Whether somebody else spoke in this host's name since this process began to. Pure.

    What stood there before is no twin: this host's last process, or its journal before it was made anew.
    """
    if said is None:
        return None
    found = [Twin(at=at, journal_id=journal) for journal, at in heard.others if at > said.first]
    if heard.before is not None:
        run, at = heard.before
        if run != run_id and at > said.last:
            found.append(Twin(at=at, journal_id=journal_id))
    return max(found, key=lambda twin: twin.at, default=None)


class FleetTelling:
    """Says how this host is, again and again, until cancelled."""

    def __init__(self, parts: FleetParts) -> None:
        self._parts = parts
        self._run_id = uuid4()
        self._started_at = parts.clock.now()
        self._said: Said | None = None
        self._twin: Twin | None = None
        self._days: tuple[float, float | None] | None = None  # asked at (monotonic), and the answer
        self._trouble = ""

    async def run(self) -> None:
        """One word now, and one every EVERY_S or so: hosts that were started together part ways."""
        while True:
            heard = await self._try()
            await asyncio.sleep((EVERY_S if heard else AGAIN_S) * random.uniform(0.8, 1.2))

    async def _try(self) -> bool:
        """Whether the word was heard."""
        try:
            await self.run_once()
        except CatalogUnavailable as exc:
            if str(exc) != self._trouble:  # what is away is told by cataloguing; a missing right only here
                log.info("the fleet is not told how this host is: %s", exc)
            self._trouble = str(exc)
        except JournalFull:
            pass
        except JournalError:
            raise  # the process must end
        except Exception:  # the item boundary: an odd word must not end the daemon
            log.exception("telling the fleet how this host is")
        else:
            self._trouble = ""
            return True
        return False

    async def run_once(self) -> None:
        """One word. Raises CatalogUnavailable."""
        word = await self.word()
        heard = await self._parts.catalog.tell_host(word)
        self._twin = twin_in(heard, word.journal_id, self._run_id, self._said) or self._twin
        self._said = Said(heard.at if self._said is None else self._said.first, heard.at)
        self._judge(heard.at)

    async def word(self) -> HostWord:
        """How this host is now."""
        parts = self._parts
        settings, now = parts.settings, parts.clock.now()
        configuration, standing = parts.configuration.now, parts.alarms.standing
        backlogs = [await parts.journal.copies.backlog(each.name) for each in parts.deliveries]
        return HostWord(
            host_id=parts.journal.host_id,
            journal_id=await self._journal_id(),
            run_id=self._run_id,
            started_at=self._started_at,
            version=__version__,
            config_version=configuration.version,
            config_hash=configuration.hash,
            config_waiting=configuration.waiting,
            mode=settings.mode,
            backend=settings.backend,
            cameras=len(await parts.journal.cameras.all(now)),
            backlog_segments=sum(each.segments for each in backlogs),
            backlog_bytes=sum(each.bytes for each in backlogs),
            copies_failed=sum(each.failed for each in backlogs),
            oldest_undelivered=min(filter(None, (each.oldest for each in backlogs)), default=None),
            disk_days_left=await self._days_left(),
            alarms=tuple(map(_told, standing[:MOST_ALARMS])),
            alarms_standing=len(standing),
        )

    async def _journal_id(self) -> str:
        end = await self._parts.journal.ledger_lines.end()
        return "" if end is None else end.chain[:DIGITS]

    async def _days_left(self) -> float | None:
        """Of the disk that is full first."""
        now = self._parts.clock.monotonic()
        if self._days is None or now >= self._days[0] + FORECAST_S:
            forecast = await self._parts.forecasting.now()
            days = min((each.days_left for each in forecast.volumes), default=math.inf)
            self._days = now, days_or_none(days)
        return self._days[1]

    def _judge(self, now: datetime) -> None:
        host_id, twin = self._parts.journal.host_id, self._twin
        if twin is not None and now - twin.at < timedelta(seconds=STALE_S):
            text = (
                f"another daemon says that it is this host, {host_id!r}, with the journal"
                f" {twin.journal_id or 'unknown'}, heard at {rfc3339(twin.at)}: their rows and objects get"
                " mixed up. Give one of them another host_id and an empty data_dir"
            )
            self._parts.alarms.sound(AlarmName.TWIN_HOST, host_id, text)
        else:
            self._twin = None
            self._parts.alarms.end(AlarmName.TWIN_HOST, host_id)


async def asked(question: Awaitable[Answer]) -> Answer:
    """The catalog's answer, for somebody who waits for it. Raises CatalogUnavailable.

    A network that swallows everything shows after a statement's limit only, when whoever asked has gone.
    """
    try:
        async with asyncio.timeout(ANSWER_S):
            return await question
    except TimeoutError as exc:
        raise CatalogUnavailable(f"the catalog did not answer in {ANSWER_S:g} s") from exc


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetHost:
    """A host as the fleet sees it."""

    known: KnownHost
    stale: bool  # it said nothing for STALE_S
    twin: bool  # another journal speaks in its name


def fleet_of(hosts: Sequence[KnownHost]) -> tuple[FleetHost, ...]:
    """Each host once, and twice where two speak in one name; journals that it had before are left out. Pure.

    `hosts` as the catalog gives them: by name, the latest first.
    """
    listed: dict[str, list[KnownHost]] = {}
    for each in hosts:
        same = listed.setdefault(each.word.host_id, [])
        if not same or each.seen_s_ago < STALE_S:
            same.append(each)
    return tuple(
        FleetHost(known=each, stale=each.seen_s_ago >= STALE_S, twin=len(same) > 1)
        for same in listed.values()
        for each in same
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Every host, as the catalog had them at one moment."""

    at: datetime
    complete: bool  # there are no more than were read
    hosts: tuple[FleetHost, ...]


class FleetReading:
    """Reads the fleet once for all who ask at the same time or within KEPT_S. A failure is not kept."""

    def __init__(self, read: Callable[[], Awaitable[Sequence[KnownHost]]], clock: Clock) -> None:
        self._read = read
        self._clock = clock
        self._latest: asyncio.Task[Fleet] | None = None  # under way, or no older than KEPT_S

    async def now(self) -> Fleet:
        """Raises CatalogUnavailable."""
        if self._latest is None:
            self._latest = asyncio.create_task(self._fleet(), name="reading the fleet")
            self._latest.add_done_callback(self._done)
        return await asyncio.shield(self._latest)  # others may wait for it when one of them has gone

    async def _fleet(self) -> Fleet:
        known = await asked(self._read())
        at = self._clock.now()
        hosts = await asyncio.to_thread(fleet_of, known)
        return Fleet(at=at, complete=len(known) < MOST_HOSTS, hosts=hosts)

    def _done(self, reading: asyncio.Task[Fleet]) -> None:
        if reading.cancelled() or reading.exception() is not None:
            self._forget()
        else:  # many hosts with many alarms: nor is memory kept for longer
            asyncio.get_running_loop().call_later(KEPT_S, self._forget)

    def _forget(self) -> None:
        self._latest = None


def _told(alarm: Alarm) -> HostAlarm:
    return HostAlarm(name=alarm.name, subject=alarm.subject, text=alarm.text, since=rfc3339(alarm.since))
