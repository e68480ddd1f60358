"""Three hosts, each on a network of its own, one PostgreSQL, one bucket, and a cable that is pulled."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.daemon import Daemon, wait_until
from tests.footage import cached_ts
from tests.services.netns import Network, networks
from tests.services.postgres import PostgresDatabase
from tests.services.seaweed import ACCESS_KEY, SECRET_KEY, Bucket

NAMES = {"nvr-01": 1, "nvr-02": 2, "nvr-03": 3}
CUT = "nvr-03"
BEGIN = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)


@dataclass(slots=True)
class NetHost:
    """One daemon behind its cable."""

    daemon: Daemon
    network: Network
    written: int = 0

    def record(self, count: int) -> None:
        """So many closed segments."""
        for _ in range(count):
            start = BEGIN + timedelta(seconds=2 * self.written)
            path = self.daemon.recordings / "gate" / f"{start:%Y-%m-%d}" / f"{start:%H-%M-%S}.ts"
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(cached_ts(seconds=2), path.with_suffix(".part"))
            path.with_suffix(".part").rename(path)
            self.written += 1

    def ask(self, path: str, expect: tuple[int, ...] = (200,), **query: str) -> Any:
        return self.network.ask(lambda: self.daemon.request("GET", path, query=query, expect=expect)[1])

    def delivered(self) -> list[dict[str, Any]]:
        return self.network.ask(lambda: self.daemon.wait_delivered(self.written))

    def fleet(self) -> dict[str, dict[str, Any]]:
        return {each["host_id"]: each for each in self.ask("/fleet")["hosts"]}


@pytest.fixture
def hosts(
    make_daemon: Callable[..., Daemon], postgres_database: PostgresDatabase, seaweed_bucket: Bucket
) -> Iterator[dict[str, NetHost]]:
    made: dict[str, NetHost] = {}
    database, s3_port = postgres_database, seaweed_bucket.server.s3_port
    with networks(NAMES, database.port, s3_port) as nets:
        for name, network in nets.items():
            postgres = {
                **{"host": network.here, "port": database.port, "db": database.name},
                **{"user": database.user, "password": database.password, "ssl": "disable"},
            }
            s3 = {
                **{
                    "endpoint_url": f"http://{network.here}:{s3_port}",
                    "bucket_recordings": seaweed_bucket.name,
                },
                **{"access_key": ACCESS_KEY, "secret_key": SECRET_KEY},
            }
            daemon = make_daemon(
                name, host_id=name, backend="S3", s3=s3, postgres=postgres, config_version="rev 1"
            )
            daemon.wrapper = network.inside
            made[name] = NetHost(daemon, network)
        for host in made.values():
            host.daemon.start()
        yield made
        for host in made.values():
            host.daemon.kill()


def rows(database: PostgresDatabase, host_id: str) -> dict[str, tuple[str, str]]:
    """The host's segments: path, and the transaction that wrote the row last."""
    found = database.sql(
        f"SELECT id, storage_path, xmin FROM segments WHERE host_id = '{host_id}' ORDER BY id"
    )
    return {segment_id: (path, by) for segment_id, path, by in found}


def told(database: PostgresDatabase, host_id: str) -> int:
    """How many of the host's copies the catalog knows to be verified: nothing is told of them after that."""
    counted = database.sql(
        f"""SELECT count(*) FROM segment_copies JOIN segments ON id = segment_id
             WHERE host_id = '{host_id}' AND state = 'verified'"""
    )
    return int(counted[0][0])


@pytest.mark.timeout(400)
def test_a_host_that_is_cut_off_records_on_and_catches_up_and_nobody_touches_what_is_anothers(
    hosts: dict[str, NetHost], postgres_database: PostgresDatabase, seaweed_bucket: Bucket
) -> None:
    cut, others = hosts[CUT], [host for name, host in hosts.items() if name != CUT]
    for host in hosts.values():
        host.record(2)
    for host in hosts.values():
        host.delivered()
    wait_until(lambda: all(told(postgres_database, name) == 2 for name in NAMES), "the catalog knows all")
    wait_until(lambda: set(others[0].fleet()) == set(NAMES), "every host has spoken")
    assert not any(each["stale"] or each["twin"] for each in cut.fleet().values())
    assert {each["config_version"] for each in cut.fleet().values()} == {"rev 1"}
    before = rows(postgres_database, CUT)
    objects = {path: seaweed_bucket.read(path) for path, _ in before.values()}

    cut.network.pull()
    for host in hosts.values():
        host.record(2)
    for host in others:
        host.delivered()
    cut.network.ask(lambda: cut.daemon.wait_segments(4))
    wait_until(lambda: cut.ask("/queue")["backends"][0]["segments"] == 2, "its footage waits")
    assert len(cut.network.ask(cut.daemon.segments)) == 4
    assert cut.ask("/ready")["ready"] is True
    wait_until(
        lambda: cut.ask("/fleet", expect=(200, 503)).get("type", "").endswith("catalog-away"),
        "what it read before is told no more",
    )
    assert cut.daemon.stop() == 0  # and somebody restarts it just now
    cut.daemon.start()
    assert len(cut.network.ask(cut.daemon.segments)) == 4
    postgres_database.sql(  # as if the quarter of an hour had gone by in which it could not speak
        f"UPDATE storage_hosts SET seen_at = seen_at - interval '15 minutes' WHERE host_id = '{CUT}'"
    )
    for host in others:
        assert {name: each["stale"] for name, each in host.fleet().items()} == {
            name: name == CUT for name in NAMES
        }
        camera = cut.ask("/cameras")["cameras"][0]["id"]
        page = host.ask(f"/segments/{camera}", scope="fleet", start="2020-01-01T00:00:00Z")
        assert {each["id"] for each in page["segments"]} == set(before)
    assert rows(postgres_database, CUT) == before
    assert {path: seaweed_bucket.read(path) for path in objects} == objects

    wait_until(
        lambda: all(told(postgres_database, name) == 4 for name in NAMES if name != CUT), "so do the others"
    )
    of_others = {name: rows(postgres_database, name) for name in NAMES if name != CUT}
    cut.network.plug()
    caught_up = cut.delivered()
    wait_until(lambda: set(rows(postgres_database, CUT)) == {each["id"] for each in caught_up}, "all told")
    wait_until(
        lambda: (said := others[0].fleet()[CUT])["stale"] is False and said["backlog_segments"] == 0,
        "it spoke again",
    )
    assert {name: rows(postgres_database, name) for name in of_others} == of_others
    assert {name: len(rows(postgres_database, name)) for name in NAMES} == dict.fromkeys(NAMES, 4)
    kept = [path for name in NAMES for path, _ in rows(postgres_database, name).values()]
    assert len(set(kept)) == 12
    assert set(kept) <= seaweed_bucket.keys()
    assert not any(each["twin"] for each in others[0].fleet().values())
