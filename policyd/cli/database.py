"""`policyd database`: creates, upgrades, checks, backs up and restores the database."""

import os
import time
from dataclasses import asdict, replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import click

from policyd.cli.command import Group, Invocation, actor, invocation, need_consent
from policyd.cli.output import print_changes, print_object, warn_of_silent_syslog
from policyd.cli.terminal import echo
from policyd.cli.types import FilePath
from policyd.errors import RefusedError, StoreUnsoundError
from policyd.model import Finding
from policyd.printable import count_of

if TYPE_CHECKING:
    from policyd.store.check import Check, Checked
    from policyd.store.check_server import ServerCheck

_SHOWN = 20  # findings


@click.group("database", cls=Group)
def command() -> None:
    """The database file."""


@command.command("create")
def create() -> None:
    """Make the database, which must not be there yet. The first change on the command line makes it, too.

    \b
    Example: policyd database create
    """
    from policyd.admin import upkeep

    call = invocation()
    database = call.session.database
    upkeep.create(database)
    call.say(f"made {database}")
    if call.json:
        print_object(call, {"database": str(database)})


@command.command("upgrade")
@click.option("--sql", is_flag=True, help="Print what would be done as SQL, and change nothing.")
@click.option("--yes", is_flag=True, help="Don't ask, on a server.")
def upgrade(sql: bool, yes: bool) -> None:
    """Make the tables of an older policyd those of this one.

    What the database was is kept in a file beside it, which is named. It is all done or nothing, and checked afterwards
    as `database check` does. A daemon that still runs answers nothing from then on until it is restarted.

    On a server there is no such file: make a backup with pg_dump first. Upgrade the database there first, then one host
    after the other: each answers from what it has until its own policyd is the new one.

    \b
    Example: policyd database upgrade
    """
    from policyd.admin import upkeep
    from policyd.cli.progress import Progress

    # Upgrade the tables; or only say how.
    call = invocation()
    session = call.session
    database = session.database
    who, now = actor(os.environ), int(time.time())
    if sql:
        for statement in upkeep.upgrade_statements(database, who, now):
            for line in statement.expandtabs(4).splitlines():
                echo(line)
        return
    if database.is_on_server and upkeep.is_outdated(database):
        question = f"The tables in {database} are changed; make a backup first with: pg_dump --format=custom"
        need_consent(f"{question}.", is_given=yes)
    with Progress(unit="pages") as progress:
        upgraded, is_logged = upkeep.upgrade(session, who, now, progress.reach)
    for notice in upgraded.notices:
        echo(f"policyd: {notice}", err=True)

    # Check what the database is now.
    was = f"; what it was is in {upgraded.kept}" if upgraded.kept else ""
    findings = _Findings(call)
    is_new = upgraded.before < upgraded.after
    if is_new:
        upkeep.check(database, findings.of)
    if call.json:
        versions = {"before": upgraded.before, "after": upgraded.after}
        kept = str(upgraded.kept) if upgraded.kept else None
        print_object(call, {"database": str(database), **versions, "kept": kept, "notices": upgraded.notices})
    elif is_new:
        echo(f"upgraded {database} from version {upgraded.before} to {upgraded.after}{was}")
    else:
        call.say(f"{database} is up to date already: its tables are of version {upgraded.after}")
    warn_of_silent_syslog(call, is_logged)
    findings.must_be_none(f"{database} was upgraded, and is not sound{was}")


@command.command("check")
def check() -> None:
    """Check the file, the tables, each row and the journal, and print what is wrong, a line each.

    It reads only, and holds nobody up. The status is 0 where all is sound, 1 where something is wrong, and 69 where
    the database can't be read.

    \b
    Example: policyd database check
    """
    from policyd.admin import upkeep

    call = invocation()
    findings = _Findings(call)
    database = call.session.database
    checked = upkeep.check(database, findings.of)
    if call.json:
        print_object(call, {"database": str(database), **findings.outcome(checked)})
    findings.must_be_none(f"{database}")
    call.say(
        f"{database} is sound: {count_of(checked.rows, 'row')}; "
        f"its last change is {checked.change}, digest {checked.digest}"
    )


@command.command("backup")
@click.argument("file", metavar="FILE", type=FilePath(dir_okay=False))
def backup(file: Path) -> None:
    """Copy the database to a new file, while everything goes on, and check the copy as `database check` does.

    The status is 0 where it is there and sound, 1 where it is there and something is wrong with it; 69, 73 and 74
    where there is none, since the database can't be read, the file can't be made, or not be written.

    \b
    Example: policyd database backup monday.db
    """
    from policyd.admin import upkeep
    from policyd.cli.progress import Progress
    from policyd.store.check import Checked

    # Copy the database, and check the copy on the way.
    call = invocation()
    if str(file) == "-":
        raise click.UsageError("A backup is a file with a name, not a stream; to write to stdout: policyd export.")
    findings = _Findings(call)
    checked = Checked(0, 0, "")

    def verify(check: "Check") -> None:
        nonlocal checked
        progress.stop()
        checked = findings.of(check)

    with Progress(unit="pages") as progress:
        upkeep.copy_to(call.session.database, file, progress.reach, verify)

    # A copy that is not sound stays, since it may be all there is.
    size = file.stat().st_size
    if call.json:
        print_object(call, {"backup": str(file), "octets": size, **findings.outcome(checked)})
    findings.must_be_none(f"{file} is written, but the database is not sound")
    call.say(
        f"wrote {file}: {count_of(size, 'byte')}, {count_of(checked.rows, 'row')}, checked; "
        f"its last change is {checked.change}"
    )


