"""Imports a file into the tables, in one transaction; each record that is wrong is reported by itself."""

import os
import shutil
import stat
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from math import inf
from pathlib import Path
from typing import BinaryIO, cast

from policyd.admin.advice import cut_of_reason, spelling_advice
from policyd.admin.rejects import Rejects, read_shape
from policyd.admin.session import Changing, Session, Summary
from policyd.admin.wrong_rows import OnRejected, WrongRows
from policyd.errors import RefusedError, TransferError
from policyd.files import open_to_read
from policyd.model import Change, Domain, Party, PartyKind, Rule
from policyd.records import AddressRow, BlockRow, Notice, Problem, Record, domains_of
from policyd.reply import DEFAULT_TEXTS, TEXT_LIMIT
from policyd.settings import AuditSettings
from policyd.store.bulk import BulkEditor
from policyd.store.connection import Database
from policyd.store.database import create_database, exists
from policyd.store.replace import Replacement
from policyd.store.spool import Spool
from policyd.transfer.formats import Format, ReadOptions, load_format
from policyd.transfer.text import need_text

_SMALL_BYTES = 65536  # some hundred rows
_BLOCK = 500  # records of which the tables are asked at once
_IDLE_SHOWN = 5


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """What an import is to do.

    With *is_strict*, nothing is kept unless every row is good. *is_replacing*, which is strict, too, removes what the
    file's domains hold and the file does not name, but not more than *max_remove* percent. *adds_domains* manages the
    domains of new addresses, where they are not managed yet. `replies` are the texts that reasons will stand in. Of a
    dry run, *shown* changes are kept to be shown, None for all.
    """

    format: str
    read: ReadOptions
    is_dry_run: bool = False
    is_strict: bool = False
    is_replacing: bool = False
    max_remove: float = 10
    adds_domains: bool = False
    replies: Mapping[Rule, str] = field(default_factory=lambda: DEFAULT_TEXTS)
    shown: int | None = 0


@dataclass(frozen=True, slots=True)
class Callbacks:
    """Who hears of an import while it runs: of notices about the file, of records that are wrong, of each record."""

    on_notice: Callable[[Notice], None]
    on_rejected: OnRejected
    on_record: Callable[[], None]


@dataclass(slots=True)
class ImportOutcome:
    """What came of an import.

    `useful` records are those of which not everything was left out. `tally` counts objects, by pairs like ("mailbox",
    "added"); `skipped` counts what was left out on purpose. `rejects` is the file with the rejected rows, None where it
    was not written. `advice` are lines about domains that are managed now, and about reasons that replies cut; `opened`
    are those domains that let unlisted recipients through, since the file does not say all. `refusal` says why a
    replacement that would remove too much was not made. Of that and of a dry run, `planned` are the first changes,
    those that remove something first where it is refused, and `count` is how many.
    """

    changeset: int | None = None
    is_kept: bool = False
    is_logged: bool = True
    records: int = 0
    useful: int = 0
    rejected: int = 0
    tally: Counter[tuple[str, str]] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    rejects: Path | None = None
    advice: list[str] = field(default_factory=list)
    refusal: RefusedError | None = None
    planned: Spool[Change] = field(default_factory=Spool)
    count: int = 0
    opened: list[Domain] = field(default_factory=list)

    @property
    def is_all_skipped(self) -> bool:
        """Whether something was left out, and nothing was of use."""
        return bool(self.skipped) and not self.useful


@contextmanager
def opened(file: Path) -> Iterator[BinaryIO]:
    """*file*, seekable: what comes through a pipe is put into a temporary file first. `-` is stdin.

    Raises TransferError where it is no text, OSError where it can't be read.
    """
    if str(file) == "-" and sys.stdin is None:
        raise TransferError("stdin is closed; nothing can be read from it")
    with sys.stdin.buffer if str(file) == "-" else open_to_read(file) as source:
        if source.seekable():
            need_text(cast(BinaryIO, source))
            yield cast(BinaryIO, source)
            return
        with tempfile.TemporaryFile() as spool:
            shutil.copyfileobj(source, spool)
            need_text(cast(BinaryIO, spool))
            yield cast(BinaryIO, spool)


def import_file(
    session: Session, file: Path, stream: BinaryIO, plan: ImportPlan, actor: str, now: int, callbacks: Callbacks
) -> ImportOutcome:
    """Import *stream*, which is *file*, as *plan* says, by *actor* at *now* (Unix seconds).

    Rejected records go to a file beside *file*. The caller closes what is planned. Raises TransferError where the file
    as a whole can't be read, and StoreError; then nothing was changed.
    """
    # Rejected records go to a file that is written as this one is.
    outcome = ImportOutcome()
    chosen = load_format(plan.format)
    shape = read_shape(stream, chosen, plan.read)
    rejects = Rejects(file, shape, is_kept=not plan.is_dry_run, record_end=chosen.record_end)

    # Apply the file in one change of the tables, which a dry run and a strict import with a wrong record discard.
    with rejects, _session(session, plan) as used:
        summary = Summary("database.import", str(file))
        change = used.changing(actor, now, verb="import", summary=summary, is_bulk=_is_large(stream))
        with change as made:
            managed = {domain.name for domain in made.edit.queries.domains()}
            _apply(made, chosen, stream, plan, outcome, rejects, callbacks)
            added = [each.name for each in made.edit.queries.domains() if each.name not in managed]
            outcome.advice += spelling_advice(made.edit.queries, added)
            if plan.is_dry_run or outcome.refusal:
                _keep_planned(made, plan, outcome)
            if plan.is_dry_run or outcome.refusal or (outcome.rejected and (plan.is_strict or plan.is_replacing)):
                made.discard()
        outcome.changeset, outcome.is_kept, outcome.is_logged = made.changeset, made.is_kept, made.is_logged
    if rejects.is_written:
        outcome.rejects = rejects.path
    return outcome


