"""What the guides on stores and PostgreSQL say to set up is enough, and gives no more than they say."""

import json
import re
from pathlib import Path

import asyncpg
import pytest

from cctv_storaged.pacing import ByteBudget
from tests.daemon import PROJECT
from tests.services.backends import STORES, closing, store
from tests.services.catalog import everything, open_catalog
from tests.services.payloads import payload_of, some_bytes, write_source
from tests.services.postgres import PostgresDatabase
from tests.services.seaweed import GUIDE_KEY, GUIDE_RIGHTS, Bucket

GUIDE = PROJECT / "docs" / "guide"
PATH = "camera/2026/03/05/12/a.ts"
READER = "cctv_reader"


def test_the_key_of_these_tests_has_the_rights_of_the_guide() -> None:
    section = (GUIDE / "stores.md").read_text().split("\n## SeaweedFS\n")[1].split("\n## ")[0]
    (block,) = re.findall(r"```json\n(.*?)```", section, re.S)
    (identity,) = json.loads(block)["identities"]
    assert identity["actions"] == GUIDE_RIGHTS


@pytest.mark.parametrize("kind", STORES)
async def test_a_key_with_the_rights_of_the_guide_can_do_all_that_is_done(
    kind: str, locked_bucket: Bucket, tmp_path: Path
) -> None:
    where = locked_bucket.server.endpoint
    async with closing(store(kind, where, locked_bucket.name, access_key=GUIDE_KEY)) as backend:
        found = await backend.probe()
        assert found.refuses_wrong_sha256 and found.conditional_put and found.object_lock
        with payload_of(write_source(tmp_path / "a.ts", some_bytes(1000))) as payload:
            await backend.verify(await backend.put(PATH, payload, ByteBudget(None)))
        await backend.set_legal_hold(PATH, True)
        assert await backend.legal_hold(PATH)
        await backend.set_legal_hold(PATH, False)
        await backend.delete(PATH)
        assert await backend.sweep(0.0) == 0
    assert locked_bucket.keys("camera") == set()


def statements_for_readers() -> list[str]:
    """The guide's, without what psql alone understands and with the test's own database."""
    text = (GUIDE / "postgres.md").read_text().split("\n## Readers\n")[1]
    (block,) = re.findall(r"```sql\n(.*?)```", text.split("\n## ")[0], re.S)
    return [line for line in block.splitlines() if not line.startswith("\\")]


async def test_a_reader_made_as_the_guide_says_reads_and_changes_nothing(
    postgres_database: PostgresDatabase,
) -> None:
    database = postgres_database
    async with open_catalog(database) as catalog:
        await everything(catalog)  # which makes the tables
    for statement in statements_for_readers():
        database.sql(statement.replace("DATABASE cctv ", f"DATABASE {database.name} "))
    try:
        reader = await asyncpg.connect(
            host=database.host, port=database.port, database=database.name, user=READER, password="another"
        )
        try:
            for table in ("segments", "segment_copies", "exports"):
                assert await reader.fetch(f"SELECT * FROM {table}") == []
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await reader.execute(f"DELETE FROM {table}")
        finally:
            await reader.close()
    finally:
        database.sql(f"DROP OWNED BY {READER}; DROP ROLE {READER}")
