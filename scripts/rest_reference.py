"""Writes docs/reference/rest.md from the OpenAPI document. Run with the virtual environment's Python."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from cctv_storaged.api.app import ROUTES
from cctv_storaged.api.openapi import document
from cctv_storaged.api.problems import MEDIA_TYPE
from cctv_storaged.api.rendering import Json
from cctv_storaged.api.routing import PREFIX

TARGET = Path(__file__).parent.parent / "docs" / "reference" / "rest.md"
HEADERS_OF_ALL = "X-Request-Id"
Node = Mapping[str, Json]

_INTRODUCTION = f"""\
# The REST API

<!-- Made from the OpenAPI document (src/cctv_storaged/api) by scripts/rest_reference.py; change it there. -->

Every route of this version. The daemon tells the same as OpenAPI 3.1 at `/openapi.json`; addresses without a
slash in front lie below `{PREFIX}/`. Tokens go into the header `Authorization: Bearer …`; which scope a route
needs stands with it, and `admin` includes all. Times are RFC 3339 (`2026-01-23T10:00:00Z`; without an offset
they are refused), and spans include their start and not their end. Unknown parameters and fields are refused.
Each answer has a header `X-Request-Id`, under which the log tells of it. Where `GET` is answered, `HEAD` is
too: the same headers, no body. Parameters and fields marked * are always there.

## Problems

