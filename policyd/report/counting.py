"""Counts what a log has of policyd, in one pass: memory does not grow with the log.

Of what anybody can send (senders, recipients, clients) the most frequent are kept, and the rest is counted together:
totals are exact, however much there is.
"""

import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from heapq import nlargest
from typing import Generic, Protocol, TypeVar

from policyd.address import fold
from policyd.audit_lines import LoggedDecision, kind_of, read_decision, read_fields
from policyd.errors import AuditLineError
from policyd.model import Action, Request, Rule
from policyd.report.log_lines import Logged

_KEPT = 10_000  # of each kind
_RECENT = 20_000  # questions among which one that is asked again is looked for
_LETTERS = 250_000  # letters remembered, by who wrote to whom; from as many on, the older ones are forgotten
DICTIONARY = 20  # unlisted recipients that a client must have tried to be taken for one that guesses
_HOUR = 3600
_ACTIONS = frozenset(Action)
MARKER = "policyd-doctor-"  # begins the sender or the recipient that doctor tries at Postfix, with twelve digits behind
_PROBE = re.compile(rf"{MARKER}[0-9a-f]{{12}}@")


class _Counted(Protocol):
    count: int


T = TypeVar("T", bound=_Counted)


@dataclass(slots=True)
class Seen:
    """How often something was, and when first and last, in Unix seconds; 0 where nobody says."""

    count: int = 0
    first: float = 0.0
    last: float = 0.0

    def see(self, at: float | None) -> None:
        """It was once more."""
        self.count += 1
        if at is not None:
            self.first = min(self.first or at, at)
            self.last = max(self.last, at)


@dataclass(slots=True)
class Refused(Seen):
    """Mail of one sender to one mailbox that was refused, or would have been, by the same; and the last question."""

    decision: LoggedDecision | None = None
    would: int = 0  # of `count`, in monitor mode
    has_login: bool = False

    @property
    def last_decision(self) -> LoggedDecision:
        """The last of them."""
        assert self.decision is not None
        return self.decision


@dataclass(slots=True)
class Unlisted(Refused):
    """Mail to one address that was refused since it is unlisted; `clients` are the first who tried."""

    clients: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Guessing(Seen):
    """A client that tried unlisted addresses, up to as many as it takes to be sure that it guesses."""

    recipients: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Client(Seen):
    """An insider by its network alone, with its last question."""

    request: Request = field(default_factory=Request)


@dataclass(slots=True)
class Context(Seen):
    """Questions with one policy_context: how many by a login, by the network alone, and by nobody known."""

    logins: int = 0
    networks: int = 0
    outsiders: int = 0


