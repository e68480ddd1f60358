"""The check: whatever is done to a package is seen, and the file it was done to is named."""

import io
import json
import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cctv_storaged.evidence import verify
from cctv_storaged.evidence.container import Entry, directory, local_header
from cctv_storaged.evidence.keys import PublicKey
from cctv_storaged.evidence.opened import NotAPackage, opened_package
from tests.unit.evidence.samples import (
    GATE,
    KEY,
    OTHER_KEY,
    Made,
    checked,
    make_package,
    original,
    signed_anew,
    unpacked,
)


@pytest.fixture
async def made(tmp_path: Path) -> Made:
    return await make_package(tmp_path)


@pytest.fixture
def folder(made: Made, tmp_path: Path) -> Path:
    return unpacked(made.path, tmp_path / "unpacked")


def wrong(path: Path, key: PublicKey | str | None = None) -> set[tuple[str, str | None]]:
    """What the check says, in words and names; a ZIP beyond reading is wrong as a whole."""
    try:
        return {(str(finding.wrong), finding.name) for finding in checked(path, key).findings}
    except NotAPackage:
        return {("changed", None)}


def reasons(path: Path, key: PublicKey | str | None = None) -> str:
    return "\n".join(finding.why for finding in checked(path, key).findings)


def zipped(path: Path, change: Callable[[zipfile.ZipFile], object]) -> None:
    """Changes a ZIP with another program: entries are added at its end."""
    with zipfile.ZipFile(path, "a") as file:
        change(file)


# What is right


def test_an_untouched_package_is_all_right(made: Made) -> None:
    report = checked(made.path)
    assert report.findings == ()
    assert (report.signer, report.trusted) == (KEY.public.fingerprint, False)
    assert report.manifest == made.facts.manifest
    assert report.files == len(made.names) + 2


def test_an_unpacked_package_is_all_right(folder: Path) -> None:
    assert checked(folder).findings == ()
    assert checked(folder, KEY.public).trusted


@pytest.mark.parametrize("key", [KEY.public, KEY.public.fingerprint])
def test_with_the_hosts_key_the_signer_is_known(made: Made, key: PublicKey | str) -> None:
    report = checked(made.path, key)
    assert (report.findings, report.trusted) == ((), True)


def test_progress_reaches_the_whole(made: Made) -> None:
    told: list[tuple[int, int]] = []
    with opened_package(made.path) as package:
        verify.check(package, None, lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1] == sum(len(each) for each in contents_of(made).values())
    assert told == sorted(told)


def contents_of(made: Made) -> dict[str, bytes]:
    with zipfile.ZipFile(made.path) as file:
        return {name: file.read(name) for name in file.namelist()}


# One bit


def parts_of(raw: bytes) -> list[tuple[int, int, str]]:
    """Where each file lies in the ZIP, its header included."""
    with zipfile.ZipFile(io.BytesIO(raw)) as file:
        infos = file.infolist()
        begins = [*(info.header_offset for info in infos), file.start_dir]
    return [(begins[at], begins[at + 1], info.filename) for at, info in enumerate(infos)]


