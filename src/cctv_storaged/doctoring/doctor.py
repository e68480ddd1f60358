"""All looks in the order in which a start would meet them."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable

from cctv_storaged.config import Settings
from cctv_storaged.doctoring import folders, host
from cctv_storaged.doctoring.finding import Finding, Look, fail

log = logging.getLogger(__name__)


def looks(settings: Settings) -> Iterable[tuple[str, Look]]:
    """What needs no connection, each with a name for whoever waits."""
    yield "folders", _in_thread(lambda: list(folders.folders(settings)))
    yield "journal", _in_thread(lambda: [host.journal(settings)])
    yield "clock", _in_thread(lambda: [host.clock()])
    yield "inotify", _in_thread(lambda: list(host.inotify(settings)))
    yield "ffmpeg", host.tools


def _in_thread(work: Callable[[], list[Finding]]) -> Look:
    return lambda: asyncio.to_thread(work)


async def examined(all_looks: Iterable[tuple[str, Look]]) -> AsyncIterator[Finding]:
    """Each finding as soon as it is there; a look that fails for a reason of its own ends no other."""
    for name, look in all_looks:
        try:
            found = await look()
        except Exception as exc:  # the item boundary: what is odd here is what the operator wants to know
            log.exception("looking at %s", name)
            yield fail(name, f"{type(exc).__name__}: {exc}", "this should not happen: please report it")
        else:
            for each in found:
                yield each
