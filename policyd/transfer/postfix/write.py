"""Writes the tables as Postfix's own maps: access(5) and virtual(5) that give the same answers, as far as they can.

What maps can't say of whom a recipient takes is left out on the closed side: nobody gets in who did not before. A
blocked sender that is not in the maps is counted.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import assert_never

from policyd.address import fold, matching_patterns, pattern_domain, split_address
from policyd.model import BlockedSender, Domain, Group, Mailbox, Party, PartyKind, Receive, Rule, Unlisted
from policyd.reply import DEFAULT_TEXTS, render_text, to_ascii
from policyd.transfer.address_list import count_remarks
from policyd.transfer.effective import Effective, Restriction
from policyd.transfer.formats import ExportedTables
from policyd.transfer.values import is_whole_address, quote_in_file

RECIPIENTS, VIRTUAL, SENDERS, OUTSIDERS, LOGINS, REGEXPS, WRAPPED = PARTS = (
    "recipient_access",
    "virtual",
    "sender_access",  # to anyone
    "sender_outside",
    "login_access",  # what the two before say, of logins
    "outside_recipients",
    "wrapped_recipients",  # addresses that hold another one
)
INSIDERS = "policyd_insiders"
UNLISTED = "policyd_unlisted"
OUTSIDE = "policyd_outside"
ALWAYS = "DUNNO always accepted"  # to Postfix, what follows the word is a remark
UNOWNED = f"{ALWAYS}, no mailbox"
MARK = "# policyd file: "
DEFAULTS = {rule: render_text(rule, text) for rule, text in DEFAULT_TEXTS.items()}

_POSTMASTER = "postmaster"
_DELIMITERS = "+"  # of extensions, as they are by default
_IN_REGEXPS = (REGEXPS, WRAPPED)  # the parts that are regular expressions, which nobody compiles
_HOLDING = re.compile(r"imcea(ex|smtp)-.*|prvs=.*|.*[%!@].*", re.DOTALL)  # local parts that policyd looks into
_TABLE = "$default_database_type:/etc/postfix/policyd"
_INSIDERS_OR = "permit_mynetworks, permit_sasl_authenticated, check_recipient_access"
_HEAD = f"""\
# Maps for Postfix 3.0 and newer, written by policyd. Each part belongs into the file that the line above it names,
# parts of one name into one file. To make the files:
#
#   mkdir -p /etc/postfix/policyd && cd /etc/postfix/policyd
#   awk '/^# policyd file: / {{ file = $4 }} file {{ print > file }}' THIS_FILE
#   postmap {" ".join(part for part in PARTS if part not in _IN_REGEXPS)}
#
# In main.cf, where "(what is there)" is what you have, without policyd:
#
#   smtpd_restriction_classes = (what is there), {INSIDERS}, {UNLISTED}, {OUTSIDE}
#   {INSIDERS} = {_INSIDERS_OR} static:{{REJECT {DEFAULTS[Rule.RESTRICTED_RECIPIENT]}}}
#   {UNLISTED} = {_INSIDERS_OR} static:{{REJECT {DEFAULTS[Rule.UNLISTED_RECIPIENT]}}}
#   {OUTSIDE} = check_recipient_access regexp:/etc/postfix/policyd/{REGEXPS}
#   smtpd_sender_restrictions = check_sasl_access {_TABLE}/{LOGINS}, check_sender_access {_TABLE}/{SENDERS}, \
check_sender_access {_TABLE}/{OUTSIDERS}, (what is there)
#   smtpd_recipient_restrictions = check_recipient_access regexp:/etc/postfix/policyd/{WRAPPED}, \
check_recipient_access {_TABLE}/{RECIPIENTS}, (what is there)
#   virtual_alias_maps = (what is there), {_TABLE}/{VIRTUAL}
#   parent_domain_matches_subdomains = (what is there, without smtpd_access_maps)
#   smtpd_delay_reject = yes
#
# The checks come first in their lists: a permit_mynetworks before them would let insiders past. Those two classes
# permit insiders and nobody else; relay control has to stand in smtpd_relay_restrictions.
#
# The answers are those of policyd with insider_networks as mynetworks, no insider_contexts, and always_accept and
# reply texts as they are by default; but
# - of a login, only names (ASCII, no blanks) and addresses of mailboxes are known, and those that are blocked by
# themselves, not what a pattern like @example.com matches besides;
# - accepted senders are refused, since no map knows who somebody certainly is; so are those of receive = domain;
# - of a group, those stand here who were in it when this was written;
# - of a sender's BATV address (prvs=...), only the domain is known;
# - who is blocked to anyone does not reach the postmaster either;
# - where several entries block a sender, the text may be another one's;
# - a recipient that holds another address (IMCEA, BATV, user%domain, domain!user) is refused, whoever writes;
# - a domain's IDNA form (xn--) is the only one known;
# - nothing ends by itself any more. What had ended when this was written is left out.
"""


def write(tables: ExportedTables, lost: Counter[str]) -> Iterator[str]:
    """The maps, in parts with a comment above each that names its file; what they can't say is counted in *lost*."""
    # Recipients: the domains, and the mailboxes by their primary addresses; postmaster is never refused.
    spelled = _Spelled(tables)
    effective = spelled.effective
    yield f"{_HEAD}\n{MARK}{RECIPIENTS}\n"
    for domain in tables.domains():
        _count_owner(domain, lost)
        lost["receive = domain"] += domain.receive is Receive.DOMAIN and domain.unlisted is Unlisted.ACCEPT
        yield f"{domain.name}\t{_answer_for_unlisted(effective, domain)}\n"
    for group, _ in tables.groups():
        lost["group"] += 1
        _count_owner(group, lost)
    owned: set[str] = set()
    for mailbox, addresses in spelled.mailboxes():
        _count_mailbox(mailbox, addresses, effective, lost)
        owned.update(address for address in addresses if _is_always_accepted(address))
        yield from (f"{quote_in_file(each)}\t{_answer(effective, mailbox, each)}\n" for each in addresses[:1])
    yield from (
        f"{_POSTMASTER}@{domain.name}\t{UNOWNED}\n"
        for domain in tables.domains()
        if f"{_POSTMASTER}@{domain.name}" not in owned
    )

    # The other addresses lead to the primary one, and are recipients too.
    yield f"\n{MARK}{VIRTUAL}\n"
    for _, addresses in spelled.mailboxes():
        yield from (f"{quote_in_file(address)}\t{quote_in_file(addresses[0])}\n" for address in addresses[1:])
    yield f"\n{MARK}{RECIPIENTS}\n"
    for mailbox, addresses in spelled.mailboxes():
        yield from (f"{quote_in_file(each)}\t{_answer(effective, mailbox, each)}\n" for each in addresses[1:])

    # Senders; whom they are blocked to outside is what is in none of the domains.
    yield from _sender_parts(tables, spelled, lost)
    yield f"\n{MARK}{REGEXPS}\n"
    for domain in tables.domains():
        yield f"/@{_escaped(domain.name)}$/\tDUNNO\n"
    yield f"/./\tREJECT {DEFAULTS[Rule.BLOCKED_SENDER]}\n"

    # An address that holds another one may lead to any mailbox, closed ones too; one that is listed leads to its own.
    yield f"\n{MARK}{WRAPPED}\n"
    for _, addresses in spelled.mailboxes():
        listed = (quote_in_file(each) for each in addresses if _holds_another(each))
        yield from (f"/^{_escaped(each)}$/\tDUNNO\n" for each in listed)
    refusal = f"REJECT {DEFAULTS[Rule.UNLISTED_RECIPIENT]}"
    for domain in tables.domains():
        yield f"/(^imcea(ex|smtp)-|^prvs=|[%!@]).*@{_escaped(domain.name)}$/\t{refusal}\n"


