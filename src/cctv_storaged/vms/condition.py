"""How it stands with an XProtect site, graded: OK, DEGRADED (it records, and something else fails) or DOWN.

From the outside in: address, log-in and version; cameras; recorders, by a log-in to the ImageServer of one
camera each; storages; clocks; how far XProtect's recordings are behind ours. Asks the site and nobody else,
so that the daemon and `doctor` may both use it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import IntEnum
from uuid import UUID

from cctv_storaged.backends.milestone.base import Site, Vms, VmsCamera, VmsStorage
from cctv_storaged.config import Milestone
from cctv_storaged.errors import BackendError, BackendUnavailable
from cctv_storaged.model import TimeSpan
from cctv_storaged.vms.counterparts import Counterpart
from cctv_storaged.vms.standing import most_skew

GATEWAY = (22, 1)
"""The first release with the API gateway."""
MARKS = (24, 2)
"""The first one with bookmarks and evidence locks in REST."""
RETRIEVAL = (25, 2)
"""The one from which on the vendor shows retrieval by a REST task."""
OF_CAMERA = "camera "
"""How the names of parts about one camera begin."""
SHORTEST_LOOK = timedelta(minutes=10)
REMEDIES = {  # by BackendUnavailable.reason
    "network": "is milestone.url right, the management server running, and no firewall between?",
    "auth": "is the basic user's password right, and does it have the rights that the guide lists?",
    "tls": "give milestone.ca_file the certificate's authority, or name the server as its certificate does",
    "clock": "set both clocks by NTP",
    "server": "is milestone.url the management server's? If it is: look at the API Gateway's log there",
    "throttled": "it is busy: it is asked again",
}
RECORDER_TLS_REMEDY = (
    "give milestone.recorder_ca_file (else ca_file) the certificate's authority, and "
    "milestone.recorder_server_name where it bears another name"
)
RECORDER_REMEDY = (
    "port 7563 of the recorder must be reached by the name it tells (else milestone.recorder_host_override), "
    "and the basic user may play back"
)


class Grade(IntEnum):
    """The worst counts."""

    OK = 0
    DEGRADED = 1  # coverage can be proven; reading, marking or one camera fails
    DOWN = 2  # coverage cannot be proven


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionPart:
    """One thing looked at."""

    name: str
    grade: Grade = Grade.OK
    trouble: str | None = None  # None: it is well
    remedy: str = ""  # never empty with trouble
    note: str | None = None  # what somebody may want to know of it

    @property
    def of_camera(self) -> bool:
        """Whether it is about one camera and its counterpart."""
        return self.name.startswith(OF_CAMERA)

    def told(self) -> str | None:
        """Trouble and remedy for people; None: it is well."""
        return None if self.trouble is None else f"{self.trouble} ({self.remedy})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """All of it, as of one look."""

    at: datetime
    parts: tuple[ConditionPart, ...]
    site: Site | None = None  # None: it did not answer
    lags: Mapping[UUID, timedelta] = field(default_factory=dict)  # by our camera: how far behind ours

    @property
    def grade(self) -> Grade:
        return max((part.grade for part in self.parts), default=Grade.OK)

    @property
    def troubles(self) -> Sequence[ConditionPart]:
        return tuple(part for part in self.parts if part.trouble is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionRules:
    """What is expected of the site."""

    min_retention: timedelta
    skew: timedelta  # with clocks that differ by more nothing is proven (vms/standing.py)
    lag: timedelta  # coverage may be behind so much
    settle: timedelta  # footage so young is not asked for
    retrieves: bool
    marks: bool


def condition_rules(settings: Milestone) -> ConditionRules:
    """What the `milestone` block says."""
    tolerance = timedelta(milliseconds=settings.coverage_tolerance_ms)
    marks = settings.marks
    return ConditionRules(
        min_retention=timedelta(days=settings.min_retention_days),
        skew=most_skew(tolerance),
        lag=timedelta(seconds=settings.deadline_s),
        settle=timedelta(seconds=settings.settle_s),
        retrieves=settings.ingest in ("edge_retrieval", "hybrid"),
        marks=marks.bookmark or marks.evidence_lock != "never",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Subjects:
    """Whom a look is about."""

    cameras: Sequence[Counterpart]  # ours, with or without a counterpart
    newest: Mapping[UUID, datetime]  # by our camera: the end of its newest footage


async def inspect(vms: Vms, subjects: Subjects, rules: ConditionRules, now: datetime) -> Condition:
    """The whole look: a request or a few for each recorder, storage and camera."""
    first = await look_at_site(vms, rules, now)
    return first if first.site is None else await look_behind(vms, first, subjects, rules)


async def look_at_site(vms: Vms, rules: ConditionRules, now: datetime) -> Condition:
    """Address, certificate, log-in, version and clock: one request or a few."""
    try:
        site = await vms.site()
    except BackendError as exc:
        part = ConditionPart(name="site", grade=Grade.DOWN, trouble=str(exc), remedy=remedy_of(exc))
        return Condition(at=now, parts=(part,))
    return Condition(at=now, parts=(_site_part(site, rules), _clock_part(site, rules)), site=site)


async def look_behind(vms: Vms, first: Condition, subjects: Subjects, rules: ConditionRules) -> Condition:
    """What stands behind a site that answers, added to what is known of it."""
    mapped = [each for each in subjects.cameras if each.device is not None]
    devices = [each.device for each in mapped if each.device is not None]
    look = _Look(vms=vms, rules=rules, now=first.at)
    parts = [*first.parts, *_camera_parts(subjects.cameras)]
    parts += await look.recorders(devices)
    parts += await look.storages({each.storage_id for each in devices})
    if subjects.cameras and not mapped:
        told, remedy = "no camera of this host has a counterpart", "name them in milestone.camera_map"
        parts.append(ConditionPart(name="coverage", grade=Grade.DOWN, trouble=told, remedy=remedy))
    else:
        parts += await look.coverage(mapped, subjects.newest)
    return replace(first, parts=tuple(parts), lags=look.lags)


@dataclass(slots=True, kw_only=True)
class _Look:
    """One look at what stands behind the management server."""

    vms: Vms
    rules: ConditionRules
    now: datetime
    lags: dict[UUID, timedelta] = field(default_factory=dict)

    async def recorders(self, devices: Sequence[VmsCamera]) -> list[ConditionPart]:
        """Each of them by one camera that may be read."""
        try:
            known = {each.id: each for each in await self.vms.recorders()}
        except BackendError as exc:
            return [_degraded("recorders", str(exc), remedy_of(exc))]
        by_recorder = {each.recorder_id: each for each in devices if each.enabled}
        parts: list[ConditionPart] = []
        for recorder_id, device in by_recorder.items():
            recorder = known.get(recorder_id)
            if recorder is None:
                told = f"the site does not tell of the recording server {recorder_id} of camera {device.name}"
                parts.append(_degraded(f"recorder {recorder_id}", told, "let the basic user see it"))
                continue
            name = f"recorder {recorder.name}"
            if not recorder.enabled:
                parts.append(_degraded(name, "it is disabled", "enable it in the Management Client"))
                continue
            parts.append(await self._reached(name, device, f"{recorder.host}:{recorder.port}"))
        return parts

    async def _reached(self, name: str, device: VmsCamera, address: str) -> ConditionPart:
        try:
            await self.vms.reach(device.id)
        except BackendError as exc:
            told = f"footage cannot be read from {address} (tried with camera {device.name}): {exc}"
            untrusted = isinstance(exc, BackendUnavailable) and exc.reason == "tls"
            return _degraded(name, told, RECORDER_TLS_REMEDY if untrusted else RECORDER_REMEDY)
        return ConditionPart(name=name, note=f"{address} lets footage be read")

    async def storages(self, ids: Iterable[UUID | None]) -> list[ConditionPart]:
        parts: list[ConditionPart] = []
        for storage_id in sorted(each for each in ids if each is not None):
            try:
                storage = await self.vms.storage(storage_id)
            except BackendError as exc:
                parts.append(_degraded(f"storage {storage_id}", str(exc), remedy_of(exc)))
            else:
                parts.append(_storage_part(storage, self.rules))
        return parts

    async def coverage(
        self, mapped: Sequence[Counterpart], newest: Mapping[UUID, datetime]
    ) -> list[ConditionPart]:
        """How far XProtect's recordings are behind our own footage; DOWN where it cannot be asked of any."""
        parts: list[ConditionPart] = []
        failed: list[BackendError] = []
        for each in mapped:
            end = newest.get(each.camera.id)
            if each.device is None or end is None:
                continue
            try:
                lag = await self._lag(each.device, min(end, self.now - self.rules.settle))
            except BackendError as exc:
                failed.append(exc)
                told = f"what XProtect holds of it cannot be asked: {exc}"
                parts.append(_degraded(f"coverage {each.camera.name}", told, remedy_of(exc)))
                continue
            self.lags[each.camera.id] = lag
            if lag > self.rules.lag:
                behind = f"XProtect's recordings of it are {_duration(lag)} or more behind ours"
                remedy = "look at the camera in XProtect: does it record, or retrieve?"
                parts.append(_degraded(f"coverage {each.camera.name}", behind, remedy))
        told = f"{len(self.lags)} cameras keep up"
        if not failed and not self.lags:
            failed += await self._refusal(mapped)
            told = "it can be asked; no footage of ours to compare with was looked at"
            if not any(each.device is not None and each.device.enabled for each in mapped):
                told = "nothing was asked: there is no camera to ask of"
        if failed and not self.lags:
            told = f"no camera's coverage can be asked: {failed[0]}"
            return [
                ConditionPart(name="coverage", grade=Grade.DOWN, trouble=told, remedy=remedy_of(failed[0]))
            ]
        return parts or [ConditionPart(name="coverage", note=told)]

    async def _refusal(self, mapped: Sequence[Counterpart]) -> list[BackendError]:
        """Of a host without footage yet: whether one camera's coverage could be asked."""
        device = next(
            (each.device for each in mapped if each.device is not None and each.device.enabled), None
        )
        if device is not None:
            try:
                await self._lag(device, self.now - self.rules.settle)
            except BackendError as exc:
                return [exc]
        return []

    async def _lag(self, device: VmsCamera, end: datetime) -> timedelta:
        """As far back as it matters: more is told as just more."""
        look = max(SHORTEST_LOOK, self.rules.lag + timedelta(minutes=1))
        recorded = await self.vms.recorded(device.id, TimeSpan(end - look, end))
        return end - recorded[-1].end if recorded else look


