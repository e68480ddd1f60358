"""A scan finds what lies there, and reads quiet folders only once."""

import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from cctv_storaged.recorder import scanner as scanners
from cctv_storaged.recorder.scanner import RACY_NS, Listing, Scanner


def listings(scanner: Scanner, *, full: bool = False) -> dict[str, Listing]:
    return {listing.folder: listing for listing in scanner.changed(full=full)}


def age(folder: Path) -> None:
    """Make the folder look quiet for longer than its clock's tick."""
    past = time.time_ns() - 10 * RACY_NS
    os.utime(folder, ns=(past, past))


def test_every_depth_is_seen_and_other_files_are_not(tmp_path: Path) -> None:
    for path in ("a.ts", "cam/b.ts", "cam/2026/11/c.ts", "cam/notes.txt", "cam/d.ts.tmp"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    found = listings(Scanner(str(tmp_path), ".ts"))
    names = {f"{folder}/{name}".lstrip("/") for folder, listing in found.items() for name in listing.files}
    assert names == {"a.ts", "cam/b.ts", "cam/2026/11/c.ts"}


def test_a_settled_folder_is_read_again_only_when_it_changes(tmp_path: Path) -> None:
    cam = tmp_path / "cam"
    cam.mkdir()
    (cam / "a.ts").touch()
    age(cam)
    scanner = Scanner(str(tmp_path), ".ts")
    scanner.settle(listings(scanner)["cam"])
    assert "cam" not in listings(scanner)
    (cam / "b.ts").touch()
    assert set(listings(scanner)["cam"].files) == {"a.ts", "b.ts"}


def test_a_folder_changed_a_moment_ago_is_not_trusted_to_be_quiet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = [tmp_path.stat().st_mtime_ns + RACY_NS]
    monkeypatch.setattr(scanners, "time", SimpleNamespace(time_ns=lambda: moment[0]))
    scanner = Scanner(str(tmp_path), ".ts")
    scanner.settle(listings(scanner)[""])
    assert "" in listings(scanner)
    moment[0] += 1
    scanner.settle(listings(scanner)[""])
    assert "" not in listings(scanner)


def test_a_full_scan_reads_settled_folders_too(tmp_path: Path) -> None:
    (tmp_path / "a.ts").touch()
    age(tmp_path)
    scanner = Scanner(str(tmp_path), ".ts")
    scanner.settle(listings(scanner)[""])
    assert listings(scanner) == {}
    assert "" in listings(scanner, full=True)


def test_a_folder_inside_a_settled_one_is_still_found(tmp_path: Path) -> None:
    (tmp_path / "cam" / "day").mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "cam"):
        age(folder)
    scanner = Scanner(str(tmp_path), ".ts")
    for listing in listings(scanner).values():
        scanner.settle(listing)
    (tmp_path / "cam" / "day" / "a.ts").touch()
    assert "a.ts" in listings(scanner)["cam/day"].files


def test_links_are_no_way_out_of_the_root(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.ts").touch()
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(outside)
    (root / "b.ts").symlink_to(outside / "a.ts")
    found = listings(Scanner(str(root), ".ts"))
    assert set(found) == {""}, "the folder behind the link is not entered"
    assert set(found[""].files) == {"b.ts"}, "a link with a segment's name is listed, for admission to refuse"


def test_a_root_that_is_away_is_told_and_not_taken_for_empty(tmp_path: Path) -> None:
    scanner = Scanner(str(tmp_path / "unmounted"), ".ts")
    with pytest.raises(OSError, match="unmounted"):
        list(scanner.changed())


def test_a_new_folder_is_looked_into_without_a_scan_of_the_root(tmp_path: Path) -> None:
    (tmp_path / "gate" / "new" / "deep").mkdir(parents=True)
    for path in ("gate/a.ts", "gate/new/b.ts", "gate/new/deep/c.ts"):
        (tmp_path / path).touch()
    scanner = Scanner(str(tmp_path), ".ts")
    found = {listing.folder: set(listing.files) for listing in scanner.below("gate/new")}
    assert found == {"gate/new": {"b.ts"}, "gate/new/deep": {"c.ts"}}
    assert list(scanner.below("gate/gone")) == []
    (tmp_path / "gate" / "link").symlink_to(tmp_path / "gate" / "new")
    assert list(scanner.below("gate/link")) == []


def test_a_folder_that_something_is_owed_to_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "gate").mkdir()
    age(tmp_path / "gate")
    age(tmp_path)
    scanner = Scanner(str(tmp_path), ".ts")
    for listing in listings(scanner).values():
        scanner.settle(listing)
    scanner.unsettle(["gate", "never seen"])
    assert set(listings(scanner)) == {"gate"}


def test_a_folder_on_another_device_is_read_again_and_told(tmp_path: Path) -> None:
    """Mounting needs rights: the device number that the last scan saw is changed instead."""
    (tmp_path / "disk").mkdir()
    age(tmp_path / "disk")
    age(tmp_path)
    scanner = Scanner(str(tmp_path), ".ts")
    for listing in listings(scanner).values():
        scanner.settle(listing)
    assert not scanner.remounted
    scanner._folders["disk"].device += 1
    assert set(listings(scanner)) == {"disk"}
    assert scanner.remounted
    assert not listings(scanner, full=True).keys() - {"", "disk"}
    assert not scanner.remounted, "told once"
