"""The shape of the package: which folder may import which, and where each library is met."""

import ast
import re
import subprocess
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "policyd"

# Which folder may import which, beside itself; "core" are the files of the package that are in no folder.
MAY_IMPORT = {
    "cli": {"admin", "daemon", "doctor", "replica", "report", "setup", "store", "transfer", "web", "core"},
    "daemon": {"store.lookup", "store.connection", "core"},
    "replica": {"store", "core"},
    "web": {"admin", "replica", "store.connection", "store.database", "store.lookup", "store.queries", "core"},
    "report": {"admin", "core"},
    "doctor": {"admin", "report", "store", "transfer", "core"},
    "setup": {"doctor", "admin", "store", "transfer", "core"},
    "admin": {"store", "transfer", "core"},
    "store": {"core"},
    "transfer": {"core"},
    "core": set(),
}
# The one wiring starts what the other folders have.
MAY_IMPORT_TOO = {"policyd.daemon.run": {"replica", "web"}}
# What each library is for, and so where alone it is met.
LIBRARIES = {
    "click": r"policyd\.cli(\..*)?",
    "rich": r"policyd\.cli\.(progress|top)",
    "twisted": r"policyd\.(daemon|web)\..*",
    "jinja2": r"policyd\.web\..*",
    "prometheus_client": r"policyd\.web\..*",
    "sqlalchemy": r"policyd\.store\..*",
    "alembic": r"policyd\.store\.(upgrade|migrations\..*)",
    # Which engine it is, know only these; all else speaks of tables and statements.
    "sqlite3": (
        r"policyd\.store\."
        r"(database|lookup|names|backup|check|check_server|wal|replay|restore|upgrade|copying|replica|working_copy)"
    ),
    "psycopg": r"policyd\.store\.postgresql",
    "idna": r"policyd\.address",
    "anyascii": r"policyd\.reply",
}


def module_name(file: Path) -> str:
    """The name under which *file* is imported."""
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = {module_name(file): file for file in sorted(PACKAGE.rglob("*.py"))}


def folder_of(module: str) -> str:
    """The folder of the package that *module* is in; `__main__` is the command line's."""
    name = module.split(".")[1:2]
    if name == ["__main__"]:
        return "cli"
    return name[0] if name and (PACKAGE / name[0]).is_dir() else "core"


@cache
def imports(module: str) -> set[str]:
    """Every module that *module* imports, inside functions and for types too."""
    found = set()
    for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import"
            for name in node.names:
                full = f"{node.module}.{name.name}"
                found.add(full if full in FILES else str(node.module))
    return found


def test_modules_import_only_what_their_folder_may() -> None:
    """So that what is pure stays pure, and each folder can be read without those that use it."""
    for module in FILES:
        folder = folder_of(module)
        ours = {name for name in imports(module) if name in FILES}
        may = MAY_IMPORT[folder] | {folder} | MAY_IMPORT_TOO.get(module, set())
        others = {each for each in ours if folder_of(each) not in may and each.removeprefix("policyd.") not in may}
        assert others == set(), module


def test_no_module_imports_itself_by_a_detour() -> None:
    """In a circle no file can be understood, tested or taken away before the others."""
    graph = {module: {name for name in imports(module) if name in FILES and name != "policyd"} for module in FILES}
    assert len([*TopologicalSorter(graph).static_order()]) >= len(FILES) - 1  # raises CycleError, which names them


def test_libraries_are_met_only_where_they_belong() -> None:
    """A library that is used in one place can be replaced there, and is loaded only where it is needed."""
    for module in FILES:
        libraries = {name.partition(".")[0] for name in imports(module)} & set(LIBRARIES)
        assert {library for library in libraries if not re.fullmatch(LIBRARIES[library], module)} == set(), module


def test_first_lines_say_what_the_files_are() -> None:
    """A stranger knows from it whether to read on."""
    for module, file in FILES.items():
        first = file.read_text(encoding="utf-8").partition("\n")[0]
        assert re.match(r'"""\S.{10,}', first), f"{module}: {first}"


def published_texts() -> list[Path]:
    """Every text file that a clone gets, or would get when it is added."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def test_nothing_refers_to_what_a_stranger_does_not_have() -> None:
    """No paths of somebody's machine, no numbers in somebody's tracker, no documents that are not here."""
    private_path = re.compile(r"(?<![\w.$}])/(?:home|work|Users|root)/\w+")
    number = re.compile(r"\b(?:issue|bug|pull request)s? #?\d+", re.IGNORECASE)
    document = re.compile(r"\b[A-Z]{4,}\.(?:md|rst|txt)\b")
    found = []
    for file in published_texts():
        for line_number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            missing = [name for name in document.findall(line) if not any(ROOT.rglob(name))]
            if private_path.search(line) or number.search(line) or missing:
                found.append(f"{file.relative_to(ROOT)}:{line_number}: {line.strip()}")
    assert found == []
