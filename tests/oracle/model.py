"""What policyd must answer, told a second time and slowly: the rules over plain lists, by no line of the product.

`answer` reads like the rules of the second edition, sentence by sentence; where they can be read in two ways, a comment
says which one is meant. Nothing here is quick, and nothing is kept between two questions.

Of addresses it knows what the rules need: case, IDNA and Postfix's case folding, extensions, BATV, IMCEA and alias
domains. It knows one spelling of address literals, and no routes (`bob%example.com@example.net`): ask it neither.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import NamedTuple
from urllib.parse import unquote

import idna

ANYONE, OUTSIDE, NULL_SENDER = "anyone", "outside", "<>"
STRICTNESS = {"insiders": 1, "domain": 2, "nobody": 3}
NEVER_SPLIT = {"postmaster", "mailer-daemon", "double-bounce"}


# --- The tables


@dataclass
class Restriction:
    """Who may write to a mailbox, a group's mailboxes or a domain; `until` is in Unix seconds, None for no end.

    `receive` is `inherit` (of mailboxes only), `anyone`, `insiders`, `domain` or `nobody`. `accepted` are parties.
    """

    receive: str = ANYONE
    reason: str = ""
    until: int | None = None
    accepted: list[str] = field(default_factory=list)

    def has_ended(self, now: int) -> bool:
        """Whether its end has passed at *now*; at its very second it has."""
        return self.until is not None and self.until <= now


@dataclass
class Domain:
    """A managed domain, or with `alias_of` an alias domain, which stands for that one."""

    unlisted: str = "reject"
    alias_of: str = ""
    restriction: Restriction = field(default_factory=Restriction)


@dataclass
class Mailbox:
    """A mailbox as it is shown; its first address is the primary one."""

    name: str
    addresses: list[str] = field(default_factory=list)
    restriction: Restriction = field(default_factory=lambda: Restriction("inherit"))


@dataclass
class Group:
    """A group as it is shown; its members are parties: mailboxes and groups."""

    name: str
    members: list[str] = field(default_factory=list)
    restriction: Restriction = field(default_factory=Restriction)


@dataclass
class Entry:
    """A blocked sender: who may not write to whom, both parties; `to` may be `outside`."""

    who: str
    to: str
    reason: str = ""
    until: int | None = None
    except_recipients: list[str] = field(default_factory=list)
    except_senders: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.who} to {self.to}"


@dataclass
class Settings:
    """The settings that decide."""

    origin: str = ""
    recipient_delimiter: str = "+"
    always_accept: list[str] = field(default_factory=lambda: ["postmaster"])
    login_realms: list[str] = field(default_factory=list)
    insider_networks: list[str] = field(default_factory=lambda: ["127.0.0.0/8", "::1/128"])
    insider_contexts: list[str] = field(default_factory=list)


@dataclass
class World:
    """All that the answers depend on.

    Domains are by their normal form, mailboxes and groups by their folded names, entries in the order of their age. A
    party is text as an administrator writes it, in normal form: `group:staff`, `@example.com`, `<>`, `anyone`, and
    anything else is a mailbox's folded name.
    """

    settings: Settings = field(default_factory=Settings)
    domains: dict[str, Domain] = field(default_factory=dict)
    mailboxes: dict[str, Mailbox] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)

    def holder(self, address: str) -> str:
        """The folded name of the mailbox that has *address*, which is in normal form; "" for none."""
        return next((name for name, mailbox in self.mailboxes.items() if address in mailbox.addresses), "")

    def target(self, domain: str) -> str:
        """The managed domain that *domain* stands for: itself, unless it is an alias domain."""
        return self.domains[domain].alias_of or domain

    def groups_of(self, mailbox: str) -> set[str]:
        """The folded names of the groups that hold a mailbox, directly or not. A cycle is harmless."""
        found: set[str] = set()
        parties = [mailbox]
        while parties:
            party = parties.pop()
            for name, group in self.groups.items():
                if party in group.members and name not in found:
                    found.add(name)
                    parties.append(f"group:{name}")
        return found


class Request(NamedTuple):
    """One question, under Postfix's names; from an outsider unless it says otherwise."""

    sender: str = ""
    recipient: str = ""
    sasl_username: str = ""
    client_address: str = "192.0.2.7"
    policy_context: str = ""
    protocol_state: str = "RCPT"


class Answer(NamedTuple):
    """The answer and why: the rule, the entry as `who to whom`, where the restriction comes from, whose mailbox."""

    action: str
    rule: str
    entry: str = ""
    by: str = ""
    mailbox: str = ""
    reason: str = ""