class _Spelled:
    """The mailboxes with each spelling of their addresses: also in the alias domains of the domain."""

    def __init__(self, tables: ExportedTables) -> None:
        self._tables = tables
        self.effective = Effective(tables)
        self._aliases: dict[str, list[str]] = defaultdict(list)
        for domain in self.effective.domains.values():
            if domain.alias_of:
                self._aliases[domain.alias_of].append(domain.name)

        # An address that a mailbox has in an alias domain is that mailbox's.
        aliases = {name for names in self._aliases.values() for name in names}
        self._taken: set[str] = set()
        for _, addresses in tables.mailboxes() if aliases else ():
            self._taken.update(each for each in addresses if each.rpartition("@")[2] in aliases)

    def mailboxes(self) -> Iterator[tuple[Mailbox, tuple[str, ...]]]:
        """Every mailbox with its addresses, the primary one first, those in alias domains last."""
        for mailbox, addresses in self._tables.mailboxes():
            others = (other for address in addresses for other in self._in_aliases(address))
            yield mailbox, (*addresses, *(each for each in others if not self._is_anothers(each)))

    def patterns(self, pattern: str) -> list[str]:
        """*pattern*, and what matches the same in alias domains."""
        domain = pattern_domain(pattern)
        if not domain:
            return [pattern]
        local = pattern.rpartition("@")[0]
        below = [
            f"@{alias}"
            for target, aliases in self._aliases.items()
            for alias in aliases
            if pattern.startswith("@.") and f".{target}".endswith(f".{domain}") and target != domain
        ]
        same = [] if pattern.startswith("@.") else [f"{local}@{alias}" for alias in self._aliases.get(domain, ())]
        return [pattern, *same, *below]

    def matching(self, address: str) -> frozenset[str]:
        """The patterns that match a mailbox whose primary address is *address*."""
        local, _, domain = address.rpartition("@")
        texts = {address, f"{local}@{self.effective.target(domain).name}"}
        return frozenset(
            each for text in texts for each in matching_patterns(split_address(text, delimiters=_DELIMITERS))
        )

    def _is_anothers(self, address: str) -> bool:
        """Whether *address*, in an alias domain, is a mailbox's there: so it is by what it is without its extension."""
        found = split_address(address, delimiters=_DELIMITERS)
        return any(f"{local}@{found.domain}" in self._taken for local in found.locals)

    def _in_aliases(self, address: str) -> Iterator[str]:
        local, _, domain = address.rpartition("@")
        return (f"{local}@{alias}" for alias in self._aliases.get(domain, ()))


