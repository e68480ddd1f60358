"""Lines of the ledger as text, a JSON object each (NDJSON). Pure; docs/reference/ledger.md says more."""

import json
import re
from collections.abc import Sequence

from cctv_storaged.errors import LedgerError
from cctv_storaged.journal.chain import BoundLine, Line

MOST_LINE_BYTES = 256 * 1024
"""Longer is no line of ours: causes are words, details a few kilobytes at most."""
MOST_NUMBER = 2**63 - 1
_NUMBERS, _TEXTS, _IDS = ("no", "at_us", "start_us", "end_us"), ("kind", "cause", "detail"), ("id", "camera")
_KEYS = frozenset((*_NUMBERS, *_TEXTS, *_IDS, "hash"))
_ID, _HASH = re.compile("[0-9a-f]{32}"), re.compile("[0-9a-f]{64}")
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode


def written(bound: BoundLine) -> bytes:
    """The line with its newline."""
    line = bound.line
    document = {
        "no": line.no,
        "at_us": line.at_us,
        "kind": line.kind,
        "id": line.segment_id.hex(),
        "camera": line.camera_id.hex(),
        "start_us": line.start_us,
        "end_us": line.end_us,
        "cause": line.cause,
        "detail": line.detail,
        "hash": None if bound.hash is None else bound.hash.hex(),
    }
    return _encode(document).encode("utf-8", "surrogatepass") + b"\n"


def read(text: bytes) -> BoundLine:
    """The inverse of `written`. Raises LedgerError for anything else, and for what says a thing twice."""
    try:
        document = json.loads(text.decode("utf-8", "surrogatepass"), object_pairs_hook=_once)
    except (ValueError, RecursionError) as exc:
        raise LedgerError(f"it is no JSON object: {exc}") from exc
    if not isinstance(document, dict) or document.keys() != _KEYS:
        raise LedgerError(f"it is no object with {', '.join(sorted(_KEYS))} and nothing else")
    for name in _NUMBERS:
        value = document[name]
        if not isinstance(value, int) or isinstance(value, bool) or abs(value) > MOST_NUMBER:
            raise LedgerError(f"{name} is no whole number of 64 bits")
    for name in _TEXTS:
        if not isinstance(document[name], str):
            raise LedgerError(f"{name} is no text")
    for name in _IDS:
        if not isinstance(document[name], str) or not _ID.fullmatch(document[name]):
            raise LedgerError(f"{name} is not 32 hexadecimal digits in lower case")
    return BoundLine(_line(document), _hash(document["hash"]))


def _line(document: dict[str, object]) -> Line:
    return Line(
        no=document["no"],  # type: ignore[arg-type]  # looked at by `read`, all of them
        at_us=document["at_us"],  # type: ignore[arg-type]
        kind=document["kind"],  # type: ignore[arg-type]
        segment_id=bytes.fromhex(str(document["id"])),
        camera_id=bytes.fromhex(str(document["camera"])),
        start_us=document["start_us"],  # type: ignore[arg-type]
        end_us=document["end_us"],  # type: ignore[arg-type]
        cause=document["cause"],  # type: ignore[arg-type]
        detail=document["detail"],  # type: ignore[arg-type]
    )


def _hash(value: object) -> bytes | None:
    if value is None:
        return None
    if not isinstance(value, str) or not _HASH.fullmatch(value):
        raise LedgerError("hash is not 64 hexadecimal digits in lower case")
    return bytes.fromhex(value)


def _once(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    """Readers differ in which of two they take, and so nobody could say what was proven."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands there twice")
    return found
