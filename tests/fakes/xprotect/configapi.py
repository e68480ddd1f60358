"""Reading the site's configuration by REST: collections, children, filters, paging (1.5 of the paper)."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from aiohttp import web

from tests.fakes.xprotect import envelope
from tests.fakes.xprotect.assumptions import Assumptions
from tests.fakes.xprotect.envelope import ApiError, Object
from tests.fakes.xprotect.resources import Resource, all_resources
from tests.fakes.xprotect.site import Site

KINDS = (
    "sites",
    "recordingServers",
    "hardware",
    "cameras",
    "storages",
    "archiveStorages",
    "storageInformation",
    "archiveStorageInformation",
    "evidenceLockProfiles",
)
_CONTROLS = frozenset({"page", "size", "disabled", "tasks", "noData", "includeChildren", "task", "include"})
_FILTER = re.compile(r"(?:(?P<operator>[A-Za-z]+):)?'(?P<value>.*)'")


@dataclass(frozen=True, slots=True)
class ConfigApi:
    """Only what is read; of changes nothing is simulated."""

    site: Site

    def serve(self, request: web.Request, kind: str, steps: Sequence[str]) -> web.Response:
        """`GET /{kind}`, `/{kind}/{id}` and `/{kind}/{id}/{children}`."""
        if request.method != "GET":
            raise ApiError(400, "Bad request: not simulated")
        match steps:
            case []:
                return self._collection(request, kind)
            case [name]:
                return self._object(request, self.find(kind, name))
            case [name, children]:
                return self._children(request, self.find(kind, name), children)
        raise ApiError(404, "Not Found")

    def find(self, kind: str, name: str) -> Resource:
        wanted = envelope.read_guid(name, "id")
        for resource in all_resources(self.site):
            if resource.kind == kind and resource.id == wanted:
                return resource
        raise ApiError(404, f"{kind} {name} was not found", "id", "NotFound")

    def _collection(self, request: web.Request, kind: str) -> web.Response:
        found = [each for each in all_resources(self.site) if each.kind == kind]
        if any(not each.listed for each in found):
            raise ApiError(400, "Bad request: Unknown request")
        return self._array(request, found)

    def _children(self, request: web.Request, parent: Resource, children: str) -> web.Response:
        kind = next((each for each in parent.children if each.lower() == children.lower()), None)
        if kind is None:
            raise ApiError(404, f"{parent.kind} have no {children}")
        return self._array(request, self._below(parent, kind))

    def _below(self, parent: Resource, kind: str) -> list[Resource]:
        owner = (parent.kind, parent.id)
        return [each for each in all_resources(self.site) if each.kind == kind and each.parent == owner]

    def _array(self, request: web.Request, found: Sequence[Resource]) -> web.Response:
        query = request.query
        if "disabled" not in query:
            found = [each for each in found if each.enabled]
        told = [each.told() for each in found]
        return envelope.array(self.site.assumptions, chosen(self.site.assumptions, query, told))

    def _object(self, request: web.Request, found: Resource) -> web.Response:
        body: dict[str, object] = {}
        if "noData" not in request.query:
            body["data"] = self._with_children(request, found)
        if "tasks" in request.query:
            body["tasks"] = [{"id": task, "displayName": _words(task)} for task in found.tasks]
        return envelope.answer(self.site.assumptions, body, "bare")

    def _with_children(self, request: web.Request, found: Resource) -> dict[str, object]:
        asked = {each.lower() for each in request.query.get("includeChildren", "").split(",")}
        told = found.told()
        for kind in found.children:
            if kind.lower() in asked or "all" in asked:
                told[kind] = [each.told() for each in self._below(found, kind)]
        return told


def chosen(assumptions: Assumptions, query: Mapping[str, str], told: Sequence[Object]) -> Sequence[Object]:
    """What the filters leave of a collection, and of that the page."""
    for name in query.keys() - _CONTROLS:
        matches = _matcher(assumptions, name, query[name])
        told = [each for each in told if matches(each)]
    return _page_of(assumptions, query, told)


def _page_of(assumptions: Assumptions, query: Mapping[str, str], told: Sequence[Object]) -> Sequence[Object]:
    """`?page=0&size=10`; no total and no link to the next page."""
    if "size" not in query:
        return told[: assumptions.unpaged_limit]
    try:
        page, size = int(query.get("page", "0")), int(query["size"])
    except ValueError:
        raise ApiError(400, "page and size are numbers", "size") from None
    if page < 0 or size < 1:
        raise ApiError(400, "page is at least 0, size at least 1", "size")
    size = min(size, assumptions.size_limit or size)
    return told[page * size : (page + 1) * size]


def _matcher(assumptions: Assumptions, name: str, condition: str) -> Callable[[Mapping[str, object]], bool]:
    read = _FILTER.fullmatch(condition)
    if read is None:
        raise ApiError(400, f"a filter's value stands in quotes: {condition}", name)
    operator, wanted = read["operator"] or "equals", read["value"]

    def matches(told: Mapping[str, object]) -> bool:
        if name not in told:
            raise ApiError(400, f"unknown property {name}", name)
        return _compare(operator, str(envelope.plain(assumptions, told[name])), wanted)

    return matches


def _compare(operator: str, value: str, wanted: str) -> bool:
    match operator:
        case "equals":
            return value == wanted
        case "notEquals":
            return value != wanted
        case "startsWith":
            return value.startswith(wanted)
        case "contains":
            return wanted in value
        case "lt" | "gt":
            return _less(value, wanted) if operator == "lt" else _less(wanted, value)
    raise ApiError(400, f"unknown operator {operator}")


def _less(one: str, other: str) -> bool:
    try:
        return float(one) < float(other)
    except ValueError:
        return one < other


def _words(task: str) -> str:
    """GetSequences: Get sequences."""
    return re.sub(r"(?<!^)([A-Z])", lambda letter: f" {letter[1].lower()}", task)
