"""T-29: PostgreSQL restarted, stopped, full, locked, frozen, or not letting us in.

Each failure must come out as CatalogUnavailable, in bounded time, with words that help; and when the fault is
over, the same rows offered again must end up there once.
"""

import asyncio
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Self

import asyncpg
import pytest

from cctv_storaged.catalog.base import CatalogRow
from cctv_storaged.catalog.connections import SslMode
from cctv_storaged.catalog.postgres import PostgresCatalog
from cctv_storaged.errors import CatalogUnavailable
from tests.services.catalog import HOST, everything, open_catalog, query, raw_connection, row
from tests.services.ports import kept_port
from tests.services.postgres import PASSWORD, PostgresCluster, PostgresDatabase

READY_FOR_QUERY = b"Z\x00\x00\x00\x05I"  # ends the answer to an exchange outside a transaction (protocol 3.0)


async def test_crashes_in_the_middle_of_use_lose_and_double_nothing(
    postgres_cluster: PostgresCluster, postgres_database: PostgresDatabase
) -> None:
    over = asyncio.Event()
    refusals: list[str] = []

    async def feed(catalog: PostgresCatalog, lane: int) -> list[CatalogRow]:
        """As a caller does: batch after batch, each again until it is taken."""
        fed: list[CatalogRow] = []
        while not over.is_set():
            batch = [row(3 * (len(fed) + number) + lane) for number in range(10)]
            await keep_offering(catalog, batch, refusals)
            fed += batch
        return fed

    async with open_catalog(postgres_database) as catalog:
        feeders = [asyncio.create_task(feed(catalog, lane)) for lane in range(3)]
        for crash in range(3):
            await until(partial(holds_more_than, postgres_database, 10 * crash))
            await asyncio.to_thread(postgres_cluster.restart, "immediate")
        over.set()
        fed = [entry for part in await asyncio.gather(*feeders) for entry in part]
        assert await everything(catalog) == sorted(fed, key=lambda entry: entry.start_time)
    assert refusals, "no crash was ever felt, so nothing was tried"
    copies = postgres_database.sql("SELECT count(*), count(DISTINCT segment_id) FROM segment_copies")
    assert copies == [[str(len(fed)), str(len(fed))]]


async def test_what_is_told_is_on_the_disk_whatever_the_servers_settings(
    postgres_cluster: PostgresCluster, postgres_database: PostgresDatabase
) -> None:
    """With synchronous_commit = off a crash takes acknowledged rows back, and nobody tells them again."""
    postgres_cluster.sql(f"ALTER DATABASE {postgres_database.name} SET synchronous_commit = off")
    postgres_database.sql("CREATE TABLE seen (setting text)")
    async with open_catalog(postgres_database) as catalog:
        await catalog.upsert([row(1)])
        postgres_database.sql(
            """GRANT INSERT ON seen TO PUBLIC;
               CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                   INSERT INTO seen VALUES (current_setting('synchronous_commit')); RETURN NEW; END $$;
               CREATE TRIGGER note BEFORE INSERT ON segments EXECUTE FUNCTION note()"""
        )
        await catalog.upsert([row(2)])
    assert postgres_database.sql("SELECT setting FROM seen") == [["on"]]


async def test_a_lost_answer_to_a_commit_is_made_good_unseen(postgres_database: PostgresDatabase) -> None:
    async with (
        AnswerLosingProxy(postgres_database.port) as proxy,
        open_catalog(postgres_database, port=proxy.port) as catalog,
    ):
        await catalog.upsert([row(1)])  # now the statement is prepared: the next answer is that of the commit
        proxy.lose_next_answer(lambda: rows_of(postgres_database))
        assert (await catalog.upsert([row(2)])).stored == (row(2).id,)
        assert proxy.seen_at_loss == [[str(row(1).id)], [str(row(2).id)]], "it was not committed at the loss"
        assert await everything(catalog) == [row(1), row(2)]


@pytest.mark.parametrize("mode", ["immediate", "fast"])
async def test_a_restart_between_two_calls_is_not_noticed(
    postgres_cluster: PostgresCluster, postgres_database: PostgresDatabase, mode: str
) -> None:
    """All idle connections are stale then; the caller must not be told of any."""
    async with open_catalog(postgres_database) as catalog:
        await asyncio.gather(*(catalog.upsert([row(number)]) for number in range(3)))
        postgres_cluster.restart(mode)  # blocks the loop, so nobody has seen the connections end
        assert await everything(catalog) == [row(0), row(1), row(2)]


