"""The commands that change what a page shows, as a person types them."""

from collections.abc import Sequence
from shlex import quote
from typing import NamedTuple, assert_never

from policyd.address import quote_local_part
from policyd.model import BlockedSender, Domain, Group, Mailbox, Party, PartyKind, Unlisted
from policyd.rules import is_past


class Offer(NamedTuple):
    """What a command would do, and the command; "" where nobody can type it."""

    words: str
    command: str


def typed_command(noun: str, verb: str, *words: str | Party, options: Sequence[str | Party] = ()) -> str:
    """The command of these words, *options* first; "" where it has characters that nobody can type."""
    typed, given = [*map(_word, words)], [*map(_word, options)]
    if not all(each.isprintable() for each in (*typed, *given)):
        return ""
    # What begins with a dash is no option behind `--`.
    dashes = ["--"] if any(each.startswith(("-", "'-")) for each in typed) else []
    return " ".join(["policyd", noun, verb, *given, *dashes, *typed])


def unblocking(entry: BlockedSender) -> str:
    """The command that takes *entry* away."""
    return typed_command("sender", "unblock", entry.who, options=("--to", entry.to))


def offers(owner: Domain | Group | Mailbox, now: int) -> list[Offer]:
    """The commands that would change *owner*, as it is at *now* in Unix seconds; those first that may be meant."""
    match owner:
        case Domain():
            return _of_domain(owner, now)
        case Group():
            return [
                *_restricting(owner, now, "each mailbox in it that says nothing itself"),
                Offer("Add a member, a mailbox or a group", typed_command("group", "join", owner.name, "MEMBER")),
                Offer("Take a member out", typed_command("group", "leave", owner.name, "MEMBER")),
            ]
        case Mailbox():
            return [
                *_restricting(owner, now, "it"),
                Offer("Let anyone send to it, whatever else is said", typed_command("mailbox", "open", owner.name)),
                Offer("Give it an address", typed_command("address", "add", owner.name, "ADDRESS")),
                Offer("Have it join a group", typed_command("group", "join", "GROUP", owner.name)),
            ]
        case _:
            assert_never(owner)


def _of_domain(domain: Domain, now: int) -> list[Offer]:
    if domain.alias_of:
        words = f"Have it stand for itself, and no more for {domain.alias_of}"
        return [Offer(words, typed_command("domain", "set", domain.name, options=["--no-alias"]))]
    is_open = domain.unlisted is Unlisted.ACCEPT
    return [
        *_restricting(domain, now, "each mailbox in it that says nothing itself"),
        Offer(
            f"{'Refuse' if is_open else 'Let in'} mail to addresses that are no mailbox’s",
            typed_command("domain", "set", domain.name, options=["--unlisted", "reject" if is_open else "accept"]),
        ),
        Offer("Give a mailbox an address in it", typed_command("address", "add", "MAILBOX", f"ADDRESS@{domain.name}")),
    ]


def _restricting(owner: Domain | Group | Mailbox, now: int, whom: str) -> list[Offer]:
    """The commands that restrict *owner*, or where it is restricted, no more; *whom* says who that is about."""
    noun, name = owner.noun, owner.name
    if not owner.receive.is_restriction or is_past(owner.until, now):
        return [Offer(f"Let only insiders send to {whom}", typed_command(noun, "restrict", name))]
    return [
        Offer("Let a sender through all the same", typed_command(noun, "accept", name, "SENDER")),
        Offer("Lift its restriction", typed_command(noun, "lift", name)),
    ]


def _word(word: str | Party) -> str:
    if isinstance(word, Party) and word.kind is PartyKind.PATTERN:
        return quote(quote_local_part(word.text))
    return quote(str(word))
