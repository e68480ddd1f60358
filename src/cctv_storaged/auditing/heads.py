"""Heads: what a ledger's last line was at some time, signed by the host, kept where the host is not. Pure.

Whoever has a head can tell that lines were cut off behind its number, or that all were written anew.
"""

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from cctv_storaged.clock import from_us, rfc3339, to_us
from cctv_storaged.errors import LedgerError, PackageError
from cctv_storaged.evidence.keys import PublicKey, SigningKey

WHAT = "cctv-storaged ledger head 1"
"""Stands in what is signed, as the same key signs evidence packages."""
MOST_HEAD_BYTES = 64 * 1024
_HASH = re.compile("[0-9a-f]{64}")
_CHAIN = re.compile("[0-9a-f]{64}|")
_NAME = re.compile(r"\d{4}-\d\d-\d\d-(\d{1,19})\.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Line `no` had this hash. `chain`: the hash of line 1, empty where that was lost."""

    no: int
    hash: bytes
    at: datetime
    host: str
    chain: str

    def __str__(self) -> str:
        return f"head of {rfc3339(self.at)}, line {self.no}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedHead:
    """A head whose signature was checked against the key that came with it."""

    head: Head
    key: PublicKey


def signed_document(head: Head, key: SigningKey) -> bytes:
    """The head as a file: `signed` is the very text that was signed, so that nobody has to write it anew."""
    facts = {
        "what": WHAT,
        "no": head.no,
        "hash": head.hash.hex(),
        "at_us": to_us(head.at),
        "at": rfc3339(head.at),
        "host": head.host,
        "chain": head.chain,
    }
    text = json.dumps(facts, separators=(",", ":"))
    document = {
        "signed": text,
        "signature": base64.b64encode(key.sign(text.encode())).decode(),
        "key": key.public.pem.decode(),
    }
    return json.dumps(document, indent=1).encode() + b"\n"


def read_head(document: bytes) -> SignedHead:
    """The head in a file. Raises LedgerError for what is none, or signed by another than the key in it."""
    if len(document) > MOST_HEAD_BYTES:
        raise LedgerError("it is too long for a head")
    try:
        outer = json.loads(document)
        text, signature, pem = str(outer["signed"]), str(outer["signature"]), str(outer["key"])
        key = PublicKey(pem.encode())
        if not key.has_signed(base64.b64decode(signature, validate=True), text.encode()):
            raise LedgerError("its signature is not of what it says")
        return SignedHead(head=_head(json.loads(text)), key=key)
    except PackageError as exc:
        raise LedgerError(f"its key: {exc}") from exc
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as exc:
        raise LedgerError("it is no head of a ledger") from exc


def _head(facts: object) -> Head:
    if not isinstance(facts, dict) or facts["what"] != WHAT:
        raise LedgerError("what is signed there is no head of a ledger")
    digits, chain = str(facts["hash"]), str(facts["chain"])
    if not _HASH.fullmatch(digits) or not _CHAIN.fullmatch(chain):
        raise LedgerError("its hashes are none")
    return Head(
        no=int(facts["no"]),
        hash=bytes.fromhex(digits),
        at=from_us(int(facts["at_us"])),
        host=str(facts["host"]),
        chain=chain,
    )


def heads_below(prefix: str, host: str) -> str:
    """Where a host's heads lie in its store."""
    return f"{prefix}ledger/{host}/heads/"


def head_key(prefix: str, head: Head) -> str:
    """`{prefix}ledger/{host}/heads/{YYYY-MM-DD}-{no}.json`"""
    return f"{heads_below(prefix, head.host)}{head.at:%Y-%m-%d}-{head.no}.json"


def newest_of(paths: Sequence[str], today: date) -> str | None:
    """The path of the newest head among what a listing gives; one of a clock that ran ahead only at need."""
    named = [(path.rpartition("/")[2], path) for path in paths]
    heads = [(name[:10], int(found[1]), path) for name, path in named if (found := _NAME.fullmatch(name))]
    tomorrow = f"{today + timedelta(days=1):%Y-%m-%d}"
    past = [head for head in heads if head[0] <= tomorrow]
    return max(past or heads)[2] if heads else None


def same_day(path: str, other: str) -> bool:
    """Whether two heads are of one day, by their names."""
    return path.rpartition("/")[2][:10] == other.rpartition("/")[2][:10]