async def test_a_connection_cut_by_the_server_is_replaced_at_once(
    postgres_database: PostgresDatabase,
) -> None:
    async with open_catalog(postgres_database) as catalog:
        for number in range(5):
            assert (await catalog.upsert([row(number)])).stored
            postgres_database.sql(
                f"""SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                     WHERE datname = '{postgres_database.name}' AND pid <> pg_backend_pid()"""
            )
        assert len(await everything(catalog)) == 5


async def test_a_server_that_comes_later_is_found_when_it_comes(
    postgres_cluster: PostgresCluster, postgres_database: PostgresDatabase
) -> None:
    postgres_cluster.stop()
    async with open_catalog(postgres_database) as catalog:
        assert not await catalog.healthy()
        for attempt in (catalog.upsert([row(1)]), catalog.find(query()), catalog.remove([row(1).id])):
            with pytest.raises(CatalogUnavailable, match="is PostgreSQL running"):
                await attempt
        postgres_cluster.start()
        assert (await catalog.upsert([row(1)])).stored == (row(1).id,)
        assert await catalog.healthy()


async def test_a_server_gone_for_long_is_found_again(
    postgres_cluster: PostgresCluster, postgres_database: PostgresDatabase
) -> None:
    """Longer than any connection is kept idle, so the pool has forgotten what it had."""
    async with open_catalog(postgres_database, idle_s=0.1) as catalog:
        await catalog.upsert([row(1)])
        postgres_cluster.stop()
        for _ in range(20):
            with pytest.raises(CatalogUnavailable):
                await catalog.upsert([row(2)])
        postgres_cluster.start()
        await catalog.upsert([row(2)])
        assert await everything(catalog) == [row(1), row(2)]


async def test_idle_connections_are_given_back(postgres_database: PostgresDatabase) -> None:
    async with open_catalog(postgres_database, idle_s=0.1) as catalog:
        await asyncio.gather(*(catalog.upsert([row(number)]) for number in range(3)))
        await until(lambda: sessions_of(postgres_database) == 0)


async def test_no_more_connections_are_held_than_agreed(postgres_database: PostgresDatabase) -> None:
    async with open_catalog(postgres_database) as catalog:
        await catalog.check()
        rows = [row(number) for number in range(60)]
        await asyncio.gather(*(catalog.upsert([entry]) for entry in rows))
        assert sessions_of(postgres_database) <= 3
        assert await everything(catalog) == rows


async def test_a_server_without_a_free_connection_is_waited_out(
    postgres_cluster: PostgresCluster, postgres_database: PostgresDatabase
) -> None:
    postgres_cluster.restart("fast", "max_connections=4", "superuser_reserved_connections=1")
    async with open_catalog(postgres_database) as catalog:
        async with AsyncExitStack() as others:
            for _ in range(3):
                await occupy(others, postgres_database)
            with pytest.raises(CatalogUnavailable, match=r"connection slots.*max_connections"):
                await catalog.upsert([row(1)])
        await keep_offering(catalog, [row(1)], [])
        assert await everything(catalog) == [row(1)]
    postgres_cluster.restart()


@pytest.mark.parametrize("table", ["segments", "segment_copies"])
async def test_a_locked_table_is_not_waited_for_longer_than_agreed(
    postgres_database: PostgresDatabase, table: str
) -> None:
    async with open_catalog(postgres_database, lock_timeout_s=0.3) as catalog:
        await catalog.upsert([row(1)])
        async with raw_connection(postgres_database) as other, other.transaction():
            await other.execute(f"LOCK TABLE {table}")
            began = time.monotonic()
            with pytest.raises(CatalogUnavailable, match=r"lock timeout.*another session holds a lock"):
                await catalog.upsert([row(2)])
            assert time.monotonic() - began < 10
        await catalog.upsert([row(2)])
        assert await everything(catalog) == [row(1), row(2)]


