"""What an alarm of a full volume says: in units for people, and only what would help."""

from datetime import timedelta

import pytest

from cctv_storaged.capacity.telling import Circumstances, Waiting, free_text, full_text
from cctv_storaged.capacity.volumes import Facts
from cctv_storaged.quantities import lasting_text, size_text

DISK = Facts(device=1, total_bytes=10**12, free_bytes=55_900_000_000, read_only=False)


def helps(
    *waiting: Waiting, prunes: bool = True, store_here: bool = True, unsaid: tuple[str, ...] = ()
) -> str:
    circumstances = Circumstances(
        waiting=waiting, prunes=prunes, gives_up=False, store_here=store_here, unsaid=unsaid
    )
    return full_text(DISK, None, "expired: nothing of it is left", circumstances).partition("help: ")[2]


def at(backend: str, segments: int, failed: int) -> Waiting:
    return Waiting(backend=backend, segments=segments, bytes=segments * 1000, failed=failed, trouble=None)


def test_what_failed_is_not_told_as_waiting() -> None:
    told = helps(at("FILESYSTEM", 0, 3))
    assert "wait for it" not in told and "0 B" not in told
    assert "the 3 segments that failed at FILESYSTEM" in told and "POST /queue/retry" in told
    assert "the 2 segments (2.0 kB) that wait for it" in helps(at("S3", 2, 0))
    assert "on_full" in helps(at("S3", 0, 1)) and "on_full" not in helps(at("S3", 0, 0))


def test_rules_are_advised_for_the_cameras_that_have_none_of_the_kind() -> None:
    assert "at_least" not in helps()
    assert "for lobby, yard, whose" in helps(unsaid=("lobby", "yard"))
    assert "at_least" not in helps(store_here=False, unsaid=("lobby",)), "the store is on another disk"
    assert "for 0, 1, 2, 3, 4 and 3 more cameras" in helps(unsaid=tuple("01234567"))


def test_the_time_that_is_left_is_told_in_the_unit_that_suits_it() -> None:
    assert "4.1 years at the 428 B/s" in free_text(DISK, 428.0)
    for seconds, text in (
        (5, "5 seconds"),
        (1_560, "26 minutes"),
        (19_800, "5.5 hours"),
        (450_000, "5.2 days"),
        (10**12, "more than 100 years"),
    ):
        assert lasting_text(timedelta(seconds=seconds)) == lasting_text(float(seconds)) == text


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (4_100_000, "4.1 MB"), (2.5e9, "2.5 GB")]
)
def test_a_size_is_told_in_the_unit_that_suits_it(size: float, text: str) -> None:
    assert size_text(size) == text
