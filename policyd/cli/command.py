"""What every command has: the common options, the settings, and the way to the tables."""

import os
import pwd
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from policyd import __version__
from policyd.cli.terminal import confirm, echo
from policyd.errors import NotYetError, PolicydError, RefusedError, missing_package

if TYPE_CHECKING:
    from policyd.admin.session import Session
    from policyd.endpoint import Given
    from policyd.settings import Settings
    from policyd.store.edit import Editor
    from policyd.store.queries import Queries

_Owner = TypeVar("_Owner")
_PLACE = re.compile(r"(?<= )'\[?([A-Z]+)(?:\|-)?\]?(?:\.\.\.)?'")  # an argument in a message of click's
_TYPED = "policyd.typed"  # in a context's `meta`: the words of the command line
_LISTED = 30  # lines, before a question about more than fits a screen


@dataclass
class Invocation:
    """One call of the command line. An option counts wherever it stands; the last one wins."""

    config: Path | None = None
    database: str | None = None
    json: bool = False
    verbose: bool = False
    version: bool = False
    listen: tuple[str, ...] = field(default=())
    workers: str | None = None

    def load_settings(self, given: "Given | None" = None) -> "Settings":
        """The settings as they are now: what systemd has *given*, option, environment, file, default, in this order."""
        from policyd.endpoint import NOT_GIVEN
        from policyd.settings import load_settings, read_database

        file = self.settings_file
        database = read_database(self.database) if self.database is not None else os.environ.get("POLICYD_DATABASE")
        return load_settings(
            file, database=database or None, listen=self.listen, workers=self.workers, given=given or NOT_GIVEN
        )

    @property
    def settings_file(self) -> Path | None:
        """The settings file that was named, as an option or in the environment."""
        return self.config or (Path(name) if (name := os.environ.get("POLICYD_CONFIG")) else None)

    @cached_property
    def settings(self) -> "Settings":
        """The settings of this call."""
        return self.load_settings()

    @cached_property
    def now(self) -> int:
        """When this call began, in Unix seconds."""
        return int(time.time())

    @property
    def session(self) -> "Session":
        """The way to the tables. Raises StoreError where others could write or swap the database."""
        from policyd.admin.session import open_session

        return open_session(self.settings, self._tell_of_wait)

    def _tell_of_wait(self, process: str) -> None:
        """Say whom a change waits for; a script that seems to hang says it in its log, too."""
        self.warn(f"waiting for another command that is changing the tables{process and f' ({process})'}")

    @contextmanager
    def reading(self) -> "Iterator[Queries]":
        """One state of the tables."""
        with self.session.reading() as queries:
            yield queries

    @contextmanager
    def changing(self, *, may_create: bool = False) -> "Iterator[Editor]":
        """A changeset by the calling user, now; once it is committed and logged, `print_changes` prints its changes."""
        from policyd.cli.output import print_changes

        with self.session.changing(actor(os.environ), self.now, may_create=may_create) as made:
            yield made.edit
        print_changes(self, made.changes, is_logged=made.is_logged)

    @property
    def can_ask(self) -> bool:
        """Whether a person can be asked."""
        return bool(sys.stdin and sys.stdin.isatty())

    def take_option(self, name: str, value: Any) -> None:
        """Note that the common option *name* was given. Raises click.UsageError where it can't be."""
        setattr(self, name, value)

    def need_taken(self, ctx: click.Context) -> None:
        """Raises click.UsageError where the command of *ctx* can't be called; it always can, but from a batch."""

    @property
    def is_heard(self) -> bool:
        """Whether somebody reads what `say` prints: a person at a terminal, or who typed -v."""
        return self.verbose or bool(sys.stderr and sys.stderr.isatty())

    def say(self, line: str) -> None:
        """Print *line* on stderr for a person at a terminal; for a script only with -v."""
        if self.is_heard:
            echo(line, err=True)

    def warn(self, line: str) -> None:
        """Print *line* on stderr, for scripts, too: what was done needs another look."""
        echo(f"policyd: {line}", err=True)

    def say_of(
        self,
        names: "Iterable[str]",
        find: "Callable[[Queries, str], _Owner]",
        advise: "Callable[[Queries, _Owner, int], list[str]]",
    ) -> None:
        """Say what *advise* tells of each of the objects that *find* finds by *names*, as they stand once changed.

        That may take long: so nobody waits for it who does not hear it, or who wants to write meanwhile.
        """
        if not self.is_heard:
            return
        with self.reading() as queries:
            lines = [line for name in names for line in advise(queries, find(queries, name), self.now)]
        for line in lines:
            self.say(line)


