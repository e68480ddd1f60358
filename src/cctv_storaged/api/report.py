"""The retention report: JSON for programs, CSV for whoever has to file it."""

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from uuid import UUID

from aiohttp import web

from cctv_storaged.access import Scope
from cctv_storaged.api.parsing import query_of
from cctv_storaged.api.problems import plain
from cctv_storaged.api.rendering import Json, answer
from cctv_storaged.api.report_models import ReportAnswer, ReportCameraAnswer, ReportQuery
from cctv_storaged.api.routing import PREFIX, Answer, Lane, Reach, Route
from cctv_storaged.api.services import Services
from cctv_storaged.api.sight import sight_of
from cctv_storaged.api.spans import asked_span
from cctv_storaged.clock import MICROSECOND, rfc3339
from cctv_storaged.errors import Fault, Unprocessable
from cctv_storaged.journal.reports import PastDay
from cctv_storaged.logs.lines import one_line
from cctv_storaged.model import Camera, GapCause
from cctv_storaged.reporting.figures import Figures, State, day_of, gone_of
from cctv_storaged.reporting.stretches import Hole, Times

CSV = "text/csv"
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for a formula at the begin of a cell (OWASP, CSV injection)."""
COLUMNS = (
    *("id", "name", "state", "since", "why", "at_least_days", "desired_days", "at_most_days"),
    *("installed_at", "required_days", "achieved_days", "oldest_days", "oldest_held"),
    *("examined_start", "examined_end", "covered_days", "gone_days", "unknown_days", "gaps"),
    *("longest_gap_seconds", "longest_gap_start", "longest_gap_end", "longest_gap_cause"),
)

Line = dict[str, Json]


async def report(request: web.Request, services: Services) -> web.StreamResponse:
    query = query_of(request, ReportQuery)
    found = await (_past(query.day, services) if query.day is not None else _now(query, services))
    sight = sight_of(request)
    lines = [line for line in found if sight.sees(UUID(str(line["id"])))]
    if query.format == "csv" or (query.format is None and _prefers_csv(request)):
        return _csv_answer(lines, query.day or services.clock.now().date().isoformat())
    return answer(
        {
            "generated_at": rfc3339(services.clock.now()),
            "day": query.day,
            "distrust": services.upkeep.reporting.distrust(),
            "cameras": lines,
        }
    )


async def _now(query: ReportQuery, services: Services) -> list[Line]:
    reporting, days = services.upkeep.reporting, None
    if query.start is not None or query.end is not None:
        now = services.clock.now()
        span = asked_span(query.start or datetime.min.replace(tzinfo=now.tzinfo), query.end, now)
        days = (day_of(span.start), day_of(span.end - MICROSECOND))
    figures = await reporting.report(services.cameras.configured.values(), days)
    return [line_json(each, reporting.since(each.kept.camera.id)) for each in figures]


async def _past(day: str, services: Services) -> list[Line]:
    try:
        date.fromisoformat(day)
    except ValueError as exc:
        raise Unprocessable([Fault("day", "is in no calendar")]) from exc
    cameras = dict(services.cameras.configured)
    cameras |= {camera.id: camera for camera in await services.journal.reports.cameras()}
    rows = await services.upkeep.reporting.of_day(day)
    lines = [past_json(row, cameras.get(row.camera_id)) for row in rows]
    return sorted(lines, key=lambda line: (str(line["name"]), str(line["id"])))


def line_json(figures: Figures, since: datetime | None) -> Line:
    """A camera as it is now."""
    kept, longest = figures.kept, figures.longest
    return {
        "id": str(kept.camera.id),
        "name": plain(kept.camera.name),
        "state": figures.state,
        "since": _moment(since),
        "why": figures.why,
        "at_least_days": _days(kept.rule.at_least),
        "desired_days": _days(kept.rule.desired),
        "at_most_days": _days(kept.rule.at_most),
        "installed_at": _moment(kept.installed),
        "required_days": _days(figures.required),
        "achieved_days": _days(figures.achieved),
        "oldest_days": _days(figures.age),
        "oldest_held": _moment(kept.oldest_held),
        "examined": None if figures.examined is None else _span_json(figures),
        **_of_examined(figures),
        "longest_gap": None if longest is None else _hole_json(longest),
        "longest_gap_seconds": 0 if longest is None else longest.span.duration.total_seconds(),
    }


def _of_examined(figures: Figures) -> Line:
    """Null, and not nothing, where no time was examined yet."""
    if figures.examined is None:
        return dict.fromkeys(("covered_days", "gone_days", "unknown_days", "seconds_by_cause", "gaps"))
    return {
        "covered_days": _days(figures.footage),
        "gone_days": _days(gone_of(figures.causes)),
        "unknown_days": _days(figures.causes.get(GapCause.UNKNOWN, timedelta(0))),
        "seconds_by_cause": _seconds(figures.causes),
        "gaps": figures.examined.holes,
    }


def past_json(row: PastDay, camera: Camera | None) -> Line:
    """A camera as it was noted; what was not noted is null."""
    line: Line = dict.fromkeys(ReportCameraAnswer.model_fields)
    state = State.NO_RULE if row.required_us is None else State.OK
    if row.required_us is not None and row.achieved_us < row.required_us:
        state = State.SHORT
    line |= {
        "id": str(row.camera_id),
        "name": str(row.camera_id) if camera is None else plain(camera.name),
        "state": state,
        "required_days": None if row.required_us is None else _days(row.required_us * MICROSECOND),
        "achieved_days": _days(row.achieved_us * MICROSECOND),
        "longest_gap_seconds": row.longest_gap_us / 1e6,
    }
    return line


def csv_text(lines: Sequence[Mapping[str, Json]]) -> str:
    """RFC 4180, with a header. No cell is a formula to a spreadsheet."""
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(COLUMNS)
    rows.writerows([_cell(value) for value in _row(line)] for line in lines)
    return text.getvalue()


def _row(line: Mapping[str, Json]) -> list[Json]:
    longest, examined = line["longest_gap"], line["examined"]
    gap = longest if isinstance(longest, Mapping) else {}
    span = examined if isinstance(examined, Mapping) else {}
    flat = {
        **line,
        "examined_start": span.get("start"),
        "examined_end": span.get("end"),
        **{f"longest_gap_{key}": gap.get(key) for key in ("start", "end", "cause")},
    }
    return [flat[column] for column in COLUMNS]


def _cell(value: Json) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        return str(value)
    told = one_line(value)
    return f"'{told}" if told.startswith(FORMULA) else told


def _csv_answer(lines: Sequence[Line], day: str) -> web.Response:
    return web.Response(
        body=csv_text(lines).encode(errors="backslashreplace"),
        content_type=CSV,
        charset="utf-8",
        headers={
            "Cache-Control": "no-store",
            "Content-Disposition": f'attachment; filename="retention-{day}.csv"',
        },
    )


def _prefers_csv(request: web.Request) -> bool:
    """Whether CSV is asked for by name, and JSON is not."""
    accepted = request.headers.get("Accept", "").lower()
    return CSV in accepted and "json" not in accepted


def _span_json(figures: Figures) -> Json:
    assert figures.examined is not None
    return {"start": rfc3339(figures.examined.span.start), "end": rfc3339(figures.examined.span.end)}


def _hole_json(hole: Hole) -> Line:
    return {
        "start": rfc3339(hole.span.start),
        "end": rfc3339(hole.span.end),
        "cause": hole.cause,
        "seconds_by_cause": _seconds(hole.causes),
    }


def _seconds(times: Times) -> dict[str, Json]:
    return {str(cause): length.total_seconds() for cause, length in times.items()}


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)


def _days(length: timedelta | None) -> float | None:
    """To a thousandth, which is a minute and a half."""
    return None if length is None else round(length / timedelta(days=1), 3)


ROUTES: Sequence[Route] = (
    Route(
        method="GET",
        path=f"{PREFIX}/retention/report",
        handler=report,
        name="retentionReport",
        summary="What each camera keeps, held against its rule; JSON or CSV, now or on a day of the past",
        scope=Scope.READ,
        reach=Reach.SIFTED,
        lane=Lane.HEAVY,
        query=ReportQuery,
        answers=(
            Answer(status=200, means="Every camera, by name", media_type=CSV),
            Answer(status=200, means="Every camera, by name", model=ReportAnswer),
        ),
    ),
)
