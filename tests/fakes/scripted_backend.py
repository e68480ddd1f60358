"""A backend in memory that fails to order: `Backend` and `Preparing`, honest but for its script.

Like the real ones it never overwrites: identical bytes under a name are success, others ObjectMismatch.
"""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum, auto

from cctv_storaged.backends.base import Capabilities, Payload, StoredObject
from cctv_storaged.errors import (
    BackendError,
    BackendThrottled,
    BackendUnavailable,
    ObjectLocked,
    ObjectMismatch,
    ObjectMissing,
    ObjectRejected,
    SourceChanged,
)
from cctv_storaged.pacing import ByteBudget


class Op(Enum):
    """What a backend is asked to do."""

    PROBE = auto()
    PUT = auto()
    VERIFY = auto()
    OPEN = auto()
    DELETE = auto()


@dataclass(frozen=True, slots=True)
class Call:
    """One request that came."""

    op: Op
    path: str = ""
    segment_id: str = ""  # of a put


@dataclass(frozen=True, slots=True)
class Ok:
    """Nothing special."""


@dataclass(frozen=True, slots=True)
class Unavailable:
    """The whole backend is away; nothing is done."""

    reason: str = "network"


@dataclass(frozen=True, slots=True)
class Throttled:
    """It wants a slower pace; nothing is done."""

    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """This object is not taken."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """It says that other bytes are there."""


@dataclass(frozen=True, slots=True)
class Locked:
    """A lock of its own keeps the object."""


@dataclass(frozen=True, slots=True)
class Odd:
    """An error that nobody thought of."""


@dataclass(frozen=True, slots=True)
class LostAnswer:
    """It is done, and the answer does not arrive."""


@dataclass(frozen=True, slots=True)
class Forgets:
    """A put is answered with success, and nothing is kept."""


@dataclass(frozen=True, slots=True)
class Spoils:
    """A put is answered with success, and other bytes are kept."""


Outcome = Ok | Unavailable | Throttled | Rejected | Mismatch | Locked | Odd | LostAnswer | Forgets | Spoils


@dataclass(slots=True)
class Hold:
    """Calls that fit wait here until they are let go."""

    fits: Callable[[Call], bool]
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: int = 0

    def release(self) -> None:
        self.released.set()


class ScriptedBackend:
    """`rule` decides about every call that no queued outcome befalls."""

    def __init__(self, name: str = "S3", *, bucket: bool = True) -> None:
        self._name = name
        self.bucket = bucket
        self.buckets_made = 0
        self.objects: dict[str, bytes] = {}
        self.metadata: dict[str, Mapping[str, str]] = {}
        self.calls: list[Call] = []
        self.rule: Callable[[Call], Outcome] = lambda call: Ok()
        self.most_at_once = 0
        self._under_way = 0
        self._queued: dict[Op, list[Outcome]] = {}
        self._holds: list[Hold] = []

    # Orders

    def then(self, op: Op, *outcomes: Outcome) -> None:
        """The next calls of this kind end so, one after the other."""
        self._queued.setdefault(op, []).extend(outcomes)

    def always(self, outcome: Outcome, *ops: Op) -> None:
        """All calls of these kinds (none named: of any) end so from now on."""
        self.rule = lambda call: outcome if not ops or call.op in ops else Ok()

    def recover(self) -> None:
        """All is well from now on."""
        self._queued.clear()
        self.rule = lambda call: Ok()

    def hold(self, op: Op, path: str | None = None) -> Hold:
        """Calls of this kind wait, those under way not included."""
        hold = Hold(lambda call: call.op is op and path in (None, call.path))
        self._holds.append(hold)
        return hold

    def count(self, op: Op) -> int:
        return sum(call.op is op for call in self.calls)

    def puts_of(self, segment_id: object) -> int:
        return sum(call.op is Op.PUT and call.segment_id == str(segment_id) for call in self.calls)

    # Backend

    @property
    def name(self) -> str:
        return self._name

    @property
    def location(self) -> str:
        return "memory"

    async def probe(self) -> Capabilities:
        await self._befall(Call(Op.PROBE))
        return Capabilities(refuses_wrong_sha256=True, returns_sha256=True, conditional_put=True)

    async def put(self, path: str, payload: Payload, budget: ByteBudget) -> StoredObject:
        self._under_way += 1
        self.most_at_once = max(self.most_at_once, self._under_way)
        try:
            return await self._put(path, payload)
        finally:
            self._under_way -= 1

    async def _put(self, path: str, payload: Payload) -> StoredObject:
        outcome = await self._befall(Call(Op.PUT, path, payload.metadata["segment-id"]))
        data = payload.data if payload.data is not None else _read(payload)
        if hashlib.sha256(data).digest() != payload.sha256:
            raise SourceChanged("the file no longer has the bytes that were hashed")
        if self.objects.get(path, data) != data:
            raise ObjectMismatch(f"{path} holds other bytes")
        if not isinstance(outcome, Forgets):
            kept = bytes([data[0] ^ 1]) + data[1:] if isinstance(outcome, Spoils) else data
            self.objects[path], self.metadata[path] = kept, dict(payload.metadata)
        if isinstance(outcome, LostAnswer):
            raise BackendUnavailable(f"put {path}: the connection was cut", reason="network")
        etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
        return StoredObject(path=path, size_bytes=payload.size_bytes, sha256=payload.sha256, etag=etag)

    async def verify(self, expected: StoredObject) -> None:
        await self._befall(Call(Op.VERIFY, expected.path))
        held = self.objects.get(expected.path)
        if held is None:
            raise ObjectMissing(f"nothing under {expected.path}")
        if (len(held), hashlib.sha256(held).digest()) != (expected.size_bytes, expected.sha256):
            raise ObjectMismatch(f"{expected.path} holds other bytes")

    @asynccontextmanager
    async def open(
        self, path: str, start: int = 0, length: int | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        await self._befall(Call(Op.OPEN, path))
        if path not in self.objects:
            raise ObjectMissing(f"nothing under {path}")
        end = None if length is None else start + length

        async def blocks() -> AsyncIterator[bytes]:
            yield self.objects[path][start:end]

        yield blocks()

    async def delete(self, path: str) -> None:
        outcome = await self._befall(Call(Op.DELETE, path))
        self.objects.pop(path, None)
        if isinstance(outcome, LostAnswer):
            raise BackendUnavailable(f"delete {path}: the connection was cut", reason="network")

    async def delete_many(self, paths: Sequence[str]) -> Mapping[str, BackendError]:
        failures: dict[str, BackendError] = {}
        for path in paths:
            try:
                await self.delete(path)
            except BackendError as exc:
                failures[path] = exc
        return failures

    async def sweep(self, older_than_s: float) -> int:
        return 0

    async def close(self) -> None:
        return

    async def ensure_bucket(self) -> None:
        self.bucket = True
        self.buckets_made += 1

    # The script

    async def _befall(self, call: Call) -> Outcome:
        self.calls.append(call)
        for hold in self._holds:
            if hold.fits(call) and not hold.released.is_set():
                hold.waiting += 1
                hold.reached.set()
                await hold.released.wait()
        queued = self._queued.get(call.op)
        outcome = queued.pop(0) if queued else self.rule(call)
        if not self.bucket:
            raise BackendUnavailable("there is no such bucket", reason="bucket")
        _raise(outcome, call)
        return outcome


def _raise(outcome: Outcome, call: Call) -> None:
    doing = f"{call.op.name} {call.path}"
    match outcome:
        case Unavailable(reason):
            raise BackendUnavailable(f"{doing}: away", reason=reason)
        case Throttled(retry_after_s):
            raise BackendThrottled(f"{doing}: SlowDown", retry_after_s=retry_after_s)
        case Rejected():
            raise ObjectRejected(f"{doing}: not this one")
        case Mismatch():
            raise ObjectMismatch(f"{doing}: other bytes")
        case Locked():
            raise ObjectLocked(f"{doing}: locked")
        case Odd():
            raise ZeroDivisionError(doing)
        case _:
            return


def _read(payload: Payload) -> bytes:
    return os.pread(payload.descriptor, payload.size_bytes, 0)
