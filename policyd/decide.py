"""Decides a request: looks up the facts about it in the tables, and has the rules judge them."""

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import assert_never

from policyd.address import fold
from policyd.errors import TablesMovedError
from policyd.identities import FactLookup, Identities
from policyd.model import Action, Decision, Mode, Party, Request, Rule, new_tuple
from policyd.reply import fields_of, render_text
from policyd.rules import Entries, Identity, Note, Policy, Question, Verdict, accepted_as, judge, silent
from policyd.settings import Settings

_BEFORE_MAIL = frozenset({"", "CONNECT", "HELO", "EHLO"})
UNJUDGED = frozenset({"VRFY", "ETRN"})  # states in which the tables are not asked
_CACHED_CLIENTS = 4096
_KEPT_REFUSALS = 4096
_PEERS = frozenset({"recipient", "sender"})  # fields of a text that come from the peer
_NO_OBJECTION = Action.DUNNO  # looked for in the enumeration once: Python 3.11 takes as long as for a call
_DUNNO = Decision(_NO_OBJECTION, Rule.DEFAULT)


class Decider:
    """Decides requests by *settings*, from *tables*.

    Every decision until `end` is made on one state of the tables: the newest at the first of them.
    """

    def __init__(self, settings: Settings, tables: FactLookup) -> None:
        self._settings = settings
        self._tables = tables
        self._policy = Policy(frozenset(map(fold, settings.always_accept)))
        self._identities = Identities(settings, tables)
        self._is_inside = lru_cache(_CACHED_CLIENTS)(self._find_inside)

        # A refusal is made once for all requests that get the same one, if its text names none of the peer's addresses.
        self._refusal_action = _refusal_action(settings.mode)
        self._refusal = lru_cache(_KEPT_REFUSALS)(self._make_refusal)
        self._naming_peers = {rule for rule, text in settings.reply.items() if _PEERS & fields_of(text)}

    def decide(self, request: Request, now: int, note: Note = silent) -> Decision:
        """The answer to *request* at *now*, in Unix seconds; *note* is called for each step.

        Raises StoreError where the tables can't be read: then there is no answer to give.
        """
        if request.protocol_state in UNJUDGED:
            note("state {}: not judged", request.protocol_state)
            return _DUNNO
        self._begin()
        try:
            question, verdict = self._judge(request, now, note)
        except TablesMovedError:
            self._tables.begin()
            self._identities.forget()
            question, verdict = self._judge(request, now, note)
        return self._decision(request, question, verdict, note)

    def explain(self, request: Request, now: int) -> tuple[Decision, list[str]]:
        """The answer to *request* at *now*, and each step that led to it, a sentence or less. Raises StoreError."""
        trace: dict[str, None] = {}  # what is noted again is the same fact
        decision = self.decide(request, now, lambda step, *values: trace.setdefault(step.format(*values)))
        return decision, [*trace]

    def find_recipient(self, text: str) -> Identity:
        """What the tables know about an address: its managed domain, and the mailbox it leads to.

        Raises StoreError.
        """
        return self._identities.recipient(text)

    def find_sender(self, text: str) -> Identity:
        """The same about an address as an envelope sender, with the entries that match it. Raises StoreError."""
        return self._identities.sender(text)

    def find_login(self, text: str) -> Identity:
        """The same about a login, as which a mailbox's name does, too. Raises StoreError."""
        return self._identities.login(text)

    def accepted_as(self, request: Request) -> Party | None:
        """As whom an accepted sender would let *request* through; None where nobody proves who sends it.

        Raises StoreError.
        """
        self._begin()
        return accepted_as(self._look_up(request, silent))

    def end(self) -> None:
        """Have the next decision read the newest state of the tables."""
        self._tables.end()

    def _begin(self) -> None:
        """Look at the newest state of the tables; what was remembered of another is forgotten."""
        if self._tables.begin():
            self._identities.forget()

    def _judge(self, request: Request, now: int, note: Note) -> tuple[Question, Verdict]:
        """What the rules have to judge, and their verdict, for which they ask for more facts."""
        question = self._look_up(request, note)
        verdict = judge(question, self._policy, self._identities, now, note)
        self._tables.confirm()
        return question, verdict

    def _look_up(self, request: Request, note: Note) -> Question:
        """What the rules have to judge: the request, with what the tables know about it."""
        # Whom the request names.
        identities = self._identities
        login = identities.login(text) if (text := request.sasl_username) else None
        sender = identities.sender(text) if (text := request.sender) else None
        recipient = identities.recipient(text) if (text := request.recipient) else None
        is_null = sender is None and (recipient is not None or request.protocol_state not in _BEFORE_MAIL)

        # Which blocked senders it may be: by its login, by its envelope sender, and those that are anyone.
        found: tuple[Entries, ...] = ()
        if login is not None and login.entries:
            found = (login.entries,)
        if sender is not None:
            if sender.entries:
                found = (*found, sender.entries)
        elif is_null and (entries := identities.null_entries()):
            found = (*found, entries)
        if self._tables.has_anyone_entries:
            found = (*found, recipient.entries if recipient is not None else identities.entries_of_anyone())

        is_insider = bool(
            login is not None
            or request.policy_context in self._settings.insider_contexts
            or self._is_inside(request.client_address)
        )
        question = new_tuple(Question, (recipient, sender, login, is_null, is_insider, found))
        if note is not silent:
            _explain(question, request, note)
        return question

    def _find_inside(self, client_address: str) -> bool:
        return is_in_networks(client_address, self._settings.insider_networks)

    def _decision(self, request: Request, question: Question, verdict: Verdict, note: Note) -> Decision:
        recipient = question.recipient
        name = recipient.mailbox.name if recipient is not None and recipient.mailbox is not None else ""
        if note is not silent:
            note("rule: {}", verdict.rule)
        if not verdict.is_refused:
            is_insider, by = question.is_insider, verdict.restriction.by
            return new_tuple(Decision, (_NO_OBJECTION, verdict.rule, "", "", None, name, is_insider, False, by))

        if note is not silent and not self._refusal_action.is_refusal:
            note("mode monitor: would be REJECT")
        _, rule, entry, restriction = verdict
        reason, number = (restriction.reason, None) if entry is None else (entry.reason, entry.id)
        told = (rule, reason, number, name, question.is_insider, restriction.by)
        if rule in self._naming_peers:
            return self._make_refusal(*told, request.recipient, request.sender)
        return self._refusal(*told)

    def _make_refusal(
        self,
        rule: Rule,
        reason: str,
        entry: int | None,
        mailbox: str,
        is_insider: bool,
        by: str,
        recipient: str = "",
        sender: str = "",
    ) -> Decision:
        """A refusal, with the administrator's reason in its text. In monitor mode it is logged, and not sent."""
        template = self._settings.reply[rule]
        text = render_text(rule, template, recipient=recipient, sender=sender, mailbox=mailbox, reason=reason)
        return Decision(self._refusal_action, rule, text, reason, entry, mailbox, is_insider, is_refused=True, by=by)


