"""The files below a folder in the order in which S3 would list their paths, page by page.

What flows through: a base folder in, values out. A folder's names are held while it is walked, nothing
more, and nothing stays open between pages. It blocks; a thread advances it. It does not know what an
object's path looks like.
"""

import os
import re
import stat
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cctv_storaged.backends.base import ListedObject
from cctv_storaged.backends.folders import Base, base_folder, folder
from cctv_storaged.backends.oserrors import translated

PAGE_FILES = 1000
DEEPEST = 64  # folders; somebody else's tree may go on for ever
_CLOSED_TO_US = re.compile(r"lost\+found|\..*")  # of the file system's own, or of a desktop's

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Marking = Callable[[os.stat_result], str]


@dataclass(slots=True)
class _Folder:
    """One on the way down, with what is still to come of it, the last first."""

    names: tuple[str, ...]
    left: list[str] = field(default_factory=list)  # a folder's name ends in "/"

    def path(self, name: str) -> str:
        return "/".join((*self.names, name))


def walk(base: Base, prefix: str, after: str, mark: Marking) -> Generator[Sequence[ListedObject], None, None]:
    """Regular files whose path begins with `prefix` and comes behind `after` by its bytes.

    No link is followed. A folder that goes meanwhile has no more files; one that may not be read raises,
    for what is in it must not be taken for missing.
    """
    with base_folder(base):
        pass  # a base that is not there is no empty one
    page: list[ListedObject] = []
    for inside, names in _runs(base, _Span(prefix, after)):
        page += _facts(base, inside, names, mark)
        while len(page) >= PAGE_FILES:
            yield page[:PAGE_FILES]
            page = page[PAGE_FILES:]
    if page:
        yield page


@dataclass(frozen=True, slots=True)
class _Span:
    """Which paths are asked for."""

    prefix: str
    after: str

    def wants(self, path: str) -> bool:
        """A folder's path ends in "/": whether a file below it may be wanted."""
        raw, first, last = os.fsencode(path), os.fsencode(self.prefix), os.fsencode(self.after)
        if path.endswith("/"):
            return (raw.startswith(first) or first.startswith(raw)) and (raw > last or last.startswith(raw))
        return raw.startswith(first) and raw > last


def _runs(base: Base, span: _Span) -> Iterator[tuple[_Folder, list[str]]]:
    """Files that follow each other in one folder, at most a page of them at a time."""
    ways = [_entered(base, (), span)]
    while ways:
        inside = ways[-1]
        run: list[str] = []
        while inside.left and not inside.left[-1].endswith("/") and len(run) < PAGE_FILES:
            run.append(inside.left.pop())
        if run:
            yield inside, run
        elif not inside.left:
            ways.pop()
        else:
            ways.append(_entered(base, (*inside.names, inside.left.pop()[:-1]), span))


def _entered(base: Base, names: tuple[str, ...], span: _Span) -> _Folder:
    inside = _Folder(names)
    with translated(f"list the folder {'/'.join(names) or '.'} below {base}"):
        try:
            with folder(base, names) as descriptor:
                inside.left = _sorted(inside, descriptor, span)
        except (FileNotFoundError, NotADirectoryError):
            pass  # a deletion found it empty and removed it
        except PermissionError:
            if not (names and _CLOSED_TO_US.fullmatch(names[0])):
                raise
    return inside


def _sorted(inside: _Folder, descriptor: int, span: _Span) -> list[str]:
    found: list[str] = []
    with os.scandir(descriptor) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if len(inside.names) < DEEPEST:
                    found.append(f"{entry.name}/")
            elif entry.is_file(follow_symlinks=False):
                found.append(entry.name)
    wanted = [name for name in found if span.wants(inside.path(name))]
    return sorted(wanted, key=os.fsencode, reverse=True)


def _facts(base: Base, inside: _Folder, names: Sequence[str], mark: Marking) -> list[ListedObject]:
    facts: list[ListedObject] = []
    with translated(f"look at the files of {'/'.join(inside.names) or '.'} below {base}"):
        try:
            with folder(base, inside.names) as descriptor:
                stats = [(name, _stat(descriptor, name)) for name in names]
                facts = [_fact(inside.path(name), found, mark) for name, found in stats if found is not None]
        except (FileNotFoundError, NotADirectoryError):
            pass
    return facts


def _stat(descriptor: int, name: str) -> os.stat_result | None:
    try:
        found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def _fact(path: str, found: os.stat_result, mark: Marking) -> ListedObject:
    return ListedObject(
        path=path,
        size_bytes=found.st_size,
        etag=mark(found),
        modified=_EPOCH + timedelta(microseconds=found.st_ctime_ns // 1000),
    )