def flipped(raw: bytes, bit: int) -> bytes:
    changed = bytearray(raw)
    changed[bit // 8] ^= 1 << (bit % 8)
    return bytes(changed)


def assert_seen(made: Made, raw: bytes, bit: int, file: Path) -> None:
    file.write_bytes(flipped(raw, bit))
    seen = wrong(file)
    assert seen, f"bit {bit} was flipped, and all is right"
    for begin, end, name in parts_of(raw):
        if begin <= bit // 8 < end:
            assert ("changed", name) in seen, f"bit {bit} of {name} was flipped: {seen}"


def test_no_bit_of_a_zip_outside_its_files_can_be_flipped(made: Made, tmp_path: Path) -> None:
    raw = made.raw
    sizes = {name: len(contents) for name, contents in contents_of(made).items()}
    headers = [at for begin, end, name in parts_of(raw) for at in range(begin, end - sizes[name])]
    ends = range(parts_of(raw)[-1][1], len(raw))
    for at in [*headers, *ends]:
        assert_seen(made, raw, 8 * at + at % 8, tmp_path / "flipped.zip")


@pytest.mark.parametrize("which", range(9))
async def test_no_bit_of_any_file_can_be_flipped(tmp_path: Path, which: int) -> None:
    made = await make_package(tmp_path)
    raw = made.raw
    begin, end, _ = parts_of(raw)[which]

    @settings(max_examples=30, deadline=None, database=None)
    @given(st.integers(8 * begin, 8 * end - 1))
    def any_bit(bit: int) -> None:
        assert_seen(made, raw, bit, tmp_path / "flipped.zip")

    any_bit()


def test_no_bit_of_an_unpacked_file_can_be_flipped(folder: Path) -> None:
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        raw = file.read_bytes()
        for at in range(0, len(raw), max(1, len(raw) // 10)):
            file.write_bytes(flipped(raw, 8 * at + at % 8))
            name = str(file.relative_to(folder))
            if name == "manifest.json.sig":
                name = "manifest.json"  # the two do not belong together: only their bytes could tell which
            assert ("changed", name) in wrong(folder), f"byte {at} of {file}"
        file.write_bytes(raw)
    assert wrong(folder) == set()


# Whole files


@pytest.mark.parametrize("which", range(9))
async def test_a_missing_file_is_named(tmp_path: Path, which: int) -> None:
    made = await make_package(tmp_path)
    contents = contents_of(made)
    name = list(contents)[which]
    folder = unpacked(made.path, tmp_path / "unpacked")
    (folder / name).unlink()
    assert ("missing", name) in wrong(folder)
    with zipfile.ZipFile(tmp_path / "less.zip", "w") as file:
        for other in contents:
            if other != name:
                file.writestr(other, contents[other])
    assert ("missing", name) in wrong(tmp_path / "less.zip")


@pytest.mark.parametrize("which", range(9))
async def test_a_renamed_file_is_missing_and_added(tmp_path: Path, which: int) -> None:
    folder = unpacked((await make_package(tmp_path)).path, tmp_path / "unpacked")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    name = str(files[which].relative_to(folder))
    files[which].rename(folder / "renamed.bin")
    found = wrong(folder)
    assert ("missing", name) in found
    assert ("added", "renamed.bin") in found or name == "manifest.json"


def test_an_added_file_is_named(made: Made, folder: Path) -> None:
    (folder / "originals" / "more.ts").write_bytes(b"")
    (folder / ".hidden").write_bytes(b"")
    assert wrong(folder) == {("added", "originals/more.ts"), ("added", ".hidden")}
    zipped(made.path, lambda file: file.writestr("originals/more.ts", b"more"))
    assert ("added", "originals/more.ts") in wrong(made.path)


def test_two_files_that_changed_places_are_named(folder: Path) -> None:
    first, second, *_ = sorted((folder / "originals").rglob("*.ts"))
    first.rename(folder / "x")
    second.rename(first)
    (folder / "x").rename(second)
    names = {str(path.relative_to(folder)) for path in (first, second)}
    assert wrong(folder) == {("changed", name) for name in names}


# Keys and signatures


def test_a_package_signed_anew_by_somebody_else_is_his(folder: Path) -> None:
    document = json.loads((folder / "manifest.json").read_bytes())
    document["request"]["case_id"] = "another"
    signed_anew(folder, document, OTHER_KEY)
    assert wrong(folder) == {("changed", "manifest.json")}
    (folder / "public-key.pem").write_bytes(OTHER_KEY.public.pem)
    assert ("changed", "public-key.pem") in wrong(folder)


async def test_a_package_forged_throughout_is_known_by_the_hosts_key_only(tmp_path: Path) -> None:
    forged = await make_package(tmp_path, key=OTHER_KEY)
    report = checked(forged.path)
    assert (report.findings, report.signer, report.trusted) == ((), OTHER_KEY.public.fingerprint, False)
    for key in (KEY.public, KEY.public.fingerprint):
        report = checked(forged.path, key)
        assert ("changed", "public-key.pem") in wrong(forged.path, key)
        assert (report.signer, report.trusted) == (None, False)


def test_a_signature_of_another_length_is_named(folder: Path) -> None:
    for raw in (b"", bytes(63), bytes(65), bytes(100_000)):
        (folder / "manifest.json.sig").write_bytes(raw)
        assert wrong(folder) == {("changed", "manifest.json.sig")}


def test_with_the_key_given_a_spoiled_one_inside_does_not_matter_to_the_signature(folder: Path) -> None:
    (folder / "public-key.pem").write_bytes(b"spoiled")
    assert checked(folder).signer is None
    report = checked(folder, KEY.public)
    assert report.signer == KEY.public.fingerprint
    assert {finding.name for finding in report.findings} == {"public-key.pem"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"version": 3}, "has version 3"),
        ({"kind": "export"}, "that of a plain export"),
        ({"key": OTHER_KEY.public.fingerprint}, "was signed by another"),
        ({"unheard_of": 1}, "unheard_of"),
    ],
)
def test_a_signed_manifest_that_is_not_understood_is_not_believed(
    folder: Path, change: dict[str, Any], told: str
) -> None:
    signed_anew(folder, {**json.loads((folder / "manifest.json").read_bytes()), **change})
    assert ("changed", "manifest.json") in wrong(folder)
    assert told in reasons(folder)


