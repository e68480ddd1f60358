"""The OpenAPI document tells what is so: every route, and answers that conform to it, whatever is sent.

schemathesis makes requests from the document, right and wrong ones. None may give a 500, and every answer
must have a status, a type, headers and a body that the document names.
"""

import asyncio
import json
import re
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import hypothesis
import pytest
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from cctv_storaged.api.app import ROUTES
from cctv_storaged.api.models import UUID_PATTERN
from cctv_storaged.api.openapi import document
from cctv_storaged.api.routing import Route
from tests.integration.api.harness import API, PATIENCE_S, Host, description, running, until

CAMERA = UUID("123e4567-e89b-12d3-a456-426614174000")
EXAMPLES = 25
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
    allow_header_conformance,
]
DOCUMENT = json.loads(document(ROUTES))
ENDLESS = {"events"}
# HEAD is GET by another name (test_hostile.py); where it is more, it is tried as such.
SEARCHED = [
    route
    for route in ROUTES
    if route.name not in ENDLESS and (route.method != "HEAD" or route.path.endswith("/content"))
]
DOUBTED = [route for route in SEARCHED if route.query or route.body]
REAL = [route for route in SEARCHED if "{camera_id}" in route.path and route.method != "DELETE"]


# The document itself


async def test_every_route_is_in_the_document_and_nothing_else(host: Host) -> None:
    told = {(method.upper(), path) for path, operations in DOCUMENT["paths"].items() for method in operations}
    routes = host.parts.api.app.router.routes()
    served = {(route.method, route.resource.canonical) for route in routes if route.resource}
    assert told == served
    assert len(told) == len(ROUTES)
    assert (await host.get("/openapi.json")).json == DOCUMENT


def test_every_reference_leads_somewhere() -> None:
    text = json.dumps(DOCUMENT)
    named = set(re.findall(r'"#/components/schemas/(\w+)"', text))
    assert named
    assert named == set(DOCUMENT["components"]["schemas"])


def test_operations_have_names_of_their_own() -> None:
    names = [route.name for route in ROUTES]
    assert len(names) == len(set(names))


def test_path_parameters_are_told_and_are_uuids() -> None:
    for route in ROUTES:
        operation = DOCUMENT["paths"][route.path][route.method.lower()]
        told = {each["name"] for each in operation["parameters"] if each["in"] == "path"}
        assert told == set(re.findall(r"{(\w+)}", route.path))
    assert re.fullmatch(UUID_PATTERN, str(CAMERA))


def test_what_needs_a_token_says_so() -> None:
    for route in ROUTES:
        security = DOCUMENT["paths"][route.path][route.method.lower()]["security"]
        assert security == ([] if route.scope is None else [{"token": [route.scope]}])


# A running API against the document


@dataclass(frozen=True, slots=True)
class Served:
    """A host in a thread of its own: schemathesis asks from outside any event loop."""

    url: str
    segment: dict[str, Any]
    file: Path


async def _serve(folder: Path, ready: "Future[Served]", stop: asyncio.Event) -> None:
    # Without asking for tokens: schemathesis makes some, and would lock itself out.
    settings = {"auth": "none", "allowed_paths": [str(folder / "handed-in")]}
    async with running(folder, {"api": settings}) as host:
        host.deliver()
        host.watch()
        segment = await host.delivered(await host.registered(camera=CAMERA))
        path = host.file("b.ts", below=folder / "handed-in")

        async def is_ready() -> bool:
            return (await host.get("/ready")).status == 200

        await until(is_ready)
        ready.set_result(Served(host.url, segment, path))
        await stop.wait()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    loop, stop, ready = asyncio.new_event_loop(), asyncio.Event(), Future[Served]()
    thread = threading.Thread(target=lambda: loop.run_until_complete(_serve(folder, ready, stop)))
    thread.start()
    try:
        yield ready.result(2 * PATIENCE_S)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        loop.close()
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def schema(served: Served) -> Any:
    """The document of the running API, but for tokens: test_access.py tries the door."""
    with urllib.request.urlopen(f"{served.url}/openapi.json") as answer:
        told = json.load(answer)
    assert told == DOCUMENT
    for operations in told["paths"].values():
        for operation in operations.values():
            del operation["security"]
    return schemathesis.openapi.from_dict(told)


def search(strategy: Any, served: Served, path_parameters: dict[str, str] | None = None) -> set[int]:
    """Sends what the strategy draws, the same each time, and holds every answer against the document.

    Returns the statuses of the answers.
    """
    statuses = set()

    @hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=strategy)
    def each(case: Any) -> None:
        if path_parameters is not None:
            case.path_parameters = path_parameters
        statuses.add(case.call_and_validate(base_url=served.url, checks=CHECKS, timeout=20).status_code)

    each()
    return statuses


@pytest.mark.parametrize("route", SEARCHED, ids=lambda route: route.name)
def test_whatever_is_sent_the_answer_is_as_documented(schema: Any, served: Served, route: Route) -> None:
    statuses = search(schema[route.path][route.method].as_strategy(), served)
    assert not statuses & {401, 403}, "the door was closed: nothing was tried"


@pytest.mark.parametrize("route", DOUBTED, ids=lambda route: route.name)
def test_what_the_document_forbids_is_refused(schema: Any, served: Served, route: Route) -> None:
    wrong = schemathesis.GenerationMode.NEGATIVE
    statuses = search(schema[route.path][route.method].as_strategy(generation_mode=wrong), served)
    assert 422 in statuses


@pytest.mark.parametrize("route", REAL, ids=lambda route: route.name)
def test_what_exists_is_answered_as_documented(schema: Any, served: Served, route: Route) -> None:
    """Made-up ids are never found, and made-up times seldom: here both are real."""
    ids = {"camera_id": str(CAMERA), "segment_id": served.segment["id"]}
    named = {name: ids[name] for name in re.findall(r"{(\w+)}", route.path)}
    span = {"start": served.segment["start_time"], "end": served.segment["end_time"]}
    asked = (
        {} if route.query is None else {name: span[name] for name in span if name in route.query.model_fields}
    )
    operation = schema[route.path][route.method]
    case = operation.Case(path_parameters=named, query=asked)
    assert case.call_and_validate(base_url=served.url, checks=CHECKS, timeout=20).status_code == 200
    search(operation.as_strategy(), served, named)


def test_a_true_registration_is_answered_as_documented(schema: Any, served: Served) -> None:
    operation = schema[f"{API}/segments"]["POST"]
    body = description(served.file, camera=CAMERA)
    for status in (201, 200):
        case = operation.Case(body=body, media_type="application/json")
        assert case.call_and_validate(base_url=served.url, checks=CHECKS).status_code == status
