"""The retention report over the API: JSON and CSV, and names that would be formulas."""

import asyncio
import csv
import io
import sys
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from cctv_storaged.api.report import COLUMNS, csv_text
from cctv_storaged.api.report_models import ReportAnswer
from cctv_storaged.clock import rfc3339
from tests.integration.api.harness import Host, StandingClock, running

CAMERA = UUID("123e4567-e89b-12d3-a456-426614174000")
SETTINGS = {
    "cameras": [{"id": str(CAMERA), "name": '=HYPERLINK("http://evil")', "folder": "gate"}],
    "retention": {"default": {"at_least": "10d", "at_most": "40d"}},
}
CLOCK = StandingClock()
START = CLOCK.now() - timedelta(days=20)


async def report(host: Host, **params: str) -> ReportAnswer:
    reply = await host.get("/retention/report", **params)
    assert reply.status == 200, reply
    assert reply.headers["Content-Type"].startswith("application/json")
    return ReportAnswer.model_validate(reply.json)


async def printed(host: Host, *options: str) -> tuple[int | None, str]:
    """Exit code and output of `cctv-storaged report`."""
    command = (sys.executable, "-m", "cctv_storaged", "report", "--url", host.url, *options)
    child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await child.communicate()
    return child.returncode, output.decode()


async def test_a_report_says_what_is_required_and_what_is_kept_and_why_not(tmp_path: Path) -> None:
    async with running(tmp_path, SETTINGS, CLOCK) as host:
        (before,) = (await report(host)).cameras
        assert (before.state, before.required_days, before.installed_at) == ("new", 0, None)
        assert (before.examined, before.covered_days, before.gaps) == (None, None, None)
        assert "not examined yet" in (await printed(host))[1]
        old = await host.registered("gate/1.ts", camera=CAMERA, start=START)
        kept = await host.registered("gate/2.ts", camera=CAMERA, start=START + timedelta(days=15))
        asked = await host.registered("gate/3.ts", camera=CAMERA, start=START + timedelta(days=11))
        await host.parts.upkeep.reporting.refresh()
        (line,) = (await report(host)).cameras
        assert (line.state, line.at_least_days, line.at_most_days, line.required_days) == ("ok", 10, 40, 10)
        assert line.oldest_days == pytest.approx(20, abs=0.01)
        assert line.gaps is not None and line.gaps >= 2
        assert line.longest_gap is not None and line.longest_gap.cause == "unknown"

        for segment in (old, asked):
            assert (await host.delete(f"/segments/{CAMERA}/{segment['id']}")).status == 204
        await host.parts.upkeep.reporting.refresh()
        (line,) = (await report(host)).cameras
        assert (line.state, line.installed_at) == ("short", datetime.fromisoformat(old["start_time"]))
        assert line.why is not None and "deleted_on_request" in line.why
        assert line.achieved_days == pytest.approx(5, abs=0.01)
        assert line.since is not None and kept["id"]
        ready = (await host.get("/ready")).json
        assert "at_least" in str(ready)

        code, table = await printed(host)
        assert code == 1, "a camera keeps less"
        assert table.splitlines()[1].split()[1:6] == ["short", "10.00", "d", "5.00", "d"]
        code, told = await printed(host, "--csv")
        assert (code, told.splitlines()[0]) == (1, ",".join(COLUMNS))

        today = CLOCK.now().date().isoformat()
        (past,) = (await report(host, day=today)).cameras
        assert (past.name, past.required_days, past.state) == (line.name, 10, "ok")
        assert (await report(host, day="2001-01-01")).cameras == []
        assert await printed(host, "--day", "2001-01-01") == (1, "")


@pytest.mark.parametrize(
    ("params", "headers"),
    [
        ({"format": "csv"}, {}),
        ({}, {"Accept": "text/csv"}),
        ({"format": "csv"}, {"Accept": "application/json"}),
    ],
)
async def test_a_report_as_csv_has_a_line_for_each_camera_and_no_formula(
    tmp_path: Path, params: dict[str, str], headers: dict[str, str]
) -> None:
    async with running(tmp_path, SETTINGS, CLOCK) as host:
        await host.registered("gate/1.ts", camera=CAMERA, start=START)
        reply = await host.request("GET", "/retention/report", params=params, headers=headers)
        assert reply.headers["Content-Type"] == "text/csv; charset=utf-8"
        assert reply.body.endswith(b"\r\n")
        header, line = csv.reader(io.StringIO(reply.body.decode(), newline=""))
        told = dict(zip(header, line, strict=True))
        assert tuple(header) == COLUMNS
        assert told["name"] == '\'=HYPERLINK("http://evil")'
        assert (told["state"], told["required_days"], told["installed_at"]) == ("ok", "10.0", rfc3339(START))


def test_no_name_ends_a_line_or_begins_a_formula() -> None:
    names = ["=1", "+1", "-1", "@x", "\t=1", 'a "b", c', "a\r\nb", "\u2028=1", "plain"]
    lines = [dict.fromkeys((*COLUMNS, "longest_gap", "examined")) | {"name": name} for name in names]
    rows = list(csv.reader(io.StringIO(csv_text(lines), newline="")))
    assert len(rows) == 1 + len(names)
    told = [row[COLUMNS.index("name")] for row in rows[1:]]
    assert told[:4] == ["'=1", "'+1", "'-1", "'@x"]
    assert told[5] == 'a "b", c'
    assert told[-1] == "plain"
    assert not any(name.startswith(("=", "+", "-", "@", "\t")) or "\n" in name for name in told)


@pytest.mark.parametrize(
    ("params", "fields"),
    [
        ({"day": "2026-13-01"}, {"day"}),
        ({"day": "2026-02-30"}, {"day"}),
        ({"day": "2026-01-01", "start": "2026-01-01T00:00:00Z"}, {"body"}),
        ({"start": "2026-01-02T00:00:00Z", "end": "2026-01-01T00:00:00Z"}, {"end"}),
        ({"format": "xml"}, {"format"}),
    ],
)
async def test_a_report_that_cannot_be_is_told_by_its_field(
    host: Host, params: dict[str, str], fields: set[str]
) -> None:
    reply = await host.get("/retention/report", **params)
    assert (reply.status, reply.fields) == (422, fields)
    assert "Input" not in reply.body.decode(), "the words are ours, not a library's"
    if params.get("day") == "2026-13-01":
        assert "YYYY-MM-DD" in reply.json["detail"]