def _answer_for_unlisted(effective: Effective, domain: Domain) -> str:
    match effective.target(domain.name).unlisted:
        case Unlisted.ACCEPT:
            return _answer_to(effective.of_domain(domain.name))
        case Unlisted.REJECT:
            return UNLISTED
        case _:
            assert_never(domain.unlisted)


def _answer(effective: Effective, mailbox: Mailbox, address: str) -> str:
    if _is_always_accepted(address):
        return ALWAYS
    return _answer_to(effective.of_mailbox(mailbox, address.rpartition("@")[2]))


def _answer_to(restriction: Restriction) -> str:
    match restriction.receive:
        case Receive.ANYONE | Receive.INHERIT:
            return "DUNNO"
        case Receive.INSIDERS:
            return INSIDERS
        case Receive.NOBODY | Receive.DOMAIN:  # no map knows whose domain somebody is certainly in: closed
            return _reject(restriction.reason, Rule.RESTRICTED_RECIPIENT)
        case _:
            assert_never(restriction.receive)


def _is_always_accepted(address: str) -> bool:
    return address.rpartition("@")[0].partition("+")[0] == _POSTMASTER


def _reject(reason: str, rule: Rule) -> str:
    """A refusal with *reason*, in ASCII as SMTP has it, else with the text of *rule*."""
    text = to_ascii(reason)
    return f"REJECT 5.7.1 {text}" if text else f"REJECT {DEFAULTS[rule]}"


def _sender_parts(tables: ExportedTables, spelled: _Spelled, lost: Counter[str]) -> Iterator[str]:
    """What becomes of senders; of several entries for one key, the most specific counts, then the oldest."""
    held, written_so = _mailboxes_of(tables, spelled)

    # For each key its answer, in the map that its entry belongs into.
    senders: dict[str, str] = {}
    outsiders: dict[str, str] = {}
    logins: dict[str, str] = {}
    for entry in _most_specific_first(tables):
        match entry.to.kind:
            case PartyKind.OUTSIDE:
                part, answer = outsiders, OUTSIDE
            case PartyKind.ANYONE:
                part, answer = senders, _reject(entry.reason, Rule.BLOCKED_SENDER)
            case PartyKind.MAILBOX | PartyKind.GROUP | PartyKind.PATTERN:  # which no map of senders can express
                part, answer = senders, ""
            case _:
                assert_never(entry.to.kind)
        _count_block(entry, lost)
        mailboxes = held.get(_named(entry.who), ())
        patterns = spelled.patterns(entry.who.text) if entry.who.kind is PartyKind.PATTERN else []
        patterns += [address for _, addresses in mailboxes for address in addresses]
        names = [name for name, _ in mailboxes]
        keys = [*dict.fromkeys(map(_key, patterns))]
        held_logins = [*_logins(names, [*patterns, *written_so.get(_named(entry.who), ())])]
        if not answer or not (keys or held_logins):
            lost["blocked sender"] += 1
            continue
        lost["blocked sender"] += bool(keys) and keys[0] in part
        lost["login"] += sum(not _is_plain(each) for each in (*names, *filter(is_whole_address, patterns)))
        for key in keys:
            part.setdefault(key, answer)
        for login in held_logins:
            if logins.get(login, OUTSIDE) == OUTSIDE:
                logins[login] = answer

    # The maps, each below the comment that names its file.
    for name, answers in ((SENDERS, senders), (OUTSIDERS, outsiders), (LOGINS, logins)):
        yield f"\n{MARK}{name}\n"
        yield from (f"{key}\t{answer}\n" for key, answer in answers.items())


