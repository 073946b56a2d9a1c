"""Decides a request: looks up the facts about it in the tables, and has the rules judge them."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import ip_address
from itertools import chain
from typing import TYPE_CHECKING, Protocol, assert_never

from policyd.address import (
    NULL_SENDER,
    EmailAddress,
    Encapsulated,
    address_forms,
    decode_imcea,
    domain_for_postfix,
    fold,
    matching_patterns,
    next_hop,
    split_address,
)
from policyd.model import Action, BlockedSender, Decision, Domain, Mailbox, Mode, Request, Rule
from policyd.reply import render_text
from policyd.rules import Identity, Note, Policy, Question, Verdict, judge, silent
from policyd.settings import Settings

if TYPE_CHECKING:
    from functools import _lru_cache_wrapper

_BEFORE_MAIL = frozenset({"", "CONNECT", "HELO", "EHLO"})
UNJUDGED = frozenset({"VRFY", "ETRN"})  # states in which the tables are not asked
_CACHED_PARTIES = 4096
_CACHED_SENDERS = 12_288  # a day's correspondents of a large site; half a kilobyte each
_CACHED_LENGTH = 320  # characters; a longer address is looked up each time
_DUNNO = Decision(Action.DUNNO, Rule.DEFAULT)


class Tables(Protocol):
    """What a decision needs of the tables. Each call but `end` may raise StoreError, and then has ended it."""

    def begin(self) -> bool:
        """Read from the newest state of the tables until `end`; returns whether it may differ from the last one.

        False where that has begun already.
        """

    def end(self) -> None:
        """Stop reading from the state that `begin` took, if any."""

    def domain(self, name: str) -> Domain | None:
        """The managed domain *name*, in normal form."""

    def mailbox_with(self, address: str) -> Mailbox | None:
        """The mailbox that has *address*, in normal form."""

    def mailbox_named(self, folded_name: str) -> Mailbox | None:
        """The mailbox whose name folds to this."""

    def entries_for(self, mailbox_id: int, patterns: Sequence[str]) -> tuple[BlockedSender, ...]:
        """The blocked senders that are this mailbox (0 for none) or one of *patterns*."""


class Decider:
    """Decides requests by *settings*, from *tables*.

    Every decision until `end` is made on one state of the tables: the newest at the first of them.
    """

    def __init__(self, settings: Settings, tables: Tables) -> None:
        self._settings = settings
        self._tables = tables
        self._policy = Policy(frozenset(map(fold, settings.always_accept)))
        self._recipient = lru_cache(_CACHED_PARTIES)(self.find_recipient)
        self._sender = lru_cache(_CACHED_SENDERS)(self._find_sender)
        self._login = lru_cache(_CACHED_PARTIES)(self._find_login)
        self._null_entries = lru_cache(1)(self._find_null_entries)
        self._is_inside = lru_cache(_CACHED_PARTIES)(self._find_inside)

    def decide(self, request: Request, now: int, note: Note = silent) -> Decision:
        """The answer to *request* at *now*, in Unix seconds; *note* is called for each step.

        Raises StoreError where the tables can't be read: then there is no answer to give.
        """
        if request.protocol_state in UNJUDGED:
            note("state {}: not judged", request.protocol_state)
            return _DUNNO
        question = self._ask(request, note)
        return self._decision(request, question, judge(question, self._policy, now, note), note)

    def explain(self, request: Request, now: int) -> tuple[Decision, list[str]]:
        """The answer to *request* at *now*, and each step that led to it, a sentence or less. Raises StoreError."""
        trace: list[str] = []
        decision = self.decide(request, now, lambda step, *values: trace.append(step.format(*values)))
        return decision, trace

    def find_recipient(self, text: str) -> Identity:
        """What the tables know about an address: its managed domain, and the mailbox it leads to.

        Raises StoreError.
        """
        return self._follow(text, self._locate(text, self._forms(text)))

    def end(self) -> None:
        """Have the next decision read the newest state of the tables."""
        self._tables.end()

    def _ask(self, request: Request, note: Note) -> Question:
        """What the rules have to judge: the request, with what the tables know about it."""
        # What was remembered of another state of the tables is forgotten.
        if self._tables.begin():
            self._forget()

        # Whom the request names.
        login = _recall(self._login, request.sasl_username) if request.sasl_username else None
        sender = _recall(self._sender, request.sender) if request.sender else None
        recipient = _recall(self._recipient, request.recipient) if request.recipient else None

        # Which blocked senders it may be: by its login, and by its envelope sender, each entry once.
        is_null = not request.sender and bool(request.recipient or request.protocol_state not in _BEFORE_MAIL)
        entries = sender.entries if sender else self._null_entries() if is_null else ()
        if login and login.entries:
            entries = tuple({entry.id: entry for entry in login.entries + entries}.values())
        question = Question(recipient, sender, is_null, self._is_insider(request), entries)
        if note is not silent:
            _explain(question, login, request, note)
        return question

    def _forget(self) -> None:
        for cached in (self._recipient, self._sender, self._login, self._null_entries):
            cached.cache_clear()

    def _find_sender(self, text: str) -> Identity:
        """What the tables know about an address that mail may come from."""
        forms = self._forms(text)
        party = self._locate(text, forms)
        patterns = matching_patterns(forms[0])

        # A blocked sender can't hide behind another form of the address, or behind an address around it. The
        # address inside does not count for what a mailbox accepts.
        inner = self._hop(text, party)
        others = [*forms[1:], *([inner.address] if inner is not party and inner.address else [])]
        if others:
            patterns = tuple(dict.fromkeys(chain(patterns, *map(matching_patterns, others))))
        entries = self._tables.entries_for(inner.mailbox.id if inner.mailbox else 0, patterns)
        return Identity(text, party.address, None, party.mailbox, party.how, entries, party.as_written)

    def _find_login(self, text: str) -> Identity:
        """What the tables know about a login: an address, or without `@` a mailbox's name."""
        if "@" in text:
            return self._find_sender(text)
        name = split_address(text).local
        mailbox = self._tables.mailbox_named(name) if name else None
        if mailbox is None:
            return Identity(text)
        return Identity(text, mailbox=mailbox, how="name", entries=self._tables.entries_for(mailbox.id, ()))

    def _find_null_entries(self) -> tuple[BlockedSender, ...]:
        return self._tables.entries_for(0, (NULL_SENDER,))

    def _forms(self, text: str) -> tuple[EmailAddress, ...]:
        return address_forms(text, self._settings.origin, self._settings.recipient_delimiter)

    def _locate(self, text: str, forms: tuple[EmailAddress, ...]) -> Identity:
        """What the tables know about an address by the first of its *forms* that leads to a mailbox.

        Where none does, by the first in a managed domain; where none is in one, the first form of all is outside.
        """
        # A mailbox ends the search; a managed domain is kept in case that there is none.
        found = None
        for address in forms:
            domain = self._tables.domain(address.domain) if address.domain else None
            if domain is None:
                continue
            mailbox, how = self._find_mailbox(address)
            if mailbox is not None or found is None:
                as_written = forms[0] if address is not forms[0] else None
                found = Identity(text, address, domain, mailbox, how, as_written=as_written)
            if mailbox is not None:
                break
        return found or Identity(text, forms[0])

    def _follow(self, text: str, written: Identity) -> Identity:
        """*written*, or what the tables know about the address inside of it, if it leads to a mailbox or outside."""
        inner = self._hop(text, written)
        if inner is written:
            return written
        if inner.mailbox is not None:
            return inner._replace(how="route", as_written=written.address)
        if inner.is_outside:
            return written._replace(address=inner.address, as_written=written.address, leads_outside=True)
        return written

    def _hop(self, text: str, written: Identity) -> Identity:
        """What the tables know about the address to which Postfix would send *written* on, or *written*.

        Postfix does so where the domain is its own: so no further than through managed ones. Where it has passed one,
        it delivers no address in it but the innermost.
        """
        party = written
        passed = set()
        hop = next_hop(text)
        while hop and party.mailbox is None and not party.is_outside:
            domain, inner = domain_for_postfix(hop.rpartition("@")[2]), next_hop(hop)
            if domain not in passed or not inner:
                party = self._locate(text, self._forms(hop))
                passed.add(domain)
            hop = inner
        return party

    def _find_mailbox(self, address: EmailAddress) -> tuple[Mailbox | None, str]:
        """The mailbox that has *address*, in a managed domain, and how it was found."""
        # The address as it stands.
        mailbox = self._mailbox_with(address.local, address.domain)
        if mailbox is not None:
            return mailbox, "exact"

        # An IMCEA address, which has no extension.
        encapsulated = decode_imcea(address.local)
        if encapsulated is not None:
            mailbox = self._find_encapsulated(encapsulated)
            return mailbox, "IMCEA" if mailbox else ""

        # The address without its extension.
        mailbox = self._mailbox_with(address.base, address.domain)
        return mailbox, "extension" if mailbox else ""

    def _find_encapsulated(self, encapsulated: Encapsulated) -> Mailbox | None:
        """The mailbox that an IMCEA address leads to; an IMCEA address inside it leads nowhere."""
        if encapsulated.common_name:
            return self._tables.mailbox_named(encapsulated.common_name)
        for inside in address_forms(encapsulated.smtp_address, delimiters=self._settings.recipient_delimiter):
            for local in inside.locals:
                mailbox = self._mailbox_with(local, inside.domain)
                if mailbox is not None:
                    return mailbox
        return None

    def _mailbox_with(self, local: str, domain: str) -> Mailbox | None:
        return self._tables.mailbox_with(f"{local}@{domain}") if local and domain else None

    def _is_insider(self, request: Request) -> bool:
        return bool(
            request.sasl_username
            or request.policy_context in self._settings.insider_contexts
            or self._is_inside(request.client_address)
        )

    def _find_inside(self, client_address: str) -> bool:
        try:
            address = ip_address(client_address)
        except ValueError:  # "unknown", or a client on a unix socket
            return False
        return any(address in network for network in self._settings.insider_networks)

    def _decision(self, request: Request, question: Question, verdict: Verdict, note: Note) -> Decision:
        mailbox = question.recipient.mailbox if question.recipient else None
        name = mailbox.name if mailbox else ""
        note("rule: {}", verdict.rule)
        if not verdict.is_refused:
            return Decision(Action.DUNNO, verdict.rule, mailbox=name, is_insider=question.is_insider)

        # A refusal has the administrator's reason in its text.
        reason = _reason(verdict, mailbox)
        text = render_text(
            verdict.rule,
            self._settings.reply[verdict.rule],
            recipient=request.recipient,
            sender=request.sender,
            mailbox=name,
            reason=reason,
        )

        # In monitor mode it is logged, and not sent.
        match self._settings.mode:
            case Mode.ENFORCE:
                action = Action.REJECT
            case Mode.MONITOR:
                action = Action.DUNNO
                note("mode monitor: would be REJECT")
            case _:
                assert_never(self._settings.mode)
        return Decision(
            action,
            verdict.rule,
            text,
            reason,
            verdict.entry.id if verdict.entry else None,
            name,
            question.is_insider,
            is_refused=True,
        )


