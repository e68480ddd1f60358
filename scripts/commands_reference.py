"""Writes docs/reference/commands.md from the parser and the commands' own words on their exit codes.

Run with the virtual environment's Python.
"""

import argparse
import importlib.util
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from cctv_storaged import cli
from cctv_storaged.cli_client import add_api_options

TARGET = Path(__file__).parent.parent / "docs" / "reference" / "commands.md"
NAME = "cctv-storaged"
CODES = re.compile(r"Exit codes: (.+?\.)(?=\n\n|\s*\Z)", re.S)
_NO_ROW = (argparse._HelpAction, argparse._SubParsersAction)
MODULES = {"places": "cli_places", "clock": "cli_places"}
"""Where a command's module is not named as the command is."""

_INTRODUCTION = f"""\
# Commands

<!-- Made from src/cctv_storaged/cli.py and the modules cli_*.py by scripts/commands_reference.py. -->

`{NAME} COMMAND --help` says the same, and so does `man {NAME}` where the package is installed. What a command
found goes to stdout, complaints in one line each to stderr; how far a long one is shows on a terminal only.
Arguments marked * are needed.

## Which daemon

Commands that ask a running daemon have these options besides their own:

{{options}}

Without `--config` no file is read, nor is `/etc/cctv-storaged/config.yaml`: what counts are the environment's
variables and the defaults. That is so for every command that has the option.

## Exit codes

{{codes}} 130 is Ctrl-C. Where a command says more of its own, it does so below.

While the daemon does not run, each command that asks it says so in one line and ends with 3. `check-config`,
`doctor`, `rebuild` and `verify` of a package or of archives need none.
"""


def commands_reference() -> str:
    """The whole document, with a newline at its end."""
    codes = _codes(cli.__doc__)
    assert codes is not None
    parser = cli.parser()
    lines = [_INTRODUCTION.format(codes=codes, options="\n".join(_table(_api_options())))]
    for name, about, command in _subcommands(parser):
        lines += _command(f"{NAME} {name}", about, command, "##")
        if told := _codes(_module(name)):
            lines += [f"Exit codes: {told}", ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def _command(name: str, about: str, parser: argparse.ArgumentParser, heading: str) -> Iterator[str]:
    yield f"{heading} `{name}`"
    yield ""
    if about:
        yield f"{about[0].upper()}{about[1:]}."
        yield ""
    rows = [each for each in parser._actions if not isinstance(each, _NO_ROW)]
    asked = {each.dest for each in _api_options()}
    asks = asked <= {each.dest for each in rows}
    own = [each for each in rows if not (asks and each.dest in asked)]
    if own:
        yield from _table(own)
        yield ""
    if asks:
        yield "Asks a daemon: see [which daemon](#which-daemon)."
        yield ""
    for word, told, below in _subcommands(parser):
        yield from _command(f"{name} {word}", told, below, "###")


def _api_options() -> list[argparse.Action]:
    parser = argparse.ArgumentParser(add_help=False)
    add_api_options(parser)
    return parser._actions


def _table(actions: Iterable[argparse.Action]) -> Iterator[str]:
    yield "| argument | means |"
    yield "|---|---|"
    for action in actions:
        yield f"| {_usage(action)} | {_cell(action.help or '')} |"


def _usage(action: argparse.Action) -> str:
    """How it is written: `--key FILE`, or `PATH`."""
    shown = action.metavar or action.dest.upper()
    value = "" if action.nargs == 0 else f" {_cell(str(shown))}"
    if not action.option_strings:
        return f"`{value.strip()}`" + ("" if action.nargs == "?" else " *")
    return f"`{', '.join(action.option_strings)}{value}`" + (" *" if action.required else "")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _subcommands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps: Sequence[argparse.Action] = action._choices_actions
            about = {each.dest: each.help or "" for each in helps}
            for name, below in action.choices.items():
                yield name, about.get(name, ""), below


def _module(command: str) -> str | None:
    """The words at the head of the module that does the command's work; None for those of cli.py itself."""
    name = f"cctv_storaged.{MODULES.get(command, f'cli_{command}')}"
    return importlib.import_module(name).__doc__ if importlib.util.find_spec(name) else None


def _codes(words: str | None) -> str | None:
    found = CODES.search(words or "")
    return None if found is None else " ".join(found[1].split())


if __name__ == "__main__":
    TARGET.write_text(commands_reference(), encoding="utf-8")
    print(f"wrote {TARGET}")
