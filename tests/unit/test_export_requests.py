"""What may be asked of an export, what is told of it, and what is kept of it."""

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from cctv_storaged.api.export_models import ExportAnswer
from cctv_storaged.api.exportjson import export_json
from cctv_storaged.errors import Unprocessable
from cctv_storaged.exporting.admission import Disks
from cctv_storaged.exporting.request import (
    MOST_CAMERAS,
    MOST_SEGMENTS,
    Needs,
    Room,
    Wish,
    lacking,
    needs_of,
    request_of,
    weight_faults,
)
from cctv_storaged.exporting.result import possible_keys, stems_of
from cctv_storaged.exporting.work import WorkFolders, read_sidecar, room_at, write_sidecar
from cctv_storaged.journal.exportrows import (
    Export,
    ExportFile,
    ExportGap,
    ExportRequest,
    ExportResult,
    ExportStatus,
)
from cctv_storaged.journal.material import Weight
from cctv_storaged.model import Camera, TimeSpan

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
GATE, YARD = UUID(int=1), UUID(int=2)
SPAN = TimeSpan(NOW - HOUR, NOW)
MB = 10**6


def wish(**changes: Any) -> Wish:
    facts: dict[str, Any] = {
        "camera_ids": (GATE, YARD),
        "start": NOW - HOUR,
        "end": NOW,
        "format": "mp4",
        "reason": "theft",
        **changes,
    }
    return Wish(**facts)


def faults(**changes: Any) -> set[str]:
    try:
        request_of(wish(**changes), 24 * HOUR, NOW)
    except Unprocessable as exc:
        return {fault.where for fault in exc.faults}
    return set()


@pytest.mark.parametrize(
    ("changes", "blamed"),
    [
        ({}, set()),
        ({"end": NOW + HOUR}, set()),  # the present is in it: what is there by then is taken
        ({"start": NOW - 24 * HOUR}, set()),
        ({"start": NOW - 24 * HOUR - timedelta(microseconds=1)}, {"end_time"}),
        ({"end": NOW - HOUR}, {"end_time"}),
        ({"end": NOW - 2 * HOUR}, {"end_time"}),
        ({"start": NOW, "end": NOW + HOUR}, {"start_time"}),
        ({"start": NOW + 2 * HOUR, "end": NOW + HOUR}, {"start_time", "end_time"}),
        ({"camera_ids": (GATE, YARD, GATE, GATE)}, {"camera_ids.2", "camera_ids.3"}),
        ({"camera_ids": tuple(UUID(int=n) for n in range(MOST_CAMERAS))}, set()),
        ({"camera_ids": tuple(UUID(int=n) for n in range(MOST_CAMERAS + 1))}, {"camera_ids"}),
    ],
)
def test_every_fault_of_a_request_is_told_with_its_field(changes: dict[str, Any], blamed: set[str]) -> None:
    assert faults(**changes) == blamed


def test_a_request_keeps_what_was_wished() -> None:
    made = request_of(wish(case_id="7", created_by="ops", precise=True, package="evidence"), 24 * HOUR, NOW)
    assert made == ExportRequest(
        camera_ids=(GATE, YARD),
        span=SPAN,
        format="mp4",
        reason="theft",
        case_id="7",
        created_by="ops",
        precise=True,
        package="evidence",
    )


def test_more_segments_than_fit_a_manifest_are_refused() -> None:
    assert list(weight_faults([Weight(MOST_SEGMENTS, 1)])) == []
    assert [each.where for each in weight_faults([Weight(MOST_SEGMENTS, 1), Weight(1, 1)])] == ["end_time"]


@pytest.mark.parametrize(
    ("weights", "package", "times", "stored"),
    [([100 * MB], "plain", 1, 1), ([60 * MB, 40 * MB], "plain", 2, 1), ([100 * MB], "evidence", 3, 2)],
)
def test_room_is_needed_for_every_file_that_exists_at_once(
    weights: list[int], package: Any, times: int, stored: int
) -> None:
    needs = needs_of([Weight(10, size) for size in weights], package)
    assert needs == Needs(work_bytes=times * 110 * MB, store_bytes=stored * 110 * MB)


def test_too_little_room_is_told_with_both_numbers_and_the_folder() -> None:
    room = Room(folder="/work", free_bytes=100, reserve_bytes=30)
    assert lacking(70, room) is None
    told = lacking(71, room)
    assert told is not None
    assert all(word in told for word in ("71", "70", "/work"))


