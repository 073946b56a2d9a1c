"""`policyd export`: the tables -> a file, in any of the formats that `import` reads."""

import importlib
import os
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import click

from policyd.cli.command import Command, invocation
from policyd.errors import StoreWriteError
from policyd.store.database import driver_connection
from policyd.store.dump import Dump
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
    lost: Counter[str] = Counter()
    with call.reading() as connection:
        chunks = importlib.import_module(f"policyd.transfer.{FORMATS[format_]}").write(
            Dump(driver_connection(connection)), lost
        )
        if str(output) == "-":
            if sys.stdout is None:
                raise StoreWriteError("stdout is closed; nothing can be written to it")
            _write_to(sys.stdout.buffer, chunks)
        else:
            _write_whole(output, chunks)
    told = ", ".join(f"{count} {what}" for what, count in sorted(lost.items()) if count)
    if told:
        click.echo(f"policyd: {format_} can't carry everything; left out: {told}", err=True)
    if str(output) != "-":
        call.say(f"wrote {output}")


def _write_whole(output: Path, chunks: Iterable[str]) -> None:
    """Write *chunks* to *output*: the whole file appears at once, readable by its owner only.

    A device or pipe that is there already is written to as it is.
    """
    draft = output.parent / f".{output.name}.{os.getpid()}.new"
    try:
        if output.exists() and not output.is_file():
            with output.open("wb") as file:
                _write_to(file, chunks)
            return
        try:
            with open(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
                _write_to(file, chunks)
            draft.replace(output)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise StoreWriteError(f"{output}: can't be written: {error.strerror}") from error


def _write_to(file: BinaryIO, chunks: Iterable[str]) -> None:
    """Write *chunks* in UTF-8, whatever the locale says."""
    file.writelines(chunk.encode("utf-8") for chunk in chunks)
    file.flush()
