"""Results: made by one benchmark, printed, kept as JSON, and read again for the page in the reference."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
FOLDER = PROJECT / "build" / "bench"

Cells = tuple[str, ...]
Sample = Mapping[str, str | float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of texts; the first column names the row, the others are figures."""

    title: str
    columns: Cells
    rows: tuple[Cells, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One run of one benchmark."""

    benchmark: str
    date: str  # ISO 8601, UTC
    command: str
    load: str  # of the machine just before the run
    machine: tuple[tuple[str, str], ...]
    about: tuple[str, ...]  # what is measured and how: a paragraph each
    tables: tuple[Table, ...]
    samples: tuple[Sample, ...]  # every single measurement, for whoever doubts the medians


def keep(result: Result) -> Path:
    """Writes the result to build/bench, in place of the one before."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{result.benchmark}.json"
    path.write_text(json.dumps(asdict(result), indent=1) + "\n")
    return path


def kept(benchmark: str) -> Result | None:
    """The last result of a benchmark; None if there is none."""
    path = FOLDER / f"{benchmark}.json"
    if not path.exists():
        return None
    raw = json.loads(path.read_text())
    return Result(
        benchmark=raw["benchmark"],
        date=raw["date"],
        command=raw["command"],
        load=raw["load"],
        machine=tuple((name, value) for name, value in raw["machine"]),
        about=tuple(raw["about"]),
        tables=tuple(
            Table(
                title=table["title"],
                columns=tuple(table["columns"]),
                rows=tuple(tuple(row) for row in table["rows"]),
            )
            for table in raw["tables"]
        ),
        samples=tuple(raw["samples"]),
    )


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` (0 to 1) of the values do not exceed: nearest rank, no interpolation."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-len(ordered) * share // 1).__int__() - 1))]


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.2f}"


def latency_row(name: str, seconds: Sequence[float], *more: str) -> Cells:
    """Name, p50, p99 and the largest in milliseconds, how many there were, and what else."""
    return (
        name,
        milliseconds(percentile(seconds, 0.50)),
        milliseconds(percentile(seconds, 0.99)),
        milliseconds(max(seconds)),
        str(len(seconds)),
        *more,
    )


LATENCY_COLUMNS = ("", "p50 ms", "p99 ms", "max ms", "count")
