"""What changes for exports while a daemon runs: its settings, and whether its clock is right."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest_asyncio

from cctv_storaged.assembly import Parts, assembled
from cctv_storaged.clock import SystemClock
from cctv_storaged.clocktrust import Errors
from cctv_storaged.config import reloadable_difference
from cctv_storaged.daemon import Daemon
from cctv_storaged.journal.exportrows import ExportRequest
from cctv_storaged.model import TimeSpan
from cctv_storaged.systemd import ServiceManager
from tests.integration.api.harness import settings_of
from tests.unit.journal.test_journal_exports import RESULT

DAY = timedelta(days=1)


@pytest_asyncio.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    (tmp_path / "recordings").mkdir()
    async with assembled(settings_of(tmp_path, {}), SystemClock()) as opened:
        yield opened


async def test_exports_keep_back_what_a_reload_says(parts: Parts) -> None:
    old = parts.foundation.settings
    levels = {"emergency_free": 0.3, "clean_free": 0.35, "warn_free": 0.4}
    new = old.model_copy(update={"capacity": old.capacity.model_copy(update=levels)})
    plan = reloadable_difference(old, new)
    assert "capacity.emergency_free" in plan.now
    Daemon(parts, asyncio.Event(), lambda: old, None, ServiceManager())._apply(plan)
    assert parts.exporting._parts.admission._disks.reserve_share == 0.3


async def test_an_export_made_while_the_clock_was_behind_may_be_had_for_its_week(parts: Parts) -> None:
    exports, guard = parts.foundation.journal.exports, parts.foundation.clock_guard
    now = parts.foundation.clock.now()
    wrong = now - 600 * DAY
    span = TimeSpan(wrong - DAY, wrong)
    request = ExportRequest(camera_ids=(uuid4(),), span=span, format="mkv", reason="police")
    export = await exports.add(uuid4(), request, 9, None, wrong)
    assert export is not None
    await exports.begin(export.id)
    assert await exports.complete(export.id, RESULT, wrong, wrong + 7 * DAY)
    before, over = wrong - timedelta(minutes=5), wrong + timedelta(minutes=5)
    guard._trust.errors = Errors(wrong=((before, over),)).over(guard._reading())
    await guard._write()
    guard._trust.errors = Errors()
    await guard.open()  # as the next process does
    await parts.exporting.run_once()
    kept = await exports.by_id(export.id)
    assert kept is not None
    assert kept.removal is None and kept.expires_at is not None
    assert kept.expires_at >= now + 7 * DAY