# --- Addresses


def fold(text: str) -> str:
    """*text* as local parts and names are compared."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())


def normal_domain(raw: str) -> str:
    """A domain in lower case, in A-labels and without a dot at its end; what is no domain only in lower case."""
    text = raw.strip().lower().removesuffix(".")
    if text.isascii():
        return text
    try:
        return idna.encode(raw.removesuffix("."), uts46=True).decode().lower()
    except idna.IDNAError:
        return text


def domain_forms(raw: str) -> list[str]:
    """A domain as it is written, and then as Postfix takes it, which folds its case: `straße` is `strasse`."""
    forms = [normal_domain(raw), normal_domain(raw.casefold())]
    return forms if forms[0] != forms[1] else forms[:1]


def is_text(raw: str) -> bool:
    """Whether it came as UTF-8."""
    return not any("\ud800" <= character <= "\udfff" for character in raw)


def split_extension(local: str, delimiters: str) -> str:
    """A local part without its extension, "" where it has none."""
    folded = fold(local) if is_text(local) else local.lower()
    if folded in NEVER_SPLIT:
        return ""
    if "-" in delimiters and (folded.startswith("owner-") or folded.endswith("-request")):
        return ""
    return local[: next((at for at, character in enumerate(local) if character in delimiters), 0)]


def without_tag(local: str) -> str:
    """What a BATV tag stands before, in `prvs=TAG=user`; "" for a local part without one."""
    found = re.fullmatch(r"prvs=[^=]+=(.+)", local, re.IGNORECASE | re.DOTALL)
    return found[1] if found else ""


def is_imcea(local: str) -> bool:
    """Whether a local part looks as Exchange encapsulates other addresses."""
    return re.match(r"imcea[a-z0-9]{1,8}-", local, re.IGNORECASE | re.ASCII) is not None


def decode_imcea(local: str) -> tuple[str, list[str]]:
    """The type of an IMCEA address, and what is in it between slashes; a type of "" where it is broken.

    A slash is written `_`; one that is written by its number is a letter of a name.
    """
    kind, _, encoded = local[len("imcea") :].partition("-")
    if not re.fullmatch(r"(?:[a-z0-9=_-]|\+[0-9a-f]{2})*", encoded, re.IGNORECASE | re.ASCII):
        return "", []
    text = re.sub(r"\+([0-9a-f]{2})", lambda found: f"%{found[1]}", encoded, flags=re.IGNORECASE)
    try:
        return kind.lower(), [unquote(part, errors="strict") for part in text.split("_")]
    except UnicodeDecodeError:
        return "", []


class Parts(NamedTuple):
    """An address taken apart: its local part as sent and then without a BATV tag; its domain in each form, if any."""

    locals: list[str]
    domains: list[str]


def take_apart(world: World, text: str) -> Parts:
    """The parts of an address; one without a domain is completed with the origin."""
    local, at, raw = text.rpartition("@")
    if not at:
        local, raw = raw, ""
    raw = raw or world.settings.origin
    tagless = without_tag(local)
    return Parts([local, tagless] if tagless else [local], domain_forms(raw) if raw else [])


def forms_of_local(world: World, local: str) -> list[str]:
    """A local part as it is compared: with its extension, and then without. What is not UTF-8 is left out."""
    base = "" if is_imcea(local) else split_extension(local, world.settings.recipient_delimiter)
    return [fold(each) for each in (local, base) if each and is_text(each)]


class Place(NamedTuple):
    """Where an address leads: a mailbox's folded name or "", in which managed domain or "", and whether by IMCEA."""

    mailbox: str = ""
    domain: str = ""
    is_imcea: bool = False


def find(world: World, text: str, *, is_inside: bool = False) -> Place:
    """The place of an address. One that stands *inside* an IMCEA address holds no other."""
    parts = take_apart(world, text)
    managed = [domain for domain in parts.domains if domain in world.domains]

    # Each spelling of the local part, in each spelling of the domain: the first that somebody has.
    for local in parts.locals:
        for domain in managed:
            place = _find_in(world, local, domain, is_inside)
            if place.mailbox:
                return place
    return Place("", managed[0] if managed else "")


def _find_in(world: World, local: str, domain: str, is_inside: bool) -> Place:
    holder = world.holder(f"{fold(local)}@{domain}") if is_text(local) else ""
    if not holder and is_imcea(local):
        return Place("" if is_inside else _inside(world, local), domain, is_imcea=True)
    for place in dict.fromkeys((domain, world.target(domain))):
        for form in forms_of_local(world, local):
            holder = holder or world.holder(f"{form}@{place}")
    return Place(holder, domain)