def is_in_networks(client_address: str, networks: Iterable[IPv4Network | IPv6Network]) -> bool:
    """Whether a client is in one of *networks*, also by an IPv4 address written as one of IPv6."""
    try:
        address = ip_address(client_address)
    except ValueError:  # "unknown", or a client on a unix socket
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return any(address in network for network in networks)


def _refusal_action(mode: Mode) -> Action:
    """What Postfix is told where a request is refused."""
    match mode:
        case Mode.ENFORCE:
            return Action.REJECT
        case Mode.MONITOR:
            return Action.DUNNO
        case _:
            assert_never(mode)


def _explain(question: Question, request: Request, note: Note) -> None:
    """Note who asks, and about whom."""
    if question.login is not None:
        note("login {}: {}", question.login.text, _found(question.login, "no mailbox"))
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
        where = f"; it leads to {recipient.addresses[0]}" if recipient.leads_outside else ""
        note("recipient {}: outside, its domain is not managed{}", recipient.text, where)
    elif recipient.domain is None:
        note("recipient {}: no domain, neither managed nor outside", recipient.text)
    else:
        note("recipient {}: {}", recipient.text, _found(recipient, f"unlisted in {recipient.domain.name}"))


def _found(identity: Identity, nothing: str) -> str:
    return f"mailbox {identity.mailbox.name} ({identity.how})" if identity.mailbox else nothing
