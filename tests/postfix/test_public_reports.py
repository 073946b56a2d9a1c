"""What postmasters have reported in public of mail servers, at a real Postfix: who really writes, and to whom.

Each report stands in ``tests/oracle/scenarios/reports.txt``, under the name of the project that a docstring here ends
with. Here is what Postfix makes of it: logins by AUTH, envelopes as they arrive at the MX, clients by their address.
"""

from collections.abc import Callable, Iterator

import pytest

from .audit import Audit
from .conftest import Connect
from .daemon import Daemon
from .instance import Postfix
from .replies import ACCEPTED, refused
from .smtp import Session

pytestmark = pytest.mark.postfix

SETTINGS = {
    "login_realms": ["EXAMPLE", "EXAMPLE.LOCAL", "mail.example.com"],
    "insider_networks": ["127.0.0.0/8", "10.0.0.0/8", "[2001:db8:1::]/48"],
}
WEBMAIL = {"IPv4": "10.1.2.4", "IPv6": "IPV6:2001:db8:1::25"}
BATV = "prvs=1234abcdef="

LogIn = Callable[[str], Session]
Block = Callable[..., None]


@pytest.fixture(scope="module", autouse=True)
def tables(daemon: Daemon) -> None:
    """A company with a closed board, its alias domain, two customers, and a school with a catch-all."""
    for line in (
        ("domain", "add", "trading.example", "--alias-of", "example.com"),
        ("mailbox", "add", "boss", "boss@example.com", "ceo@example.com"),
        ("mailbox", "add", "bob", "bob@example.com"),
        ("mailbox", "add", "alice", "a.smith@example.com", "alice@example.com"),
        ("mailbox", "add", "Mary Jones", "mary@example.com"),
        ("mailbox", "add", "board", "board@example.com"),
        ("mailbox", "restrict", "board", "--receive", "nobody", "--accept", "boss", "--accept", "Mary Jones"),
        ("mailbox", "add", "members", "members@example.com"),
        ("mailbox", "restrict", "members", "--receive", "nobody", "--accept", "boss@example.com"),
        ("mailbox", "accept", "members", "joe@partner.example"),
        ("mailbox", "add", "nurse", "nurse@example.com"),
        ("mailbox", "add", "clerk", "clerk@example.com"),
        ("group", "add", "ward", "nurse"),
        ("group", "add", "hospital", "group:ward", "clerk"),
        ("group", "restrict", "hospital", "--reason", "internal", "--accept", "@partner.example"),
        ("domain", "add", "customer.example"),
        ("domain", "add", "neighbour.example"),
        ("mailbox", "add", "ann", "ann@customer.example"),
        ("mailbox", "add", "kim", "kim@customer.example"),
        ("mailbox", "add", "oscar", "oscar@neighbour.example"),
        ("domain", "restrict", "customer.example", "--receive", "domain"),
        ("domain", "add", "school.example", "--unlisted", "accept"),
        ("mailbox", "add", "office", "office@school.example"),
        ("domain", "restrict", "school.example", "--reason", "for the school only"),
        ("mailbox", "open", "office"),
    ):
        daemon.command(*line)


@pytest.fixture
def log_in(connect: Connect) -> LogIn:
    """Opens a session at the submission port, from anywhere, that has logged in as the server's users type it."""

    def session(login: str) -> Session:
        opened = connect(door="submission", tls="starttls")
        opened.log_in(login)
        return opened

    return session


@pytest.fixture
def block(daemon: Daemon) -> Iterator[Block]:
    """``sender block``, until the test has ended."""
    blocked = []

    def entry(*words: str) -> None:
        daemon.command("sender", "block", *words)
        blocked.append(words[0])

    yield entry
    for sender in set(blocked):
        daemon.command("sender", "unblock", sender)


@pytest.mark.parametrize(
    "forged",
    [
        pytest.param("boss@example.com", id="as the list has it"),
        pytest.param("ceo@example.com", id="an alias"),
        pytest.param("Boss+x@Example.COM", id="with an extension"),
        pytest.param('"boss"@example.com', id="quoted"),
        pytest.param("boss", id="without a domain"),
        pytest.param("boss@trading.example", id="in the alias domain"),
        pytest.param(f"{BATV}boss@example.com", id="BATV"),
        pytest.param("board@example.com", id="the list itself"),
        pytest.param("", id="null sender"),
    ],
)
def test_envelope_sender_from_the_internet_makes_nobody_the_boss(outsider: Session, forged: str) -> None:
    """Anybody can write the boss's address into MAIL FROM: the board is not open to that (iRedAPD, mailad)."""
    for recipient in ("board@example.com", "members@example.com"):
        assert outsider.ask(recipient, forged) == refused("restricted-recipient", recipient)


