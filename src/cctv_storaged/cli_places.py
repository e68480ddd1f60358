"""`cctv-storaged places` and `clock`: what the guards of a running daemon know, and a word to them."""

import argparse
from collections.abc import Sequence

from cctv_storaged.api.place_models import AcceptedPlaceAnswer, ClockAnswer, PlaceAnswer, PlacesAnswer
from cctv_storaged.cli_client import DONE, FOUND_WRONG, ApiClient, with_api
from cctv_storaged.errors import ConfigError, Fault
from cctv_storaged.guarding.identity import Standing
from cctv_storaged.guarding.place import MOST_ENTRIES
from cctv_storaged.logs.lines import one_line


def list_places(options: argparse.Namespace) -> int:
    """Every place in a line; 1 while one is not right."""
    return with_api(options, _list)


def accept(options: argparse.Namespace) -> int:
    """The place of that path or bucket is right from now on."""
    return with_api(options, lambda api: _accept(api, options.location, options.kind))


def show_clock(options: argparse.Namespace) -> int:
    """Whether the clock is trusted; 1 while it is not."""
    return with_api(options, lambda api: _told(api.get("/clock", ClockAnswer)))


def confirm_clock(options: argparse.Namespace) -> int:
    """The clock is right as it is."""
    return with_api(options, lambda api: _told(api.post("/clock/confirm", ClockAnswer)))


def _list(api: ApiClient) -> int:
    places = api.get("/places", PlacesAnswer).places
    for place in places:
        print(_line(place))
    return FOUND_WRONG if any(place.trouble is not None for place in places) else DONE


def _accept(api: ApiClient, location: str, kind: str | None) -> int:
    places = api.get("/places", PlacesAnswer).places
    place = _named(places, location, kind)
    body = {"kind": str(place.kind), "location": location}
    accepted = api.post("/places/accept", AcceptedPlaceAnswer, body)
    print(f"the journal had: {one_line(accepted.before or 'no identity')}")
    print(f"found there:     {one_line(accepted.carried or 'no identity')}, {_counted(accepted.entries)}")
    print(_line(accepted))
    return DONE


def _named(places: Sequence[PlaceAnswer], location: str, kind: str | None) -> PlaceAnswer:
    """Raises ConfigError."""
    there = [place for place in places if place.location == location]
    found = [place for place in there if kind in (None, place.kind)]
    if len(found) == 1:
        return found[0]
    known = ", ".join(f"{place.kind} {place.location}" for place in places)
    if found:
        fault = Fault(location, "names several places, --kind says which", f"there are: {known}")
    elif there:
        kinds = " and ".join(place.kind for place in there)
        fault = Fault("--kind", f"{location} is not of the kind {kind!r}", f"it is of {kinds}")
    else:
        fault = Fault(location, "names no place", f"there are: {known}")
    raise ConfigError([fault])


def _counted(entries: int | None) -> str:
    """What lies in a place besides its mark."""
    match entries:
        case None:
            return "its entries could not be counted"
        case 0:
            return "empty"
        case 1:
            return "1 entry"
    return f"{entries} entries{' or more' if entries == MOST_ENTRIES else ''}"


def _line(place: PlaceAnswer) -> str:
    text = f"{place.kind:10} {place.location}: {place.standing}"
    if place.standing is Standing.RIGHT:
        return one_line(f"{text} ({place.identity})")
    return one_line(text if place.trouble is None else f"{text}: {place.trouble}")


def _told(clock: ClockAnswer) -> int:
    synchronized = {True: "synchronised", False: "not synchronised", None: "synchronised or not: unknown"}
    print(f"{clock.now:%Y-%m-%dT%H:%M:%SZ}, {synchronized[clock.synchronized]}")
    if clock.distrust is None:
        print("trusted")
        return DONE
    print(one_line(f"NOT trusted: {clock.distrust}"))
    return FOUND_WRONG
