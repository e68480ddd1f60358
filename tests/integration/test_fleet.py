"""Hosts in one catalog: each tells how it is, anybody reads it, and two of one name are noticed."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from cctv_storaged.alarms import AlarmName
from cctv_storaged.api import fleet as api_fleet
from cctv_storaged.api.fleet_models import FleetAnswer
from cctv_storaged.api.routing import Lane
from cctv_storaged.catalog import hosts as catalog_hosts
from cctv_storaged.catalog.exports import CatalogExport
from cctv_storaged.catalog.hosts import MOST_ALARMS, HostAlarm, HostWord
from cctv_storaged.catalog.migration import shipped
from cctv_storaged.catalog.postgres import PostgresCatalog
from cctv_storaged.fleet import FleetTelling
from tests.integration.api.harness import Host, running
from tests.services.catalog import NOON, open_catalog, target_of
from tests.services.postgres import PostgresDatabase

FLEET = "/fleet"


@pytest.fixture(autouse=True)
def _read_for_each_who_asks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("cctv_storaged.fleet.KEPT_S", 0.0)
        yield


def settings(database: PostgresDatabase, host_id: str, **more: Any) -> dict[str, Any]:
    postgres = {
        **{"host": database.host, "port": database.port, "db": database.name},
        **{"user": database.user, "password": database.password, "ssl": "disable"},
    }
    return {"host_id": host_id, "postgres": postgres, **more}


@asynccontextmanager
async def hosts(
    folder: Path, database: PostgresDatabase, *names: str, **more: Any
) -> AsyncIterator[tuple[Host, ...]]:
    """Hosts with folders of their own, in one catalog."""
    async with AsyncExitStack() as stack:
        made = []
        for number, name in enumerate(names):
            own = folder / str(number)
            own.mkdir()
            made.append(await stack.enter_async_context(running(own, settings(database, name, **more))))
        yield tuple(made)


def telling(host: Host) -> FleetTelling:
    assert host.parts.fleet is not None
    return host.parts.fleet


async def listed(host: Host) -> dict[str, dict[str, Any]]:
    """The fleet by the names of its hosts, as one of them answers."""
    reply = await host.get(FLEET)
    assert reply.status == 200, reply
    FleetAnswer.model_validate(reply.json)
    return {each["host_id"]: each for each in reply.json["hosts"]}


def age(database: PostgresDatabase, host_id: str) -> None:
    """As if the host had said nothing for a quarter of an hour."""
    database.sql(
        f"UPDATE storage_hosts SET seen_at = seen_at - interval '15 minutes' WHERE host_id = '{host_id}'"
    )


def word(**changes: Any) -> HostWord:
    usual = HostWord(
        host_id="nvr-01",
        journal_id="journal",
        run_id=UUID(int=1),
        started_at=NOON,
        version="1",
        config_version=None,
        config_hash="0" * 64,
        config_waiting=(),
        mode="LOCAL",
        backend="S3",
        cameras=1,
        backlog_segments=0,
        backlog_bytes=0,
        copies_failed=0,
        oldest_undelivered=None,
        disk_days_left=None,
        alarms=(),
        alarms_standing=0,
    )
    return replace(usual, **changes)


async def test_each_host_tells_how_it_is_and_any_of_them_shows_all(
    tmp_path: Path, postgres_database: PostgresDatabase
) -> None:
    async with hosts(
        tmp_path, postgres_database, "nvr-01", "nvr-02", config_version="rev 7", cameras=[{"folder": "gate"}]
    ) as (one, two):
        segment = await one.registered()
        one.parts.foundation.alarms.sound(AlarmName.DISK_LOW, "/recordings", "little room")
        await telling(one).run_once()
        await telling(two).run_once()
        for asked in (one, two):
            fleet = await listed(asked)
            assert list(fleet) == ["nvr-01", "nvr-02"]
            told = fleet["nvr-01"]
            assert (told["stale"], told["twin"], told["config_version"]) == (False, False, "rev 7")
            assert (told["backlog_segments"], told["backlog_bytes"]) == (1, segment["size_bytes"])
            assert told["oldest_undelivered"] == segment["start_time"]
            assert told["cameras"] == 2  # the listed one, and the segment's
            assert [(each["name"], each["subject"]) for each in told["alarms"]] == [
                ("disk_low", "/recordings")
            ]
            assert told["alarms_standing"] == 1
            assert fleet["nvr-02"]["alarms"] == []
            assert fleet["nvr-02"]["backlog_segments"] == 0
        health = (await one.get("/health")).json
        assert {each["config_hash"] for each in fleet.values()} != {health["config_hash"]}  # other folders
        assert (health["config_version"], health["config_hash"]) == ("rev 7", fleet["nvr-01"]["config_hash"])


async def test_a_host_that_says_nothing_is_shown_as_stale_and_comes_back_with_its_next_word(
    tmp_path: Path, postgres_database: PostgresDatabase
) -> None:
    async with hosts(tmp_path, postgres_database, "nvr-01", "nvr-02") as (one, two):
        await telling(one).run_once()
        await telling(two).run_once()
        age(postgres_database, "nvr-02")
        fleet = await listed(one)
        assert {name: each["stale"] for name, each in fleet.items()} == {"nvr-01": False, "nvr-02": True}
        assert fleet["nvr-02"]["seen_seconds_ago"] >= 900
        await telling(two).run_once()
        assert not (await listed(one))["nvr-02"]["stale"]


async def test_who_asks_again_at_once_is_told_the_same_with_its_moment(
    tmp_path: Path, postgres_database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cctv_storaged.fleet.KEPT_S", 3600.0)
    async with hosts(tmp_path, postgres_database, "nvr-01") as (host,):
        first = await host.get(FLEET)
        await telling(host).run_once()
        again = await host.get(FLEET)
        assert (first.json["hosts"], again.json) == ([], first.json)


async def test_a_large_fleet_is_put_together_beside_the_loop(
    tmp_path: Path, postgres_database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And for few at a time: nothing else on the host waits for it."""
    threads: set[int] = set()

    def noting(of: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def noted(given: Any) -> Any:
            threads.add(threading.get_ident())
            return of(given)

        return noted

    monkeypatch.setattr(catalog_hosts, "_known", noting(catalog_hosts._known))
    monkeypatch.setattr(api_fleet, "_host_json", noting(api_fleet._host_json))
    async with hosts(tmp_path, postgres_database, "nvr-01") as (host,):
        await telling(host).run_once()
        assert list(await listed(host)) == ["nvr-01"]
    assert threads
    assert threading.get_ident() not in threads
    assert {route.lane for route in api_fleet.ROUTES} == {Lane.HEAVY}


async def test_without_a_catalog_there_is_no_fleet_and_while_it_is_away_the_host_says_so(
    tmp_path: Path, postgres_database: PostgresDatabase
) -> None:
    (tmp_path / "alone").mkdir()
    async with running(tmp_path / "alone") as alone:
        reply = await alone.get(FLEET)
        assert (reply.status, alone.parts.fleet) == (404, None)
        assert "PostgreSQL is not configured" in reply.json["detail"]
    async with hosts(tmp_path, postgres_database, "nvr-01") as (host,):
        telling_on = asyncio.create_task(telling(host).run())
        postgres_database.cluster.stop()
        away = await host.get(FLEET)
        assert (away.status, away.json["type"]) == (503, "urn:cctv-storaged:problem:catalog-away")
        assert (await host.registered())["camera_id"]  # and goes on with its work
        assert not telling_on.done()
        telling_on.cancel()


async def test_two_hosts_of_one_name_are_noticed_by_both_and_the_end_of_it_too(
    tmp_path: Path, postgres_database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hosts(tmp_path, postgres_database, "nvr-01", "nvr-01", "nvr-02") as (one, two, other):
        for host in (one, two, other, one, two, other):
            await telling(host).run_once()
        for host in (one, two):
            [alarm] = host.parts.foundation.alarms.standing
            assert (alarm.name, alarm.subject) == (AlarmName.TWIN_HOST, "nvr-01")
            assert "another host_id" in alarm.text
        assert other.parts.foundation.alarms.standing == ()
        shown = (await other.get(FLEET)).json["hosts"]
        assert [(each["host_id"], each["twin"]) for each in shown] == [
            ("nvr-01", True),
            ("nvr-01", True),
            ("nvr-02", False),
        ]
        assert len({each["journal_id"] for each in shown}) == 3

        gone = (await telling(two).word()).journal_id  # it says nothing any more, and time goes by
        postgres_database.sql(
            f"UPDATE storage_hosts SET seen_at = seen_at - interval '1 hour' WHERE journal_id = '{gone}'"
        )
        monkeypatch.setattr("cctv_storaged.fleet.STALE_S", 0.0)
        await telling(one).run_once()
        assert one.parts.foundation.alarms.standing == ()
        monkeypatch.undo()
        assert not (await listed(other))["nvr-01"]["twin"]


async def test_a_copied_data_dir_is_noticed_although_its_journal_is_the_same(
    tmp_path: Path, postgres_database: PostgresDatabase
) -> None:
    async with (
        hosts(tmp_path, postgres_database, "nvr-01") as (host,),
        open_catalog(postgres_database, "nvr-01") as copy,
    ):
        await telling(host).run_once()
        await copy.tell_host(replace(await telling(host).word(), run_id=uuid4()))
        await telling(host).run_once()
        [alarm] = host.parts.foundation.alarms.standing
        assert alarm.name is AlarmName.TWIN_HOST


async def test_two_hosts_of_one_name_in_one_store_are_noticed_without_a_catalog(tmp_path: Path) -> None:
    """By the heads of their ledgers, which lie below the host's name."""
    store = {"filesystem": {"path": str(tmp_path / "store")}}
    (tmp_path / "store").mkdir()
    for name, alarms in (("first", []), ("second", [AlarmName.LEDGER])):
        (tmp_path / name).mkdir()
        async with running(tmp_path / name, {"host_id": "nvr-01", **store}) as host:
            await host.parts.upkeep.auditing.heads.run_once()
            assert [each.name for each in host.parts.foundation.alarms.standing] == alarms


async def test_a_restart_and_a_journal_made_anew_are_no_second_host(
    tmp_path: Path, postgres_database: PostgresDatabase
) -> None:
    async with open_catalog(postgres_database, "nvr-01") as before:
        await before.tell_host(word(journal_id="lost"))
    for _ in range(2):  # the second time is a restart
        async with running(tmp_path, settings(postgres_database, "nvr-01")) as host:
            for _ in range(3):
                await telling(host).run_once()
            assert host.parts.foundation.alarms.standing == ()
    age(postgres_database, "nvr-01")
    async with running(tmp_path, settings(postgres_database, "nvr-01")) as host:
        await telling(host).run_once()
        assert [each["journal_id"] for each in (await host.get(FLEET)).json["hosts"]] != ["lost"]
        assert len((await host.get(FLEET)).json["hosts"]) == 1


async def test_a_word_holds_whatever_a_host_may_say_and_no_more(postgres_database: PostgresDatabase) -> None:
    odd = HostAlarm(name="disk_low", subject="/a\0b\udcff'; DROP", text="ü" * 9000, since="2026")
    said = word(
        config_version="\udcff\0 ü",
        alarms=(odd,) * 1000,
        alarms_standing=1000,
        disk_days_left=1.5,
        oldest_undelivered=NOON,
        config_waiting=("api.port",),
    )
    async with open_catalog(postgres_database, "nvr-01") as catalog:
        first = await catalog.tell_host(word())
        second = await catalog.tell_host(said)
        assert first.before is None
        assert second.before == (UUID(int=1), first.at)
        [known] = await catalog.hosts()
        assert (known.word.oldest_undelivered, known.word.disk_days_left) == (NOON, 1.5)
        assert known.word.config_version == "\\udcff\\x00 ü"
        assert (len(known.word.alarms), known.word.alarms_standing) == (MOST_ALARMS, 1000)
        assert known.word.alarms[0].subject == "/a\\x00b\\udcff'; DROP"
        assert len(known.word.alarms[0].text) == 300
        postgres_database.sql(
            "UPDATE storage_hosts SET disk_days_left = 'NaN', alarms = '{\"no\": \"list\"}'"
        )
        [known] = await catalog.hosts()
        assert (known.word.disk_days_left, known.word.alarms) == (None, ())
        with pytest.raises(ValueError, match="itself alone"):
            await catalog.tell_host(word(host_id="nvr-02"))


async def test_an_export_is_of_one_host_and_no_other_touches_it(postgres_database: PostgresDatabase) -> None:
    export = CatalogExport(
        id=uuid4(),
        camera_ids=(uuid4(),),
        start_time=NOON,
        end_time=NOON + timedelta(seconds=1),
        format="mp4",
        reason="incident",
        status="COMPLETED",
        file_path="a.mp4",
        file_size=1,
        expires_at=None,
        created_by=None,
        created_at=datetime.now(UTC),
        completed_at=None,
    )

    def rows() -> list[list[str]]:
        return postgres_database.sql("SELECT host_id, status FROM exports")

    async with (
        open_catalog(postgres_database, "nvr-01") as one,
        open_catalog(postgres_database, "nvr-02") as two,
    ):
        await one.upsert_exports([export])
        await two.upsert_exports([replace(export, status="FAILED")])
        await two.remove_exports([export.id])
        assert rows() == [["nvr-01", "COMPLETED"]]
        postgres_database.sql("UPDATE exports SET host_id = ''")  # as the version before wrote it
        await one.upsert_exports([replace(export, status="FAILED")])
        assert rows() == [["nvr-01", "FAILED"]]
        await one.remove_exports([export.id])
        assert rows() == []


async def test_a_program_of_the_version_before_works_on_in_the_newer_catalog(
    postgres_database: PostgresDatabase,
) -> None:
    async with open_catalog(postgres_database, "nvr-01") as newer:
        await newer.tell_host(word())
    older = PostgresCatalog(target_of(postgres_database), "nvr-02", migrations=shipped()[:1])
    await older.open()
    try:
        await older.check()
    finally:
        await older.close()
