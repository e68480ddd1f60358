"""The sheet: readable anywhere, true to the manifest, and deaf to whatever a name may hold."""

import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from xml.etree import ElementTree
from zipfile import ZipFile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cctv_storaged.evidence import sheet as sheets
from cctv_storaged.evidence.facts import manifest_of
from cctv_storaged.evidence.manifest import FileRole, Manifest
from cctv_storaged.evidence.sheet import sheet
from tests.unit.evidence.samples import GATE, HOST, KEY, Made, facts, make_package, original

ALLOWED = {
    "html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "table", "thead", "tbody", "tr",
    "th", "td", "code", "bdi", "br", "strong",
}  # fmt: skip
HOSTILE = [
    "<script>alert(1)</script>",
    "</title></style><img src=x onerror=alert(1)>",
    "\" onmouseover='alert(1)' & &lt;",
    "]]><!--",
    "gate\u202etxt.exe\0\x1b[2J",
]


def parsed(page: str) -> ElementTree.Element:
    """The page as XML, which every tag of it must be."""
    return ElementTree.fromstring(page.removeprefix("<!DOCTYPE html>\n"))


def shown(page: str) -> str:
    return "".join(parsed(page).itertext())


def sheet_in(made: Made) -> str:
    with ZipFile(made.path) as file:
        return file.read("sheet.html").decode()


def empty(**changes: object) -> Manifest:
    return manifest_of(facts(**changes), [], {}, kind="evidence", key=KEY.public.fingerprint)


async def test_it_tells_who_why_what_and_when(tmp_path: Path) -> None:
    made = await make_package(tmp_path)
    told = shown(sheet_in(made))
    for fact in (
        "2026-0815", "break-in at the gate", "j.doe", "nvr-01", "cctv-storaged test, ffmpeg 7.1",
        "Europe/Berlin", KEY.public.fingerprint, "Camera Gate", "Camera Yard", "lost", "segment 7 was gone",
        "partial",
        "2026-03-29T00:59:50Z", "2026-03-29T01:59:50+01:00", "2026-03-29T03:00:20+02:00", "synchronized",
        "its SHA-256 was first taken for this package", "gate/2026-03-29/0.ts", "cctv-storaged verify",
    ):  # fmt: skip
        assert fact in told, fact


async def test_it_lists_every_original_and_working_copy_with_its_hash(tmp_path: Path) -> None:
    made = await make_package(tmp_path)
    told = shown(sheet_in(made))
    listed = made.facts.manifest.of_role(FileRole.ORIGINAL, FileRole.WORKING_COPY)
    assert len(listed) == 4
    assert [file.path for file in listed if file.path not in told or file.sha256 not in told] == []


@pytest.mark.parametrize("text", HOSTILE)
def test_whatever_stands_in_a_name_is_shown_and_not_obeyed(text: str) -> None:
    page = sheet(empty(reason=text, created_by=text, case_id=text, cameras=(replace(GATE, name=text),)))
    assert {element.tag for element in parsed(page).iter()} <= ALLOWED
    visible = (
        text.encode("ascii", "backslashreplace").decode().replace("\0", "\\x00").replace("\x1b", "\\x1b")
    )
    assert shown(page).count(visible) >= 4


@given(st.text(st.characters(codec=None)))
def test_any_text_leaves_the_page_well_formed(text: str) -> None:
    page = sheet(empty(reason=text, created_by=text, cameras=(replace(GATE, name=text),)))
    assert {element.tag for element in parsed(page).iter()} <= ALLOWED
    assert page.encode().decode() == page


async def test_nothing_is_fetched_or_run(tmp_path: Path) -> None:
    page = sheet_in(await make_package(tmp_path))
    attributes = {name for element in parsed(page).iter() for name in element.attrib}
    assert attributes <= {"lang", "charset", "http-equiv", "content", "name", "class", "scope"}
    assert not re.search(r"https?:|url\(|@import|javascript:", page)
    assert "default-src 'none'" in unescape(page)


async def test_a_file_that_is_not_as_recorded_stands_out(tmp_path: Path) -> None:
    good = shown(sheet_in(await make_package(tmp_path)))
    assert "Not what was recorded" not in good
    spoiled = await make_package(tmp_path, originals=[original(GATE, 0, b"other", sha256=bytes(32))])
    told = shown(sheet_in(spoiled))
    assert "Not what was recorded: 1 of the files." in told
    assert f"NOT as recorded, which was {'0' * 64}" in told


def test_a_clock_that_was_not_synchronized_stands_out() -> None:
    clock = HOST.clock.model_copy(update={"synchronized": False})
    assert "was not synchronized" not in shown(sheet(empty()))
    assert "was not synchronized" in shown(sheet(empty(host=HOST.model_copy(update={"clock": clock}))))


async def test_a_very_long_list_refers_to_the_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sheets, "MOST_ROWS", 2)
    made = await make_package(tmp_path, originals=[original(GATE, number, b"x") for number in range(5)])
    assert "And 3 more: see manifest.json." in shown(sheet_in(made))
