"""Writes the tables as Postfix's own maps: access(5) and virtual(5) that give the same answers, as far as they can."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import assert_never

from policyd.model import BlockedSender, Domain, Mailbox, PartyKind, Receive, Rule, Unlisted
from policyd.reply import DEFAULT_TEXTS, render_text, to_ascii
from policyd.transfer.address_list import count_remarks
from policyd.transfer.formats import ExportedTables
from policyd.transfer.values import is_whole_address, quote_in_file

RECIPIENTS, VIRTUAL, SENDERS, OUTSIDERS, LOGINS, REGEXPS = PARTS = (
    "recipient_access",
    "virtual",
    "sender_access",  # to anyone
    "sender_outside",
    "login_access",  # what the two before say, of logins
    "outside_recipients",
)
INSIDERS = "policyd_insiders"
UNLISTED = "policyd_unlisted"
OUTSIDE = "policyd_outside"
ALWAYS = "DUNNO always accepted"  # to Postfix, what follows the word is a remark
UNOWNED = f"{ALWAYS}, no mailbox"
MARK = "# policyd file: "
DEFAULTS = {rule: render_text(rule, text) for rule, text in DEFAULT_TEXTS.items()}

_POSTMASTER = "postmaster"
_TABLE = "$default_database_type:/etc/postfix/policyd"
_INSIDERS_OR = "permit_mynetworks, permit_sasl_authenticated, check_recipient_access"
_HEAD = f"""\
# Maps for Postfix 3.0 and newer, written by policyd. Each part belongs into the file that the line above it names,
# parts of one name into one file. To make the files:
#
#   mkdir -p /etc/postfix/policyd && cd /etc/postfix/policyd
#   awk '/^# policyd file: / {{ file = $4 }} file {{ print > file }}' THIS_FILE
#   postmap {" ".join(part for part in PARTS if part != REGEXPS)}
#
# In main.cf, where "(what is there)" is what you have, without policyd:
#
#   smtpd_restriction_classes = (what is there), {INSIDERS}, {UNLISTED}, {OUTSIDE}
#   {INSIDERS} = {_INSIDERS_OR} static:{{REJECT {DEFAULTS[Rule.RESTRICTED_RECIPIENT]}}}
#   {UNLISTED} = {_INSIDERS_OR} static:{{REJECT {DEFAULTS[Rule.UNLISTED_RECIPIENT]}}}
#   {OUTSIDE} = check_recipient_access regexp:/etc/postfix/policyd/{REGEXPS}
#   smtpd_sender_restrictions = check_sasl_access {_TABLE}/{LOGINS}, check_sender_access {_TABLE}/{SENDERS}, \
check_sender_access {_TABLE}/{OUTSIDERS}, (what is there)
#   smtpd_recipient_restrictions = check_recipient_access {_TABLE}/{RECIPIENTS}, (what is there)
#   virtual_alias_maps = (what is there), {_TABLE}/{VIRTUAL}
#   parent_domain_matches_subdomains = (what is there, without smtpd_access_maps)
#   smtpd_delay_reject = yes
#
# The checks come first in their lists: a permit_mynetworks before them would let insiders past. Those two classes
# permit insiders and nobody else; relay control has to stand in smtpd_relay_restrictions.
#
# The answers are those of policyd with insider_networks as mynetworks, no insider_contexts, and always_accept and
# reply texts as they are by default; but
# - of a login, only a mailbox's name and whole addresses are known, not patterns such as @example.com;
# - who is blocked to anyone does not reach the postmaster either;
# - where several entries block a sender, the text may be another one's;
# - IMCEA addresses are unlisted ones; a domain's IDNA form (xn--) is the only one known;
# - nothing ends by itself any more. What had ended when this was written is left out.
"""


def write(tables: ExportedTables, lost: Counter[str]) -> Iterator[str]:
    """The maps, in parts with a comment above each that names its file; what they can't say is counted in *lost*."""
    # Recipients: the domains, and the mailboxes by their primary addresses; postmaster is never refused.
    yield f"{_HEAD}\n{MARK}{RECIPIENTS}\n"
    for domain in tables.domains():
        yield f"{domain.name}\t{_answer_for_unlisted(domain)}\n"
    owned: set[str] = set()
    for mailbox, addresses in tables.mailboxes():
        _count_mailbox(mailbox, addresses, lost)
        owned.update(address for address in addresses if _is_always_accepted(address))
        yield from (f"{quote_in_file(address)}\t{_answer(mailbox, address)}\n" for address in addresses[:1])
    yield from (
        f"{_POSTMASTER}@{domain.name}\t{UNOWNED}\n"
        for domain in tables.domains()
        if f"{_POSTMASTER}@{domain.name}" not in owned
    )

    # The other addresses lead to the primary one, and are recipients too.
    yield f"\n{MARK}{VIRTUAL}\n"
    for _, addresses in tables.mailboxes():
        yield from (f"{quote_in_file(address)}\t{quote_in_file(addresses[0])}\n" for address in addresses[1:])
    yield f"\n{MARK}{RECIPIENTS}\n"
    for mailbox, addresses in tables.mailboxes():
        yield from (f"{quote_in_file(address)}\t{_answer(mailbox, address)}\n" for address in addresses[1:])

    # Senders. Recipients outside are those in none of the managed domains.
    yield from _sender_parts(tables, lost)
    yield f"\n{MARK}{REGEXPS}\n"
    for domain in tables.domains():
        yield f"/@{_escaped(domain.name)}$/\tDUNNO\n"
    yield f"/./\tREJECT {DEFAULTS[Rule.BLOCKED_SENDER]}\n"


