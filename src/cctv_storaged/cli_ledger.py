"""`cctv-storaged verify --ledger`: proves the chain of a ledger, and compares it with heads from elsewhere.

Three ways to the lines: a file or folder; the journal of a daemon that does not run; a daemon that does.

Exit codes: 0 all right, 1 something wrong, 2 bad usage, 3 it cannot be read or reached.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from cctv_storaged.api.ledger_models import LedgerHeadAnswer
from cctv_storaged.auditing.archive import FOLDER, archives_in, lines_from, lines_in
from cctv_storaged.auditing.closed import lines_of_closed
from cctv_storaged.auditing.headkeeping import parsed_memory
from cctv_storaged.auditing.heads import MOST_HEAD_BYTES, Head, SignedHead, read_head
from cctv_storaged.auditing.proof import Proof, Verdict
from cctv_storaged.cli_client import ApiClient, tell, with_api
from cctv_storaged.cli_progress import Progress
from cctv_storaged.cli_verify import ALL_RIGHT, BAD_USAGE, UNREADABLE, WRONG, print_lines, wanted_key
from cctv_storaged.clock import rfc3339
from cctv_storaged.config import load_by_hand
from cctv_storaged.errors import LedgerError, PackageError
from cctv_storaged.evidence.keys import PublicKey
from cctv_storaged.journal.chain import BoundLine
from cctv_storaged.journal.journal import FILE_NAME
from cctv_storaged.journal.ledgerfile import JournalInUse, OtherVersion, closed_ledger
from cctv_storaged.logs.lines import one_line

MOST_TOLD = 100
METER_EVERY = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldEnd(Head):
    """Where the ledger ends, as the daemon says. An export with less was cut short, in however good order."""

    def __str__(self) -> str:
        return f"end that the daemon told of, line {self.no}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trusted:
    """Heads to compare with, and whose signature they must have."""

    heads: tuple[SignedHead, ...]
    complaints: tuple[str, ...]  # what is wrong with the heads themselves
    key: PublicKey | str | None
    end: ToldEnd | None = None  # nobody signed it

    @property
    def plain(self) -> tuple[Head, ...]:
        told = () if self.end is None else (self.end,)
        return (*(each.head for each in self.heads), *told)


def verify(options: argparse.Namespace) -> int:
    """The command; `options` has `path` and `key` too. Raises ConfigError."""
    if options.key is not None and not options.head:
        _complain("--key tells whose heads are believed: name some with --head")
        return BAD_USAGE
    try:
        key = None if options.key is None else wanted_key(options.key)
    except (PackageError, OSError) as exc:
        _complain(f"--key {options.key}: neither a fingerprint nor a file with a public key: {exc}")
        return BAD_USAGE
    try:
        trusted = _trusted(options.head, key)
        if options.path is not None:
            return _judged(str(options.path), trusted, lambda proof: _add_files(proof, options.path))
        if options.url is not None:
            return _of_daemon(options, trusted)
        return _of_journal(options, trusted)
    except OSError as exc:
        _complain(f"{exc.filename or options.path or 'the ledger'} cannot be read: {exc.strerror or exc}")
        return UNREADABLE


# Heads


def _trusted(paths: Sequence[Path], key: PublicKey | str | None) -> Trusted:
    heads: list[SignedHead] = []
    complaints: list[str] = []
    for path in _files(paths):
        try:
            with path.open("rb") as file:
                found = read_head(file.read(MOST_HEAD_BYTES + 1))
        except LedgerError as exc:
            complaints.append(f"{path}: {exc}")
            continue
        if key is not None and found.key.fingerprint != _fingerprint(key):
            other = found.key.fingerprint
            complaints.append(f"{path}: it is signed by another key than the one given, {other}")
            continue
        heads.append(found)
    return Trusted(heads=tuple(heads), complaints=tuple(complaints), key=key)


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    """Files named, and those of folders named."""
    for path in paths:
        if path.is_dir():
            found = sorted(path.glob("*.json"))
            if not found:  # nothing would be compared, and all be well
                raise FileNotFoundError(2, "there is no head of a ledger in it", str(path))
            yield from found
        else:
            yield path


def _fingerprint(key: PublicKey | str) -> str:
    return key if isinstance(key, str) else key.fingerprint


def _with_own(trusted: Trusted, document: str | None) -> Trusted:
    """The head that the ledger's keeper remembers itself: it shows at least what he contradicts."""
    if document is None:
        return trusted
    try:
        own = read_head(document.encode())
    except LedgerError as exc:
        told = (*trusted.complaints, f"the head that the journal remembers: {exc}")
        return replace(trusted, complaints=told)
    if trusted.key is not None and own.key.fingerprint != _fingerprint(trusted.key):
        why = f"it is signed by another key than the one given, {own.key.fingerprint}"
        told = (*trusted.complaints, f"the head that the journal remembers: {why}")
        return replace(trusted, complaints=told)
    return replace(trusted, heads=(*trusted.heads, own))


# Lines


def _add_files(proof: Proof, path: Path) -> None:
    """Raises OSError."""
    files = [each.path for each in archives_in(path)] if path.is_dir() else [path]
    if not files:
        raise FileNotFoundError(2, "there is no archive of a ledger in it", str(path))
    for file in files:
        with closing(lines_in(file)) as lines:
            _add(proof, lines, f"{file}: ")


