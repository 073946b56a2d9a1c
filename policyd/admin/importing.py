"""Imports a file into the tables, in one transaction; each record that is wrong is reported by itself."""

import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

from policyd.admin.advice import spelling_advice
from policyd.admin.rejects import Rejects, read_header
from policyd.admin.session import Changing, Session, Summary
from policyd.errors import TransferError
from policyd.files import open_to_read
from policyd.model import Domain, Party, PartyKind
from policyd.records import Notice, Problem, Record, domains_of
from policyd.settings import AuditSettings
from policyd.store.bulk import BulkEditor
from policyd.store.database import Database, create_database
from policyd.store.replace import Replacement
from policyd.transfer.formats import Format, ReadOptions, load_format

_CACHE_MEBIBYTES = 64  # of the tables in memory: with SQLite's own 2, each row of a large file is a page written


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """What an import is to do.

    With *is_strict*, nothing is kept unless every row is good. *is_replacing*, which is strict, too, removes what the
    file's domains hold and the file does not name, but not more than *max_remove* percent. *adds_domains* manages the
    domains of new addresses, where they are not managed yet.
    """

    format: str
    read: ReadOptions
    is_dry_run: bool = False
    is_strict: bool = False
    is_replacing: bool = False
    max_remove: float = 10
    adds_domains: bool = False


@dataclass(frozen=True, slots=True)
class Callbacks:
    """Who hears of an import while it runs: of notices about the file, of records that are wrong, of each record."""

    on_notice: Callable[[Notice], None]
    on_rejected: Callable[[Record, tuple[Problem, ...]], None]
    on_record: Callable[[], None]


@dataclass(slots=True)
class ImportOutcome:
    """What came of an import.

    `tally` counts objects, by pairs like ("mailbox", "added"); `skipped` counts what was left out on purpose.
    `rejects` is the file with the rejected rows, None where it was not written. `advice` are lines about domains that
    are managed now; `opened` are those of them that let unlisted recipients through, since the file does not say all.
    """

    changeset: int | None = None
    is_kept: bool = False
    is_logged: bool = True
    records: int = 0
    rejected: int = 0
    tally: Counter[tuple[str, str]] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    rejects: Path | None = None
    advice: list[str] = field(default_factory=list)
    opened: list[Domain] = field(default_factory=list)


@contextmanager
def opened(file: Path) -> Iterator[BinaryIO]:
    """*file*, seekable: what comes through a pipe is put into a temporary file first. `-` is stdin."""
    if str(file) == "-" and sys.stdin is None:
        raise TransferError("stdin is closed; nothing can be read from it")
    with sys.stdin.buffer if str(file) == "-" else open_to_read(file) as source:
        if source.seekable():
            yield cast(BinaryIO, source)
            return
        with tempfile.TemporaryFile() as spool:
            shutil.copyfileobj(source, spool)
            spool.seek(0)
            yield cast(BinaryIO, spool)


def import_file(
    session: Session, file: Path, stream: BinaryIO, plan: ImportPlan, actor: str, now: int, callbacks: Callbacks
) -> ImportOutcome:
    """Import *stream*, which is *file*, as *plan* says, by *actor* at *now* (Unix seconds).

    Rejected records go to a file beside *file*. Raises TransferError where the file as a whole can't be read,
    RefusedError where it would remove too much, and StoreError; then nothing was changed.
    """
    # Rejected records go to a file that starts with the same header.
    outcome = ImportOutcome()
    chosen = load_format(plan.format)
    header = read_header(stream, plan.read) if chosen.has_header else ""
    rejects = Rejects(file, header, is_kept=not plan.is_dry_run, record_end=chosen.record_end)

    # Apply the file in one change of the tables, which a dry run and a strict import with a wrong record discard.
    with rejects, _session(session, plan) as used:
        summary = Summary("database.import", str(file))
        change = used.changing(actor, now, verb="import", summary=summary, cache_mebibytes=_CACHE_MEBIBYTES)
        with change as made:
            managed = {domain.name for domain in made.edit.queries.domains()}
            _apply(made, chosen, stream, plan, outcome, rejects, callbacks)
            added = [each.name for each in made.edit.queries.domains() if each.name not in managed]
            outcome.advice = spelling_advice(made.edit.queries, added)
            if plan.is_dry_run or (outcome.rejected and (plan.is_strict or plan.is_replacing)):
                made.discard()
        outcome.changeset, outcome.is_kept, outcome.is_logged = made.changeset, made.is_kept, made.is_logged
    if rejects.is_written:
        outcome.rejects = rejects.path
    return outcome


@contextmanager
def _session(session: Session, plan: ImportPlan) -> Iterator[Session]:
    """*session*; where there is no database yet, it is made, and a dry run has one for itself alone."""
    if session.database.exists():
        yield session
    elif plan.is_dry_run:
        with tempfile.TemporaryDirectory() as folder:
            database = Database.at(Path(folder, "policyd.db"))
            create_database(database)
            yield Session(database, AuditSettings())
    else:
        create_database(session.database, exist_ok=True)
        yield session


def _apply(
    made: Changing,
    chosen: Format,
    stream: BinaryIO,
    plan: ImportPlan,
    outcome: ImportOutcome,
    rejects: Rejects,
    callbacks: Callbacks,
) -> None:
    """Apply every record of *stream*; *outcome* says what came of them."""

    opens: set[str] = set()

    def note(record: Record, problems: tuple[Problem, ...]) -> None:
        opens.update(record.opens)
        if problems:
            opens.update(() if record.opens else domains_of(record, plan.read.domain))
            outcome.rejected += 1
            rejects.keep(record)
            callbacks.on_rejected(record, problems)

    bulk = BulkEditor(made.connection, made.edit, adds_domains=plan.adds_domains, takes_circles=chosen.is_directory)
    replacement: Replacement | None = None
    if plan.is_replacing:
        domains = [plan.read.domain] if plan.read.domain else []
        replacement = Replacement(made.connection, made.edit, bulk, domains, carries_groups=chosen.has_all)

    # Records in the order of the file; what names a mailbox that may come further down waits.
    for item in chosen.read(stream, plan.read):
        if isinstance(item, Notice):
            callbacks.on_notice(item)
            continue
        outcome.records += 1
        outcome.skipped.update(item.skipped)
        note(item, bulk.apply(item))
        callbacks.on_record()

    # Then what waited, and at last what the whole file did not name.
    for record, problems in bulk.finish():
        note(record, problems)
    if bulk.circle:
        groups = ", ".join(str(Party(PartyKind.GROUP, name)) for name in bulk.circle)
        callbacks.on_notice(Notice(1, f"groups that are in one another, which harms nothing: {groups}"))
    outcome.opened = bulk.open_domains(opens)
    if replacement is not None and not outcome.rejected:
        replacement.remove_unnamed(plan.max_remove)
    outcome.tally = bulk.tally
