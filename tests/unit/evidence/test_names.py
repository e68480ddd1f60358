"""Names in a package mean one file on every system, however a camera is called."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cctv_storaged.evidence.names import clip_path, folders_of, is_safe, original_path
from cctv_storaged.model import Camera

CAMERAS = st.lists(
    st.builds(Camera, id=st.uuids(), name=st.text(st.characters(codec=None)), folder=st.just("x")),
    unique_by=lambda camera: camera.id,
    min_size=1,
    max_size=8,
)


@given(CAMERAS, st.datetimes(timezones=st.just(UTC)), st.integers(1, 99))
def test_every_camera_gives_safe_names_of_its_own(
    cameras: list[Camera], moment: datetime, occurrence: int
) -> None:
    folders = folders_of(cameras)
    paths = [
        path
        for folder in folders.values()
        for path in (
            original_path(folder, moment, occurrence, "0123456789abcdef"),
            clip_path(folder, None, ".mp4"),
            clip_path(folder, occurrence, ".mkv"),
        )
    ]
    assert all(map(is_safe, paths))
    assert len({path.casefold() for path in paths}) == len(paths) == 3 * len(cameras)


def test_cameras_whose_short_names_are_the_same_are_told_apart() -> None:
    first, second = UUID("123e4567-0000-0000-0000-000000000001"), UUID("123e4567-0000-0000-0000-000000000002")
    cameras = [Camera(id=first, name="Gate", folder="a"), Camera(id=second, name="GATE", folder="b")]
    assert folders_of(cameras) == {first: f"Gate-{first}", second: f"GATE-{second}"}


def test_a_name_tells_camera_start_and_digest() -> None:
    camera = Camera(id=UUID("123e4567-e89b-12d3-a456-426614174000"), name="Café / Tür 3", folder="x")
    folder = folders_of([camera])[camera.id]
    start = datetime(2026, 1, 2, 3, 4, 5, 600000, UTC)
    assert original_path(folder, start, 1, "ab" * 32) == (
        "originals/Cafe-Tur-3-123e4567/20260102T030405.600000Z_abababababab.ts"
    )
    assert original_path(folder, start, 2, "ab" * 32).endswith("Z-2_abababababab.ts")


@pytest.mark.parametrize(
    "path",
    [
        "", "/", "a/", "/a", "a//b", "../a", "a/../b", "./a", "a/.", ".hidden", "a\\b", "C:/a", "a:b", "a b",
        "ä", "a\n", "a\0", "nul", "a/CON.txt", "com1", "a.", "a./b", "-a", "~", "a" * 241,
    ],
)  # fmt: skip
def test_what_could_mean_another_file_somewhere_is_not_safe(path: str) -> None:
    assert not is_safe(path)
