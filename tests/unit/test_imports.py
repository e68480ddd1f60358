"""Imports run one way: hall → rooms (which do not import each other) → services → api → daemon → cli."""

import ast
import graphlib
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path

import pytest

import cctv_storaged

PACKAGE = "cctv_storaged"
HALL = frozenset(
    {"model", "errors", "clock", "hostclock", "pacing", "config", "metrics", "systemd", "logs", "mpegts"}
)
ROOMS = frozenset({"recorder", "journal", "backends", "catalog", "media"})
COMPOSITION = frozenset({"daemon", "assembly", "foundation", "wiring"})  # build and connect all that is below
LAYERS = ("hall", "room", "service", "api", "daemon", "cli")


@dataclass(frozen=True, slots=True, order=True)
class Arrow:
    """One module imports another; both as dotted names below the package."""

    importer: str
    imported: str

    def __str__(self) -> str:
        return f"{self.importer} ({layer_of(self.importer)}) → {self.imported} ({layer_of(self.imported)})"


def layer_of(module: str) -> str:
    top = room_of(module)
    if top in HALL:
        return "hall"
    if top in ROOMS:
        return "room"
    if top in {"api", "onvif", "web"}:
        return "api"
    if top in COMPOSITION:
        return "daemon"
    return "cli" if top in {"cli", "__main__"} or top.startswith("cli_") else "service"


def room_of(module: str) -> str:
    return module.partition(".")[0]


def runs_back(arrow: Arrow) -> bool:
    importer, imported = LAYERS.index(layer_of(arrow.importer)), LAYERS.index(layer_of(arrow.imported))
    if layer_of(arrow.importer) == layer_of(arrow.imported) == "room":
        return room_of(arrow.importer) != room_of(arrow.imported)
    return imported > importer


def arrows_in(package: Path) -> set[Arrow]:
    """Every import of one own module by another, wherever in the file it stands."""
    sources = {module_name(package, source): source for source in package.rglob("*.py")}
    found = set()
    for name, source in sources.items():
        for target in imports_of(ast.parse(source.read_text(), source), here=name, source=source):
            imported = deepest_module(target, sources.keys())
            if imported not in {"", name}:  # "" is the package itself: it holds nothing but the version
                found.add(Arrow(name, imported))
    return found


def module_name(package: Path, source: Path) -> str:
    parts = source.relative_to(package).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(tree: ast.Module, *, here: str, source: Path) -> Iterator[str]:
    """Dotted names below the package that the module asks for, without those for type checkers only."""
    for node in run_time_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (below(alias.name) for alias in node.names if is_own(alias.name))
        elif isinstance(node, ast.ImportFrom):
            base = absolute(node, here=here, is_package=source.name == "__init__.py")
            if is_own(base):
                yield from (below(f"{base}.{alias.name}") for alias in node.names)


