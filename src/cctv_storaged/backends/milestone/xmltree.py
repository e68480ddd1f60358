"""XML from the network as small nodes: no DTD, no entities, and hard limits on size, depth and count."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from xml.etree.ElementTree import ParseError

from defusedxml.ElementTree import DefusedXMLParser

from cctv_storaged.backends.milestone.answers import Unreadable, plain

MOST_BYTES = 1024 * 1024
MOST_NODES = 8192
DEEPEST = 32


@dataclass(slots=True)
class Node:
    """One element."""

    name: str  # without namespace
    namespace: str  # empty where there is none
    attributes: Mapping[str, str]  # names in lower case, without namespace
    text: str = ""  # all character data directly inside
    children: list["Node"] = field(default_factory=list)

    def child(self, *path: str) -> "Node | None":
        """The first element under a path of names; namespaces are not compared."""
        node: Node | None = self
        for name in path:
            node = next((each for each in node.children if each.name == name), None) if node else None
        return node

    def value(self, *path: str) -> str:
        """The text under a path, stripped; empty where there is none."""
        found = self.child(*path)
        return found.text.strip() if found is not None else ""

    def every(self, name: str) -> Iterator["Node"]:
        """All elements of that name below this one, in the order of the document."""
        for each in self.children:
            if each.name == name:
                yield each
            yield from each.every(name)


class _Grower:
    """Target of the parser: builds nodes, and stops where there are too many or too deep ones."""

    def __init__(self) -> None:
        self.root: Node | None = None
        self._open: list[tuple[Node, list[str]]] = []  # with the pieces of its text
        self._count = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if self._count > MOST_NODES:
            raise _TooMuchError(f"more than {MOST_NODES} elements")
        if len(self._open) >= DEEPEST:
            raise _TooMuchError(f"elements within each other more than {DEEPEST} deep")
        namespace, name = _split(tag)
        node = Node(name, namespace, {_split(key)[1].lower(): value for key, value in attributes.items()})
        if self._open:
            self._open[-1][0].children.append(node)
        else:
            self.root = node
        self._open.append((node, []))

    def data(self, data: str) -> None:
        if self._open:
            self._open[-1][1].append(data)

    def end(self, tag: str) -> None:
        node, pieces = self._open.pop()
        node.text = "".join(pieces)

    def close(self) -> Node | None:
        return self.root


class _TooMuchError(ValueError):
    """Over a limit."""


def _split(tag: str) -> tuple[str, str]:
    namespace, closed, name = tag.rpartition("}")
    return (namespace.removeprefix("{"), name) if closed else ("", tag)


def parse_xml(data: bytes, what: str) -> Node:
    """The root element of `what` ("the answer to Login"); Unreadable where it is none, or over a limit."""
    if len(data) > MOST_BYTES:
        raise Unreadable(f"{what}: longer than {MOST_BYTES} bytes of XML")
    grower = _Grower()
    try:
        parser = DefusedXMLParser(target=grower, forbid_dtd=True)
        parser.feed(data)
        parser.close()
    except (ParseError, ValueError, LookupError) as exc:  # defusedxml's refusals are ValueErrors
        raise Unreadable(f"{what} is not XML that is read here: {_reason(exc)}") from exc
    if grower.root is None:
        raise Unreadable(f"{what} is no XML")
    return grower.root


def _reason(exc: Exception) -> str:
    """Without what a document type declares: defusedxml repeats its text."""
    return plain(str(exc)) if isinstance(exc, ParseError | _TooMuchError) else type(exc).__name__
