"""The Config API and its neighbours under `/api/rest/v1`: envelopes, pages, refusals, one renewed token.

Envelopes are `array` (collections), `data` (objects) and `result` (what was created or done); which of the
latter two, and with which 2xx, is not always published, so that either is taken, and none as well.
"""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from urllib.parse import quote

from cctv_storaged.backends.milestone.answers import Unreadable
from cctv_storaged.backends.milestone.discovery import Discovered
from cctv_storaged.backends.milestone.httpwire import Answer, Call, HttpWire
from cctv_storaged.backends.milestone.jsontree import Fields, objects, parsed
from cctv_storaged.backends.milestone.refusals import NotThere, Refusal, failure, refusal_of, told_status
from cctv_storaged.backends.milestone.tokens import TokenSource
from cctv_storaged.errors import BackendError

PAGE_SIZE = 200
PAGES_MAX = 500
OBJECTS_MAX = 50_000
_COLLECTIONS = ("array", "data", "result")

Body = Mapping[str, object]


def path_of(*steps: object) -> str:
    """Steps of a path, each percent-encoded whole."""
    return "/".join(quote(str(step), safe="") for step in steps)


class Rest:
    """One site's REST. Raises what `refusals.failure` says; NotThere, Refused and Forbidden tell why."""

    def __init__(
        self, wire: HttpWire, tokens: TokenSource, discovered: Callable[[], Awaitable[Discovered]]
    ) -> None:
        self._wire = wire
        self._tokens = tokens
        self._discovered = discovered
        self.clock_skew: timedelta | None = None  # of the answer before

    def words(self, text: str) -> str:
        """A server's words, fit to be repeated."""
        return self._wire.words(text)

    async def one(self, path: str, query: str = "") -> Fields:
        """One object, out of its envelope."""
        return (await self.whole(path, query)).unwrapped()

    async def whole(self, path: str, query: str = "") -> Fields:
        """One object's answer with its envelope, and what stands beside `data` in it."""
        return _object_of(await self._ask("GET", path, query), f"GET {path}")

    async def collection(self, path: str, query: str = "") -> Sequence[Fields]:
        """All objects of a collection, each once. Ends with the page that brings nothing new: servers may
        give fewer than were asked for, or all at once."""
        found: dict[str, Fields] = {}
        for page in range(PAGES_MAX):
            asked = "&".join(filter(None, (query, f"page={page}&size={PAGE_SIZE}")))
            try:
                told = _collection(await self._ask("GET", path, asked), f"GET {path}")
            except NotThere:
                if page == 0:
                    raise
                break
            before = len(found)
            for each in told:
                found.setdefault(each.text("id").lower() or f"#{len(found)}", each)
            if len(found) > OBJECTS_MAX:
                raise Unreadable(f"GET {path}: more than {OBJECTS_MAX} objects")
            if len(found) == before or not told:
                break
        else:
            raise Unreadable(f"GET {path}: more than {PAGES_MAX} pages")
        return tuple(found.values())

    async def post(self, path: str, body: Body, task: str = "") -> Fields:
        """What was created or done, out of its envelope."""
        query = f"task={quote(task, safe='')}" if task else ""
        doing = f"POST {path}{f'?{query}' if query else ''}"
        return _object_of(await self._ask("POST", path, query, body), doing).unwrapped()

    async def delete(self, path: str) -> None:
        """NotThere where it is gone already."""
        await self._ask("DELETE", path)

    async def _ask(self, method: str, path: str, query: str = "", body: Body | None = None) -> object:
        """The JSON of a good answer, None where it has no body. A token that is refused is renewed once."""
        token = await self._tokens()
        answer = await self._send(method, path, query, body, token.value)
        if answer.status == 401:
            token = await self._tokens(refused=token.value)
            answer = await self._send(method, path, query, body, token.value)
        self.clock_skew = answer.clock_skew
        return self._understood(answer, f"{method} {path}{f'?{query}' if query else ''}")

    async def _send(self, method: str, path: str, query: str, body: Body | None, token: str) -> Answer:
        url = f"{(await self._discovered()).rest_url}/{path}{f'?{query}' if query else ''}"
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body).encode()
        doing = f"{method} {path}"
        return await self._wire.exchange(
            Call(method=method, url=url, doing=doing, headers=headers, body=data)
        )

    def _understood(self, answer: Answer, doing: str) -> object:
        if not answer.good:
            raise self._failure(doing, _refusal(answer, doing))
        value = parsed(answer.data, doing) if answer.data.strip() else None
        if isinstance(value, Mapping):
            status = told_status(told := Fields(value, doing))
            if status is not None:
                raise self._failure(doing, refusal_of(status, told))
        return value

    def _failure(self, doing: str, refusal: Refusal) -> BackendError:
        words = "; ".join((*refusal.texts, *((f"({', '.join(refusal.names)})",) if refusal.names else ())))
        return failure(doing, refusal, self._wire.words(words))


def _refusal(answer: Answer, doing: str) -> Refusal:
    """A 404 without a body is the API's as well; another page than JSON is not."""
    try:
        value = parsed(answer.data, doing) if answer.data.strip() else {"httpCode": answer.status}
        body = Fields(value, doing) if isinstance(value, Mapping) else None
        return refusal_of(answer.status, body, answer.retry_after_s)
    except Unreadable:
        return refusal_of(answer.status, None, answer.retry_after_s)


def _object_of(value: object, doing: str) -> Fields:
    return Fields.of({} if value is None else value, doing)


def _collection(value: object, doing: str) -> Sequence[Fields]:
    if isinstance(value, list):
        return objects(value, doing)
    whole = Fields.of(value, doing)
    for name in _COLLECTIONS:
        if (found := whole.each(name)) is not None:
            return found
    raise Unreadable(f"{doing}: no array of objects")
