"""`policyd import`: a file -> the tables, in one transaction, with an error for each row that is wrong."""

import importlib
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

import click

from policyd.cli.command import Command, Invocation, actor, invocation
from policyd.cli.domain import spelling_advice
from policyd.cli.output import log_changes
from policyd.cli.progress import Progress
from policyd.cli.rejects import Rejects, read_header
from policyd.cli.terminal import echo, echo_json
from policyd.cli.types import DOMAIN, FilePath
from policyd.errors import TransferError
from policyd.files import open_to_read
from policyd.rows import Notice, Record
from policyd.store import read
from policyd.store.bulk import BulkEditor, BulkOptions
from policyd.store.connect import changing, create_database, driver_connection
from policyd.store.journal import Journal
from policyd.store.replace import Replacement
from policyd.store.write import Writer
from policyd.transfer.formats import ReadOptions
from policyd.transfer.guess import FORMATS, guess_format

_BAD_DATA = 65  # EX_DATAERR
_KINDS = ("domain", "mailbox", "address", "blocked sender")
_SHOWN_IN_JSON = 1000
_GAPS = {"ldif": "\n\n"}  # between records, where it is not a line break
_CACHE_MEBIBYTES = 64  # of the tables in memory: with SQLite's own 2, each row of a large file is a page written


class _LeaveAsItWasError(Exception):
    """Ends the transaction without keeping anything."""


@dataclass
class _Outcome:
    """What came of an import."""

    format: str
    changeset: int | None = None
    rows: int = 0
    rejected: int = 0
    kept: bool = False
    tally: Counter[tuple[str, str]] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    errors: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class _Plan:
    """What the command line asks of an import."""

    read: ReadOptions
    is_dry_run: bool
    is_strict: bool
    is_replacing: bool
    max_remove: float
    add_domains: bool


