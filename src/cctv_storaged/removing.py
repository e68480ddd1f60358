"""The steps of a deletion: hashing what nobody hashed, unlinking sources, and what was met on the way."""

import errno
import os
from asyncio import to_thread
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from cctv_storaged.backends.body import digest_file
from cctv_storaged.errors import BackendError, NotASegment, ObjectLocked, SourceChanged, WrongDisk
from cctv_storaged.model import Segment, SourceState
from cctv_storaged.recorder.source import open_source
from cctv_storaged.unlinking import Opened, unlink_sources
from cctv_storaged.whereabouts import Whereabouts, same_version, whereabouts

HAS_SOURCE = (SourceState.PRESENT, SourceState.PRUNING)
_MAY_NOT = "give this service's user the right to write to its folder; in a systemd unit, ReadWritePaths= too"
_HINTS = {errno.EACCES: _MAY_NOT, errno.EPERM: _MAY_NOT, errno.EROFS: f"it is mounted read-only: {_MAY_NOT}"}


class Elsewhere(BackendError):
    """The copy lies at a former store that the settings do not name, or that cannot be asked now."""


@dataclass(slots=True)
class Failures:
    """What keeps segments from being gone."""

    met: dict[UUID, list[Exception]] = field(default_factory=dict)
    _at: dict[UUID, dict[str, str]] = field(default_factory=dict)

    def __contains__(self, segment_id: UUID) -> bool:
        return segment_id in self.met

    def add(self, segment_id: UUID, error: Exception) -> None:
        self.met.setdefault(segment_id, []).append(error)

    def add_all(self, errors: Mapping[UUID, Exception]) -> None:
        for segment_id, error in errors.items():
            self.add(segment_id, error)

    def add_at(self, backend: str, errors: Mapping[UUID, Exception]) -> None:
        """What keeps their copies there."""
        self.add_all(errors)
        for segment_id, error in errors.items():
            self._at.setdefault(segment_id, {})[backend] = str(error)

    def kept_at(self, segment_id: UUID) -> tuple[tuple[str, str], ...]:
        """The backends that still have the segment's bytes, each with what it says."""
        return tuple(sorted(self._at.get(segment_id, {}).items()))

    def only_kept(self, segment_id: UUID) -> bool:
        """Whether there is nothing but what somebody keeps on purpose: it may take long."""
        return all(isinstance(each, ObjectLocked | Elsewhere) for each in self.met.get(segment_id, ()))

    def but_for_kept(self, segments: Sequence[Segment]) -> Sequence[Segment]:
        """Those to which nothing happened, or nothing but that."""
        if not self.met:  # nearly always
            return segments
        return [each for each in segments if self.only_kept(each.id)]

    def worst(self, segment_id: UUID) -> Exception:
        """The one that is told: what can be mended before what is kept."""
        return min(self.met[segment_id], key=lambda each: isinstance(each, ObjectLocked | Elsewhere))


async def hashed(segments: Sequence[Segment], opened: Opened, failures: Failures) -> list[Segment]:
    """Those whose source can be read or need not be, with their SHA-256 where it can be known."""
    known, met = await to_thread(_hashed, segments, opened)
    failures.add_all(met)
    return known


async def remove_sources(segments: Sequence[Segment], opened: Opened, failures: Failures) -> None:
    """Their sources are gone but for what the failures tell."""
    failures.add_all(await to_thread(_removed, segments, opened))


def reason_of(segment: Segment, error: Exception) -> str:
    """What a client was told 204 for waits for this: the log says what to do about it."""
    if not isinstance(error, OSError):
        return str(error)
    path = os.path.join(segment.source.root, segment.source.path)
    text = f"{path!r} cannot be removed: {error.strerror or error}"
    hint = _HINTS.get(error.errno or 0)
    return f"{text} ({hint})" if hint else text


def _hashed(segments: Sequence[Segment], opened: Opened) -> tuple[list[Segment], dict[UUID, Exception]]:
    known: list[Segment] = []
    failures: dict[UUID, Exception] = {}
    for segment in segments:
        try:
            known.append(_with_hash(segment, opened))
        except (SourceChanged, OSError) as exc:
            failures[segment.id] = exc
    return known, failures


def _with_hash(segment: Segment, opened: Opened) -> Segment:
    """The segment with its SHA-256, from the source if nobody wrote it down; without where that cannot be.

    Raises OSError where the source cannot be read, and SourceChanged where its disk is not there.
    """
    if segment.sha256 is not None or segment.source_state not in HAS_SOURCE:
        return segment
    try:
        with opened(segment.source.root) as root, open_source(root, segment.source.path) as found:
            if not same_version(segment.source.identity, found.identity):
                return segment
            return replace(segment, sha256=digest_file(found.descriptor, segment.size_bytes).sha256)
    except NotASegment:
        return segment
    except WrongDisk:
        raise
    except SourceChanged:
        _require_decided(segment)
        return segment


def _removed(segments: Sequence[Segment], opened: Opened) -> dict[UUID, Exception]:
    """By identity as the id knows it: a restored file is the same segment. Also where the source was gone:
    put back and not scanned yet, it would be registered anew.
    """
    by_id = {each.id: each for each in segments}
    failures: dict[UUID, Exception] = {}
    for segment_id, error in unlink_sources(segments, same_version, opened).items():
        worse = _serious(by_id[segment_id], error)
        if worse is not None:
            failures[segment_id] = worse
    return failures


def _serious(segment: Segment, error: Exception) -> Exception | None:
    """None where there is no source to remove."""
    if isinstance(error, NotASegment):
        return None  # a link is in the way; what it leads to is another path
    if isinstance(error, WrongDisk):
        return error if segment.source_state in HAS_SOURCE else None
    try:
        if isinstance(error, SourceChanged):  # what is there is not this segment: the scan registers it
            _require_decided(segment)
            return None
        there = segment.source_state in HAS_SOURCE or whereabouts(segment) is Whereabouts.HERE
        return error if there or not isinstance(error, OSError) else None
    except (SourceChanged, OSError) as exc:
        return exc


def _require_decided(segment: Segment) -> None:
    """On a disk that is not there the file may be waiting, and would be registered anew when it is back."""
    if segment.source_state not in HAS_SOURCE:
        return
    where = whereabouts(segment)
    if where not in (Whereabouts.GONE, Whereabouts.ANOTHER):
        raise SourceChanged(f"{segment.source.path!r} cannot be removed now ({where})")
