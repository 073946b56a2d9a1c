"""Who set what decided about a mail, when, and what has changed of it since: from the journal.

The journal knows objects by numbers, so a mailbox or group is followed through its renames. Rows of the first edition
have no numbers: there the name counts.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from policyd.address import fold
from policyd.audit_lines import LoggedDecision
from policyd.decide import Decider
from policyd.model import GROUP_PREFIX, Change, Party, PartyKind, Receive, Rule, Unlisted, party_text
from policyd.rules import Identity, is_past, senders_in_words
from policyd.store.journal import field_of_group, field_of_member, field_of_number, is_membership
from policyd.store.queries import Queries

_SHOWN = 100  # changes since
_SLACK = 1  # second: a log has whole seconds, and the change is committed before it is in force
_RESTRICTING = ("receive", "reason", "until")  # what of a mailbox, group or domain restricts it
_BLOCKING = ("sender", "to", "reason", "until")  # and of a blocked sender

_Snapshot = Mapping[str, Any]


class Subject(NamedTuple):
    """An object that the journal has rows of, known by its `number` where it has one, else by its `name`."""

    noun: str
    name: str
    number: int = 0

    def has(self, change: Change) -> bool:
        """Whether a change is one of this object."""
        if change.operation.partition(".")[0] != self.noun:
            return False
        stored = change.after or change.before or ""
        if self.number and stored.startswith('{"id": '):
            return field_of_number(self.number) in stored and not is_membership(stored)
        return fold(change.object.removeprefix(GROUP_PREFIX)) == fold(self.name)


def changes_about(
    queries: Queries, subjects: Sequence[Subject], members: Sequence[Party] = (), groups: Sequence[int] = ()
) -> Iterator[Change]:
    """The journal's rows that may be about *subjects*, or that *members* joined or left a group, or others *groups*."""
    names = {name for each in subjects for name in (each.name, f"{GROUP_PREFIX}{each.name}") if each.name}
    numbers = {each.number for each in subjects if each.number > 0}
    return queries.changes_about(sorted(names), sorted(numbers), members, groups)


def is_member_in(change: Change, member: Party) -> bool:
    """Whether a change is that *member* joined or left a group."""
    return field_of_member(member) in (change.after or change.before or "")


def is_in_group(change: Change, number: int) -> bool:
    """Whether a change is that somebody joined or left the group with this number."""
    return field_of_group(number) in (change.after or change.before or "")


@dataclass(slots=True)
class Cause:
    """What decided about a mail, in words; the change that set it, None where the journal has none; and those since.

    `until` is when it ended, in Unix seconds, if that has passed; `more` is how many changes since are left out.
    """

    words: str
    set_by: Change | None = None
    since: list[Change] = field(default_factory=list)
    more: int = 0
    until: int | None = None


