"""kill -9 and I/O errors: what the journal acknowledged is there after the next start (T-11, T-14)."""

import os
import random
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from cctv_storaged.errors import JournalBroken
from tests.faults.journal_child import BROKEN
from tests.faults.journal_processes import PROJECT, command, environment, left_behind, run, run_injected
from tests.unit.journal.samples import open_journal

SYNCS = "fsync,fdatasync"
WRITES = "pwrite64"
ENOUGH_FAULTS = 80
"""No sweep needs more: the child is done by then, or it never will be."""


def start(folder: Path, first: int, count: int, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(folder, first, count, *options),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
        env=environment(),
    )


def read_until(child: subprocess.Popen[str], last: str) -> list[str]:
    assert child.stdout is not None
    lines = []
    for line in child.stdout:
        lines.append(line.strip())
        if lines[-1].startswith(last):
            return lines
    raise AssertionError(f"the child ended before it said {last!r}: {lines}")


def kill(child: subprocess.Popen[str]) -> None:
    child.send_signal(signal.SIGKILL)
    child.communicate(timeout=30)


def acknowledged(lines: list[str]) -> set[UUID]:
    return {UUID(line.split()[1]) for line in lines if line.startswith("ack ")}


@pytest.mark.parametrize("after", [1, 7, 30])
async def test_what_was_acknowledged_survives_kill_9(tmp_path: Path, after: int) -> None:
    child = start(tmp_path, 0, 4000)
    lines: list[str] = []
    while len(acknowledged(lines)) < after:
        lines += read_until(child, "ack ")
    kill(child)
    opening, known = await left_behind(tmp_path)
    assert acknowledged(lines) <= known
    assert opening.unclean and opening.damage is None


async def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    child = start(tmp_path, 0, 4, "--hold")
    read_until(child, "done")
    with pytest.raises(JournalBroken, match="in use by another cctv-storaged; stop it first"):
        await open_journal(tmp_path)
    other = sqlite3.connect(tmp_path / "journal.db", timeout=0.1)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("SELECT * FROM meta").fetchall()
    other.close()
    kill(child)
    opening, known = await left_behind(tmp_path)
    assert opening.unclean and len(known) == 4


async def test_a_process_that_ends_in_order_lets_go(tmp_path: Path) -> None:
    child = start(tmp_path, 0, 4, "--hold")
    read_until(child, "done")
    child.communicate(timeout=30)
    assert child.returncode == 0
    opening, known = await left_behind(tmp_path)
    assert not opening.unclean and len(known) == 4
    assert not (tmp_path / "journal.db-wal").exists()


# I/O errors


def every(step: int = 1) -> Iterator[int]:
    return iter(range(1, ENOUGH_FAULTS, step))


async def test_after_a_failed_fsync_nothing_acknowledged_is_missing(tmp_path: Path) -> None:
    """EIO on the k-th sync, for every k there is: the process ends, or nothing was lost by going on."""
    ended_by_it = 0
    for place in every():
        folder = tmp_path / f"sync{place}"
        assert run(folder, 0, 4).code == 0
        child = run_injected(folder, 4, 24, SYNCS, f"error=EIO:when={place}")
        opening, known = await left_behind(folder)
        assert child.acknowledged <= known, f"sync {place}"
        assert len(known) >= 4 and opening.damage is None
        if not child.injected:
            break
        assert child.code in (0, BROKEN), child.errors
        ended_by_it += child.code == BROKEN
        if child.code == BROKEN:
            assert "see the kernel's log" in child.errors
    else:
        raise AssertionError("the child made more syncs than the sweep has steps")
    assert place > 8 and ended_by_it > 5


async def test_an_error_while_a_new_journal_is_made_leaves_none_or_a_whole_one(tmp_path: Path) -> None:
    for place in every():
        folder = tmp_path / f"sync{place}"
        child = run_injected(folder, 0, 4, SYNCS, f"error=EIO:when={place}")
        opening, known = await left_behind(folder)
        assert child.acknowledged <= known and opening.damage is None
        if not child.injected:
            break
    assert place > 3


async def test_one_write_that_finds_no_room_is_noticed_by_nobody(tmp_path: Path) -> None:
    """ENOSPC once: the log is folded in, which makes room, and the commit is tried again."""
    for place in every(11):
        folder = tmp_path / f"write{place}"
        assert run(folder, 0, 4).code == 0
        child = run_injected(folder, 4, 12, WRITES, f"error=ENOSPC:when={place}")
        opening, known = await left_behind(folder)
        assert (child.code, child.full, len(child.acknowledged)) == (0, 0, 12), child.errors
        assert child.acknowledged <= known and opening.damage is None
        if not child.injected:
            break


async def test_while_no_write_finds_room_callers_are_told_and_nothing_else_happens(tmp_path: Path) -> None:
    """ENOSPC for good, from every some write on: the process goes on and ends in order."""
    refused = 0
    for place in every(11):
        folder = tmp_path / f"write{place}"
        assert run(folder, 0, 4).code == 0
        child = run_injected(folder, 4, 12, WRITES, f"error=ENOSPC:when={place}+")
        opening, known = await left_behind(folder)
        assert child.code == 0, child.errors
        assert child.acknowledged <= known and opening.damage is None
        refused += child.full
        if not child.injected:
            break
    assert refused > 0


async def test_a_write_that_fails_altogether_ends_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    for place in every(16):
        folder = tmp_path / f"write{place}"
        assert run(folder, 0, 4).code == 0
        child = run_injected(folder, 4, 12, WRITES, f"error=EIO:when={place}")
        opening, known = await left_behind(folder)
        assert child.acknowledged <= known and opening.damage is None
        if not child.injected:
            break


# Kills in the midst of what must be whole


async def test_killed_at_any_sync_or_write_the_journal_has_what_was_acknowledged(tmp_path: Path) -> None:
    calls = random.Random(20260123)
    for place in (1, 2, 3, *(calls.randrange(4, 60) for _ in range(6))):
        for name in (SYNCS, WRITES):
            folder = tmp_path / f"{name[:2]}{place}"
            child = run_injected(folder, 0, 12, name, f"signal=KILL:when={place}")
            opening, known = await left_behind(folder)
            assert child.acknowledged <= known and opening.damage is None


async def test_killed_at_any_rename_of_a_recovery_the_next_start_finishes_it(tmp_path: Path) -> None:
    calls = "rename,renameat,renameat2,unlink,unlinkat"
    for place in every():
        folder = tmp_path / f"rename{place}"
        assert run(folder, 0, 40).code == 0
        with (folder / "journal.db").open("r+b") as file:
            os.pwrite(file.fileno(), bytes(4096), 0)  # page 1: the header and the list of tables
        damaged = (folder / "journal.db").read_bytes()
        child = run_injected(folder, 40, 4, calls, f"signal=KILL:when={place}")
        _, known = await left_behind(folder)
        assert len(known) == 44 if child.code == 0 else len(known) >= 40
        (aside,) = folder.glob("journal.db.corrupt-*")
        assert aside.read_bytes() == damaged
        assert not list(folder.glob("*.damaged*")) and not list(folder.glob("*.new*"))
        if not child.injected:
            break
    assert place > 4
