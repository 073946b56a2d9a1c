"""`policyd batch`: runs the commands of a file, each as if it had been typed, in one transaction."""

import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from policyd.changes import as_object, describe
from policyd.cli.command import Command, Invocation, actor, failure_of, invocation
from policyd.cli.command_lines import CommandLine, read_commands
from policyd.cli.output import print_planned, warn_of_silent_syslog
from policyd.cli.terminal import echo, echo_json_array
from policyd.cli.types import FilePath
from policyd.errors import BatchError, PolicydError, SettingsError, StoreError, TransferError
from policyd.model import Change
from policyd.printable import count_of

if TYPE_CHECKING:
    from policyd.admin.batch import Batch
    from policyd.store.edit import Editor
    from policyd.store.queries import Queries
    from policyd.store.spool import Spool

_NOUNS = ("domain", "group", "mailbox", "address", "sender")
_QUESTIONS = ("show", "list", "find")
_SHOWN_OF_LINE = 120  # characters


class _Done(NamedTuple):
    """A line that was done: its number and text, how many changes it made, and what there is to tell."""

    number: int
    text: str
    changed: int
    told: list[str]
    warned: list[str]


@click.command("batch", cls=Command)
@click.argument("file", type=FilePath(allow_dash=True, exists=True, dir_okay=False))
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
def command(file: Path, dry_run: bool) -> None:
    """Run the commands in FILE, one a line, as typed after `policyd`: all of them, or none; `-` is stdin.

    Only commands that change domains, groups, mailboxes, addresses and senders. All changes are one changeset.
    Quotes and backslashes are as in a shell, nothing is expanded, and # begins a comment. What would ask needs --yes.
    The first line that is wrong ends it, with the status that this line would have ended with; then nothing is changed.

    \b
    Example: policyd batch new-staff.txt
    """
    from policyd.admin.batch import Batch
    from policyd.store.spool import Spool

    # Read all of it, and look whether each line can be read, before anybody has to wait for us.
    call = invocation()
    content = _read(file)
    for _ in read_commands(content, str(file)):
        pass

    # Run the lines in one transaction.
    with closing(Spool[_Done]()) as done, closing(Spool[Change]()) as changes:
        batch = Batch(call.session, actor(os.environ), call.now, changes, is_dry_run=dry_run)
        lines = _Lines(click.get_current_context().find_root().command, _LineCall(call, batch), str(file))
        with batch:
            for line in read_commands(content, str(file)):
                done.put(lines.run(line, changes))

        # Say what came of it, now that it is kept.
        warn_of_silent_syslog(call, batch.is_logged)
        _print(call, file, batch, done, is_dry_run=dry_run)


def _read(file: Path) -> bytes:
    """All of *file*. Raises TransferError where stdin is closed, and OSError."""
    from policyd.files import open_to_read

    if str(file) != "-":
        with open_to_read(file) as stream:
            return stream.read()
    if sys.stdin is None:
        raise TransferError("stdin is closed; nothing can be read from it")
    return sys.stdin.buffer.read()


# --- One line ---


class _LineCall(Invocation):
    """The call that each line of a batch is: it works in the batch's transaction, and prints nothing yet."""

    def __init__(self, outer: Invocation, batch: "Batch") -> None:
        super().__init__(outer.config, outer.database, verbose=outer.verbose)
        self.now = outer.now
        self._batch = batch
        self.told: list[str] = []
        self.warned: list[str] = []

    @contextmanager
    def reading(self) -> "Iterator[Queries]":
        """The tables as the lines before have left them."""
        yield self._batch.begun().edit.queries

    @contextmanager
    def changing(self, *, may_create: bool = False) -> "Iterator[Editor]":
        """The changeset of the whole batch."""
        yield self._batch.begun(may_create=may_create).edit

    @property
    def can_ask(self) -> bool:
        """Nobody is asked: other commands would wait for the answer."""
        return False

    @property
    def is_heard(self) -> bool:
        """Only where -v was given: of many lines a person wants to know that they are done."""
        return self.verbose

    def say(self, line: str) -> None:
        """Keep *line* until the batch is done."""
        if self.is_heard:
            self.told.append(line)

    def warn(self, line: str) -> None:
        """Keep *line* until the batch is done."""
        self.warned.append(line)

    def take_option(self, name: str, value: Any) -> None:
        """Raises click.UsageError: what a common option says, it says of the whole batch."""
        raise click.UsageError(f"--{name} can't stand in a line; it goes behind `policyd batch`, for all lines.")

    def need_taken(self, ctx: click.Context) -> None:
        """Raises click.UsageError unless the command of *ctx* changes the tables, object by object."""
        _, noun, *verbs = ctx.command_path.split()
        if noun not in _NOUNS or verbs[-1:] in ([each] for each in _QUESTIONS):
            what = f"{', '.join(_NOUNS[:-1])} and {_NOUNS[-1]}"
            raise click.UsageError(f"Only what changes the tables can stand in a batch: commands of {what}.")