def _keep_planned(made: Changing, plan: ImportPlan, outcome: ImportOutcome) -> None:
    """Keep for *outcome* the changes that *made* has, before they are discarded."""
    outcome.count = made.count
    first = made.edit.journal.changeset
    changes = made.edit.queries.changes_from(first, is_removed_first=outcome.refusal is not None)
    for change in islice(changes, plan.shown):
        outcome.planned.put(change)


@contextmanager
def _session(session: Session, plan: ImportPlan) -> Iterator[Session]:
    """*session*; where there is no database yet, it is made, and a dry run has one for itself alone."""
    if exists(session.database):
        yield session
    elif plan.is_dry_run:
        with tempfile.TemporaryDirectory() as folder:
            database = Database.at(Path(folder, "policyd.db"))
            create_database(database)
            yield Session(database, AuditSettings())
    else:
        create_database(session.database, exist_ok=True)
        yield session


def _is_large(stream: BinaryIO) -> bool:
    """Whether *stream* may hold more than some hundred rows."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return True
    return not stat.S_ISREG(status.st_mode) or status.st_size > _SMALL_BYTES


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

    cut = _CutReasons(plan.replies)
    opens: set[str] = set()

    def note(record: Record, problems: tuple[Problem, ...]) -> None:
        opens.update(record.opens)
        if problems:
            opens.update(() if record.opens else domains_of(record, plan.read.domain))
            outcome.rejected += 1
            wrong.add(record, problems, is_early=bulk.is_waiting)
        else:
            cut.look_at(record)

    wrong = WrongRows(rejects, callbacks.on_rejected)
    bulk = BulkEditor(made.connection, made.edit, adds_domains=plan.adds_domains, takes_circles=chosen.is_directory)
    replacement: Replacement | None = None
    if plan.is_replacing:
        domains = [plan.read.domain] if plan.read.domain else []
        replacement = Replacement(made.connection, made.edit, bulk, domains, carries_groups=chosen.has_all)

    # Records in the order of the file; what names a mailbox that may come further down waits.
    for items in _in_blocks(chosen.read(stream, plan.read)):
        bulk.look_ahead(item for item in items if isinstance(item, Record))
        for item in items:
            if isinstance(item, Notice):
                callbacks.on_notice(item)
            else:
                _count(item, outcome)
                note(item, bulk.apply(item))
                callbacks.on_record()

    # Then what waited, and at last what the whole file did not name.
    for record, problems in bulk.finish():
        note(record, problems)
    wrong.finish()
    for notice in _notices(bulk):
        callbacks.on_notice(notice)
    outcome.opened = bulk.open_domains(opens)
    if replacement is not None and not outcome.rejected:
        outcome.refusal = _remove_unnamed(replacement, plan.max_remove)
    outcome.tally = bulk.tally
    outcome.advice += cut.advice()


def _remove_unnamed(replacement: Replacement, max_percent: float) -> RefusedError | None:
    """Remove what the file did not name; returns why that is refused, where it is more than *max_percent*."""
    try:
        replacement.remove_unnamed(max_percent)
    except RefusedError as error:
        # It is done all the same, and discarded: who is refused sees what it would have been.
        replacement.remove_unnamed(inf)
        return error
    return None


def _count(record: Record, outcome: ImportOutcome) -> None:
    """Count *record* in *outcome*, and what of it was left out."""
    outcome.records += 1
    outcome.useful += bool(record.rows or record.problems)
    if record.skipped:
        outcome.skipped.update(record.skipped)


def _in_blocks(items: Iterable[Record | Notice]) -> Iterator[list[Record | Notice]]:
    """*items*, some hundred at a time; where reading fails, first those that were read before."""
    block: list[Record | Notice] = []
    try:
        for item in items:
            block.append(item)
            if len(block) == _BLOCK:
                yield block
                block = []
    except TransferError:
        yield block
        raise
    yield block


def _notices(bulk: BulkEditor) -> Iterator[Notice]:
    """What is to be known of a whole file that *bulk* has applied."""
    if bulk.circle:
        groups = ", ".join(str(Party(PartyKind.GROUP, name)) for name in bulk.circle)
        yield Notice(1, f"groups that are in one another, which harms nothing: {groups}")
    if idle := bulk.idle:
        more = [f"and {len(idle) - _IDLE_SHOWN} more"] if len(idle) > _IDLE_SHOWN else []
        yield Notice(1, f"taken as it stood, though it does nothing now: {'; '.join([*idle[:_IDLE_SHOWN], *more])}")
    if bulk.taken:
        taken = "; ".join(bulk.taken)
        yield Notice(1, f"rows take away what others of this file say, and the last one counts: {taken}")


class _CutReasons:
    """Counts the reasons of which a sender reads only a part."""

    def __init__(self, replies: Mapping[Rule, str]) -> None:
        self._is_cut = lru_cache(lambda rule, reason: cut_of_reason(replies, rule, reason) > 0)
        self._count = 0

    def look_at(self, record: Record) -> None:
        """Count those of *record*."""
        for row in record.rows:
            if not isinstance(row, AddressRow) and isinstance(row.reason, str) and row.reason:
                rule = Rule.BLOCKED_SENDER if isinstance(row, BlockRow) else Rule.RESTRICTED_RECIPIENT
                self._count += self._is_cut(rule, row.reason)

    def advice(self) -> list[str]:
        """How many there were, in a line; nothing where there were none."""
        if not self._count:
            return []
        return [f"reasons: senders read only a part of {self._count}, for a reply has {TEXT_LIMIT} characters"]