def _inside(world: World, local: str) -> str:
    """The mailbox that an IMCEA address stands for, "" for none."""
    kind, parts = decode_imcea(local)
    text = "/".join(parts)
    if kind == "ex":
        names = [each[3:] for each in parts if each[:3].lower() == "cn="]
        name = fold(names[-1]) if names else ""
        return name if name in world.mailboxes else ""
    if kind == "smtp" and not text.endswith("@") and "@" in text:
        return find(world, text, is_inside=True).mailbox
    return ""


# --- Patterns and parties


def is_pattern(party: str) -> bool:
    """Whether a party is a pattern."""
    return "@" in party or party == NULL_SENDER


def patterns_matching(world: World, text: str, domains: list[str] | None = None) -> set[str]:
    """Every pattern that an address matches: as it stands, without extension or tag, and in an alias domain's target.

    *domains*, where given, are the forms of the domain that count.
    """
    parts = take_apart(world, text)
    found = set()
    for domain in parts.domains if domains is None else domains:
        for place in {domain, world.target(domain)} if domain in world.domains else {domain}:
            for local in parts.locals:
                for form in forms_of_local(world, local):
                    found |= {f"{form}@{place}", f"{form}@"}
            found.add(f"@{place}")
            above = place
            while "." in above and not place.startswith("["):
                above = above.partition(".")[2]
                found.add(f"@.{above}")
    return found


def rank(who: str) -> tuple[int, int]:
    """The smaller, the more specific."""
    local, _, domain = who.partition("@")
    if not is_pattern(who):
        return (6 if who == ANYONE else 1 if who.startswith("group:") else 0), 0
    if who == NULL_SENDER or (local and domain):
        return 2, 0
    if local:
        return 3, 0
    return (5, -len(domain)) if domain.startswith(".") else (4, 0)


# --- Who is asking


class Login(NamedTuple):
    """Whom a login means: a mailbox or "", its address or "" where it is a name, and every address it could be."""

    mailbox: str
    address: str
    addresses: list[str]


def read_login(world: World, login: str) -> Login:
    """Whom *login* means: as it is written, or with each realm taken off, until somebody has it."""
    addresses = []
    while True:
        local, at, domain = login.rpartition("@")
        name = "" if at and domain else local if at else login
        address = login if not name else f"{name}@{world.settings.origin}" if world.settings.origin else ""
        addresses.append(address)
        if name and fold(name) in world.mailboxes:
            return Login(fold(name), "", addresses)  # its own addresses are its, and `name@origin` may be another's
        mailbox = find(world, address).mailbox if address else ""
        rest = _without_realm(world, login)
        if mailbox or not rest:
            return Login(mailbox, address, addresses)
        login = rest


def _without_realm(world: World, login: str) -> str:
    """A login without its realm; "" where it has none that the settings name."""
    realms = {normal_domain(realm) for realm in world.settings.login_realms}
    realm, backslash, rest = login.partition("\\")
    if backslash and normal_domain(realm) in realms:
        return rest
    rest, at, realm = login.rpartition("@")
    return rest if at and normal_domain(realm) in realms else ""


