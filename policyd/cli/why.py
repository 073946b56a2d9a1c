"""`policyd why`: prints why a mail was refused, who set that, and what has changed since."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from policyd.address import NULL_SENDER, quote_local_part
from policyd.cli.command import Command, invocation
from policyd.cli.terminal import echo, echo_json
from policyd.cli.types import FilePath
from policyd.timestamps import show_local


@click.command("why", cls=Command)
@click.argument("asked", metavar="LINE|QUEUE-ID|-")
@click.option(
    "--log",
    "logs",
    metavar="FILE",
    multiple=True,
    type=FilePath(allow_dash=True, exists=True, dir_okay=False),
    help="The log to look in, with the files that it was rotated to. Without it, this host's mail log, or its journal.",
)
def command(asked: str, logs: tuple[Path, ...]) -> None:
    """Say why a mail was refused: what refused it, who set that and when, what has changed since, the answer now.

    LINE is one of the audit, of `policyd report`, or of smtpd about the refusal; `-` reads it from stdin.

    \b
    Example: policyd why 4XyZ0B1cJ2z9 --log mail.log
    """
    from policyd.report.why import explain_mail

    call = invocation()
    line = sys.stdin.buffer.read().decode("utf-8", "surrogateescape") if asked == "-" else asked
    mails, more = explain_mail(line, [*logs], call.session, call.settings, call.now)
    if call.json:
        echo_json(mails, indent=1)
    else:
        for number, mail in enumerate(mails):
            if number:
                echo("")
            for line in _lines(mail):
                echo(line)
    if more:
        call.warn(f"there are {more} more; name the log of their day with --log")


def _lines(mail: Mapping[str, Any]) -> Iterator[str]:
    """One mail, for a person."""
    when = f"{show_local(mail['at'])}: " if mail["at"] else ""
    would = ", would be REJECT" if mail["would"] else ""
    yield f"{when}{mail['action']}{would} {mail['text']}".rstrip()
    login = f", login {mail['login']}" if mail["login"] else ""
    yield f"  from {_address(mail['sender'])}{login}, client {mail['client']}, to {_address(mail['recipient'])}"
    yield f"  rule {mail['rule']}: {mail['because']}"

    # Who set it, and what happened to it.
    if mail["set_by"]:
        yield f"  set {_change(mail['set_by'])}"
    elif mail["would"] or mail["action"] == "REJECT":
        yield "  the journal has no change that set it: it is another database's, or was restored since"
    if mail["ended"]:
        yield f"  its end has passed: {show_local(mail['ended'])}"
    for change in mail["since"]:
        yield f"  since then: {_change(change)}"
    if mail["since_more"]:
        yield f"  and {mail['since_more']} changes more; see: policyd history"

    # The same question again.
    if mail["now"] is None:
        yield "  it can't be asked again: a value that decides is cut in the line"
        return
    yield f"  asked now: {mail['now']['action']} {mail['now']['text']}".rstrip()
    yield from (f"    {step}" for step in mail["now"]["trace"])


def _change(fields: Mapping[str, Any]) -> str:
    """A change in words: when, by whom, what, and under which numbers."""
    number, changeset = fields["id"], fields["changeset"]
    numbers = f"change {number}" + (f" of changeset {changeset}" if changeset != number else "")
    return f"{show_local(fields['at'])} by {fields['actor']}: {fields['words']} ({numbers}, {fields['operation']})"


def _address(text: str) -> str:
    return quote_local_part(text) if text else NULL_SENDER
