"""Creates, upgrades, checks, backs up and restores the database."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from policyd.admin.session import Session
from policyd.errors import StoreOutdatedError
from policyd.model import Change
from policyd.store.backup import Progress, Verify, back_up
from policyd.store.check import Check, Checked
from policyd.store.connection import Database
from policyd.store.copying import copy_to_server
from policyd.store.database import create_database, reading
from policyd.store.restore import Restore

if TYPE_CHECKING:
    from policyd.store.check_server import ServerCheck
    from policyd.store.upgrade import Upgraded


@dataclass(frozen=True, slots=True)
class Restored:
    """A restore: the change that it is in the journal, and the file with what it replaced, None where nothing was."""

    change: Change
    kept: Path | None
    is_logged: bool


def create(database: Database) -> None:
    """Make the database. Raises StoreCreateError, also if there is one already."""
    create_database(database)


def upgrade(session: Session, actor: str, now: int, on_progress: Progress) -> "tuple[Upgraded, bool]":
    """Make the tables of an older policyd those of this one, as a change by *actor* at *now*, and log that.

    Returns what became of it, and whether syslog took every line. Raises StoreError; then the database is as it was.
    """
    from policyd.store.upgrade import ServerUpgrade, Upgrade  # Alembic takes a fifth of a second

    if session.database.is_on_server:
        upgraded = ServerUpgrade(session.database, actor, now).run()
    else:
        upgraded = Upgrade(session.database, actor, now, on_progress).run()
    return upgraded, not upgraded.changes or session.log(upgraded.changes)


def upgrade_statements(database: Database, actor: str, now: int) -> list[str]:
    """What `upgrade` would do, as SQL; nothing is changed. Raises StoreError."""
    from policyd.store.upgrade import ServerUpgrade, Upgrade

    if database.is_on_server:
        return ServerUpgrade(database, actor, now).statements()
    return Upgrade(database, actor, now, lambda done, total: None).statements()


def is_outdated(database: Database) -> bool:
    """Whether an `upgrade` has something to do. Raises StoreError."""
    try:
        with reading(database):
            return False
    except StoreOutdatedError:
        return True


def check(database: Database, look: "Callable[[Check | ServerCheck], Checked]") -> Checked:
    """Have *look* check one state of the database, while others change it. Raises StoreError."""
    with reading(database, is_checked=False) as connection:
        if not database.is_on_server:
            return look(Check(connection.driver))
        from policyd.store.check_server import ServerCheck  # which loads PostgreSQL's driver

        return look(ServerCheck(connection))


def copy_between(source: Database, target: Database, on_progress: Progress, verify: Verify) -> None:
    """Copy one state of *source*, its journal too, to *target*, where nothing may be. All of it or nothing.

    A file is looked at by *verify* before it gets its name. Raises StoreError, and RefusedError where a server can't
    hold what there is.
    """
    if not target.is_on_server:
        back_up(source, target.path, on_progress, verify)
        return
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        on_progress(done, 0)

    copy_to_server(source, target, advance)


def copy_to(database: Database, target: Path, on_progress: Progress, verify: Verify) -> None:
    """Copy one state of the database to *target*, which appears whole, after *verify* has read it.

    *on_progress* hears how many pages of how many are done. Raises StoreError.
    """
    back_up(database, target, on_progress, verify)


def restore(session: Session, source: Path, actor: str, now: int, *, on_progress: Progress, verify: Verify) -> Restored:
    """Make the database what it was when the backup *source* was made, as a change by *actor* at *now*, and log it.

    *verify* looks at the backup first, and raises what keeps it from being restored. Raises StoreError and UnfitError;
    then the database is as it was.
    """
    work = Restore(session.database, source, actor, now, on_progress=on_progress, verify=verify)
    change = work.run()
    return Restored(change, work.kept, session.log([change]))
