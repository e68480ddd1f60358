"""The references made from the code are as the code is: routes, tables, commands."""

import argparse
import json
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from cctv_storaged import cli
from cctv_storaged.api.app import ROUTES
from cctv_storaged.api.openapi import document
from cctv_storaged.api.routing import PREFIX
from scripts.commands_reference import commands_reference
from scripts.rest_reference import rest_reference
from scripts.tables_reference import JOURNAL, MIGRATIONS, tables_reference

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


@pytest.mark.parametrize(
    ("page", "script", "made"),
    [
        ("rest.md", "rest_reference.py", rest_reference),
        ("tables.md", "tables_reference.py", tables_reference),
        ("commands.md", "commands_reference.py", commands_reference),
    ],
)
def test_the_reference_is_as_the_code_is(page: str, script: str, made: object) -> None:
    assert callable(made)
    assert (REFERENCE / page).read_text() == made(), f"run .venv/bin/python scripts/{script}"


def section(text: str, heading: str) -> str:
    return text.split(f"\n{heading}\n")[1].split("\n### ", maxsplit=1)[0].split("\n## ", maxsplit=1)[0]


def test_every_route_is_told_with_its_scope_its_parameters_and_its_problems() -> None:
    text = rest_reference()
    for route in ROUTES:
        if route.method == "HEAD":
            continue
        told = section(text, f"### `{route.method} {route.path.removeprefix(f'{PREFIX}/')}`")
        assert route.summary in told
        assert route.scope is None or f"Scope `{route.scope}`." in told
        names = [
            *route.headers,
            *(() if route.query is None else route.query.model_json_schema()["properties"]),
        ]
        assert [name for name in names if f"| `{name}`" not in told] == []
        assert [kind.word for kind in route.problems if f"`{kind.word}`" not in told] == []


def test_every_body_is_told_with_its_fields() -> None:
    text = rest_reference()
    schemas = json.loads(document(ROUTES))["components"]["schemas"]
    for name in ("SegmentAnswer", "NewExportBody", "ProblemAnswer"):
        told = section(text, f"### {name}")
        assert [each for each in schemas[name]["properties"] if f"| `{each}`" not in told] == []
    headings = set(re.findall(r"^### (\S+)$", text, re.M))
    linked = set(re.findall(r"\]\(#([^)]+)\)", text))
    assert linked - {heading.lower() for heading in headings} == set()


def test_every_table_and_column_of_the_journal_is_told_as_sqlite_has_it() -> None:
    text = tables_reference().split("\n## The catalog\n")[0]
    with sqlite3.connect(":memory:") as database:
        database.executescript(JOURNAL.read_text())
        found = [name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        assert len(found) > 15
        for name in found:
            told = re.findall(r"^\| `(\w+)` \|", section(text, f"### `{name}`"), re.M)
            assert told == [row[1] for row in database.execute(f"PRAGMA table_info({name})")]
        others = database.execute(
            "SELECT name FROM sqlite_schema WHERE type IN ('index', 'trigger') AND sql IS NOT NULL"
        )
        assert [name for (name,) in others if f"`{name}`" not in text] == []
    database.close()


def test_every_table_of_the_catalog_is_told() -> None:
    text = tables_reference().split("\n## The catalog\n")[1]
    made = [
        re.findall(r"CREATE TABLE (?:IF NOT EXISTS )?(\w+)", path.read_text())
        for path in MIGRATIONS.iterdir()
    ]
    names = {name for each in made for name in each}
    assert {"segments", "exports", "segment_copies"} <= names
    assert set(re.findall(r"^### `(\w+)`$", text, re.M)) == names
    assert "| `host_id` |" in section(text, "### `segments`")


def commands(parser: argparse.ArgumentParser, name: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, below in action.choices.items():
                yield f"{name} {word}", below
                yield from commands(below, f"{name} {word}")


def test_every_command_and_option_is_told() -> None:
    text = commands_reference()
    asked = section(text, "## Which daemon")
    known = list(commands(cli.parser(), "cctv-storaged"))
    assert len(known) > 10
    for name, parser in known:
        heading = "##" if name.count(" ") == 1 else "###"
        told = section(text, f"{heading} `{name}`")
        for action in parser._actions:
            if option := next(iter(action.option_strings), None):
                assert option == "-h" or f"`{option}" in told or f"`{option}" in asked, (name, option)
