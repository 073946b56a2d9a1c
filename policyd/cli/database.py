"""`policyd database`: the database file."""

import click

from policyd.cli.command import Group, invocation
from policyd.cli.output import print_object
from policyd.store import read
from policyd.store.connect import create_database


@click.group("database", cls=Group)
def command() -> None:
    """The database file."""


@command.command("create")
def create() -> None:
    """Make the database, which must not be there yet. The first change on the command line makes it, too.

    \b
    Example: policyd database create
    """
    call = invocation()
    create_database(call.database_path)
    call.say(f"made {call.database_path}")
    if call.json:
        print_object(call, {"database": str(call.database_path)})


@command.command("stats")
def stats() -> None:
    """Count the rows of each table.

    \b
    Example: policyd database stats --json
    """
    call = invocation()
    path = call.database_path
    with call.reading() as connection:
        counted = read.counts(connection)
    print_object(call, {"database": str(path), "octets": path.stat().st_size, **counted})
