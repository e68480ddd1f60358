"""The OpenAPI 3.1 document, made of the route table and the models that check and answer."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence

from aiohttp import web
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from cctv_storaged import __version__
from cctv_storaged.api import problems
from cctv_storaged.api.models import ProblemAnswer
from cctv_storaged.api.problems import Kind
from cctv_storaged.api.rendering import Json
from cctv_storaged.api.routing import Answer, Lane, Route
from cctv_storaged.api.services import Services

DOCUMENT = web.AppKey("openapi", bytes)
_REFERENCE = "#/components/schemas/{model}"
_PATH_ID = re.compile(r"{(\w+)}")
_STRING: Mapping[str, Json] = {"type": "string"}

REQUEST_HEADERS: Mapping[str, str] = {
    "Idempotency-Key": "The same key with the same body makes one thing, however often within a day.",
    "Range": "One range of bytes; several are answered with everything.",
    "If-Range": "Honour Range only if this is still the ETag.",
    "If-Match": "Answer only if the ETag is one of these.",
    "If-None-Match": "Answer 304 if the ETag is one of these.",
}
ANSWER_HEADERS: Mapping[str, str] = {
    "Accept-Ranges": "bytes",
    "Allow": "The methods that the resource has.",
    "Clip-Lead-Seconds": "How much earlier than asked for it starts: at a key frame.",
    "Clip-Start": "The moment of its first picture.",
    "Content-Disposition": "A file name with camera and start.",
    "Content-Origin": "`remuxed-from-vms`: not the recorded bytes, but their pictures read back from a VMS.",
    "Content-Range": "Which bytes, and of how many.",
    "Content-Span": "From when to when it shows what was read back: less than the segment, or a little more.",
    "ETag": "The content's SHA-256 in hex, once it is known.",
    "Location": "The thing made.",
    "Retry-After": "Seconds after which another try makes sense.",
    "Thumbnail-Time": "When the picture was taken.",
    "WWW-Authenticate": "What token is needed.",
    "X-Request-Id": "The id under which the log tells of this request.",
}
_PROBLEM_HEADERS = {
    401: ("WWW-Authenticate",),
    416: ("Content-Range",),
    429: ("Retry-After",),
    503: ("Retry-After",),
}


async def show(request: web.Request, services: Services) -> web.StreamResponse:
    return web.Response(body=request.app[DOCUMENT], content_type="application/json")


def document(routes: Sequence[Route]) -> bytes:
    """The document of these routes."""
    paths: dict[str, dict[str, Json]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return json.dumps(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "cctv-storaged",
                "version": __version__,
                "description": "Segments of CCTV footage on a recording host: registered, delivered, served.",
            },
            "paths": paths,
            "components": {
                "schemas": _schemas(routes),
                "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            },
        }
    ).encode()


def _operation(route: Route) -> dict[str, Json]:
    operation: dict[str, Json] = {
        "operationId": route.name,
        "summary": route.summary,
        "parameters": [*_path_parameters(route), *_query_parameters(route), *_header_parameters(route)],
        "responses": {**_successes(route), **_problems(route)},
        "security": [] if route.scope is None else [{"token": [str(route.scope)]}],
    }
    if route.body is not None:
        operation["requestBody"] = {
            "required": route.body_required,
            "content": {"application/json": {"schema": _reference(route.body)}},
        }
    return operation


def _path_parameters(route: Route) -> list[Json]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}}
        for name in _PATH_ID.findall(route.path)
    ]


def _query_parameters(route: Route) -> list[Json]:
    if route.query is None:
        return []
    schema = route.query.model_json_schema()
    named = {f"#/$defs/{name}": each for name, each in schema.get("$defs", {}).items()}
    return [
        {
            "name": name,
            "in": "query",
            "required": name in schema.get("required", ()),
            "description": details.pop("description", ""),
            "schema": _inlined(_without_null(details), named),
        }
        for name, details in schema["properties"].items()
    ]


def _header_parameters(route: Route) -> list[Json]:
    return [
        {
            "name": name,
            "in": "header",
            "required": False,
            "description": REQUEST_HEADERS[name],
            "schema": _STRING,
        }
        for name in route.headers
    ]


def _without_null(schema: dict[str, Json]) -> dict[str, Json]:
    """A query leaves a parameter out; it cannot say null."""
    kept = {key: value for key, value in schema.items() if key not in ("title", "default", "anyOf")}
    if schema.get("default") is not None:
        kept["default"] = schema["default"]
    choices = schema.get("anyOf")
    if isinstance(choices, list):
        kept.update(next(choice for choice in choices if choice.get("type") != "null"))
    return kept


def _inlined(schema: dict[str, Json], named: dict[str, dict[str, Json]]) -> dict[str, Json]:
    """A parameter's words stand where they are used: schemas of their own belong to bodies."""
    reference = schema.get("$ref")
    return schema if reference is None else {**named[str(reference)], **_without(schema, "$ref")}


