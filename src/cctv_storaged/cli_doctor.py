"""`cctv-storaged doctor`: looks at everything the daemon needs, and says of each fault what mends it.

Works beside a running daemon and without one; changes nothing but objects of its own in the store, which it
removes again. Exit codes: 0 nothing fails, 1 something does, 2 settings that cannot be used.
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import asdict, replace

from cctv_storaged.catalog.postgres import PostgresCatalog
from cctv_storaged.cli_client import DONE, FOUND_WRONG
from cctv_storaged.clock import SystemClock
from cctv_storaged.config import Settings, credential_remedy, secrets_of
from cctv_storaged.doctoring import milestone, stores
from cctv_storaged.doctoring.doctor import examined, looks
from cctv_storaged.doctoring.finding import Finding, Look, Verdict
from cctv_storaged.logs.lines import one_line
from cctv_storaged.logs.redaction import Redactor
from cctv_storaged.model import BackendKind
from cctv_storaged.wiring import catalog_target, configured_cameras, open_backend, open_vms

COLOURS = {Verdict.OK: "32", Verdict.WARN: "33", Verdict.FAIL: "31"}


def doctor(options: argparse.Namespace, settings: Settings) -> int:
    """Looks and prints; an exit code."""
    found = asyncio.run(_examined(options, settings))
    if options.json:
        print(json.dumps([_starred(each, Redactor(secrets_of(settings))) for each in found], indent=2))
    failed = [each for each in found if each.verdict is Verdict.FAIL]
    if not options.json:
        warned = sum(each.verdict is Verdict.WARN for each in found)
        warnings = f"{warned} warning{'' if warned == 1 else 's'}"
        print(f"{len(found)} looked at, {len(failed)} wrong, {warnings}", flush=True)
    return FOUND_WRONG if failed else DONE


def _starred(finding: Finding, star: Redactor) -> dict[str, str]:
    """Without the secrets that a server may have said back."""
    return {name: star(str(value)) if value else value for name, value in asdict(finding).items()}


async def _examined(options: argparse.Namespace, settings: Settings) -> list[Finding]:
    star = Redactor(secrets_of(settings))
    found = []
    async with AsyncExitStack() as stack:
        async for each in examined([*looks(settings), *_elsewhere(stack, settings)]):
            found.append(each)
            if not options.json:
                _print(each, star)
    return found


def _elsewhere(stack: AsyncExitStack, settings: Settings) -> Iterable[tuple[str, Look]]:
    """What has to be connected to."""

    async def store() -> list[Finding]:
        if settings.backend is BackendKind.FILESYSTEM and not settings.filesystem.path.is_dir():
            return []  # told with the other folders
        backend = open_backend(settings)
        stack.push_async_callback(backend.close)
        return [_told_of_credential(await stores.store(backend), settings, "s3_access_key")]

    async def catalog() -> list[Finding]:
        target = catalog_target(settings)
        catalog = None if target is None else PostgresCatalog(target, settings.host_id)
        found = await stores.catalog(settings, catalog)
        return [_told_of_credential(found, settings, "postgres_password")]

    async def vms() -> list[Finding]:
        clock, block = SystemClock(), settings.milestone
        site = open_vms(settings, clock)
        if block is None or site is None:
            return []
        stack.push_async_callback(site.close)
        return await milestone.site(site, settings, block, configured_cameras(settings), clock.now())

    yield "the store", store
    yield "PostgreSQL", catalog
    yield "Milestone", vms


def _told_of_credential(finding: Finding, settings: Settings, name: str) -> Finding:
    """What may do without a secret, and fails without: as a credential of the unit it is not seen here."""
    if finding.verdict is not Verdict.FAIL or name not in _lacking(settings):
        return finding
    remedy = credential_remedy(name, os.environ)
    return replace(finding, remedy=f"{finding.remedy}; {remedy}") if remedy else finding


def _lacking(settings: Settings) -> Iterable[str]:
    """Credentials that no settings file must have."""
    if settings.backend is BackendKind.S3 and not settings.s3.access_key.get_secret_value():
        yield "s3_access_key"
    if settings.postgres is not None and not settings.postgres.password.get_secret_value():
        yield "postgres_password"


def _print(finding: Finding, star: Redactor) -> None:
    word = f"{finding.verdict.upper():<4}"
    if sys.stdout.isatty():
        word = f"\x1b[{COLOURS[finding.verdict]}m{word}\x1b[0m"
    print(f"{word}  {one_line(star(finding.part))}: {one_line(star(finding.text))}", flush=True)
    if finding.remedy:
        print(f"      → {one_line(star(finding.remedy))}", flush=True)