def failure_of(error: Exception) -> tuple[str, int]:
    """What to print of *error*, as one line, and the exit status."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        return f"Missing command. See: {error.ctx.command_path} --help", error.exit_code
    if isinstance(error, click.UsageError):
        path = error.ctx.command_path if error.ctx else "policyd"
        # What is wrong is a NAME, however many of them the synopsis has room for.
        message = _PLACE.sub(r"'\1'", " ".join(error.format_message().split()))
        return f"{message}{'' if message.endswith(('.', '?')) else '.'} See: {path} --help", error.exit_code
    if isinstance(error, click.ClickException):
        return error.format_message(), error.exit_code
    if isinstance(error, PolicydError):
        return str(error), error.exit_status
    if isinstance(error, OSError):
        return f"{error.filename or 'input or output'}: {error.strerror}", 74

    # A package that it needs is not there: perhaps one of an extra, which is asked for only now.
    if isinstance(error, ModuleNotFoundError) and (told := missing_package(error)):
        return told, 69

    # A defect of ours.
    message = " ".join(str(error).split())
    return f"internal error: {type(error).__name__}: {message}; please report it", 70


def actor(environ: Mapping[str, str]) -> str:
    """Who changes the tables: the user, and the one before sudo or doas, as `root(sudo:bob)`."""
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = str(os.geteuid())
    for tool in ("sudo", "doas"):
        before = re.sub(r"[^\w.@+-]", "?", environ.get(f"{tool.upper()}_USER", ""))
        if before and before != user:
            return f"{user}({tool}:{before})"
    return user


def need_consent(question: str, *, is_given: bool, listed: Sequence[str] = ()) -> None:
    """Go on only if --yes was given, or a person at the terminal says yes, who is shown first what is *listed*."""
    if is_given:
        return
    if not invocation().can_ask:
        raise click.UsageError(f"{question} Add --yes.")
    for line in listed[:_LISTED]:
        echo(line, err=True)
    if len(listed) > _LISTED:
        echo(f"and {len(listed) - _LISTED} more", err=True)
    confirm(f"{question} Go on?")


def invocation() -> Invocation:
    """The call that is running."""
    return click.get_current_context().ensure_object(Invocation)


def _keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if value is not None and value is not False:
        ctx.ensure_object(Invocation).take_option(str(param.name), value)


def _common_options() -> list[click.Parameter]:
    return [
        click.Option(
            ["--config"],
            type=click.Path(path_type=Path),
            metavar="FILE",
            callback=_keep,
            expose_value=False,
            help="The settings file.  [env: POLICYD_CONFIG; default: /etc/policyd/policyd.toml]",
        ),
        click.Option(
            ["--database"],
            metavar="URL",
            callback=_keep,
            expose_value=False,
            help="The database, as sqlite:////path or a path.  [env: POLICYD_DATABASE]",
        ),
        click.Option(["--json"], is_flag=True, callback=_keep, expose_value=False, help="Print JSON, for scripts."),
        click.Option(
            ["-v", "--verbose"],
            is_flag=True,
            callback=_keep,
            expose_value=False,
            help="Say what was done, also where stderr is no terminal.",
        ),
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            callback=_print_version,
            expose_value=False,
            help="Print the version and exit.",
        ),
    ]


def _print_version(ctx: click.Context, _param: click.Parameter, value: Any) -> None:
    if value and not ctx.resilient_parsing:
        ctx.ensure_object(Invocation).take_option("version", value)
        click.echo(f"policyd {__version__}")
        ctx.exit()


class Command(click.Command):
    """A command that takes the common options. Words that it does not take are told with what is meant by them."""

    allow_extra_args = True  # for click: `parse_args` has a better word for them

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += _common_options()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse *args*, and return what is left of them; a mistake names this command's help."""
        ctx.meta[_TYPED] = typed = [*args]
        with _helped(self, ctx):
            ctx.ensure_object(Invocation).need_taken(ctx)
            extra = super().parse_args(ctx, args)
            if extra and not ctx.resilient_parsing:
                from policyd.cli.word_hints import extra_hint

                words = " ".join(extra)
                told = f"Got unexpected extra argument{'s' if len(extra) > 1 else ''} ({words})"
                hint = extra_hint(ctx.command_path.split()[1:], typed, extra, _options_of(self, ctx))
                raise click.UsageError(_with_hint(told, hint), ctx)
        return extra

    def invoke(self, ctx: click.Context) -> Any:
        """Run it; what is no mailbox or group may be meant for something else."""
        try:
            return super().invoke(ctx)
        except NotYetError as error:
            from policyd.cli.word_hints import missing_hint

            hint = missing_hint(error.fact, ctx.meta[_TYPED], _options_of(self, ctx))
            if not hint:
                raise
            raise RefusedError(f"{error.fact}; {hint}") from error


class Group(click.Group):
    """A noun, whose commands and itself take the common options."""

    command_class = Command
    group_class = type

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += _common_options()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse *args*, and return what is left of them; a mistake names this noun's help.

        Help in front of a command is that of the command.
        """
        if len(args) > 1 and args[0] in ctx.help_option_names and self.get_command(ctx, args[1]) is not None:
            args = [*args[1:], args[0]]
        with _helped(self, ctx):
            return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands, in the order in which they are defined."""
        return [*self.commands]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that *args* begin with; of one that there is not, an error says what to type instead."""
        if ctx.resilient_parsing or args[0].startswith("-") or self.get_command(ctx, args[0]) is not None:
            return super().resolve_command(ctx, args)
        from policyd.cli.hints import command_hint

        path = tuple(ctx.command_path.split()[1:])
        hint = command_hint(path, args[0], args[1:], self.list_commands(ctx))
        raise click.UsageError(_with_hint(f"No such command '{args[0]}'", hint), ctx)


@contextmanager
def _helped(command: click.Command, ctx: click.Context) -> Iterator[None]:
    """Have a mistake in the arguments of *command* name its help, and what to type instead of an unknown option."""
    try:
        yield
    except click.NoSuchOption as error:
        from policyd.cli.hints import option_hint

        commands = command.list_commands(ctx) if isinstance(command, click.Group) and ctx.parent is None else ()
        hint = option_hint(ctx.info_name or "", error.option_name, _options_of(command, ctx), commands)
        raise click.UsageError(_with_hint(f"No such option '{error.option_name}'", hint), error.ctx or ctx) from error
    except click.UsageError as error:
        error.ctx = error.ctx or ctx
        raise


def _options_of(command: click.Command, ctx: click.Context) -> list[str]:
    """The options of *command*, with their dashes."""
    named = [name for param in command.get_params(ctx) for name in (*param.opts, *param.secondary_opts)]
    return [name for name in named if name.startswith("-")]


def _with_hint(problem: str, hint: str) -> str:
    return f"{problem}; {hint}" if hint else f"{problem}."
