"""The disks under recorder roots, store and data_dir, as statvfs(2) tells them. Looks only."""

import asyncio
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from cctv_storaged.guarding.folders import in_its_own_thread

PATIENCE_S = 5.0


class Use(StrEnum):
    """What a folder is to us."""

    ROOT = "root"
    STORE = "store"
    DATA = "data"


@dataclass(frozen=True, slots=True)
class Place:
    """A folder whose disk matters."""

    use: Use
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """One look at a folder's disk."""

    device: int
    total_bytes: int  # for users: without what the file system keeps back for root
    free_bytes: int
    read_only: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """One disk and the folders of ours that share it."""

    facts: Facts
    places: tuple[Place, ...]

    @property
    def name(self) -> str:
        """For people: the first of its folders."""
        return self.places[0].path

    @property
    def roots(self) -> frozenset[str]:
        """Recorder roots on it."""
        return frozenset(place.path for place in self.places if place.use is Use.ROOT)

    def holds(self, use: Use) -> bool:
        return any(place.use is use for place in self.places)


Looker = Callable[[str], Facts]


def facts_of(path: str) -> Facts:
    """Blocking. Raises OSError where the folder is away."""
    disk = os.statvfs(path)
    used = disk.f_blocks - disk.f_bfree
    return Facts(
        device=os.stat(path).st_dev,
        total_bytes=(used + disk.f_bavail) * disk.f_frsize,
        free_bytes=disk.f_bavail * disk.f_frsize,
        read_only=bool(disk.f_flag & os.ST_RDONLY),
    )


class Looks:
    """Looks at folders in threads; one that hangs (a dead network mount) is waited for by nobody."""

    def __init__(self, look: Looker = facts_of) -> None:
        self._look = look
        self._asked: dict[str, asyncio.Future[Facts]] = {}

    async def at(self, places: Sequence[Place]) -> tuple[Volume, ...]:
        """The disks under them; folders that are away or do not answer in PATIENCE_S are left out."""
        asked = {place.path: self._ask(place.path) for place in places}
        await asyncio.wait(asked.values(), timeout=PATIENCE_S)
        found = {
            path: answer.result()
            for path, answer in asked.items()
            if answer.done() and answer.exception() is None
        }
        return volumes_of([(place, found[place.path]) for place in places if place.path in found])

    def _ask(self, path: str) -> asyncio.Future[Facts]:
        """The question that is under way, else a new one."""
        if path not in self._asked or self._asked[path].done():
            self._asked[path] = in_its_own_thread(partial(self._look, path))
        return self._asked[path]


def volumes_of(looked_at: Iterable[tuple[Place, Facts]]) -> tuple[Volume, ...]:
    """By device, in the order of their first folders. Pure."""
    found: dict[int, tuple[Facts, list[Place]]] = {}
    for place, facts in looked_at:
        found.setdefault(facts.device, (facts, []))[1].append(place)
    return tuple(Volume(facts=facts, places=tuple(on_it)) for facts, on_it in found.values())


def places_of(roots: Sequence[str], store: str | None, data_dir: str) -> tuple[Place, ...]:
    """Every folder of ours whose disk may fill up."""
    in_store = () if store is None else (Place(Use.STORE, store),)
    return (*(Place(Use.ROOT, root) for root in roots), *in_store, Place(Use.DATA, data_dir))
