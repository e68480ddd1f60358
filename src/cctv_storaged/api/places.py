"""Places: whether roots and stores are the disks and buckets that they were, and accepting others."""

from collections.abc import Sequence

from aiohttp import web

from cctv_storaged.access import Scope
from cctv_storaged.api import problems
from cctv_storaged.api.parsing import body_bytes, parsed
from cctv_storaged.api.place_models import AcceptedPlaceAnswer, AcceptPlaceBody, PlacesAnswer
from cctv_storaged.api.problems import plain
from cctv_storaged.api.rendering import Json, answer
from cctv_storaged.api.routing import PREFIX, Answer, Route
from cctv_storaged.api.services import Services
from cctv_storaged.guarding.place import Place


async def list_places(request: web.Request, services: Services) -> web.StreamResponse:
    return answer({"places": [_place_json(place) for place in services.upkeep.places.all()]})


async def accept(request: web.Request, services: Services) -> web.StreamResponse:
    body = parsed(await body_bytes(request), AcceptPlaceBody)
    accepted = await services.upkeep.places.accept(body.kind, body.location)
    told = {"before": accepted.before, "carried": accepted.carried, "entries": accepted.entries}
    return answer({**_place_json(accepted.place), **told})


def _place_json(place: Place) -> dict[str, Json]:
    return {
        "kind": place.kind,
        "location": plain(place.location),
        "identity": place.known,
        "found": place.found,
        "standing": place.standing,
        "trouble": None if place.trouble is None else plain(place.trouble),
    }


ROUTES: Sequence[Route] = (
    Route(
        method="GET",
        path=f"{PREFIX}/places",
        handler=list_places,
        name="listPlaces",
        summary="Recorder roots and stores, and whether they are the disks and buckets that they were",
        scope=Scope.READ,
        answers=(Answer(status=200, means="The places", model=PlacesAnswer),),
    ),
    Route(
        method="POST",
        path=f"{PREFIX}/places/accept",
        handler=accept,
        name="acceptPlace",
        summary="What is mounted or named there now is the right one from now on",
        scope=Scope.ADMIN,
        body=AcceptPlaceBody,
        answers=(Answer(status=200, means="It is right", model=AcceptedPlaceAnswer),),
        problems=(problems.NOT_FOUND, problems.CONFLICT),
    ),
)
