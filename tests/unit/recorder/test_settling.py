"""A file that stands still long enough is taken for closed, where the kernel does not tell."""

from dataclasses import replace

from cctv_storaged.model import FileIdentity
from cctv_storaged.recorder.settling import QUIET_S, Settling

FILE = FileIdentity(device=1, inode=2, size_bytes=100, mtime_ns=5)


def test_one_look_is_never_enough() -> None:
    assert not Settling().quiet("a.ts", FILE, 1e9)


def test_a_minute_of_silence_is_the_end() -> None:
    settling = Settling()
    settling.quiet("a.ts", FILE, 0.0)
    assert not settling.quiet("a.ts", FILE, QUIET_S - 1)
    assert settling.quiet("a.ts", FILE, QUIET_S)


def test_every_write_starts_the_minute_anew() -> None:
    settling = Settling()
    settling.quiet("a.ts", FILE, 0.0)
    grown = replace(FILE, size_bytes=200)
    assert not settling.quiet("a.ts", grown, QUIET_S - 1)
    assert not settling.quiet("a.ts", grown, QUIET_S + 1)
    assert settling.quiet("a.ts", grown, 2 * QUIET_S)


def test_files_that_vanished_are_forgotten() -> None:
    settling = Settling()
    settling.quiet("a.ts", FILE, 0.0)
    settling.forget_older_than(1.0)
    assert not settling.quiet("a.ts", FILE, QUIET_S), "it is as new"


def test_silence_counts_while_a_file_may_not_be_read() -> None:
    settling = Settling()
    for seen_at in (0.0, 30.0):
        settling.note("a.ts", FILE, seen_at)
    assert settling.quiet("a.ts", FILE, QUIET_S)


def test_a_file_that_had_settled_and_refused_needs_no_second_silence() -> None:
    settling = Settling()
    assert not settling.quiet("a.ts", FILE, 0.0)
    assert settling.quiet("a.ts", FILE, QUIET_S)
    settling.note("a.ts", FILE, QUIET_S, settled=True)
    assert settling.quiet("a.ts", FILE, QUIET_S + 1)
    settling.note("a.ts", FILE, QUIET_S)
    assert not settling.quiet("a.ts", FILE, QUIET_S + 1)
