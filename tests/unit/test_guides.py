"""What the guides tell to type is there: commands with options, requests, settings, links to headings."""

import argparse
import re
from pathlib import Path

import pytest
import yaml
from prometheus_client import generate_latest

from cctv_storaged import cli
from cctv_storaged.api.app import ROUTES
from cctv_storaged.api.routing import PREFIX
from cctv_storaged.config.settings import Settings
from cctv_storaged.metrics import Metrics
from tests.unit.config.given import load

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
GUIDES = sorted((ROOT / "docs" / "guide").glob("*.md"))
NO_COMMAND = {"ledger 1"}  # the text that a ledger's chain begins with
MADE = {"rest.md", "commands.md"}  # from the code itself
ANCHOR = re.compile(r"\]\(([^)#:]*)#([^)]+)\)")
COMMAND = re.compile(r"(?:^|&& |; |-- )(?:\.venv/bin/)?cctv-storaged ([a-z][^#|>;&\n]*)", re.M)
REQUEST = re.compile(r"\b(GET|POST|PATCH|DELETE) (/[\w/{}.-]+)")
SECRETS = {"MINIO_SECRET_KEY": "canary", "POSTGRES_PASSWORD": "canary", "MILESTONE_PASSWORD": "canary"}
NEEDED = {"MINIO_SECRET_KEY": "minio:", "POSTGRES_PASSWORD": "postgres:", "MILESTONE_PASSWORD": "milestone:"}


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def code_of(text: str) -> str:
    """What stands in blocks and between backticks, a line each."""
    blocks = re.findall(r"```\w*\n(.*?)```", text, re.S)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.S))
    return "\n".join([*blocks, *spans]).replace("\\\n", " ")


def parser_of(words: list[str]) -> tuple[argparse.ArgumentParser, list[str]]:
    """The innermost command that the words name, and what follows."""
    parser = cli.parser()
    while True:
        below = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
        if not below or not words or words[0].startswith("-"):
            return parser, words
        assert words[0] in below[0].choices, f"no command {words[0]}"
        parser, words = below[0].choices[words[0]], words[1:]


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in MADE], ids=named)
def test_every_command_that_is_told_is_there_with_its_options(page: Path) -> None:
    for told in COMMAND.findall(code_of(page.read_text())):
        parser, rest = parser_of([] if told in NO_COMMAND else re.sub(r"[\[\]]", "", told).split())
        known = {option for action in parser._actions for option in action.option_strings}
        assert {word for word in rest if word.startswith("--")} <= known, f"cctv-storaged {told}"


def shape(path: str) -> str:
    """An id is an id, whatever it is called."""
    path = re.sub(r"\{\w+\}|\b[A-Z][A-Z_]*\b", "{}", path.removeprefix(PREFIX))
    return path.rstrip(".").rstrip("/")


KNOWN = {(route.method, shape(route.path)) for route in ROUTES}


@pytest.mark.parametrize("page", GUIDES, ids=named)
def test_every_request_that_is_told_is_a_route(page: Path) -> None:
    told = {(method, shape(path)) for method, path in REQUEST.findall(code_of(page.read_text()))}
    assert told - KNOWN == set()


@pytest.mark.parametrize("page", GUIDES, ids=named)
def test_every_metric_that_is_told_is_exposed(page: Path) -> None:
    exposed = generate_latest(Metrics().registry).decode()
    told = set(re.findall(r"\b(storage_[a-z_]+[a-z])\b", code_of(page.read_text())))
    columns = (ROOT / "docs" / "reference" / "tables.md").read_text()
    assert [name for name in told if f"# TYPE {name} " not in exposed and f"`{name}`" not in columns] == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_to_a_heading_leads_to_one(page: Path) -> None:
    for target, anchor in ANCHOR.findall(page.read_text()):
        text = (page.parent / target if target else page).resolve().read_text()
        headings = re.findall(r"^#+ +(.+?) *$", text, re.M)
        assert anchor in {anchor_of(heading) for heading in headings}, f"{target}#{anchor}"


def anchor_of(heading: str) -> str:
    """As GitHub and its like make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", GUIDES, ids=named)
def test_the_settings_in_the_guides_are_accepted(page: Path, tmp_path: Path) -> None:
    for block in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.S):
        if not set(yaml.safe_load(block)) <= set(Settings.model_fields):
            continue  # another program's
        needed = {name: SECRETS[name] for name, section in NEEDED.items() if section in block}
        load(tmp_path, without_files(block), needed)


def without_files(block: str) -> str:
    """Files that only the reader has are not there to be read."""
    return re.sub(r"^ *(password_file|tls_cert|tls_key|client_ca): .*\n", "", block, flags=re.M)


def test_the_map_of_documents_leads_to_every_page() -> None:
    text = (ROOT / "docs" / "README.md").read_text()
    missing = [named(page) for page in PAGES[1:] if f"({page.relative_to(ROOT / 'docs')})" not in text]
    assert [page for page in missing if page != "docs/README.md"] == []