def _reason(verdict: Verdict, mailbox: Mailbox | None) -> str:
    """The reason that the administrator gave for what decided."""
    match verdict.rule:
        case Rule.BLOCKED_SENDER:
            return verdict.entry.reason if verdict.entry else ""
        case Rule.RESTRICTED_RECIPIENT:
            return mailbox.reason if mailbox else ""
        case Rule.UNLISTED_RECIPIENT | Rule.ALWAYS_ACCEPTED | Rule.ACCEPTED_SENDER | Rule.DEFAULT:
            return ""
        case _:
            assert_never(verdict.rule)


def _recall(find: "_lru_cache_wrapper[Identity]", text: str) -> Identity:
    """What *find* finds for *text*; the result for a long text, which may be hostile, is not cached."""
    return find(text) if len(text) <= _CACHED_LENGTH else find.__wrapped__(text)


def _explain(question: Question, login: Identity | None, request: Request, note: Note) -> None:
    """Note who asks, and about whom."""
    if login is not None:
        note("login {}: {}", login.text, _found(login, "no mailbox"))
    if question.sender is not None:
        note("sender {}: {}", question.sender.text, _found(question.sender, "no mailbox"))
    else:
        note("sender: {}", "the null sender <>" if question.is_null_sender else "none yet")
    client = request.client_address or "not given"
    note("client {}: {}", client, "an insider" if question.is_insider else "not an insider")
    recipient = question.recipient
    if recipient is None:
        note("recipient: none yet")
    elif recipient.is_outside:
        where = f"; it leads to {recipient.address}" if recipient.leads_outside else ""
        note("recipient {}: outside, its domain is not managed{}", recipient.text, where)
    elif recipient.domain is None:
        note("recipient {}: no domain, neither managed nor outside", recipient.text)
    else:
        note("recipient {}: {}", recipient.text, _found(recipient, f"unlisted in {recipient.domain.name}"))


def _found(party: Identity, nothing: str) -> str:
    return f"mailbox {party.mailbox.name} ({party.how})" if party.mailbox else nothing
