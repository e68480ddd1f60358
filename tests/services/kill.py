"""What kill -9 leaves of a journal, without ending the test: the file and its log as they are on the disk."""

import shutil
from pathlib import Path

FILES = ("journal.db", "journal.db-wal")


class Killed(BaseException):
    """The process ends here; nothing above may catch it."""


def left_behind(data: Path, into: Path) -> Path:
    """A copy of an open journal's folder as a killed process would have left it.

    The caller sees to it that nobody writes meanwhile; the process that had it open goes on with its own.
    """
    into.mkdir()
    for name in FILES:
        if (data / name).exists():
            shutil.copyfile(data / name, into / name)
    return into
