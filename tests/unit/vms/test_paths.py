"""Paths at MILESTONE: what was made is read back, and nothing else is."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cctv_storaged.errors import ObjectRejected
from cctv_storaged.model import TimeSpan
from cctv_storaged.vms.paths import milestone_path, parse_milestone_path

SITE, CAMERA = UUID(int=1), UUID("ABCDEF00-0000-4000-8000-000000000002")
T0 = datetime(2026, 1, 1, 10, tzinfo=UTC)
moments = st.integers(0, 2**52).map(lambda us: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us))


def test_a_path_names_site_camera_and_milliseconds() -> None:
    span = TimeSpan(T0, T0 + timedelta(seconds=10))
    assert milestone_path(SITE, CAMERA, span) == (
        "milestone://00000000-0000-0000-0000-000000000001/abcdef00-0000-4000-8000-000000000002/"
        "1767261600000-1767261610000"
    )


@given(start=moments, microseconds=st.integers(1, 10**12))
def test_a_path_holds_the_whole_span(start: datetime, microseconds: int) -> None:
    span = TimeSpan(start, start + timedelta(microseconds=microseconds))
    found = parse_milestone_path(milestone_path(SITE, CAMERA, span))
    assert (found.site, found.camera) == (SITE, CAMERA)
    assert found.span.start <= span.start
    assert span.end <= found.span.end
    assert found.span.duration - span.duration < timedelta(milliseconds=2)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "gate/2026/01/01/a.ts",
        f"milestone://{SITE}/{CAMERA}/2-1",
        f"milestone://{SITE}/{CAMERA}/1-1",
        f"milestone://{SITE}/{CAMERA}/1-999999999999999",
        f"milestone://{SITE}/{CAMERA}/١-٢",
        f"milestone://{SITE}/{CAMERA}/1-2/",
        f"milestone://{SITE}/gate/1-2",
    ],
)
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(ObjectRejected, match="is no path of MILESTONE"):
        parse_milestone_path(path)
