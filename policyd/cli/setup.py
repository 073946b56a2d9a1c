"""`policyd setup`: connects Postfix with policyd, shows first what that takes, and takes it back."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from policyd.cli.command import Command, Invocation, actor, invocation
from policyd.cli.postfix import postfix_config_option
from policyd.cli.terminal import confirm, echo, echo_json
from policyd.cli.types import complete_folder
from policyd.errors import SetupError
from policyd.printable import count_of

if TYPE_CHECKING:
    from policyd.setup.plan import Plan


@click.command("setup", cls=Command)
@postfix_config_option
@click.option("--apply", "is_applied", is_flag=True, help="Do it; at a terminal, you are asked once.")
@click.option("--enforce", "is_enforced", is_flag=True, help="Have refusals spoken, which were only logged until then.")
@click.option("--undo", "is_undone", is_flag=True, help="Put Postfix's files and the settings back as they were.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@click.argument("record", required=False, type=click.Path(path_type=Path), shell_complete=complete_folder)
def command(
    postfix_config: Path | None,
    is_applied: bool,
    is_enforced: bool,
    is_undone: bool,
    yes: bool,
    record: Path | None,
) -> None:
    """Have policyd watch a Postfix that works: what that takes is shown, and nothing is changed without --apply.

    The settings come from Postfix's own; domains, mailboxes and addresses from its maps and the system's users. In
    Postfix's files only the check is put in front of lists, and an address inside an address is switched off. At first
    nothing is refused: it is only logged, until --enforce. --undo takes the last setup back, or that of RECORD, the
    folder that --apply names.

    \b
    Example: policyd setup --apply
    """
    if is_applied + is_enforced + is_undone > 1:
        raise click.UsageError("one of --apply, --enforce and --undo.")
    if record and not is_undone:
        is_option = str(record) in ("apply", "enforce", "undo")
        raise click.UsageError(
            f"'{record}' is an option; type: --{record}" if is_option else "RECORD goes with --undo."
        )
    call = invocation()
    if is_undone:
        from policyd.setup.steps import undo

        _tell(call, undo(call.settings_file, postfix_config and postfix_config.absolute(), record))
    elif is_enforced:
        from policyd.setup.steps import enforce

        _tell(call, enforce(call.settings, call.settings_file))
    else:
        _set_up(call, postfix_config and postfix_config.absolute(), is_applied=is_applied, is_told=yes)


def _set_up(call: Invocation, folder: Path | None, *, is_applied: bool, is_told: bool) -> None:
    """Show the plan, or show it and do it."""
    from policyd.setup.plan import make_plan
    from policyd.setup.steps import apply, need_root

    if is_applied:
        need_root()
    named = call.settings.database if call.database is not None else ""
    plan = make_plan(call.settings, call.settings_file, folder, database=named)
    is_done = is_applied and not (plan.is_empty or plan.obstacles)
    is_asked = is_done and not is_told and call.can_ask
    if is_asked or not is_done:
        _show(call, plan)
    if plan.obstacles:
        click.get_current_context().exit(1)
    if not is_done:
        return
    if is_asked:
        confirm("Do this?")
    _tell(call, apply(plan, actor(os.environ), call.now))


def _show(call: Invocation, plan: "Plan") -> None:
    if call.json:
        echo_json(plan.as_object(), indent=1)
        return
    for line in _lines(plan):
        echo(line)


def _lines(plan: "Plan") -> Iterator[str]:
    """The plan, for a person, in the order in which it would be done."""
    yield from plan.host
    for line in plan.wanted.added:
        yield f"{plan.settings_file}: {line}"
    yield from _listed_lines(plan)
    yield from plan.daemon
    yield from plan.commands
    if plan.commands:
        yield plan.reload
    if plan.is_interrupted:
        yield "the rest of a setup that was interrupted"
    for note in (*plan.wanted.notes, *plan.listed.notes):
        yield f"note: {note}"
    for obstacle in plan.obstacles:
        yield f"left to you: {obstacle}"
    if plan.is_empty and not plan.obstacles:
        yield "nothing to do"
    elif not plan.obstacles:
        yield "to do it: policyd setup --apply"


def _listed_lines(plan: "Plan") -> Iterator[str]:
    """What the tables would get."""
    from policyd.setup.steps import domain_lines

    for line in domain_lines(plan):
        yield f"policyd domain add {line}"
    if plan.listed.mailboxes:
        yield f"{count_of(len(plan.listed.mailboxes), 'mailbox', 'mailboxes')}, as {plan.listed.mailboxes[0]}"
    if plan.listed.aliases:
        address, target = next(iter(plan.listed.aliases.items()))
        yield f"{count_of(len(plan.listed.aliases), 'further address', 'further addresses')}, as {address} of {target}"


def _tell(call: Invocation, lines: Iterator[str]) -> None:
    """Print each line of what is done as it is done; as JSON, all of them at the end."""
    told = []
    try:
        for line in lines:
            told.append(line)
            if not call.json:
                echo(line)
    except KeyboardInterrupt:
        raise SetupError("stopped on the way; type the same to go on, or take it back: policyd setup --undo") from None
    if call.json:
        echo_json({"done": told})
    elif not told:
        echo("nothing to do")