async def test_a_slow_statement_is_ended_by_the_server(postgres_database: PostgresDatabase) -> None:
    """A trigger of the site that never ends, say."""
    async with open_catalog(postgres_database, statement_timeout_s=4.0) as catalog:
        await catalog.find(query())
        postgres_database.sql(
            """CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql
                   AS $$ BEGIN PERFORM pg_sleep(600); RETURN NEW; END $$;
               CREATE TRIGGER dawdle BEFORE INSERT ON segments EXECUTE FUNCTION dawdle()"""
        )
        with pytest.raises(CatalogUnavailable, match="statement timeout"):
            await catalog.upsert([row(1)])
        assert sessions_of(postgres_database, busy=True) == 0
        postgres_database.sql("DROP TRIGGER dawdle ON segments")
        assert (await catalog.upsert([row(1)])).stored == (row(1).id,)


async def test_a_server_that_hangs_is_given_up_and_used_again_when_it_wakes(
    postgres_cluster: PostgresCluster, postgres_database: PostgresDatabase
) -> None:
    async with open_catalog(
        postgres_database, connect_timeout_s=1.0, statement_timeout_s=0.5, answer_margin_s=0.5
    ) as catalog:
        await keep_offering(catalog, [row(1)], [])  # a busy machine, too, may be late with an answer
        began = time.monotonic()
        with postgres_cluster.frozen():
            for _ in range(3):
                with pytest.raises(CatalogUnavailable, match="no answer in time"):
                    await catalog.upsert([row(2)])
            assert not await catalog.healthy()
        assert time.monotonic() - began < 20
        await keep_offering(catalog, [row(2)], [])
    async with open_catalog(postgres_database) as catalog:
        assert await everything(catalog) == [row(1), row(2)]


async def test_closing_does_not_wait_for_a_server_that_hangs(
    postgres_cluster: PostgresCluster, postgres_database: PostgresDatabase
) -> None:
    async with open_catalog(postgres_database, answer_margin_s=0.3) as catalog:
        await catalog.upsert([row(1)])
        began = time.monotonic()
        with postgres_cluster.frozen():
            upsert = asyncio.create_task(catalog.upsert([row(2)]))
            await asyncio.sleep(0)
            upsert.cancel()
            with pytest.raises(asyncio.CancelledError):
                await upsert
            await catalog.close()
        assert time.monotonic() - began < 20
    with pytest.raises(CatalogUnavailable, match="not open"):
        await catalog.find(query())


async def test_a_cancelled_upsert_stops_and_leaves_the_catalog_usable(
    postgres_database: PostgresDatabase,
) -> None:
    async with open_catalog(postgres_database, lock_timeout_s=60) as catalog:
        await catalog.upsert([row(1)])
        async with raw_connection(postgres_database) as other, other.transaction():
            await other.execute("LOCK TABLE segments")
            upsert = asyncio.create_task(catalog.upsert([row(2)]))
            await until(lambda: somebody_waits_for_a_lock(postgres_database))
            upsert.cancel()
            with pytest.raises(asyncio.CancelledError):
                await upsert
        assert await everything(catalog) == [row(1)]
        assert (await catalog.upsert([row(2)])).stored == (row(2).id,)


async def test_a_wrong_password_is_said_without_showing_it(
    postgres_cluster: PostgresCluster, postgres_database: PostgresDatabase
) -> None:
    wrong = postgres_cluster.database(postgres_database.name, password="not-the-hunter2")
    async with open_catalog(wrong) as catalog:
        with pytest.raises(CatalogUnavailable) as caught:
            await catalog.upsert([row(1)])
        assert not await catalog.healthy()
    words = str(caught.value)
    assert 'password authentication failed for user "cctv"' in words
    assert "POSTGRES_PASSWORD" in words
    assert f"cctv@127.0.0.1:{wrong.port}/{wrong.name}" in words
    chain = f"{caught.value!r} {caught.value.__cause__!r}"
    assert "hunter2" not in words + chain
    assert PASSWORD not in words + chain


async def test_a_missing_database_and_an_unknown_role_are_said(postgres_cluster: PostgresCluster) -> None:
    async with open_catalog(postgres_cluster.database("nowhere")) as catalog:
        with pytest.raises(CatalogUnavailable, match=r'database "nowhere" does not exist.*POSTGRES_DB'):
            await catalog.check()
    async with open_catalog(postgres_cluster.database("postgres", user="nobody")) as catalog:
        with pytest.raises(CatalogUnavailable, match=r'failed for user "nobody".*POSTGRES_USER'):
            await catalog.check()


async def test_a_name_that_does_not_resolve_is_said(postgres_database: PostgresDatabase) -> None:
    for name in ("no-such-host.invalid", "x" * 64 + ".invalid"):
        async with open_catalog(postgres_database, host=name) as catalog:
            with pytest.raises(CatalogUnavailable, match="look at the schema: "):
                await catalog.check()


