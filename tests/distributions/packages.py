"""Later versions of a built package: the same files with another version, and tables that need an upgrade."""

import shutil
import subprocess
from pathlib import Path

_REVISION = '''"""A revision for tests: an index more."""

import time

from alembic import op

revision = "{number:04}"
down_revision = "{before:04}"


def upgrade() -> None:
    """Make the index, which takes as long as on a large database."""
    op.create_index("mailbox_until_{number}", "mailbox", ["until"])
    time.sleep({seconds})
'''


def later(package: Path, version: str, *upgrades: int) -> Path:
    """The *package* as *version*, beside it; its tables are later by a step for each of *upgrades*, in seconds."""
    tree = package.with_name(f"{version}.tree")
    subprocess.run(["dpkg-deb", "--raw-extract", str(package), str(tree)], check=True)
    library = tree / "usr/lib/policyd/policyd"
    control = tree / "DEBIAN/control"
    old = next(line for line in control.read_text().splitlines() if line.startswith("Version: "))
    _replace(control, old, f"Version: {version}")
    _replace(library / "__init__.py", f'"{old.removeprefix("Version: ")}"', f'"{version}"')

    # Each step is a revision, and the index that it makes is in the tables of a new database, too.
    schema = library / "store/schema.py"
    first = int(schema.read_text().partition("\nVERSION = ")[2].split()[0])
    for number, seconds in enumerate(upgrades, start=first + 1):
        revision = library / f"store/migrations/versions/v{number:04}_test.py"
        revision.write_text(_REVISION.format(number=number, before=number - 1, seconds=seconds))
        with schema.open("a") as file:
            file.write(f'\nIndex("mailbox_until_{number}", mailbox.c.until)\n')
    _replace(schema, f"\nVERSION = {first}", f"\nVERSION = {first + len(upgrades)}")

    built = package.with_name(f"policyd_{version}_amd64.deb")
    subprocess.run(["dpkg-deb", "-Zgzip", "-z1", "--root-owner-group", "--build", str(tree), str(built)], check=True)
    shutil.rmtree(tree)
    return built


def _replace(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) == 1, f"{file}: {old}"
    file.write_text(text.replace(old, new))