def _of_journal(options: argparse.Namespace, trusted: Trusted) -> int:
    """The journal itself where no daemon has it, else the daemon is asked."""
    folder = Path(load_by_hand(options.config, os.environ, tell).data_dir)
    path = folder / FILE_NAME
    try:
        with closed_ledger(path) as ledger:
            memory = None if ledger.head is None else parsed_memory(ledger.head)
            known = _with_own(trusted, None if memory is None else memory.document)

            def add(proof: Proof) -> None:
                _add(proof, lines_of_closed(ledger, folder / FOLDER, proof.differs), "")

            return _judged(str(path), known, add)
    except JournalInUse as exc:
        print(f"{one_line(str(exc))}: it is asked over its API", file=sys.stderr)
        return _of_daemon(options, trusted)
    except OtherVersion as exc:
        _complain(str(exc))
        return UNREADABLE
    except LedgerError as exc:
        print_lines([one_line(f"WRONG: {exc}")])
        return WRONG


def _of_daemon(options: argparse.Namespace, trusted: Trusted) -> int:
    def ask(api: ApiClient) -> int:
        end = api.get("/ledger/head", LedgerHeadAnswer)
        known = replace(_with_own(trusted, end.signed), end=_told_end(end))
        with api.stream("/ledger/export") as blocks:
            told = f"the daemon on {end.host}"
            return _judged(told, known, lambda proof: _add(proof, lines_from(_Reading(blocks)), ""))

    return with_api(options, ask)


def _told_end(end: LedgerHeadAnswer) -> ToldEnd:
    return ToldEnd(no=end.no, hash=bytes.fromhex(end.hash), at=end.at, host=end.host, chain=end.chain)


class _Reading:
    """Blocks as a file that is read by lines, at most so long."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = b""

    def readline(self, most: int, /) -> bytes:
        parts = [self._rest]
        size = len(self._rest)
        while b"\n" not in parts[-1] and size < most:
            block = next(self._blocks, b"")
            if not block:
                break
            parts.append(block)
            size += len(block)
        text = b"".join(parts)
        end = text.find(b"\n") + 1 or min(most, len(text))
        self._rest = text[end:]
        return text[:end]


def _add(proof: Proof, lines: Iterator[BoundLine], where: str) -> None:
    """What cannot be read is a finding: it ends these lines."""
    try:
        with Progress("checking", unit=" lines") as progress:
            for number, bound in enumerate(lines, start=1):
                proof.add(bound)
                if number % METER_EVERY == 0:
                    progress.at(number)
    except LedgerError as exc:
        proof.unreadable(f"{where}{exc}")


# The answer


def _judged(name: str, trusted: Trusted, add: Callable[[Proof], None]) -> int:
    proof = Proof(trusted.plain)
    add(proof)
    verdict = proof.verdict()
    wrong = verdict.wrong or bool(trusted.complaints) or verdict.lines == 0
    print_lines(map(one_line, (*_told(verdict, trusted), _conclusion(name, verdict, wrong=wrong))))
    return WRONG if wrong else ALL_RIGHT


def _told(verdict: Verdict, trusted: Trusted) -> Iterator[str]:
    for complaint in trusted.complaints:
        yield f"WRONG: head {complaint}"
    for finding in verdict.findings[:MOST_TOLD]:
        yield f"WRONG: {finding}" if finding.known is None else f"KNOWN: {finding}: {finding.known}"
    untold = len(verdict.findings[MOST_TOLD:]) + verdict.more
    if untold:
        yield f"and {untold} more"
    if verdict.began is not None and verdict.ended is not None:
        span = f"from {rfc3339(verdict.began)} to {rfc3339(verdict.ended)}"
        chain = "of a chain whose line 1 is not here" if not verdict.chain else f"chain {verdict.chain}"
        yield f"{verdict.lines} lines, {verdict.first} to {verdict.last}, {span}; {chain}"
    yield from _heads(verdict, trusted)


def _heads(verdict: Verdict, trusted: Trusted) -> Iterator[str]:
    match = verdict.newest_match(each.head for each in trusted.heads)
    if match is not None:
        key = next(each.key for each in trusted.heads if each.head == match)
        yield f"it agrees with the {match}, signed by the key {key.fingerprint}"
        if trusted.key is None:
            yield (
                "NOTE: that key came with the head and is taken on trust. Have the host's operator tell you"
                " its fingerprint (GET /api/v1/storage/signing-key), and give it with --key."
            )
    if match is None or match.no != verdict.last:
        behind = "its end" if match is None else f"line {match.no}"
        yield f"NOTE: lines cut off behind {behind} would show only against a later head (--head)."


def _conclusion(name: str, verdict: Verdict, *, wrong: bool) -> str:
    if verdict.lines == 0 and not verdict.findings:
        return f"WRONG: {name}: there is no line of a ledger in it"
    if wrong:
        return f"WRONG: {name}: it is not the ledger that was written, as told above"
    known = len(verdict.findings)
    but = f", but for {known} known break(s), told above" if known else ""
    return f"ALL RIGHT: {name}: no line was changed, taken out or put in{but}"


def _complain(text: str) -> None:
    print(f"cctv-storaged: {one_line(text)}", file=sys.stderr)
