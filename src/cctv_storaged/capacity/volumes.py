"""The disks under recorder roots, store and data_dir, as statvfs(2) tells them. Looks only; blocking."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum


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
    """Raises OSError where the folder is away."""
    disk = os.statvfs(path)
    used = disk.f_blocks - disk.f_bfree
    return Facts(
        device=os.stat(path).st_dev,
        total_bytes=(used + disk.f_bavail) * disk.f_frsize,
        free_bytes=disk.f_bavail * disk.f_frsize,
        read_only=bool(disk.f_flag & os.ST_RDONLY),
    )


def volumes_of(places: Iterable[Place], look: Looker = facts_of) -> tuple[Volume, ...]:
    """By device, in the order of their first folders; folders that are away are left out."""
    found: dict[int, tuple[Facts, list[Place]]] = {}
    for place in places:
        try:
            facts = look(place.path)
        except OSError:
            continue
        found.setdefault(facts.device, (facts, []))[1].append(place)
    return tuple(Volume(facts=facts, places=tuple(on_it)) for facts, on_it in found.values())


def places_of(roots: Sequence[str], store: str | None, data_dir: str) -> tuple[Place, ...]:
    """Every folder of ours whose disk may fill up."""
    in_store = () if store is None else (Place(Use.STORE, store),)
    return (*(Place(Use.ROOT, root) for root in roots), *in_store, Place(Use.DATA, data_dir))