def test_on_one_disk_a_linked_result_takes_no_room_twice(tmp_path: Path) -> None:
    free = room_at(tmp_path, 0).free_bytes
    needs = Needs(work_bytes=free // 2, store_bytes=free * 6 // 10)
    disks = Disks(work=tmp_path / "work", store=tmp_path / "store", linked=True, reserve_bytes=0)
    assert disks.lacking(needs) is None
    assert replace(disks, linked=False).lacking(needs) is not None
    assert replace(disks, store=None, linked=False).lacking(needs) is None
    assert replace(disks, reserve_bytes=free).lacking(needs) is not None


def test_an_export_that_would_leave_less_than_the_last_level_asks_for_is_refused(tmp_path: Path) -> None:
    disks = Disks(work=tmp_path, store=None, linked=False, reserve_bytes=0)
    assert disks.lacking(Needs(work_bytes=1, store_bytes=0)) is None
    told = replace(disks, reserve_share=1.0).lacking(Needs(work_bytes=1, store_bytes=0))
    assert told is not None and "kept back" in told


def test_a_store_on_another_disk_needs_room_of_its_own(tmp_path: Path) -> None:
    other = Path("/dev/shm")
    assert os.stat(other).st_dev != os.stat(tmp_path).st_dev
    disks = Disks(work=tmp_path, store=other / "store", linked=True, reserve_bytes=0)
    told = disks.lacking(Needs(work_bytes=1, store_bytes=2**60))
    assert told is not None and "/dev/shm/store" in told


# Names


def test_files_of_cameras_have_names_that_are_safe_and_their_own() -> None:
    cameras = [
        Camera(id=uuid4(), name=name, folder="f")
        for name in ("Gate", "gate", "../../etc/passwd", "Tür 1 / Höf\x00", "con", "")
    ]
    stems = list(stems_of(cameras, NOW).values())
    assert len({stem.casefold() for stem in stems}) == len(cameras)
    for stem in stems:
        assert stem.isascii() and not set(stem) & set('/\\:*?"<>|\0 ') and stem.endswith("_20261126T120000Z")


# What is told


def export(**changes: Any) -> Export:
    facts: dict[str, Any] = {
        "no": 1,
        "id": UUID(int=9),
        "request": request_of(wish(), 24 * HOUR, NOW),
        "status": ExportStatus.PENDING,
        "starts": 0,
        "progress": 0.0,
        "error": None,
        "due": None,
        "waiting_since": None,
        "result": None,
        "created_at": NOW,
        "completed_at": None,
        "expires_at": None,
        "removal": None,
        **changes,
    }
    return Export(**facts)


def completed(**changes: Any) -> Export:
    digest = "ab" * 32
    result = ExportResult(
        path="x.zip",
        manifest_path="x.manifest.json",
        file_name="x.zip",
        media_type="application/zip",
        size_bytes=5,
        sha256=digest,
        segments=2,
        files=(ExportFile(name="a.mp4", camera_id=GATE, span=SPAN, size_bytes=5, sha256=digest, codec=None),),
        files_total=1,
        gaps=(ExportGap(camera_id=YARD, span=SPAN, cause="unreadable", detail="why"),),
        gaps_total=1,
    )
    return export(
        status=ExportStatus.COMPLETED, result=result, completed_at=NOW, expires_at=NOW + HOUR, **changes
    )


@pytest.mark.parametrize("told", [export(), export(status=ExportStatus.FAILED, error="no"), completed()])
def test_an_answer_is_what_its_model_says(told: Export) -> None:
    document = export_json(told, NOW, "/x")
    assert set(document) == set(ExportAnswer.model_fields)
    ExportAnswer.model_validate(document)


@pytest.mark.parametrize(
    ("of", "now", "expired"),
    [
        (completed(), NOW, False),
        (completed(), NOW + HOUR, True),
        (completed(removal="done"), NOW, True),
        (export(status=ExportStatus.FAILED, removal="asked"), NOW, False),
    ],
)
def test_an_export_expires_at_its_moment_whoever_has_removed_its_file_by_then(
    of: Export, now: datetime, expired: bool
) -> None:
    assert of.expired(now) is expired


def test_whatever_a_making_came_to_its_keys_are_known() -> None:
    assert set(possible_keys(export())) == {f"{UUID(int=9)}.{end}" for end in ("mp4", "zip", "manifest.json")}


# Work folders


def test_only_folders_of_exports_are_swept(tmp_path: Path) -> None:
    work = WorkFolders(tmp_path / "work")
    assert work.sweep(frozenset()) == 0
    kept, gone = uuid4(), uuid4()
    (work.make(kept) / "000").mkdir()
    (work.make(gone) / "000").mkdir()
    (work.base / "somebody's").mkdir()
    assert work.sweep(frozenset({kept})) == 1
    assert {path.name for path in work.base.iterdir()} == {str(kept), "somebody's"}
    work.remove(kept)
    work.remove(kept)
    assert not work.of(kept).exists()


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff", None])
def test_a_sidecar_that_says_nothing_is_none(tmp_path: Path, damage: bytes | None) -> None:
    path = tmp_path / "000.json"
    write_sidecar(path, {"a": [1]})
    assert read_sidecar(path) == {"a": [1]}
    path.unlink() if damage is None else path.write_bytes(damage)
    assert read_sidecar(path) is None