_Held = dict[tuple[PartyKind, str], list[tuple[str, tuple[str, ...]]]]  # names and addresses of mailboxes


def _named(party: Party) -> tuple[PartyKind, str]:
    return party.kind, fold(party.text) if party.kind is not PartyKind.PATTERN else party.text


def _mailboxes_of(
    tables: ExportedTables, spelled: _Spelled
) -> tuple[_Held, Mapping[tuple[PartyKind, str], Sequence[str]]]:
    """Who somebody who is blocked is: the mailboxes, and of a pattern each mailbox's addresses that it matches.

    The mailboxes are the one that is blocked, those in the group, those whose primary address the pattern matches.
    """
    wanted = {_named(entry.who) for entry in tables.blocked_senders()}
    held: _Held = defaultdict(list)
    written_so: dict[tuple[PartyKind, str], list[str]] = defaultdict(list)
    for mailbox, addresses in spelled.mailboxes() if wanted else ():
        names = {_named(mailbox.party), *(_named(group.party) for group in spelled.effective.groups_of(mailbox.party))}
        for number, address in enumerate(addresses):
            matching = wanted & {(PartyKind.PATTERN, each) for each in spelled.matching(address)}
            for name in matching:
                written_so[name].append(address)
            names |= matching if number == 0 else set()
        for name in wanted & names:
            held[name].append((mailbox.name, addresses))
    return held, written_so


def _most_specific_first(tables: ExportedTables) -> Iterator[BlockedSender]:
    for kinds in ({PartyKind.MAILBOX}, {PartyKind.GROUP}, {PartyKind.PATTERN, PartyKind.ANYONE}):
        yield from (entry for entry in tables.blocked_senders() if entry.who.kind in kinds)


def _logins(names: Iterable[str], patterns: Iterable[str]) -> Iterator[str]:
    """The logins of mailboxes with these *names*, and those among *patterns*, that a key can stand for."""
    yield from (name.lower() for name in names if re.fullmatch(r"[^\s\"#@][^\s\"@]*", name))
    yield from (quote_in_file(pattern) for pattern in patterns if is_whole_address(pattern))


def _is_plain(login: str) -> bool:
    """Whether Postfix finds *login* by its key: it asks without quotes, and folds no letters but those of ASCII."""
    return login.isascii() and bool(re.fullmatch(r'[^\s"#][^\s"]*', login))


def _key(pattern: str) -> str:
    """The key of access(5) for a pattern."""
    local, _, domain = pattern.rpartition("@")
    return domain or pattern if not local else quote_in_file(pattern)


def _holds_another(address: str) -> bool:
    """Whether policyd looks for another address in this one."""
    return bool(_HOLDING.fullmatch(address.rpartition("@")[0]))


def _escaped(text: str) -> str:
    """A regular expression for *text* itself. Source: regexp_table(5)."""
    return re.sub(r"[][.*+?(){}|^$\\/]", r"\\\g<0>", text)


def _count_mailbox(mailbox: Mailbox, addresses: tuple[str, ...], effective: Effective, lost: Counter[str]) -> None:
    lost["mailbox"] += not addresses
    lost["mailbox name"] += mailbox.name != (addresses[0].rpartition("@")[0] if addresses else mailbox.name)
    lost["accept"] += bool(mailbox.accepted)
    domains = {address.rpartition("@")[2] for address in addresses}
    lost["receive = domain"] += any(
        effective.of_mailbox(mailbox, domain).receive is Receive.DOMAIN for domain in domains
    )
    count_remarks(mailbox, lost, is_reason_kept=mailbox.receive is Receive.NOBODY)


def _count_owner(owner: Domain | Group, lost: Counter[str]) -> None:
    """Count what is lost of a domain or group; its restriction is in the answer for each address."""
    lost["accept"] += bool(owner.accepted)
    count_remarks(owner, lost, is_reason_kept=owner.receive is Receive.NOBODY)


def _count_block(entry: BlockedSender, lost: Counter[str]) -> None:
    lost["blocked mailbox"] += entry.who.kind is PartyKind.MAILBOX
    lost["blocked group"] += entry.who.kind is PartyKind.GROUP
    lost["except"] += bool(entry.allowed or entry.allowed_senders)
    lost["created_at"] += 1
    count_remarks(entry, lost, is_reason_kept=entry.to.kind is PartyKind.ANYONE)
