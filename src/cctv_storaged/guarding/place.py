"""One place: what the journal knows of it, what was found there last, and whether it may be used."""

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum

from cctv_storaged.errors import BackendUnavailable, Conflict, JournalFull, NotLookedAt, WrongPlace
from cctv_storaged.guarding.identity import Mark, Standing, judged

log = logging.getLogger(__name__)


MOST_ENTRIES = 999
"""No more is counted of what lies in a place."""


class PlaceKind(StrEnum):
    """What a place is for."""

    ROOT = "root"
    STORE = "store"
    EXPORTS = "exports"
    THUMBNAILS = "thumbnails"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a look at a place found."""

    mark: str | None = None  # the identity by its mark
    own: str | None = None  # by its file system, where that was asked
    absent: bool = False  # the folder or bucket itself is not there
    trouble: BackendUnavailable | None = None  # it could not be looked at
    silent: bool = False  # the look has not come back yet

    @property
    def there(self) -> bool:
        return self.trouble is None and not self.absent and not self.silent


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A place that an operator's word made right."""

    place: "Place"
    before: str | None  # the identity by the journal until then
    carried: str | None  # the one that was found there; None: it got one now
    entries: int | None  # what lies there besides the mark, counted up to MOST_ENTRIES; None: not counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """What a place keeps its identity by."""

    new_mark: Callable[[], Mark]
    note: Callable[["Place", str], Awaitable[None]]  # a first sight, into the journal
    accept: Callable[["Place", str, str | None], Awaitable[None]]  # an operator's word, and what was known
    name_of: Callable[[str], str | None]  # whose identity that is, if it is another place's


class Place(ABC):
    """A recorder root, or a folder or bucket of a store."""

    def __init__(self, kind: PlaceKind, location: str, keeping: Keeping) -> None:
        self.kind = kind
        self.location = location
        self.known: str | None = None
        """The identity by the journal; read by other threads."""
        self.former = False
        """A store that nothing is put to any more: being wrong, it keeps nothing elsewhere from going."""
        self.standing = Standing.UNSEEN
        self.found: str | None = None
        """The identity that was found last."""
        self._failure: BackendUnavailable | None = None
        self._keeping = keeping
        self._looking = asyncio.Lock()
        self._looks: set[asyncio.Future[Standing]] = set()
        self._begun_at = float("-inf")

    @property
    def trouble(self) -> str | None:
        """What is wrong with it and what to do; None while it may be used, for all that was seen."""
        match self.standing:
            case Standing.RIGHT | Standing.UNSEEN:
                return None
            case Standing.MISSING:
                return f"{self.location} has no identity any more: {self._remedy()}"
            case Standing.OTHER:
                whose = self._keeping.name_of(self.found or "")
                other = f"the identity of {whose}" if whose else "another identity than the journal knows"
                return f"{self.location} has {other}: {self._remedy()}"
            case Standing.SILENT:
                return f"{self.location} does not answer; nobody can tell whether it is the right disk"
            case Standing.AWAY:
                return self._told_away()

    def require_right(self) -> None:
        """Raises BackendUnavailable unless it was right when it was looked at last."""
        if self.standing is Standing.AWAY and self._failure is not None:
            raise self._failure.with_traceback(None)
        if self.standing is not Standing.RIGHT:
            raise self.wrong(self.standing)

    def wrong(self, standing: Standing) -> WrongPlace:
        """The error of whoever wants to use it."""
        if standing is Standing.UNSEEN:
            return NotLookedAt(f"{self.location}: not looked at yet; nothing is done there before")
        return WrongPlace(f"{self.location}: {standing}; {self._remedy()}")

    async def require(self, since: float | None = None) -> None:
        """Raises BackendUnavailable unless it may be used, by a look that began at `since` or later."""
        if self._begun_at < (self._stale_before() if since is None else since):
            await self.check(since)
        self.require_right()

    async def check(self, since: float | None = None) -> Standing:
        """Looks, takes over or lays down an identity at first sight, and says how it stands.

        With `since`: a look that began then or later, by somebody else, will do. Whoever is cancelled leaves
        at once: the look goes on for the others, however long a store hangs.
        """
        look = asyncio.ensure_future(self._check(since))
        self._looks.add(look)
        look.add_done_callback(self._looks.discard)
        return await asyncio.shield(look)

    async def _check(self, since: float | None) -> Standing:
        async with self._looking:
            if since is not None and self._begun_at >= since:
                return self.standing
            self._begun_at = time.monotonic()
            seen = await self._seen()
            if self.known is None and seen.there:
                await self._first_sight(seen)
            else:
                self._stand(seen)
            return self.standing

    async def accept(self) -> Accepted:
        """What is there now is right from now on; it is given an identity where it has none.

        Raises Conflict where it cannot be looked at, JournalFull.
        """
        async with self._looking:
            self._begun_at = time.monotonic()
            seen = await self._seen()
            if not seen.there:
                self._stand(seen)
                raise Conflict(f"{self.location} cannot be accepted: it is not there, or does not answer")
            before, identity = self.known, seen.mark or await self._laid_or_own()
            if identity != before:
                await self._keeping.accept(self, identity, before)
            self._is(identity)
            return Accepted(place=self, before=before, carried=seen.mark, entries=await self._entries())

    # What a sort of place knows

    @abstractmethod
    async def _seen(self) -> Seen:
        """Looks."""

    @abstractmethod
    async def _laid(self, mark: Mark) -> str:
        """Lays a mark down; the identity there now. Raises OSError, BackendUnavailable."""

    @abstractmethod
    async def _own(self) -> str | None:
        """The identity without a mark, where there is such a thing."""

    @abstractmethod
    async def _entries(self) -> int | None:
        """How much lies there besides the mark, up to MOST_ENTRIES; None where nobody can tell."""

    @abstractmethod
    def _stale_before(self) -> float:
        """A look that began before this (monotonic) does not count any more."""

    @abstractmethod
    def _told_away(self) -> str | None:
        """What is wrong where it cannot be looked at; None where others tell that."""

    # Judging

    async def _first_sight(self, seen: Seen) -> None:
        try:
            identity = seen.mark or await self._laid_or_own()
        except BackendUnavailable as exc:
            self._stand(Seen(trouble=exc))
            return
        try:
            await self._keeping.note(self, identity)
        except JournalFull:
            log.warning("%s is not noted yet: the journal's disk is full", self.location)
        self._is(identity)

    async def _laid_or_own(self) -> str:
        try:
            return await self._laid(self._keeping.new_mark())
        except OSError as exc:
            own = await self._own()
            if own is None:
                raise BackendUnavailable(f"{self.location}: {exc}", reason="server") from exc
            log.warning(
                "no identity can be laid down in %s (%s): its file system's own, a weaker one, counts: %s",
                self.location,
                exc.strerror or exc,
                own,
            )
            return own

    def _is(self, identity: str) -> None:
        self.known = self.found = identity
        self._failure, self.standing = None, Standing.RIGHT

    def _stand(self, seen: Seen) -> None:
        self.found, self._failure = seen.mark or seen.own, seen.trouble
        if seen.silent:
            self.standing = Standing.SILENT
        elif self.known is not None and seen.absent:
            self.standing = Standing.MISSING
        elif self.known is None or not seen.there:
            self.standing = Standing.AWAY
        else:
            self.standing = judged(self.known, seen.mark, seen.own)

    def _remedy(self) -> str:
        return (
            "nothing is written, deleted or taken for missing there. Mount or name the right one, or say "
            f"that this one is right from now on: cctv-storaged places accept {self.location}"
        )
