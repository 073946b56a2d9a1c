"""`policyd export`: the tables -> a file, in any of the formats that `import` reads."""

import importlib
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import click

from policyd.cli.command import Command, invocation
from policyd.cli.terminal import echo
from policyd.cli.types import FilePath
from policyd.errors import StoreWriteError
from policyd.files import writing
from policyd.printable import printable
from policyd.store.connect import driver_connection
from policyd.store.dump import Dump
from policyd.transfer.guess import FORMATS


@click.command("export", cls=Command)
@click.option("--format", "format_", type=click.Choice([*FORMATS]), default="jsonl", show_default=True)
@click.option("-o", "--output", metavar="FILE", type=FilePath(allow_dash=True), default="-")
def command(format_: str, output: Path) -> None:
    """Write all tables as a file that `policyd import` reads; jsonl and csv carry everything.

    What the format can't carry, and what has ended, is left out and counted on stderr.

    \b
    Example: policyd export --format csv -o tables.csv
    """
    call = invocation()
    lost: Counter[str] = Counter()
    with call.reading() as connection:
        tables = Dump(driver_connection(connection), int(time.time()))
        chunks = importlib.import_module(f"policyd.transfer.{FORMATS[format_]}").write(tables, lost)
        if str(output) == "-":
            if sys.stdout is None:
                raise StoreWriteError("stdout is closed; nothing can be written to it")
            if sys.stdout.isatty():  # a database changed past policyd may hold what a terminal obeys
                chunks = (printable(chunk, keep="\r\n\t") for chunk in chunks)
            _write_to(sys.stdout.buffer, chunks)
        else:
            _write_whole(output, chunks)
    told = ", ".join(f"{count} {what}" for what, count in sorted(lost.items()) if count)
    if told:
        echo(f"policyd: {format_} can't carry everything; left out: {told}", err=True)
    if any(tables.ended.values()):
        ended = ", ".join(f"{count} {what}" for what, count in sorted(tables.ended.items()) if count)
        echo(f"policyd: left out, since they have ended: {ended}", err=True)
    if str(output) != "-":
        call.say(f"wrote {output}")


def _write_whole(output: Path, chunks: Iterable[str]) -> None:
    """Write *chunks* to *output*: the whole file appears at once, readable by its owner only.

    A device or pipe that is there already is written to as it is.
    """
    try:
        with writing(output) as file:
            _write_to(file, chunks)
    except OSError as error:
        raise StoreWriteError(f"{output}: can't be written: {error.strerror}") from error


def _write_to(file: BinaryIO, chunks: Iterable[str]) -> None:
    """Write *chunks* in UTF-8, whatever the locale says."""
    file.writelines(chunk.encode("utf-8") for chunk in chunks)
    file.flush()
