"""The command line: arguments in, an exit code and one readable line out.

Exit codes: 0 done, 1 found something wrong, 2 bad usage or configuration, 3 cannot reach what it needs.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn
from uuid import UUID

from cctv_storaged import __version__
from cctv_storaged.cli_client import add_api_options, tell
from cctv_storaged.config import (
    ExtraCheck,
    Settings,
    effective,
    folder_faults,
    load_by_hand,
    load_settings,
    secrets_of,
)
from cctv_storaged.errors import ConfigError, StoragedError
from cctv_storaged.logs import configure_logging, log_uncaught

BAD_USAGE, OUT_OF_REACH = 2, 3

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs a command and ends the process.

    Ends it for good (os._exit) once all is closed and said: a thread that hangs in a dead server's socket
    would otherwise keep the process until its timeout.
    """
    code = _run(parser().parse_args(arguments))
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # whoever started us may have closed it
            with contextlib.suppress(OSError):
                stream.flush()
    os._exit(code)


def _run(options: argparse.Namespace) -> int:
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except ConfigError as exc:
        for fault in exc.faults:
            print(f"cctv-storaged: {fault}", file=sys.stderr)
        return BAD_USAGE
    except BrokenPipeError:
        return 0
    except OSError as exc:
        print(f"cctv-storaged: {exc}", file=sys.stderr)
        return OUT_OF_REACH
    except KeyboardInterrupt:
        return 130


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cctv-storaged", description="Storage daemon for CCTV recording hosts."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="the daemon; without a file: embedded defaults")
    run.set_defaults(command=_daemon)
    check = commands.add_parser("check-config", help="prints the settings in force, secrets starred")
    check.set_defaults(command=_check_config)
    doctor = commands.add_parser("doctor", help="looks at all that the daemon needs; says what mends it")
    doctor.add_argument("--json", action="store_true", help="what was found as JSON")
    doctor.set_defaults(command=_doctor)
    for command in (run, check, doctor):
        command.add_argument("--config", type=Path, metavar="FILE", help="YAML file with the settings")
    about = "cameras, backlog and disks of the running daemon; exit code 1 while one is not well"
    status = commands.add_parser("status", help=about)
    status.add_argument("--json", action="store_true", help="the API's answers as they are")
    add_api_options(status)
    status.set_defaults(command=_status)
    _add_verify(commands)
    rebuild = commands.add_parser("rebuild", help="a new journal from the store, the catalog and the folders")
    rebuild.add_argument("--config", type=Path, metavar="FILE", help="YAML file with the settings")
    rebuild.add_argument(
        "--replace", action="store_true", help="also where a sound journal is there; it is kept aside"
    )
    rebuild.add_argument(
        "--unlabelled",
        action="store_true",
        help="objects that do not say which host they are from are this host's",
    )
    rebuild.set_defaults(command=_rebuild)
    _add_reconcile(commands)
    _add_report(commands)
    _add_guards(commands)
    _add_hold(commands)
    _add_retention(commands)
    _add_token(commands)
    return parser


