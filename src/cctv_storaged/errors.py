"""The one exception tree, ordered by what the caller can do about it.

StoragedError
├── ConfigError            the operator changes a setting             (exit code 2)
├── SegmentError           one file is not what it should be
│   ├── NotASegment        left where it is, listed with the reason
│   └── SourceChanged      the file under the name is another one now: look again
│       └── WrongDisk      its root is not on the disk it was on: nothing is known of the file
│           └── AnothersDisk   its root is on the disk of another place: what is there is that one's
├── JournalError
│   ├── JournalFull        no room to commit: try again when there is
│   └── JournalBroken      the process must end and start anew
├── BackendError
│   ├── BackendUnavailable the whole backend is away: wait, count nothing against the segment
│   │   ├── BackendThrottled   it asks for a slower pace
│   │   ├── PartAway           a part of it is (one recorder of a VMS): what lies elsewhere can be asked for
│   │   ├── FootageAway        a VMS gives nothing back now: it, or the recorder that has the footage
│   │   ├── WrongPlace         its disk or bucket is not the one that the journal knows
│   │   │   └── NotLookedAt    nor is it known to be another: nobody looked yet
│   │   └── NoPlace            this host's disk takes nothing of what is read back: make room
│   ├── ObjectRejected     this object failed: retry it later, alone
│   │   └── Unsupported    its edition or version does not offer it: another way, or none
│   ├── ObjectLocked       a lock or legal hold of the backend keeps it: its day will come, or an operator's
│   ├── ObjectMissing      the backend has nothing under this path
│   │   └── NotHeld        a VMS does not hold the footage any more, by its own retention
│   ├── ObjectMismatch     the backend holds other bytes than the journal says
│   └── StoreNotNamed      a former store whose settings are gone or lack something
├── CatalogUnavailable     PostgreSQL is away: wait
├── PackageError           an evidence package cannot be made or read as one
├── LedgerError            a file of the ledger (lines, archive, head) cannot be made or read as one
├── MediaError             a picture, clip or export could not be made
│   ├── MediaUnusable      nothing can be made of these bytes
│   ├── MediaBroken        it was begun and is not whole: nothing of it may be used
│   └── MediaToolMissing   ffmpeg cannot be started: the operator installs it
└── RequestError           a caller's request cannot be served as asked
    ├── NotFound
    ├── Conflict
    │   └── Held           a hold keeps what should go
    ├── Unprocessable
    ├── QueueFull          as much as may wait is waiting: ask again later
    └── NoRoom             a disk has too little room for it: make some, or ask for less
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID


class StoragedError(Exception):
    """Whatever this program raises on purpose."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with what somebody gave us: where it stands, what is wrong, what to do."""

    where: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}"
        return f"{text} ({self.hint})" if self.hint else text


class ConfigError(StoragedError):
    """Settings that cannot be used; carries every fault found, not only the first."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


class SegmentError(StoragedError):
    """One file is not what it should be."""


class NotASegment(SegmentError):
    """The file will not become a segment; `reason` is a short stable word, fit for a metric label."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        super().__init__(detail)


class SourceChanged(SegmentError):
    """The file is gone, still written to, or another one than was journalled."""


class WrongDisk(SourceChanged):
    """The recorder root is not the one the journal knows: what is there, or not there, says nothing."""


class AnothersDisk(WrongDisk):
    """The recorder root has the identity of another place: what is there is that one's."""


class JournalError(StoragedError):
    """The journal did not take a change."""


class JournalFull(JournalError):
    """The journal's disk has no room; nothing was changed, the same operation may be tried again."""


class JournalBroken(JournalError):
    """The journal can no longer be trusted by this process: it must end, and start-up checks the file."""


class BackendError(StoragedError):
    """A backend did not do what it was asked."""


