"""The ledger's heads and archives in a real bucket, and what a host finds there that forgot its journal."""

from datetime import timedelta
from pathlib import Path

import pytest

from cctv_storaged.alarms import AlarmName
from cctv_storaged.auditing import archiving
from cctv_storaged.auditing.heads import read_head
from tests.integration.api.harness import Host, running
from tests.integration.api.test_store import settings
from tests.services.seaweed import Bucket, SeaweedServer


def alarms(host: Host) -> list[str]:
    standing = host.parts.upkeep.alarms.standing
    return [alarm.text for alarm in standing if alarm.name is AlarmName.LEDGER]


async def test_an_archive_that_cannot_be_read_is_told_and_holds_up_nothing_else(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        for number in range(3):
            await host.registered(f"gate/{number}.ts")
        await host.journal.ledger_lines.archived(2, bytes(32))
        folder = host.settings.data_dir / "ledger"
        folder.mkdir()
        (folder / "000000000001-000000000002.ndjson.gz").write_bytes(b"\x1f\x8bno")
        for path in ("/ledger", "/ledger/export"):
            reply = await host.get(path)
            assert (reply.status, reply.json["type"]) == (502, "urn:cctv-storaged:problem:bad-copy")
        assert (await host.get("/ledger", after="2")).json["lines"][0]["no"] == 3
        await host.parts.upkeep.auditing.heads.run_once()
        assert (await host.get("/ledger/head")).json["signed_is_stored"]


async def test_heads_and_archives_are_in_the_bucket_and_tell_a_journal_that_was_begun_anew(
    tmp_path: Path, seaweed: SeaweedServer, seaweed_bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archiving, "LINES", 3)
    (tmp_path / "before").mkdir()
    (tmp_path / "after").mkdir()
    async with running(tmp_path / "before", settings(seaweed, seaweed_bucket)) as host:
        for number in range(5):
            await host.registered(f"gate/{number}.ts")
        auditing = host.parts.upkeep.auditing
        await auditing.heads.run_once()
        auditing.archiver.keep = timedelta(0)
        await auditing.archiver.run_once()
        end = await host.journal.ledger_lines.end()
        known = await auditing.heads.remembered()
        assert end is not None and known is not None
        assert end.archived > 0
        keys = seaweed_bucket.keys()
        below = f"ledger/nvr-test/archive/{end.chain[:16]}/"
        assert {key.removeprefix(below) for key in keys if key.startswith(below)} == {
            path.name for path in (host.settings.data_dir / "ledger").iterdir()
        }
        assert known.path in keys and read_head(known.document.encode()).head.no == end.no
        await auditing.heads.compare_stored()
        assert alarms(host) == []
    async with running(tmp_path / "after", settings(seaweed, seaweed_bucket)) as host:
        await host.parts.upkeep.auditing.heads.run_once()
        [text] = alarms(host)
        assert "another key" in text or "another chain" in text
        noted = (await host.get("/ledger", kind="noted")).json["lines"]
        assert "head_contradicted" in [line["cause"] for line in noted]
