"""Who saw footage, who changed what, and who was turned away: lines of the ledger, and not one for each byte.

A player fetches a day in 8640 segments and a page asks for pictures again and again. A line tells that one
token, from one address, saw one camera in one way, by hours of footage; the same again is told once an hour.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from cctv_storaged.clock import Clock
from cctv_storaged.journal.ledgeraudit import CHANGED, NOBODY_ID, READ, REFUSED, AuditLines, Told
from cctv_storaged.model import TimeSpan

SAME_S = 3600.0
MOST_REMEMBERED = 10_000
STRETCH = timedelta(hours=1)
MOST_REFUSALS = 60
"""Lines of refusals in an hour: a guesser from many addresses is not to fill the ledger."""
LONGEST = 200


class Seen(StrEnum):
    """In which way footage was looked at."""

    CONTENT = "content"
    CLIP = "clip"
    PLAYLIST = "playlist"
    PICTURE = "picture"
    STORYBOARD = "storyboard"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks: the token (None: the API is open), its address, and the request."""

    token_id: UUID | None
    token: str | None
    address: str | None
    request_id: str
    certificate: str | None = None  # whose it is, where clients show one

    def facts(self) -> dict[str, str | None]:
        """As a line's detail tells it."""
        told = {"by": self.token, "from": self.address, "request": self.request_id}
        if self.token_id is not None:
            told["token"] = str(self.token_id)
        if self.certificate is not None:
            told["certificate"] = self.certificate
        return told


class Trail:
    """Tells. On the event loop only. Raises JournalFull."""

    def __init__(self, lines: AuditLines, clock: Clock) -> None:
        self._lines = lines
        self._clock = clock
        self._told: dict[tuple[object, ...], float] = {}
        self._telling = asyncio.Lock()

    async def seen(self, what: Seen, camera_id: UUID, span: TimeSpan, by: Caller) -> bool:
        """Before the first byte goes out; whether a line was written."""
        stretch = stretch_of(span)
        key = (what, camera_id, stretch, by.token_id, by.address)
        told = Told(cause=READ, subject=NOBODY_ID, camera_id=camera_id, span=stretch, detail="")
        return await self._tell_once(key, told, by, {"what": str(what)})

    async def changed(
        self, what: str, subject: UUID | None, camera_id: UUID | None, by: Caller, *, once: bool = False
    ) -> None:
        """A change that was made; `once`: the same within the hour is not told again."""
        now = self._clock.now()
        told = Told(
            cause=CHANGED,
            subject=subject or NOBODY_ID,
            camera_id=camera_id or NOBODY_ID,
            span=TimeSpan(now, now + timedelta(microseconds=1)),
            detail="",
        )
        if once:
            await self._tell_once((what, camera_id, by.token_id, by.address), told, by, {"what": what})
        else:
            await self._write(told, by, {"what": what})

    async def refused(self, why: str, what: str, by: Caller) -> None:
        """Somebody without the right to it; of one address once an hour, and not without end."""
        now_s = self._clock.monotonic()
        recent = sum(key[0] == REFUSED and now_s - at < SAME_S for key, at in self._told.items())
        if recent >= MOST_REFUSALS:
            return
        now = self._clock.now()
        moment = TimeSpan(now, now + timedelta(microseconds=1))
        told = Told(cause=REFUSED, subject=NOBODY_ID, camera_id=NOBODY_ID, span=moment, detail="")
        key = (REFUSED, why, by.token_id, by.address)
        await self._tell_once(key, told, by, {"what": what, "why": why[:LONGEST]})

    async def _tell_once(
        self, key: tuple[object, ...], told: Told, by: Caller, facts: Mapping[str, str | None]
    ) -> bool:
        async with self._telling:  # a player asks for many segments side by side
            now_s = self._clock.monotonic()
            if now_s - self._told.get(key, -SAME_S) < SAME_S:
                return False
            await self._write(told, by, facts)
            self._told.pop(key, None)
            self._told[key] = now_s
            while len(self._told) > MOST_REMEMBERED:
                del self._told[next(iter(self._told))]  # told again, which is no harm
            return True

    async def _write(self, told: Told, by: Caller, facts: Mapping[str, str | None]) -> None:
        detail = json.dumps({**facts, **by.facts()})
        await self._lines.tell(replace(told, detail=detail), self._clock.now())


def stretch_of(span: TimeSpan) -> TimeSpan:
    """The whole hours that a span touches."""
    start = _hour(span.start)
    end = _hour(span.end)
    if end < span.end:
        end = end + STRETCH if end <= datetime.max.replace(tzinfo=end.tzinfo) - STRETCH else span.end
    return TimeSpan(start, end)


def _hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)
