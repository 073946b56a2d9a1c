"""What a change does beyond what it names: lines for the administrator who makes it, each a sentence or two."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from shlex import quote
from typing import assert_never

from policyd.address import NULL_SENDER
from policyd.admin.in_force import in_force, reach_of
from policyd.model import (
    Address,
    BlockedSender,
    Domain,
    Group,
    Mailbox,
    Membership,
    Rule,
    Unlisted,
    pattern_party,
)
from policyd.printable import count_of
from policyd.reply import TEXT_LIMIT, characters_over, render_text
from policyd.store.edit import Restricted, Step, postfix_spelling, what_goes_with
from policyd.store.queries import Queries

_NAMED = 5  # in a sentence; the rest is counted


def spelling_advice(queries: Queries, names: Iterable[str]) -> list[str]:
    """A line for each of the managed domains *names* that Postfix takes for another domain, with what to type."""
    return [line for line in (postfix_spelling(queries, name) for name in names) if line]


def reason_advice(replies: Mapping[Rule, str], rule: Rule, reason: str | None) -> list[str]:
    """How much of *reason* a sender who is refused by *rule* never reads, in a line; nothing where that is none."""
    over = cut_of_reason(replies, rule, reason or "")
    if not over:
        return []
    end = render_text(rule, replies[rule], reason=reason or "")[-24:]
    return [f'a reply has room for {TEXT_LIMIT} characters and would end with "{end}"; shorten the reason by {over}']


def cut_of_reason(replies: Mapping[Rule, str], rule: Rule, reason: str) -> int:
    """How many characters are cut off a reply by *rule* with this *reason*.

    What else its text names is known with a request only, and counts as empty.
    """
    return characters_over(rule, replies[rule], reason=reason) if "{reason}" in replies[rule] else 0


def unlisted_advice(queries: Queries, before: Domain | None, after: Domain) -> list[str]:
    """What becomes of mail to a domain's addresses that are no mailbox's, now that it is *after*, and no more *before*.

    Nothing where nothing more is refused than before.
    """
    lines = []
    if before is not None and before.alias_of and not after.alias_of:
        lines.append(f"the addresses of {before.alias_of} are no longer reached through {after.name}")
    was = _unlisted(queries, before) if before is not None else Unlisted.ACCEPT
    if _unlisted(queries, after) is Unlisted.REJECT and (was is Unlisted.ACCEPT or lines):
        lines.append(
            f"mail from outside to unlisted addresses in {after.name} is refused from now on; "
            f"to let it in: policyd domain set {quote(after.alias_of or after.name)} --unlisted accept"
        )
    return lines


def acceptance_advice(queries: Queries, domain: str, *, is_managed: bool) -> list[str]:
    """What becomes of the accepted senders in *domain*, which *is_managed* now, or is no more; nothing without any."""
    found = [f"{pattern} ({owner})" for pattern, owner in queries.patterns_let_through() if _is_in(pattern, domain)]
    if not found:
        return []
    if is_managed:
        return [f"accepted only if they are proven now, by a login or from an insider: {_names(found)}"]
    return [f"accepted as MAIL FROM says now, which anybody can forge: {_names(found)}"]


def reach_advice(queries: Queries, owner: Group | Domain, now: int) -> list[str]:
    """Whom the restriction of *owner* is about, and what it does that who types it may not think of."""
    reach, name = reach_of(queries, owner, now), _called(owner)

    # How many, and for whom something else counts.
    others = [f"; {_keep(len(reach.own), 'its own')}: {_names(reach.own)}"] if reach.own else []
    others += [f"; {_keep(len(reach.others), 'what its groups say')}: {_names(reach.others)}"] if reach.others else []
    lines = [f"the restriction of {name} is about {count_of(reach.mailboxes, 'mailbox')}{''.join(others)}"]

    # Bounces have no sender that anybody could accept by name.
    if pattern_party(NULL_SENDER) not in owner.accepted:
        lines.append(
            "bounces from outside are refused there, too; to let them in: "
            f"policyd {owner.noun} accept {quote(owner.name)} '{NULL_SENDER}'"
        )
    if isinstance(owner, Group):
        lines.append(
            "mail to a list's own address is mail to another mailbox; to restrict that, too: "
            "policyd mailbox restrict LIST"
        )
    return lines


def still_restricted(queries: Queries, owner: Restricted, now: int) -> list[str]:
    """Who restricts *owner*, whose own restriction was lifted, or its mailboxes, all the same; nothing if nobody."""
    if isinstance(owner, Mailbox):
        places = [each for each in in_force(queries, owner, now) if each.restriction.receive.is_restriction]
        return [
            f"{owner.name} still receives from {each.restriction.receive} only{each.where}, as {each.said_by} says"
            for each in places
        ]
    reach = reach_of(queries, owner, now)
    if not reach.restricted:
        return []
    held = count_of(reach.mailboxes, "mailbox")
    return [f"of {held} in {_called(owner)}, these are restricted still: {_names(reach.restricted)}"]


def address_advice(name: str, before: Sequence[Address], after: Sequence[Address]) -> list[str]:
    """What it means for the mailbox *name* that its addresses are those *after*, and no more those *before*."""
    left = {each.address for each in after}
    gone = [each.address for each in before if each.address not in left]
    lines = [f"a login as {_names(gone)} is no longer known as the mailbox {name}"] if gone else []
    old, new = _primary(before), _primary(after)
    if new and new != old:
        lines.append(f"{new} is the primary address of {name} now: patterns of blocked senders look at that one")
    if before and not after:
        lines.append(f"{name} has no address any more: no mail reaches it")
    return lines


def what_goes(queries: Queries, owner: Mailbox | Group) -> list[str]:
    """What is taken away with *owner*, a line each."""
    return [_line(step) for step in what_goes_with(queries, owner)]


def removal_question(queries: Queries, owner: Mailbox | Group) -> str:
    """How much is taken away with *owner*, in a sentence."""
    counts = Counter(operation.partition(".")[2] for operation, _, _ in what_goes_with(queries, owner))
    kinds = {
        "remove": ("address", ""),
        "leave": ("membership", ""),
        "unblock": ("blocked sender", ""),
        "unexcept": ("exception of others", "exceptions of others"),
        "unaccept": ("place among accepted senders", "places among accepted senders"),
    }
    parts = [count_of(counts[verb], *nouns) for verb, nouns in kinds.items() if counts[verb]] or ["nothing"]
    *first, last = parts
    all_but_last = f"{', '.join(first)} and " if first else ""
    return f"{all_but_last}{last} would be removed with {owner.name}."


def _line(step: Step) -> str:
    """What *step* of a removal takes away."""
    operation, before, _ = step
    match before:
        case Address():
            return f"address {before.address}"
        case BlockedSender():
            entry = f"entry {before.id}: {before.who} blocked to {before.to}"
            return f"the exception in {entry}" if operation == "sender.unexcept" else entry
        case Membership():
            return f"{before.member} in {before.group}"
        case Mailbox() | Group() | Domain():
            return f"the place among the accepted senders of {before.noun} {before.name}"
        case _:
            assert_never(before)


def _is_in(pattern: str, domain: str) -> bool:
    """Whether all that *pattern* matches is in *domain*, or all in *domain* matches it."""
    local, _, where = pattern.rpartition("@")
    return where == domain or (not local and where.startswith(".") and domain.endswith(where))


def _primary(addresses: Iterable[Address]) -> str:
    return next((each.address for each in addresses if each.is_primary), "")


def _called(owner: Group | Domain) -> str:
    return str(owner.party) if isinstance(owner, Group) else owner.name


def _keep(number: int, whose: str) -> str:
    """That so many mailboxes keep *whose* restriction, of one of them."""
    return f"1 keeps {whose}" if number == 1 else f"{number} keep {whose.replace('its', 'their')}"


def _unlisted(queries: Queries, domain: Domain) -> Unlisted:
    """What happens to unlisted recipients in *domain*; in an alias domain that is what its target says."""
    target = queries.find_domain(domain.alias_of) if domain.alias_of else None
    return (target or domain).unlisted


def _names(names: Sequence[str]) -> str:
    """The first of *names*, and how many there are more."""
    shown = ", ".join(names[:_NAMED])
    return f"{shown} and {len(names) - _NAMED} more" if len(names) > _NAMED else shown
