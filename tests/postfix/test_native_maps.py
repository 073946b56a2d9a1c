"""Maps instead of policyd: an export installed as it says, and hand-written maps, answer in Postfix as policyd does."""

import itertools
import json
import re
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from policyd.decide import Decider
from policyd.model import Action, Decision, Request, Rule
from policyd.settings import load_settings
from policyd.store.connection import Database
from policyd.store.lookup import Lookup
from tests.support import preloaded
from tests.support.running_daemon import Daemon
from tests.support.waiting import LIMIT_SECONDS

from .authentication import authentication
from .instance import Postfix
from .replies import ACCEPTED
from .smtp import OUTSIDE, Session

pytestmark = pytest.mark.postfix

OFFICE = "10.1.2.3"
# Postfix reads addresses as policyd does, takes mail for everybody, and asks for a login.
MAIN_CF = """
allow_percent_hack = no
swap_bangpath = no
resolve_dequoted_address = no
smtpd_sasl_auth_enable = yes
smtpd_relay_restrictions = check_recipient_access static:OK, reject
"""
# What main.cf had before; every other parameter was empty.
WHAT_WAS_THERE = {
    "smtpd_recipient_restrictions": "permit_mynetworks, permit_sasl_authenticated",
    "parent_domain_matches_subdomains": "debug_peer_list, mynetworks, relay_domains, smtpd_access_maps",
}
DOMAINS_ALONE = "parent_domain_matches_subdomains ="
LEFT_OUT = "retired"  # the reason of an entry that is for the outside: a map has no place for it
COMMANDS = [
    "domain add example.com",
    "domain add lists.example.com --unlisted accept",
    "mailbox add alice alice@example.com a.able@example.com",
    "mailbox add bob bob@example.com",
    "mailbox add carl carl@example.com sales@example.com",
    "mailbox add dora dora@example.com",
    "mailbox add list alice+list@example.com",
    "mailbox add john '\"john doe\"'@example.com",
    "mailbox add pam postmaster@example.com",
    "mailbox add emil emil@example.com",
    "mailbox restrict bob dora",
    "mailbox restrict carl --receive nobody --reason 'geschlossen für immer'",
    "mailbox restrict pam --receive nobody",
    f"sender block alice --reason {LEFT_OUT}",
    "sender block carl --to anyone --reason gone",
    "sender block '\"john doe\"'@example.com --to anyone",
    "sender block @spam.example --to outside",
    "sender block eve@spam.example --to anyone --reason 'Über alles'",
    "sender block joe@ --to anyone --reason joe",
    "sender block joe@mixed.example --to outside",
    "sender block @mixed.example --to outside",
    "sender block @.sub.example --to anyone --reason sub",
    "sender block <> --to outside",
]
# What the second edition has besides, as far as maps can say it.
BESIDES = [
    {"kind": "domain", "name": "closed.example", "receive": "nobody", "reason": "moved"},
    {"kind": "domain", "name": "inner.example", "unlisted": "accept", "receive": "insiders"},
    {"kind": "domain", "name": "second.example", "alias_of": "closed.example"},
    {"kind": "mailbox", "name": "gerd", "addresses": ["gerd@closed.example", "gerd@example.com"]},
    {"kind": "mailbox", "name": "hugo", "addresses": ["hugo@closed.example"], "receive": "anyone"},
    {"kind": "mailbox", "name": "ida", "addresses": ["ida@closed.example", "ida@second.example"]},
    {"kind": "group", "name": "staff", "members": ["group:field"], "receive": "insiders"},
    {"kind": "group", "name": "field", "members": ["ida"]},
    {"kind": "blocked", "sender": "group:staff", "to": "anyone", "reason": "staff"},
    {"kind": "blocked", "sender": "@closed.example", "to": "outside"},
]
BLOCKED_BESIDES = ("gerd", "ida")  # as logins
ENDED = {"kind": "blocked", "sender": "ended@outside.example", "to": "anyone", "until": 4_000_000_000}
REOPENED = {"kind": "mailbox", "name": "emil", "receive": "nobody", "until": 4_000_000_000}
CLIENTS = [(OUTSIDE, ""), (OFFICE, "")] + [
    (OUTSIDE, login)
    for login in ("alice", "Alice@example.com", "carl", "sales@example.com", "bob@example.com", "bob", "gerd", "ida")
]
SENDERS = [
    "",
    "Alice+x@Example.com",
    "a.able@example.com",
    "carl@example.com",
    "sales+a+b@example.com",
    '"john doe"@example.com',
    "eve@spam.example",
    "eve+x@spam.example",
    "x@spam.example",
    "joe@mixed.example",
    "joe+x@outside.example",
    "x@mixed.example",
    "x@sub.example",
    "x@a.sub.example",
    "x@b.a.sub.example",
    "x@asub.example",
    "joe",
    "bob@example.com",
    "ended@outside.example",
    "stranger@outside.example",
    "gerd@example.com",
    "x@second.example",
    "ida@second.example",
]
RECIPIENTS = [
    "ALICE@Example.com",
    "alice+x@example.com",
    "alice+list@example.com",
    "alice+list+x@example.com",
    "bob@example.com",
    "bob+x@example.com",
    "bob@example.com.",
    "carl@example.com",
    "sales+x@example.com",
    "dora",
    '"john doe"@example.com',
    "emil@example.com",
    "nosuch@example.com",
    "anybody@lists.example.com",
    "postmaster@example.com",
    "Postmaster+x@example.com",
    "postmaster@lists.example.com",
    "x@sub.lists.example.com",
    "x@other.example",
    "postmaster@other.example",
    "gerd@second.example",
    "gerd+x@example.com",
    "hugo@second.example",
    "ida@closed.example",
    "nosuch@second.example",
    "anybody@inner.example",
]
OPEN = "alice+list@example.com"