class BackendUnavailable(BackendError):
    """The backend as a whole is away (network, DNS, credentials, bucket, clock): no object is to blame.

    `reason` is a short stable word for logs and metrics: network, auth, bucket, clock, server, space,
    wrong_disk, tls, settings.
    """

    def __init__(self, message: str, *, reason: str = "network") -> None:
        self.reason = reason
        super().__init__(message)


class BackendThrottled(BackendUnavailable):
    """The backend asks for a slower pace (503 SlowDown, 429); `retry_after_s` when it named a time."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message, reason="throttled")


class PartAway(BackendUnavailable):
    """A part of the backend cannot be asked, the rest of it answers: one recorder of a VMS, a camera there.

    `part` names it.
    """

    def __init__(self, message: str, *, part: str, reason: str = "network") -> None:
        self.part = part
        super().__init__(message, reason=reason)


class FootageAway(BackendUnavailable):
    """What a VMS holds cannot be read from it now; the message names what is away, and may be shown."""


class WrongPlace(BackendUnavailable):
    """The disk or bucket is not the one that the journal knows: nothing there is believed or touched."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="wrong_disk")


class NotLookedAt(WrongPlace):
    """It was not looked at yet since the start: nothing is known to be wrong."""


class StoreNotNamed(BackendError):
    """The bytes lie at a former store that the settings do not name so that it can be used; may be shown.

    Not that it is away: waiting helps nobody, and what can be had is had without them.
    """

    def __init__(self, backend: str) -> None:
        super().__init__(
            f"its bytes lie at {backend}, a former store that this host cannot use: put the store's settings "
            f"({backend.lower()}:) back into the file and restart; the log of the start says what they lack"
        )


class NoPlace(BackendUnavailable):
    """What has to be read back to this host's disk first finds no place there: full, or not to be written."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="space")


class ObjectRejected(BackendError):
    """The backend refused this object for a reason of its own."""


class Unsupported(ObjectRejected):
    """What was asked for is not offered there (edition, version, licence); asking again changes nothing."""


class ObjectLocked(BackendError):
    """A lock or legal hold at the backend keeps the object, or a version of it, from being deleted."""


class ObjectMissing(BackendError):
    """The backend holds nothing under the path."""


class NotHeld(ObjectMissing):
    """A VMS that keeps footage by its own rules does not hold this any more."""


class ObjectMismatch(BackendError):
    """The backend holds bytes that differ from the journal's size or SHA-256."""


class CatalogUnavailable(StoragedError):
    """PostgreSQL cannot be asked now; the journal keeps what it should be told."""


class MediaError(StoragedError):
    """A picture, clip or export could not be made."""


class MediaUnusable(MediaError):
    """Nothing can be made of these bytes, however often it is tried."""


class MediaBroken(MediaError):
    """It was begun and is not whole (a child that failed, a limit, a result that is too short).

    `piece` names the segment that is to blame, where one is.
    """

    def __init__(self, message: str, *, piece: str | None = None) -> None:
        self.piece = piece
        super().__init__(message)


class MediaToolMissing(MediaError):
    """ffmpeg cannot be started."""


class PackageError(StoragedError):
    """An evidence package cannot be made as asked, or what should be one cannot be understood."""


class LedgerError(StoragedError):
    """A file of the ledger (lines, an archive, a head) cannot be made or read as one."""


class RequestError(StoragedError):
    """A request cannot be served as asked."""


class NotFound(RequestError):
    """What the request names does not exist here."""


class Conflict(RequestError):
    """The request contradicts what is already so."""


class Held(Conflict):
    """A hold keeps what should go; the first few that do, where they are known."""

    def __init__(self, message: str, hold_ids: Sequence[UUID] = ()) -> None:
        self.hold_ids = tuple(hold_ids)
        super().__init__(message)


class Unprocessable(RequestError):
    """The request is well formed and cannot be carried out; one fault per field."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(str(fault) for fault in self.faults))


class QueueFull(RequestError):
    """As many jobs as may wait are waiting."""


class NoRoom(RequestError):
    """A disk has too little room for what is asked for; nothing was begun."""