async def test_a_port_where_nobody_or_somebody_else_answers_is_said(
    postgres_database: PostgresDatabase,
) -> None:
    with kept_port() as port:
        async with open_catalog(postgres_database, port=port) as catalog:
            with pytest.raises(CatalogUnavailable, match="is PostgreSQL running, and listening"):
                await catalog.check()
    server = await asyncio.start_server(talk_http, "127.0.0.1", 0, family=socket.AF_INET)
    async with server, open_catalog(postgres_database, port=server.sockets[0].getsockname()[1]) as catalog:
        with pytest.raises(CatalogUnavailable):
            await catalog.check()


async def test_a_missing_socket_folder_is_said(postgres_database: PostgresDatabase, tmp_path: Path) -> None:
    async with open_catalog(postgres_database, host=str(tmp_path)) as catalog:
        with pytest.raises(CatalogUnavailable, match="is this its socket folder"):
            await catalog.check()


async def test_a_unix_socket_is_a_way_as_well(
    postgres_cluster: PostgresCluster, postgres_database: PostgresDatabase
) -> None:
    async with open_catalog(
        postgres_database, host=str(postgres_cluster.socket_folder), ssl=SslMode.PREFER
    ) as catalog:
        await catalog.upsert([row(1)])
        assert await everything(catalog) == [row(1)]