@command.command("restore")
@click.argument("file", metavar="FILE", type=FilePath(readable=False))
@click.option("--yes", is_flag=True, help="Don't ask.")
def restore(file: Path, yes: bool) -> None:
    """Make the database what it was when the backup FILE was made, while everything goes on.

    FILE is checked first, and the database afterwards, as `database check` does. The whole of it is one change in the
    journal; what it replaces is kept in a file beside the database, which `database restore` takes, too.

    \b
    Example: policyd database restore monday.db
    """
    from policyd.admin import upkeep
    from policyd.cli.progress import Progress

    # Ask first.
    call = invocation()
    session = call.session
    database = session.database
    if database.is_on_server:
        raise RefusedError(
            f"{database}: on a server, policyd restores nothing in place; make an empty database there, and type: "
            f"policyd database copy --database {quote(str(file))} --to URL"
        )
    need_consent(f"{database} gets the tables that are in {file}; all changes since then are lost to it.", is_given=yes)

    # Restore the file, unless the check of it finds something.
    findings = _Findings(call)

    def verify(check: "Check") -> None:
        progress.stop()
        findings.of(check)
        findings.must_be_none(f"{file} is not sound, and nothing was changed")

    with Progress(unit="pages") as progress:
        who, now = actor(os.environ), int(time.time())
        restored = upkeep.restore(session, file, who, now, on_progress=progress.reach, verify=verify)

    # Check what the database is now.
    upkeep.check(database, findings.of)
    print_changes(call, [restored.change], is_logged=restored.is_logged)
    kept = f"; what it replaced is in {restored.kept}" if restored.kept else ""
    findings.must_be_none(f"{database} was restored, and is not sound{kept}")
    call.say(f"restored {database} from {file}{kept}")


@command.command("copy")
@click.option("--to", "target", required=True, metavar="URL", help="Where to: postgresql://HOST/NAME, or a new file.")
def copy(target: str) -> None:
    """Copy the database, its journal too, to a PostgreSQL server or from one to a file. There must be nothing yet.

    Numbers and digests stay, so that a replica of the one follows the other. What was copied is counted, and the
    journal checked.

    \b
    Example: policyd database copy --to postgresql://db.example.com/policyd
    """
    from policyd.admin import upkeep
    from policyd.cli.progress import Progress
    from policyd.settings import read_database
    from policyd.store.connection import Database

    # Read where to, as the settings would.
    call = invocation()
    source = call.session.database
    settings = replace(call.settings, database=read_database(target))
    there = Database.of(settings)
    findings = _Findings(call)

    def verify(check: "Check") -> None:
        progress.stop()
        findings.of(check)

    # Copy it.
    with Progress(unit="rows") as progress:
        upkeep.copy_between(source, there, progress.reach, verify)
    if call.json:
        print_object(call, {"database": str(source), "copy": str(there)})
    findings.must_be_none(f"{there} is written, but the database is not sound")
    call.say(f"copied {source} to {there}")


@command.command("stats")
def stats() -> None:
    """Count the rows of each table.

    \b
    Example: policyd database stats --json
    """
    call = invocation()
    database = call.session.database
    with call.reading() as queries:
        counts = queries.counts()
    size = {} if database.is_on_server else {"octets": database.path.stat().st_size}
    print_object(call, {"database": str(database), **size, **counts})


class _Findings:
    """Prints the first findings as they come, and counts them all."""

    def __init__(self, call: Invocation) -> None:
        self._call = call
        self._first: list[Finding] = []
        self._count = 0

    def of(self, check: "Check | ServerCheck") -> "Checked":
        """Run *check* with a progress bar, print what it finds, and return what it has looked at."""
        from policyd.cli.progress import Progress

        with Progress(total=check.count()) as progress:
            return check.run(self._print, progress.advance)

    def _print(self, finding: Finding) -> None:
        self._count += 1
        if self._count <= _SHOWN:
            self._first.append(finding)
            if not self._call.json:
                echo(str(finding))

    def outcome(self, checked: "Checked") -> dict[str, object]:
        """What came of it, for `--json`."""
        return {
            "is_sound": not self._count,
            **asdict(checked),
            "count": self._count,
            "findings": [asdict(finding) for finding in self._first],
        }

    def must_be_none(self, what: str) -> None:
        """Raises StoreUnsoundError, about *what*, where there were findings."""
        if self._count:
            more = f", the first {_SHOWN} of which were told" if self._count > _SHOWN else ""
            things = "1 thing is" if self._count == 1 else f"{self._count} things are"
            raise StoreUnsoundError(f"{what}: {things} wrong{more}; do for each what its line says")
