"""One page of ListObjectsV2 (S3 API reference), as both clients ask for it and read it.

What flows through: what to ask for, and the bare answer into values. Written because both libraries make
slow objects of every line, and a reconcile reads a million of them.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import unquote_plus
from xml.etree import ElementTree

from cctv_storaged.backends.base import ListedObject
from cctv_storaged.backends.storeclient import Page, PageRequest
from cctv_storaged.errors import BackendUnavailable


def page_query(request: PageRequest) -> Mapping[str, str]:
    """The query parameters; names come back percent-encoded, since XML cannot hold all that a key may."""
    where = {"continuation-token": request.token} if request.token else {"start-after": request.after}
    return {
        "list-type": "2",
        "encoding-type": "url",
        "max-keys": str(request.keys),
        "prefix": request.prefix,
        **where,
    }


def parse_page(data: bytes) -> Page:
    """The objects of an answer. BackendUnavailable(server) where it makes no sense."""
    if b"<!" in data:  # no DTD: entities are not for us to expand
        raise BackendUnavailable("the listing makes no sense: it has a DTD", reason="server")
    try:
        root = ElementTree.fromstring(data)
        if root.tag.rpartition("}")[2] != "ListBucketResult":
            raise ValueError(f"it is a {root.tag}")
        space = root.tag.removesuffix("ListBucketResult")
        encoded = root.findtext(f"{space}EncodingType") == "url"
        objects = tuple(_object(element, space, encoded) for element in root.iter(f"{space}Contents"))
        return Page(objects=objects, token=_token(root, space))
    except (ElementTree.ParseError, ValueError) as exc:
        raise BackendUnavailable(f"the listing makes no sense: {exc}", reason="server") from exc


def _object(element: ElementTree.Element, space: str, encoded: bool) -> ListedObject:
    said = {child.tag.removeprefix(space): child.text or "" for child in element}
    key = said.get("Key", "")
    if not (key and said.keys() >= {"LastModified", "Size"}):
        raise ValueError("an object without its name, size or time")
    modified = datetime.fromisoformat(said["LastModified"])
    return ListedObject(
        path=unquote_plus(key) if encoded else key,
        size_bytes=int(said["Size"]),
        etag=said.get("ETag", "").strip('"') or None,
        modified=modified if modified.tzinfo is not None else modified.replace(tzinfo=UTC),
    )


def _token(root: ElementTree.Element, space: str) -> str | None:
    if root.findtext(f"{space}IsTruncated") != "true":
        return None
    token = root.findtext(f"{space}NextContinuationToken")
    if not token:
        raise ValueError("it is cut and does not say where it goes on")
    return token