What is no success is `application/problem+json` (RFC 9457, [ProblemAnswer](#problemanswer)). Its `type` is
`urn:cctv-storaged:problem:` and one of these words. Those of the first table any route that needs a scope may
give; all others stand with their routes. A method that a path does not have is answered 405
`method-not-allowed`, with those that it has in the header `Allow`.
"""


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    details: Node

    @property
    def short(self) -> str:
        return self.path.removeprefix(f"{PREFIX}/")

    @property
    def subject(self) -> str:
        return self.short.strip("/").split("/")[0]


def rest_reference() -> str:
    """The whole document, with a newline at its end."""
    told = json.loads(document(ROUTES))
    operations = [
        Operation(method.upper(), path, details)
        for path, methods in told["paths"].items()
        for method, details in methods.items()
        if method != "head" or "get" not in methods
    ]
    kinds = [_kinds(each) for each in operations]
    guarded = [_kinds(each) for each in operations if each.details["security"]]
    usual = [kind for kind in guarded[0] if all(kind in others for others in guarded)]
    known = dict.fromkeys(kind for of_one in kinds for kind in of_one if kind not in usual)
    lines = [
        _INTRODUCTION,
        *_table(("status", "word", "says"), usual),
        "",
        "Further words:",
        "",
        *_table(("status", "word", "says"), sorted(known)),
    ]
    for subject in dict.fromkeys(each.subject for each in operations):
        lines += ["", f"## {subject}"]
        for each in operations:
            if each.subject == subject:
                lines += ["", *_operation(each, usual)]
    lines += ["", "## Bodies", "", "What is sent and answered, by name."]
    for name, schema in sorted(told["components"]["schemas"].items()):
        lines += ["", *_schema(name, schema)]
    return "\n".join([*lines, ""])


def _operation(operation: Operation, usual: Sequence[tuple[str, ...]]) -> Iterator[str]:
    details = operation.details
    yield f"### `{operation.method} {operation.short}`"
    yield ""
    yield f"{details['summary']}. {_scope(details)}"
    if body := details.get("requestBody"):
        yield ""
        needed = "" if _node(body)["required"] else " (may be left out)"
        yield f"Body: {_contents(body)}{needed}"
    if parameters := cast("Sequence[Node]", details["parameters"]):
        yield ""
        yield from _table(("parameter", "in", "kind", ""), map(_parameter, parameters))
    yield ""
    responses = _node(details["responses"]).items()
    answers = (_success(status, each) for status, each in responses if not _is_problem(each))
    yield from _table(("status", "means", "body", "headers"), answers)
    usual_words = {word for _, word, _ in usual}
    if further := [f"{status} `{word}`" for status, word, _ in _kinds(operation) if word not in usual_words]:
        yield ""
        yield f"Problems: {', '.join(further)}."


def _scope(details: Node) -> str:
    security = cast("Sequence[Mapping[str, Sequence[str]]]", details["security"])
    if not security:
        return "Open to everybody, unless `api.protect_metrics` asks for a token."
    return f"Scope `{security[0]['token'][0]}`."


def _parameter(parameter: Node) -> tuple[str, ...]:
    schema = _node(parameter["schema"])
    default = f"; {json.dumps(schema['default'])} if left out" if "default" in schema else ""
    needed = " *" if parameter["required"] else ""
    kind = _kind(schema) + default
    return f"`{parameter['name']}`{needed}", str(parameter["in"]), kind, str(parameter.get("description", ""))


def _success(status: str, response: Json) -> tuple[str, ...]:
    told = _node(response)
    names = [f"`{name}`" for name in _node(told["headers"]) if name != HEADERS_OF_ALL]
    return status, str(told["description"]), _contents(told), ", ".join(names)


def _contents(holder: Json) -> str:
    contents = _node(_node(holder).get("content") or {})
    return ", ".join(
        _kind(_node(_node(each)["schema"])) if media == "application/json" else f"`{media}`"
        for media, each in contents.items()
    )


def _is_problem(response: Json) -> bool:
    return MEDIA_TYPE in _node(_node(response).get("content") or {})


def _kinds(operation: Operation) -> list[tuple[str, ...]]:
    """Status, word and title of each problem it may answer."""
    found: list[tuple[str, ...]] = []
    for status, response in _node(operation.details["responses"]).items():
        if not _is_problem(response):
            continue
        for said in str(_node(response)["description"]).split("; "):
            title, _, urn = said.rpartition(" (`")
            found.append((status, urn.removesuffix("`)").rpartition(":")[2], title))
    return found


def _schema(name: str, schema: Node) -> Iterator[str]:
    yield f"### {_plain(name)}"
    yield ""
    if description := schema.get("description"):
        yield str(description)
        yield ""
    if "enum" in schema:
        yield f"One of {_kind(schema)}."
        return
    required = cast("Sequence[str]", schema.get("required", ()))
    fields = _node(schema.get("properties") or {})
    yield from _table(("field", "kind", ""), (_field(each, _node(fields[each]), required) for each in fields))


def _field(name: str, schema: Node, required: Sequence[str]) -> tuple[str, ...]:
    return f"`{name}`{' *' if name in required else ''}", _kind(schema), str(schema.get("description", ""))


def _kind(schema: Node) -> str:
    """What a value may be, in words."""
    if reference := schema.get("$ref"):
        name = _plain(str(reference).rpartition("/")[2])
        return f"[{name}](#{name.lower()})"
    if words := schema.get("enum") or ([schema["const"]] if "const" in schema else None):
        return ", ".join(f"`{word}`" for word in cast("Sequence[str]", words))
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(_kind(each) for each in cast("Sequence[Node]", choices))
    if schema.get("type") == "array":
        return f"list of {_kind(_node(schema.get('items') or {}))}"
    if isinstance(values := schema.get("additionalProperties"), Mapping):
        return f"map of {_kind(values)}"
    return _plain_kind(schema)


def _plain_kind(schema: Node) -> str:
    """Of text, a number, or what is not told."""
    words = str(schema.get("format") or schema.get("type") or "anything")
    least, most = schema.get("minimum", schema.get("ge")), schema.get("maximum", schema.get("le"))
    if least is not None or most is not None:
        words += f" {'' if least is None else least}…{'' if most is None else most}"
    return words + (f", at most {schema['maxLength']} long" if "maxLength" in schema else "")


def _plain(name: str) -> str:
    """Two enums of one name are told apart by their module: `journal.ledger.Kind`."""
    return name.removeprefix("cctv_storaged__").replace("__", "-")


def _node(value: Json) -> Node:
    return cast("Node", value)


def _table(heads: Sequence[str], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield "|---" * len(heads) + "|"
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |"


if __name__ == "__main__":
    TARGET.write_text(rest_reference(), encoding="utf-8")
    print(f"wrote {TARGET}")
