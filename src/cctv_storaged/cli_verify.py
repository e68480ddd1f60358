"""`cctv-storaged verify`: checks an evidence package offline and says, line by line, what is wrong with it.

Exit codes: 0 all right, 1 something wrong, 2 bad usage, 3 it cannot be read.
"""

import argparse
import contextlib
import io
import sys
from collections.abc import Iterable
from pathlib import Path

from cctv_storaged.cli_progress import Progress
from cctv_storaged.clock import rfc3339
from cctv_storaged.errors import PackageError
from cctv_storaged.evidence.keys import MOST_KEY_BYTES, PublicKey, parsed_fingerprint
from cctv_storaged.evidence.manifest import FileRole, Manifest
from cctv_storaged.evidence.opened import NotAPackage, opened_package
from cctv_storaged.evidence.verify import Finding, Report, check
from cctv_storaged.logs.lines import one_line

ALL_RIGHT, WRONG, BAD_USAGE, UNREADABLE = 0, 1, 2, 3
MOST_LINES = 1000
"""Findings told one by one; a hostile package could make any number."""


def verify(options: argparse.Namespace) -> int:
    """The command; `options` has `path` and `key`."""
    path: Path = options.path
    try:
        wanted = None if options.key is None else wanted_key(options.key)
    except (PackageError, OSError) as exc:
        _complain(f"--key {options.key}: neither a fingerprint nor a file with a public key: {exc}")
        return BAD_USAGE
    try:
        with Progress("checking", unit="B") as progress, opened_package(path) as package:
            report = check(package, wanted, progress.at)
    except NotAPackage as exc:
        print_lines([_shown(f"WRONG: {path} is no evidence package: {exc}")])
        return WRONG
    except OSError as exc:
        _complain(f"{exc.filename or path} cannot be read: {exc.strerror or exc}")
        return UNREADABLE
    print_lines(_lines(path, report))
    return WRONG if report.findings else ALL_RIGHT


def wanted_key(text: str) -> PublicKey | str:
    """What --key names: a fingerprint, or else a file. Raises PackageError, OSError."""
    fingerprint = parsed_fingerprint(text)
    if fingerprint is not None:
        return fingerprint
    with Path(text).open("rb") as file:
        return PublicKey(file.read(MOST_KEY_BYTES))


def _lines(path: Path, report: Report) -> list[str]:
    findings = [_finding(each) for each in report.findings[:MOST_LINES]]
    if len(report.findings) > MOST_LINES:
        findings.append(f"and {len(report.findings) - MOST_LINES} more")
    about = [] if report.manifest is None else _about(report.manifest)
    return [*findings, *about, *_signer(report), _verdict(path, report)]


def _finding(finding: Finding) -> str:
    name = "the package as a whole" if finding.name is None else finding.name
    return _shown(f"{finding.wrong}: {name}" + (f": {finding.why}" if finding.why else ""))


def _about(manifest: Manifest) -> list[str]:
    request = manifest.request
    names = ", ".join(camera.name for camera in manifest.cameras)
    originals = _counted(len(manifest.of_role(FileRole.ORIGINAL)), "original")
    remuxed, differing = (len(manifest.of_role(each)) for each in (FileRole.REMUXED, FileRole.DIFFERING))
    others = f"{remuxed} read back from a VMS, " if remuxed else ""
    others += f"{differing} not as recorded, " if differing else ""
    gaps = sum(len(camera.gaps) for camera in manifest.cameras)
    who, why = request.created_by or "nobody named", request.reason or "not told"
    lines = [
        f"case: {request.case_id or 'none'}; asked for by: {who}; reason: {why}",
        f"cameras {names}; from {rfc3339(request.span.start)} to {rfc3339(request.span.end)};"
        f" {originals}, {others}{_counted(gaps, 'gap')}",
        f"made at {rfc3339(manifest.created_at)} by {manifest.host.software} on host {manifest.host.id}",
    ]
    if remuxed:
        lines.append(
            "NOTE: what was read back from a VMS has the coded pictures that it holds, and not the recorder's"
            " bytes: its SHA-256 is that of the file made of them, and it has no sound"
        )
    return [_shown(line) for line in lines]


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _signer(report: Report) -> list[str]:
    if report.signer is None:
        return ["signed by nobody who could be made out: nothing said above can be relied on"]
    if report.trusted:
        return [f"signed by the key given, {report.signer}"]
    return [
        f"signed by the key {report.signer}",
        "NOTE: that key came with the package and is taken on trust: anybody could have made the package with"
        " a key of his own. Have the host's operator tell you its fingerprint"
        " (GET /api/v1/storage/signing-key), and give it with --key.",
    ]


def _verdict(path: Path, report: Report) -> str:
    if report.findings:
        return _shown(f"WRONG: {path}: {_counted(len(report.findings), 'thing')}, each named above")
    return _shown(
        f"ALL RIGHT: {path}: {report.files} files, {report.bytes} bytes; none changed, missing or added"
    )


def print_lines(lines: Iterable[str]) -> None:
    """Whoever reads along may stop, and may not know every letter: the exit code is told all the same."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    with contextlib.suppress(BrokenPipeError):
        print(*lines, sep="\n", flush=True)


def _shown(text: str) -> str:
    """One line that a terminal shows as it is; names in a package may hold anything."""
    return one_line(text)


def _complain(text: str) -> None:
    print(f"cctv-storaged: {_shown(text)}", file=sys.stderr)