def _site_part(site: Site, rules: ConditionRules) -> ConditionPart:
    note = f"{site.name}, XProtect {site.version}"
    if (0, 0) < site.release < GATEWAY:
        told = f"XProtect {site.version} has no API gateway"
        return ConditionPart(
            name="site", grade=Grade.DOWN, trouble=told, remedy="update it to 2023 R1 or later", note=note
        )
    lacks = list(_lacking(site, rules))
    return ConditionPart(name="site", note=f"{note}; {'; '.join(lacks)}" if lacks else note)


def _lacking(site: Site, rules: ConditionRules) -> Iterator[str]:
    if rules.marks and (0, 0) < site.release < MARKS:
        yield "bookmarks and evidence locks of holds need 2024 R2"
    if rules.retrieves and (0, 0) < site.release < RETRIEVAL:
        yield "retrieval by REST is shown by the vendor from 2025 R2 on: else ingest: event_retrieval"


def _clock_part(site: Site, rules: ConditionRules) -> ConditionPart:
    skew = site.clock_skew
    if skew is None:
        return ConditionPart(name="clock", note="the site does not tell its time")
    told = f"the site's clock is {skew.total_seconds():+.1f} s from ours"
    if abs(skew) <= rules.skew:
        return ConditionPart(name="clock", note=told)
    remedy = f"set both by NTP: nothing is proven with more than {rules.skew.total_seconds():g} s between"
    return ConditionPart(name="clock", grade=Grade.DOWN, trouble=told, remedy=remedy)