def _without(schema: dict[str, Json], key: str) -> dict[str, Json]:
    return {other: value for other, value in schema.items() if other != key}


def _successes(route: Route) -> dict[str, Json]:
    """One for each status; answers that differ in their media type alone are one with several."""
    told: dict[str, dict[str, Json]] = {}
    for each in route.answers:
        success, before = _success(each), told.get(str(each.status), {})
        if contents := {**_contents(before), **_contents(success)}:
            success["content"] = contents
        told[str(each.status)] = success
    return dict(told)


def _contents(success: Mapping[str, Json]) -> Mapping[str, Json]:
    contents = success.get("content")
    return contents if isinstance(contents, Mapping) else {}


def _success(each: Answer) -> dict[str, Json]:
    told: dict[str, Json] = {"description": each.means, "headers": _headers((*each.headers, "X-Request-Id"))}
    if each.media_type is not None:
        schema: Json = {} if each.model is None else _reference(each.model)
        told["content"] = {each.media_type: {"schema": schema}}
    return told


def _problems(route: Route) -> dict[str, Json]:
    by_status: dict[int, list[Kind]] = {}
    for kind in dict.fromkeys((*_usual_problems(route), *route.problems)):
        by_status.setdefault(kind.status, []).append(kind)
    return {str(status): _problem(status, kinds) for status, kinds in sorted(by_status.items())}


def _usual_problems(route: Route) -> Iterable[Kind]:
    yield from (problems.BAD_REQUEST, problems.MISDIRECTED, problems.INTERNAL)
    yield from (problems.UNAUTHORIZED, problems.FORBIDDEN, problems.TOO_MANY)
    if route.lane is not Lane.FREE:
        yield from (problems.JOURNAL_FULL, problems.JOURNAL_BROKEN)
    if "{" in route.path:
        yield problems.NOT_FOUND
    if route.query is not None or route.body is not None or route.headers:
        yield problems.UNPROCESSABLE
    if route.body is not None:
        yield from (problems.TIMEOUT, problems.TOO_LARGE, problems.UNSUPPORTED_TYPE)


def _problem(status: int, kinds: Sequence[Kind]) -> Json:
    return {
        "description": "; ".join(f"{kind.title} (`{problems.URN}{kind.word}`)" for kind in kinds),
        "headers": _headers((*_PROBLEM_HEADERS.get(status, ()), "X-Request-Id")),
        "content": {problems.MEDIA_TYPE: {"schema": _reference(ProblemAnswer)}},
    }


def _headers(names: Iterable[str]) -> dict[str, Json]:
    return {name: {"description": ANSWER_HEADERS[name], "schema": _STRING} for name in names}


def _reference(model: type[BaseModel]) -> Json:
    return {"$ref": _REFERENCE.format(model=model.__name__)}


def _schemas(routes: Sequence[Route]) -> Json:
    models: dict[type[BaseModel], None] = {ProblemAnswer: None}
    for route in routes:
        models |= {each.model: None for each in route.answers if each.model is not None}
        models |= {} if route.body is None else {route.body: None}
    _, schemas = models_json_schema([(model, "validation") for model in models], ref_template=_REFERENCE)
    found: Json = schemas["$defs"]
    return found