@pytest.mark.parametrize(
    "sender", ["boss@example.com", "ceo@example.com", "ceo@trading.example", "me@home.example", ""]
)
def test_boss_who_has_logged_in_writes_to_the_board_from_any_address(log_in: LogIn, sender: str) -> None:
    """The login proves who it is, also where the mail program sends from an alias (iRedAPD)."""
    session = log_in("boss@example.com")
    assert session.ask("board@example.com", sender) == ACCEPTED
    assert session.ask("members@example.com", sender) == ACCEPTED


@pytest.mark.parametrize("sender", ["boss@example.com", "ceo@example.com", f"{BATV}boss@example.com"])
def test_colleague_who_has_logged_in_does_not_become_the_boss(log_in: LogIn, sender: str) -> None:
    """Postfix lets a login write any MAIL FROM, unless it is told not to (modoboa)."""
    session = log_in("bob@example.com")
    for recipient in ("board@example.com", "members@example.com"):
        assert session.ask(recipient, sender) == refused("restricted-recipient", recipient)


def test_accepted_stranger_counts_as_written(outsider: Session) -> None:
    """Nobody here can prove an address elsewhere: the page on rules says that it can be forged (Mailu)."""
    assert outsider.ask("members@example.com", "Joe+club@partner.example") == ACCEPTED
    assert not outsider.accepts("members@example.com", "jane@partner.example")
    assert not outsider.accepts("board@example.com", "joe@partner.example")


@pytest.mark.parametrize("client", WEBMAIL.values(), ids=WEBMAIL)
def test_webmail_in_insider_networks_is_believed_without_a_login(connect: Connect, client: str) -> None:
    """A webmail that logs in nowhere has checked who writes, and the network is written as Postfix writes it."""
    session = connect(address=client)
    assert session.ask("board@example.com", "ceo@example.com") == ACCEPTED
    assert session.ask("board@example.com", "bob@example.com") == refused("restricted-recipient", "board@example.com")
    assert not connect(address="IPV6:2001:db8:2::25").accepts("board@example.com", "ceo@example.com")


@pytest.mark.parametrize(
    "login",
    [
        pytest.param("boss", id="bare"),
        pytest.param("boss@mail.example.com", id="at the server's name"),
        pytest.param(r"EXAMPLE\boss", id="Windows domain"),
        pytest.param(r"example\CEO@example.com", id="Windows domain and an alias"),
        pytest.param("Boss@example.local", id="Kerberos realm"),
        pytest.param("mary", id="a bare local part, of a mailbox of another name"),
        pytest.param("mary@EXAMPLE.LOCAL", id="such a one with a realm"),
        pytest.param("ceo@trading.example", id="in the alias domain"),
    ],
)
def test_login_is_the_mailbox_as_each_server_sends_it(log_in: LogIn, login: str) -> None:
    """Dovecot, Samba, Kerberos and an LDAP uid: four ways to say one person (docker-mailserver, zimbra_logstash)."""
    assert log_in(login).ask("board@example.com", "somebody@example.com") == ACCEPTED


@pytest.mark.parametrize("login", [r"OTHER\boss", "boss@EXAMPLE.ORG", r"EXAMPLE\bob", "bob", "boss@neighbour.example"])
def test_login_with_a_foreign_realm_is_somebody_else(log_in: LogIn, login: str) -> None:
    """A realm is taken off only where the settings name it."""
    reply = log_in(login).ask("board@example.com", "boss@example.com")
    assert reply == refused("restricted-recipient", "board@example.com")


@pytest.mark.parametrize(
    "login",
    ["alice", "a.smith", "alice@example.com", "alice@trading.example", r"EXAMPLE\alice", "alice@mail.example.com"],
)
def test_block_of_a_domain_meets_each_login_of_it_whatever_it_writes(log_in: LogIn, block: Block, login: str) -> None:
    """Nobody of ours writes outside: neither a bare login nor a private MAIL FROM is a way around (mailcow)."""
    block("@example.com", "--to", "outside")
    session = log_in(login)
    for sender in ("alice@example.com", "me@home.example", "oscar@neighbour.example", ""):
        assert session.ask("x@other.example", sender) == refused("blocked-sender", "x@other.example")
        assert session.ask("bob@example.com", sender) == ACCEPTED