def _camera_parts(cameras: Sequence[Counterpart]) -> Iterator[ConditionPart]:
    """Those that are not as they should be."""
    for each in cameras:
        wrong = each.why_not or each.trouble
        if wrong is not None:
            yield _degraded(f"{OF_CAMERA}{each.camera.name}", wrong, camera_remedy(each))


def camera_remedy(each: Counterpart) -> str:
    """What mends a camera without a counterpart, or one that will not do what is asked of it."""
    if each.device is None:
        return (
            "name it in milestone.camera_map: its GUID, or name: and its display name "
            "(docs/guide/milestone.md, Set-up on this host)"
        )
    return "mend it in the Management Client (docs/guide/milestone.md, Set-up in XProtect, step by step)"


def _storage_part(storage: VmsStorage, rules: ConditionRules) -> ConditionPart:
    name, note = f"storage {storage.name}", _storage_note(storage)
    if storage.available is False:
        return _degraded(
            name, "it is not available: nothing is recorded there", "look at its disk in XProtect"
        )
    if storage.retention is not None and storage.retention < rules.min_retention:
        told = f"it keeps footage for {_duration(storage.retention)}"
        remedy = f"milestone.min_retention_days asks for {rules.min_retention.days} days: set it there"
        return _degraded(name, told, remedy)
    return ConditionPart(name=name, note=note)


def _storage_note(storage: VmsStorage) -> str:
    told = [] if storage.retention is None else [f"keeps footage for {_duration(storage.retention)}"]
    if storage.used_bytes is not None and storage.size_bytes:
        told.append(f"{storage.used_bytes / storage.size_bytes:.0%} full")
    if storage.signed is not None:
        told.append("signs its database" if storage.signed else "does not sign its database")
    return ", ".join(told) or "tells nothing of itself"


def _degraded(name: str, trouble: str, remedy: str) -> ConditionPart:
    return ConditionPart(name=name, grade=Grade.DEGRADED, trouble=trouble, remedy=remedy)


def remedy_of(error: BackendError) -> str:
    """What may mend it."""
    reason = error.reason if isinstance(error, BackendUnavailable) else "server"
    return REMEDIES.get(reason, REMEDIES["server"])


def _duration(length: timedelta) -> str:
    days, hours = length.days, length.seconds / 3600
    if days:
        return f"{days} days" if hours < 1 else f"{days} days {hours:.0f} h"
    return f"{hours:.1f} h" if hours >= 1 else f"{length.seconds} s"
