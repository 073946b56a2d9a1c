"""`policyd import`: applies a file to the tables, and prints an error for each record that is wrong."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from policyd.changes import as_object
from policyd.cli.command import Command, Invocation, actor, invocation
from policyd.cli.output import PLANNED, print_planned, warn_of_silent_syslog
from policyd.cli.terminal import echo, echo_json
from policyd.cli.types import DOMAIN, FilePath
from policyd.records import Notice, Problem, Record
from policyd.transfer.formats import FORMATS, Into, ReadOptions

if TYPE_CHECKING:
    from policyd.admin.importing import ImportOutcome, ImportPlan

_BAD_DATA = 65  # EX_DATAERR
_NOTHING = 1
_KINDS = ("domain", "mailbox", "address", "group", "member", "blocked sender", "accepted sender", "exception")
_SHOWN_IN_JSON = 1000


def _character(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    character = {"tab": "\t", "\\t": "\t"}.get(value, value)
    if len(character) != 1:
        raise click.BadParameter("must be one character, or tab")
    return character


@click.command("import", cls=Command)
@click.argument("file", type=FilePath(allow_dash=True, exists=True, dir_okay=False))
@click.option(
    "--format", "format_", type=click.Choice([*FORMATS]), help="The file's.  [default: guessed from the content]"
)
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@click.option("--strict", is_flag=True, help="Change nothing unless every row is good.")
@click.option(
    "--replace",
    is_flag=True,
    help="Remove what the file's domains hold and the file does not name. Change nothing unless every row is good.",
)
@click.option(
    "--max-remove",
    metavar="PERCENT",
    type=click.FloatRange(0, 100),
    default=10,
    show_default=True,
    help="With --replace: remove no more than this of addresses, blocked senders, restrictions, exceptions or groups.",
)
@click.option("--domain", metavar="D", type=DOMAIN, help="The domain of addresses that have none.")
@click.option("--add-domains", is_flag=True, help="Manage the domains of the addresses, where they are not yet.")
@click.option(
    "--into",
    type=click.Choice([each.value for each in Into]),
    default=None,
    help="What the lines of a list are; whom an access map refuses: recipients, or senders (blocked, the default).",
)
@click.option(
    "--append/--overwrite",
    default=False,
    help="exchange-csv, ldif: whether values join those there are, or replace them.  [default: overwrite]",
)
@click.option(
    "--column-separator",
    default=",",
    callback=_character,
    metavar="C",
    help="exchange-csv: what separates columns.  [default: ,]",
)
@click.option(
    "--quote", default='"', callback=_character, metavar="C", help='exchange-csv: what quotes cells.  [default: "]'
)
@click.option(
    "--multi-separator",
    default="%",
    callback=_character,
    metavar="C",
    help="exchange-csv: what separates values in a cell.  [default: %]",
)
def command(file: Path, format_: str | None, dry_run: bool, strict: bool, replace: bool, **options: Any) -> None:
    """Import domains, groups, mailboxes, addresses and blocked senders from FILE; `-` is stdin.

    A row that is wrong is reported, written to FILE.err, and does not stop the others; then the exit status is 65.

    \b
    Example: policyd import people.csv --dry-run
    """
    from policyd.admin.importing import Callbacks, ImportPlan, import_file, opened
    from policyd.cli.progress import Progress
    from policyd.transfer.detect import detect_format

    # What was given says how to read the file.
    read = ReadOptions(
        options["column_separator"],
        options["quote"],
        options["multi_separator"],
        options["append"],
        Into(options["into"]) if options["into"] else None,
        options["domain"] or "",
    )

    # Import it; problems are printed as they are found.
    call = invocation()
    with opened(file) as stream:
        plan = ImportPlan(
            format_ or detect_format(stream),
            read,
            is_dry_run=dry_run,
            is_strict=strict,
            is_replacing=replace,
            max_remove=options["max_remove"],
            adds_domains=options["add_domains"],
            replies=call.settings.reply,
            shown=None if call.verbose else _SHOWN_IN_JSON if call.json else PLANNED,
        )
        if format_ is None:
            call.say(f"{file}: read as {plan.format}; --format would say otherwise")
        with Progress(stream) as progress:
            report = _Report(file, progress.say)
            callbacks = Callbacks(report.print_notice, report.print_problems, progress.advance)
            outcome = import_file(call.session, file, stream, plan, actor(os.environ), int(time.time()), callbacks)

    # Say what came of it, with the exit status that scripts look at.
    for line in outcome.advice if outcome.is_kept else ():
        echo(f"policyd: {line}", err=True)
    warn_of_silent_syslog(call, outcome.is_logged)
    with closing(outcome.planned):
        _print_outcome(call, file, plan, outcome, report)
    if outcome.refusal:
        raise outcome.refusal
    if outcome.rejected:
        click.get_current_context().exit(_BAD_DATA)
    if outcome.is_all_skipped:
        skipped = ", ".join(_counted(outcome))
        echo(f"policyd: {file}: nothing in it is of use to policyd, skipped: {skipped}; nothing was changed", err=True)
        click.get_current_context().exit(_NOTHING)


@dataclass
class _Report:
    """Prints what is wrong with *file*, by `say`, and keeps the beginning of it for `--json`."""

    file: Path
    say: Callable[[str], None]
    errors: list[dict[str, Any]] = field(default_factory=list)

    def print_notice(self, notice: Notice) -> None:
        """Print something about the file itself."""
        self.say(f"{self.file}:{notice.line}: {notice.message}")

    def print_problems(self, record: Record, problems: tuple[Problem, ...]) -> None:
        """Print what is wrong with *record*, a line each, but for what was told before."""
        for problem in problems:
            column = f" column {problem.column!r}:" if problem.column else ""
            event = f" (event {problem.event})" if problem.event else ""
            if not problem.is_told:
                self.say(f"{self.file}:{record.line}:{column} {problem.message}{event}")
            if len(self.errors) < _SHOWN_IN_JSON:
                self.errors.append(
                    {
                        "line": record.line,
                        "column": problem.column,
                        "message": problem.message,
                        "event": problem.event or None,
                    }
                )


def _print_outcome(call: Invocation, file: Path, plan: "ImportPlan", outcome: "ImportOutcome", report: _Report) -> None:
    # For scripts, one object.
    if call.json:
        tally: dict[str, dict[str, int]] = {}
        for (kind, what), count in outcome.tally.items():
            tally.setdefault(kind, {})[what] = count
        shown: dict[str, Any] = {
            "format": plan.format,
            "changeset": outcome.changeset,
            "is_kept": outcome.is_kept,
            "rows": outcome.records,
            "rejected": outcome.rejected,
            "tally": tally,
            "skipped": dict(outcome.skipped),
            "errors": report.errors,
        }
        if outcome.opened:
            shown["opened"] = [domain.name for domain in outcome.opened]
        if plan.is_dry_run or outcome.refusal:
            shown |= {"changes": [*map(as_object, outcome.planned)], "count": outcome.count}
        echo_json(shown, indent=1)
        return

    # For people, a line for each kind of object, and one more where something is wrong. What a refused file would have
    # done is for scripts, too: somebody must look at it.
    if outcome.refusal:
        echo(f"{file}, {plan.format}: nothing was changed; it would have been:")
        print_planned(call, outcome.planned, outcome.count)
        return
    if plan.is_dry_run:
        echo(f"{file}, {plan.format}: nothing was changed; without --dry-run it would be:")
        print_planned(call, outcome.planned, outcome.count)
    for line in _summary(plan, outcome):
        if plan.is_dry_run:
            echo(line)
        else:
            call.say(line)
    if outcome.rejected:
        echo(_ending(file, plan, outcome), err=True)


def _summary(plan: "ImportPlan", outcome: "ImportOutcome") -> Iterator[str]:
    if outcome.is_all_skipped or not (outcome.is_kept or plan.is_dry_run):
        return

    # A line for each kind of object, with what became of how many.
    for kind in _KINDS:
        counts = [
            f"{outcome.tally[kind, what]} {what}"
            for what in ("added", "changed", "removed", "unchanged", "left out")
            if outcome.tally[kind, what]
        ]
        if counts:
            yield f"{kind}: {', '.join(counts)}"
    if outcome.skipped:
        yield f"skipped: {', '.join(_counted(outcome))}"

    # Domains of which the file does not say everything.
    for domain in outcome.opened:
        closing = f"--alias-of {domain.alias_of}" if domain.alias_of else "--unlisted reject"
        yield (
            f"{domain.name}: comes in with unlisted = accept, since the file does not say who is there;"
            f" when it does: policyd domain set {domain.name} {closing}"
        )

    # How to take it back, if there is anything to take back.
    if outcome.is_kept and outcome.changeset is None and not outcome.rejected:
        yield "nothing to change: it stands so already"
    elif outcome.changeset is not None:
        yield f"changeset {outcome.changeset}; to take it back: policyd undo {outcome.changeset}"


def _counted(outcome: "ImportOutcome") -> list[str]:
    """What was skipped, by kind."""
    return [f"{count} {kind}" for kind, count in sorted(outcome.skipped.items())]


def _ending(file: Path, plan: "ImportPlan", outcome: "ImportOutcome") -> str:
    others = "the others are imported" if outcome.changeset is not None else "nothing was changed"
    if plan.is_dry_run:
        others = "nothing was changed (--dry-run)"
    elif outcome.rejects:
        others += (
            f"; fix them in {outcome.rejects} and import it" if outcome.is_kept else f"; {outcome.rejects} has them"
        )
    return f"policyd: {file}: {outcome.rejected} of {outcome.records} rows are wrong; {others}"
