"""Who saw footage, who changed what, and who was turned away: lines of the ledger, and not one for each byte.

A player fetches a day in 8640 segments and a page asks for pictures again and again. A line tells that one
token, from one address, saw one camera in one way, by hours of footage; of the same within the hour only the
hours that were not told.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from uuid import UUID
from weakref import WeakValueDictionary

from cctv_storaged.addresses import client_of
from cctv_storaged.auditing.lately import Lately, Quota
from cctv_storaged.clock import Clock
from cctv_storaged.journal.ledgeraudit import CHANGED, NOBODY_ID, READ, REFUSED, AuditLines, Told
from cctv_storaged.model import TimeSpan

STRETCH = timedelta(hours=1)
EVER = TimeSpan(datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
TELL_S = 5.0
"""Who looks at footage waits for the line so long: then the log tells it, and the journal when it can."""
MOST_LOOKS = 3_000
"""Lines of looks of one token in an hour; a wall of a thousand cameras and its players have fewer."""
MOST_REFUSALS = 60
"""Lines of refusals in an hour, of each token and of all who have none: no guesser is to fill the ledger."""
MORE = "more"
NO_MORE_LOOKS = f"{MOST_LOOKS} lines of this token within the hour: for the rest of it one for each camera"
NO_MORE_REFUSALS = f"{MOST_REFUSALS} lines within the hour: further refusals are not told in it"
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

    @property
    def client(self) -> str:
        """Whom the address stands for: of an IPv6 network anybody may take any."""
        return client_of(self.address)

    def facts(self) -> dict[str, str | None]:
        """As a line's detail tells it."""
        told = {"by": self.token, "from": self.address, "request": self.request_id}
        if self.token_id is not None:
            told["token"] = str(self.token_id)
        if self.certificate is not None:
            told["certificate"] = self.certificate
        return told


class Trail:
    """Tells. On the event loop only. Raises JournalFull, and TimeoutError where the journal takes too long:
    the line follows then, if it can.
    """

    def __init__(self, lines: AuditLines, clock: Clock) -> None:
        self._lines = lines
        self._clock = clock
        self._lately = Lately(clock.monotonic)
        self._looks = Quota(MOST_LOOKS, clock.monotonic)
        self._refusals = Quota(MOST_REFUSALS, clock.monotonic)
        self._telling: WeakValueDictionary[tuple[object, ...], asyncio.Lock] = WeakValueDictionary()

    async def seen(self, what: Seen, camera_id: UUID, span: TimeSpan, by: Caller) -> bool:
        """Before the first byte goes out; whether a line was written. Of the stretch only what was not told
        yet. Who uses up their lines is told once a camera from then on: noise hides no camera.
        """
        stretch, facts = stretch_of(span), {"what": str(what)}
        line = Told(cause=READ, subject=NOBODY_ID, camera_id=camera_id, span=stretch, detail="")
        if self._looks.left(by.token_id) > 0:
            return await self._tell_once((what, camera_id, by.token_id, by.client), line, by, facts, stretch)
        key = (MORE, camera_id, by.token_id)
        return await self._tell_once(key, line, by, {**facts, "more": NO_MORE_LOOKS})

    async def changed(
        self, what: str, subject: UUID | None, camera_id: UUID | None, by: Caller, *, once: bool = False
    ) -> None:
        """A change that was made; `once`: the same within the hour is not told again."""
        line = replace(self._of_now(CHANGED), subject=subject or NOBODY_ID, camera_id=camera_id or NOBODY_ID)
        if once:
            await self._tell_once((what, camera_id, by.token_id, by.client), line, by, {"what": what})
            return
        async with asyncio.timeout(TELL_S):
            await self._write(line, by, {"what": what})

    async def refused(self, why: str, what: str, by: Caller, camera_id: UUID | None = None) -> None:
        """Somebody without the right to it; of one address once an hour, and not without end. Strangers
        have lines of their own: theirs hide nobody who has a token.
        """
        left = self._refusals.left(by.token_id)
        if left <= 0:
            return
        facts = {"what": what, "why": why[:LONGEST]}
        if camera_id is not None:
            facts["camera"] = str(camera_id)
        if left == 1:
            facts["more"] = NO_MORE_REFUSALS
        key = (REFUSED, why, by.token_id, by.client)
        await self._tell_once(key, self._of_now(REFUSED), by, facts)

    def _of_now(self, cause: str) -> Told:
        now = self._clock.now()
        moment = TimeSpan(now, now + timedelta(microseconds=1))
        return Told(cause=cause, subject=NOBODY_ID, camera_id=NOBODY_ID, span=moment, detail="")

    async def _tell_once(
        self,
        key: tuple[object, ...],
        line: Told,
        by: Caller,
        facts: Mapping[str, str | None],
        stretch: TimeSpan | None = None,
    ) -> bool:
        """`stretch`: what of it was told before is left out. Who was told of waits for nobody's line."""
        whole = stretch or EVER
        if self._lately.untold(key, whole) is None:
            return False
        try:
            async with asyncio.timeout(TELL_S):
                telling = self._telling.setdefault(key, asyncio.Lock())
                async with telling:  # a player asks for many segments side by side
                    untold = self._lately.untold(key, whole)
                    if untold is None:
                        return False
                    await self._write(line if stretch is None else replace(line, span=untold), by, facts)
                    self._note(key, line, by, untold)
        except TimeoutError:  # the line waits in the journal's queue: one more would not come sooner
            self._note(key, line, by, whole)
            raise
        return True

    def _note(self, key: tuple[object, ...], line: Told, by: Caller, told: TimeSpan) -> None:
        self._lately.add(key, told)
        (self._refusals if line.cause == REFUSED else self._looks).spend(by.token_id)

    async def _write(self, line: Told, by: Caller, facts: Mapping[str, str | None]) -> None:
        detail = json.dumps({**facts, **by.facts()})
        await self._lines.tell(replace(line, detail=detail), self._clock.now())


def stretch_of(span: TimeSpan) -> TimeSpan:
    """The whole hours that a span touches."""
    start = _hour(span.start)
    end = _hour(span.end)
    if end < span.end:
        end = end + STRETCH if end <= datetime.max.replace(tzinfo=end.tzinfo) - STRETCH else span.end
    return TimeSpan(start, end)


def _hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)
