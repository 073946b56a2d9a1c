"""Changes on the command line, while mail comes in: in force when the command returns."""

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing

import pytest

from tests.support.waiting import until

from .audit import Audit
from .conftest import Connect
from .daemon import Daemon
from .replies import ACCEPTED, refused
from .smtp import Session

pytestmark = pytest.mark.postfix

Policyd = Callable[..., str]


def test_change_between_two_recipients_counts_for_the_second(outsider: Session, policyd: Policyd) -> None:
    """Nothing waits for a new connection: not in Postfix, which keeps its own, and not in policyd."""
    policyd("mailbox", "add", "eva", "eva@example.com")
    outsider.mail("carol@outside.example")
    assert outsider.rcpt("eva@example.com") == ACCEPTED
    policyd("mailbox", "restrict", "eva", "--reason", "on leave")
    assert outsider.rcpt("eva@example.com") == refused("restricted-recipient", "eva@example.com", "on leave")
    policyd("mailbox", "lift", "eva")
    assert outsider.rcpt("eva@example.com") == ACCEPTED
    policyd("address", "remove", "eva@example.com")
    assert outsider.rcpt("eva@example.com") == refused("unlisted-recipient", "eva@example.com")


def test_block_and_unblock_count_at_the_next_recipient(connect: Connect, policyd: Policyd) -> None:
    """The same for the way out."""
    policyd("mailbox", "add", "fred", "fred@example.com")
    fred = connect(address="10.1.2.3", login="fred")
    fred.mail("fred@example.com")
    assert fred.rcpt("x@other.example") == ACCEPTED
    policyd("sender", "block", "fred", "--reason", "invoices unpaid")
    assert fred.rcpt("x@other.example") == refused("blocked-sender", "x@other.example", "invoices unpaid")
    policyd("sender", "except", "fred", "x@other.example")
    assert fred.rcpt("x@other.example") == ACCEPTED
    policyd("sender", "unblock", "fred")
    assert fred.rcpt("y@other.example") == ACCEPTED


def test_restrictions_end_at_their_time_while_the_daemon_runs(
    daemon: Daemon, outsider: Session, connect: Connect, policyd: Policyd, audit: Audit
) -> None:
    """--until needs nobody to come back and lift it; no command and no restart makes it end."""
    policyd("mailbox", "add", "gina", "gina@example.com")
    gina = connect(address="10.1.2.3", login="gina")
    policyd("mailbox", "restrict", "gina", "--reason", "on leave", "--until", "+1d")
    policyd("sender", "block", "gina", "--reason", "on leave", "--until", "+1d")
    assert outsider.ask("gina@example.com") == refused("restricted-recipient", "gina@example.com", "on leave")
    assert gina.ask("x@other.example") == refused("blocked-sender", "x@other.example", "on leave")
    end = int(time.time()) + 2
    with closing(sqlite3.connect(daemon.database)) as tables, tables:  # no command, which might start too late
        tables.execute("UPDATE mailbox SET until = ? WHERE name = 'gina'", (end,))
        tables.execute("UPDATE blocked_sender SET until = ? WHERE reason = 'on leave'", (end,))
    until(lambda: outsider.accepts("gina@example.com"), "the restriction of gina to end")
    until(lambda: gina.accepts("x@other.example"), "the block of gina to end")
    assert time.time() >= end
    assert audit.decision(action="DUNNO", recipient="<gina@example.com>")["rule"] == "default"


def test_new_domain_counts_at_once(outsider: Session, policyd: Policyd) -> None:
    """From the moment it is managed, its unlisted recipients are refused; and no longer, once it isn't."""
    assert outsider.ask("x@lists.example.com") == ACCEPTED
    policyd("domain", "add", "lists.example.com")
    assert outsider.ask("x@lists.example.com") == refused("unlisted-recipient", "x@lists.example.com")
    policyd("domain", "set", "lists.example.com", "--unlisted", "accept")
    assert outsider.ask("x@lists.example.com") == ACCEPTED
