"""Retention over the API and its command: looked at before a change, confirmed, and what is kept told."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from cctv_storaged import cli
from cctv_storaged.api.retention_models import (
    ConfirmAnswer,
    LockedAnswer,
    RetentionAnswer,
    RetentionPreviewAnswer,
)
from cctv_storaged.config import Retention, RetentionRule, load_settings
from cctv_storaged.journal.deletions import Cause
from cctv_storaged.model import Camera, NewSegment, SourceFile, TimeSpan, identity_of
from cctv_storaged.retention.rules import Policy, policy_of
from tests.integration.api.exported import GATE as GATE_CAMERA
from tests.integration.api.exported import NAMED, asked, ended, recorded, work
from tests.integration.api.harness import Host, running, until
from tests.services.postgres import PostgresDatabase

DAY = timedelta(days=1)
GATE = Camera(id=UUID("123e4567-e89b-12d3-a456-426614174000"), name="Gate", folder="gate")


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    """Ten days of footage, twelve hours a segment, none older than the rule in force."""
    async with running(tmp_path) as host:
        now = datetime.now(UTC)
        for number in range(20):
            path = host.recordings / "gate" / f"{number}.ts"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"x" * (1000 + number))
            identity = identity_of(path.stat())
            start = now - 10 * DAY + number * DAY / 2
            source = SourceFile(root=str(host.recordings), path=f"gate/{path.name}", identity=identity)
            new = NewSegment(camera=GATE, span=TimeSpan(start, start + DAY / 2), source=source)
            await host.journal.segments.record(new, (), now)
        await host.parts.upkeep.retention.run_once()
        yield host


async def command(capsys: pytest.CaptureFixture[str], host: Host, *words: str) -> tuple[int, str]:
    """Exit code and output of `cctv-storaged retention …`, asked of this host."""
    options = cli.parser().parse_args(["retention", *words, "--url", host.url])
    code = await asyncio.to_thread(cli._run, options)
    return code, capsys.readouterr().out


async def test_rules_of_no_camera_are_named_by_a_preview(
    host: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = {"per_camera": {"gtae": {"at_least": "1d"}, "gate": {}, str(GATE.id).upper(): {}}}
    found = RetentionPreviewAnswer.model_validate((await host.post("/retention/preview", body)).json)
    assert found.unknown == ["gtae"]
    new = tmp_path / "new.yaml"
    new.write_text("retention: {per_camera: {gtae: {at_least: 1d}}}\n")
    _, told = await command(capsys, host, "preview", "--new", str(new))
    assert "per_camera names 'gtae': no camera has that id or folder" in told


async def test_a_changed_rule_is_looked_at_stopped_confirmed_and_carried_out(
    host: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reply = await host.post("/retention/preview", {"default": {"at_least": "1d", "at_most": "5d"}})
    found = RetentionPreviewAnswer.model_validate(reply.json)
    [camera] = found.cameras
    assert camera.at_most.segments == 10
    assert camera.at_most.camera_days == pytest.approx(5)
    assert camera.at_most.bytes == sum(1000 + number for number in range(10))
    assert camera.at_least.segments == 8
    assert camera.waits_for_confirmation
    assert found.at_most == camera.at_most and found.unknown == []

    new = tmp_path / "new.yaml"
    new.write_text("retention: {default: {at_most: 5d}}\n")
    code, told = await command(capsys, host, "preview", "--new", str(new))
    assert code == 0
    assert "at_most 5d" in told
    assert "deleted after a yes: 10 segments, 10.0 kB, 5.0 days of footage" in told
    assert "at once" not in told, "it waits"
    assert f"retention confirm {GATE.id}" in told

    retention = host.parts.upkeep.retention
    retention.change(await _policy(new))
    await retention.run_once()
    state = RetentionAnswer.model_validate((await host.get("/retention")).json)
    assert [each.camera_id for each in state.stopped] == [GATE.id]
    assert (await host.get("/cameras")).json["cameras"][0]["segments"] == 20
    code, told = await command(capsys, host, "show")
    assert code == 1
    assert "waits for a yes" in told

    unknown = await host.post("/retention/confirm", {"camera_id": str(uuid4())})
    assert unknown.status == 404 and "no camera" in unknown.json["detail"]
    assert (await host.post("/retention/confirm", {})).status == 422
    code, told = await command(capsys, host, "confirm", "gate")
    assert code == 0
    code, told = await command(capsys, host, "show")
    assert "waits for a yes" not in told, "it was said"
    host.tasks.append(asyncio.create_task(retention.run()))  # and no pass of the schedule

    async def half_is_gone() -> bool:
        return bool((await host.get("/cameras")).json["cameras"][0]["segments"] == 10)

    await until(half_is_gone)
    assert (await command(capsys, host, "show"))[0] == 0


async def test_show_tells_how_things_are_when_it_is_asked_and_not_at_the_last_pass(
    host: Host, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    retention = host.parts.upkeep.retention
    code, told = await command(capsys, host, "show")
    assert (code, told.splitlines()[0]) == (0, "footage is deleted at its age, nothing is in the way")
    assert re.fullmatch("last pass: 2.*Z, next: 2.*Z", told.splitlines()[1])
    with monkeypatch.context() as wrong:
        wrong.setattr(retention, "_parts", replace(retention._parts, trouble=lambda: "no identity"))
        code, told = await command(capsys, host, "show")
        assert code == 1 and "nothing is deleted by its age: no identity" in told
    assert (await command(capsys, host, "show"))[0] == 0
    retention.change(policy_of(Retention(default=RetentionRule(at_most=DAY))))
    code, told = await command(capsys, host, "show")
    assert code == 1 and "no pass has come to its end" in told, "nobody knows yet what these rules do"


async def test_a_camera_nobody_knows_is_told_with_those_that_are_known(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    options = cli.parser().parse_args(["retention", "confirm", "lobby", "--url", host.url])
    assert await asyncio.to_thread(cli._run, options) == 2
    said = "cctv-storaged: CAMERA: no such camera: 'lobby' (known names and folders: Gate, gate)\n"
    assert capsys.readouterr().err == said


async def _policy(file: Path) -> Policy:
    settings = await asyncio.to_thread(load_settings, file, {})
    return policy_of(settings.retention)


async def test_confirming_all_says_yes_to_what_is_stopped_now(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    reply = await host.post("/retention/confirm", {"all": True})
    assert ConfirmAnswer.model_validate(reply.json).camera_ids == []
    assert [record.levelname for record in caplog.records if "nothing waits" in record.message] == ["INFO"]
    both = {"all": True, "camera_id": str(GATE.id)}
    assert (await host.post("/retention/confirm", both)).status == 422


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"default": {"at_most": "0"}}, "default.at_most"),
        ({"default": {"at_most": 30}}, "default.at_most"),
        ({"default": {"at_least": "2d", "at_most": "24h"}}, "default"),
        ({"per_camera": {"gate": {"at_mots": "1d"}}}, "per_camera.gate.at_mots"),
    ],
)
async def test_rules_that_cannot_be_are_refused_by_name(host: Host, body: object, field: str) -> None:
    reply = await host.post("/retention/preview", body)
    assert reply.status == 422
    assert reply.fields == {field}


async def test_what_is_kept_is_listed_page_by_page(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    now = datetime.now(UTC)
    page = (await host.journal.segments.page(GATE.id, TimeSpan(now - 11 * DAY, now), 3)).segments
    ids = [each.id for each in page]
    await host.journal.deletions.begin_many(ids, Cause.AT_MOST)
    await host.journal.deletions.keep(ids, {"FILESYSTEM": "a lock keeps it"}, now + DAY)
    first = LockedAnswer.model_validate((await host.get("/retention/locked", limit="2")).json)
    assert first.next_cursor is not None
    rest = LockedAnswer.model_validate(
        (await host.get("/retention/locked", limit="2", cursor=first.next_cursor)).json
    )
    assert rest.next_cursor is None
    listed = [*first.segments, *rest.segments]
    assert {each.segment_id for each in listed} == set(ids)
    assert {each.cause for each in listed} == {"retention_at_most"}
    state = RetentionAnswer.model_validate((await host.get("/retention")).json)
    assert state.kept == 3
    reply = await host.post("/retention/preview", {"default": {"at_most": "1d"}})
    [camera] = RetentionPreviewAnswer.model_validate(reply.json).cameras
    assert camera.protected.locked.segments == 3
    code, told = await command(capsys, host, "locked")
    assert code == 0
    assert [line.endswith("retention_at_most no copy") for line in told.splitlines()] == [True] * 3


# Everywhere


async def test_nothing_of_it_is_left_on_disk_shelf_or_in_the_catalog(
    tmp_path: Path, postgres_database: PostgresDatabase
) -> None:
    """Sources, copies, a picture, an export and PostgreSQL's rows; younger footage keeps all of its own."""
    database = postgres_database
    postgres = {
        "host": database.host,
        "port": database.port,
        "db": database.name,
        "user": database.user,
        "password": database.password,
        "ssl": "disable",
    }
    async with running(tmp_path, {**NAMED, "postgres": postgres, "retention": {"default": {}}}) as host:
        host.deliver()
        work(host)
        cataloguing = host.parts.cataloguing
        assert cataloguing is not None
        host.tasks.append(asyncio.create_task(cataloguing.run()))
        young = await host.delivered(await host.registered("young/a.ts"))
        old = [await host.delivered(each) for each in await recorded(host)]
        export = await ended(host, await asked(host))
        assert (await host.get(f"/segments/{GATE_CAMERA}/{old[0]['id']}/thumbnail.jpg")).status == 200
        rows = "SELECT count(*) FROM segments"
        await until(partial(_is, database, rows, "4"))
        files = {path for path in host.settings.filesystem.path.rglob("*") if path.is_file()}

        retention = host.parts.upkeep.retention
        retention.change(policy_of(Retention(default=RetentionRule(at_most=100 * DAY))))
        await retention.run_once()
        await until(partial(_is, database, rows, "1"))
        assert [each["id"] for each in (await host.get(f"/segments/{young['camera_id']}")).json["segments"]]

        async def the_young_ones_copy_alone() -> bool:
            await host.parts.exporting.run_once()  # one whose job is just ending has another turn
            return len([path for path in files if path.exists() and not path.name.startswith(".")]) == 1

        await until(the_young_ones_copy_alone)
        assert not list((host.recordings / "gate").rglob("*.ts"))
        assert (await host.get(f"/exports/{export['id']}/download")).status == 410


async def _is(database: PostgresDatabase, query: str, wanted: str) -> bool:
    return await asyncio.to_thread(database.sql, query) == [[wanted]]
