"""The command `policyd`. Each noun is a file of its own, imported when it is used."""

import atexit
import gc
import importlib
import os
import stat
import sys
from contextlib import suppress
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any, NoReturn

import click

from policyd.cli.command import Group, failure_of
from policyd.cli.terminal import echo

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

NOUNS = {
    "serve": ("policyd.cli.serve", "Answer Postfix, in the foreground, until SIGTERM."),
    "check": ("policyd.cli.check", "Say what the answer to a request is, and why."),
    "domain": ("policyd.cli.domain", "The domains that policyd has an opinion on, and who may send to them."),
    "group": ("policyd.cli.group", "Groups of mailboxes, and who may send to each mailbox in them."),
    "mailbox": ("policyd.cli.mailbox", "Mailboxes, and who may send to them."),
    "address": ("policyd.cli.address", "The addresses of mailboxes."),
    "sender": ("policyd.cli.sender", "Who may not send, and to whom."),
    "batch": ("policyd.cli.batch", "Many commands from a file: all of them, or none."),
    "import": ("policyd.cli.import_", "A file into the tables, in bulk."),
    "export": ("policyd.cli.export", "The tables as a file."),
    "report": ("policyd.cli.report", "What the log says: who was refused, or would be, and what lets them in."),
    "why": ("policyd.cli.why", "Why a mail was refused, who set that, and what has changed since."),
    "history": ("policyd.cli.history", "Who changed what, and when."),
    "undo": ("policyd.cli.undo", "Take back what one command changed."),
    "doctor": ("policyd.cli.doctor", "Say why a rule may have no effect, and what to type."),
    "setup": ("policyd.cli.setup", "Have policyd watch a Postfix that works."),
    "top": ("policyd.cli.top", "What the daemon does, live in the terminal."),
    "replica": ("policyd.cli.replica", "The replica on this host, from which the daemon answers."),
    "database": ("policyd.cli.database", "The database file."),
    "completion": ("policyd.cli.completion", "What has a shell complete commands, options and names."),
}


class Nouns(Group):
    """The top of the command line; its help imports none of the commands."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The nouns, in the order of docs/commands.rst."""
        return [*NOUNS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command *cmd_name*, imported now."""
        if cmd_name not in NOUNS:
            return None
        command: click.Command = importlib.import_module(NOUNS[cmd_name][0]).command
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem[str]]":
        """The nouns that *incomplete* may become."""
        from click.shell_completion import CompletionItem

        nouns = [CompletionItem(noun, help=told) for noun, (_, told) in NOUNS.items() if noun.startswith(incomplete)]
        return nouns + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the nouns with a sentence each."""
        with formatter.section("Commands"):
            formatter.write_dl([(noun, sentence) for noun, (_, sentence) in NOUNS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; where nobody reads on, as after `| head -1`, end as SIGPIPE would have it."""
        try:
            result = super().invoke(ctx)
            if sys.stdout:
                sys.stdout.flush()  # now, while an error can still be reported
        except BrokenPipeError:  # here, since click would end with 1
            _discard(sys.stdout, sys.stderr)
            sys.exit(141)
        return result

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Run a command; end with its exit status, and for every error with one line on stderr."""
        # Importing makes some hundred thousand objects that stay: to collect at each 700 new ones, as Python does by
        # itself, costs a sixth of a command's processor time.
        gc.set_threshold(50_000)
        atexit.register(gc.freeze)  # and to go through all of them at the end, once more as much

        # Nothing but answers may reach Postfix, and nothing that is printed may fail for its characters.
        if "--stdio" in (args[0] if args else sys.argv):
            _keep_stderr_from_the_peer()
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")

        # Run it, and turn what it raises into a line and an exit status.
        kwargs |= {"standalone_mode": False, "prog_name": "policyd", "complete_var": ""}  # `completion` is our own
        try:
            result = super().main(*args, **kwargs)
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message(), err=True)
            sys.exit(2)
        except (click.Abort, KeyboardInterrupt):
            _fail("stopped; nothing was changed", 130)
        except Exception as error:  # noqa: BLE001 - no traceback reaches a user
            if isinstance(error, OSError):
                _discard(sys.stdout)
            _fail(*failure_of(error))
        sys.exit(result if isinstance(result, int) else 0)


@click.group(
    cls=Nouns,
    name="policyd",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
def main() -> None:
    """Say, for Postfix, who may receive mail from the Internet and who may send mail to it.

    \b
    Example: policyd mailbox restrict alice --reason "internal mailbox"
    """


def _fail(message: str, status: int) -> NoReturn:
    echo(f"policyd: {message}", err=True)
    sys.exit(status)


def _discard(*streams: Any) -> None:
    """Discard what *streams* still hold, which would be written when the process ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        with suppress(OSError, ValueError, AttributeError):  # what has no descriptor is not flushed anywhere
            os.dup2(nowhere, stream.fileno())


def _keep_stderr_from_the_peer() -> None:
    """spawn(8) connects stderr to Postfix too, which would take a line there for an answer."""
    try:
        is_socket = stat.S_ISSOCK(os.fstat(sys.stderr.fileno()).st_mode)
    except (OSError, ValueError):
        is_socket = True
    if is_socket:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
