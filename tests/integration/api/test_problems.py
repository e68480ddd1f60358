"""What goes wrong inside is told in fixed words outside, and in full in the log."""

import asyncio
import contextlib
import logging
import re
import resource
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from cctv_storaged.api.models import ProblemAnswer, ReadyAnswer
from cctv_storaged.api.segment_models import SegmentsAnswer
from cctv_storaged.clock import SystemClock
from cctv_storaged.errors import JournalBroken
from tests.integration.api.harness import Host, description, path_of, running, until
from tests.services.postgres import PostgresDatabase

CAMERA = UUID("123e4567-e89b-12d3-a456-426614174000")


@contextlib.contextmanager
def no_room_on_disk() -> Iterator[None]:
    """No file of this process may grow: what a full disk or a quota looks like to SQLite."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_journal_is_no_failure_of_the_client(host: Host) -> None:
    segment = await host.registered("gate/before.ts", camera=CAMERA)
    body = description(host.file("gate/a.ts"), camera=CAMERA)
    with no_room_on_disk():
        replies = [
            await host.post("/segments", body),
            await host.delete(path_of(segment)),
            await host.post("/tokens", {"name": "x", "scopes": ["admin"]}),
        ]
        listed = await host.get(f"/segments/{CAMERA}")
        ready = await host.get("/ready")
    for reply in replies:
        assert (reply.status, reply.json["type"]) == (503, "urn:cctv-storaged:problem:journal-full")
        assert int(reply.headers["Retry-After"]) > 0
        ProblemAnswer.model_validate(reply.json)
    assert [each["id"] for each in listed.json["segments"]] == [segment["id"]]
    assert ready.status == 503
    assert {part["name"]: part["trouble"] for part in ready.json["parts"]}["journal"] is not None
    assert (await host.post("/segments", body)).status == 201
    assert (await host.get("/tokens")).json == {"tokens": []}


async def test_a_journal_that_cannot_be_trusted_confirms_nothing(host: Host) -> None:
    """Its pages are overwritten under it, as a failing disk would; every answer from then on is a 503."""
    segment = await host.registered(camera=CAMERA)
    host.journal._store._failed(JournalBroken("page 3 is not what was written"))
    for reply in (
        await host.get(path_of(segment)),
        await host.get(f"/segments/{CAMERA}"),
        await host.post("/segments", description(host.file("gate/b.ts"))),
        await host.get("/queue"),
    ):
        assert (reply.status, reply.json["type"]) == (503, "urn:cctv-storaged:problem:journal-broken")
        assert "page 3" not in reply.body.decode()
    assert (await host.get("/health")).status == 200


async def test_what_nobody_foresaw_is_told_without_its_inside(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    """A table of the journal is gone: the SQL error stays in the log, under the id that the client has."""
    await host.journal._store.write(lambda db: db.execute("DROP TABLE token"))
    with caplog.at_level(logging.ERROR, "cctv_storaged.api"):
        reply = await host.request("GET", "/tokens", headers={"X-Request-Id": "trace-me"})
    assert (reply.status, reply.json["type"]) == (500, "urn:cctv-storaged:problem:internal")
    assert "token" not in reply.json["detail"].lower() or "table" not in reply.body.decode()
    assert reply.headers["X-Request-Id"] == "trace-me"
    record = next(record for record in caplog.records if record.levelno == logging.ERROR)
    assert vars(record)["request_id"] == "trace-me"
    assert record.exc_info is not None and "no such table" in str(record.exc_info[1])
    assert (await host.get("/cameras")).status == 200


async def test_readiness_tells_every_part_and_waits_for_the_first_scan(host: Host) -> None:
    before = await host.get("/ready")
    assert before.status == 503
    ReadyAnswer.model_validate(before.json)
    host.watch()

    async def ready() -> bool:
        return (await host.get("/ready")).status == 200

    await until(ready)
    parts = {part["name"]: part for part in (await host.get("/ready")).json["parts"]}
    assert set(parts) == {"journal", f"root {host.recordings}", "backend FILESYSTEM"}
    assert [name for name, part in parts.items() if part["essential"]] == [
        "journal",
        f"root {host.recordings}",
    ]


async def test_metrics_are_prometheus_text(host: Host) -> None:
    await host.registered(camera=CAMERA)
    reply = await host.get("/metrics")
    assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    sample = re.compile(r"[a-z_]+(\{[^}]*\})? \S+")
    assert all(line.startswith("#") or sample.fullmatch(line) for line in reply.body.decode().splitlines())
    count = (
        'storage_http_request_seconds_count{method="POST",route="/api/v1/storage/segments",status="201"} 1.0'
    )
    assert count in reply.body.decode()


class HourLater(SystemClock):
    """An hour passes when it is said so."""

    passed_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.passed_s


async def test_a_stream_counts_until_its_answer_begins(tmp_path: Path) -> None:
    clock = HourLater()
    async with running(tmp_path, clock=clock) as host:
        response = await host.session.get(f"{host.url}/api/v1/storage/events")
        await response.content.readline()
        clock.passed_s = 3600.0
        response.close()
        name = 'storage_http_request_seconds_sum{method="GET",route="/api/v1/storage/events",status="200"} '

        async def counted() -> str | None:
            lines = (await host.get("/metrics")).body.decode().splitlines()
            return next((line for line in lines if line.startswith(name)), None)

        assert float((await until(counted)).split()[-1]) < 3600


# The fleet


def fleet(database: PostgresDatabase, host_id: str) -> dict[str, object]:
    postgres = {
        "host": database.host,
        "port": database.port,
        "db": database.name,
        "user": database.user,
        "password": database.password,
        "ssl": "disable",
    }
    return {"host_id": host_id, "postgres": postgres}


async def test_the_fleet_answers_for_every_host_and_its_absence_harms_none(
    tmp_path: Path, postgres_database: PostgresDatabase
) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    async with (
        running(folders[0], fleet(postgres_database, "nvr-01")) as one,
        running(folders[1], fleet(postgres_database, "nvr-02")) as two,
    ):
        made = []
        for host in (one, two):
            host.deliver()
            assert host.parts.cataloguing is not None
            host.tasks.append(asyncio.create_task(host.parts.cataloguing.run()))
            made.append(await host.delivered(await host.registered(camera=CAMERA)))
        query = {"scope": "fleet", "start": "2020-01-01T00:00:00Z"}

        async def both() -> list[dict[str, object]] | None:
            reply = await one.get(f"/segments/{CAMERA}", **query)
            assert reply.status == 200
            return reply.json["segments"] if len(reply.json["segments"]) == 2 else None

        segments = await until(both)
        SegmentsAnswer.model_validate((await one.get(f"/segments/{CAMERA}", **query)).json)
        assert {(each["id"], each["host_id"]) for each in segments} == {
            (made[0]["id"], "nvr-01"),
            (made[1]["id"], "nvr-02"),
        }
        for known in made:
            told = next(each for each in segments if each["id"] == known["id"])
            for name in (
                "start_time",
                "end_time",
                "duration_seconds",
                "checksum",
                "storage_path",
                "size_bytes",
            ):
                assert told[name] == known[name]
        first = (await one.get(f"/segments/{CAMERA}", **query, limit="1")).json
        second = (await one.get(f"/segments/{CAMERA}", **query, limit="1", cursor=first["next_cursor"])).json
        assert [each["id"] for page in (first, second) for each in page["segments"]] == [
            each["id"] for each in segments
        ]
        assert (await two.get(f"/segments/{uuid4()}", **query)).json == {"segments": [], "next_cursor": None}

        async def all_is_told() -> bool:  # the journal hears of it after the catalog
            return bool((await one.get("/queue")).json["catalog"] == {"segments": 0, "trouble": None})

        await until(all_is_told)

        postgres_database.cluster.stop()
        away = await one.get(f"/segments/{CAMERA}", **query)
        assert (away.status, away.json["type"]) == (503, "urn:cctv-storaged:problem:catalog-away")
        assert int(away.headers["Retry-After"]) > 0
        assert str(postgres_database.port) not in away.body.decode()
        assert len((await one.get(f"/segments/{CAMERA}")).json["segments"]) == 1


async def test_what_a_field_may_be_is_told_in_the_words_of_this_api(host: Host) -> None:
    """And of an id in a path what it has to be, and where it is to be had."""
    factor = await host.get("/retention/forecast", rate_factor="abc")
    assert factor.json["errors"] == [{"field": "rate_factor", "message": "must be a number"}]
    large = await host.get("/retention/forecast", rate_factor="1e9")
    assert large.json["errors"] == [{"field": "rate_factor", "message": "must be at most 100"}]
    hold = {"camera_ids": [], "start_time": "2026-01-01T00:00:00Z", "reason": "", "case_id": 7}
    told = {each["field"]: each["message"] for each in (await host.post("/holds", hold)).json["errors"]}
    assert told == {
        "camera_ids": "must not be empty",
        "reason": "must not be empty",
        "case_id": "must be a string",
    }
    unknown = await host.get("/cameras/yard/coverage")
    assert unknown.status == 404
    assert "UUID" in unknown.json["detail"] and "GET /cameras" in unknown.json["detail"]
