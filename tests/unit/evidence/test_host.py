"""What a host says of its clock and zone, and that it says so when it does not know."""

import subprocess
from pathlib import Path

import pytest

from cctv_storaged.evidence import host
from cctv_storaged.evidence.host import clock_state, host_facts, local_zone
from cctv_storaged.hostclock import KernelClock, kernel_clock

KERNEL = KernelClock(synchronized=True, offset_us=-250, max_error_us=1200)


def test_the_kernel_tells_how_good_the_clock_is() -> None:
    told = kernel_clock()
    assert told is not None
    assert told.max_error_us >= 0
    assert clock_state().told_by == "kernel"


def test_asking_changes_nothing_and_the_layout_is_the_kernels(tmp_path: Path) -> None:
    """The same call in C, with the system's own header."""
    source = (
        "#include <stdio.h>\n#include <sys/timex.h>\nint main(void){struct timex t={0};int a=adjtimex(&t);"
    )
    source += 'printf("%d %ld", a == 5 || (t.status & STA_UNSYNC), t.maxerror);}'
    (tmp_path / "clock.c").write_text(source)
    subprocess.run(["cc", "-o", "clock", "clock.c"], cwd=tmp_path, check=True)
    said = subprocess.run([tmp_path / "clock"], check=True, capture_output=True, text=True).stdout.split()
    told = kernel_clock()
    assert told is not None
    assert (told.synchronized, abs(told.max_error_us - int(said[1])) < 1_000_000) == (said[0] == "0", True)


def test_where_the_kernel_may_not_be_asked_timesyncd_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "kernel_clock", lambda: None)
    monkeypatch.setattr(host, "_SYNCHRONIZED_FILE", tmp_path / "synchronized")
    unknown = clock_state(store_offset_ms=40)
    assert (unknown.synchronized, unknown.told_by, unknown.store_offset_ms) == (None, "nobody", 40)
    (tmp_path / "synchronized").touch()
    assert (clock_state().synchronized, clock_state().told_by) == (True, "timesyncd")


def test_all_that_is_known_stands_in_the_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "kernel_clock", lambda: KERNEL)
    monkeypatch.setenv("TZ", "America/St_Johns")
    facts = host_facts("nvr-01", ffmpeg="7.1", store_offset_ms=-3)
    assert (facts.id, facts.ffmpeg, facts.time_zone) == ("nvr-01", "7.1", "America/St_Johns")
    clock = facts.clock
    assert (clock.synchronized, clock.offset_us, clock.max_error_us, clock.store_offset_ms) == (
        True, -250, 1200, -3,
    )  # fmt: skip


@pytest.mark.parametrize(
    "name", ["Nowhere/At_All", "../etc/passwd", "Europe", "CET-1CEST,M3.5.0", "/etc/localtime"]
)
def test_a_zone_nobody_knows_is_not_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", name)
    assert local_zone() != name
