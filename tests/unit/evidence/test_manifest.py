"""The manifest: one rendering, both times of every moment, and a reader that takes nothing else."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cctv_storaged.errors import PackageError
from cctv_storaged.evidence import manifest as manifests
from cctv_storaged.evidence.facts import manifest_of
from cctv_storaged.evidence.manifest import ManifestSpan, plain_text, read, written
from cctv_storaged.model import TimeSpan
from tests.unit.evidence.samples import KEY, facts, make_package

FOREVER = datetime.max.replace(tzinfo=UTC)
Change = Callable[[dict[str, Any]], object]


async def test_what_is_written_is_read_again_the_same(tmp_path: Path) -> None:
    made = await make_package(tmp_path)
    assert read(made.facts.manifest_raw) == made.facts.manifest
    assert written(read(made.facts.manifest_raw)) == made.facts.manifest_raw


def test_a_plain_export_has_the_same_manifest_without_a_key() -> None:
    plain = manifest_of(facts(created_by=None, reason=None, case_id=None), [], {}, kind="export", key=None)
    assert read(written(plain)) == plain
    assert (plain.kind, plain.key, plain.request.case_id) == ("export", None, None)


@pytest.mark.parametrize(
    ("start", "local_start", "local_end"),
    [
        ("2026-03-29T00:59:55", "2026-03-29T01:59:55+01:00", "2026-03-29T03:00:05+02:00"),
        ("2026-10-25T00:59:55", "2026-10-25T02:59:55+02:00", "2026-10-25T02:00:05+01:00"),
    ],
)
def test_local_times_carry_their_offset_over_a_change_of_the_clocks(
    start: str, local_start: str, local_end: str
) -> None:
    begin = datetime.fromisoformat(start).replace(tzinfo=UTC)
    span = ManifestSpan.of(TimeSpan(begin, begin + timedelta(seconds=10)), ZoneInfo("Europe/Berlin"))
    assert (span.local_start, span.local_end) == (local_start, local_end)


@given(
    st.datetimes(timezones=st.just(UTC)).filter(lambda moment: moment < FOREVER),
    st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns", "Pacific/Apia", "Asia/Kathmandu"]),
)
def test_any_moment_stands_there_in_both_times(begin: datetime, zone: str) -> None:
    span = ManifestSpan.of(TimeSpan(begin, begin + timedelta(microseconds=1)), ZoneInfo(zone))
    again = ManifestSpan.model_validate_json(span.model_dump_json())
    assert again == span
    assert again.start == begin == datetime.fromisoformat(again.local_start)


@given(st.text(st.characters(codec=None)))
def test_any_name_can_be_written(name: str) -> None:
    shown = plain_text(name)
    assert shown.encode().decode() == shown
    assert shown == name or not name.isascii()


def test_bytes_that_are_no_text_are_shown_as_such() -> None:
    assert plain_text("gate/\udcff.ts") == "gate/\\xff.ts"


def _put(*path: str | int, value: object) -> Change:
    def change(document: dict[str, Any]) -> None:
        inner: Any = document
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_put("format", value="something"), "not of the format"),
        (_put("version", value=3), "version 3, and this program knows version 1 and 2"),
        (_put("version", value="1"), "version '1'"),
        (_put("version", value=True), "version True"),
        (_put("version", value=1.0), "version 1.0"),
        (_put("unheard_of", value=1), "unheard_of"),
        (_put("files", 0, "unheard_of", value=1), "files.0.unheard_of"),
        (lambda document: document["files"][0].pop("sha256"), "files.0.sha256"),
        (_put("files", 0, "sha256", value="AB" * 32), "files.0.sha256"),
        (_put("files", 0, "size_bytes", value=-1), "files.0.size_bytes"),
        (_put("files", 0, "size_bytes", value="1"), "files.0.size_bytes"),
        (_put("files", 0, "size_bytes", value=1.5), "files.0.size_bytes"),
        (_put("files", 0, "role", value="master"), "files.0.role"),
        (_put("files", 0, "path", value="../up"), "plain relative path"),
        (_put("files", 0, "path", value="/etc/passwd"), "plain relative path"),
        (_put("files", 0, "path", value="a\\b"), "plain relative path"),
        (_put("files", 0, "path", value="manifest.json"), "cannot list itself"),
        (_put("files", 0, "path", value="SHEET.html"), "named twice"),
        (_put("files", 0, "camera_id", value=7), "files.0.camera_id"),
        (_put("files", 0, "span", "start", value=0), "files.0.span.start"),
        (_put("files", 0, "span", "start", value="2026-03-29T00:59:50"), "must be a time in UTC"),
        (_put("files", 0, "span", "start", value="2026-03-29T01:59:50+01:00"), "must be a time in UTC"),
        (_put("files", 0, "span", "local_start", value="2026-03-29T01:59:50"), "offset from UTC"),
        (_put("files", 0, "span", "local_start", value="2026-03-29T01:59:51+01:00"), "same moment"),
        (_put("created_at", value="yesterday"), "created_at"),
        (_put("host", "clock", "synchronized", value="yes"), "host.clock.synchronized"),
    ],
)
async def test_what_is_not_of_the_format_is_named(tmp_path: Path, change: Change, told: str) -> None:
    document = json.loads((await make_package(tmp_path)).facts.manifest_raw)
    change(document)
    with pytest.raises(PackageError, match=told):
        read(json.dumps(document).encode())


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"", "no JSON"),
        (b"[]", "not of the format"),
        (b'{"format": "\xff"}', "no JSON in UTF-8"),
        ('{"format": "x"}'.encode("utf-16"), "no JSON in UTF-8"),
        (b"\xef\xbb\xbf{}", "no JSON"),
        (b'{"format": 1, "version": 1, "format": 2}', "'format' stands twice"),
        (b'{"a": {"b": 1, "b": 1}}', "'b' stands twice"),
        (b"{" + b"".join(b'"%d":0,' % number for number in range(400_000)) + b'"7":0}', "'7' stands twice"),
        (b'{"version": NaN}', "NaN is no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b'{"version": ' + b"9" * 10_000 + b"}", "no JSON"),
        (b'{"format": "cctv-storaged-manifest", "version": 1, "kind": "\\ud800"}', "not understood"),
    ],
)
def test_what_is_no_json_is_refused(raw: bytes, told: str) -> None:
    with pytest.raises(PackageError, match=told):
        read(raw)


def test_a_huge_manifest_is_neither_read_nor_written(monkeypatch: pytest.MonkeyPatch) -> None:
    small = manifest_of(facts(), [], {}, kind="evidence", key=KEY.public.fingerprint)
    monkeypatch.setattr(manifests, "MOST_MANIFEST_BYTES", len(written(small)))
    assert read(written(small)) == small
    monkeypatch.setattr(manifests, "MOST_MANIFEST_BYTES", len(written(small)) - 1)
    with pytest.raises(PackageError, match="too many for a package"):
        written(small)
    with pytest.raises(PackageError, match="larger than"):
        read(b" " * manifests.MOST_MANIFEST_BYTES + b" ")


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_and_nothing_else_happens(raw: bytes) -> None:
    with pytest.raises(PackageError):
        read(raw)
