"""`policyd export`: writes the tables to a file, in any of the formats that `import` reads."""

import sys
import time
from collections import Counter
from pathlib import Path

import click

from policyd.cli.command import Command, invocation
from policyd.cli.terminal import echo
from policyd.cli.types import FilePath
from policyd.errors import StoreWriteError
from policyd.transfer.formats import FORMATS

_WORDS = {
    "accept": "accepted sender",
    "accepted-sender": "accepted sender",
    "blocked-sender": "blocked sender",
    "created": "creation",
    "created_at": "creation",
    "except": "exception",
    "inherited-restriction": "inherited restriction",
}


@click.command("export", cls=Command)
@click.option(
    "--format", "format_", type=click.Choice([*FORMATS]), default="jsonl", show_default=True, help="What to write."
)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=FilePath(allow_dash=True),
    default="-",
    help="Where to; the file appears whole or not at all, and only its owner can read it.  [default: stdout]",
)
def command(format_: str, output: Path) -> None:
    """Write all tables as a file that `policyd import` reads; jsonl and csv carry everything.

    What the format can't carry, and what has ended, is left out and counted on stderr.

    \b
    Example: policyd export --format csv -o tables.csv
    """
    from policyd.admin.exporting import export_tables

    # Write the file.
    call = invocation()
    is_stdout = str(output) == "-"
    if is_stdout and sys.stdout is None:
        raise StoreWriteError("stdout is closed; nothing can be written to it")
    outcome = export_tables(
        call.session,
        format_,
        sys.stdout.buffer if is_stdout else output,
        int(time.time()),
        # A database that was changed past policyd may hold what a terminal obeys.
        is_terminal=is_stdout and sys.stdout.isatty(),
    )

    # Say what is not in it.
    if lost := _listed(outcome.lost):
        echo(f"policyd: {format_} can't carry everything; left out: {lost}", err=True)
    if ended := _listed(outcome.ended):
        echo(f"policyd: left out, since they have ended: {ended}", err=True)
    if not is_stdout:
        call.say(f"wrote {output}")


def _listed(counts: Counter[str]) -> str:
    """How much of what, with one word for a thing, whatever the format calls it."""
    told: Counter[str] = Counter()
    for what, count in counts.items():
        told[_WORDS.get(what, what)] += count
    return ", ".join(f"{count} {what}" for what, count in sorted(told.items()) if count)
