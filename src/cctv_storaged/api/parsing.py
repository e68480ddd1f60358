"""What a request says, checked against its model before anybody acts on it."""

import asyncio
import re
from collections.abc import Iterator
from typing import TypeVar
from uuid import UUID

from aiohttp import web
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from cctv_storaged.api.models import parse_uuid
from cctv_storaged.api.problems import BAD_REQUEST, TIMEOUT, TOO_LARGE, UNSUPPORTED_TYPE, Refusal
from cctv_storaged.errors import Fault, Unprocessable

Model = TypeVar("Model", bound=BaseModel)

MOST_BODY_BYTES = 64 * 1024
BODY_TIMEOUT_S = 10.0
IDEMPOTENCY_HEADER = "Idempotency-Key"
_KEY = re.compile(r"[\x21-\x7e]{1,255}")

_MESSAGES = {
    "missing": "is required",
    "extra_forbidden": "is not a name known here",
    "model_type": "must be a JSON object",
    "dict_type": "must be a JSON object",
    "list_type": "must be a JSON array",
    "string_type": "must be a string",
    "bool_type": "must be true or false",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "string_pattern_mismatch": "has characters, or a form, that it must not have",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "too_long": "must have at most {max_length} entries",
    "greater_than": "must be more than {gt:.15g}",
    "greater_than_equal": "must be at least {ge:.15g}",
    "less_than": "must be less than {lt:.15g}",
    "less_than_equal": "must be at most {le:.15g}",
    "literal_error": "must be {expected}",
}
"""By pydantic's name of what is wrong; the numbers are its own."""
_EMPTY = ("string_too_short", "too_short")


def query_of(request: web.Request, model: type[Model]) -> Model:
    """The query's parameters. Raises Unprocessable, one fault for each."""
    given: dict[str, str] = {}
    for name, value in request.query.items():
        if name in given:
            raise Unprocessable([Fault(name, "is given twice")])
        given[name] = value
    try:
        return model.model_validate(given)
    except ValidationError as exc:
        raise Unprocessable(tuple(_faults(exc))) from exc


async def body_bytes(request: web.Request) -> bytes:
    """The JSON body as it came. Raises Refusal for what is too large, too slow, or no JSON by its header."""
    if request.content_type != "application/json":
        raise Refusal(
            UNSUPPORTED_TYPE,
            "send the body as Content-Type: application/json",
            {"Accept": "application/json"},
        )
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Refusal(
            UNSUPPORTED_TYPE, "send the body without Content-Encoding", {"Accept-Encoding": "identity"}
        )
    if (request.content_length or 0) > MOST_BODY_BYTES:
        raise Refusal(TOO_LARGE, f"bodies have at most {MOST_BODY_BYTES} bytes", {"Connection": "close"})
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await request.read()
    except TimeoutError as exc:
        raise Refusal(TIMEOUT, f"the body did not arrive within {BODY_TIMEOUT_S:g} s") from exc
    except web.RequestPayloadError as exc:
        raise Refusal(BAD_REQUEST, "the body's transfer coding is broken") from exc


def parsed(body: bytes, model: type[Model]) -> Model:
    """The body's value. Raises Refusal for what is no JSON, Unprocessable for what the model refuses."""
    try:
        return model.model_validate_json(body)
    except ValidationError as exc:
        if any(error["type"] == "json_invalid" for error in exc.errors(include_url=False)):
            raise Refusal(BAD_REQUEST, "the body is no JSON (RFC 8259, UTF-8)") from exc
        raise Unprocessable(tuple(_faults(exc))) from exc


def path_id(request: web.Request, name: str) -> UUID:
    """A UUID of the path; the route's pattern lets nothing else through."""
    return parse_uuid(request.match_info[name])


def idempotency_key(request: web.Request) -> str | None:
    """The Idempotency-Key, None where there is none. Raises Unprocessable."""
    keys = request.headers.getall(IDEMPOTENCY_HEADER, [])
    if not keys:
        return None
    if len(keys) > 1 or not _KEY.fullmatch(keys[0]):
        raise Unprocessable([Fault(IDEMPOTENCY_HEADER, "must be one, of 1 to 255 visible ASCII characters")])
    return keys[0]


def _faults(error: ValidationError) -> Iterator[Fault]:
    for each in error.errors(include_url=False, include_input=False):
        yield Fault(".".join(map(str, each["loc"])) or "body", _message(each))


def _message(error: ErrorDetails) -> str:
    context = error.get("ctx", {})
    if error["type"] in _EMPTY and context.get("min_length") == 1:
        return "must not be empty"
    known = _MESSAGES.get(error["type"])
    return error["msg"].removeprefix("Value error, ") if known is None else known.format(**context)