class _Lines:
    """Does the lines of the file *name*, by the commands below *root*, as *call*."""

    def __init__(self, root: click.Command, call: _LineCall, name: str) -> None:
        # A line that asks for help would print it: there is no such option in a line.
        self._root = click.Context(root, info_name=root.name, obj=call, help_option_names=[])
        self._nouns: dict[str, click.Context] = {}
        self._call = call
        self._name = name

    def run(self, line: CommandLine, changes: "Spool[Change]") -> _Done:
        """Do what *line* says, which adds to *changes*. Raises BatchError where that can't be done."""
        before = changes.count
        self._call.told, self._call.warned = [], []
        try:
            verb, command, words, noun = self._find(line.words)
            with command.make_context(verb, words, parent=noun) as ctx:
                command.invoke(ctx)
        except (StoreError, SettingsError):
            raise  # it is not about this line
        except (click.ClickException, PolicydError) as error:
            message, status = failure_of(error)
            shown = line.text if len(line.text) <= _SHOWN_OF_LINE else f"{line.text[:_SHOWN_OF_LINE]}…"
            raise BatchError(f"{self._name}:{line.number}: {shown}: {message} (nothing was changed)", status) from error
        return _Done(line.number, line.text, changes.count - before, self._call.told, self._call.warned)

    def _find(self, words: list[str]) -> tuple[str | None, click.Command, list[str], click.Context]:
        """The command that *words* begin with, its name, the words after it, and the context around it.

        The contexts are kept: to parse the options of each noun anew, of which a line has none, takes twice the time.
        """
        if words[0] == self._root.info_name:
            raise click.UsageError(f"A line begins behind `{words[0]}`: leave that word out.")
        ctx = self._root
        while True:
            assert isinstance(ctx.command, click.Group)
            if not words:
                raise click.UsageError("Missing command.", ctx)
            name, command, words = ctx.command.resolve_command(ctx, words)
            assert command is not None
            if not isinstance(command, click.Group):
                return name, command, words, ctx
            ctx = self._nouns.setdefault(str(name), click.Context(command, parent=ctx, info_name=name))


# --- What came of it ---


def _print(call: Invocation, file: Path, batch: "Batch", done: "Spool[_Done]", *, is_dry_run: bool) -> None:
    # For scripts, an object for each line. A warning is for both.
    for each, _ in _with_changes(done, batch):
        for line in each.warned:
            call.warn(f"{file}:{each.number}: {line}")
    if call.json:
        echo_json_array(
            {
                "line": each.number,
                "command": each.text,
                "changeset": batch.changeset,
                "changes": [*map(as_object, changes)],
            }
            for each, changes in _with_changes(done, batch)
        )
        return

    # For people, how much it was, and with -v each change.
    if is_dry_run:
        print_planned(call, batch.changes, batch.changes.count)
        echo(f"{batch.changes.count} changes; nothing was changed (--dry-run)")
        return
    if call.verbose:
        for each, changes in _with_changes(done, batch):
            for line in [*map(describe, changes), *each.told]:
                call.say(f"{file}:{each.number}: {line}")
    lines = f"{file}: {count_of(done.count, 'line')}"
    if batch.changeset is None:
        call.say(f"{lines}, nothing to change: it stands so already")
    else:
        made = count_of(batch.changes.count, "change")
        call.say(f"{lines}, {made}; changeset {batch.changeset}; to take it back: policyd undo {batch.changeset}")


def _with_changes(done: "Spool[_Done]", batch: "Batch") -> Iterator[tuple[_Done, list[Change]]]:
    """Each line that was done, and what it changed."""
    changes = iter(batch.changes)
    for each in done:
        yield each, [*islice(changes, each.changed)]
