"""Every command that asks a daemon says in one line that none is there; bars are for terminals alone."""

import argparse
import contextlib
import io
import os
import pty
import sys
import termios
from collections.abc import Iterator

import pytest

from cctv_storaged import cli
from cctv_storaged.cli_progress import Progress
from tests.services.ports import kept_port

ARGUMENTS = {
    "CAMERA": "gate",
    "TIME": "2026-01-01T00:00:00Z",
    "TEXT": "why",
    "ID": "00000000-0000-0000-0000-000000000001",
    "FILE": "file",
    "PATH": "/recordings",
}
"""What is given where a command needs something."""
ALSO = {
    "verify": ["--ledger"],
    "retention confirm": ["--all"],
    "hold put-off": ["--review", ARGUMENTS["TIME"]],
}


def leaves(parser: argparse.ArgumentParser, name: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    below = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    if not below:
        yield name, parser
    for action in below:
        for word, inner in action.choices.items():
            yield from leaves(inner, f"{name} {word}".strip())


ASKING = [
    (name, parser)
    for name, parser in leaves(cli.parser())
    if any("--url" in action.option_strings for action in parser._actions)
]


def needed(parser: argparse.ArgumentParser) -> Iterator[str]:
    """What it cannot do without."""
    for action in parser._actions:
        if action.required:
            yield from action.option_strings[:1]
            given = action.choices or [ARGUMENTS.get(str(action.metavar), "something")]
            yield next(iter(given))


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address at which nobody listens."""
    with kept_port() as port:
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize(("name", "parser"), ASKING, ids=[name for name, _ in ASKING])
def test_without_a_daemon_a_command_says_so_in_one_line(
    name: str, parser: argparse.ArgumentParser, nobody: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*name.split(), *needed(parser), *ALSO.get(name, ()), "--url", nobody]
    assert cli._run(cli.parser().parse_args(words)) == cli.OUT_OF_REACH
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1, said.err
    assert "nobody listens there; does the daemon run?" in said.err


def test_the_commands_that_ask_a_daemon_are_known() -> None:
    names = {name for name, _ in ASKING}
    assert {"status", "reconcile", "report", "verify", "hold add", "places list", "clock show"} <= names


def shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> str:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    with open(theirs, "w", encoding="utf-8") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with Progress("checking", unit="B") as progress:
            progress.at(1_000_000, 4_000_000)
            progress.at(2_000_000, 4_000_000, what="comparing")
    return read_out(ours)


def read_out(terminal: int) -> str:
    """All that was written to a terminal whose other side is closed: the kernel hands it over in parts."""
    shown = b""
    with contextlib.suppress(OSError):  # EIO: that was all
        while part := os.read(terminal, 100_000):
            shown += part
    os.close(terminal)
    return shown.decode()


@pytest.mark.parametrize("columns", [100, 0], ids=["a window", "a console that tells no width"])
def test_a_bar_is_shown_on_a_terminal_and_taken_away(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    shown = shown_on_a_terminal(monkeypatch, columns)
    assert "checking" in shown
    assert "4.00M" in shown
    assert shown.endswith("\r")
    assert shown.split("\r")[-2].strip() == ""


def test_nothing_is_shown_on_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = io.StringIO()
    monkeypatch.setattr(sys, "stderr", kept)
    with Progress("checking", unit="B") as progress:
        progress.at(1, 2)
    assert kept.getvalue() == ""
