"""Which XProtect camera is ours: by the settings' `milestone.camera_map`, else by the very same name. Pure.

A wrong counterpart would have another camera's recordings prove ours, and our source would go for it. So a
name counts only where somebody gave it: a camera that the settings list under `cameras`, whose name is borne
by exactly one camera on either side. A folder that became a camera by itself needs an entry of its own.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self
from uuid import UUID

from cctv_storaged.backends.milestone.base import VmsCamera
from cctv_storaged.model import Camera

BY_NAME = "name:"


@dataclass(frozen=True, slots=True, kw_only=True)
class MapRules:
    """What the settings say of cameras and their counterparts."""

    entries: Mapping[str, str]  # our camera (id, folder or name) → GUID, or `name:` and a display name
    required: bool  # new segments must be held by XProtect: a camera without a counterpart is an alarm
    records: bool  # XProtect is to record by itself
    retrieves: bool  # XProtect is to fetch from its device


@dataclass(frozen=True, slots=True, kw_only=True)
class Counterpart:
    """One of our cameras and what became of looking for it in XProtect."""

    camera: Camera  # ours
    device: VmsCamera | None
    why_not: str | None  # None: it has one
    trouble: str | None = None  # it has one that will not do what is asked of it


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """A line of the map and where it was found."""

    key: str
    value: str


class Directory:
    """XProtect's cameras, to be looked up."""

    def __init__(self, theirs: Sequence[VmsCamera]) -> None:
        self._by_id = {each.id: each for each in theirs}
        self._by_name: dict[str, list[VmsCamera]] = defaultdict(list)
        for each in theirs:
            self._by_name[each.name.strip()].append(each)

    def with_id(self, device_id: UUID) -> VmsCamera | None:
        """The camera of a GUID."""
        return self._by_id.get(device_id)

    def named(self, name: str) -> Sequence[VmsCamera]:
        """Every camera of just this name; XProtect lets many have it."""
        return self._by_name.get(name.strip(), ())


class Names:
    """Our own names: which of them stands for one camera only."""

    def __init__(self, ours: Iterable[Camera]) -> None:
        self._by_name: dict[str, set[UUID]] = defaultdict(set)
        for each in ours:
            self._by_name[each.name.strip()].add(each.id)

    def unique(self, camera: Camera) -> bool:
        """Whether no other camera of this host has the same name."""
        return not self._by_name.get(camera.name.strip(), set()) - {camera.id}


@dataclass(frozen=True, slots=True, kw_only=True)
class Matching:
    """All that a counterpart is looked for with."""

    rules: MapRules
    directory: Directory
    names: Names
    listed: frozenset[UUID]  # cameras that the settings list: somebody gave them their name

    @classmethod
    def of(
        cls, rules: MapRules, theirs: Sequence[VmsCamera], ours: Iterable[Camera], listed: Iterable[UUID]
    ) -> Self:
        return cls(rules=rules, directory=Directory(theirs), names=Names(ours), listed=frozenset(listed))

    def counterpart(self, camera: Camera) -> Counterpart:
        """Its counterpart, or why it has none."""
        entry = self._entry_of(camera)
        found = self._by_own_name(camera) if entry is None else self._by_entry(entry)
        if isinstance(found, str):
            return Counterpart(camera=camera, device=None, why_not=found)
        return Counterpart(camera=camera, device=found, why_not=None, trouble=_trouble(found, self.rules))

    def entry_keys(self, camera: Camera) -> tuple[str, ...]:
        """What a line of the map may call the camera, in the order in which they are tried."""
        by_name = (camera.name,) if self.names.unique(camera) else ()
        return (str(camera.id), camera.folder, *by_name)

    def _entry_of(self, camera: Camera) -> _Entry | None:
        entries = self.rules.entries
        for key in self.entry_keys(camera):
            if key in entries:
                return _Entry(key=key, value=entries[key])
        return None

    def _by_entry(self, entry: _Entry) -> VmsCamera | str:
        where = f"milestone.camera_map[{entry.key!r}]"
        if not entry.value.startswith(BY_NAME):
            found = self.directory.with_id(UUID(entry.value))
            hint = "it was deleted there, or the basic user may not see it: correct the entry or its rights"
            return found or f"XProtect has no camera {entry.value}, which {where} names ({hint})"
        name = entry.value.removeprefix(BY_NAME).strip()
        of_name = self.directory.named(name)
        if len(of_name) == 1:
            return of_name[0]
        if of_name:
            return f"{_several(name, of_name)}, which {where} names: give one GUID"
        hint = "the name is the display name, to the letter; the basic user must be allowed to see the camera"
        return f"XProtect has no camera named {name!r}, which {where} names ({hint})"

    def _by_own_name(self, camera: Camera) -> VmsCamera | str:
        add = f"add milestone.camera_map[{camera.folder!r}] with its GUID, or name: and its display name"
        if camera.id not in self.listed:
            return f"it has no counterpart in XProtect: {add}"
        of_name = self.directory.named(camera.name)
        if len(of_name) == 1 and self.names.unique(camera):
            return of_name[0]
        if len(of_name) > 1:
            return f"{_several(camera.name, of_name)}: {add}"
        if of_name:
            return f"several cameras of this host are named {camera.name!r}, as one in XProtect is: {add}"
        return f"XProtect has no camera named {camera.name!r}: {add}"


def nobodys_entries(matching: Matching, ours: Iterable[Camera]) -> list[str]:
    """Lines of the map that are for no camera of this host: for one to come, or misspelt."""
    known = {key for camera in ours for key in matching.entry_keys(camera)}
    return sorted(matching.rules.entries.keys() - known)


def shared(counterparts: Iterable[Counterpart]) -> dict[UUID, list[Camera]]:
    """XProtect cameras that stand for more than one of ours: two streams of one camera, or a slip."""
    by_device: dict[UUID, list[Camera]] = defaultdict(list)
    for each in counterparts:
        if each.device is not None:
            by_device[each.device.id].append(each.camera)
    return {device: cameras for device, cameras in by_device.items() if len(cameras) > 1}


def _several(name: str, found: Sequence[VmsCamera]) -> str:
    ids = ", ".join(str(each.id) for each in found[:3])
    return f"XProtect has {len(found)} cameras named {name!r} ({ids}{', …' if len(found) > 3 else ''})"


def _trouble(device: VmsCamera, rules: MapRules) -> str | None:
    if not device.enabled:
        return "it is disabled in XProtect: enable it in the Management Client"
    if rules.records and not device.recording_enabled:
        return "XProtect does not record it: switch on recording in the Management Client"
    if rules.retrieves and not device.edge_storage_enabled:
        return "remote recording is off in XProtect, which retrieving its footage needs: switch it on"
    return None