def _answer_for_unlisted(domain: Domain) -> str:
    match domain.unlisted:
        case Unlisted.ACCEPT:
            return "DUNNO"
        case Unlisted.REJECT:
            return UNLISTED
        case _:
            assert_never(domain.unlisted)


def _answer(mailbox: Mailbox, address: str) -> str:
    if _is_always_accepted(address):
        return ALWAYS
    match mailbox.receive:
        case Receive.ANYONE | Receive.INHERIT:
            return "DUNNO"
        case Receive.INSIDERS:
            return INSIDERS
        case Receive.NOBODY | Receive.DOMAIN:
            return _reject(mailbox.reason, Rule.RESTRICTED_RECIPIENT)
        case _:
            assert_never(mailbox.receive)


def _is_always_accepted(address: str) -> bool:
    return address.rpartition("@")[0].partition("+")[0] == _POSTMASTER


def _reject(reason: str, rule: Rule) -> str:
    """A refusal with *reason*, in ASCII as SMTP has it, else with the text of *rule*."""
    text = to_ascii(reason)
    return f"REJECT 5.7.1 {text}" if text else f"REJECT {DEFAULTS[rule]}"


def _sender_parts(tables: ExportedTables, lost: Counter[str]) -> Iterator[str]:
    """What becomes of senders; of several entries for one key, the mailbox's counts, then the oldest."""
    # The addresses of the mailboxes that are blocked.
    names = {entry.who.text for entry in tables.blocked_senders() if entry.who.kind is PartyKind.MAILBOX}
    held = {mailbox.name: addresses for mailbox, addresses in tables.mailboxes() if mailbox.name in names}

    # For each key its answer, in the map that its entry belongs into.
    senders: dict[str, str] = {}
    outsiders: dict[str, str] = {}
    logins: dict[str, str] = {}
    for entry in _most_specific_first(tables):
        patterns = _patterns_of(entry, held)
        match entry.to.kind:
            case PartyKind.OUTSIDE:
                part, answer = outsiders, OUTSIDE
            case PartyKind.ANYONE:
                part, answer = senders, _reject(entry.reason, Rule.BLOCKED_SENDER)
            case PartyKind.MAILBOX | PartyKind.GROUP | PartyKind.PATTERN:  # which no map of senders can express
                part, answer = senders, ""
            case _:
                assert_never(entry.to.kind)
        is_left_out = not answer
        _count_block(entry, lost)
        lost["blocked sender"] += is_left_out or not patterns
        if is_left_out:
            continue
        for key in map(_key, patterns):
            lost["blocked sender"] += key in part
            part.setdefault(key, answer)
        for login in _logins(entry, patterns):
            if logins.get(login, OUTSIDE) == OUTSIDE:
                logins[login] = answer

    # The maps, each below the comment that names its file.
    for name, answers in ((SENDERS, senders), (OUTSIDERS, outsiders), (LOGINS, logins)):
        yield f"\n{MARK}{name}\n"
        yield from (f"{key}\t{answer}\n" for key, answer in answers.items())


def _most_specific_first(tables: ExportedTables) -> Iterator[BlockedSender]:
    yield from (entry for entry in tables.blocked_senders() if entry.who.kind is PartyKind.MAILBOX)
    yield from (entry for entry in tables.blocked_senders() if entry.who.kind is not PartyKind.MAILBOX)


def _patterns_of(entry: BlockedSender, held: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The patterns that *entry* is in a map of senders; none for a group, and for anyone."""
    match entry.who.kind:
        case PartyKind.MAILBOX:
            return held[entry.who.text]
        case PartyKind.PATTERN:
            return (entry.who.text,)
        case PartyKind.GROUP | PartyKind.ANYONE | PartyKind.OUTSIDE:
            return ()
        case _:
            assert_never(entry.who.kind)


def _logins(entry: BlockedSender, patterns: Iterable[str]) -> Iterator[str]:
    """The logins that are *entry* and that a key can stand for."""
    if entry.who.kind is PartyKind.MAILBOX and re.fullmatch(r"[^\s\"#@][^\s\"@]*", entry.who.text):
        yield entry.who.text.lower()
    yield from (quote_in_file(pattern) for pattern in patterns if is_whole_address(pattern))


def _key(pattern: str) -> str:
    """The key of access(5) for a pattern."""
    local, _, domain = pattern.rpartition("@")
    return domain or pattern if not local else quote_in_file(pattern)


def _escaped(domain: str) -> str:
    """A regular expression for *domain*."""
    return re.sub(r"[.\[\]]", r"\\\g<0>", domain)


def _count_mailbox(mailbox: Mailbox, addresses: tuple[str, ...], lost: Counter[str]) -> None:
    lost["mailbox"] += not addresses
    lost["mailbox name"] += mailbox.name != (addresses[0].rpartition("@")[0] if addresses else mailbox.name)
    lost["accept"] += bool(mailbox.accepted)
    count_remarks(mailbox, lost, is_reason_kept=mailbox.receive is Receive.NOBODY)


def _count_block(entry: BlockedSender, lost: Counter[str]) -> None:
    lost["blocked mailbox"] += entry.who.kind is PartyKind.MAILBOX
    lost["except"] += bool(entry.allowed or entry.allowed_senders)
    lost["created_at"] += 1
    count_remarks(entry, lost, is_reason_kept=entry.to.kind is PartyKind.ANYONE)