def _character(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    character = {"tab": "\t", "\\t": "\t"}.get(value, value)
    if len(character) != 1:
        raise click.BadParameter("must be one character, or tab")
    return character


@click.command("import", cls=Command)
@click.argument("file", type=FilePath(allow_dash=True, exists=True, dir_okay=False))
@click.option("--format", "format_", type=click.Choice([*FORMATS]), help="[default: guessed from the content]")
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@click.option("--strict", is_flag=True, help="Change nothing unless every row is good.")
@click.option("--replace", is_flag=True, help="Remove what the file's domains hold and the file does not name.")
@click.option(
    "--max-remove",
    metavar="PERCENT",
    type=click.FloatRange(0, 100),
    default=10,
    show_default=True,
    help="With --replace: remove no more of the addresses, or of the blocked senders, than this.",
)
@click.option("--domain", metavar="D", type=DOMAIN, help="The domain of addresses that have none.")
@click.option("--add-domains", is_flag=True, help="Manage the domains of the addresses, where they are not yet.")
@click.option("--into", type=click.Choice(["mailboxes", "blocked"]), default=None, help="What a list or access map is.")
@click.option("--append/--overwrite", default=False, help="exchange-csv, ldif: add values to those there are.")
@click.option("--column-separator", default=",", callback=_character, metavar="C", help="exchange-csv.")
@click.option("--quote", default='"', callback=_character, metavar="C", help="exchange-csv.")
@click.option("--multi-separator", default="%", callback=_character, metavar="C", help="exchange-csv.")
def command(file: Path, format_: str | None, dry_run: bool, strict: bool, replace: bool, **options: Any) -> None:
    """Import mailboxes, addresses and blocked senders from FILE; `-` is stdin.

    A row that is wrong is reported, written to FILE.err, and does not stop the others; then the exit status is 65.

    \b
    Example: policyd import people.csv --dry-run
    """
    read = ReadOptions(
        options["column_separator"],
        options["quote"],
        options["multi_separator"],
        options["append"],
        options["into"] or "",
        options["domain"] or "",
    )
    plan = _Plan(read, dry_run, strict or replace, replace, options["max_remove"], options["add_domains"])
    call = invocation()
    with _opened(file) as stream:
        outcome = _Outcome(format_ or guess_format(stream))
        if format_ is None:
            call.say(f"{file}: read as {outcome.format}; --format would say otherwise")
        header, gap = read_header(stream, outcome.format, read), _GAPS.get(outcome.format, "\n")
        rejects = Rejects(file, header, is_kept=not dry_run, gap=gap)
        with rejects:
            _run(call, stream, plan, outcome, rejects)
    _tell(call, file, plan, outcome, rejects)
    if outcome.rejected:
        click.get_current_context().exit(_BAD_DATA)


@contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    """*file*, seekable: what comes through a pipe is put into a temporary file first."""
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


@contextmanager
def _database(call: Invocation, plan: _Plan) -> Iterator[Path]:
    """The database; where there is none, a new one, which a dry run has for itself alone."""
    if call.database_path.exists():
        yield call.database_path
    elif plan.is_dry_run:
        with tempfile.TemporaryDirectory() as folder:
            create_database(Path(folder, "policyd.db"))
            yield Path(folder, "policyd.db")
    else:
        create_database(call.database_path, exist_ok=True)
        yield call.database_path


def _run(call: Invocation, stream: BinaryIO, plan: _Plan, outcome: _Outcome, rejects: Rejects) -> None:
    """Import *stream* in one transaction; `outcome` says what came of it."""
    who, now = actor(os.environ), int(time.time())
    try:
        with _database(call, plan) as path, changing(path, cache_mebibytes=_CACHE_MEBIBYTES) as connection:
            driver = driver_connection(connection)
            journal = Journal(driver, who, now, verb="import")
            bulk = BulkEditor(driver, Writer(driver, journal), BulkOptions(who, now, plan.add_domains))
            domains = [plan.read.domain] if plan.read.domain else []
            replacement = Replacement(driver, bulk, domains) if plan.is_replacing else None
            managed = {domain.name for domain in read.domains(connection)}
            _apply_all(stream, plan, bulk, outcome, rejects)
            if replacement is not None and not outcome.rejected:
                replacement.remove_unseen(plan.max_remove)
            outcome.tally = bulk.tally
            added = [domain.name for domain in read.domains(connection) if domain.name not in managed]
            advice = [spelling_advice(connection, name) for name in added]
            if plan.is_dry_run or (plan.is_strict and outcome.rejected):
                raise _LeaveAsItWasError
            outcome.changeset = journal.changeset if journal.count else None
    except _LeaveAsItWasError:
        return
    outcome.kept = True
    for line in filter(None, advice):
        echo(line, err=True)
    if outcome.changeset is not None:
        log_changes(call, who, outcome.changeset, "database.import", str(rejects.file), journal.count)


def _apply_all(stream: BinaryIO, plan: _Plan, bulk: BulkEditor, outcome: _Outcome, rejects: Rejects) -> None:
    reader = importlib.import_module(f"policyd.transfer.{FORMATS[outcome.format]}")
    with Progress(stream) as progress:
        for item in reader.read(stream, plan.read):
            if isinstance(item, Notice):
                echo(f"{rejects.file}:{item.line}: {item.message}", err=True)
                continue
            outcome.rows += 1
            outcome.skipped.update(item.skipped)
            _note(item, bulk.apply(item), outcome, rejects)
            progress.advance()
        for record, problems in bulk.finish():
            _note(record, problems, outcome, rejects)


def _note(record: Record, problems: tuple[Any, ...], outcome: _Outcome, rejects: Rejects) -> None:
    """Report what is wrong with *record*, if anything."""
    if not problems:
        return
    outcome.rejected += 1
    rejects.keep(record)
    for problem in problems:
        column = f" column {problem.column!r}:" if problem.column else ""
        event = f" (event {problem.event})" if problem.event else ""
        echo(f"{rejects.file}:{record.line}:{column} {problem.message}{event}", err=True)
        if len(outcome.errors) < _SHOWN_IN_JSON:
            outcome.errors.append(
                {
                    "line": record.line,
                    "column": problem.column,
                    "message": problem.message,
                    "event": problem.event or None,
                }
            )


def _tell(call: Invocation, file: Path, plan: _Plan, outcome: _Outcome, rejects: Rejects) -> None:
    if call.json:
        tally: dict[str, dict[str, int]] = {}
        for (kind, what), count in outcome.tally.items():
            tally.setdefault(kind, {})[what] = count
        told = {
            "format": outcome.format,
            "changeset": outcome.changeset,
            "is_kept": outcome.kept,
            "rows": outcome.rows,
            "rejected": outcome.rejected,
            "tally": tally,
            "skipped": dict(outcome.skipped),
            "errors": outcome.errors,
        }
        echo_json(told, indent=1)
        return
    lines = list(_summary(file, plan, outcome, rejects))
    for line in lines:
        if plan.is_dry_run:
            echo(line)
        else:
            call.say(line)
    if outcome.rejected:
        echo(_ending(file, plan, outcome, rejects), err=True)


def _summary(file: Path, plan: _Plan, outcome: _Outcome, rejects: Rejects) -> Iterator[str]:
    if plan.is_dry_run:
        yield f"{file}, {outcome.format}: nothing was changed; without --dry-run it would be:"
    elif not outcome.kept:
        return
    for kind in _KINDS:
        counts = [
            f"{outcome.tally[kind, what]} {what}"
            for what in ("added", "changed", "removed", "unchanged")
            if outcome.tally[kind, what]
        ]
        if counts:
            yield f"{kind}: {', '.join(counts)}"
    if outcome.skipped:
        yield f"skipped: {', '.join(f'{count} {kind}' for kind, count in sorted(outcome.skipped.items()))}"
    if outcome.kept and outcome.changeset is None and not outcome.rejected:
        yield "nothing to change: it stands so already"
    elif outcome.changeset is not None:
        yield f"changeset {outcome.changeset}; to take it back: policyd undo {outcome.changeset}"


def _ending(file: Path, plan: _Plan, outcome: _Outcome, rejects: Rejects) -> str:
    others = "the others are imported" if outcome.changeset is not None else "nothing was changed"
    if plan.is_dry_run:
        others = "nothing was changed (--dry-run)"
    elif rejects.is_written:
        others += f"; mend them in {rejects.path} and import it" if outcome.kept else f"; {rejects.path} has them"
    return f"policyd: {file}: {outcome.rejected} of {outcome.rows} rows are wrong; {others}"