def test_block_of_a_domain_meets_programs_without_login_and_spares_others(
    connect: Connect, log_in: LogIn, block: Block
) -> None:
    """A printer in the office writes as its owner; the neighbours' domain is another one."""
    block("@example.com", "--to", "outside", "--except-sender", "boss")
    for sender in ("alice@example.com", "alice@trading.example", f"{BATV}alice@example.com"):
        assert not connect(address="10.1.2.3").accepts("x@other.example", sender)
    assert log_in("oscar@neighbour.example").ask("x@other.example", "oscar@neighbour.example") == ACCEPTED
    assert log_in("boss").ask("x@other.example", "ceo@example.com") == ACCEPTED
    assert not log_in("bob").accepts("x@other.example", "boss@example.com")


def test_nobody_writes_to_a_competitor_and_the_partner_gets_the_same_message(
    log_in: LogIn, connect: Connect, block: Block, postfix: Postfix
) -> None:
    """Whoever writes: a login, a program in the office, a bounce (mailcow, forwardemail)."""
    block("anyone", "--to", "@competitor.example", "--reason", "ask the lawyers")
    expected = refused("blocked-sender", "ceo@competitor.example", "ask the lawyers")
    for sender in ("bob@example.com", "me@home.example", ""):
        assert log_in("bob").ask("ceo@competitor.example", sender) == expected
        assert connect(address="10.1.2.3").ask("ceo@competitor.example", sender) == expected
    session = log_in("bob")
    session.mail("bob@example.com")
    assert session.rcpt("CEO+x@Competitor.Example") != ACCEPTED
    assert session.rcpt("ann@partner.example") == ACCEPTED
    assert session.rcpt("x@sub.competitor.example") == ACCEPTED
    assert postfix.deliveries(session.data()) == ["ann@partner.example", "x@sub.competitor.example"]


def test_one_address_outside_gets_no_mail_from_whom_it_is_closed_to(log_in: LogIn, block: Block) -> None:
    """A mistyped address for everybody, a customer's director for one account (mailinabox, forwardemail)."""
    block("anyone", "--to", "bogus@partner.example")
    block("bob", "--to", "ceo@client.example")
    bob, oscar = log_in("bob"), log_in("oscar@neighbour.example")
    for recipient in ("bogus@partner.example", "BOGUS+x@Partner.example"):
        assert oscar.ask(recipient, "oscar@neighbour.example") == refused("blocked-sender", recipient)
    assert bob.ask("ceo+x@client.example", "me@home.example") == refused("blocked-sender", "ceo+x@client.example")
    assert bob.ask("sales@client.example", "bob@example.com") == ACCEPTED
    assert oscar.ask("ceo@client.example", "oscar@neighbour.example") == ACCEPTED
    assert oscar.ask("bogus2@partner.example", "oscar@neighbour.example") == ACCEPTED


def test_everybody_writes_to_partners_only_but_the_boss(log_in: LogIn, outsider: Session, block: Block) -> None:
    """A server may send to chosen domains only, and mail inside goes on (docker-postfix, modoboa-installer)."""
    block("anyone", "--to", "outside", "--except", "@partner.example", "--except-sender", "boss")
    bob = log_in("bob")
    assert bob.ask("x@other.example", "boss@example.com") == refused("blocked-sender", "x@other.example")
    assert bob.ask("ann@partner.example", "bob@example.com") == ACCEPTED
    assert bob.ask("alice@trading.example", "bob@example.com") == ACCEPTED
    assert log_in("boss").ask("x@other.example", "ceo@example.com") == ACCEPTED
    assert outsider.ask("bob@example.com") == ACCEPTED


def test_alias_domain_is_the_domain_it_stands_for(log_in: LogIn, outsider: Session, block: Block) -> None:
    """Each rule holds for its addresses, as recipients, logins and blocked senders (iRedAPD, modoboa)."""
    assert outsider.ask("bob+x@trading.example") == ACCEPTED
    assert outsider.ask("board@trading.example") == refused("restricted-recipient", "board@trading.example")
    assert outsider.ask("nosuch@trading.example") == refused("unlisted-recipient", "nosuch@trading.example")
    assert log_in("boss@trading.example").ask("board@trading.example", "boss@trading.example") == ACCEPTED
    block("bob@example.com", "--to", "alice")
    for sender in ("bob@example.com", "bob@trading.example"):
        assert outsider.ask("alice@trading.example", sender) == refused("blocked-sender", "alice@trading.example")


