"""`policyd export`: the tables -> a file, in any of the formats that `import` reads."""

import sys
from pathlib import Path

import click

from policyd.admin.exporting import export_tables
from policyd.cli.command import Command, invocation
from policyd.errors import StoreWriteError
from policyd.transfer.guess import FORMATS


@click.command("export", cls=Command)
@click.option("--format", "format_", type=click.Choice([*FORMATS]), default="jsonl", show_default=True)
@click.option("-o", "--output", metavar="FILE", type=click.Path(path_type=Path, allow_dash=True), default="-")
def command(format_: str, output: Path) -> None:
    """Write all tables as a file that `policyd import` reads; jsonl and csv carry everything.

    What the format can't carry is counted on stderr.

    \b
    Example: policyd export --format csv -o tables.csv
    """
    call = invocation()
    is_stdout = str(output) == "-"
    if is_stdout and sys.stdout is None:
        raise StoreWriteError("stdout is closed; nothing can be written to it")
    lost = export_tables(call.session, format_, sys.stdout.buffer if is_stdout else output)
    left_out = ", ".join(f"{count} {what}" for what, count in sorted(lost.items()) if count)
    if left_out:
        click.echo(f"policyd: {format_} can't carry everything; left out: {left_out}", err=True)
    if not is_stdout:
        call.say(f"wrote {output}")