HAND_WRITTEN = {
    "senders": """\
# Senders who bothered us, over the years.
eve@spam.example	REJECT spam, spam, spam
bad.example	554 5.7.1 nothing good
  comes from there
boss@		REJECT not our boss
<>		REJECT no bounces
"two words"@outside.example 550 no
[192.0.2.9]	REJECT
friend@outside.example	OK
""",
    "alone": """\
# Where parent_domain_matches_subdomains is empty.
bad.example	REJECT the domain
.worse.example	REJECT those below
""",
    "recipients": """\
closed@hand.example	REJECT 5.7.1 nobody home
all+x@hand.example	550 one extension
open@hand.example	DUNNO
""",
    "aliases": """\
alias.example	anything
info@alias.example	alice@alias.example
alice@alias.example	alice@alias.example
Sales@alias.example	office
"j d"@alias.example	office
office@alias.example	office
""",
}


@contextmanager
def policyd_in(folder: Path) -> Iterator[Daemon]:
    """policyd, not running, with an empty database."""
    folder.mkdir()
    with Daemon(folder) as policyd:
        policyd.write_settings('insider_networks = ["127.0.0.0/8", "10.0.0.0/8"]', origin="example.com")
        policyd.command("database", "create")
        yield policyd


def run_policyd(policyd: Daemon, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """`policyd` as a process of its own."""
    return preloaded.run(policyd.arguments(*words), text=True)


@contextmanager
def deciding(policyd: Daemon) -> Iterator[Callable[[str, str, str, str], Decision]]:
    """The code of `policyd check`, for many questions: client address, login, sender and recipient in, decision out."""
    settings, lookup = load_settings(policyd.config), Lookup(Database.at(policyd.database))
    decider, now = Decider(settings, lookup), int(time.time())

    def decide(address: str, login: str, sender: str, recipient: str) -> Decision:
        request = Request(
            "RCPT",
            client_address=address,
            sasl_username=login,
            sender=sender.replace('"', ""),  # as Postfix would send it
            recipient=recipient.replace('"', ""),
        )
        try:
            return decider.decide(request, now)
        finally:
            decider.end()

    try:
        yield decide
    finally:
        lookup.close()


def install(text: str, folder: Path) -> list[str]:
    """Do with an export what its comment lines say, *folder* for /etc/postfix; the lines for main.cf."""
    maps = folder / "policyd.maps"
    maps.write_text(text)
    said = [line.removeprefix("#   ") for line in text.splitlines() if line.startswith("#   ")]
    said = [line.replace("/etc/postfix", str(folder)) for line in said]
    commands = [line for line in said if not re.match(r"\w+ = ", line)]
    assert [command.split()[0] for command in commands] == ["mkdir", "awk", "postmap"]
    script = "\n".join(commands).replace("THIS_FILE", str(maps)).replace("postmap", f"postmap -c {folder}")
    done = subprocess.run(["sh", "-ec", script], capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return [complete(line) for line in said if line not in commands]


def complete(line: str) -> str:
    """A parameter with what was there filled in."""
    words = WHAT_WAS_THERE.get(line.partition(" = ")[0], "")
    if match := re.search(r"\(what is there, without (\w+)\)", line):
        return line.replace(match[0], words.replace(match[1], ""))
    return line.replace("(what is there)", words)


@pytest.fixture(scope="module")
def held(folder: Path) -> Iterator[Daemon]:
    """policyd with everything that maps can say."""
    with policyd_in(folder / "held") as policyd:
        for command in COMMANDS:
            policyd.command(*(word.replace("'", "") if "@" in word else word.strip("'") for word in words_of(command)))
        rows = policyd.folder / "ended.jsonl"
        rows.write_text("".join(f"{json.dumps(row)}\n" for row in (*BESIDES, ENDED, REOPENED)))
        policyd.command("import", rows)
        with closing(sqlite3.connect(policyd.database)) as tables, tables:  # no command sets an end that has passed
            for table in ("mailbox", "blocked_sender"):
                tables.execute(f"UPDATE {table} SET until = 1000000000 WHERE until = 4000000000")
        yield policyd


def words_of(command: str) -> list[str]:
    """A command line in words; what is quoted stays together, with its quotes."""
    return re.findall(r"(?:'[^']*'|\S)+", command)


@pytest.fixture(scope="module")
def native(folder: Path, held: Daemon) -> Iterator[Postfix]:
    """A Postfix that knows nothing of policyd: its doors have the export, and the maps in `hand_written`."""
    exported = run_policyd(held, "export", "--format", "postfix")
    assert exported.returncode == 0, exported.stderr
    (folder / "native").mkdir()
    instance = Postfix(folder / "native", ("export", "text", "senders", "alone", "recipients", "aliases"))
    instance.write_main()  # for postmap
    aliases = f"texthash:{instance.config}/aliases"
    domains = f"virtual_alias_domains = {aliases}"  # trivial-rewrite's, so for every door
    instance.write_main(MAIN_CF, domains, *install(exported.stdout, instance.config))
    for name, text in HAND_WRITTEN.items():
        (instance.config / name).write_text(text)
    access = f"smtpd_recipient_restrictions = check_{{}}_access texthash:{instance.config}/{{}}"
    none = "smtpd_sender_restrictions ="
    usual = "parent_domain_matches_subdomains = smtpd_access_maps"
    instance.write_master(
        instance.service("export", "n"),
        instance.service("text", "n", "default_database_type = texthash"),  # reads the very files
        instance.service("senders", "n", none, usual, access.format("sender", "senders")),
        instance.service("alone", "n", none, DOMAINS_ALONE, access.format("sender", "alone")),
        instance.service("recipients", "n", none, usual, access.format("recipient", "recipients")),
        instance.service(
            "aliases",
            "n",
            none,
            "smtpd_recipient_restrictions =",
            f"virtual_alias_maps = {aliases}",
        ),
    )
    with authentication(instance.queue / "private" / "auth"):
        try:
            instance.start()
            yield instance
        finally:
            instance.stop()


@contextmanager
def session_at(postfix: Postfix, door: str, address: str, login: str = "") -> Iterator[Session]:
    """A session of a client with *address* that has logged in as *login*."""
    with Session(postfix.port[door]) as session:
        session.pretend(address, "client.example.net", login)
        yield session


def is_alike(reply: str, decision: Decision) -> bool:
    """Whether Postfix's *reply* is *decision*, the status code and the entry's own reason included."""
    if decision.action is Action.DUNNO:
        return reply == ACCEPTED
    reason = decision.text.partition(": ")[2] if decision.reason != LEFT_OUT else ""
    return reply.startswith(f"554 {decision.text[:5]} <") and "rejected: " in reply and reason in reply


@pytest.mark.parametrize(
    ("door", "share"), [("export", 4), *(pytest.param(door, 1, marks=pytest.mark.full) for door in ("export", "text"))]
)
def test_exported_maps_answer_as_policyd(native: Postfix, held: Daemon, door: str, share: int) -> None:
    """Nobody is locked in: with the maps in place of policyd, nobody gets in or out who did not before."""
    different, refused, asked = [], set(), 0
    with deciding(held) as decide:
        for number, (address, login) in enumerate(CLIENTS):
            pairs = itertools.product(SENDERS, RECIPIENTS)
            with session_at(native, door, address, login) as session:
                for sender, recipient in itertools.islice(pairs, number % share, None, share):
                    decision = decide(address, login, sender, recipient)
                    if decision.rule is Rule.ALWAYS_ACCEPTED and decide(address, login, sender, OPEN).is_refused:
                        continue  # as the export says, who is blocked to anyone does not reach the postmaster
                    asked += 1
                    reply = session.ask(recipient, sender)
                    refused.add(decision.rule if decision.is_refused else None)
                    # As the export says, of several entries another one may give the text: here the login's.
                    is_refused_alike = (
                        login in BLOCKED_BESIDES and decision.is_refused and reply.startswith("554 5.7.1 ")
                    )
                    if not is_refused_alike and not is_alike(reply, decision):
                        different.append(f"{address} {login} {sender} -> {recipient}: {reply} / {decision.text}")
    assert different == []
    assert asked > 2500 / share
    assert refused == {None, Rule.BLOCKED_SENDER, Rule.UNLISTED_RECIPIENT, Rule.RESTRICTED_RECIPIENT}


def test_export_says_what_it_left_out(held: Daemon) -> None:
    """Who changes over must know what no longer holds; the rest is installed without asking."""
    with policyd_in(held.folder / "left") as policyd:
        for command in (
            "domain add example.com",
            "mailbox add alice alice@example.com",
            "mailbox add empty",
            "mailbox restrict alice --accept @partner.example --reason inside --until +1d",
            "sender block @spam.example --to alice",
            "sender block x@spam.example --except alice@example.com",
            "sender block alice --reason out",
        ):
            policyd.command(*command.split())
        exported = run_policyd(policyd, "export", "--format", "postfix")
    assert exported.returncode == 0
    assert exported.stderr == (
        "policyd: postfix can't carry everything; left out: 1 accepted sender, 1 blocked mailbox,"
        " 1 blocked sender, 3 creation, 1 exception, 1 mailbox, 2 reason, 1 until\n"
    )


def test_exported_maps_come_back(held: Daemon) -> None:
    """An administrator who tried it without policyd returns: the same file is a file to import."""
    maps = held.folder / "back.maps"
    exported = run_policyd(held, "export", "--format", "postfix", "-o", maps)
    assert exported.returncode == 0, exported.stderr
    with policyd_in(held.folder / "back") as policyd:
        imported = run_policyd(policyd, "import", maps)
        assert imported.returncode == 0, imported.stdout + imported.stderr
        with deciding(held) as before, deciding(policyd) as after:
            for sender, recipient in itertools.product(SENDERS, RECIPIENTS):
                for address in (OUTSIDE, OFFICE):
                    asked = (address, "", sender, recipient)
                    is_refused, was_refused = after(*asked).is_refused, before(*asked).is_refused
                    # A mailbox comes back with one restriction for all its addresses: the strictest it had at one.
                    is_closed = is_refused and "gerd" in recipient
                    assert (asked, is_refused or is_closed) == (asked, was_refused or is_closed)


@contextmanager
def moved(native: Postfix, door: str, commands: Iterable[str] = (), *words: str) -> Iterator[Daemon]:
    """policyd after *commands* and the import of the map that is in use at *door*."""
    with policyd_in(native.folder / door) as policyd:
        for command in commands:
            policyd.command(*command.split())
        imported = run_policyd(policyd, "import", native.config / door, *words)
        assert imported.returncode == 0, imported.stdout + imported.stderr
        yield policyd


@pytest.mark.parametrize(
    ("door", "senders", "count"),
    [
        pytest.param(
            "senders",
            "eve@spam.example Eve+x@Spam.Example x@spam.example x@bad.example x@a.b.bad.example x@notbad.example"
            " boss@anywhere.example boss+x@anywhere.example bosses@anywhere.example '' two_words@outside.example"
            " words@outside.example x@[192.0.2.9] x@[192.0.2.8] friend@outside.example",
            9,
            id="the usual",
        ),
        pytest.param(
            "alone",
            "x@bad.example x@a.bad.example x@worse.example x@a.worse.example x@b.a.worse.example",
            3,
            id="domains stand alone",
        ),
    ],
)
def test_hand_written_sender_maps_move_over(native: Postfix, door: str, senders: str, count: int) -> None:
    """Who was refused by check_sender_access so far is refused by policyd, with the same words, and nobody else."""
    refused = 0
    with (
        moved(native, door) as policyd,
        deciding(policyd) as decide,
        session_at(native, door, OUTSIDE) as session,
    ):
        for word in senders.split():
            sender = {"''": "", "two_words@outside.example": '"two words"@outside.example'}.get(word, word)
            decision = decide(OUTSIDE, "", sender, "x@other.example")
            assert (sender, *answer(session.ask("x@other.example", sender), decision.reason)) == (
                sender,
                decision.is_refused,
                True,
            )
            refused += decision.is_refused
    assert refused == count


def answer(reply: str, reason: str) -> tuple[bool, bool]:
    """Whether Postfix refuses for good, and whether it gives *reason*."""
    assert reply == ACCEPTED or reply.startswith("55")
    return reply != ACCEPTED, reason in " ".join(reply.split())


@pytest.mark.parametrize(
    ("door", "commands", "words", "recipients", "count"),
    [
        pytest.param(
            "recipients",
            ["domain add hand.example --unlisted accept"],
            ["--into", "mailboxes"],
            "closed@hand.example Closed+x@hand.example open@hand.example all@hand.example all+x@hand.example"
            " all+x+y@hand.example nosuch@hand.example x@other.example",
            3,
            id="check_recipient_access",
        ),
        pytest.param(
            "aliases",
            [],
            [],
            "info@alias.example INFO+x@alias.example alice@alias.example sales@Alias.example j_d@alias.example"
            " d@alias.example nosuch@alias.example",
            2,
            id="virtual",
        ),
    ],
)
def test_hand_written_recipient_maps_move_over(
    native: Postfix, door: str, commands: list[str], words: list[str], recipients: str, count: int
) -> None:
    """Mailboxes that were closed stay closed, aliases stay known, and what was unknown stays so."""
    refused = 0
    with (
        moved(native, door, commands, *words) as policyd,
        deciding(policyd) as decide,
        session_at(native, door, OUTSIDE) as session,
    ):
        for word in recipients.split():
            recipient = word.replace("j_d@", '"j d"@')
            decision = decide(OUTSIDE, "", "x@outside.example", recipient)
            reply = session.ask(recipient, "x@outside.example")
            assert (recipient, *answer(reply, decision.reason)) == (recipient, decision.is_refused, True)
            refused += decision.is_refused
    assert refused == count