class Frequent(Generic[T]):
    """The most frequent of however many things, by their keys; `others` is how often the rest was."""

    def __init__(self, make: Callable[[], T], limit: int = _KEPT) -> None:
        self._make = make
        self._limit = limit
        self._kept: dict[Hashable, T] = {}
        self.others = 0

    def of(self, key: Hashable) -> T:
        """What is counted under *key*."""
        found = self._kept.get(key)
        if found is None:
            if len(self._kept) >= self._limit:
                self._forget_half()
            found = self._kept[key] = self._make()
        return found

    def get(self, key: Hashable) -> T | None:
        """What is counted under *key*, if it is."""
        return self._kept.get(key)

    def ranked(self, limit: int | None = None) -> list[tuple[Hashable, T]]:
        """The most frequent, first that, each with its key."""
        return nlargest(len(self._kept) if limit is None else limit, self._kept.items(), key=lambda each: each[1].count)

    def __len__(self) -> int:
        return len(self._kept)

    def _forget_half(self) -> None:
        kept = dict(self.ranked(self._limit // 2))
        self.others += sum(each.count for key, each in self._kept.items() if key not in kept)
        self._kept = kept


class Recent:
    """Whether something was there before, among the last so many to twice as many."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._new: set[int] = set()
        self._old: set[int] = set()

    def add(self, *what: str) -> None:
        """It was there."""
        self._new.add(hash(what))
        if len(self._new) >= self._limit:
            self._old, self._new = self._new, set()

    def has(self, *what: str) -> bool:
        """Whether it was."""
        return hash(what) in self._new or hash(what) in self._old


@dataclass(slots=True)
class Answers:
    """How the questions that one rule decided were answered; `would_be_refused` is monitor mode's."""

    permitted: int = 0
    would_be_refused: int = 0
    refused: int = 0


class Counts:
    """What the lines of a log say that are not older than *since*, in Unix seconds.

    *is_inside* tells of an IP address whether it is in the networks of insiders; a context in *insider_contexts* makes
    one, too.
    """

    def __init__(
        self, since: int = 0, is_inside: Callable[[str], bool] = lambda _: False, insider_contexts: Iterable[str] = ()
    ) -> None:
        self._since = since
        self._is_inside = is_inside
        self._insider_contexts = frozenset(insider_contexts)
        self._asked: OrderedDict[int, None] = OrderedDict()
        self.period = Seen()  # of all lines of ours
        self.not_understood = 0
        self.cut = 0
        self.asked_twice = 0
        self.trials = 0
        self.rules: dict[str, Answers] = {rule: Answers() for rule in Rule}
        self.hours: Counter[int] = Counter()
        self.refused: Frequent[Refused] = Frequent(Refused)
        self.unlisted: Frequent[Unlisted] = Frequent(Unlisted)
        self.guessing: Frequent[Guessing] = Frequent(Guessing)
        self.entries: Frequent[Refused] = Frequent(Refused, 10 * _KEPT)
        self.contexts: Frequent[Context] = Frequent(Context, 1000)
        self.by_network: Frequent[Client] = Frequent(Client)
        self.letters = Recent(_LETTERS)  # that were let through: who wrote, and to whom
        self.known_clients = Recent(_LETTERS)  # those with a login
        self.events: Counter[str] = Counter()
        self.warnings: Frequent[Seen] = Frequent(Seen, 1000)
        self.dropped = 0
        self.changes = 0

    @property
    def decisions(self) -> int:
        """How many questions were answered; one that was asked twice is one."""
        return sum(each.permitted + each.would_be_refused + each.refused for each in self.rules.values())

    def take(self, logged: Logged) -> None:
        """Count a line."""
        at, text = logged
        if at is not None and at < self._since:
            return
        self.period.see(at)
        kind = kind_of(text)
        try:
            match kind:
                case "action":
                    self._take_decision(at, read_decision(text))
                case "change":
                    self.changes += 1
                case "event":
                    self.events[read_fields(text).get("event", "")] += 1
                case "warning":
                    self._take_warning(at, read_fields(text))
                case _:
                    self.not_understood += 1
        except AuditLineError:
            self.not_understood += 1

    def _take_warning(self, at: float | None, fields: dict[str, str]) -> None:
        warning = fields.get("warning", "")
        if warning.startswith("hung up: "):
            warning = "hung up"
        elif "dropped" in fields and fields["dropped"].isdecimal():
            self.dropped += int(fields["dropped"])
        self.warnings.of(warning).see(at)

    def _take_decision(self, at: float | None, decision: LoggedDecision) -> None:
        answers, request = self.rules.get(decision.rule), decision.request
        if answers is None or decision.action not in _ACTIONS:
            raise AuditLineError("there is no such rule, or no such action")
        if request.is_trial or _PROBE.match(request.sender) or _PROBE.match(request.recipient):
            self.trials += 1
            return
        if self._is_asked_again(request):
            self.asked_twice += 1
            return
        self.cut += bool(decision.cut)
        if at is not None:
            self.hours[int(at) // _HOUR] += 1
        self._see_insider(at, request)
        if decision.is_refused:
            answers.would_be_refused += decision.would
            answers.refused += not decision.would
            self._take_refused(at, decision)
            return

        # What was let through tells later who knows whom.
        answers.permitted += 1
        if request.recipient:
            self.letters.add(fold(request.sender or request.sasl_username), fold(request.recipient))

    def _take_refused(self, at: float | None, decision: LoggedDecision) -> None:
        """Count what was refused, or would have been: by the address, or by who sent to whom."""
        request = decision.request
        recipient, client = fold(request.recipient), request.client_address
        if decision.rule == Rule.UNLISTED_RECIPIENT:
            unlisted, guessing = self.unlisted.of(recipient), self.guessing.of(client)
            self._see_refused(unlisted, at, decision)
            guessing.see(at)
            if len(unlisted.clients) < DICTIONARY:
                unlisted.clients.add(client)
            if len(guessing.recipients) < DICTIONARY:
                guessing.recipients.add(recipient)
            return
        if decision.entry is not None:
            self._see_refused(self.entries.of(decision.entry), at, decision)
        sender = fold(request.sasl_username or request.sender)
        key = (decision.rule, decision.entry, decision.by, decision.mailbox or recipient, sender)
        self._see_refused(self.refused.of(key), at, decision)

    def _see_refused(self, seen: Refused, at: float | None, decision: LoggedDecision) -> None:
        seen.see(at)
        seen.would += decision.would
        seen.has_login |= bool(decision.request.sasl_username)
        if seen.decision is None or not decision.cut:
            seen.decision = decision

    def _see_insider(self, at: float | None, request: Request) -> None:
        """Count by what the client is an insider, if it is."""
        context = self.contexts.of(request.policy_context)
        context.see(at)
        if request.sasl_username:
            context.logins += 1
            self.known_clients.add(request.client_address)
        elif request.policy_context in self._insider_contexts:
            pass
        elif self._is_inside(request.client_address):
            context.networks += 1
            client = self.by_network.of(request.client_address)
            client.see(at)
            client.request = request
        else:
            context.outsiders += 1

    def _is_asked_again(self, request: Request) -> bool:
        """Whether this message and recipient were asked about before, by another place in Postfix's lists."""
        if not request.instance or not request.recipient:
            return False
        key = hash((request.instance, request.recipient))
        if key in self._asked:
            return True
        self._asked[key] = None
        if len(self._asked) > _RECENT:
            self._asked.popitem(last=False)
        return False
