"""The shape of the package: who may import whom, and where each library is met."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "policyd"

# From the top down, as in CONTRIBUTING.rst: a file imports only from the lines below its own.
LAYERS = [
    ["policyd.__main__"],
    ["policyd.cli"],
    [
        *("policyd.cli.serve", "policyd.cli.check", "policyd.cli.domain", "policyd.cli.mailbox"),
        *("policyd.cli.address", "policyd.cli.sender", "policyd.cli.history", "policyd.cli.database"),
        *("policyd.cli.import_", "policyd.cli.export", "policyd.cli.undo"),
    ],
    ["policyd.cli.progress"],
    ["policyd.cli.command"],
    ["policyd.cli.output"],
    ["policyd.cli.types", "policyd.cli.terminal"],
    ["policyd.workers"],
    ["policyd.worker"],
    ["policyd.reactor"],
    ["policyd.service"],
    ["policyd.acceptor"],
    ["policyd.limits", "policyd.listening"],
    ["policyd.server"],
    ["policyd.protocol"],
    ["policyd.admin"],
    ["policyd.admin.importing", "policyd.admin.exporting", "policyd.admin.upkeep"],
    ["policyd.admin.session", "policyd.admin.rejects"],
    ["policyd.audit"],
    ["policyd.backlog"],
    ["policyd.syslog"],
    ["policyd.decide"],
    ["policyd.store"],
    ["policyd.store.restore"],
    ["policyd.store.backup"],
    ["policyd.store.check"],
    ["policyd.store.replay"],
    ["policyd.store.replace", "policyd.store.undo"],
    ["policyd.store.bulk"],
    ["policyd.store.apply"],
    ["policyd.store.edit"],
    ["policyd.store.writer"],
    ["policyd.store.journal"],
    ["policyd.store.lookup"],
    ["policyd.store.queries"],
    ["policyd.store.database"],
    ["policyd.store.log"],
    ["policyd.store.schema"],
    ["policyd.transfer"],
    ["policyd.transfer.guess"],
    ["policyd.transfer.exchange", "policyd.transfer.ldif", "policyd.transfer.postfix"],
    ["policyd.transfer.table", "policyd.transfer.jsonl"],
    ["policyd.transfer.exchange_row", "policyd.transfer.exchange_writer"],
    ["policyd.transfer.exchange_header"],
    ["policyd.transfer.exchange_cells"],
    ["policyd.transfer.ldif_people", "policyd.transfer.ldif_write"],
    ["policyd.transfer.ldif_entries"],
    ["policyd.transfer.postfix_export"],
    ["policyd.transfer.plain"],
    ["policyd.transfer.objects"],
    ["policyd.transfer.values", "policyd.transfer.distinguished"],
    ["policyd.transfer.formats", "policyd.transfer.delimited"],
    ["policyd.transfer.text"],
    ["policyd.records"],
    ["policyd.settings", "policyd.systemd"],
    ["policyd.setting"],
    ["policyd.files"],
    ["policyd.privileges"],
    ["policyd.endpoint"],
    ["policyd.reply"],
    ["policyd.wire", "policyd.rules"],
    ["policyd.timestamps", "policyd.printable"],
    ["policyd.address"],
    ["policyd.model"],
    ["policyd.errors"],
    ["policyd"],  # the version
]
RANKS = {module: rank for rank, layer in enumerate(LAYERS) for module in layer}
CORE = ("rows", "rules", "reply", "timestamps", "printable", "address", "model", "errors")
# What each library is for, and so where alone it is met.
LIBRARIES = {
    "click": r"policyd\.cli(\..*)?",
    "rich": r"policyd\.cli\.(output|progress)",
    "twisted": r"policyd\.(cli\.serve|reactor|service|acceptor|server|protocol)",
    "sqlalchemy": r"policyd\.store\..*",
    "sqlite3": r"policyd\.store\.(database|lookup|backup|check|log|replay|restore)",
    "ldif": r"policyd\.transfer\.ldif_(entries|write)",
    "cattrs": r"policyd\.settings",
    "idna": r"policyd\.address",
    "anyascii": r"policyd\.reply",
}


def module_name(file: Path) -> str:
    """The name under which *file* is imported."""
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = {module_name(file): file for file in sorted(PACKAGE.rglob("*.py"))}


def read_tree(module: str) -> ast.Module:
    """The syntax tree of a module."""
    return ast.parse(FILES[module].read_text(encoding="utf-8"))


def imports(module: str) -> set[str]:
    """Every module that *module* imports, inside functions and for types too."""
    found = set()
    for node in ast.walk(read_tree(module)):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import"
            for name in node.names:
                full = f"{node.module}.{name.name}"
                found.add(full if full in FILES else str(node.module))
    return found


def test_every_file_has_its_place() -> None:
    """A new file goes into the order, or nothing holds it."""
    assert set(RANKS) == set(FILES)


@pytest.mark.parametrize("module", FILES)
def test_module_imports_only_what_stands_below_it(module: str) -> None:
    """So that what is pure stays pure, and each file can be read without those above it."""
    ours = {name for name in imports(module) if name in FILES}
    assert {name for name in ours if RANKS[name] <= RANKS[module]} == set()


@pytest.mark.parametrize("module", [name for name in FILES if name.startswith(("policyd.store", "policyd.transfer"))])
def test_formats_and_tables_know_nothing_of_each_other(module: str) -> None:
    """A new format touches no table, and a new table no format: the command line joins them, by rows."""
    met = {name.split(".")[1] for name in imports(module) if name in FILES}
    assert not {"store", "transfer"} <= met | {module.split(".")[1]}
    assert met <= {
        "store",
        "transfer",
        "records",
        "rules",
        "reply",
        "timestamps",
        "printable",
        "address",
        "model",
        "errors",
        "files",
    }


@pytest.mark.parametrize("module", FILES)
def test_library_is_met_only_where_it_belongs(module: str) -> None:
    """A library that is used in one place can be replaced there, and is loaded only where it is needed."""
    libraries = {name.partition(".")[0] for name in imports(module)} & set(LIBRARIES)
    assert {library for library in libraries if not re.fullmatch(LIBRARIES[library], module)} == set()


@pytest.mark.parametrize("module", FILES)
def test_first_line_says_what_the_file_is(module: str) -> None:
    """A stranger knows from it whether to read on."""
    first = FILES[module].read_text(encoding="utf-8").partition("\n")[0]
    assert re.match(r'"""\S.{10,}', first), first


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
