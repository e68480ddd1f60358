"""How REST answers look: values as JSON, envelopes, errors (1.5 of the paper)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

from aiohttp import web

from tests.fakes.xprotect.assumptions import Assumptions, Wrapper

NOT_SET = datetime(1, 1, 1, tzinfo=UTC)

Object = Mapping[str, object]


@dataclass
class ApiError(Exception):
    """An error answer."""

    status: int
    text: str
    property: str = ""
    text_id: str = ""
    params: Mapping[str, str] = field(default_factory=dict)


def missing(*names: str) -> ApiError:
    """Names what a task or an object needs."""
    text = f"Missing parameter: {', '.join(names)}"
    return ApiError(400, text, names[0], "MissingParameter", dict.fromkeys(names, "required"))


def array(assumptions: Assumptions, objects: Sequence[Object]) -> web.Response:
    return web.json_response({"array": plain(assumptions, objects)})


def answer(
    assumptions: Assumptions, value: Object, wrapper: Wrapper = "data", status: int = 200
) -> web.Response:
    body = plain(assumptions, value)
    return web.json_response(body if wrapper == "bare" else {wrapper: body}, status=status)


def error(assumptions: Assumptions, fault: ApiError) -> web.Response:
    details = {"errorText": fault.text, "property": fault.property, "errorTextId": fault.text_id}
    code = str(fault.status) if assumptions.http_code_string else fault.status
    told: dict[str, object] = {"httpCode": code, "details": [details]}
    body: dict[str, object] = {"error": told} if assumptions.error_wrapped else dict(told)
    if fault.params:
        body["params"] = fault.params
    return web.json_response(body, status=fault.status)


def plain(assumptions: Assumptions, value: object) -> object:
    """A value as JSON, in the spelling that is assumed of ids, times and booleans."""
    match value:
        case bool():
            return str(value) if assumptions.booleans_as_strings else value
        case UUID():
            return str(value).upper() if assumptions.id_in_upper_case else str(value)
        case datetime():
            return time_text(assumptions, value)
        case Mapping():
            return {name: plain(assumptions, each) for name, each in value.items()}
        case str() | int() | float() | None:
            return value
        case Sequence():
            return [plain(assumptions, each) for each in value]
    raise TypeError(f"nothing to be told as JSON: {value!r}")


def time_text(assumptions: Assumptions, moment: datetime) -> str:
    if moment == NOT_SET:
        return "0001-01-01T00:00:00Z"
    if moment.year == 9999:
        return "9999-12-31T22:59:59.9999999Z"
    fraction = f"{moment.microsecond:06d}0"
    match assumptions.time_form:
        case "z3":
            return f"{moment:%Y-%m-%dT%H:%M:%S}.{fraction[:3]}Z"
        case "z0":
            return f"{moment:%Y-%m-%dT%H:%M:%S}Z"
        case "offset":
            there = moment.astimezone(timezone(timedelta(hours=2)))
            return f"{there:%Y-%m-%dT%H:%M:%S}.{fraction}+02:00"
        case "z7":
            return f"{moment:%Y-%m-%dT%H:%M:%S}.{fraction}Z"


def read_time(body: Object, name: str) -> datetime:
    """A time in a body: ISO 8601, up to 7 digits of fraction; without a zone it is UTC."""
    value = body.get(name)
    if value is None:
        raise missing(name)
    if not isinstance(value, str):
        raise ApiError(400, f"{name} is no time", name)
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise ApiError(400, f"{name} is no time: {value}", name) from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def read_text(body: Object, name: str, default: str | None = None) -> str:
    value = body.get(name, default)
    if value is None:
        raise missing(name)
    if not isinstance(value, str):
        raise ApiError(400, f"{name} is no text", name)
    return value


def read_guid(value: object, name: str) -> UUID:
    try:
        return UUID(str(value))
    except ValueError:
        raise ApiError(400, f"{name} is no GUID: {value}", name) from None


def read_camera_path(value: object, name: str) -> UUID:
    """`{"type": "cameras", "id": …}`; a bare id is refused."""
    if not isinstance(value, Mapping) or value.get("type") != "cameras":
        raise ApiError(400, f"{name} must be an object with type and id", name)
    return read_guid(value.get("id"), name)
