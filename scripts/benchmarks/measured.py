"""Runs one program and says what it took: `python -I -S measured.py OUTCOME PROGRAM ARGUMENT…`

A process of its own, with nothing imported, because the peak memory that the kernel reports of a child
(getrusage(2), ru_maxrss) is never below that of the process it was forked from. OUTCOME gets exit status,
wall, user and system seconds, and peak resident kilobytes of the program and the children it waited for.
"""

import os
import sys
import time


def main() -> None:
    """Start, wait, write one line."""
    outcome, *argv = sys.argv[1:]
    started = time.monotonic()
    pid = os.posix_spawnp(argv[0], argv, os.environ)
    _, status, usage = os.wait4(pid, 0)
    wall_s = time.monotonic() - started
    with open(outcome, "w") as file:
        code = os.waitstatus_to_exitcode(status)
        file.write(f"{code} {wall_s} {usage.ru_utime} {usage.ru_stime} {usage.ru_maxrss}\n")


if __name__ == "__main__":
    main()