@pytest.mark.parametrize("raw", [b"", b"\xff\xfe", b"{}", b'{"version": 1, "version": 2}', b"[" * 99999])
def test_a_signed_manifest_that_is_no_manifest_is_named(folder: Path, raw: bytes) -> None:
    signed_anew(folder, raw)
    assert wrong(folder) == {("changed", "manifest.json"), ("changed", None)}


def test_a_huge_manifest_is_not_read(folder: Path) -> None:
    os.truncate(folder / "manifest.json", 2**40)
    assert ("changed", "manifest.json") in wrong(folder)
    assert "larger than" in reasons(folder)


async def test_what_the_host_itself_found_changed_is_told(tmp_path: Path) -> None:
    made = await make_package(tmp_path, originals=[original(GATE, 0, b"rotten", sha256=bytes(32))])
    assert "not as recorded" in reasons(made.path)
    assert checked(made.path).signer == KEY.public.fingerprint


# Hostile ZIPs


@pytest.mark.parametrize(
    "name",
    ["../up.ts", "/etc/passwd", "originals/../../up.ts", "a\\..\\b", "C:\\x.ts", "bell\a.ts", "nul", "ä.ts"],
)
def test_a_name_that_leads_elsewhere_is_told(made: Made, name: str) -> None:
    zipped(made.path, lambda file: file.writestr(name, b"x"))
    assert ("added", name) in wrong(made.path)
    assert "do not unpack it" in reasons(made.path)


def test_two_entries_of_one_name_are_told(made: Made) -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        zipped(made.path, lambda file: file.writestr("sheet.html", b"another"))
    assert ("added", "sheet.html") in wrong(made.path)
    assert "several files have this name" in reasons(made.path)


def test_names_that_differ_in_capitals_only_are_told(made: Made) -> None:
    zipped(made.path, lambda file: file.writestr("SHEET.html", b"another"))
    assert {("added", "sheet.html"), ("added", "SHEET.html")} <= wrong(made.path)


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFDIR])
def test_what_is_no_file_is_told(made: Made, mode: int) -> None:
    info = zipfile.ZipInfo("originals/odd.ts")
    info.external_attr = (mode | 0o777) << 16
    zipped(made.path, lambda file: file.writestr(info, b"/etc/passwd"))
    assert ("changed", "originals/odd.ts") in wrong(made.path)
    assert "no file" in reasons(made.path)


def test_a_zip_made_by_another_program_is_told_although_its_folder_is_right(
    made: Made, folder: Path, tmp_path: Path
) -> None:
    again = shutil.make_archive(str(tmp_path / "again"), "zip", folder)
    assert "compressed or encrypted" in reasons(Path(again))
    assert checked(folder).findings == ()


def test_a_bomb_is_not_unpacked(made: Made, tmp_path: Path) -> None:
    contents = contents_of(made)
    name = made.names[0]
    contents[name] = bytes(50 * 1024 * 1024)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for each, raw in contents.items():
            file.writestr(each, raw)
    assert ("changed", name) in wrong(tmp_path / "bomb.zip")


def test_files_that_lie_in_each_other_are_told(made: Made) -> None:
    """Many entries over the same bytes would be read many times."""
    raw = bytearray(made.raw)
    first, second = (raw.index(b"PK\x01\x02"), raw.index(b"PK\x01\x02", raw.index(b"PK\x01\x02") + 4))
    raw[second + 42 : second + 46] = raw[first + 42 : first + 46]
    made.path.write_bytes(raw)
    assert "place of its own" in reasons(made.path)