def test_batv_address_is_the_address_inside(outsider: Session, block: Block) -> None:
    """The tag changes each day: a bounce to it must arrive, and a block of its sender must hold (postgrey)."""
    bounce = f"{BATV}bob@example.com"
    assert outsider.ask(bounce, "") == ACCEPTED
    assert outsider.ask(f"{BATV}board@example.com", "") == refused("restricted-recipient", f"{BATV}board@example.com")
    assert outsider.ask(f"{BATV}no@example.com", "") == refused("unlisted-recipient", f"{BATV}no@example.com")
    assert outsider.ask("members@example.com", f"{BATV}joe@partner.example") == ACCEPTED
    block("eve@partner.example")
    for sender in ("eve@partner.example", f"{BATV}eve@partner.example", "PRVS=9876FEDCBA=Eve+x@Partner.example"):
        assert outsider.ask("bob@example.com", sender) == refused("blocked-sender", "bob@example.com")


def test_customers_of_one_server_are_strangers_to_each_other(
    log_in: LogIn, outsider: Session, connect: Connect
) -> None:
    """With `receive` `domain` inside means the same customer, proven; on the Internet nobody is (jabali-panel)."""
    expected = refused("restricted-recipient", "ann@customer.example")
    assert log_in("kim@customer.example").ask("ann@customer.example", "kim@customer.example") == ACCEPTED
    assert log_in("oscar@neighbour.example").ask("ann@customer.example", "kim@customer.example") == expected
    assert outsider.ask("ann@customer.example", "kim@customer.example") == expected
    webmail = connect(address=WEBMAIL["IPv4"])
    assert webmail.ask("ann@customer.example", "kim@customer.example") == ACCEPTED
    assert webmail.ask("ann@customer.example", "oscar@neighbour.example") == expected
    assert log_in("ann@customer.example").ask("oscar@neighbour.example", "ann@customer.example") == ACCEPTED


def test_group_is_closed_to_the_outside_for_each_of_its_mailboxes(
    outsider: Session, log_in: LogIn, daemon: Daemon, postfix: Postfix, audit: Audit
) -> None:
    """One command for many mailboxes, those of a group inside it too; who leaves is open with the next mail."""
    for name in ("nurse", "clerk"):
        recipient = f"{name}@example.com"
        assert outsider.ask(recipient, "clerk@example.com") == refused("restricted-recipient", recipient, "internal")
        fields = audit.decision(recipient=f"<{recipient}>")
        assert (fields["mailbox"], fields["by"]) == (name, "group:hospital")
        assert outsider.ask(recipient, "ann@partner.example") == ACCEPTED
    assert log_in("bob").ask("nurse@example.com", "bob@example.com") == ACCEPTED
    daemon.command("group", "leave", "hospital", "clerk")
    outsider.command("RSET")
    outsider.mail("carol@outside.example")
    assert outsider.rcpt("nurse@example.com") == refused("restricted-recipient", "nurse@example.com", "internal")
    assert outsider.rcpt("clerk@example.com") == ACCEPTED
    assert postfix.deliveries(outsider.data()) == ["clerk@example.com"]
    daemon.command("group", "join", "hospital", "clerk")
    assert not outsider.accepts("clerk@example.com")


def test_domain_says_what_its_mailboxes_and_its_catch_all_take(
    outsider: Session, log_in: LogIn, daemon: Daemon
) -> None:
    """Closed but for what was opened: a catch-all is no way in, a new mailbox starts closed (mailcow, ViMbAdmin)."""
    reason = "for the school only"
    recipient = "anything@school.example"
    assert outsider.ask(recipient) == refused("restricted-recipient", recipient, reason)
    assert log_in("bob").ask(recipient, "bob@example.com") == ACCEPTED
    assert outsider.ask("office@school.example") == ACCEPTED
    daemon.command("mailbox", "add", "newcomer", "new@school.example")
    assert outsider.ask("new@school.example") == refused("restricted-recipient", "new@school.example", reason)
    daemon.command("mailbox", "open", "newcomer")
    assert outsider.ask("new@school.example") == ACCEPTED
