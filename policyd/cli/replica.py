"""`policyd replica`: says how the replica on this host is."""

from typing import TYPE_CHECKING, Any

import click

from policyd.cli.command import Group, invocation
from policyd.cli.output import Call, print_object
from policyd.cli.types import Number
from policyd.errors import SettingsError, StoreError
from policyd.timestamps import show_local

if TYPE_CHECKING:
    from policyd.replica.status import ReplicaStatus


@click.group("replica", cls=Group)
def command() -> None:
    """The replica on this host, from which the daemon answers."""


@command.command("status")
@click.option(
    "--max-age",
    type=Number(min=0),
    metavar="SECONDS",
    help="End with 1 if the replica may have missed changes for longer; for monitoring.",
)
def status(max_age: int | None) -> None:
    """Say how far the replica has come, since when it may have missed changes, and what is in its way.

    \b
    Example: policyd replica status --max-age 60
    """
    from policyd.replica.status import read_status

    call = invocation()
    replica = call.settings.replica
    if replica is None:
        raise SettingsError("replica: this host has none; the settings name no file for one")
    found = read_status(replica)
    now = call.now
    print_object(call, _fields(call, now, str(replica), found))

    # For monitoring: a time that is still to come says nothing of the age.
    age, problem = found.age(now), found.problem_at(now)
    if max_age is not None and (age > max_age or found.current_at > now + max_age):
        because = f": {problem}" if problem else ""
        raise _TooOldError(f"{replica}: may have missed changes for {found.age_in_words(now)}{because}")


def _fields(call: Call, now: int, replica: str, found: "ReplicaStatus") -> dict[str, Any]:
    """What is printed of *found*: for a person, times in words, and only what there is."""
    problem = found.problem_at(now)
    if call.json:
        return {
            "replica": replica,
            "source": found.source,
            "history": found.history,
            "id": found.id,
            "digest": found.digest,
            "current_at": found.current_at or None,
            "age": found.age(now) if found.current_at else None,
            "behind": found.behind,
            "problem": problem or None,
        }
    since = f" (since {show_local(found.current_at)})" if found.current_at else ""
    fields = {
        "replica": replica,
        "source": found.source,
        "history": found.history,
        "change": found.id,
        "behind": found.behind,
        "may have missed changes for": f"{found.age_in_words(now)}{since}",
    }
    if problem:
        fields["problem"] = problem
        fields["meanwhile"] = "mail is answered from the replica as it is, and changes come when it is followed again"
    return fields


class _TooOldError(StoreError):
    """The replica has missed too much."""

    exit_status = 1
