"""Results as text for a terminal and as the page docs/reference/performance.md."""

from collections.abc import Iterator, Sequence

from scripts.benchmarks.results import PROJECT, Cells, Result, Table

PAGE = PROJECT / "docs" / "reference" / "performance.md"

_TOP = """\
# Performance

Measured by `scripts/bench`, which sets up all it needs (also the other programs) and runs everything on
loopback. `scripts/bench --write` writes this page from the results in `build/bench`, where each result also
keeps its single measurements. Figures hold for the machine named with them; ratios travel better.
"""


def as_text(result: Result) -> str:
    """For people at a terminal."""
    lines = [f"{result.benchmark}: {result.command}", *_facts(result), ""]
    for table in result.tables:
        lines += [table.title, *_aligned(table), ""]
    return "\n".join(lines)


def write_page(results: Sequence[Result]) -> None:
    """The reference page, from results that exist."""
    parts = [_TOP, *(_section(result) for result in results)]
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text("\n".join(parts))


def _section(result: Result) -> str:
    lines = [f"## {result.benchmark}", "", f"`{result.command}`", ""]
    lines += [f"- {fact}" for fact in _facts(result)]
    for paragraph in result.about:
        lines += ["", paragraph]
    for table in result.tables:
        lines += ["", f"**{table.title}**", "", *_markdown(table)]
    return "\n".join([*lines, ""])


def _facts(result: Result) -> Iterator[str]:
    yield f"date: {result.date}; load before: {result.load}"
    for name, value in result.machine:
        yield f"{name}: {value}"


def _markdown(table: Table) -> Iterator[str]:
    yield _row(table.columns)
    yield _row(("---", *("---:" for _ in table.columns[1:])))
    for row in table.rows:
        yield _row(row)


def _row(cells: Cells) -> str:
    return f"| {' | '.join(cells)} |"


def _aligned(table: Table) -> Iterator[str]:
    rows = (table.columns, *table.rows)
    widths = [max(len(row[place]) for row in rows) for place in range(len(table.columns))]
    for row in rows:
        first, *others = (
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  " + "  ".join((first, *others))
