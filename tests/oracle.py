"""The invariant that holds after every test: what a recorder closed exists, is known once, and is proven.

Independent of the daemon's code: it reads files and listings only.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.fakes.fakecam import Written

MARK = ".cctv-storaged-identity"
"""What the daemon knows its disks by (docs/reference/right-disk.md)."""


def digests_below(folder: Path) -> dict[str, str]:
    """SHA-256 of every regular file, by relative path; without the mark of the place."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and path.name != MARK
    }


def require_nothing_lost(
    written: Iterable[Written],
    segments: Sequence[Mapping[str, Any]],
    stored: Mapping[str, str],
    recordings: Path,
) -> None:
    """Every written file is a segment once; every verified copy has its bytes; no bytes are gone.

    `stored` maps the path of each stored object to its SHA-256; `segments` is what the API lists.
    """
    known = Counter(segment["checksum"] for segment in segments if segment["checksum"])
    for entry in written:
        here = (recordings / entry.path).exists()
        assert here or entry.sha256 in stored.values(), f"{entry.path}: its bytes exist nowhere"
        assert known[entry.sha256] <= 1, f"{entry.path} is known {known[entry.sha256]} times"
    for segment in segments:
        for copy in segment["copies"]:
            if copy["state"] == "verified":
                assert stored.get(copy["path"]) == segment["checksum"], (
                    f"{copy['path']} is not what it should be"
                )


def require_all_delivered(
    written: Iterable[Written], segments: Sequence[Mapping[str, Any]], stored: Mapping[str, str]
) -> None:
    """Besides nothing lost: every written file is verified somewhere."""
    verified = {
        segment["checksum"]
        for segment in segments
        if any(copy["state"] == "verified" for copy in segment["copies"])
    }
    missing = [entry.path for entry in written if entry.sha256 not in verified]
    assert not missing, f"not delivered: {missing[:5]} and {max(0, len(missing) - 5)} more"
    held = set(stored.values())
    assert all(entry.sha256 in held for entry in written)


def require_invariant(
    written: Sequence[Written],
    segments: Sequence[Mapping[str, Any]],
    stored: Mapping[str, str],
    recordings: Path,
) -> None:
    """INV once everything is delivered and no source may be pruned yet (its grace is not over).

    Nothing lost, everything verified with its own bytes, nothing known twice, no source gone.
    """
    require_nothing_lost(written, segments, stored, recordings)
    require_all_delivered(written, segments, stored)
    assert len(segments) == len(written), "one identity for each file"
    gone = [entry.path for entry in written if not (recordings / entry.path).exists()]
    assert not gone, f"sources were removed within their grace: {gone[:5]}"
