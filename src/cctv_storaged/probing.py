"""Finding out what a backend can do, and making its bucket where that hides nothing."""

import logging

from cctv_storaged.backends.base import Backend, Capabilities, Preparing
from cctv_storaged.errors import BackendUnavailable
from cctv_storaged.journal.copies import Copies
from cctv_storaged.model import CopyState

log = logging.getLogger(__name__)


async def probe(backend: Backend, copies: Copies) -> Capabilities:
    """What the backend can do. Raises BackendError.

    A missing bucket is made, but only while nothing was ever delivered: one that held footage and is gone
    must not be hidden by a new one.
    """
    try:
        return await backend.probe()
    except BackendUnavailable as exc:
        if exc.reason != "bucket" or not isinstance(backend, Preparing) or await _holds(backend.name, copies):
            raise
        log.info(
            "making %s at %s: it is new, nothing was ever delivered there", backend.name, backend.location
        )
        await backend.ensure_bucket()
        return await backend.probe()


async def _holds(backend: str, copies: Copies) -> bool:
    """Whether the journal knows of anything that is or was at the backend."""
    never = (CopyState.PENDING, CopyState.FAILED)
    return any(
        tally.backend == backend and tally.state not in never and tally.segments
        for tally in await copies.tallies()
    )
