"""Starting the journal's child process, under strace or alone, and asking what it left behind."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from cctv_storaged.journal.journal import Journal
from cctv_storaged.journal.opening import Opening
from tests.unit.journal.samples import open_journal

PROJECT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 60


@dataclass(frozen=True)
class Ended:
    """A child that has ended."""

    code: int
    lines: tuple[str, ...]
    errors: str
    injected: int  # how many system calls failed or killed it, where strace made them

    @property
    def acknowledged(self) -> frozenset[UUID]:
        return frozenset(UUID(line.split()[1]) for line in self.lines if line.startswith("ack "))

    @property
    def full(self) -> int:
        return self.lines.count("full")


def command(folder: Path, first: int, count: int, *options: str) -> list[str]:
    return [sys.executable, "-m", "tests.faults.journal_child", str(folder), str(first), str(count), *options]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{PROJECT / 'src'}:{PROJECT}", "PYTHONDONTWRITEBYTECODE": "1"}


def run(folder: Path, first: int, count: int, *options: str) -> Ended:
    """Runs the child to its end."""
    return _ended(command(folder, first, count, *options), None)


def run_injected(folder: Path, first: int, count: int, calls: str, fault: str) -> Ended:
    """Runs the child under strace, which makes some of the `calls` below `folder` end in a `fault`."""
    trace = folder.with_name(folder.name + ".strace")
    strace = [
        "strace",
        "-f",
        "-qq",
        "-o",
        str(trace),
        "-e",
        f"trace={calls}",
        "-e",
        f"inject={calls}:{fault}",
    ]
    return _ended([*strace, *command(folder, first, count)], trace)


def _ended(argv: Sequence[str], trace: Path | None) -> Ended:
    child = subprocess.run(
        argv, capture_output=True, text=True, timeout=TIMEOUT_S, cwd=PROJECT, env=environment(), check=False
    )
    marks = re.findall(r"\(INJECTED\)|killed by SIGKILL", trace.read_text()) if trace is not None else []
    return Ended(child.returncode, tuple(child.stdout.splitlines()), child.stderr, len(marks))


async def left_behind(folder: Path) -> tuple[Opening, frozenset[UUID]]:
    """Opens the journal as the next start would: how that went, and which segments it knows."""
    async with await open_journal(folder) as journal:
        return journal.opening, await ids(journal)


async def ids(journal: Journal) -> frozenset[UUID]:
    rows = await journal._store.read(lambda db: db.execute("SELECT id FROM segment").fetchall())
    return frozenset(UUID(bytes=row[0]) for row in rows)
