"""Reconciling behind the API and the command line."""

import asyncio
import contextlib
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from cctv_storaged.cli import parser
from cctv_storaged.model import SourceState
from cctv_storaged.reconciling import copies
from tests.integration.api.harness import Host, running, until


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was delivered this moment counts."""
    monkeypatch.setattr(copies, "SETTLED", timedelta(0))


def work(host: Host) -> None:
    host.tasks.append(asyncio.create_task(host.parts.upkeep.reconciling.reconciler.run()))


async def ended(host: Host) -> dict[str, Any]:
    async def is_over() -> dict[str, Any] | None:
        reply = await host.get("/reconcile")
        return dict(reply.json) if reply.json["status"] not in ("none", "running") else None

    return await until(is_over)


async def command(host: Host, *options: str) -> int:
    """The command as it is typed, in a thread: this loop serves the API that it asks."""
    parsed = parser().parse_args(["reconcile", "--url", host.url, *options])
    return int(await asyncio.to_thread(parsed.command, parsed))


async def test_it_is_begun_watched_and_cancelled(host: Host) -> None:
    assert (await host.get("/reconcile")).json == {"status": "none", "run": None}
    assert (await host.delete("/reconcile")).status == 404
    begun = await host.post("/reconcile", {"apply": True})
    assert (begun.status, begun.json["status"]) == (202, "running")
    assert (await host.post("/reconcile", {})).status == 409
    assert (await host.delete("/reconcile")).status == 204
    assert (await host.get("/reconcile")).json["status"] == "cancelled"
    assert (await host.post("/reconcile", {})).status == 202
    work(host)
    run = (await ended(host))["run"]
    assert (run["apply"], run["why"], run["differences"]) == (False, "api", [])
    assert {section["kind"]: section["done"] for section in run["sections"]} == {
        "backend": True,
        "root": True,
    }


async def test_force_means_something_with_apply_and_for_admins_only(host: Host) -> None:
    assert (await host.post("/reconcile", {"force": True})).fields == {"force"}
    boss = await host.post("/tokens", {"name": "boss", "scopes": ["admin"]})
    host.token = boss.json["secret"]
    clerk = await host.post("/tokens", {"name": "clerk", "scopes": ["write"]})
    host.token = clerk.json["secret"]
    assert (await host.post("/reconcile", {"apply": True, "force": True})).status == 403
    begun = await host.post("/reconcile", {"apply": True})
    assert (begun.status, begun.json["run"]["why"]) == (202, "clerk")


async def test_the_command_tells_what_differs_and_mends_it(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    host.deliver()
    work(host)
    segment = await host.delivered(await host.registered())
    assert await command(host) == 0
    assert "nothing differs" in capsys.readouterr().out
    store = host.settings.filesystem.path
    (store / segment["storage_path"]).unlink()
    assert await command(host) == 1
    assert f"ghost: 1\n  FILESYSTEM  {segment['storage_path']}" in capsys.readouterr().out
    assert await command(host, "--apply", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [(each["kind"], each["applied"]) for each in told["run"]["differences"]] == [("ghost", 1)]
    await host.delivered(segment)
    assert (store / segment["storage_path"]).exists()


async def test_the_command_tells_what_is_lost_and_what_was_left_out(
    host: Host, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    host.deliver()
    work(host)
    segment = await host.delivered(await host.registered())
    with monkeypatch.context() as patched:
        patched.setattr(copies, "SETTLED", timedelta(minutes=5))
        assert await command(host) == 0
    told = capsys.readouterr().out
    assert "looked at, 1 left out as younger than 5 minutes" in told
    assert "nothing differs in what was compared; some was left out" in told
    body = {"camera_ids": [segment["camera_id"]], "start_time": segment["start_time"], "reason": "burglary"}
    hold = await host.post("/holds", body)
    await host.parts.upkeep.holding.settle()
    (host.settings.filesystem.path / segment["storage_path"]).unlink()
    (host.recordings / "gate/a.ts").unlink()
    await host.journal.copies.source_gone(
        UUID(segment["id"]), SourceState.MISSING, "source_vanished", datetime.now(UTC)
    )
    assert await command(host, "--apply") == 1
    told = capsys.readouterr().out
    assert "ghost: 1, 0 mended, 1 gone for good, told as lost (1 UNDER A HOLD)" in told
    assert f"HELD AND LOST  FILESYSTEM  {segment['storage_path']}" in told
    await host.parts.upkeep.held_losses.run_once()
    parts = {part["name"]: part["trouble"] for part in (await host.get("/ready")).json["parts"]}
    assert segment["camera_id"] in parts[f"alarm held_lost {hold.json['id']}"]


async def test_the_command_goes_along_with_one_under_way(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    await host.post("/reconcile", {})
    assert await command(host, "--apply") == 1
    assert "another one than was asked for" in capsys.readouterr().err
    heard = io.StringIO()  # which is not emptied while it is written to, as `capsys` would be
    with contextlib.redirect_stderr(heard):
        watching = asyncio.create_task(command(host))

        async def is_heard() -> bool:
            return "is under way" in heard.getvalue()

        await until(is_heard)
        work(host)
        assert await watching == 0


async def test_a_run_goes_on_with_the_next_process(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running(tmp_path) as host:
        await host.post("/reconcile", {})
    async with running(tmp_path) as host:
        assert (await host.get("/reconcile")).json["status"] == "running"
        work(host)
        assert (await ended(host))["run"]["resumed"] == 1


async def test_a_daemon_out_of_reach_is_told_by_its_own_code(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    parsed = parser().parse_args(["reconcile", "--url", "http://127.0.0.1:1"])
    assert await asyncio.to_thread(parsed.command, parsed) == 3
    assert "cannot be asked" in capsys.readouterr().err