class Identities:
    """Who is asking: who it might be, for blocking, and who it certainly is, for letting through."""

    def __init__(self, world: World, request: Request) -> None:
        self.world = world
        self.request = request
        self.is_insider = _is_insider(world.settings, request)
        self.has_mail_from = bool(request.sender or request.recipient) or request.protocol_state not in (
            *("", "CONNECT", "HELO", "EHLO"),
        )
        self._is_null = self.has_mail_from and not request.sender
        self._login = read_login(world, request.sasl_username) if request.sasl_username else None
        self._sender = find(world, request.sender) if request.sender else Place()

        # Proven is the login; without one, from an insider, the envelope sender; else nothing.
        self.proven_mailbox, self.proven_address = "", ""
        if self._login:
            self.proven_mailbox, self.proven_address = self._login.mailbox, self._login.address
        elif self.is_insider:
            self.proven_mailbox, self.proven_address = self._sender.mailbox, request.sender

    def might_be(self, party: str) -> bool:
        """Whether this might be *party*: nobody hides behind the other identity."""
        mailboxes = {self._login.mailbox if self._login else "", self._sender.mailbox} - {""}
        if is_pattern(party):
            return party in self._possible_patterns(mailboxes)
        return party == ANYONE or any(_is_or_holds(self.world, party, mailbox) for mailbox in mailboxes)

    def certainly_is(self, party: str) -> bool:
        """Whether this certainly is *party*, but for what anybody can write as a foreign MAIL FROM."""
        if is_pattern(party):
            return party in self._certain_patterns()
        return bool(self.proven_mailbox) and _is_or_holds(self.world, party, self.proven_mailbox)

    def proven_domains(self) -> set[str]:
        """The managed domains in which what is proven has an address, alias domains being their targets."""
        if self.proven_mailbox:
            return domains_of_mailbox(self.world, self.proven_mailbox)
        domain = find(self.world, self.proven_address).domain if self.proven_address else ""
        return {self.world.target(domain)} if domain else set()

    def _possible_patterns(self, mailboxes: set[str]) -> set[str]:
        texts = [self.request.sender, *(self._login.addresses if self._login else [])]
        texts += [address for name in mailboxes for address in self.world.mailboxes[name].addresses[:1]]
        found = {NULL_SENDER} if self._is_null else set()
        return found.union(*(patterns_matching(self.world, text) for text in texts if text))

    def _certain_patterns(self) -> set[str]:
        sender = self.request.sender
        own = self.world.mailboxes[self.proven_mailbox].addresses if self.proven_mailbox else []
        texts = [self.proven_address, *own]

        # Of the envelope sender counts what the proven mailbox has, and what is foreign: that anybody can forge.
        if sender and (
            not self._sender.domain or (self._sender.mailbox and self._sender.mailbox == self.proven_mailbox)
        ):
            texts.append(sender)
        found = {NULL_SENDER} if self._is_null else set()
        return found.union(*(self._patterns_as_written(text) for text in texts if text))

    def _patterns_as_written(self, text: str) -> set[str]:
        """Without what Postfix only takes a foreign domain for: straße.example and strasse.example are two owners."""
        written = take_apart(self.world, text).domains[:1]
        managed = find(self.world, text).domain
        domains = [*written, managed] if managed and managed not in written else written
        return patterns_matching(self.world, text, domains)


def _is_or_holds(world: World, party: str, mailbox: str) -> bool:
    """Whether *party*, a mailbox or a group, is this mailbox or holds it."""
    if party.startswith("group:"):
        return party.removeprefix("group:") in world.groups_of(mailbox)
    return party == mailbox


def _is_insider(settings: Settings, request: Request) -> bool:
    if request.sasl_username or (request.policy_context and request.policy_context in settings.insider_contexts):
        return True
    try:
        address = ip_address(request.client_address)
    except ValueError:
        return False
    return any(
        address in ip_network(network.replace("[", "").replace("]", "")) for network in settings.insider_networks
    )


def domains_of_mailbox(world: World, mailbox: str) -> set[str]:
    """The managed domains in which a mailbox has an address, alias domains being their targets."""
    return {world.target(address.rpartition("@")[2]) for address in world.mailboxes[mailbox].addresses}


# --- The answer


def answer(world: World, request: Request, now: int) -> Answer:
    """What Postfix must be told at *now*, in Unix seconds."""
    if request.protocol_state in ("VRFY", "ETRN"):
        return Answer("DUNNO", "default")
    who = Identities(world, request)
    place = find(world, request.recipient) if request.recipient else Place()
    name = world.mailboxes[place.mailbox].name if place.mailbox else ""

    # 1. What is always accepted.
    if _is_always_accepted(world, request.recipient, place):
        return Answer("DUNNO", "always-accepted", mailbox=name)

    # 2. Blocked senders: of those that apply the most specific, and of equals the oldest, is named.
    applying = [entry for entry in world.entries if _applies(world, entry, who, place, now)]
    if applying:
        entry = min(applying, key=lambda each: rank(each.who))
        return Answer("REJECT", "blocked-sender", entry=str(entry), mailbox=name, reason=entry.reason)

    # 3. Recipients in managed domains, or 4. the default.
    if not place.domain:
        return Answer("DUNNO", "default")
    if not place.mailbox and world.domains[world.target(place.domain)].unlisted == "reject":
        return Answer("DUNNO", "default") if who.is_insider else Answer("REJECT", "unlisted-recipient")
    return _judged(world, who, place, now)._replace(mailbox=name)


def _is_always_accepted(world: World, recipient: str, place: Place) -> bool:
    if not recipient:
        return False
    _, at, domain = recipient.rpartition("@")
    wanted = {fold(each) for each in world.settings.always_accept}
    bases = [forms_of_local(world, local)[-1:] for local in take_apart(world, recipient).locals]
    return any(base in wanted for (base,) in filter(None, bases)) and bool(place.domain or not (at and domain))


