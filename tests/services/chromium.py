"""A real browser for tests: headless Chromium with a new, empty profile, which ends with its test."""

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    "--headless",
    "--no-sandbox",  # tests run as root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    "--window-size=800,600",
)


def program() -> str:
    """The browser that is installed."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        raise RuntimeError(
            "no Chromium found: scripts/setup test installs it, or have one of " + ", ".join(NAMES)
        )
    return found


@asynccontextmanager
async def browsing(url: str) -> AsyncIterator[Path]:
    """A browser that has been sent to a page; gives the file with what it complains of."""
    folder = Path(tempfile.mkdtemp(prefix="chromium-"))
    log = folder / "log"
    with log.open("wb") as complaints:
        browser = subprocess.Popen(
            [program(), *OPTIONS, f"--user-data-dir={folder / 'profile'}", url],
            stdin=subprocess.DEVNULL,
            stdout=complaints,
            stderr=complaints,
            env={**os.environ, "HOME": str(folder)},  # no settings of this user's
            start_new_session=True,
        )
    try:
        yield log
    finally:
        await asyncio.to_thread(_end, browser)
        shutil.rmtree(folder, ignore_errors=True)


def _end(browser: subprocess.Popen[bytes]) -> None:
    """The whole group: a browser is many processes."""
    with suppress(ProcessLookupError):
        os.killpg(browser.pid, signal.SIGKILL)
    browser.wait(30)
