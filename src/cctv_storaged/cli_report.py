"""`cctv-storaged report`: which cameras keep what their rule promises, as a table, JSON or CSV.

Exit codes: 0 all do; 1 a camera keeps less, or nothing was noted on the day; 2 bad usage; 3 the daemon is out
of reach.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence

from cctv_storaged.api.report_models import ReportAnswer, ReportCameraAnswer
from cctv_storaged.cli_client import DONE, FOUND_WRONG, ApiClient, with_api
from cctv_storaged.logs.lines import one_line
from cctv_storaged.reporting.figures import State

PATH = "/retention/report"
COLUMNS = ("camera", "state", "required", "achieved", "oldest", "covered", "gone", "unknown", "longest gap")
NOT_YET = "not examined yet"


def report(options: argparse.Namespace) -> int:
    """Asks and prints; an exit code."""
    return with_api(options, lambda api: _reported(api, options))


def _reported(api: ApiClient, options: argparse.Namespace) -> int:
    query = {"day": options.day, "start": options.start, "end": options.end}
    found = api.get(PATH, ReportAnswer, query)
    if options.csv:
        with api.stream(PATH, {**query, "format": "csv"}, accept="text/csv") as blocks:
            for block in blocks:
                sys.stdout.buffer.write(block)
        sys.stdout.buffer.flush()
    elif options.json:
        print(found.model_dump_json(indent=2))
    elif found.cameras or options.day is None:
        print("\n".join(_told(found)))
    if options.day is not None and not found.cameras:
        print(f"cctv-storaged: nothing was noted on {options.day}", file=sys.stderr)
        return FOUND_WRONG
    return FOUND_WRONG if any(camera.state is State.SHORT for camera in found.cameras) else DONE


def _told(found: ReportAnswer) -> Iterator[str]:
    rows = [COLUMNS, *(_row(camera, past=found.day is not None) for camera in found.cameras)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    for camera in found.cameras:
        if camera.why is not None:
            yield f"{one_line(camera.name)}: {one_line(camera.why)}"
    if found.distrust is not None:
        yield f"ages mean nothing now: {found.distrust}"
    if not found.cameras:
        yield "none"


def _row(camera: ReportCameraAnswer, *, past: bool) -> Sequence[str]:
    kept = (camera.required_days, camera.achieved_days, camera.oldest_days)
    told = (one_line(camera.name), str(camera.state or ""), *map(_days, kept))
    longest = _days(camera.longest_gap_seconds / 86400)
    if camera.examined is None and not past:
        return (*told, NOT_YET, "-", "-", "-")
    return (*told, *map(_days, (camera.covered_days, camera.gone_days, camera.unknown_days)), longest)


def _days(days: float | None) -> str:
    return "-" if days is None else f"{days:.2f} d"
