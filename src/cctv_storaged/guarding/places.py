"""All places of a host: seen at start, looked at again and again, and told about."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from cctv_storaged.alarms import AlarmName, Alarms
from cctv_storaged.clock import Clock
from cctv_storaged.errors import NotFound
from cctv_storaged.guarding.buckets import BucketPlace
from cctv_storaged.guarding.folders import FolderPlace
from cctv_storaged.guarding.identity import Mark, Standing
from cctv_storaged.guarding.place import Accepted, Keeping, Place, PlaceKind
from cctv_storaged.guarding.roots import Roots
from cctv_storaged.journal.places import KnownPlace, PlaceBook
from cctv_storaged.metrics import Metrics
from cctv_storaged.model import BackendKind

log = logging.getLogger(__name__)

AnyPlace = TypeVar("AnyPlace", bound=Place)

CHECK_S = 10.0
"""How often places are looked at; a bucket that is right once a minute."""
LONGEST_S = 8.0
"""No round waits longer for a look."""


class Places:
    """The registry. On the event loop, but for `roots` and what folders' guards do by descriptor."""

    def __init__(self, book: PlaceBook, host_id: str, clock: Clock, alarms: Alarms, metrics: Metrics) -> None:
        self._book = book
        self._host_id = host_id
        self._clock = clock
        self._alarms = alarms
        self._metrics = metrics
        self._places: dict[tuple[str, str], Place] = {}
        self._known: dict[tuple[str, str], str] = {}
        self._delivered: frozenset[str] = frozenset()  # the backends at which segments were at the start
        self._keeping = Keeping(
            new_mark=self._new_mark, note=self._note, accept=self._accept, name_of=self._whose
        )
        self.roots = Roots(self._identity_of_root, self._whose)
        """For whoever is about to believe or remove something under a recorder root."""
        self.on_accepted: Callable[[Place], Awaitable[None]] | None = None
        """Called for a place that was accepted."""

    async def load(self) -> None:
        """What the journal knows; before places are named."""
        for place in await self._book.all():
            self._known[place.kind, place.location] = place.identity
        self._delivered = await self._book.delivered()

    @property
    def delivered(self) -> frozenset[str]:
        """The backends at which segments were at the start, by the journal's counters."""
        return self._delivered

    # Naming

    def was_store(self, path: str) -> bool:
        """Whether the journal knows this folder as the store named FILESYSTEM."""
        return (PlaceKind.STORE, path) in self._known

    def root(self, path: str, *, marked: bool = True) -> FolderPlace:
        """A recorder root; not `marked`: other people's folder, known by its file system alone."""
        return self._folder(PlaceKind.ROOT, path, marked=marked)

    def store(self, path: str) -> FolderPlace:
        """The folder of the store named FILESYSTEM."""
        return self._folder(PlaceKind.STORE, path)

    def bucket(self, kind: PlaceKind, backend: str, bucket: str, prefix: str) -> BucketPlace:
        """A bucket, with what comes before our keys; the same one for whatever is kept in it."""
        location = f"{backend}:{bucket}/{prefix}".rstrip("/")
        for each in self._places.values():
            if isinstance(each, BucketPlace) and each.location == location:
                return each
        return self._named(BucketPlace(kind, location, self._keeping, prefix))

    def _folder(self, kind: PlaceKind, path: str, *, marked: bool = True) -> FolderPlace:
        found = self._places.get((kind, path))
        if isinstance(found, FolderPlace):
            return found
        return self._named(FolderPlace(kind, path, self._keeping, marked=marked))

    def _named(self, place: AnyPlace) -> AnyPlace:
        place.known = self._known.get((place.kind, place.location)) or self._identity_of_former(place)
        self._places[place.kind, place.location] = place
        return place

    def _identity_of_former(self, place: Place) -> str | None:
        """A store that is named elsewhere than where segments were put has to be that one, moved: of another
        one a deletion would be believed, and all that was delivered be taken for lost.
        """
        if _backend_of(place.location) not in self._delivered:
            return None
        return next((self._known[PlaceKind.STORE, each] for each in self._former(place)), None)

    def _former(self, place: Place) -> list[str]:
        """Where else the journal knows the store of this backend. Another prefix is no other store."""
        if place.kind is not PlaceKind.STORE:
            return []
        stores = [location for kind, location in self._known if kind == PlaceKind.STORE]
        mine, its_bucket = _backend_of(place.location), _bucket_of(place.location)
        return [each for each in stores if _backend_of(each) == mine and _bucket_of(each) != its_bucket]

    # Looking

    async def check(self) -> None:
        """One round; whatever hangs is left to itself. Folders are all looked at, buckets when it is time."""
        due = [place for place in self._places.values() if not isinstance(place, BucketPlace) or place.due()]
        await asyncio.gather(*map(_looked_at, due))
        self._tell()

    def trouble(self) -> str | None:
        """Why nothing may be deleted or taken for missing by a rule now; None: all places are right.

        A former store has no say: what lies there is kept until it is right, by its own guard.
        """
        places = (place for place in self._places.values() if not place.former)
        return next(filter(None, (place.trouble for place in places)), None)

    def doubt(self, root: str) -> str | None:
        """Why what lies under a root says nothing, by the last look; `roots` looks anew, and blocks."""
        place = self._places.get((PlaceKind.ROOT, root))
        return None if place is None else place.trouble

    def all(self) -> tuple[Place, ...]:
        """Every place that the settings name."""
        return tuple(self._places.values())

    async def accept(self, kind: str, location: str) -> Accepted:
        """An operator says that what is there now is right. Raises NotFound, Conflict, JournalFull."""
        place = self._places.get((kind, location))
        if place is None:
            raise NotFound(f"there is no {kind} at {location!r}; GET /places lists them")
        accepted = await place.accept()
        self._tell()
        if self.on_accepted is not None:
            await self.on_accepted(place)
        return accepted

    def _tell(self) -> None:
        for place in self._places.values():
            if place.standing is Standing.UNSEEN:
                continue
            right = place.standing is Standing.RIGHT
            self._metrics.place_ok.labels(place.kind, place.location).set(1 if right else 0)
            if place.trouble is not None:
                self._alarms.sound(AlarmName.WRONG_DISK, place.location, place.trouble)
        sounding = frozenset(place.location for place in self._places.values() if place.trouble is not None)
        self._alarms.keep_only(AlarmName.WRONG_DISK, sounding)

    # What places ask

    def _identity_of_root(self, root: str) -> str | None:
        """From any thread. Of a root that the settings no longer name the journal's word counts."""
        place = self._places.get((PlaceKind.ROOT, root))
        return self._known.get((PlaceKind.ROOT, root)) if place is None else place.known

    def _new_mark(self) -> Mark:
        return Mark.new(self._host_id, self._clock.now())

    async def _note(self, place: Place, identity: str) -> None:
        await self._book.note(_known(place, identity), self._former(place), self._clock.now())
        log.info("%s %s is known by the identity %s from now on", place.kind, place.location, identity)

    async def _accept(self, place: Place, identity: str, before: str | None) -> None:
        await self._book.accept(_known(place, identity), self._former(place), before, self._clock.now())
        log.warning("%s %s was accepted with the identity %s", place.kind, place.location, identity)

    def _whose(self, identity: str) -> str | None:
        """From any thread."""
        return next((each.location for each in self.all() if each.known == identity), None)


def _backend_of(location: str) -> str:
    """The backend of a store by its location: a folder, or `{backend}:{bucket}/{prefix}`."""
    return BackendKind.FILESYSTEM if location.startswith("/") else location.partition(":")[0]


def _bucket_of(location: str) -> str:
    return location if location.startswith("/") else location.partition("/")[0]


async def _looked_at(place: Place) -> None:
    """A store that hangs is left to itself: the disks are told of in time."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LONGEST_S):
            await place.check(time.monotonic())


def _known(place: Place, identity: str) -> KnownPlace:
    return KnownPlace(kind=place.kind, location=place.location, identity=identity)
