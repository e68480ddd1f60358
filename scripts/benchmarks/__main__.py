"""`scripts/bench [NAME …]`: measures, prints, keeps the results, and writes the reference page if asked."""

import argparse
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NoReturn

from scripts.benchmarks import api, idle, ingest, media, reconcile, retention, scan, upload
from scripts.benchmarks.machine import load, machine_facts
from scripts.benchmarks.report import as_text, write_page
from scripts.benchmarks.results import Result, Sample, Table, keep, kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How much is measured."""

    quick: bool
    repetitions: int
    count: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a benchmark found."""

    about: tuple[str, ...]
    tables: tuple[Table, ...]
    samples: tuple[Sample, ...]
    versions: tuple[tuple[str, str], ...] = ()


def _upload(options: Options) -> Outcome:
    measured = upload.measure(upload.sets(quick=options.quick), options.repetitions, _say)
    return Outcome(
        about=upload.ABOUT,
        tables=upload.tables(measured),
        samples=upload.samples(measured),
        versions=upload.versions(),
    )


def _ingest(options: Options) -> Outcome:
    measured = ingest.measure(10 if options.quick else 30, options.repetitions, _say)
    return Outcome(about=ingest.ABOUT, tables=ingest.tables(measured), samples=ingest.samples(measured))


def _scan(options: Options) -> Outcome:
    count = options.count or (10_000 if options.quick else 100_000)
    measured = scan.measure(count, options.repetitions, _say)
    return Outcome(about=scan.ABOUT, tables=scan.tables(measured), samples=scan.samples(measured))


def _api(options: Options) -> Outcome:
    count = options.count or (1_000_000 if options.quick else 10_000_000)
    measured = api.measure(count, 300 if options.quick else 2000, _say)
    return Outcome(about=api.ABOUT, tables=api.tables(measured), samples=api.samples(measured))


def _media(options: Options) -> Outcome:
    measured = media.measure(media.QUICK if options.quick else media.WHOLE, options.repetitions, _say)
    return Outcome(
        about=media.ABOUT,
        tables=media.tables(measured),
        samples=media.samples(measured),
        versions=media.versions(),
    )


def _retention(options: Options) -> Outcome:
    measured = retention.measure(options.count or (1_000_000 if options.quick else 10_000_000), _say)
    return Outcome(
        about=retention.ABOUT, tables=retention.tables(measured), samples=retention.samples(measured)
    )


def _idle(options: Options) -> Outcome:
    measured = idle.measure(20 if options.quick else 60, options.repetitions, _say)
    return Outcome(about=idle.ABOUT, tables=idle.tables(measured), samples=idle.samples(measured))


def _reconcile(options: Options) -> Outcome:
    measured = reconcile.measure(options.count or (20_000 if options.quick else 1_000_000), _say)
    return Outcome(
        about=reconcile.ABOUT,
        tables=reconcile.tables(measured),
        samples=reconcile.samples(measured),
        versions=reconcile.versions(),
    )


BENCHMARKS: dict[str, Callable[[Options], Outcome]] = {
    "upload": _upload,
    "ingest": _ingest,
    "scan": _scan,
    "api": _api,
    "media": _media,
    "retention": _retention,
    "idle": _idle,
    "reconcile": _reconcile,
}


def main(arguments: Sequence[str]) -> None:
    """Runs what is asked for; without a name everything, with `--write` alone nothing."""
    signal.signal(signal.SIGTERM, _end)  # so that whatever was started is stopped
    options = _parser().parse_args(arguments)
    names = options.name or ([] if options.write else list(BENCHMARKS))
    how = Options(
        quick=options.quick,
        repetitions=options.repetitions or (1 if options.quick else 3),
        count=options.count,
    )
    for name in names:
        result = _run(name, how, shlex.join(["scripts/bench", name, *_asked(options)]))
        print(as_text(result), flush=True)
        print(f"kept in {keep(result)}\n", flush=True)
    if options.write:
        write_page([found for name in BENCHMARKS if (found := kept(name)) is not None])


def _run(name: str, options: Options, command: str) -> Result:
    load_before, now = load(), datetime.now(UTC)
    outcome = BENCHMARKS[name](options)
    return Result(
        benchmark=name,
        date=f"{now:%Y-%m-%dT%H:%MZ}",
        command=command,
        load=load_before,
        machine=(*machine_facts(), *outcome.versions),
        about=outcome.about,
        tables=outcome.tables,
        samples=outcome.samples,
    )


def _asked(options: argparse.Namespace) -> list[str]:
    """The arguments that change what is measured."""
    asked = ["--quick"] if options.quick else []
    asked += ["--repetitions", str(options.repetitions)] if options.repetitions else []
    return asked + (["--count", str(options.count)] if options.count else [])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measures the daemon on this machine.")
    every = ", ".join(BENCHMARKS)
    parser.add_argument("name", nargs="*", type=_known, help=f"which of {every}; without a name all")
    parser.add_argument("--quick", action="store_true", help="one repetition and a tenth of the work")
    parser.add_argument("--repetitions", type=int, metavar="N", help="how often each is measured (3)")
    parser.add_argument(
        "--count",
        type=int,
        metavar="N",
        help="known files (scan), rows (api, retention), objects (reconcile)",
    )
    parser.add_argument(
        "--write", action="store_true", help="write docs/reference/performance.md from the kept results"
    )
    return parser


def _known(name: str) -> str:
    if name not in BENCHMARKS:
        raise argparse.ArgumentTypeError(f"there is no {name!r}; there are {', '.join(BENCHMARKS)}")
    return name


def _say(text: str) -> None:
    """Progress, for whoever waits."""
    print(f"  {text}", file=sys.stderr, flush=True)


def _end(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    main(sys.argv[1:])
