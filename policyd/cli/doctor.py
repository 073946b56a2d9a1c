"""`policyd doctor`: says why a rule may have no effect, and what to type."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from policyd.cli.command import Command, invocation
from policyd.cli.postfix import postfix_config_option
from policyd.cli.terminal import echo, echo_json
from policyd.cli.types import FilePath
from policyd.printable import count_of

if TYPE_CHECKING:
    from policyd.doctor.diagnosis import Diagnosis
    from policyd.doctor.examine import Report


@click.command("doctor", cls=Command)
@postfix_config_option
@click.option(
    "--log",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The log with policyd's lines; without it, where mail logs are, and the journal.",
)
@click.option("--no-probe", is_flag=True, help="Give no recipient to Postfix, to look for its trace in the log.")
@click.option(
    "--write",
    type=FilePath(dir_okay=False),
    metavar="FILE",
    help="Leave what is found in FILE, too, as --json has it: for the daemon's page, of which it is doctor_file.",
)
def command(postfix_config: Path | None, log: Path | None, no_probe: bool, write: Path | None) -> None:
    """Say why a rule may have no effect: what passes Postfix unasked, and what is refused that should not be.

    It reads Postfix's configuration, the settings and the tables, and tries the sockets; it changes nothing. Each
    finding has a code, which the documentation explains, and the lines to type. Root sees most: where Postfix runs, a
    recipient is given at each port, no mail is sent, and the log must say that policyd was asked.

    Ends with 1 where there is an error or a warning.

    \b
    Example: policyd doctor
    """
    from policyd.doctor.examine import examine
    from policyd.doctor.saved import save

    call = invocation()
    report = examine(
        call.settings,
        postfix_config,
        call.now,
        settings_file=call.settings_file,
        log_file=log,
        is_proven=not no_probe,
    )
    if call.json:
        echo_json(report.as_object(), indent=1)
    else:
        for line in _lines(report):
            echo(line)
    if write is not None:
        save(report.as_object(), write)
    click.get_current_context().exit(0 if report.is_well else 1)


def _lines(report: "Report") -> Iterator[str]:
    """What a person reads."""
    for found in report.found:
        yield from _explain(found)
    for unseen in report.unseen:
        yield f"not looked at: {unseen}"
    yield from report.proof
    counts = {weight: sum(each.weight == weight for each in report.found) for weight in ("error", "warning")}
    yield ", ".join(count_of(number, noun) for noun, number in counts.items())


def _explain(found: "Diagnosis") -> Iterator[str]:
    yield f"{found.weight} {found.code}: {found.about}"
    yield f"  {found.sentence}"
    yield f"  {found.effect}"
    for line in found.commands:
        yield f"  # {line}"
    for line in found.settings:
        yield f"  in the settings: {line}"
    if found.advice:
        yield f"  {found.advice}"
