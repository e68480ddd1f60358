"""What a place (a recorder root, a folder or bucket of a store) says of itself, and what that means. Pure.

The mark is a small JSON document, `{"place": "<uuid>", "made": "<time>", "host": "<host_id>"}`, in a file or
object named NAME. The journal keeps the identity that a place was first seen with; only `place` counts.
"""

import hashlib
import json
import uuid
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import lru_cache

from cctv_storaged.clock import rfc3339

NAME = ".cctv-storaged-identity"
LONGEST_BYTES = 4096
WEAK = ("fs:", "net:")
"""How identities begin that are the file system's own, taken where no mark can be laid down."""
NOBODYS = "bytes:"
"""How identities begin of marks that nobody of us wrote, or that were damaged."""


class Standing(StrEnum):
    """How a place stands."""

    UNSEEN = "unseen"  # not looked at yet
    RIGHT = "right"
    MISSING = "missing"  # it is there, and its mark is not
    OTHER = "other"  # it has the mark of another place
    AWAY = "away"  # it cannot be looked at: not there, no rights, no network
    SILENT = "silent"  # looking takes too long: a network mount that hangs


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A mark to be laid down."""

    place: str
    made: datetime
    host: str

    @classmethod
    def new(cls, host: str, now: datetime) -> "Mark":
        return cls(place=str(uuid.uuid4()), made=now, host=host)

    def document(self) -> bytes:
        """As it is stored."""
        facts = {"place": self.place, "made": rfc3339(self.made), "host": self.host}
        return (json.dumps(facts) + "\n").encode()


@lru_cache(maxsize=64)  # every put asks, and a mark does not change
def identity_in(document: bytes) -> str:
    """The identity that a mark's bytes tell; one of its own for bytes that nobody of us wrote."""
    try:
        facts = json.loads(document)
        return str(uuid.UUID(facts["place"]))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return f"{NOBODYS}{hashlib.sha256(document).hexdigest()[:32]}"


def judged(known: str, found: str | None, weak: str | None) -> Standing:
    """How a place stands whose identity is `known`, by the mark found there and by its file system's own.

    One that was known by its file system counts by that, whatever mark it has got meanwhile.
    """
    if known.startswith(WEAK):
        return Standing.RIGHT if known == weak else Standing.OTHER
    if found is None:
        return Standing.MISSING
    return Standing.RIGHT if found == known else Standing.OTHER