async def test_a_standby_refuses_writes_and_the_primary_takes_them_later(
    postgres_database: PostgresDatabase,
) -> None:
    """After a fail-over a connection may lead to a server that has become read-only."""
    async with open_catalog(postgres_database) as catalog:
        await catalog.upsert([row(1)])
        name = postgres_database.name
        postgres_database.cluster.sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        postgres_database.cluster.restart()
        with pytest.raises(CatalogUnavailable, match="read-only"):
            await catalog.upsert([row(2)])
        assert await everything(catalog) == [row(1)]
        postgres_database.cluster.sql(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        # The connections made in between still are read-only; they must be given up for new ones.
        assert (await catalog.upsert([row(2)])).stored == (row(2).id,)


@pytest.fixture
def certificates(postgres_cluster: PostgresCluster, tmp_path: Path) -> Iterator[Path]:
    """A server that offers TLS with a certificate for `localhost`; the file that vouches for it."""
    certificate, key = tmp_path / "server.crt", tmp_path / "server.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    postgres_cluster.install(certificate, "server.crt")
    postgres_cluster.install(key, "server.key")
    postgres_cluster.restart("fast", "ssl=on")
    yield certificate
    postgres_cluster.restart("fast")


async def test_the_line_is_encrypted_and_the_server_checked_as_asked(
    postgres_database: PostgresDatabase, certificates: Path
) -> None:
    vouched = str(certificates)
    for mode, host, ca_file in (
        (SslMode.PREFER, "127.0.0.1", None),
        (SslMode.REQUIRE, "127.0.0.1", None),
        (SslMode.REQUIRE, "127.0.0.1", vouched),
        (SslMode.VERIFY_CA, "127.0.0.1", vouched),
        (SslMode.VERIFY_FULL, "localhost", vouched),
    ):
        async with open_catalog(postgres_database, ssl=mode, host=host, ca_file=ca_file) as catalog:
            await catalog.check()
            await until(lambda: encrypted_sessions_of(postgres_database) == 1)  # the one before may end late
    async with open_catalog(postgres_database, ssl=SslMode.DISABLE) as catalog:
        await catalog.check()
        await until(lambda: encrypted_sessions_of(postgres_database) == 0)


@pytest.mark.usefixtures("certificates")
async def test_a_server_nobody_vouches_for_is_not_talked_to(
    postgres_database: PostgresDatabase, certificates: Path
) -> None:
    for mode, host, ca_file in (
        (SslMode.VERIFY_CA, "127.0.0.1", None),  # the system's authorities do not know it
        (SslMode.VERIFY_FULL, "127.0.0.1", str(certificates)),  # the certificate is for another name
        (SslMode.REQUIRE, "127.0.0.1", ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca.crt"),
    ):
        async with open_catalog(postgres_database, ssl=mode, host=host, ca_file=ca_file) as catalog:
            with pytest.raises(CatalogUnavailable, match=r"certificate|CA file"):
                await catalog.check()


async def test_encryption_that_the_server_does_not_offer_is_said(postgres_database: PostgresDatabase) -> None:
    async with open_catalog(postgres_database, ssl=SslMode.REQUIRE) as catalog:
        with pytest.raises(CatalogUnavailable, match="rejected SSL upgrade"):
            await catalog.check()
    async with open_catalog(postgres_database, ssl=SslMode.PREFER) as catalog:
        await catalog.check()


async def test_a_missing_ca_file_is_named(postgres_database: PostgresDatabase, tmp_path: Path) -> None:
    missing = str(tmp_path / "ca.pem")
    async with open_catalog(postgres_database, ssl=SslMode.VERIFY_FULL, ca_file=missing) as catalog:
        with pytest.raises(CatalogUnavailable, match=r"cannot read the CA file .*ca\.pem"):
            await catalog.check()


class AnswerLosingProxy:
    """Stands before a server; can swallow one whole answer and hang up, as a broken network would."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._look: Callable[[], list[list[str]]] | None = None
        self.port = 0
        self.seen_at_loss: list[list[str]] | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self._lines: set[asyncio.Task[None]] = set()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await asyncio.gather(*self._lines, return_exceptions=True)

    def lose_next_answer(self, look: Callable[[], list[list[str]]]) -> None:
        """Lose the next answer that ends an exchange; `look` is called just after the server gave it."""
        self._look = look

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        server, to_server = await asyncio.open_connection("127.0.0.1", self._server_port)
        task = asyncio.current_task()
        assert task is not None
        self._lines.add(task)
        asking = asyncio.create_task(self._pass_on(client, to_server))
        answering = asyncio.create_task(self._answer(server, to_client))
        await asyncio.wait({asking, answering}, return_when=asyncio.FIRST_COMPLETED)
        asking.cancel()
        answering.cancel()
        to_client.close()
        to_server.close()

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while block := await source.read(65536):
            sink.write(block)

    async def _answer(self, server: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        swallowed = b""
        while block := await server.read(65536):
            if self._look is None:
                to_client.write(block)
                continue
            swallowed += block
            if READY_FOR_QUERY in swallowed:
                look, self._look = self._look, None
                self.seen_at_loss = look()
                return


async def occupy(others: AsyncExitStack, database: PostgresDatabase) -> None:
    """One more connection, as soon as there is one: who asked whether the server is up may be leaving yet."""
    deadline = time.monotonic() + 20
    while True:
        try:
            await others.enter_async_context(raw_connection(database))
        except asyncpg.TooManyConnectionsError:
            assert time.monotonic() < deadline, "no connection is free"
            await asyncio.sleep(0.02)
        else:
            return


async def keep_offering(catalog: PostgresCatalog, rows: list[CatalogRow], refusals: list[str]) -> None:
    """Offer the same rows until they are taken; notes each time the catalog was away."""
    while True:
        try:
            result = await catalog.upsert(rows)
        except CatalogUnavailable as exc:
            refusals.append(str(exc))
            await asyncio.sleep(0.01)
        else:
            assert {*result.stored} == {entry.id for entry in rows}
            return


def rows_of(database: PostgresDatabase) -> list[list[str]]:
    """The ids in the table, in the order of time; nothing where there is no table yet."""
    if database.sql("SELECT to_regclass('segments') IS NULL") == [["t"]]:
        return []
    return database.sql("SELECT id FROM segments ORDER BY start_time")


def holds_more_than(database: PostgresDatabase, count: int) -> bool:
    return len(rows_of(database)) > count


async def until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.02)


async def talk_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
    await writer.drain()
    writer.close()


def somebody_waits_for_a_lock(database: PostgresDatabase) -> bool:
    return database.sql("SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock'") == [["t"]]


def sessions_of(database: PostgresDatabase, *, busy: bool = False) -> int:
    """How many sessions the catalog has on the server just now."""
    only = "AND state = 'active'" if busy else ""
    name = f"cctv-storaged@{HOST}"
    query = f"SELECT count(*) FROM pg_stat_activity WHERE application_name = '{name}' {only}"
    return int(database.sql(query)[0][0])


def encrypted_sessions_of(database: PostgresDatabase) -> int:
    return int(
        database.sql(
            f"""SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                 WHERE ssl AND application_name = 'cctv-storaged@{HOST}'"""
        )[0][0]
    )
