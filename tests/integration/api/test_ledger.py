"""The ledger over the API: what exports leave in it, its pages, and a file that others can prove."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from cctv_storaged.api.ledger_models import LedgerAnswer, LedgerHeadAnswer
from cctv_storaged.auditing.heads import read_head
from cctv_storaged.auditing.lines import read
from cctv_storaged.auditing.proof import proven
from cctv_storaged.backends.shelf import PresigningShelf
from cctv_storaged.errors import JournalFull
from tests.integration.api.exported import GATE, YARD, asked, ended, recorded
from tests.integration.api.exported import work as working
from tests.integration.api.harness import Host, Reply, running

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "ledger.md"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Host, dict[str, Any]]]:
    """A host with a finished export of two cameras."""
    async with running(tmp_path_factory.mktemp("ledger")) as host:
        for name in ("gate", "yard"):
            await recorded(host, name)
        working(host)
        yield host, await ended(host, await asked(host, GATE, YARD, created_by="Kim", case_id="7"))


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def lines(host: Host, **query: str) -> list[dict[str, Any]]:
    reply = await host.get("/ledger", **query)
    assert reply.status == 200, reply
    LedgerAnswer.model_validate_json(reply.body)
    return list(reply.json["lines"])


async def downloads(host: Host) -> list[tuple[str, str]]:
    return [(line["cause"], line["camera_id"]) for line in await lines(host, kind="downloaded", limit="1000")]


async def test_a_finished_export_is_in_the_ledger_for_each_of_its_cameras(
    shared: tuple[Host, dict[str, Any]],
) -> None:
    host, export = shared
    told = await lines(host, kind="exported")
    assert [(line["id"], line["camera_id"]) for line in told] == [
        (export["id"], str(GATE)),
        (export["id"], str(YARD)),
    ]
    assert [(line["start"], line["end"], line["cause"]) for line in told] == [
        (export["start_time"], export["end_time"], "plain")
    ] * 2
    assert json.loads(told[0]["detail"]) == {
        "by": "Kim",
        "case_id": "7",
        "sha256": export["checksum"],
        "size_bytes": export["file_size"],
    }
    assert [line["camera_id"] for line in await lines(host, kind="exported", camera_id=str(YARD))] == [
        str(YARD)
    ]


async def test_each_fetch_is_told_and_not_each_piece_of_it(shared: tuple[Host, dict[str, Any]]) -> None:
    host, export = shared
    path = f"/exports/{export['id']}/download"

    async def fetched(**headers: str) -> Reply:
        return await host.request("GET", path, headers=headers)

    async def news() -> list[str]:
        """What was told since it was asked last, of the first camera."""
        found = await downloads(host)
        fresh, known[:] = found[len(known) :], found
        assert [camera for _, camera in fresh] == [str(GATE), str(YARD)] * (len(fresh) // 2)
        return [cause for cause, _ in fresh[::2]]

    known = await downloads(host)
    assert [reply.status for reply in (await fetched(), await fetched())] == [200, 200]
    assert await news() == ["file", "file"]
    pieces = await asyncio.gather(*(fetched(Range=f"bytes={at}-{at + 9}") for at in (0, 10, 20)))
    assert [reply.status for reply in pieces] == [206] * 3
    assert await news() == [], "of one client that had it whole just now"
    host.parts.upkeep.auditing.fetches._told.clear()
    await asyncio.gather(*(fetched(Range=f"bytes={at}-") for at in (1, 10, 20)))
    assert await news() == ["file"]
    await host.request("HEAD", path)
    assert (await fetched(**{"If-None-Match": f'"{export["checksum"]}"'})).status == 304
    assert (await fetched(Range="bytes=999999999-")).status == 416
    assert await news() == []
    assert (await host.get(f"/exports/{export['id']}/manifest")).status == 200
    assert await news() == ["manifest"]
    last = (await lines(host, kind="downloaded", limit="1000"))[-1]
    facts = json.loads(last["detail"])
    assert facts.pop("request")
    assert facts == {"by": None, "from": "127.0.0.1", "sha256": export["checksum"]}


async def test_what_cannot_be_told_is_not_handed_out(
    shared: tuple[Host, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    host, export = shared

    async def full(*given: object) -> None:
        raise JournalFull("no room")

    monkeypatch.setattr(host.journal.ledger_lines, "delivered", full)
    reply = await host.get(f"/exports/{export['id']}/download")
    assert (reply.status, reply.json["type"]) == (503, "urn:cctv-storaged:problem:journal-full")


async def test_an_address_at_the_store_is_told_once_for_each_who_gets_it(
    shared: tuple[Host, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    host, export = shared

    async def presign(path: str, expires_s: int, filename: str | None = None) -> str:
        return f"https://store/{path}"

    store = host.parts.foundation.exports_store
    monkeypatch.setattr(store, "presign", presign, raising=False)
    assert not isinstance(store, PresigningShelf), "else this test is of nothing"
    before = await downloads(host)
    for path in (f"/exports/{export['id']}", "/exports", f"/exports/{export['id']}"):
        assert "https://store/" in (await host.get(path)).body.decode()
    assert [cause for cause, _ in (await downloads(host))[len(before) :]] == ["url", "url"], (
        "one for a camera"
    )


async def test_pages_give_every_line_once_and_can_be_proven(shared: tuple[Host, dict[str, Any]]) -> None:
    host, _ = shared
    found: list[dict[str, Any]] = []
    after: int | None = 0
    while after is not None:
        reply = await host.get("/ledger", after=str(after), limit="3")
        found += reply.json["lines"]
        after = reply.json["next_after"]
    assert [line["no"] for line in found] == list(range(1, len(found) + 1))
    exported = [json.loads(row) for row in (await host.get("/ledger/export")).body.splitlines()]
    assert [line["hash"] for line in found] == [row["hash"] for row in exported]
    assert found[0]["cause"] == "chain_begun"
    assert json.loads(found[0]["detail"])["host"] == "nvr-test"


async def test_the_whole_ledger_comes_as_a_file_that_holds(shared: tuple[Host, dict[str, Any]]) -> None:
    host, _ = shared
    reply = await host.get("/ledger/export")
    assert reply.headers["Content-Type"] == "application/x-ndjson"
    verdict = proven(map(read, reply.body.splitlines()))
    assert not verdict.wrong
    head = (await host.get("/ledger/head")).json
    assert (verdict.last, verdict.chain) == (head["no"], head["chain"])
    rest = (await host.get("/ledger/export", after="4")).body.splitlines()
    assert json.loads(rest[0])["no"] == 5
    probe = await host.request("HEAD", "/ledger/export")
    assert (probe.status, probe.body) == (200, b"")
    assert probe.headers["Content-Disposition"] == reply.headers["Content-Disposition"]


async def test_the_head_is_told_with_the_newest_signed_one(shared: tuple[Host, dict[str, Any]]) -> None:
    host, _ = shared
    await host.parts.upkeep.auditing.heads.keep(last=True)
    reply = await host.get("/ledger/head")
    told = LedgerHeadAnswer.model_validate_json(reply.body)
    assert told.signed is not None and told.signed_is_stored
    signed = read_head(told.signed.encode()).head
    assert (signed.no, signed.hash.hex(), signed.chain) == (told.no, told.hash, told.chain)
    assert told.signed_path == f"ledger/nvr-test/heads/{signed.at:%Y-%m-%d}-{told.no}.json"
    assert (host.settings.filesystem.path / told.signed_path).read_text() == told.signed


async def test_the_verifier_that_the_reference_shows_tells_a_whole_ledger_from_another(
    shared: tuple[Host, dict[str, Any]],
) -> None:
    host, _ = shared
    [program] = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    text = (await host.get("/ledger/export")).body
    rows = text.splitlines(keepends=True)

    async def ran(given: bytes) -> tuple[int, str]:
        command = [sys.executable, "-c", program]
        done = await asyncio.to_thread(subprocess.run, command, input=given, capture_output=True, check=False)
        return done.returncode, (done.stdout + done.stderr).decode()

    last = json.loads(rows[-1])
    assert await ran(text) == (0, f"{last['no']} {last['hash']}\n")
    assert (await ran(text.replace(b"plain", b"other", 1)))[0] == 1
    assert await ran(b"".join([*rows[:4], *rows[5:]])) == (1, "line 5: missing, 6 comes next\n")