def test_bytes_hidden_between_two_files_are_told(made: Made) -> None:
    """With headers and a directory that agree with each other, as any other program reads them."""
    manifest, contents = made.facts.manifest, contents_of(made)
    entries, raw = [], bytearray()
    for name, each in contents.items():
        span = next((file.span for file in manifest.files if file.path == name), None)
        moment = manifest.created_at if span is None else span.start
        size_bytes, crc32 = len(each), zlib.crc32(each)
        entry = Entry(name=name, moment=moment, size_bytes=size_bytes, crc32=crc32, offset=len(raw))
        entries.append(entry)
        raw += local_header(entry) + each + (b"hidden" if len(entries) == 1 else b"")
    made.path.write_bytes(raw + directory(entries))
    assert contents_of(made) == contents
    assert wrong(made.path) >= {("changed", name) for name in list(contents)[1:]}


@pytest.mark.parametrize("more", [b"x", b"PK\x05\x06", bytes(100), b"\n" * 70_000])
def test_bytes_appended_are_told(made: Made, more: bytes) -> None:
    made.path.write_bytes(made.raw + more)
    assert wrong(made.path)


def test_bytes_put_before_it_are_told(made: Made) -> None:
    made.path.write_bytes(b"#!/bin/sh\n" + made.raw)
    assert ("changed", None) in wrong(made.path)
    assert "10 bytes stand before" in reasons(made.path)


def test_a_comment_is_told(made: Made) -> None:
    zipped(made.path, lambda file: setattr(file, "comment", b"looks harmless"))
    assert ("changed", None) in wrong(made.path)
    assert "14 bytes were appended" in reasons(made.path)


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_package_that_was_cut_off_is_told(made: Made, kept: float) -> None:
    os.truncate(made.path, int(len(made.raw) * kept))
    with pytest.raises(NotAPackage):
        checked(made.path)


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.data())
def test_whatever_is_done_to_a_zip_the_check_comes_to_an_end(made: Made, data: st.DataObject) -> None:
    """Never right, and no other end than a report or NotAPackage."""
    raw = bytearray(made.raw)
    for _ in range(data.draw(st.integers(1, 4))):
        # The directory is where numbers lie that lead the reader astray.
        at = data.draw(st.integers(0, len(raw) - 1) | st.integers(len(raw) - 900, len(raw) - 1))
        raw[at : at + 4] = data.draw(st.binary(max_size=4) | st.sampled_from([b"\xff" * 4, bytes(4)]))
    file = made.path.with_name("damaged.zip")
    file.write_bytes(raw)
    assert wrong(file) or bytes(raw) == made.raw


@given(st.binary(max_size=300) | st.binary(max_size=300).map(lambda raw: b"PK\x05\x06" + raw))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_bytes_are_no_package(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "any.zip").write_bytes(raw)
    assert wrong(tmp_path / "any.zip")


# Hostile folders


def test_a_link_in_a_folder_is_told_and_not_followed(folder: Path, tmp_path: Path) -> None:
    sheet = folder / "sheet.html"
    sheet.rename(tmp_path / "elsewhere")
    sheet.symlink_to(tmp_path / "elsewhere")
    (folder / "clips" / "up").symlink_to("/")
    assert wrong(folder) == {("changed", "sheet.html"), ("changed", "clips/up")}


def test_a_pipe_in_a_folder_is_told_and_not_waited_for(folder: Path) -> None:
    (folder / "sheet.html").unlink()
    os.mkfifo(folder / "sheet.html")
    assert wrong(folder) == {("changed", "sheet.html")}


def test_what_is_neither_file_nor_folder_is_no_package(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotAPackage, match="neither a file nor a folder"):
        checked(tmp_path / "pipe")


def test_an_empty_folder_lacks_its_manifest(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert ("missing", "manifest.json") in wrong(tmp_path / "empty")


def test_names_of_a_folder_that_are_no_text_are_told(folder: Path) -> None:
    with open(os.path.join(os.fsencode(folder), b"\xff.ts"), "wb"):
        pass
    assert ("added", "\udcff.ts") in wrong(folder)