def run_time_nodes(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for branch in child.orelse:
                yield branch
                yield from run_time_nodes(branch)
            continue
        yield child
        yield from run_time_nodes(child)


def absolute(node: ast.ImportFrom, *, here: str, is_package: bool) -> str:
    if node.level == 0:
        return node.module or ""
    parts = [PACKAGE, *filter(None, here.split("."))]
    kept = parts[: len(parts) - node.level + (1 if is_package else 0)]
    return ".".join([*kept, *filter(None, [node.module])])


def is_own(name: str) -> bool:
    return name == PACKAGE or name.startswith(f"{PACKAGE}.")


def below(name: str) -> str:
    return name.removeprefix(PACKAGE).removeprefix(".")


def deepest_module(name: str, modules: Set[str]) -> str:
    """`journal.records.Row` names a thing in the module `journal.records`."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name


def cycle_in(arrows: set[Arrow]) -> list[str]:
    graph: dict[str, set[str]] = {}
    for arrow in arrows:
        graph.setdefault(arrow.importer, set()).add(arrow.imported)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as exc:
        return [str(module) for module in exc.args[1]]
    return []


def test_no_arrow_runs_back() -> None:
    back = sorted(arrow for arrow in arrows_in(Path(cctv_storaged.__file__).parent) if runs_back(arrow))
    assert not back, "imports that run back:\n" + "\n".join(map(str, back))


def test_no_module_imports_itself_by_a_detour() -> None:
    cycle = cycle_in(arrows_in(Path(cctv_storaged.__file__).parent))
    assert not cycle, "a cycle of imports: " + " ← ".join(cycle)


def test_the_sources_are_really_read() -> None:
    arrows = arrows_in(Path(cctv_storaged.__file__).parent)
    assert Arrow("model", "clock") in arrows
    assert Arrow("backends.base", "pacing") in arrows


# The check itself, tried on packages made for it.


def package_of(folder: Path, sources: dict[str, str]) -> Path:
    for name, text in sources.items():
        source = folder / name
        source.parent.mkdir(parents=True, exist_ok=True)
        (source.parent / "__init__.py").touch()
        source.write_text(text)
    return folder


@pytest.mark.parametrize(
    ("importer", "statement", "told"),
    [
        ("model.py", "from cctv_storaged.journal import journal", "model (hall) → journal.journal (room)"),
        (
            "journal/journal.py",
            "import cctv_storaged.backends.s3",
            "journal.journal (room) → backends.s3 (room)",
        ),
        ("backends/s3.py", "from cctv_storaged import delivery", "backends.s3 (room) → delivery (service)"),
        ("delivery.py", "from cctv_storaged.api.app import build", "delivery (service) → api.app (api)"),
        ("api/app.py", "from ..daemon import run", "api.app (api) → daemon (daemon)"),
        ("daemon.py", "def late():\n    from cctv_storaged.cli import main", "daemon (daemon) → cli (cli)"),
    ],
)
def test_an_arrow_that_runs_back_is_shown(tmp_path: Path, importer: str, statement: str, told: str) -> None:
    sources = {
        "model.py": "",
        "journal/journal.py": "",
        "backends/s3.py": "",
        "delivery.py": "",
        "api/app.py": "",
        "daemon.py": "",
        "cli.py": "",
    }
    arrows = arrows_in(package_of(tmp_path, sources | {importer: statement}))
    assert [str(arrow) for arrow in arrows if runs_back(arrow)] == [told]


def test_the_right_way_and_a_type_checkers_import_are_not_shown(tmp_path: Path) -> None:
    package = package_of(
        tmp_path,
        {
            "model.py": "import typing\nif typing.TYPE_CHECKING:\n    from cctv_storaged import daemon",
            "journal/journal.py": "from cctv_storaged import __version__, model",
            "journal/rows.py": "from .journal import Journal",
            "delivery.py": "from cctv_storaged.journal.rows import Row",
            "retention.py": "import cctv_storaged.delivery",
            "daemon.py": "from cctv_storaged import delivery, journal, retention",
        },
    )
    arrows = arrows_in(package)
    assert {str(arrow) for arrow in arrows} == {
        "journal.journal (room) → model (hall)",
        "journal.rows (room) → journal.journal (room)",
        "delivery (service) → journal.rows (room)",
        "retention (service) → delivery (service)",
        "daemon (daemon) → delivery (service)",
        "daemon (daemon) → journal (room)",
        "daemon (daemon) → retention (service)",
    }
    assert not any(map(runs_back, arrows))
    assert cycle_in(arrows) == []


def test_a_cycle_is_shown(tmp_path: Path) -> None:
    package = package_of(
        tmp_path,
        {
            "ingest.py": "from cctv_storaged import prune",
            "prune.py": "from cctv_storaged.delivery import Delivery",
            "delivery.py": "def late():\n    import cctv_storaged.ingest",
        },
    )
    assert set(cycle_in(arrows_in(package))) == {"ingest", "prune", "delivery"}
