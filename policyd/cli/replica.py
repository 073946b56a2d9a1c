"""`policyd replica`: says how the replica on this host is."""

import time
from dataclasses import asdict

import click

from policyd.cli.command import Group, invocation
from policyd.cli.output import print_object
from policyd.errors import SettingsError, StoreError


@click.group("replica", cls=Group)
def command() -> None:
    """The replica on this host, from which the daemon answers."""


@command.command("status")
@click.option(
    "--max-age",
    type=click.IntRange(min=0),
    metavar="SECONDS",
    help="End with 1 if the replica may have missed changes for longer; for monitoring.",
)
def status(max_age: int | None) -> None:
    """Say how far the replica has come, since when it may have missed changes, and what is in its way.

    \b
    Example: policyd replica status --max-age 60
    """
    from policyd.replica.status import read_status  # help does without

    call = invocation()
    replica = call.settings.replica
    if replica is None:
        raise SettingsError("replica: this host has none; the settings name no file for one")
    found = read_status(replica)
    age = found.age(call.now)
    is_current = time.localtime(found.current_at)
    current = time.strftime("%Y-%m-%d %H:%M:%S%z", is_current) if found.current_at else "never"
    print_object(
        call,
        {"replica": str(replica), **asdict(found), "current_at": current, "age": age},
    )
    if max_age is not None and age > max_age:
        problem = f": {found.problem}" if found.problem else ""
        raise _TooOldError(f"{replica}: may have missed changes for {age} seconds, more than {max_age}{problem}")


class _TooOldError(StoreError):
    """The replica has missed too much."""

    exit_status = 1
