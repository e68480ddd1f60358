"""What lies elsewhere: the store, and PostgreSQL."""

import asyncio

from cctv_storaged.backends.base import Backend
from cctv_storaged.catalog.postgres import PostgresCatalog
from cctv_storaged.config import Settings
from cctv_storaged.doctoring.finding import Finding, fail, ok, warn
from cctv_storaged.errors import BackendError, BackendUnavailable, CatalogUnavailable

PATIENCE_S = 60.0
SKEW_S = 60.0
"""S3 refuses signatures that are 15 minutes off; a clock a minute off is on its way there."""
REMEDIES = {  # by BackendUnavailable.reason
    "network": "is the address right, the server running, and no firewall between?",
    "auth": "give the key the rights that docs/reference/s3-stores.md lists, or give the right key",
    "bucket": "make the bucket (docs/guide/stores.md), or name the right one; the daemon makes it, if its "
    "key may, where nothing was ever delivered",
    "clock": "set this host's clock by NTP",
    "server": "look at the server's own log",
    "space": "make room at the store",
    "wrong_disk": "mount the right disk; replaced on purpose: cctv-storaged places accept",
}


async def store(backend: Backend) -> Finding:
    """Tries what is done there (put, head, multipart, delete, lock) with objects that it removes again."""
    part = f"{backend.name} at {backend.location}"
    try:
        async with asyncio.timeout(PATIENCE_S):
            found = await backend.probe()
    except TimeoutError:
        return fail(part, f"no answer within {PATIENCE_S:.0f} s", REMEDIES["network"])
    except BackendUnavailable as exc:
        remedy = REMEDIES.get(exc.reason, REMEDIES["server"])
        return (warn if exc.reason == "bucket" else fail)(part, f"{exc.reason}: {exc}", remedy)
    except BackendError as exc:
        return fail(part, str(exc), "see docs/reference/s3-stores.md: what a store must be able to do")
    skew = found.clock_skew_s
    if skew is not None and abs(skew) > SKEW_S:
        return warn(part, f"its clock is {skew:+.0f} s from ours", "synchronise both by NTP")
    return ok(part, f"answers; it can: {found.told()}")


async def catalog(settings: Settings, asked: PostgresCatalog | None) -> Finding:
    """Connects, and looks whether the schema is ours; changes nothing."""
    if asked is None or settings.postgres is None:
        return ok("PostgreSQL", "is not configured: the host works by itself")
    part = f"PostgreSQL at {settings.postgres.host}:{settings.postgres.port}/{settings.postgres.db}"
    await asked.open()
    try:
        async with asyncio.timeout(PATIENCE_S):
            await asked.check()
    except (CatalogUnavailable, TimeoutError) as exc:
        remedy = "is the address right, the user allowed (pg_hba.conf), the database there? See postgres.md"
        return fail(part, str(exc) or "no answer", remedy)
    finally:
        await asked.close()
    return ok(part, "answers, and its schema is this version's")
