"""Changes to the blocked senders, each with its journal row; the transaction is the caller's."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from shlex import quote

from sqlalchemy import Connection

from policyd.address import NULL_SENDER, is_pattern, pattern_domain
from policyd.errors import RefusedError
from policyd.model import BlockedSender, Recipients
from policyd.store import read
from policyd.store.edit import need_mailbox, new_until
from policyd.store.writer import Writer


@dataclass(frozen=True, slots=True)
class Terms:
    """What a command says of an entry; None leaves it as it is. `until`: Unix seconds, `NO_END` for none."""

    allowed: frozenset[str] | None = None
    reason: str | None = None
    until: int | None = None
    comment: str | None = None


class BlockEditor:
    """Changes the blocked senders, which it reads over *connection*, by *writer*; *now* is in Unix seconds.

    A *sender* is a mailbox's name or a pattern in normal form; *to* is `outside`, `anyone`, a mailbox's
    name, or "" where the command did not say.
    """

    def __init__(self, connection: Connection, writer: Writer, actor: str, now: int) -> None:
        self._connection = connection
        self._writer = writer
        self._actor = actor
        self._now = now

    def block_sender(self, sender: str, to: str, terms: Terms) -> BlockedSender:
        """Make the entry for *sender* and *to* stand as *terms* say, new or changed; return it.

        Raises RefusedError where it could do nothing.
        """
        wanted = self._wanted(sender, to or self._default_to(sender))
        before = next((each for each in read.entries_of(self._connection, sender) if each.to == wanted.to), None)
        current = before or replace(wanted, created_at=self._now, created_by=self._actor)
        after = replace(
            current,
            allowed=current.allowed if terms.allowed is None else terms.allowed,
            reason=current.reason if terms.reason is None else terms.reason,
            until=new_until(terms.until, current.until, self._now),
            comment=current.comment if terms.comment is None else terms.comment,
        )
        for pattern in sorted(after.allowed - current.allowed):
            self._check_exception(after, pattern)
        return self._writer.put_blocked("sender.block", before, after) or after

    def unblock_sender(self, sender: str, to: str) -> None:
        """Remove the entry for *sender* and *to*, or all of that sender's."""
        for entry in self._need_entries(sender, to):
            self._writer.put_blocked("sender.unblock", entry, None)

    def except_recipients(self, sender: str, to: str, patterns: Iterable[str]) -> None:
        """Let *sender* send to recipients that match *patterns* all the same."""
        added = frozenset(patterns)
        for entry in self._need_entries(sender, to):
            for pattern in sorted(added - entry.allowed):
                self._check_exception(entry, pattern)
            self._writer.put_blocked("sender.except", entry, replace(entry, allowed=entry.allowed | added))

    def unexcept_recipients(self, sender: str, to: str, patterns: Iterable[str]) -> None:
        """Take *patterns*, each of which must be there, from the exceptions of *sender*."""
        gone = frozenset(patterns)
        entries = self._need_entries(sender, to)
        if missing := sorted(gone.difference(*(entry.allowed for entry in entries))):
            raise RefusedError(
                f"{', '.join(missing)}: no exception of {sender}; see: policyd sender show {quote(sender)}"
            )
        for entry in entries:
            self._writer.put_blocked("sender.unexcept", entry, replace(entry, allowed=entry.allowed - gone))

    def _wanted(self, sender: str, to: str) -> BlockedSender:
        recipients, target = Recipients.MAILBOX, ""
        if to in (Recipients.OUTSIDE, Recipients.ANYONE):
            recipients = Recipients(to)
        else:
            target = need_mailbox(self._connection, to).name
        if is_pattern(sender):
            return BlockedSender(pattern=sender, recipients=recipients, to_mailbox=target)
        holder = need_mailbox(self._connection, sender).name
        return BlockedSender(mailbox=holder, recipients=recipients, to_mailbox=target)

    def _default_to(self, sender: str) -> str:
        """`outside` for a mailbox or a pattern inside managed domains, else `anyone`."""
        is_inside = not is_pattern(sender) or self._is_managed(pattern_domain(sender))
        return Recipients.OUTSIDE if is_inside else Recipients.ANYONE

    def _is_managed(self, domain: str) -> bool:
        return bool(domain) and read.find_domain(self._connection, domain) is not None

    def _need_entries(self, sender: str, to: str) -> list[BlockedSender]:
        """The entries of *sender*, to *to* if that is given. Raises RefusedError where there is none."""
        if not is_pattern(sender):
            need_mailbox(self._connection, sender)
        wanted = self._wanted(sender, to).to if to else ""
        entries = [each for each in read.entries_of(self._connection, sender) if not wanted or each.to == wanted]
        if not entries:
            what = f"{sender} is not blocked to {to}" if to else f"{sender} is not blocked"
            raise RefusedError(f"{what}; see: policyd sender list")
        return entries

    def _check_exception(self, entry: BlockedSender, pattern: str) -> None:
        """Raises RefusedError for an exception that no recipient of *entry* can match."""
        domain = pattern_domain(pattern)
        problem = ""
        if pattern == NULL_SENDER:
            problem = "no recipient is the null sender"
        elif entry.recipients is Recipients.OUTSIDE and self._is_managed(domain):
            problem = f"{domain} is managed, and this entry leaves recipients in managed domains alone anyway"
        elif entry.recipients is Recipients.MAILBOX and domain and not self._is_managed(domain):
            problem = f"{domain} is not managed, so {entry.to} has no address there"
        if problem:
            raise RefusedError(f"the exception {pattern} would do nothing: {problem}; leave it out")
