"""Prints lines and JSON in which nothing is left that a terminal would obey; everything printed goes through here."""

from collections.abc import Iterable
from typing import Any

import click

from policyd.printable import printable, to_json


def echo(line: str, *, err: bool = False) -> None:
    """Print one line, on stderr if *err*. Whatever it quotes, a line break or an escape in it stands as a code."""
    click.echo(printable(line), err=err)


def echo_cells(cells: list[str]) -> None:
    """Print a line of cells, separated by tabs."""
    click.echo("\t".join(map(printable, cells)))


def echo_json(value: Any, *, indent: int | None = None) -> None:
    """Print *value* as JSON."""
    click.echo(to_json(value, indent=indent))


def echo_json_array(values: Iterable[Any], *, indent: int | None = None) -> None:
    """Print *values* as a JSON array, one on each line without *indent*: memory does not grow with their number."""
    separator, margin = "[", " " * (indent or 0)
    for value in values:
        click.echo(separator)
        click.echo(margin + to_json(value, indent=indent).replace("\n", f"\n{margin}"), nl=False)
        separator = ","
    click.echo("[]" if separator == "[" else "\n]")


def confirm(question: str) -> None:
    """Go on if a person says yes. Raises click.Abort if not."""
    click.confirm(printable(question), abort=True, err=True)
