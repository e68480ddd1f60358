"""Writes docs/reference/tables.md from the SQL files. Run with the virtual environment's Python."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
JOURNAL = ROOT / "src" / "cctv_storaged" / "journal" / "schema.sql"
MIGRATIONS = ROOT / "src" / "cctv_storaged" / "catalog" / "migrations"
TARGET = ROOT / "docs" / "reference" / "tables.md"

_TABLE = re.compile(r"CREATE TABLE (?:IF NOT EXISTS )?(\w+) \(\s*(?:-- (.*))?$")
_COLUMN = re.compile(r"    ([a-z]\w*) +(.+)$")
_ADDED = re.compile(r"ALTER TABLE (\w+) ADD COLUMN (?:IF NOT EXISTS )?([a-z]\w*) (.+)$")
_INDEX = re.compile(r"\s*CREATE (?:UNIQUE )?INDEX (?:IF NOT EXISTS )?(\w+) ON (\w+)")
_TRIGGER = re.compile(
    r"CREATE TRIGGER (\w+) (?:AFTER|BEFORE) (?:INSERT|DELETE|UPDATE(?: OF [\w, ]+?)?) ON (\w+)"
)
_SPECIFIED = re.compile(r"\s*\('(idx_\w+)', +'(\w+)'")  # the specification's, made in a loop

_INTRODUCTION = """\
# Tables

<!-- Made from the SQL files and their comments by scripts/tables_reference.py; change them there. -->

What stands in the two databases, for whoever looks into them.

## The journal

`journal.db` in `data_dir`, SQLite. It is the daemon's own: never write to it. While the daemon runs nobody
else can read it: stop the daemon, or look into a copy (`sqlite3 -readonly journal.db`). Times (`…_us`) are
microseconds since 1970-01-01T00:00Z, ids are UUIDs as 16 bytes, names of files are the bytes that the file
system has.
"""

_CATALOG = """\
## The catalog

Tables in PostgreSQL, if there is one; how to ask it stands in [postgres.md](postgres.md). Times carry
their zone. `cctv_storaged_migrations` notes what was done to the schema, when and by which host.
"""


@dataclass(frozen=True, slots=True)
class Table:
    """A table as its statements say it."""

    name: str
    about: str
    columns: list[list[str]] = field(default_factory=list)  # name, type and rules, comment
    others: list[str] = field(default_factory=list)  # its indexes and triggers


def tables_reference() -> str:
    """The whole document, with a newline at its end."""
    catalog = "\n".join(path.read_text(encoding="utf-8") for path in sorted(MIGRATIONS.glob("*.sql")))
    lines = [_INTRODUCTION]
    for table in tables(JOURNAL.read_text(encoding="utf-8")):
        lines += _told(table)
    lines.append(_CATALOG)
    for table in tables(catalog):
        lines += _told(table)
    return "\n".join(lines).rstrip("\n") + "\n"


def tables(sql: str) -> list[Table]:
    """The tables of a file, in its order."""
    found: dict[str, Table] = {}
    inside: Table | None = None
    before: list[str] = []  # a comment above a statement is about it
    for line in sql.splitlines():
        if opened := _TABLE.match(line):
            inside = found[opened[1]] = Table(opened[1], opened[2] or " ".join(before))
        elif line.startswith(")"):
            inside = None
        elif inside is not None:
            _read(line, inside)
        elif added := _ADDED.match(line):
            words, comment = _parts(added[3])
            found[added[1]].columns.append([added[2], words, comment or " ".join(before)])
        elif other := _INDEX.match(line) or _TRIGGER.match(line) or _SPECIFIED.match(line):
            found[other[2]].others.append(other[1])
        before = [*before, line.removeprefix("-- ")] if line.startswith("-- ") else []
    return list(found.values())


def _read(line: str, table: Table) -> None:
    """A column, or what goes on with the one before; rules of the whole table are the schema's business."""
    if column := _COLUMN.match(line):
        table.columns.append([column[1], *_parts(column[2])])
    elif line.startswith("     ") and table.columns:
        words, comment = _parts(line.strip())
        table.columns[-1][1] += f" {words}"
        table.columns[-1][2] = " ".join(filter(None, (table.columns[-1][2], comment)))


def _parts(text: str) -> tuple[str, str]:
    """Type with its rules, and the comment behind."""
    words, _, comment = text.partition("--")
    return re.sub(r"\s+", " ", words).strip(), comment.strip()


def _told(table: Table) -> Iterator[str]:
    yield f"### `{table.name}`"
    yield ""
    if table.about:
        yield f"{table.about[0].upper()}{table.about[1:].rstrip('.')}."
        yield ""
    yield "| column | type | is |"
    yield "|---|---|---|"
    for name, kind, comment in table.columns:
        yield f"| `{name}` | `{kind.rstrip(',;')}` | {comment} |"
    if table.others:
        yield ""
        yield f"Indexes and triggers: {', '.join(f'`{name}`' for name in table.others)}."
    yield ""


if __name__ == "__main__":
    TARGET.write_text(tables_reference(), encoding="utf-8")
    print(f"wrote {TARGET}")
