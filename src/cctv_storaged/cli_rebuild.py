"""`cctv-storaged rebuild`: a new journal from the store, the catalog, and the folders at the next start.

Exit codes: 0 done, 1 something was left alone that somebody has to look at, 2 bad usage, 3 something is away.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from cctv_storaged.catalog.postgres import PostgresCatalog
from cctv_storaged.cli_progress import Progress
from cctv_storaged.clock import SystemClock
from cctv_storaged.config import Settings
from cctv_storaged.errors import ConfigError, Fault
from cctv_storaged.journal import swapping
from cctv_storaged.journal.journal import FILE_NAME, Journal, lock_folder
from cctv_storaged.journal.schema import create
from cctv_storaged.rebuilding.adopting import Adopting
from cctv_storaged.rebuilding.rebuild import Rebuild, Remains, Tally
from cctv_storaged.recorder.admission import CameraBook
from cctv_storaged.wiring import (
    catalog_target,
    configured_cameras,
    delivery_settings,
    open_backend,
    recorder_root,
)

DONE, FOUND_WRONG = 0, 1
DRAFT_FOLDER = "journal.rebuild"
Meter = Callable[[Tally], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """What came of it."""

    tally: Tally
    aside: Path | None  # the journal that was there before


def rebuild(options: argparse.Namespace, settings: Settings) -> int:
    """The command; `options` has `replace` and `unlabelled`. Raises StoragedError and OSError."""
    with Progress("looked at", unit="") as progress:

        def show(tally: Tally) -> None:
            progress.at(tally.looked_at)

        rebuilt = asyncio.run(
            rebuilt_journal(settings, replace=options.replace, unlabelled=options.unlabelled, meter=show)
        )
    _tell(rebuilt)
    return FOUND_WRONG if rebuilt.tally.wrong else DONE


async def rebuilt_journal(
    settings: Settings, *, replace: bool, unlabelled: bool, meter: Meter | None = None
) -> Rebuilt:
    """A new journal in the place of whatever is in data_dir.

    A rebuild that was cut short is gone on with. Raises ConfigError where a sound journal is there and need
    not be replaced, JournalBroken while a daemon runs, BackendError and CatalogUnavailable.
    """
    folder = settings.data_dir
    lock = lock_folder(folder)
    try:
        path, draft = folder / FILE_NAME, folder / DRAFT_FOLDER
        settings = await asyncio.to_thread(_begun, settings, path, draft, replace=replace)
        tally = await _filled(settings, draft, unlabelled=unlabelled, meter=meter)
        aside = await asyncio.to_thread(swapping.swap, draft / FILE_NAME, path, SystemClock().now())
        await asyncio.to_thread(_clear, draft)
        return Rebuilt(tally=tally, aside=aside)
    finally:
        os.close(lock)


def _begun(settings: Settings, path: Path, draft: Path, *, replace: bool) -> Settings:
    """A draft with what only an earlier journal can tell (tokens, exports, holds); the settings for it."""
    damage = _require_replaceable(path, replace=replace)
    draft.mkdir(mode=0o700, exist_ok=True)
    if not swapping.is_there(draft / FILE_NAME):
        create(draft / FILE_NAME)
    if not path.exists():
        return settings
    with swapping.readable(path, draft / "salvaged.db", damaged=damage is not None) as earlier:
        swapping.carry_over(earlier, draft / FILE_NAME)
        host_id = swapping.host_of(earlier)
    if host_id in (None, settings.host_id):
        return settings
    # Ids follow from the host id that the journal was begun with, also where the settings name another.
    print(f"cctv-storaged: host_id is {host_id!r}, as in the journal that was there", file=sys.stderr)
    return settings.model_copy(update={"host_id": host_id})


def _require_replaceable(path: Path, *, replace: bool) -> str | None:
    """What is wrong with the journal that is there, if it is."""
    if not swapping.is_there(path):
        return None
    damage = swapping.damage_of(path) if path.exists() else "its log is there, and its database is not"
    if damage is None and not replace:
        hint = "use it; or, to have another made in its place, give --replace (it is kept aside)"
        raise ConfigError([Fault(str(path), "a sound journal is there", hint)])
    return damage


async def _filled(settings: Settings, draft: Path, *, unlabelled: bool, meter: Meter | None) -> Tally:
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        journal = await Journal.open(draft, settings.host_id, clock.now())
        stack.push_async_callback(journal.close)
        if journal.host_id != settings.host_id:
            hint = f"remove the folder {draft} and begin again"
            raise ConfigError([Fault("host_id", f"an earlier rebuild was for {journal.host_id!r}", hint)])
        backend = open_backend(settings)
        stack.push_async_callback(backend.close)
        await backend.probe()  # what it proves by itself need not be read back
        target = catalog_target(settings)
        catalog = None if target is None else PostgresCatalog(target, settings.host_id)
        if catalog is not None:
            await catalog.open()
            stack.push_async_callback(catalog.close)
        cameras = CameraBook(settings.host_id, configured_cameras(settings))
        prefix = delivery_settings(settings).prefix
        roots = [recorder_root(recorder, cameras) for recorder in settings.recorders]
        adopting = Adopting(journal, clock, cameras, roots, prefix, unlabelled=unlabelled)
        remains = Remains(
            backends=(backend,), catalog=catalog, prefix=prefix, adopting=adopting, cameras=cameras
        )
        return await Rebuild(journal, remains, clock, meter or _silent).run()


def _silent(tally: Tally) -> None:
    """Nobody looks."""


def _clear(draft: Path) -> None:
    """What a journal leaves in its folder besides itself."""
    for name in ("lock", "journal.reserve"):
        (draft / name).unlink(missing_ok=True)
    draft.rmdir()


def _tell(rebuilt: Rebuilt) -> None:
    tally = rebuilt.tally
    for line in tally.told:
        print(line)
    for word, counts in (("objects", tally.objects), ("catalog rows", tally.rows)):
        print(f"{word}: {', '.join(f'{count} {each}' for each, count in sorted(counts.items())) or 'none'}")
    print(f"holds: {tally.holds_told}")
    if rebuilt.aside is not None:
        print(f"the journal that was there is kept as {rebuilt.aside}")
    print("the next start scans the folders, and proves the copies that are not proven yet")