def _add_verify(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("verify", help="checks an evidence package offline, or proves a ledger")
    about = "the ZIP, or the folder it was unpacked to; of a ledger: an export, or a folder of archives"
    parser.add_argument("path", type=Path, nargs="?", metavar="PATH", help=about)
    parser.add_argument(
        "--key",
        metavar="FILE|FINGERPRINT",
        help="the host's public key or its fingerprint, from elsewhere than the package or head",
    )
    parser.add_argument("--ledger", action="store_true", help="a ledger; without PATH this host's own")
    head = "a signed head of the ledger from the store, or a folder of them; may be given again"
    parser.add_argument("--head", type=Path, action="append", default=[], metavar="FILE", help=head)
    add_api_options(parser)
    parser.set_defaults(command=_verify)


def _add_retention(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    retention = commands.add_parser("retention", help="what is deleted by its age, and what is in the way")
    what = retention.add_subparsers(required=True, metavar="WHAT")
    preview = what.add_parser("preview", help="what the rules would delete now; deletes nothing")
    preview.add_argument("--new", type=Path, metavar="FILE", help="the rules of these settings instead")
    preview.add_argument("--json", action="store_true", help="the API's answer as it is")
    confirm = what.add_parser("confirm", help="let a pass go on that was stopped because it was so much")
    confirm.add_argument("camera", nargs="?", metavar="CAMERA", help="its id, name or folder")
    confirm.add_argument("--all", action="store_true", help="all that are stopped now")
    for parser, work in (
        (what.add_parser("show", help="exit code 1 while something is in the way"), "show"),
        (preview, "preview"),
        (confirm, "confirm"),
        (
            what.add_parser(
                "locked", help="what should be gone and is kept by a lock of its store, or at a former one"
            ),
            "locked",
        ),
    ):
        add_api_options(parser)
        parser.set_defaults(command=_retention, work=work)


def _retention(options: argparse.Namespace) -> int:
    from cctv_storaged import cli_retention  # noqa: PLC0415 - only where used

    work: Callable[[argparse.Namespace], int] = getattr(cli_retention, options.work)
    return work(options)


def _add_guards(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    places = commands.add_parser("places", help="whether roots and stores are the disks that they were")
    of_places = places.add_subparsers(required=True, metavar="WHAT")
    accept = of_places.add_parser("accept", help="what is there now is the right one from now on")
    accept.add_argument("location", metavar="PATH", help="a folder, or a bucket as the list names it")
    accept.add_argument("--kind", metavar="KIND", help="root, store, exports or thumbnails")
    clock = commands.add_parser("clock", help="whether the host's clock is trusted")
    of_clock = clock.add_subparsers(required=True, metavar="WHAT")
    for parser, work in (
        (
            of_places.add_parser("list", help="each with what is wrong; exit code 1 while one is not right"),
            "list_places",
        ),
        (accept, "accept"),
        (of_clock.add_parser("show", help="and why not; exit code 1 while it is not"), "show_clock"),
        (of_clock.add_parser("confirm", help="it is right as it is"), "confirm_clock"),
    ):
        add_api_options(parser)
        parser.set_defaults(command=_guards, work=work)


def _add_hold(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    of_hold = commands.add_parser("hold", help="what nothing may delete").add_subparsers(
        required=True, metavar="WHAT"
    )
    add = of_hold.add_parser("add", help="holds footage of cameras within a span; prints the hold's id")
    add.add_argument(
        "--camera",
        action="append",
        required=True,
        metavar="CAMERA",
        help="id, name or folder; may be given again",
    )
    add.add_argument("--start", required=True, metavar="TIME", help="RFC 3339; may lie ahead")
    add.add_argument("--end", metavar="TIME", help="exclusive; without it the hold has no end")
    add.add_argument("--case", metavar="CASE", help="the case it belongs to")
    add.add_argument("--expires", metavar="TIME", help="when it ends by itself")
    add.add_argument("--review", metavar="TIME", help="when somebody should ask whether it is still needed")
    list_ = of_hold.add_parser("list", help="holds in force, newest first")
    list_.add_argument("--camera", metavar="CAMERA", help="only those on this camera: id, name or folder")
    list_.add_argument("--all", action="store_true", help="also those that were released")
    show = of_hold.add_parser("show", help="one hold, what it holds now, and whether the bucket keeps it too")
    put_off = of_hold.add_parser("put-off", help="another day for its review, or a later one for its end")
    put_off.add_argument("--review", metavar="TIME", help="RFC 3339")
    put_off.add_argument("--expires", metavar="TIME|never", help="later than it is now")
    release = of_hold.add_parser("release", help="what no other hold keeps may go again")
    for parser in (add, release):
        parser.add_argument("--reason", required=True, metavar="TEXT", help="why, for whoever asks later")
        parser.add_argument("--by", metavar="NAME", help="who; else the name of the token")
    for parser in (show, put_off, release):
        parser.add_argument("id", type=UUID, metavar="ID", help="the hold")
    works = {add: "add", list_: "list_holds", show: "show", put_off: "put_off", release: "release"}
    for parser, work in works.items():
        about = "each as the API answers it, one a line" if parser is list_ else "as the API answers it"
        parser.add_argument("--json", action="store_true", help=about)
        add_api_options(parser)
        parser.set_defaults(command=_hold, work=work)


def _hold(options: argparse.Namespace) -> int:
    from cctv_storaged import cli_hold  # noqa: PLC0415 - only where used

    work: Callable[[argparse.Namespace], int] = getattr(cli_hold, options.work)
    return work(options)


def _add_token(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    of_token = commands.add_parser("token", help="what opens the API").add_subparsers(
        required=True, metavar="WHAT"
    )
    create = of_token.add_parser("create", help="makes a token; its secret is printed, this once")
    create.add_argument("name", metavar="NAME", help="what it is for")
    scopes = ("read", "write", "export", "hold", "release", "admin")
    about = "what it allows; may be given again; admin allows everything"
    create.add_argument("--scope", action="append", required=True, choices=scopes, help=about)
    about = "it sees this camera only: id, name or folder; may be given again"
    create.add_argument("--camera", action="append", default=[], metavar="CAMERA", help=about)
    create.add_argument("--expires", metavar="TIME|90d", help="when it ends by itself: RFC 3339, or so long")
    list_ = of_token.add_parser("list", help="every token with its last use, and no secret")
    revoke = of_token.add_parser("revoke", help="it opens nothing any more, at once")
    revoke.add_argument("token", metavar="TOKEN", help="its id, or its name")
    for parser, work in ((create, "create"), (list_, "list_tokens"), (revoke, "revoke")):
        if parser is not revoke:
            parser.add_argument("--json", action="store_true", help="as the API answers it")
        add_api_options(parser)
        parser.set_defaults(command=_token, work=work)


def _token(options: argparse.Namespace) -> int:
    from cctv_storaged import cli_token  # noqa: PLC0415 - only where used

    work: Callable[[argparse.Namespace], int] = getattr(cli_token, options.work)
    return work(options)


def _guards(options: argparse.Namespace) -> int:
    from cctv_storaged import cli_places  # noqa: PLC0415 - only where used

    work: Callable[[argparse.Namespace], int] = getattr(cli_places, options.work)
    return work(options)


def _add_reconcile(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    about = "compares folders, journal, store and catalog, and can mend what differs"
    parser = commands.add_parser("reconcile", help=about)
    parser.add_argument("--apply", action="store_true", help="mend what differs; nothing is ever deleted")
    parser.add_argument(
        "--force", action="store_true", help="with --apply: although very much is gone (needs admin)"
    )
    parser.add_argument("--cancel", action="store_true", help="end the one that is under way")
    parser.add_argument("--json", action="store_true", help="print what was found as JSON")
    add_api_options(parser)
    parser.set_defaults(command=_reconcile)


def _reconcile(options: argparse.Namespace) -> int:
    from cctv_storaged import cli_reconcile  # noqa: PLC0415 - only where used

    return cli_reconcile.reconcile(options)


def _add_report(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("report", help="which cameras keep what their retention rule promises")
    parser.add_argument("--day", metavar="YYYY-MM-DD", help="what was noted on that day (UTC)")
    parser.add_argument("--start", metavar="TIME", help="gaps of the days from that moment on")
    parser.add_argument("--end", metavar="TIME", help="and before that one")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--csv", action="store_true", help="CSV (RFC 4180) for a spreadsheet")
    how.add_argument("--json", action="store_true", help="the API's answer as it is")
    add_api_options(parser)
    parser.set_defaults(command=_report)


def _report(options: argparse.Namespace) -> int:
    from cctv_storaged import cli_report  # noqa: PLC0415 - only where used

    return cli_report.report(options)


def _rebuild(options: argparse.Namespace) -> int:
    settings = _load_by_hand(options.config)
    configure_logging("warning", settings.log_format, secrets_of(settings))
    from cctv_storaged import cli_rebuild  # noqa: PLC0415 - only where used

    try:
        return cli_rebuild.rebuild(options, settings)
    except ConfigError:
        raise
    except StoragedError as exc:
        print(f"cctv-storaged: {exc}", file=sys.stderr)
        return OUT_OF_REACH


def _verify(options: argparse.Namespace) -> int:
    from cctv_storaged import cli_ledger, cli_verify  # noqa: PLC0415 - only where used

    if options.ledger:
        return cli_ledger.verify(options)
    if options.path is None:
        print("cctv-storaged verify: name the package, or --ledger", file=sys.stderr)
        return BAD_USAGE
    if options.head:
        print("cctv-storaged verify: --head is of a ledger: give --ledger too", file=sys.stderr)
        return BAD_USAGE
    return cli_verify.verify(options)


def _load(path: Path | None) -> Settings:
    return load_settings(path, os.environ, _checks())


def _load_by_hand(path: Path | None) -> Settings:
    return load_by_hand(path, os.environ, tell, _checks())


def _checks() -> Sequence[ExtraCheck]:
    from cctv_storaged import wiring  # noqa: PLC0415 - a command that fails early stays quick

    return (
        wiring.layout_faults,
        folder_faults,
        wiring.data_dir_faults,
        wiring.certificate_faults,
        wiring.vms_faults,
    )


def _check_config(options: argparse.Namespace) -> int:
    settings = _load_by_hand(options.config)
    print(effective(settings), end="", flush=True)
    return 0


def _status(options: argparse.Namespace) -> int:
    from cctv_storaged import cli_status  # noqa: PLC0415 - only where used

    return cli_status.status(options)


def _doctor(options: argparse.Namespace) -> int:
    settings = _load_by_hand(options.config)
    configure_logging("critical", settings.log_format, secrets_of(settings))
    from cctv_storaged import cli_doctor  # noqa: PLC0415 - only where used

    return cli_doctor.doctor(options, settings)


def _daemon(options: argparse.Namespace) -> int:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # would end us; nothing is read yet that could be reloaded
    settings = _load(options.config)
    configure_logging(settings.log_level, settings.log_format, secrets_of(settings))
    log_uncaught()
    from cctv_storaged import daemon  # noqa: PLC0415 - after logging: imports of clients may log

    try:
        asyncio.run(daemon.run(settings, lambda: _load(options.config), options.config))
    except (StoragedError, OSError, BaseExceptionGroup) as exc:
        return _told(exc)
    return 0


def _told(error: BaseException) -> int:
    """Says, once, what ended the daemon; a task group wraps it, and cancelled others come with it."""
    causes = _leaves(error)
    for cause in causes:
        known = isinstance(cause, StoragedError | OSError)
        log.critical("%s", cause, exc_info=None if known else cause)
    return BAD_USAGE if any(isinstance(cause, ConfigError) for cause in causes) else OUT_OF_REACH


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]


if __name__ == "__main__":
    main()