class Tracing:
    """Asks the journal that *queries* read, and *decider* on the same state of the tables, at *now* in Unix seconds."""

    def __init__(self, queries: Queries, decider: Decider, now: int) -> None:
        self._queries = queries
        self._decider = decider
        self._now = now

    def cause(self, decision: LoggedDecision, at: float | None) -> Cause:
        """What made *decision*, at that time in Unix seconds; where nobody says when, the last that can have."""
        latest = self._now if at is None else int(at) + _SLACK
        match decision.rule:
            case Rule.RESTRICTED_RECIPIENT:
                return self._restriction(decision, latest)
            case Rule.BLOCKED_SENDER:
                return self._entry(decision, latest)
            case Rule.UNLISTED_RECIPIENT:
                return self._unlisted(decision, latest)
            case _:
                return Cause(f"nothing refused it: rule {decision.rule}")

    def _restriction(self, decision: LoggedDecision, latest: int) -> Cause:
        """The restriction of a mailbox, a group or a domain."""
        recipient = self._decider.find_recipient(decision.request.recipient)
        if decision.by == "mailbox":
            subject = self._numbered("mailbox", decision.mailbox, latest)
            called = f"mailbox {decision.mailbox}"
        elif decision.by.startswith(GROUP_PREFIX):
            subject = self._numbered("group", decision.by.removeprefix(GROUP_PREFIX), latest)
            called = decision.by
        else:
            subject = Subject("domain", self._domain_of(recipient, latest))
            called = f"domain {subject.name}"
        set_by = self._set_by(
            subject,
            latest,
            _RESTRICTING,
            lambda after: (
                Receive(after.get("receive", Receive.ANYONE)).is_restriction
                and _may_be(after.get("reason", ""), decision, "reason")
            ),
        )
        receive = _after(set_by).get("receive")
        words = f"received from {senders_in_words(Receive(receive))}" if receive else "was restricted"
        others = [subject, *self._about_recipient(decision, recipient, latest)]
        return self._with_since(f"{called} {words}", set_by, others, latest, decision)

    def _entry(self, decision: LoggedDecision, latest: int) -> Cause:
        """An entry of the table of blocked senders."""
        entry = self._queries.entry(decision.entry or 0)
        subject = Subject("sender", str(entry.who) if entry else "", decision.entry or -1)
        set_by = self._set_by(
            subject, latest, _BLOCKING, lambda after: _may_be(after.get("reason", ""), decision, "reason")
        )
        words = f"entry {decision.entry} blocked it"
        if set_by is not None:
            after = _after(set_by)
            words = f"entry {decision.entry}: {set_by.object} could not send to {party_text(after['to'])}"
        return self._with_since(words, set_by, [subject], latest, decision)

    def _unlisted(self, decision: LoggedDecision, latest: int) -> Cause:
        """An address that was no mailbox's: that somebody took it from one, or that its domain rejects such."""
        recipient = self._decider.find_recipient(decision.request.recipient)
        addresses = [str(each) for each in recipient.addresses] + [
            f"{each.base}@{each.domain}" for each in recipient.addresses if each.base
        ]
        subjects = [Subject("address", each) for each in dict.fromkeys(addresses)]
        taken = next(
            (
                change
                for change in self._about(subjects, latest)
                if change.after is None and any(each.has(change) for each in subjects)
            ),
            None,
        )
        domain = Subject("domain", self._domain_of(recipient, latest))
        set_by = taken or self._set_by(
            domain, latest, ("unlisted", "alias_of"), lambda after: after.get("unlisted") == Unlisted.REJECT
        )
        words = f"{decision.request.recipient} was no mailbox's address, and {domain.name} rejects such"
        return self._with_since(words, set_by, [*subjects, domain], latest, decision)

    def _with_since(
        self, words: str, set_by: Change | None, subjects: list[Subject], latest: int, decision: LoggedDecision
    ) -> Cause:
        """The cause, with what changed after the mail of what it was about."""
        members = self._members(decision, latest)
        first = set_by.id + 1 if set_by else 0
        since: list[Change] = []
        more = 0
        for change in changes_about(self._queries, subjects, members):
            if change.id < first:
                break
            if change.at < latest - _SLACK or not (
                any(each.has(change) for each in subjects) or any(is_member_in(change, each) for each in members)
            ):
                continue
            if len(since) == _SHOWN:
                more += 1
            else:
                since.append(change)
        until = _after(set_by).get("until")
        return Cause(words, set_by, since[::-1], more, until if is_past(until, self._now) else None)

    def _members(self, decision: LoggedDecision, latest: int) -> list[Party]:
        """The recipient's mailbox, where a group restricted it: it may have joined that, or left it."""
        if not decision.by.startswith(GROUP_PREFIX):
            return []
        number = self._numbered("mailbox", decision.mailbox, latest).number
        return [Party(PartyKind.MAILBOX, decision.mailbox, number)]

    def _about_recipient(self, decision: LoggedDecision, recipient: Identity, latest: int) -> Iterator[Subject]:
        """What else may let the recipient receive: the mailbox itself, and whose the address is."""
        if decision.mailbox:
            yield self._numbered("mailbox", decision.mailbox, latest)
        yield from (Subject("address", str(each)) for each in recipient.addresses)

    def _numbered(self, noun: str, name: str, latest: int) -> Subject:
        """The mailbox or group that had this name at *latest*, by its number."""
        wanted = fold(name)
        queries = self._queries
        found = queries.mailbox_named(wanted) if noun == "mailbox" else queries.group_named(wanted)
        if found is not None and latest >= self._now:
            return Subject(noun, name, found.id)

        # Who had the name then has it now, or a row that calls it so says what became of it.
        called = Subject(noun, name)
        had_it = {0} if found is None else {found.id}
        for change in changes_about(queries, [called]):
            if called.has(change) and not is_membership(stored := change.after or change.before or "{}"):
                had_it.add(json.loads(stored).get("id", 0))
        for change in self._about([called, *(Subject(noun, name, number) for number in had_it)], latest):
            taken = json.loads(change.after or change.before or "{}")
            if change.operation.startswith(f"{noun}.") and fold(taken.get("name", "")) == wanted:
                return Subject(noun, name, taken.get("id", 0))
        return called

    def _domain_of(self, recipient: Identity, latest: int) -> str:
        """The domain whose word counts for *recipient*: of an alias domain, its target, as it was at *latest*."""
        name = recipient.addresses[0].domain if recipient.addresses else ""
        if recipient.domain is not None:
            return recipient.domain.name
        alias = self._set_by(Subject("domain", name), latest, ("alias_of",), lambda after: bool(after.get("alias_of")))
        return str(_after(alias).get("alias_of") or name)

    def _set_by(
        self, subject: Subject, latest: int, fields: tuple[str, ...], explains: Callable[[_Snapshot], bool]
    ) -> Change | None:
        """The last change up to *latest* of one of *fields*, after which *subject* *explains* what was decided."""
        for change in self._about([subject], latest):
            if change.after is None or not subject.has(change):
                continue
            before, after = json.loads(change.before or "{}"), json.loads(change.after)
            if any(after.get(name) != before.get(name) for name in fields) and explains(after):
                return change
        return None

    def _about(self, subjects: Sequence[Subject], latest: int) -> Iterator[Change]:
        """What of the journal up to *latest* may be about *subjects*, the last change first."""
        return (change for change in changes_about(self._queries, subjects) if change.at <= latest)


def _after(change: Change | None) -> _Snapshot:
    """What an object was after a change; nothing of no change."""
    after: _Snapshot = json.loads(change.after or "{}") if change else {}
    return after


def _may_be(value: str, decision: LoggedDecision, name: str) -> bool:
    """Whether *value* is what the line has in this field, as far as it has it."""
    logged = str(getattr(decision, name))
    return value.startswith(logged) if name in decision.cut else value == logged
