"""`cctv-storaged verify --ledger` as users have it: of files, of stopped, running and damaged hosts."""

import gzip
import hashlib
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml

from cctv_storaged.auditing.archive import ArchiveWriter
from cctv_storaged.auditing.heads import signed_document
from cctv_storaged.auditing.lines import written
from cctv_storaged.cli import _run, parser
from cctv_storaged.clock import rfc3339
from cctv_storaged.evidence.keys import HostKey
from cctv_storaged.journal.chain import BoundLine
from tests.daemon import Daemon, wait_until
from tests.unit.auditing.chains import chain, head_of
from tests.unit.journal.samples import new, open_journal, record

Ran = tuple[int, str]
Verify = Callable[..., Ran]


@pytest.fixture
def verify(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Verify:
    """The command in this process: its exit code, and what it said."""
    monkeypatch.delenv("CCTV_TOKEN", raising=False)

    def run(*arguments: object) -> Ran:
        code = _run(parser().parse_args(["verify", "--ledger", *map(str, arguments)]))
        told = capsys.readouterr()
        return code, told.out + told.err

    return run


def write(path: Path, lines: list[BoundLine]) -> Path:
    data = b"".join(map(written, lines))
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


# Files


@pytest.mark.parametrize("name", ["ledger.ndjson", "ledger.ndjson.gz"])
def test_an_export_is_proven_and_its_first_bad_line_named(tmp_path: Path, verify: Verify, name: str) -> None:
    lines = chain(20)
    code, told = verify(write(tmp_path / name, lines))
    assert code == 0
    assert (
        f"20 lines, 1 to 20, from 2026-01-23T10:00:01Z to 2026-01-23T10:00:20Z; chain {head_of(lines).chain}"
        in told
    )
    assert "NOTE: lines cut off behind its end would show only against a later head" in told
    del lines[7]
    code, told = verify(write(tmp_path / name, lines))
    assert (code, told.splitlines()[0]) == (1, "WRONG: line 8: missing: line 9 comes next")


def test_a_head_shows_what_was_cut_off(tmp_path: Path, verify: Verify) -> None:
    key, lines = HostKey(tmp_path).current(), chain(20)
    head = tmp_path / "head.json"
    head.write_bytes(signed_document(head_of(lines), key))
    whole, short = write(tmp_path / "a.ndjson", lines), write(tmp_path / "b.ndjson", lines[:15])
    code, told = verify(whole, "--head", head, "--key", key.public.fingerprint)
    assert code == 0
    assert (
        "it agrees with the head of 2026-01-23T10:00:00Z, line 20,"
        f" signed by the key {key.public.fingerprint}" in told
    )
    assert "NOTE" not in told
    assert "taken on trust" in verify(whole, "--head", head)[1]
    assert verify(short)[0] == 0
    assert verify(short, "--head", head, "--head", head)[1].count("cut short") == 1, "one head is told once"
    code, told = verify(short, "--head", head)
    assert (code, told.splitlines()[0].split(": the")[0]) == (1, "WRONG: lines 16 to 20: cut short")


def test_a_head_of_another_key_or_that_is_none_is_wrong(tmp_path: Path, verify: Verify) -> None:
    lines = chain(5)
    ledger = write(tmp_path / "a.ndjson", lines)
    heads = tmp_path / "heads"
    heads.mkdir()
    (heads / "1.json").write_bytes(signed_document(head_of(lines), HostKey(tmp_path).current()))
    (heads / "2.json").write_text("{}")
    code, told = verify(ledger, "--head", heads, "--key", f"sha256:{'0' * 64}")
    assert code == 1
    assert "1.json: it is signed by another key" in told and "2.json: it is no head" in told


def test_a_folder_without_heads_is_not_taken_for_heads_that_agree(tmp_path: Path, verify: Verify) -> None:
    heads = tmp_path / "heads"
    heads.mkdir()
    code, told = verify(write(tmp_path / "a.ndjson", chain(5)), "--head", heads)
    assert (code, "there is no head of a ledger in it" in told) == (3, True)


def test_a_folder_of_archives_is_one_ledger(tmp_path: Path, verify: Verify) -> None:
    lines = chain(30)
    for first in (0, 10, 20):
        with ArchiveWriter(tmp_path) as writer:
            writer.write(lines[first : first + 10])
            writer.finish(first + 1, first + 10)
    assert verify(tmp_path)[0] == 0
    (tmp_path / "000000000011-000000000020.ndjson.gz").unlink()
    assert verify(tmp_path)[1].startswith("WRONG: lines 11 to 20: missing")


def test_what_is_no_ledger_is_told_with_its_row(tmp_path: Path, verify: Verify) -> None:
    path = tmp_path / "a.ndjson"
    rows = [b'{"no":1}\n', b"[]\n", b"no\n", b'{"no":1,"no":1}\n', b"x" * 300_000, b"[" * 5000 + b"\n"]
    for row in rows:
        path.write_bytes(b"".join(map(written, chain(3))) + row)
        code, told = verify(path)
        assert code == 1
        assert told.startswith(f"WRONG: line 4: unreadable: {path}: row 4: ")
    path.write_bytes(b"")
    assert verify(path)[0] == 1
    assert verify(tmp_path / "nothing")[0] == 3
    (tmp_path / "empty").mkdir()
    assert verify(tmp_path / "empty")[0] == 3


def test_wrong_usage_is_told(tmp_path: Path, verify: Verify) -> None:
    ledger = write(tmp_path / "a.ndjson", chain(3))
    assert verify(ledger, "--key", "sha256:" + "0" * 64)[0] == 2
    assert verify(ledger, "--key", tmp_path / "none", "--head", ledger)[0] == 2
    assert verify("--config", tmp_path / "none.yaml")[0] == 2


def test_a_head_given_with_a_package_is_not_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(parser().parse_args(["verify", "ev.zip", "--head", str(tmp_path)])) == 2
    assert "--head is of a ledger" in capsys.readouterr().err


# A host that does not run


async def stopped_host(folder: Path, lines: int = 30) -> Path:
    """Its settings."""
    config = folder / "config.yaml"
    config.write_text(
        yaml.safe_dump({"host_id": "test-host", "data_dir": str(folder / "data"), "api": {"port": 1}})
    )
    async with await open_journal(folder / "data") as journal:
        for number in range(lines):
            await record(journal, new(number))
    return config


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


async def test_a_stopped_hosts_journal_is_proven_and_not_touched(tmp_path: Path, verify: Verify) -> None:
    config = await stopped_host(tmp_path)
    before = contents(tmp_path / "data")
    code, told = verify("--config", config)
    assert (code, "31 lines, 1 to 31" in told) == (0, True), told
    assert contents(tmp_path / "data") == before
    with closing(sqlite3.connect(tmp_path / "data" / "journal.db")) as db:
        db.execute("UPDATE ledger SET cause = 'nothing' WHERE no = 12")
        db.commit()
    code, told = verify("--config", config)
    assert (code, told.startswith("WRONG: line 12: changed")) == (1, True), told


KILLED = """
import asyncio, os, pathlib, sys
from tests.unit.journal.samples import new, open_journal, record
async def main():
    journal = await open_journal(pathlib.Path(sys.argv[1]))
    for number in range(30):
        await record(journal, new(number))
    os._exit(9)
asyncio.run(main())
"""


def killed_host(folder: Path) -> Path:
    """A host that was killed with commits in its write-ahead log; its settings."""
    command = [sys.executable, "-c", KILLED, str(folder / "data")]
    root = Path(__file__).parents[2]
    environ = {**os.environ, "PYTHONPATH": f"{root}:{root / 'src'}"}
    assert subprocess.run(command, env=environ, check=False).returncode == 9
    config = folder / "config.yaml"
    config.write_text(
        yaml.safe_dump({"host_id": "test-host", "data_dir": str(folder / "data"), "api": {"port": 1}})
    )
    return config


def test_a_killed_hosts_journal_is_read_with_its_log_and_neither_is_touched(
    tmp_path: Path, verify: Verify
) -> None:
    config = killed_host(tmp_path)
    before = contents(tmp_path / "data")
    code, told = verify("--config", config)
    assert (code, "31 lines, 1 to 31" in told) == (0, True), told
    assert contents(tmp_path / "data") == before


def test_a_damaged_journal_is_an_answer_and_is_not_recovered(tmp_path: Path, verify: Verify) -> None:
    config = killed_host(tmp_path)
    log = tmp_path / "data" / "journal.db-wal"
    data = bytearray(log.read_bytes())
    data[len(data) // 2] ^= 1
    log.write_bytes(data)
    before = contents(tmp_path / "data")
    code, told = verify("--config", config)
    assert (code, "damaged" in told) == (1, True), told
    assert contents(tmp_path / "data") == before
    log.unlink()
    (tmp_path / "data" / "journal.db").write_bytes(b"\0" * 8192)
    assert verify("--config", config)[0] == 1
    (tmp_path / "data" / "journal.db").unlink()
    assert verify("--config", config)[0] == 3


async def test_a_recovered_journal_says_so_and_its_breaks_are_known(tmp_path: Path, verify: Verify) -> None:
    config = await stopped_host(tmp_path, lines=400)
    path = tmp_path / "data" / "journal.db"
    with closing(sqlite3.connect(path)) as db:
        rows = db.execute("SELECT pageno FROM dbstat WHERE name = 'ledger' AND pagetype = 'leaf'").fetchall()
    with path.open("r+b") as file:
        file.seek((rows[len(rows) // 2][0] - 1) * 4096)
        file.write(b"\xff" * 4096)
    async with await open_journal(tmp_path / "data") as journal:
        assert journal.opening.recovered_from is not None
        await record(journal, new(500))
        page = await journal.ledger_lines.page(390)
        noted = [bound.line for bound in page.lines if bound.line.cause == "journal_recovered"]
    code, told = verify("--config", config)
    assert code == 0, told
    first = told.splitlines()[0]
    assert first.startswith("KNOWN: lines ") and "missing" in first
    assert "the journal was recovered at 2026-01-23T12:00:00Z" in first
    [lacking] = json.loads(noted[0].detail)["lacking"]
    assert f"lines {lacking[0]} to {lacking[1]}:" in first
    assert "but for 1 known break(s)" in told


# A host that runs


def test_a_running_daemon_is_asked_and_leaves_a_head_at_its_end(
    daemon: Daemon, tmp_path: Path, verify: Verify
) -> None:
    daemon.start()
    heads = daemon.store / "ledger" / "test-host" / "heads"
    wait_until(
        lambda: bool(list(heads.glob("*.json"))), "the first head is stored", details=lambda: daemon.log
    )
    code, told = verify("--url", daemon.url)
    assert (code, "ALL RIGHT: the daemon on test-host" in told) == (0, True), told
    code, told = verify("--config", daemon.config)
    assert (code, "name the daemon's address with --url" in told) == (2, True), (
        "port 0 tells nobody where it is"
    )
    _, made = daemon.request("POST", "/tokens", body={"name": "auditor", "scopes": ["admin"]})
    assert verify("--url", daemon.url)[0] == 2
    token = tmp_path / "token"
    token.write_text(made["secret"])
    assert verify("--url", daemon.url, "--token-file", token)[0] == 0
    assert daemon.stop() == 0
    code, told = verify("--config", daemon.config, "--head", heads)
    assert (code, "it agrees with the head of" in told) == (0, True), told


class ShortExport(BaseHTTPRequestHandler):
    """A daemon whose export ends in good order, and too early."""

    lines = chain(20)
    ends_with = 20

    def do_GET(self) -> None:
        body = b"".join(map(written, self.lines[: self.ends_with]))
        if self.path.endswith("/ledger/head"):
            end = head_of(self.lines)
            facts = {
                "no": end.no,
                "hash": end.hash.hex(),
                "host": end.host,
                "chain": end.chain,
                "archived": 0,
            }
            told = {"at": rfc3339(end.at), "signed": None, "signed_path": None, "signed_is_stored": False}
            body = json.dumps(facts | told).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


def test_an_export_that_ends_before_the_daemons_ledger_is_cut_short(
    verify: Verify, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), ShortExport) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        try:
            code, told = verify("--url", url)
            assert (code, "agrees" in told) == (0, False), "nobody signed that end"
            monkeypatch.setattr(ShortExport, "ends_with", 15)
            code, told = verify("--url", url)
        finally:
            server.shutdown()
    assert code == 1
    assert told.startswith("WRONG: lines 16 to 20: cut short: the end that the daemon told of, line 20"), told


def test_a_daemon_that_cannot_be_reached_is_told(tmp_path: Path, verify: Verify) -> None:
    assert verify("--url", "http://127.0.0.1:1")[0] == 3