def _applies(world: World, entry: Entry, who: Identities, place: Place, now: int) -> bool:
    """Whether an entry is about this client and this recipient, and neither has ended nor is excepted."""
    recipient = who.request.recipient
    if not who.might_be(entry.who) or (entry.until is not None and entry.until <= now):
        return False
    if entry.to != ANYONE and not (recipient and _covers(world, entry.to, recipient, place)):
        return False
    if entry.except_recipients and not recipient:
        return False
    if entry.except_senders and not who.has_mail_from:
        return False
    if any(_covers(world, party, recipient, place) for party in entry.except_recipients):
        return False
    return not any(who.certainly_is(party) for party in entry.except_senders)


def _covers(world: World, party: str, recipient: str, place: Place) -> bool:
    """Whether *recipient*, which leads to *place*, is the party, or is in it."""
    beyond = _beyond(world, recipient, place)
    if party == OUTSIDE:
        return bool(beyond) or (bool(take_apart(world, recipient).domains) and not place.domain)
    if is_pattern(party):
        return party in patterns_matching(world, recipient) | (patterns_matching(world, beyond) if beyond else set())
    return bool(place.mailbox) and _is_or_holds(world, party, place.mailbox)


def _beyond(world: World, recipient: str, place: Place) -> str:
    """The address outside to which an Exchange behind Postfix would send an IMCEA address on; "" for none."""
    text = recipient
    while place.domain and not place.mailbox:
        wrapped = [decode_imcea(local) for local in take_apart(world, text).locals if is_imcea(local)]
        text = next(("/".join(parts) for kind, parts in wrapped if kind == "smtp"), "")
        if not text.rpartition("@")[0] or text.endswith("@"):
            break
        place = find(world, text)
        if not place.domain:
            return text
    return ""


def _judged(world: World, who: Identities, place: Place, now: int) -> Answer:
    """By the restriction of a recipient: a mailbox's, or one that its domain accepts without a mailbox."""
    by, restrictions = _restrictions(world, place, now)
    if not restrictions:
        return Answer("DUNNO", "default")
    named = restrictions[0]
    ours = domains_of_mailbox(world, place.mailbox) if place.mailbox else {world.target(place.domain)}
    gets_through = {
        "insiders": who.is_insider,
        "domain": bool(ours & who.proven_domains()),
        "nobody": False,
    }
    if gets_through[named.receive]:
        return Answer("DUNNO", "default", by=by)
    accepted = [party for each in restrictions for party in each.accepted]
    if place.mailbox:
        accepted += world.mailboxes[place.mailbox].restriction.accepted
    if any(who.certainly_is(party) for party in accepted):
        return Answer("DUNNO", "accepted-sender", by=by)
    return Answer("REJECT", "restricted-recipient", by=by, reason=named.reason)


def _restrictions(world: World, place: Place, now: int) -> tuple[str, list[Restriction]]:
    """Where the restriction of a recipient comes from, and all that count together, the one that is named first.

    None of them is `anyone`: where that is what counts, there are none.
    """
    if place.mailbox:
        own = world.mailboxes[place.mailbox].restriction
        if own.receive != "inherit" and not own.has_ended(now):
            return ("", []) if own.receive == ANYONE else ("mailbox", [own])
        groups = [(name, world.groups[name]) for name in sorted(world.groups_of(place.mailbox))]
        found = [each for each in groups if each[1].restriction.receive != ANYONE]
        found = [each for each in found if not each[1].restriction.has_ended(now)]
        if found:
            strictest = max(STRICTNESS[group.restriction.receive] for _, group in found)
            equals = [group for _, group in found if STRICTNESS[group.restriction.receive] == strictest]
            return f"group:{equals[0].name}", [group.restriction for group in equals]
    restriction = world.domains[world.target(_domain_that_counts(world, place))].restriction
    if restriction.receive == ANYONE or restriction.has_ended(now):
        return "", []
    return "domain", [restriction]


def _domain_that_counts(world: World, place: Place) -> str:
    """Whose domain's restriction a recipient inherits: of an IMCEA address the one of the mailbox's primary address."""
    addresses = world.mailboxes[place.mailbox].addresses if place.mailbox else []
    return addresses[0].rpartition("@")[2] if place.is_imcea and addresses else place.domain


def parties_in(world: World) -> Iterator[str]:
    """Every party that recipients are compared with: to whom, and exceptions by recipient."""
    for entry in world.entries:
        yield from (entry.to, *entry.except_recipients)
