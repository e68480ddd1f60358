"""The forecast: for how long disks last, and what they keep of each camera."""

from collections.abc import Sequence
from datetime import timedelta

from aiohttp import web

from cctv_storaged.access import Scope
from cctv_storaged.api.capacity_models import ForecastAnswer, ForecastQuery
from cctv_storaged.api.parsing import query_of
from cctv_storaged.api.problems import plain
from cctv_storaged.api.rendering import Json, answer
from cctv_storaged.api.routing import PREFIX, Answer, Route
from cctv_storaged.api.services import Services
from cctv_storaged.capacity.forecasting import CameraForecast, VolumeForecast, days_or_none
from cctv_storaged.clock import rfc3339


async def forecast(request: web.Request, services: Services) -> web.StreamResponse:
    query = query_of(request, ForecastQuery)
    found = await services.upkeep.capacity.forecasting.now(query.rate_factor)
    return answer(
        {
            "at": rfc3339(found.at),
            "rate_factor": found.rate_factor,
            "volumes": [_volume_json(each) for each in found.volumes],
            "cameras": [_camera_json(each) for each in found.cameras],
        }
    )


def _volume_json(found: VolumeForecast) -> dict[str, Json]:
    standing = found.standing
    facts, marks = standing.volume.facts, standing.marks
    return {
        "name": plain(standing.volume.name),
        "folders": [{"path": plain(each.path), "use": each.use} for each in standing.volume.places],
        "level": standing.level.name.lower(),
        "read_only": facts.read_only,
        "total_bytes": facts.total_bytes,
        "free_bytes": facts.free_bytes,
        "warn_bytes": marks.warn_bytes,
        "clean_bytes": marks.clean_bytes,
        "emergency_bytes": marks.emergency_bytes,
        "bytes_per_second": standing.rate,
        "day_bytes_per_second": found.rate,
        "expiring_bytes_per_second": found.expiring,
        "filling_bytes_per_second": standing.fill_rate,
        "days_left": days_or_none(found.days_left),
        "shortfall": [{"stage": stage, "why": plain(why)} for stage, why in standing.reasons],
    }


def _camera_json(found: CameraForecast) -> dict[str, Json]:
    return {
        "camera_id": str(found.camera_id),
        "name": plain(found.name),
        "bytes_per_second": found.rate,
        "at_least_days": _days(found.rule.at_least),
        "desired_days": _days(found.rule.desired),
        "at_most_days": _days(found.rule.at_most),
        "kept_days": days_or_none(found.kept_days),
        "meets_at_least": found.meets(found.rule.at_least),
        "meets_desired": found.meets(found.rule.desired),
    }


def _days(length: timedelta | None) -> float | None:
    return None if length is None else length / timedelta(days=1)


ROUTES: Sequence[Route] = (
    Route(
        method="GET",
        path=f"{PREFIX}/retention/forecast",
        handler=forecast,
        name="retentionForecast",
        summary="For how long each disk lasts at the measured rate, and what it keeps of each camera",
        scope=Scope.READ,
        query=ForecastQuery,
        answers=(Answer(status=200, means="Every disk and camera", model=ForecastAnswer),),
    ),
)
